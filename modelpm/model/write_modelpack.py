"""How CNCF ModelPack wants an artifact: each file a raw layer, a config of its own kind.

Source: model-spec's spec.md, config.md and annotations.md. ModelPack has no word for what a file
is for beyond weight, config, doc and code; the annotation ROLE (in `writing`) tells the rest.
"""

from modelpm.model.blueprint import Blueprint, Format, Part, Role
from modelpm.model.gguf_rules import DECODERS
from modelpm.model.go_json import encode
from modelpm.oci.manifest import OCI_MANIFEST

_CNCF = "application/vnd.cncf.model"
_KINDS = {
    Role.WEIGHTS: "weight",
    Role.PROJECTOR: "weight",
    Role.ADAPTER: "weight",
    Role.DRAFT: "weight",
    Role.LICENSE: "doc",
    Role.DOCUMENT: "doc",
    Role.OTHER: "code",
}
"""All else is a `weight.config`."""


def _media_type(part: Part) -> str:
    return f"{_CNCF}.{_KINDS.get(part.role, 'weight.config')}.v1.raw"


def _config(blueprint: Blueprint) -> tuple[str, bytes]:
    about = blueprint.about
    family = about.family or None
    document: dict[str, dict[str, object]] = {
        "descriptor": {"createdAt": blueprint.time, "family": family, "name": about.name},
        "config": {
            "architecture": "transformer" if about.family in DECODERS else family,
            "format": about.format or None,
            "paramSize": about.parameter_size or None,
            "precision": about.precision,
            "quantization": about.quantization or None,
        },
        "modelfs": {"type": "layers", "diffIds": blueprint.digests},
    }
    kept = {
        name: {key: value for key, value in members.items() if value is not None}
        for name, members in document.items()
    }
    return f"{_CNCF}.config.v1+json", encode(kept, sort_keys=False, newline=False)


MODELPACK = Format(
    "modelpack",
    OCI_MANIFEST,
    _media_type,
    _config,
    artifact_type=f"{_CNCF}.manifest.v1+json",
)
