"""The GGUF gate: what it tells of good files, and the sentence with which it refuses a bad one."""

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from modelpm.errors import ModelError
from modelpm.model import gguf, gguf_layout
from modelpm.model.gguf import Header, Token, TokenKind
from modelpm.model.gguf_layout import Array
from tests.model import ggufs
from tests.model.ggufs import (
    ARRAY,
    BOOL,
    FLOAT32,
    FLOAT64,
    INT32,
    STRING,
    UINT8,
    UINT32,
    UINT64,
    Gguf,
    Tensor,
    array,
    llama,
    value,
)


def write(folder: Path, content: bytes) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(content)
    return path


def read(folder: Path, file: Gguf | bytes) -> Header:
    return Header.read(write(folder, file if isinstance(file, bytes) else file.encode()))


def refusal(folder: Path, file: Gguf | bytes) -> str:
    with pytest.raises(ModelError) as caught:
        read(folder, file)
    return str(caught.value)


def test_a_llama_tells_what_it_is(tmp_path: Path) -> None:
    header = read(tmp_path, llama())
    assert header.version == 3
    assert header.architecture == "llama"
    assert header.kind == "model"
    assert header.name == "tiny"
    assert header.quantization == "Q8_0"
    assert header.parameter_count == 8 * 32 + 32 + 2 * 32 * 32
    assert header.parameter_size == "2.3K"
    assert header.context_length == 256
    assert header.embedding_length == 32
    assert header.block_count == 2
    assert header.vocabulary == "llama"
    assert header.vocabulary_size == 8
    assert header.chat_template is not None
    assert header.bos == 1
    assert header.eos == 2
    assert header.stop_tokens == {2, 4}
    assert header.adds_bos
    assert header.adds_space_prefix
    assert header.metadata["llama.rope.freq_base"] == 10000.0
    assert header.size == (tmp_path / "model.gguf").stat().st_size
    assert header.data_offset % 32 == 0


def test_the_vocabulary_is_read_as_stored(tmp_path: Path) -> None:
    words = ("<unk>", "<s>", "</s>", b"\xff\xfe", "▁a", "")
    changes = {
        **ggufs.vocabulary(words),
        "tokenizer.ggml.token_type": array(INT32, [2, 3, 3, 6, 1, 4]),
    }
    path = write(tmp_path, replace(llama(changes), tensors=ggufs.rows(6, 32, 1)).encode())
    header = Header.read(path)
    assert gguf.tokens(path, header) == [b"<unk>", b"<s>", b"</s>", b"\xff\xfe", "▁a".encode(), b""]
    assert gguf.special_tokens(path, header) == (
        Token(1, b"<s>", TokenKind.CONTROL),
        Token(2, b"</s>", TokenKind.CONTROL),
        Token(5, b"", TokenKind.USER_DEFINED),
    )


def test_a_file_without_vocabulary_has_no_tokens(tmp_path: Path) -> None:
    keep = {key: raw for key, raw in ggufs.LLAMA.items() if not key.startswith("tokenizer.ggml")}
    path = write(tmp_path, Gguf(pairs=keep).encode())
    header = Header.read(path)
    assert header.vocabulary_size == 0
    assert header.vocabulary is None
    assert header.bos is None
    assert header.stop_tokens == frozenset()
    assert not header.adds_bos
    assert gguf.tokens(path, header) == []
    assert gguf.special_tokens(path, header) == ()


def test_ids_outside_the_vocabulary_are_no_ids(tmp_path: Path) -> None:
    header = read(tmp_path, llama({"tokenizer.ggml.eot_token_id": value(UINT32, 2**32 - 1)}))
    assert header.stop_tokens == {2}


def test_values_of_every_type_come_back(tmp_path: Path) -> None:
    mine = {
        "a.u8": value(0, 255),
        "a.i8": value(1, -1),
        "a.u16": value(2, 65535),
        "a.i16": value(3, -2),
        "a.u32": value(UINT32, 2**32 - 1),
        "a.i32": value(INT32, -3),
        "a.f32": value(FLOAT32, 0.5),
        "a.bool": value(BOOL, True),
        "a.text": value(STRING, "hé"),
        "a.u64": value(UINT64, 2**64 - 1),
        "a.i64": value(11, -4),
        "a.f64": value(FLOAT64, 0.25),
        "a.words": array(STRING, ["x", "y"]),
        "a.flags": array(BOOL, [True, False]),
        "a.none": array(UINT32, []),
        "a.floats": array(FLOAT32, [1.5, math.inf]),
        "a.many": array(UINT8, [7] * 1025),
        "a.long": value(STRING, b"x" * (2**20 + 1)),
    }
    header = read(tmp_path, llama(mine))
    told = header.metadata
    assert [told[key] for key in list(mine)[:12]] == [
        *(255, -1, 65535, -2, 2**32 - 1, -3, 0.5, True, "hé", 2**64 - 1, -4, 0.25)
    ]
    assert told["a.words"] == ("x", "y")
    assert told["a.flags"] == (True, False)
    assert told["a.none"] == ()
    assert told["a.floats"] == (1.5, math.inf)
    many, long = told["a.many"], told["a.long"]
    assert isinstance(many, Array)
    assert (many.element_type, many.count) == (UINT8, 1025)
    assert isinstance(long, Array)
    assert list(gguf.strings(tmp_path / "model.gguf", long)) == [b"x" * (2**20 + 1)]


OTHERS: Mapping[str, Gguf] = {
    "an adapter": Gguf(
        pairs={
            "general.architecture": value(STRING, "llama"),
            "general.type": value(STRING, "adapter"),
            "adapter.type": value(STRING, "lora"),
            "adapter.lora.alpha": value(FLOAT32, 16.0),
        },
        tensors=(Tensor("blk.0.attn_q.weight.lora_a", (32, 8)),),
    ),
    "a projector": Gguf(
        pairs={
            "general.architecture": value(STRING, "clip"),
            "general.type": value(STRING, "mmproj"),
            "clip.vision.image_mean": array(FLOAT32, [0.5, 0.5, 0.5]),
            "clip.has_vision_encoder": value(BOOL, True),
        },
        tensors=(Tensor("v.patch_embd.weight", (14, 14, 3, 8)),),
    ),
    "an old projector": Gguf(
        pairs={
            "general.architecture": value(STRING, "clip"),
            "clip.vision.block_count": value(UINT32, 2),
        },
        tensors=(Tensor("mm.0.weight", (32, 32), 1),),
    ),
    "a new architecture": Gguf(
        pairs={
            "general.architecture": value(STRING, "hyena9"),
            "hyena9.block_count": value(UINT32, 4),
            "hyena9.attention.head_count": value(UINT32, 0),
        }
    ),
    "a second shard": Gguf(
        pairs={
            "split.no": value(2, 1),
            "split.count": value(2, 2),
            "split.tensors.count": value(INT32, 9),
        }
    ),
    "heads a layer": llama({"llama.attention.head_count": array(UINT32, [4, 8])}),
    "odd heads with a key length": llama(
        {
            "llama.attention.head_count": value(UINT32, 5),
            "llama.attention.key_length": value(UINT32, 8),
        }
    ),
    "a vocabulary alone": replace(llama(), tensors=()),
    "no scores": llama({"tokenizer.ggml.scores": None}),
    "version 2": replace(llama(), version=2),
    "alignment 64": replace(llama({"general.alignment": value(UINT32, 64)}), alignment=64),
    "no tokenizer": llama(
        {"tokenizer.ggml.model": value(STRING, "no_vocab"), "tokenizer.ggml.tokens": None}
        | dict.fromkeys(("tokenizer.ggml.scores", "tokenizer.ggml.token_type"))
    ),
    "the largest vocabulary key": llama({"llama.vocab_size": value(UINT32, 8)}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_valid_file_passes(tmp_path: Path, name: str) -> None:
    header = read(tmp_path, OTHERS[name])
    assert header.version in (2, 3)


REFUSED: Mapping[str, tuple[Gguf | bytes, str]] = {
    "empty": (b"", "it is empty"),
    "only the magic": (b"GGUF", "it is cut"),
    "cut head": (llama().encode()[:20], "it is cut"),
    "cut in the keys": (llama().encode()[:500], "it is cut"),
    "cut in the data": (replace(llama(), cut=1), "it is cut: pull it again"),
    "cut to half": (llama().encode()[: len(llama().encode()) // 2], "it is cut"),
    "garbage": (b"GGUF\x03\0\0\0" + b"\xff" * 200, "the limit is 65536"),
    "version 1": (replace(llama(), version=1), "version 1, which no engine reads"),
    "version 4": (replace(llama(), version=4), "GGUF version 4; modelpm reads 2 and 3"),
    "big-endian": (replace(llama(), version=3 << 24), "big-endian GGUF"),
    "65,537 keys": (replace(llama(), pair_count=65_537), "65537 keys; the limit"),
    "2^40 keys": (replace(llama(), pair_count=2**40), "keys; the limit"),
    "2^63 tensors": (replace(llama(), tensor_count=2**63), "tensors; the limit"),
    "keys that cannot fit": (replace(Gguf(tensors=()), pair_count=60_000), "do not fit"),
    "tensors that cannot fit": (replace(Gguf(), tensor_count=60_000), "do not fit"),
    "a string past the end": (
        llama({"x": struct.pack("<IQ", STRING, 2**23)}),
        "ends after the file",
    ),
    "a string of 2^63": (llama({"x": struct.pack("<IQ", STRING, 2**63)}), "the limit is 16777216"),
    "a token past the end": (
        llama({"tokenizer.ggml.tokens": array(STRING, [], 1) + struct.pack("<Q", 2**23)}),
        "it is cut",
    ),
    "a token of 2^64": (
        llama({"tokenizer.ggml.tokens": array(STRING, [], 2) + struct.pack("<Q", 2**64 - 1)}),
        "the limit is 16777216",
    ),
    "a name of 65,536": (llama({"x" * 65_536: value(BOOL, True)}), "the limit is 65535"),
    "a name that is no text": (
        replace(llama(), extra=ggufs.string(b"\xff") + value(BOOL, True), pair_count=20),
        "is not UTF-8",
    ),
    "a key twice": (
        replace(llama(), extra=ggufs.string("general.name") + value(BOOL, True), pair_count=20),
        "'general.name' stands there twice",
    ),
    "type 13": (llama({"x": struct.pack("<I", 13)}), "'x' has the unknown type 13"),
    "an array of arrays": (llama({"x": struct.pack("<IIQ", ARRAY, ARRAY, 1)}), "array of arrays"),
    "an array of type 99": (llama({"x": struct.pack("<IIQ", ARRAY, 99, 1)}), "unknown type 99"),
    "an array of 2^62": (llama({"x": array(UINT32, [], 2**62)}), "more than fit"),
    "an array past the end": (llama({"x": array(UINT64, [], 10**6)}), "more than fit"),
    "a boolean of 2": (llama({"x": struct.pack("<IB", BOOL, 2)}), "boolean of 2"),
    "alignment 0": (llama({"general.alignment": value(UINT32, 0)}), "general.alignment is 0"),
    "alignment 3": (llama({"general.alignment": value(UINT32, 3)}), "general.alignment is 3"),
    "alignment 4": (llama({"general.alignment": value(UINT32, 4)}), "general.alignment is 4"),
    "alignment 2^31": (llama({"general.alignment": value(UINT32, 2**31)}), "power of two"),
    "alignment of u64": (llama({"general.alignment": value(UINT64, 32)}), "instead of uint32"),
    "a tensor twice": (
        replace(llama(), tensors=(Tensor("a"), Tensor("a"))),
        "the tensor 'a' stands there twice",
    ),
    "no dimensions": (replace(llama(), tensors=(Tensor("a", ()),)), "0 dimensions"),
    "5 dimensions": (replace(llama(), tensors=(Tensor("a", (1,) * 5),)), "5 dimensions"),
    "dimension 0": (replace(llama(), tensors=(Tensor("a", (32, 0)),)), "outside 1..2^31"),
    "dimension 2^31+1": (replace(llama(), tensors=(Tensor("a", (2**31 + 1,)),)), "outside 1..2^31"),
    "2^40 elements": (replace(llama(), tensors=(Tensor("a", (2**31, 2**9)),)), "2^40 elements"),
    "2^124 elements": (replace(llama(), tensors=(Tensor("a", (2**31,) * 4),)), "2^40 elements"),
    "type 77": (replace(llama(), tensors=(Tensor("a", (32,), 77),)), "tensor type 77 is unknown"),
    "withdrawn type 4": (
        replace(llama(), tensors=(Tensor("a", (32,), 4),)),
        "tensor type 4 is unknown",
    ),
    "rows of half a block": (replace(llama(), tensors=(Tensor("a", (48,), 2),)), "blocks of 32"),
    "unaligned": (replace(llama(), tensors=(Tensor("a", (32,), 0, 8),)), "not aligned to 32"),
    "overlapping": (
        replace(llama(), tensors=(Tensor("a", (64,), 0, 0), Tensor("b", (64,), 0, 128))),
        "'b' overlaps another",
    ),
    "far outside": (
        replace(llama(), tensors=(Tensor("a", (64,), 0, 2**63),)),
        "after the file",
    ),
    "no architecture": (llama({"general.architecture": None}), "general.architecture is missing"),
    "architecture 7": (
        llama({"general.architecture": value(UINT32, 7)}),
        "general.architecture is not a string",
    ),
    "block_count 2^32-1": (llama({"llama.block_count": value(UINT32, 2**32 - 1)}), "in 1..1024"),
    "block_count 0": (llama({"llama.block_count": value(UINT32, 0)}), "in 1..1024"),
    "no block_count": (llama({"llama.block_count": None}), "llama.block_count is missing"),
    "block_count 'x'": (llama({"llama.block_count": value(STRING, "x")}), "not a whole number"),
    "head_count 0": (llama({"llama.attention.head_count": value(UINT32, 0)}), "head_count is 0"),
    "head_count 5": (llama({"llama.attention.head_count": value(UINT32, 5)}), "do not divide"),
    "no head_count": (llama({"llama.attention.head_count": None}), "head_count is missing"),
    "context 2^31": (llama({"llama.context_length": value(UINT64, 2**31)}), "in 1..16777216"),
    "context 0": (llama({"llama.context_length": value(UINT32, 0)}), "in 1..16777216"),
    "a negative context": (llama({"llama.context_length": value(INT32, -1)}), "in 1..16777216"),
    "rope NaN": (llama({"llama.rope.freq_base": value(FLOAT32, math.nan)}), "freq_base is nan"),
    "rope infinite": (llama({"llama.rope.freq_base": value(FLOAT32, math.inf)}), "is inf"),
    "epsilon NaN": (
        llama({"llama.attention.layer_norm_rms_epsilon": value(FLOAT32, math.nan)}),
        "epsilon is nan",
    ),
    "bos outside": (llama({"tokenizer.ggml.bos_token_id": value(UINT32, 8)}), "bos_token_id is 8"),
    "eos outside": (
        llama({"tokenizer.ggml.eos_token_id": value(INT32, -1)}),
        "eos_token_id is -1 in a vocabulary of 8 tokens",
    ),
    "eos 'x'": (llama({"tokenizer.ggml.eos_token_id": value(STRING, "x")}), "not a whole number"),
    "tokens of numbers": (
        llama({"tokenizer.ggml.tokens": array(UINT32, [1] * 8)}),
        "not an array of the right type",
    ),
    "tokens is a number": (llama({"tokenizer.ggml.tokens": value(UINT32, 1)}), "right type"),
    "no tokens": (llama({"tokenizer.ggml.tokens": None}), "tokenizer.ggml.tokens is missing"),
    "too few scores": (
        llama({"tokenizer.ggml.scores": array(FLOAT32, [0.0] * 7)}),
        "scores has 7 items for 8 tokens",
    ),
    "too few types": (
        llama({"tokenizer.ggml.token_type": array(INT32, [1])}),
        "token_type has 1 items for 8 tokens",
    ),
    "vocab_size": (llama({"llama.vocab_size": value(UINT32, 9)}), "vocab_size is 9 for 8 tokens"),
    "a small embedding": (
        replace(llama(), tensors=ggufs.rows(7, 32, 2)),
        "8 tokens, but the embedding has the shape (32, 7)",
    ),
    "4 MiB of keys": (
        llama({f"{i:<60000}": value(BOOL, True) for i in range(80)}),
        "more than 4194304 bytes of metadata",
    ),
    "ggml": (b"lmgg" + bytes(100), "GGML file of before GGUF"),
    "ggmf": (b"fmgg" + bytes(100), "GGMF file of before GGUF"),
    "ggjt": (b"tjgg" + bytes(100), "GGJT file of before GGUF"),
    "ggla": (b"algg" + bytes(100), "GGLA adapter"),
    "magic reversed": (b"FUGG" + bytes(100), "big-endian"),
    "zip": (b"PK\x03\x04" + bytes(100), "zip archive, perhaps a PyTorch checkpoint"),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), "compressed with gzip"),
    "html": (b"\n <!DOCTYPE html><html>", "web page"),
    "safetensors": (struct.pack("<Q", 123) + b'{"a":{}}', "safetensors"),
    "tar": (b"model.gguf".ljust(257, b"\0") + b"ustar\x0000", "tar archive"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "json": (b'{"error": "no"}', "JSON"),
    "zeros": (bytes(1000), "begins with zeros"),
    "text": (b"hello" * 100, "it begins with b'hell'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    file, sentence = REFUSED[name]
    said = refusal(tmp_path, file)
    assert sentence in said
    assert "model.gguf" in said


def test_limits_are_reached_before_they_are_passed(tmp_path: Path) -> None:
    many = {f"k{i}": value(BOOL, True) for i in range(65_536 - len(ggufs.LLAMA))}
    assert len(read(tmp_path, llama(many)).metadata) == 65_536
    name = "n" * 65_535
    assert name in read(tmp_path, llama({name: value(BOOL, True)})).metadata


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        Header.read(tmp_path / "none")
    with pytest.raises(ModelError, match="not a regular file"):
        Header.read(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ModelError, match="not a regular file"):
        Header.read(tmp_path / "fifo")


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, llama().encode())
    with path.open("rb") as stream:
        window = gguf_layout.Window(stream, 2**30)
        with pytest.raises(ModelError, match="became shorter"):
            window.take(2**20)


def test_strings_are_read_from_arrays_of_strings_only(tmp_path: Path) -> None:
    path = write(tmp_path, llama().encode())
    with pytest.raises(ModelError, match="holds no strings"):
        list(gguf.strings(path, Array(UINT32, 1, 0)))
    with pytest.raises(ModelError, match="at most 2097152 are read"):
        list(gguf.strings(path, Array(STRING, 2**21 + 1, 0)))


def test_the_bytes_of_strings_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        for index in range(5):
            stream.seek(index * (2**24 + 8))
            stream.write(struct.pack("<Q", 2**24))
        stream.truncate(5 * (2**24 + 8))
    with pytest.raises(ModelError, match="more than 67108864 bytes"):
        for _ in gguf.strings(path, Array(STRING, 5, 0)):
            pass


@pytest.mark.parametrize(
    ("number", "tensors", "name"),
    [
        (value(UINT32, 15), ggufs.rows(8, 32, 1), "Q4_K_M"),
        (value(UINT32, 15 + 1024), ggufs.rows(8, 32, 1), "Q4_K_M"),
        (value(UINT32, 999), (Tensor("a", (32, 99), 8), Tensor("b", (32,), 0)), "Q8_0"),
        (None, (Tensor("a", (64, 9), 40), Tensor("b", (32,), 0)), "NVFP4"),
        (None, (), ""),
    ],
)
def test_the_quantisation_is_what_the_file_says_or_mostly_is(
    tmp_path: Path, number: bytes | None, tensors: tuple[Tensor, ...], name: str
) -> None:
    pairs = {"general.architecture": value(STRING, "new"), "general.file_type": number}
    kept = {key: raw for key, raw in pairs.items() if raw is not None}
    assert read(tmp_path, Gguf(pairs=kept, tensors=tensors)).quantization == name


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1K"),
        (760_000, "760K"),
        (134_515_008, "134.5M"),
        (7_000_000_000, "7B"),
        (6_738_415_616, "6.7B"),
    ],
)
def test_parameter_counts_for_people(count: int, text: str) -> None:
    assert gguf.humanised(count) == text
