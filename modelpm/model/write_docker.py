"""How Docker Model Runner wants an artifact: its kind is the config's media type.

Version v0.1 is for one GGUF and its companions, and carries the GGUF's metadata; v0.2 holds any
file, a layer each. Source: model-distribution's types/config.go and builder.
"""

from modelpm.model.blueprint import Blueprint, Format, Part, Role
from modelpm.model.go_json import encode
from modelpm.oci.manifest import OCI_MANIFEST

_DOCKER = "application/vnd.docker.ai"
_FILE = f"{_DOCKER}.model.file"
_WEIGHTS = {".gguf": "gguf.v3", ".safetensors": "safetensors", ".dduf": "dduf"}
_COMPANIONS = {Role.PROJECTOR: "mmproj", Role.LICENSE: "license"}


def _media_type(part: Part) -> str:
    """The type of the layer; of what Docker has no word for, that of any file."""
    name = part.name.lower()
    ending = name[name.rfind(".") :]
    if part.role is Role.WEIGHTS and ending in _WEIGHTS:
        return f"{_DOCKER}.{_WEIGHTS[ending]}"
    if part.role is Role.TEMPLATE and ending == ".jinja":
        return f"{_DOCKER}.chat.template.jinja"
    return f"{_DOCKER}.{_COMPANIONS[part.role]}" if part.role in _COMPANIONS else _FILE


def _config(blueprint: Blueprint) -> tuple[str, bytes]:
    about = blueprint.about
    is_old = about.format == "gguf" and _FILE not in map(_media_type, blueprint.parts)
    weights = [part for part in blueprint.parts if part.role is Role.WEIGHTS]
    size = sum(part.descriptor.size for part in weights)
    told: dict[str, object] = {
        "format": about.format,
        "quantization": about.quantization,
        "parameters": about.parameter_size,
        "architecture": about.family,
        "size": f"{size / 2**20:.2f}MiB",
        "gguf": dict(sorted(about.metadata.items())),
        "context_size": about.context_length,
    }
    document: dict[str, object] = {
        "config": {key: value for key, value in told.items() if value},
        "descriptor": {"created": blueprint.time} if blueprint.time else {},
        "rootfs": {"type": "rootfs", "diff_ids": blueprint.digests},
    }
    version = "v0.1" if is_old else "v0.2"
    kind = f"{_DOCKER}.model.config.{version}+json"
    return kind, encode(document, sort_keys=False, newline=False)


DOCKER = Format("docker", OCI_MANIFEST, _media_type, _config)
