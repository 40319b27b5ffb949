"""The GGUF layout, and a llama so small that it can be committed: the same bytes on every machine.

Source: ggml's docs/gguf.md, version 3. The weights are noise: the model loads, and speaks none.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

ALIGNMENT = 32
BLOCK = 32
"""Numbers in one block of Q8_0."""

F32, Q8_0 = 0, 8
UINT32, FLOAT32, STRING, ARRAY, UINT64 = 4, 6, 8, 9, 10
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
_FORMATS = {UINT32: "I", 5: "i", FLOAT32: "f", UINT64: "Q"}

Order = Literal["<", ">"]
Value = tuple[int, object]
"""A type of value, and the value; for an array the types of the array and of its items."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named block of numbers; `shape` has the fastest dimension first."""

    name: str
    shape: tuple[int, ...]
    kind: int
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Array:
    """Items of one type of value."""

    kind: int
    items: Sequence[object]


def encode(
    metadata: Mapping[str, Value],
    tensors: Sequence[Tensor],
    *,
    version: int = 3,
    order: Order = "<",
) -> bytes:
    """The bytes of a GGUF file."""
    head = [b"GGUF", struct.pack(f"{order}IQQ", version, len(tensors), len(metadata))]
    head += [_text(key, order) + _value(*value, order) for key, value in metadata.items()]
    offset = 0
    for tensor in tensors:
        head.append(_text(tensor.name, order))
        head.append(struct.pack(f"{order}I", len(tensor.shape)))
        head.append(struct.pack(f"{order}{len(tensor.shape)}Q", *tensor.shape))
        head.append(struct.pack(f"{order}IQ", tensor.kind, offset))
        offset += len(_padded(tensor.content))
    return _padded(b"".join(head)) + b"".join(_padded(tensor.content) for tensor in tensors)


def tiny_llama(
    *, vocabulary: Literal["llama", "gpt2"] = "llama", tied: bool = False, name: str = "tiny"
) -> bytes:
    """A llama with 2 blocks of width 32 in Q8_0 and a context of 128 tokens, about 45 KB.

    `vocabulary` "llama" is SentencePiece with byte tokens, "gpt2" is BPE. `tied` leaves out the
    output matrix.
    """
    tokens = _sentencepiece() if vocabulary == "llama" else _bpe()
    metadata = _architecture(name) | _tokenizer(vocabulary, tokens)
    width, inner, words = 32, 64, len(tokens)
    shapes = {"token_embd": (width, words)} | ({} if tied else {"output": (width, words)})
    norms = ["output_norm"]
    for block in (f"blk.{number}" for number in range(2)):
        norms += [f"{block}.attn_norm", f"{block}.ffn_norm"]
        shapes |= {f"{block}.attn_{part}": (width, width) for part in ("q", "k", "v", "output")}
        shapes |= {f"{block}.ffn_{part}": (width, inner) for part in ("gate", "up")}
        shapes |= {f"{block}.ffn_down": (inner, width)}
    ones = struct.pack(f"<{width}f", *[1.0] * width)
    tensors = [Tensor(f"{name}.weight", (width,), F32, ones) for name in norms]
    tensors += [
        Tensor(f"{name}.weight", shape, Q8_0, _noise(name, *shape))
        for name, shape in shapes.items()
    ]
    return encode(metadata, tensors)


def _architecture(name: str) -> dict[str, Value]:
    return {
        "general.architecture": (STRING, "llama"),
        "general.name": (STRING, name),
        "general.file_type": (UINT32, 7),
        "general.quantization_version": (UINT32, 2),
        "llama.context_length": (UINT32, 128),
        "llama.embedding_length": (UINT32, 32),
        "llama.block_count": (UINT32, 2),
        "llama.feed_forward_length": (UINT32, 64),
        "llama.rope.dimension_count": (UINT32, 16),
        "llama.attention.head_count": (UINT32, 2),
        "llama.attention.head_count_kv": (UINT32, 2),
        "llama.attention.layer_norm_rms_epsilon": (FLOAT32, 1e-5),
    }


def _tokenizer(model: str, tokens: Sequence[tuple[str, int]]) -> dict[str, Value]:
    words = [token for token, _ in tokens]
    scores = [-float(rank) if kind == NORMAL else 0.0 for rank, (_, kind) in enumerate(tokens)]
    values: dict[str, Value] = {
        "tokenizer.ggml.model": (STRING, model),
        "tokenizer.ggml.tokens": (ARRAY, Array(STRING, words)),
        "tokenizer.ggml.scores": (ARRAY, Array(FLOAT32, scores)),
        "tokenizer.ggml.token_type": (ARRAY, Array(5, [kind for _, kind in tokens])),
        "tokenizer.ggml.bos_token_id": (UINT32, words.index("<s>")),
        "tokenizer.ggml.eos_token_id": (UINT32, words.index("</s>")),
    }
    if model == "gpt2":
        values["tokenizer.ggml.merges"] = (ARRAY, Array(STRING, ["h e", "he l"]))
    return values


def _sentencepiece() -> list[tuple[str, int]]:
    special = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
    pieces = [*"▁abcdefghijklmnopqrstuvwxyz.,!?", "he", "ll", "hell", "hello", "▁hello"]
    return [
        *special,
        *((f"<0x{byte:02X}>", BYTE) for byte in range(256)),
        *((piece, NORMAL) for piece in pieces),
    ]


def _bpe() -> list[tuple[str, int]]:
    words = [*"abcdefghijklmnopqrstuvwxyz.,!?Ġ", "he", "hel"]
    return [("<s>", CONTROL), ("</s>", CONTROL), *((word, NORMAL) for word in words)]


def _noise(seed: str, columns: int, rows: int) -> bytes:
    """A Q8_0 matrix: blocks of a half-precision scale and 32 signed bytes."""
    count = columns * rows // BLOCK
    stream = hashlib.shake_256(seed.encode()).digest(count * BLOCK)
    scale = struct.pack("<e", 0.001)
    return b"".join(scale + stream[at : at + BLOCK] for at in range(0, len(stream), BLOCK))


def _value(kind: int, value: object, order: Order) -> bytes:
    head = struct.pack(f"{order}I", kind)
    if not isinstance(value, Array):
        return head + _plain(kind, [value], order)
    size = struct.pack(f"{order}IQ", value.kind, len(value.items))
    return head + size + _plain(value.kind, value.items, order)


def _plain(kind: int, items: Iterable[object], order: Order) -> bytes:
    if kind == STRING:
        return b"".join(_text(str(item), order) for item in items)
    return b"".join(struct.pack(f"{order}{_FORMATS[kind]}", item) for item in items)


def _text(text: str, order: Order) -> bytes:
    content = text.encode()
    return struct.pack(f"{order}Q", len(content)) + content


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % ALIGNMENT)
