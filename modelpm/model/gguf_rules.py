"""What a sane GGUF header is: every rule that it must keep before an engine sees the file.

No input or output here. Each rule raises a ModelError that names the flaw. Rules on keys hold where
the key is there; what must be there depends on the architecture, because a projector, an adapter
or a later shard of a set has fewer keys, and an architecture that is new to us may have others.
"""

import math
from collections.abc import Iterable, Mapping

from modelpm.errors import ModelError
from modelpm.model.ggml import TENSOR_TYPES
from modelpm.model.gguf_layout import (
    ALIGNMENT,
    FLOAT32,
    INT32,
    STRING,
    UINT32,
    Array,
    Layout,
    Tensor,
    Value,
)

MAX_DIMENSION = 2**31
MAX_ELEMENTS = 2**40
DEFAULT_ALIGNMENT = 32

# fmt: off
DECODERS = frozenset((
    "baichuan", "bloom", "falcon", "gemma", "gemma2", "gpt2", "gptj", "gptneox", "internlm2",
    "llama", "mpt", "olmo", "olmo2", "orion", "phi2", "phi3", "qwen", "qwen2", "qwen2moe",
    "qwen3", "qwen3moe", "refact", "smollm3", "stablelm", "starcoder", "starcoder2", "xverse",
))
# fmt: on
"""Architectures that we know to need the keys of _REQUIRED, and one embedding a token."""

_REQUIRED = ("block_count", "context_length", "embedding_length", "attention.head_count")
_RANGES = {
    "block_count": (1, 1_024),
    "context_length": (1, 2**24),
    "embedding_length": (1, 2**20),
    "feed_forward_length": (0, 2**24),
    "vocab_size": (1, 2**26),
    "attention.head_count": (0, 2**16),
    "attention.head_count_kv": (0, 2**16),
    "attention.key_length": (1, 2**20),
    "attention.value_length": (1, 2**20),
    "rope.dimension_count": (0, 2**20),
    "expert_count": (0, 2**16),
    "expert_used_count": (0, 2**16),
}
_WITHOUT_TOKENS = frozenset({"none", "no_vocab"})


def check(layout: Layout, size: int) -> int:
    """Raise ModelError unless the header is sane; `size` is the file's.

    Returns the byte at which the tensor data begins.
    """
    metadata = layout.metadata
    alignment = _alignment(metadata)
    start = -(-layout.stop // alignment) * alignment
    _check_extents(layout.tensors, start, size, alignment)
    _check_floats(metadata)
    _check_vocabulary(metadata)
    architecture = text(metadata, "general.architecture")
    if architecture is not None:
        _check_sizes(metadata, architecture)
    if _stands_alone(metadata):
        _check_model(metadata, architecture)
        _check_rows(layout, architecture)
    return start


def text(metadata: Mapping[str, Value], key: str) -> str | None:
    """The string under a key, or None. Raises ModelError when something else is there."""
    value = metadata.get(key)
    if value is None or isinstance(value, str):
        return value
    raise ModelError(f"{key} is not a string, or one of more bytes than it may have")


def integer(metadata: Mapping[str, Value], key: str) -> int | None:
    """The whole number under a key, or None. Raises ModelError when something else is there."""
    value = metadata.get(key)
    if value is None or type(value) is int:
        return value
    raise ModelError(f"{key} is not a whole number")


def _alignment(metadata: Mapping[str, Value]) -> int:
    alignment = integer(metadata, ALIGNMENT)
    if alignment is None:
        return DEFAULT_ALIGNMENT
    if not 8 <= alignment <= 2**16 or alignment & (alignment - 1):
        raise ModelError(f"{ALIGNMENT} is {alignment}; it must be a power of two in 8..65536")
    return alignment


def _check_extents(tensors: Iterable[Tensor], start: int, size: int, alignment: int) -> None:
    """Every tensor whole, inside the file, and none over another: no cut file gets past this."""
    end = 0
    for tensor in sorted(tensors, key=_offset):
        length = _length(tensor)
        if tensor.offset % alignment:
            raise ModelError(f"the tensor {tensor.name[:100]!r} is not aligned to {alignment}")
        if tensor.offset < end:
            raise ModelError(f"the tensor {tensor.name[:100]!r} overlaps another")
        end = tensor.offset + length
        if start + end > size:
            raise ModelError(
                f"the tensor {tensor.name[:100]!r} ends at byte {start + end}, after the file "
                f"of {size} bytes; it is cut: pull it again"
            )


def _offset(tensor: Tensor) -> int:
    return tensor.offset


def _length(tensor: Tensor) -> int:
    """The tensor's bytes."""
    kind = TENSOR_TYPES.get(tensor.type)
    if kind is None:
        raise ModelError(f"tensor type {tensor.type} is unknown (tensor {tensor.name[:100]!r})")
    if not all(1 <= length <= MAX_DIMENSION for length in tensor.shape):
        raise ModelError(f"the tensor {tensor.name[:100]!r} has a dimension outside 1..2^31")
    elements = tensor.elements
    if elements >= MAX_ELEMENTS:
        raise ModelError(f"the tensor {tensor.name[:100]!r} has 2^40 elements or more")
    if tensor.shape[0] % kind.block:
        raise ModelError(
            f"the tensor {tensor.name[:100]!r} has rows of {tensor.shape[0]} elements, "
            f"which {kind.name} cannot store in blocks of {kind.block}"
        )
    return elements // kind.block * kind.size


def _check_floats(metadata: Mapping[str, Value]) -> None:
    for key, value in metadata.items():
        if isinstance(value, float) and not math.isfinite(value) and _shapes_the_sum(key):
            raise ModelError(f"{key} is {value}")


def _shapes_the_sum(key: str) -> bool:
    return ".rope." in key or key.endswith("epsilon")


def _check_sizes(metadata: Mapping[str, Value], architecture: str) -> None:
    for name, (low, high) in _RANGES.items():
        key = f"{architecture}.{name}"
        value = metadata.get(key)
        if value is None:
            continue
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool | float | str | Array):
                raise ModelError(f"{key} is not a whole number")
            if not low <= number <= high:
                raise ModelError(f"{key} is {number}; it must be in {low}..{high}")


def _stands_alone(metadata: Mapping[str, Value]) -> bool:
    """Whether this is a whole model, or the first shard of one."""
    kind = text(metadata, "general.type")
    return kind in (None, "model") and not integer(metadata, "split.no")


def _check_model(metadata: Mapping[str, Value], architecture: str | None) -> None:
    if architecture is None:
        raise ModelError("general.architecture is missing")
    tokenizer = text(metadata, "tokenizer.ggml.model")
    if tokenizer not in (None, *_WITHOUT_TOKENS) and "tokenizer.ggml.tokens" not in metadata:
        raise ModelError("tokenizer.ggml.tokens is missing")
    if architecture not in DECODERS:
        return
    for name in _REQUIRED:
        if f"{architecture}.{name}" not in metadata:
            raise ModelError(f"{architecture}.{name} is missing")
    embedding = integer(metadata, f"{architecture}.embedding_length") or 0
    heads = metadata[f"{architecture}.attention.head_count"]
    if heads == 0:
        raise ModelError(f"{architecture}.attention.head_count is 0")
    told = f"{architecture}.attention.key_length" in metadata
    if isinstance(heads, int) and embedding % heads and not told:
        raise ModelError(f"{heads} heads do not divide an embedding of {embedding}")


def _check_vocabulary(metadata: Mapping[str, Value]) -> None:
    tokens = metadata.get("tokenizer.ggml.tokens")
    kinds = {"tokens": {STRING}, "merges": {STRING}, "scores": {FLOAT32}}
    for name, allowed in {**kinds, "token_type": {INT32, UINT32}}.items():
        key = f"tokenizer.ggml.{name}"
        value = metadata.get(key)
        if value is None:
            continue
        if not isinstance(value, Array) or value.element_type not in allowed:
            raise ModelError(f"{key} is not an array of the right type")
        if isinstance(tokens, Array) and name != "merges" and value.count != tokens.count:
            raise ModelError(f"{key} has {value.count} items for {tokens.count} tokens")
    for name in ("bos", "eos"):
        key = f"tokenizer.ggml.{name}_token_id"
        number = integer(metadata, key)
        if number is None or tokens is None or not isinstance(tokens, Array):
            continue
        if not 0 <= number < tokens.count:
            raise ModelError(f"{key} is {number} in a vocabulary of {tokens.count} tokens")


def _check_rows(layout: Layout, architecture: str | None) -> None:
    """One row of the embedding for each token: an engine looks rows up without asking."""
    tokens = layout.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, Array) or architecture not in DECODERS:
        return
    told = integer(layout.metadata, f"{architecture}.vocab_size")
    if told not in (None, tokens.count):
        raise ModelError(f"{architecture}.vocab_size is {told} for {tokens.count} tokens")
    for tensor in layout.tensors:
        if tensor.name == "token_embd.weight" and tensor.shape[1:] != (tokens.count,):
            raise ModelError(
                f"{tokens.count} tokens, but the embedding has the shape {tensor.shape}"
            )
