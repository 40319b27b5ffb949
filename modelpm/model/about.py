"""What a model's own files say of it: what the config of an artifact is to tell.

Every file goes through the gate for its kind; no weight is read.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from modelpm.errors import InvalidManifestError, ModelError
from modelpm.model import safetensors
from modelpm.model.facts import Facts, at
from modelpm.model.gguf import Header, humanised
from modelpm.model.gguf_layout import Array, Value
from modelpm.oci.manifest import load_json

GGUF, SAFETENSORS = "gguf", "safetensors"

_MAX_ITEMS = 50
"""Of an array that goes into a config; Docker Model Runner has the same limit."""

MAX_CONFIG = 2**20
"""Bytes of a `config.json`."""

_PRECISIONS = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "float32": "fp32",
    "BF16": "bf16",
    "F16": "fp16",
    "F32": "fp32",
}


@dataclass(frozen=True, slots=True)
class About:
    """Empty and None mean that nobody tells. `metadata` is a GGUF's, as Docker writes it."""

    format: str = ""
    family: str = ""
    parameter_size: str = ""
    quantization: str = ""
    name: str | None = None
    precision: str | None = None
    context_length: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


def of_ggufs(headers: Sequence[Header]) -> About:
    """What the headers of one model's files say; of a set the first tells nearly all."""
    first = headers[0]
    return About(
        format=GGUF,
        family=first.architecture,
        parameter_size=humanised(sum(header.parameter_count for header in headers)),
        quantization=first.quantization,
        name=first.name,
        context_length=first.context_length,
        metadata={
            key: text
            for key, value in first.metadata.items()
            if (text := _in_words(value)) is not None
        },
    )


def of_safetensors(paths: Sequence[Path], config: bytes | None) -> About:
    """What the headers of these files and the model's `config.json` say. Raises ModelError."""
    elements: Counter[str] = Counter()
    for path in paths:
        try:
            safetensors.check(path, path.name)
            elements.update(_elements(path))
        except OSError as error:
            raise ModelError(f"reading {path}: {error.strerror or error}") from error
    told = _json(config)
    precision = _text(at(told, ("torch_dtype",))) or _text(at(told, ("dtype",)))
    length = at(told, ("max_position_embeddings",))
    return About(
        format=SAFETENSORS,
        family=_text(at(told, ("model_type",))),
        parameter_size=humanised(elements.total()),
        quantization=_text(at(told, ("quantization_config", "quant_method"))),
        precision=_PRECISIONS.get(precision or elements.most_common(1)[0][0]) if elements else None,
        context_length=length if type(length) is int and length > 0 else None,
    )


def of_facts(facts: Facts) -> About:
    """What an artifact's own config said, of weights that modelpm cannot read."""
    return About(
        format=facts.format or "",
        family=facts.family or "",
        parameter_size=facts.parameter_size or "",
        quantization=facts.quantization or "",
        context_length=facts.context_length,
    )


def _elements(path: Path) -> Counter[str]:
    """Numbers in the tensors by their type. The file has passed its gate."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        document = json.loads(file.read(min(length, safetensors.MAX_HEADER)))
    found: Counter[str] = Counter()
    for name, tensor in document.items():
        if name != "__metadata__":
            found[tensor["dtype"]] += prod(tensor["shape"])
    return found


def _json(content: bytes | None) -> object:
    if content is None or len(content) > MAX_CONFIG:
        return None
    try:
        return load_json(content)
    except InvalidManifestError as error:
        raise ModelError(f"config.json: {error}") from None


def _text(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= 100 else ""


def _in_words(value: Value) -> str | None:
    """A value as Go formats it; None for a long array, and for text of more than 64 KiB."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:f}"
    if isinstance(value, str | int):
        return str(value) if len(str(value)) <= 2**16 else None
    if isinstance(value, Array) or len(value) > _MAX_ITEMS:
        return None
    return ", ".join(text for item in value if (text := _in_words(item)) is not None)
