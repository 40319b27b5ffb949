"""GGUF files of any kind, also broken ones: exact control over every byte of the header."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from modelpm.model.ggml import TENSOR_TYPES

FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
UINT8, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, FLOAT64 = 0, 4, 5, 6, 7, 8, 9, 10, 12

VOCABULARY = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "▁a", "b", "é")


def string(text: str | bytes) -> bytes:
    """A length and the bytes."""
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def value(kind: int, content: object) -> bytes:
    """A value type and the value."""
    if kind == STRING:
        assert isinstance(content, str | bytes)
        return struct.pack("<I", kind) + string(content)
    code = (FORMATS | {12: "d"})[kind]
    return struct.pack(f"<I{code}", kind, content)


def array(kind: int, items: Sequence[object], count: int | None = None) -> bytes:
    """An array; `count` lies about its length."""
    head = struct.pack("<IIQ", ARRAY, kind, len(items) if count is None else count)
    if kind == STRING:
        return head + b"".join(string(item) for item in items if isinstance(item, str | bytes))
    code = (FORMATS | {12: "d"})[kind]
    return head + struct.pack(f"<{len(items)}{code}", *items)


@dataclass(frozen=True)
class Tensor:
    """A row of the tensor table; an offset of None is the next that fits."""

    name: str | bytes
    shape: tuple[int, ...] = (32,)
    type: int = 0
    offset: int | None = None

    @property
    def size(self) -> int:
        """Bytes; 0 for a type that nobody knows."""
        kind = TENSOR_TYPES.get(self.type)
        elements = 1
        for length in self.shape:
            elements *= length
        return 0 if kind is None else elements // kind.block * kind.size


def rows(vocabulary: int, embedding: int, blocks: int) -> tuple[Tensor, ...]:
    """Some tensors of a llama."""
    return (
        Tensor("token_embd.weight", (embedding, vocabulary)),
        Tensor("output_norm.weight", (embedding,)),
        *(Tensor(f"blk.{i}.attn_q.weight", (embedding, embedding), 8) for i in range(blocks)),
    )


def vocabulary(words: Sequence[str | bytes] = VOCABULARY) -> dict[str, bytes]:
    """The tokenizer's keys for these words."""
    kinds = [3 if str(word).startswith("<") else 1 for word in words]
    return {
        "tokenizer.ggml.model": value(STRING, "llama"),
        "tokenizer.ggml.tokens": array(STRING, words),
        "tokenizer.ggml.scores": array(FLOAT32, [0.0] * len(words)),
        "tokenizer.ggml.token_type": array(INT32, kinds),
        "tokenizer.ggml.bos_token_id": value(UINT32, 1),
        "tokenizer.ggml.eos_token_id": value(UINT32, 2),
        "tokenizer.ggml.eot_token_id": value(UINT32, 4),
        "tokenizer.ggml.add_bos_token": value(BOOL, True),
    }


LLAMA: Mapping[str, bytes] = {
    "general.architecture": value(STRING, "llama"),
    "general.name": value(STRING, "tiny"),
    "general.file_type": value(UINT32, 7),
    "llama.block_count": value(UINT32, 2),
    "llama.context_length": value(UINT32, 256),
    "llama.embedding_length": value(UINT32, 32),
    "llama.feed_forward_length": value(UINT32, 64),
    "llama.attention.head_count": value(UINT32, 4),
    "llama.attention.layer_norm_rms_epsilon": value(FLOAT32, 1e-5),
    "llama.rope.freq_base": value(FLOAT32, 10000.0),
    **vocabulary(),
    "tokenizer.chat_template": value(STRING, "{% for m in messages %}{{ m.content }}{% endfor %}"),
}


@dataclass(frozen=True)
class Gguf:
    """A file to be: what is left None is written as it should be."""

    pairs: Mapping[str, bytes] = field(default_factory=lambda: LLAMA)
    tensors: tuple[Tensor, ...] = rows(len(VOCABULARY), 32, 2)
    version: int = 3
    alignment: int = 32
    pair_count: int | None = None
    tensor_count: int | None = None
    extra: bytes = b""
    cut: int = 0

    def with_pairs(self, changes: Mapping[str, bytes | None]) -> "Gguf":
        """The same with other keys; None takes one away."""
        merged = {**self.pairs, **changes}
        return replace(self, pairs={key: raw for key, raw in merged.items() if raw is not None})

    def encode(self) -> bytes:
        """The bytes of the file. `extra` goes between the keys and the tensors."""
        pair_count = len(self.pairs) if self.pair_count is None else self.pair_count
        tensor_count = len(self.tensors) if self.tensor_count is None else self.tensor_count
        parts = [b"GGUF", struct.pack("<IQQ", self.version, tensor_count, pair_count)]
        parts += [string(key) + raw for key, raw in self.pairs.items()]
        parts.append(self.extra)
        end = 0
        for tensor in self.tensors:
            offset = -(-end // self.alignment) * self.alignment
            offset = offset if tensor.offset is None else tensor.offset
            parts.append(string(tensor.name) + struct.pack("<I", len(tensor.shape)))
            parts.append(
                struct.pack(f"<{len(tensor.shape)}QIQ", *tensor.shape, tensor.type, offset)
            )
            end = max(end, offset + tensor.size) if offset < 2**30 else end
        head = b"".join(parts)
        head += b"\0" * (-len(head) % self.alignment) if self.tensors else b""
        whole = head + (b"\x11" * end if end < 2**26 else b"")
        return whole[: len(whole) - self.cut]


def llama(changes: Mapping[str, bytes | None] | None = None) -> Gguf:
    """A small llama that passes the gate, with some keys changed."""
    return Gguf().with_pairs(changes or {})


def large(words: int = 150_000, merges: int = 151_000) -> bytes:
    """A llama with a vocabulary as large as today's."""
    texts = [f"tok{number:x}" for number in range(words)]
    base = Gguf(tensors=rows(words, 32, 2)).with_pairs(vocabulary(texts))
    pairs = {"tokenizer.ggml.merges": array(STRING, [f"t{n:x} ok" for n in range(merges)])}
    return base.with_pairs(pairs).encode()
