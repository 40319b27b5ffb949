"""From the parts of a model to an artifact: the table of formats, the order, the annotations.

The same blueprint gives the same bytes on every machine: no time but the one that was asked for,
no user, no chance.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from modelpm.errors import ModelError
from modelpm.model.blueprint import Blueprint, Format
from modelpm.model.dialects import ROLE, TITLE
from modelpm.model.go_json import encode
from modelpm.model.parts import Part
from modelpm.model.roles import Role
from modelpm.model.write_docker import DOCKER
from modelpm.model.write_modelpack import MODELPACK
from modelpm.model.write_ollama import OLLAMA
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.manifest import Manifest

__all__ = ["FORMATS", "Written", "homeless", "write"]

FORMATS: Mapping[str, Format] = {each.name: each for each in (MODELPACK, OLLAMA, DOCKER)}

_PATH = "org.cncf.model.filepath"
_METADATA = "org.cncf.model.file.metadata+json"
_UNTESTED = "org.cncf.model.file.mediatype.untested"
_MODE = 0o644
_EPOCH = "1970-01-01T00:00:00Z"

_ORDER = {
    role: number
    for number, role in enumerate(
        (
            Role.WEIGHTS,
            Role.PROJECTOR,
            Role.ADAPTER,
            Role.DRAFT,
            Role.CONFIG,
            Role.TOKENIZER,
            Role.TEMPLATE,
            Role.SYSTEM,
            Role.LICENSE,
            Role.PARAMETERS,
            Role.MESSAGES,
            Role.DOCUMENT,
            Role.OTHER,
        )
    )
}
"""Some readers take the first layer of weights as the model; Ollama puts licences before params."""


@dataclass(frozen=True, slots=True)
class Written:
    """An artifact's two documents; the layers are where the parts' bytes are."""

    config: bytes
    manifest: Manifest


def write(blueprint: Blueprint, form: Format) -> Written:
    """The config and the manifest. What the format has no place for is left out: see `homeless`.

    Raises ModelError for a model without weights, or one that the format cannot hold.
    """
    parts = [_named(part) for part in blueprint.parts if form.media_type(part) is not None]
    if not any(part.role is Role.WEIGHTS for part in parts):
        raise ModelError(f"nothing that is left has weights that the format {form.name} can hold")
    parts.sort(key=lambda part: _ORDER[part.role])
    layers = list(_layers(parts, form))
    kind, config = form.config(replace(blueprint, parts=tuple(parts)))
    document: dict[str, object] = {"schemaVersion": 2, "mediaType": form.manifest_type}
    if form.artifact_type is not None:
        document["artifactType"] = form.artifact_type
    document["config"] = Descriptor.of(config, kind).to_json()
    document["layers"] = [layer.to_json() for layer in layers]
    raw = encode(document, sort_keys=False, newline=False)
    return Written(config, Manifest.parse(raw, form.manifest_type))


def homeless(blueprint: Blueprint, form: Format) -> list[str]:
    """What the format has no place for, in words: `README.md (document)`, `renderer`."""
    files = [
        f"{part.name} ({part.role})" for part in blueprint.parts if form.media_type(part) is None
    ]
    return files + [word for word in blueprint.words if word not in form.words]


def _named(part: Part) -> Part:
    """The part with a name by which readers without an eye for roles know what it is."""
    if part.role is not Role.PROJECTOR or "mmproj" in part.name.lower():
        return part
    folder, slash, name = part.name.rpartition("/")
    return replace(part, name=f"{folder}{slash}mmproj-{name}")


def _layers(parts: list[Part], form: Format) -> Iterator[Descriptor]:
    for part in parts:
        yield Descriptor(
            form.media_type(part) or "",
            part.descriptor.digest,
            part.descriptor.size,
            annotations=_annotations(part) if form.is_named else {},
        )


def _annotations(part: Part) -> dict[str, str]:
    """Both names that readers ask for, what a tar would tell, and the role.

    The type of a file is "tested" where modelpm knows what the file is for.
    """
    metadata = {
        "name": part.name,
        "mode": _MODE,
        "uid": 0,
        "gid": 0,
        "size": part.descriptor.size,
        "mtime": _EPOCH,
        "typeflag": 0,
    }
    return {
        ROLE: part.role.value,
        _METADATA: encode(metadata, sort_keys=False, newline=False).decode(),
        _UNTESTED: "true" if part.role is Role.OTHER else "false",
        _PATH: part.name,
        TITLE: part.name,
    }
