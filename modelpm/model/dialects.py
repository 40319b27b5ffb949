"""Who writes models into registries, and what their media types mean: one table.

A new dialect is a new row of DIALECTS. Sources: ollama's manifest/ and types/model, Docker's
model-distribution, CNCF ModelPack's spec.md and config.md, KitOps' mediaType.go, the ORAS CLI.
"""

from dataclasses import dataclass

from modelpm.errors import ModelError, NotFoundError
from modelpm.model.roles import Role, by_name, refined
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.manifest import Child, Manifest, is_manifest

__all__ = ["DIALECTS", "Dialect", "Role", "choose", "recognise"]

TITLE = "org.opencontainers.image.title"
ROLE = "dev.modelpm.role"
"""The annotation of a layer that tells its role outright: most formats have no word for it."""

_LICENSES = "org.opencontainers.image.licenses"
_UNPACK = "io.deis.oras.content.unpack"

Keys = tuple[str, ...]
"""Where a fact is in the JSON of the config: the keys from the outside in.

A key that begins with `*` stands for the first one with that end.
"""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One row: how to tell that a manifest is written so, and how to read it then.

    `titles` are how titles of layers begin that nobody else gives.

    `roles` goes by a layer's media type; a key also covers every type that begins with it and a
    dot, and the longest key wins. Where it says nothing, or `by_name` is set, the file's name
    tells more. `facts` are what the config tells, and where; `annotated` are those that
    annotations of the manifest tell; of several rows for one fact the first that says something.
    `origin` are members of the config, or annotations, that tell where the model comes from, and
    `properties` JSON objects of what else its writer tells of it: below keys of the config, or of
    the JSON in an annotation.

    `packed` are the endings of media types whose layer is an archive of files; of such files only
    those below the folder `root` are the model's. `layer_name` is a member of a layer's JSON that
    names its file. With `has_kitfile` the config is a Kitfile, which names files too. With
    `unnamed_shards`, weights without names are the shards of one model, in the manifest's order.
    Layers of `tensor_type` are one tensor each, and one model together.
    """

    name: str
    artifact_types: frozenset[str] = frozenset()
    index_types: frozenset[str] = frozenset()
    config_types: frozenset[str] = frozenset()
    layer_prefixes: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    roles: tuple[tuple[str, Role], ...] = ()
    facts: tuple[tuple[str, Keys], ...] = ()
    annotated: tuple[tuple[str, str], ...] = (("license", _LICENSES),)
    origin: tuple[tuple[str, str], ...] = ()
    properties: tuple[tuple[str, Keys], ...] = ()
    by_name: bool = False
    packed: tuple[str, ...] = ()
    root: str = ""
    layer_name: str = ""
    has_kitfile: bool = False
    unnamed_shards: bool = False
    tensor_type: str = ""

    def role(self, descriptor: Descriptor, name: str, *, alone: bool = True) -> Role:
        """What this layer is for; `name` is its file's, or "" where nobody says.

        Of a layer with several files (not `alone`) the type tells what the layer is for, and the
        names what each file is.
        """
        if descriptor.annotations.get(ROLE) in set(Role):
            return Role(descriptor.annotations[ROLE])
        told = self._told(descriptor.media_type)
        if not self.by_name:
            return told or Role.OTHER
        own = by_name(name)
        if told is None or (not alone and told is not Role.OTHER and own is not Role.OTHER):
            return own
        return refined(told, name)

    def is_titled(self, manifest: Manifest) -> bool:
        """Whether a layer has a title that only this writer gives."""
        titles = (layer.annotations.get(TITLE, "") for layer in manifest.layers)
        return any(title.startswith(self.titles) for title in titles)

    def is_packed(self, descriptor: Descriptor) -> bool:
        """Whether the layer is said to be an archive, whose bytes are not the file's."""
        if descriptor.annotations.get(_UNPACK) == "true":
            return True
        return descriptor.media_type.endswith(self.packed)

    def _told(self, kind: str) -> Role | None:
        keys = [key for key, _ in self.roles if kind == key or kind.startswith(f"{key}.")]
        return dict(self.roles)[max(keys, key=len)] if keys else None


_CNCF = "application/vnd.cncf.model"
_CNAI = "application/vnd.cnai.model"
_DOCKER = "application/vnd.docker.ai"
_KIT = "application/vnd.kitops.modelkit"
_OLLAMA = "application/vnd.ollama.image"
_LAYERS = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar")

_MODELPACK_ROLES = (
    ("weight", Role.WEIGHTS),
    ("weight.config", Role.CONFIG),
    ("doc", Role.DOCUMENT),
    ("code", Role.OTHER),
    ("dataset", Role.OTHER),
)
_CONFIG = ""
"""Stands for the config where the name of an annotation could stand."""
_ARCHIVES = (".tar", ".tar+gzip", ".tar+zstd", "+gzip", "+zstd")

OLLAMA = Dialect(
    name="ollama",
    layer_prefixes=(f"{_OLLAMA}.",),
    roles=(
        (f"{_OLLAMA}.model", Role.WEIGHTS),
        (f"{_OLLAMA}.tensor", Role.WEIGHTS),
        (f"{_OLLAMA}.projector", Role.PROJECTOR),
        (f"{_OLLAMA}.adapter", Role.ADAPTER),
        (f"{_OLLAMA}.draft", Role.DRAFT),
        (f"{_OLLAMA}.template", Role.TEMPLATE),
        (f"{_OLLAMA}.prompt", Role.TEMPLATE),
        (f"{_OLLAMA}.system", Role.SYSTEM),
        (f"{_OLLAMA}.params", Role.PARAMETERS),
        (f"{_OLLAMA}.license", Role.LICENSE),
        (f"{_OLLAMA}.messages", Role.MESSAGES),
        (f"{_OLLAMA}.json", Role.CONFIG),
    ),
    facts=(
        ("family", ("model_family",)),
        ("parameter_size", ("model_type",)),
        ("quantization", ("file_type",)),
        ("format", ("model_format",)),
        ("context_length", ("context_length",)),
        ("capabilities", ("capabilities",)),
    ),
    layer_name="name",
    tensor_type=f"{_OLLAMA}.tensor",
)
DOCKER_AI = Dialect(
    name="docker-ai",
    config_types=frozenset(
        {f"{_DOCKER}.model.config.v0.1+json", f"{_DOCKER}.model.config.v0.2+json"}
    ),
    layer_prefixes=(f"{_DOCKER}.",),
    roles=(
        (f"{_DOCKER}.gguf", Role.WEIGHTS),
        (f"{_DOCKER}.safetensors", Role.WEIGHTS),
        (f"{_DOCKER}.dduf", Role.WEIGHTS),
        (f"{_DOCKER}.mmproj", Role.PROJECTOR),
        (f"{_DOCKER}.chat.template.jinja", Role.TEMPLATE),
        (f"{_DOCKER}.license", Role.LICENSE),
        (f"{_DOCKER}.vllm.config", Role.CONFIG),
    ),
    facts=(
        ("family", ("config", "architecture")),
        ("parameter_size", ("config", "parameters")),
        ("quantization", ("config", "quantization")),
        ("format", ("config", "format")),
        ("context_length", ("config", "context_size")),
        ("context_length", ("config", "gguf", "*.context_length")),
        ("license", ("config", "gguf", "general.license")),
    ),
    by_name=True,
    packed=(".tar",),
    unnamed_shards=True,
)
MODELPACK = Dialect(
    name="modelpack",
    artifact_types=frozenset({f"{_CNCF}.manifest.v1+json", f"{_CNAI}.manifest.v1+json"}),
    config_types=frozenset({f"{_CNCF}.config.v1+json", f"{_CNAI}.config.v1+json"}),
    layer_prefixes=(f"{_CNCF}.", f"{_CNAI}."),
    roles=tuple((f"{base}.{k}", role) for base in (_CNCF, _CNAI) for k, role in _MODELPACK_ROLES),
    facts=(
        ("family", ("descriptor", "family")),
        ("parameter_size", ("config", "paramSize")),
        ("quantization", ("config", "quantization")),
        ("quantization", ("config", "precision")),
        ("format", ("config", "format")),
        ("license", ("descriptor", "licenses")),
        ("capabilities", ("config", "capabilities")),
    ),
    annotated=(("context_length", "io.palan.model.context_length"), ("license", _LICENSES)),
    properties=(
        ("io.palan.serve.defaults", ()),
        ("ml.kitops.modelkit.kitfile", ("model", "parameters")),
    ),
    by_name=True,
    packed=_ARCHIVES,
    unnamed_shards=True,
)
KITOPS = Dialect(
    name="kitops",
    artifact_types=frozenset({f"{_KIT}.manifest.v1+json"}),
    index_types=frozenset({f"{_KIT}.index.v1+json"}),
    config_types=frozenset({f"{_KIT}.config.v1+json"}),
    layer_prefixes=(f"{_KIT}.",),
    roles=(
        (f"{_KIT}.model", Role.WEIGHTS),
        (f"{_KIT}.docs", Role.DOCUMENT),
        (f"{_KIT}.code", Role.OTHER),
        (f"{_KIT}.dataset", Role.OTHER),
        (f"{_KIT}.mcpb", Role.OTHER),
    ),
    facts=(
        ("format", ("model", "format")),
        ("format", ("model", "framework")),
        ("license", ("model", "license")),
        ("license", ("package", "license")),
    ),
    properties=((_CONFIG, ("model", "parameters")),),
    by_name=True,
    packed=_ARCHIVES,
    has_kitfile=True,
)
OMLMD = Dialect(
    name="omlmd",
    artifact_types=frozenset({"application/x-mlmodel"}),
    config_types=frozenset({"application/x-config", "application/x-mlmodel"}),
    layer_prefixes=("application/x-mlmodel",),
    titles=("model_metadata.omlmd.",),
    roles=(("application/x-mlmodel", Role.WEIGHTS),),
    facts=(("format", ("model_format_name",)),),
    annotated=(("format", "model_format_name"), ("license", _LICENSES)),
    origin=(
        ("title", "name"),
        ("authors", "author"),
        ("description", "description"),
        ("source", "uri"),
    ),
    properties=((_CONFIG, ("customProperties",)), ("customProperties+json", ())),
    by_name=True,
    packed=(".tar", "+gzip"),
)
"""And olot's artifacts, which are no images: archives of one file each."""
IMAGE = Dialect(
    name="image",
    config_types=frozenset(
        {
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.docker.container.image.v1+json",
        }
    ),
    layer_prefixes=_LAYERS,
    by_name=True,
    packed=(".tar", ".gzip", "+gzip", "+zstd"),
    root="models/",
)
"""A container image with a model in it; `images` tells which images those are."""
ORAS = Dialect(name="oras", by_name=True, packed=("+gzip", "+zstd"))
"""Any artifact with weights in it, by title or by magic; its media types say nothing."""

DIALECTS = (OLLAMA, DOCKER_AI, MODELPACK, KITOPS, OMLMD)
"""In the order in which they are tried; ORAS is what remains."""

_MARKS = {"io.opendatahub.modelcar.manifest.type": "modelpack", "org.cncf.model.model": "true"}
_ATTESTED = "vnd.docker.reference.type"

_STRANGERS = (
    ("application/vnd.dev.cosign.", "a signature"),
    ("application/vnd.dev.sigstore.", "a signature"),
    ("application/vnd.in-toto", "an attestation"),
    ("application/vnd.cyclonedx", "a bill of materials"),
    ("application/spdx", "a bill of materials"),
    ("application/vnd.cncf.helm.", "a Helm chart"),
    ("application/vnd.wasm.", "a WebAssembly module"),
    ("application/vnd.docker.plugin", "a docker plugin"),
    ("application/vnd.palan.runtime.", "a runtime"),
    ("application/vnd.oci.image.config.", "an ordinary container image"),
    ("application/vnd.docker.container.image.", "an ordinary container image"),
)


def recognise(manifest: Manifest) -> Dialect:
    """The row that this image manifest is written in. Raises ModelError for what is no model.

    Any of artifact type, config type and layer types is enough, because writers forget some.
    The row ORAS may still turn out to hold no model: `Model.read` looks into the layers.
    """
    if manifest.is_index:
        raise ModelError("an index holds models, but is none: choose one of its children")
    config_type = manifest.config.media_type if manifest.config is not None else ""
    for dialect in DIALECTS:
        if (
            manifest.artifact_type in dialect.artifact_types
            or config_type in dialect.config_types
            or any(layer.media_type.startswith(dialect.layer_prefixes) for layer in manifest.layers)
            or dialect.is_titled(manifest)
        ):
            return dialect
    titles = (layer.annotations.get(TITLE, "") for layer in manifest.layers)
    if any(title.lower().endswith((".gguf", ".safetensors")) for title in titles):
        return ORAS
    stranger = _stranger(manifest, config_type)
    if stranger is not None:
        raise ModelError(f"{manifest.digest} is {stranger}, not a model")
    return ORAS


def choose(index: Manifest, architecture: str | None = None) -> Descriptor:
    """Which child of an index is the model: by type and marks, then by its platform.

    `architecture` is Go's word (`amd64`, `arm64`), by default this machine's. The first that fits
    is taken (image-index.md). The child may be an index again. Raises NotFoundError.
    """
    children = [child for child in index.children if _is_candidate(child)]
    told = any(index.artifact_type in dialect.index_types for dialect in DIALECTS)
    models = [child for child in children if told or _is_marked(child.descriptor)]
    wanted = architecture or _machine()
    for fits in (("linux", wanted), None, ("unknown", "unknown")):
        for child in models or children:
            platform = child.platform
            if (platform and (platform.os, platform.architecture)) == fits:
                return child.descriptor
    if models:
        return models[0].descriptor
    raise NotFoundError(
        f"the index {index.digest} has no model and nothing for linux/{wanted} among its "
        f"{len(index.children)} entries"
    )


def _is_candidate(child: Child) -> bool:
    return is_manifest(child.descriptor) and _ATTESTED not in child.descriptor.annotations


def _is_marked(descriptor: Descriptor) -> bool:
    """Whether the index itself says that this child is a model."""
    told = descriptor.annotations
    return any(descriptor.artifact_type in dialect.artifact_types for dialect in DIALECTS) or any(
        told.get(key) == value for key, value in _MARKS.items()
    )


def _machine() -> str:
    import platform  # noqa: PLC0415 - lazy: start-up time

    names = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = platform.machine().lower()
    return names.get(machine, machine)


def _stranger(manifest: Manifest, config_type: str) -> str | None:
    layers = (layer.media_type for layer in manifest.layers[:1])
    told = [manifest.artifact_type or "", *layers, config_type]
    for start, what in _STRANGERS:
        if any(text.startswith(start) for text in told):
            return what
    return None
