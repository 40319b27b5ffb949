"""How Ollama wants an artifact: a Docker manifest, roles by media type, no names, Go's JSON.

Source: ollama's manifest/ and types/model/config.go.
"""

from modelpm.errors import ModelError
from modelpm.model.blueprint import Blueprint, Format, Part, Role
from modelpm.model.go_json import encode
from modelpm.oci.manifest import DOCKER_MANIFEST

_LAYERS = {
    Role.WEIGHTS: "model",
    Role.PROJECTOR: "projector",
    Role.ADAPTER: "adapter",
    Role.DRAFT: "draft",
    Role.TEMPLATE: "template",
    Role.SYSTEM: "system",
    Role.PARAMETERS: "params",
    Role.LICENSE: "license",
    Role.MESSAGES: "messages",
}
_CONFIG = "application/vnd.docker.container.image.v1+json"
_GGUFS = frozenset({Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFT})
_WORDS = ("renderer", "parser", "requires")


def _media_type(part: Part) -> str | None:
    """The type of the layer; none for weights that are no GGUF, and for templates in Jinja."""
    name = part.name.lower()
    if part.role not in _LAYERS or (part.role in _GGUFS and not name.endswith(".gguf")):
        return None
    if part.role is Role.TEMPLATE and name.endswith((".jinja", ".json")):
        return None
    return f"application/vnd.ollama.image.{_LAYERS[part.role]}"


def _config(blueprint: Blueprint) -> tuple[str, bytes]:
    weights = [part for part in blueprint.parts if part.role is Role.WEIGHTS]
    if len(weights) > 1:
        raise ModelError(
            f"the weights are {len(weights)} files, and Ollama holds a model's weights in one"
            " (join them with llama-gguf-split --merge, or choose another --format)"
        )
    about = blueprint.about
    document: dict[str, object] = {
        "model_format": about.format,
        "model_family": about.family,
        "model_families": [about.family],
        "model_type": about.parameter_size,
        "file_type": about.quantization,
        **{word: blueprint.words[word] for word in _WORDS if blueprint.words.get(word)},
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": blueprint.digests},
    }
    return _CONFIG, encode(document, sort_keys=False)


OLLAMA = Format(
    "ollama",
    DOCKER_MANIFEST,
    _media_type,
    _config,
    is_named=False,
    words=frozenset(_WORDS),
)
