"""What is known of a model: its facts, what it can do, and where it comes from.

The weights' own word goes before the config's, which is its writer's.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from modelpm.content import read
from modelpm.errors import InvalidManifestError, ModelPMError
from modelpm.model.dialects import OLLAMA
from modelpm.model.facts import Facts, at
from modelpm.model.gguf import Header
from modelpm.model.magic import Kind, head, kind_of
from modelpm.model.model import Model, Role
from modelpm.oci.manifest import load_json

CONFIG = "config.json"
"""What transformers says of a model, in a file of it."""

MAX_PROPERTIES = 100

_MAX_WORD = 500
_MAX_WORDS = 32
_TRANSFORMERS: tuple[tuple[str, type, tuple[str, ...]], ...] = (
    ("architecture", str, ("model_type",)),
    ("context_length", int, ("max_position_embeddings",)),
    ("embedding_length", int, ("hidden_size",)),
    ("block_count", int, ("num_hidden_layers",)),
    ("vocabulary_size", int, ("vocab_size",)),
    ("quantization", str, ("quantization_config", "quant_method")),
    ("quantization", str, ("torch_dtype",)),
    ("quantization", str, ("dtype",)),
)

_BEGIN, _END = re.compile(r"\{\{|\{%"), re.compile(r"\}\}|%\}")
_WORD = re.compile(r"[A-Za-z_]+")
_MENTIONED = (
    ("insert", frozenset({"suffix"})),
    ("tools", frozenset({"tools"})),
    ("thinking", frozenset({"thinking", "enable_thinking", "reasoning_content", "thinklevel"})),
)
"""What a model is known to do by what its template speaks of, in either language."""
_SENSES = (("vision", "vision.block_count"), ("audio", "audio.block_count"))

_ENGINE_WORDS = ("renderer", "parser", "requires")

_OCI = "org.opencontainers.image."
_ORIGIN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("source", (f"{_OCI}source", "ai.model.repo")),
    ("revision", (f"{_OCI}revision",)),
    ("created", (f"{_OCI}created",)),
    ("url", (f"{_OCI}url",)),
    ("title", (f"{_OCI}title",)),
    ("version", (f"{_OCI}version",)),
    ("authors", (f"{_OCI}authors",)),
    ("vendor", (f"{_OCI}vendor",)),
    ("description", (f"{_OCI}description",)),
    ("documentation", (f"{_OCI}documentation",)),
    ("base", (f"{_OCI}base.name",)),
    ("signer", ("io.palan.origin.signer",)),
)
_IN_CONFIG = (
    ("source", ("descriptor", "sourceURL")),
    ("revision", ("descriptor", "revision")),
    ("created", ("descriptor", "createdAt")),
    ("created", ("descriptor", "created")),
    ("created", ("created",)),
    ("title", ("descriptor", "title")),
    ("title", ("descriptor", "name")),
    ("title", ("package", "name")),
    ("title", ("model", "name")),
    ("description", ("descriptor", "description")),
    ("description", ("package", "description")),
    ("description", ("model", "description")),
    ("authors", ("descriptor", "authors")),
    ("authors", ("package", "authors")),
    ("version", ("package", "version")),
    ("version", ("model", "version")),
    ("datasets", ("descriptor", "datasetsURL")),
    ("version", ("descriptor", "version")),
    ("vendor", ("descriptor", "vendor")),
    ("documentation", ("descriptor", "docURL")),
)


def facts(told: Facts, header: Header | None, described: Mapping[str, object]) -> dict[str, object]:
    """What the model is, by names that are always the same; None where nobody says.

    `described` is what `transformers_facts` found.
    """
    known: dict[str, object] = {
        "architecture": told.family,
        "name": None,
        "format": told.format,
        "parameters": told.parameter_size,
        "parameter_count": None,
        "quantization": told.quantization,
        "context_length": told.context_length,
        "embedding_length": None,
        "block_count": None,
        "vocabulary": None,
        "vocabulary_size": None,
        "license": told.license,
    }
    own: dict[str, object] = dict(described)
    if header is not None:
        own = {
            "architecture": header.architecture,
            "name": header.name,
            "format": "gguf",
            "parameters": header.parameter_size,
            "parameter_count": header.parameter_count,
            "quantization": header.quantization,
            "context_length": header.context_length,
            "embedding_length": header.embedding_length,
            "block_count": header.block_count,
            "vocabulary": header.vocabulary,
            "vocabulary_size": header.vocabulary_size,
        }
        if _is_shard(header):  # its tensors are not all there are
            own |= {"parameters": None, "parameter_count": None}
        license_told = header.metadata.get("general.license")
        own["license"] = license_told if isinstance(license_told, str) else None
    return known | {key: value for key, value in own.items() if value}


def _is_shard(header: Header) -> bool:
    count = header.metadata.get("split.count")
    return type(count) is int and count > 1


def read_header(model: Model, path: Callable[[], Path]) -> Header | None:
    """What the weights say of themselves, through the gate; None of safetensors.

    `path` gives the verified file. Raises ModelError for what does not pass, and as `path` does.
    """
    weights = model.weights.descriptor
    if kind_of(head(weights, model.fetcher), weights.size) is Kind.SAFETENSORS:
        return None
    return Header.read(path())


def transformers_facts(model: Model) -> dict[str, object]:
    """What the model's `config.json` says, if it has one that can be read."""
    for part in model.parts:
        if part.name == CONFIG and not part.is_archive:
            try:
                document = load_json(read(model.fetcher, part.descriptor))
            except ModelPMError:
                return {}
            found: dict[str, object] = {}
            for name, kind, keys in _TRANSFORMERS:
                value = at(document, keys)
                if value and type(value) is kind:
                    found.setdefault(name, value[:_MAX_WORD] if isinstance(value, str) else value)
            return found
    return {}


def capabilities(
    model: Model, told: Facts, header: Header | None, template: str
) -> tuple[str, ...]:
    """What the model can do, in Ollama's words: `completion`, `chat`, `tools`, `vision`...

    From the weights, the parts and what the template speaks of; and what the config tells.
    """
    words = _mentioned(template)
    is_embedder = header is not None and header.size_of("pooling_type") is not None
    is_embedder = is_embedder or "embedding" in told.capabilities
    found = ["embedding"] if is_embedder else ["completion"]
    if template and not is_embedder:
        found.append("chat")
    found += [capability for capability, marks in _MENTIONED if marks & words]
    if any(part.role is Role.PROJECTOR for part in model.parts):
        found.append("vision")
    if header is not None:
        found += [sense for sense, key in _SENSES if header.size_of(key)]
    return tuple(dict.fromkeys([*found, *told.capabilities]))


def provenance(model: Model) -> dict[str, str]:
    """Where the model says that it comes from: `source`, `revision`, `created`... as told."""
    annotations = model.manifest.annotations
    found: dict[str, str] = {}
    for name, keys in _ORIGIN:
        values = [annotations[key] for key in keys if annotations.get(key)]
        if values:
            found[name] = values[0][:_MAX_WORD]
    document = _config(model)
    told = [(name, annotations.get(key)) for name, key in model.dialect.origin]
    own = tuple((name, (key,)) for name, key in model.dialect.origin)
    for name, value in [*told, *((name, at(document, path)) for name, path in own + _IN_CONFIG)]:
        text = ", ".join(_texts(value))[:_MAX_WORD]
        if text:
            found.setdefault(name, text)
    return found


def properties(model: Model) -> dict[str, object]:
    """What else the model's writer tells of it, in words of his own, at most MAX_PROPERTIES.

    Values are texts, numbers and booleans; what is neither is its JSON.
    """
    found: dict[str, object] = {}
    for annotation, keys in model.dialect.properties:
        text = model.manifest.annotations.get(annotation)
        value = at(_parsed(text) if annotation else _config(model), keys)
        for name, each in value.items() if isinstance(value, dict) else ():
            if len(found) < MAX_PROPERTIES and each is not None:
                found[name[:_MAX_WORD]] = _short(each)
    return found


def _texts(value: object) -> list[str]:
    values = value[:_MAX_WORDS] if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text]


def _short(value: object) -> object:
    if isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:_MAX_WORD]


def _parsed(text: str | None) -> object:
    try:
        return load_json((text or "null").encode())
    except (InvalidManifestError, UnicodeEncodeError):
        return None


def engine_words(model: Model) -> dict[str, str]:
    """What Ollama's config says of the program that runs it: `renderer`, `parser`, `requires`."""
    if model.dialect is not OLLAMA:
        return {}
    document = _config(model)
    told = {word: at(document, (word,)) for word in _ENGINE_WORDS}
    return {word: text for word, text in told.items() if isinstance(text, str) and text}


def _config(model: Model) -> object:
    try:
        return model.config
    except ModelPMError:
        return None


def _mentioned(template: str) -> frozenset[str]:
    """The words in a template's actions, in lower case."""
    actions = (_END.split(piece, maxsplit=1)[0] for piece in _BEGIN.split(template)[1:])
    return frozenset(word.lower() for action in actions for word in _WORD.findall(action))
