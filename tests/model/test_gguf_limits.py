"""The gate's promises in numbers: seeded mutations, time, memory; and the gguf package's word."""

import random
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

import gguf as theirs
import numpy as np
import pytest

from modelpm.errors import ModelError
from modelpm.model import gguf
from modelpm.model.ggml import TENSOR_TYPES, file_type_name
from modelpm.model.gguf import Header
from tests.model import ggufs

MUTATIONS = 10_000
SEED = 20_261_123
TIME = 0.060
MEMORY = 64 * 2**20

PEAK = """
def peak():
    # What the kernel counts from exec on; getrusage would count the parent's memory too.
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
"""
MEASURE = f"""
import pathlib, resource, sys, time
from modelpm.errors import ModelError
from modelpm.model.gguf import Header
{PEAK}
best = 9.0
passed = False
for _ in range(5):
    start = time.perf_counter()
    try:
        Header.read(pathlib.Path(sys.argv[1]))
        passed = True
    except ModelError:
        pass
    best = min(best, time.perf_counter() - start)
print(passed, best, peak())
"""


def mutated(content: bytes, header: int, rng: random.Random) -> bytes:
    """One of: flipped bits, another length, a splice, a cut, a repeat, a count blown up."""
    result = bytearray(content)
    at = rng.randrange(header)
    match rng.randrange(6):
        case 0:
            for _ in range(rng.randint(1, 8)):
                result[rng.randrange(header)] ^= 1 << rng.randrange(8)
        case 1:
            numbers = (0, 1, 255, 2**16, 2**31, 2**32 - 1, 2**63, 2**64 - 1, rng.getrandbits(64))
            result[at : at + 8] = struct.pack("<Q", rng.choice(numbers))
        case 2:
            start, length = rng.randrange(header), rng.randrange(64)
            result[at : at + length] = content[start : start + rng.randrange(64)]
        case 3:
            del result[rng.randrange(len(result)) :]
        case 4:
            result[at:at] = content[at : at + rng.randrange(1, 400)]
        case _:
            count = struct.pack("<Q", rng.choice((0, 7, 19, 21, 65_536, 65_537, 2**40, 2**64 - 1)))
            place = rng.choice((8, 16))
            result[place : place + 8] = count
    return bytes(result)


def overwrite(path: Path, content: bytes) -> None:
    """Without a cut to nothing first, which some file systems answer with a write to the disk."""
    with path.open("r+b") as stream:
        stream.write(content)
        stream.truncate()


def test_mutations_pass_or_are_refused_by_name(tmp_path: Path) -> None:
    content = ggufs.llama().encode()
    path = tmp_path / "mutant.gguf"
    path.write_bytes(content)
    header = Header.read(path).data_offset
    rng = random.Random(SEED)
    passed = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slowest = 0.0
    longest = 0
    for _ in range(MUTATIONS):
        overwrite(path, mutated(content, header, rng))
        start = time.perf_counter()
        try:
            found = Header.read(path)
            gguf.tokens(path, found)
            gguf.special_tokens(path, found)
            assert found.parameter_size
            assert found.quantization is not None
            passed += 1
        except ModelError as error:
            longest = max(longest, len(str(error)))
        slowest = max(slowest, time.perf_counter() - start)
    assert 0 < passed < MUTATIONS
    assert slowest < 1.0
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < MEMORY
    assert 0 < longest < 2_000


@pytest.mark.parametrize("shape", ["keys", "tensors", "arrays"])
def test_memory_is_bounded_for_a_header_that_is_as_large_as_may_be(
    tmp_path: Path, shape: str
) -> None:
    path = tmp_path / "large.gguf"
    path.write_bytes(_large(shape))
    passed, _, peak = _measured(path)
    assert passed is (shape != "arrays")
    assert peak < MEMORY


def _large(shape: str) -> bytes:
    base = {"general.architecture": ggufs.value(ggufs.STRING, "new")}
    if shape == "keys":
        pairs = {f"key.{i:040}": ggufs.value(ggufs.UINT64, 2**60 + i) for i in range(65_000)}
        return ggufs.Gguf(pairs={**base, **pairs}, tensors=()).encode()
    if shape == "tensors":
        tensors = tuple(ggufs.Tensor(f"{i:050}", (8, 1, 1, 1)) for i in range(65_536))
        return ggufs.Gguf(pairs=base, tensors=tensors).encode()
    short = ggufs.array(ggufs.FLOAT32, [0.1] * 1024)
    return ggufs.Gguf(pairs={**base, **{f"k{i}": short for i in range(5_000)}}, tensors=()).encode()


def test_a_vocabulary_of_150k_tokens_is_read_within_its_budget(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(ggufs.large())
    passed, seconds, peak = _measured(path)
    assert passed
    assert seconds < 3 * TIME  # an idle machine keeps TIME; the test leaves room for a busy one
    assert peak < MEMORY
    header = Header.read(path)
    assert len(gguf.tokens(path, header)) == 150_000


def _measured(path: Path) -> tuple[bool, float, int]:
    """Whether a fresh process passes the file, the best of its times, and its peak memory."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    passed, seconds, peak = done.stdout.split()
    return passed == "True", float(seconds), int(peak)


def test_the_tables_agree_with_the_gguf_package() -> None:
    sizes = {int(kind): (kind.name, *size) for kind, size in theirs.GGML_QUANT_SIZES.items()}
    ours = {number: (t.name, t.block, t.size) for number, t in TENSOR_TYPES.items()}
    assert {number: ours.get(number) for number in sizes} == sizes
    for kind in theirs.LlamaFileType:
        if kind.name != "GUESSED":
            name = kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
            assert file_type_name(int(kind)) == name


def test_what_the_gguf_package_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "theirs.gguf"
    writer = theirs.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_head_count(4)
    writer.add_file_type(1)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([b"<s>", b"</s>", "é".encode()])
    writer.add_token_scores([0.0, 0.0, -1.0])
    writer.add_token_types([3, 3, 1])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_tensor("token_embd.weight", np.ones((3, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = Header.read(path)
    assert (header.parameter_count, header.quantization) == (96, "F16")
    assert gguf.tokens(path, header) == [b"<s>", b"</s>", "é".encode()]
    assert [token.id for token in gguf.special_tokens(path, header)] == [0, 1]


def test_what_our_test_writer_writes_the_gguf_package_reads(tmp_path: Path) -> None:
    path = tmp_path / "ours.gguf"
    path.write_bytes(ggufs.llama().encode())
    reader = theirs.GGUFReader(path)
    header = Header.read(path)
    assert [tensor.name for tensor in reader.tensors] == [tensor.name for tensor in header.tensors]
    offsets = [header.data_offset + tensor.offset for tensor in header.tensors]
    assert [int(tensor.data_offset) for tensor in reader.tensors] == offsets
