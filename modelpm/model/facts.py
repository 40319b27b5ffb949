"""What an artifact's config and annotations say of the model, in one form for all dialects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelpm.model.dialects import Dialect

_MAX_FACT = 200
_MAX_WORDS = 32
_SENSES = {"image": "vision", "audio": "audio", "video": "video", "embedding": "embedding"}
"""What a model can do beside text, by the kind of data that it takes or gives."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the artifact says of the model; None where it says nothing.

    These are the writer's words, not read from the weights: `family` as in `llama`,
    `parameter_size` as in `7B`, `quantization` as in `Q4_K_M`, `format` as in `gguf`, `license` as
    in `Apache-2.0`. `capabilities` are Ollama's words: `completion`, `tools`, `vision` ...
    """

    family: str | None = None
    parameter_size: str | None = None
    quantization: str | None = None
    format: str | None = None
    context_length: int | None = None
    license: str | None = None
    capabilities: tuple[str, ...] = ()

    @classmethod
    def told(cls, dialect: Dialect, config: object, annotations: Mapping[str, str]) -> "Facts":
        """The facts in a config's JSON and a manifest's annotations, by the dialect's rows."""
        told: dict[str, object] = {}
        for name, keys in dialect.facts:
            value = at(config, keys)
            if value:
                told.setdefault(name, value)
        for name, key in dialect.annotated:
            if annotations.get(key):
                told.setdefault(name, annotations[key])
        return cls(
            family=_word(told.get("family")),
            parameter_size=_word(told.get("parameter_size")),
            quantization=_word(told.get("quantization")),
            format=_word(told.get("format")),
            context_length=_count(told.get("context_length")),
            license=_word(_joined(told.get("license"))),
            capabilities=_capabilities(told.get("capabilities")),
        )


def at(document: object, keys: Sequence[str]) -> object:
    """What stands below these keys, from the outside in; None where nothing does."""
    for key in keys:
        if not isinstance(document, dict):
            return None
        document = document.get(_found(key, document))
    return document


def _found(key: str, document: Mapping[str, object]) -> str:
    if not key.startswith("*"):
        return key
    return next((each for each in document if each.endswith(key[1:])), key)


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_FACT else None


def _words(value: object) -> list[str]:
    if not isinstance(value, list):
        return []
    return [word for word in map(_word, value[:_MAX_WORDS]) if word]


def _joined(value: object) -> object:
    return " AND ".join(_words(value)) if isinstance(value, list) else value


def _count(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    return value if type(value) is int and value > 0 else None


def _capabilities(value: object) -> tuple[str, ...]:
    """Ollama's list as it is; ModelPack's object in the same words (config.md, "capabilities")."""
    if not isinstance(value, dict):
        return tuple(_words(value))
    flags = (("toolUsage", "tools"), ("reasoning", "thinking"))
    found = [word for key, word in flags if value.get(key) is True]
    senses = [*_words(value.get("inputTypes")), *_words(value.get("outputTypes"))]
    found += [_SENSES[sense] for sense in senses if sense in _SENSES]
    return tuple(dict.fromkeys(found))
