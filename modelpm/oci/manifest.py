"""The grammar of manifests: raw bytes kept for ever, read strictly beside them.

Source: OCI image spec 1.1, manifest.md and image-index.md; Docker's image manifest version 2,
schema 2, which has the same shape; the artifact manifest of the spec's release candidates, which
was withdrawn, and has `blobs` and no config. Limits: 4 MiB, JSON depth 32, 10,000 entries.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from modelpm.errors import InvalidManifestError
from modelpm.oci.descriptor import (
    NO_ANNOTATIONS,
    Descriptor,
    Digest,
    parse_annotations,
    parse_artifact_type,
    parse_media_type,
)

MAX_BYTES = 4 * 2**20
MAX_DEPTH = 32
MAX_ENTRIES = 10_000

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
IMAGE_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = IMAGE_TYPES | INDEX_TYPES | {OCI_ARTIFACT}

_FOREIGN = ("application/vnd.docker.image.rootfs.foreign.", "nondistributable")


@dataclass(frozen=True, slots=True)
class Platform:
    """The machine that a child of an index is meant for (image-index.md)."""

    os: str
    architecture: str


@dataclass(frozen=True, slots=True)
class Child:
    """One entry of an index: a descriptor and, where told, a platform."""

    descriptor: Descriptor
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest or an index, with the exact bytes that it was read from.

    An image manifest has a `config` and `layers`; an index has `children`. Never both. A withdrawn
    artifact manifest has `layers` only.
    """

    raw: bytes = field(repr=False)
    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    children: tuple[Child, ...]
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=lambda: NO_ANNOTATIONS, hash=False)

    @classmethod
    def parse(cls, raw: bytes, media_type: str | None = None) -> "Manifest":
        """Read a manifest's bytes. Raises InvalidManifestError.

        `media_type` is what the one who handed over the bytes calls them; it must not contradict
        the document where it names a manifest type (CVE-2021-41190).
        """
        return _parsed(raw, media_type)

    @property
    def digest(self) -> Digest:
        """The sha256 of the exact bytes."""
        return Digest.of(self.raw)

    @property
    def descriptor(self) -> Descriptor:
        """Points at these bytes."""
        return Descriptor(self.media_type, self.digest, len(self.raw), self.artifact_type)

    @property
    def successors(self) -> tuple[Descriptor, ...]:
        """All that this manifest needs, leaves first within it: config, layers or children."""
        config = () if self.config is None else (self.config,)
        return (*config, *self.layers, *(child.descriptor for child in self.children))

    @property
    def is_index(self) -> bool:
        """Whether this lists manifests rather than content."""
        return self.media_type in INDEX_TYPES

    @property
    def size(self) -> int:
        """Bytes of config and layers, each digest counted once."""
        return sum({desc.digest: desc.size for desc in self.successors}.values())


def is_manifest(descriptor: Descriptor) -> bool:
    """Whether the descriptor points at a manifest or an index rather than at a leaf."""
    return descriptor.media_type in MANIFEST_TYPES


def load_json(raw: bytes) -> object:
    """Read JSON that came from outside: UTF-8, no duplicate keys, no NaN, depth at most 32.

    Raises InvalidManifestError.
    """
    try:
        value: object = json.loads(
            raw.decode("utf-8"), object_pairs_hook=unique_keys, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise InvalidManifestError(f"not valid JSON: {error!s:.200}") from None
    _check_depth(value)
    return value


@functools.lru_cache(maxsize=2)
def _parsed(raw: bytes, media_type: str | None) -> Manifest:
    """One pull asks several times for what one manifest says, or an index and its child."""
    document = _load(raw)
    kind = _media_type(document, media_type)
    is_artifact = kind == OCI_ARTIFACT
    if not is_artifact and document.get("schemaVersion") != 2:
        raise InvalidManifestError("the manifest's schemaVersion is not 2")
    is_index = kind in INDEX_TYPES
    alien = [] if is_index else ["manifests"]
    alien += [] if kind in IMAGE_TYPES else ["config", "layers"]
    if any(key in document for key in (*alien, "fsLayers")):
        raise InvalidManifestError("the manifest is ambiguous: an image and an index at once")
    children = _children(document) if is_index else ()
    has_config = kind in IMAGE_TYPES
    config = Descriptor.from_json(document.get("config")) if has_config else None
    layers = () if is_index else _layers(document, "blobs" if is_artifact else "layers")
    subject = document.get("subject")
    manifest = Manifest(
        raw=raw,
        media_type=kind,
        config=config,
        layers=layers,
        children=children,
        artifact_type=parse_artifact_type(document.get("artifactType")),
        subject=None if subject is None else Descriptor.from_json(subject),
        annotations=parse_annotations(document.get("annotations")),
    )
    _check_sizes(manifest.successors)
    return manifest


def _load(raw: bytes) -> dict[str, object]:
    if len(raw) > MAX_BYTES:
        raise InvalidManifestError(f"the manifest has more than {MAX_BYTES} bytes")
    document = load_json(raw)
    if not isinstance(document, dict):
        raise InvalidManifestError("the manifest is not a JSON object")
    return document


def unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object of these members, for json's `object_pairs_hook`. Raises ValueError."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has the same key twice")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_depth(value: object) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            item
            for holder in level
            for item in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise InvalidManifestError(f"the JSON is nested more than {MAX_DEPTH} deep")


def _media_type(document: dict[str, object], told: str | None) -> str:
    """The document's own word first, then the hint, then the shape (old KitOps has no word)."""
    own = document.get("mediaType")
    if own is None:
        if told in MANIFEST_TYPES:
            return told
        return OCI_INDEX if "manifests" in document else OCI_MANIFEST
    kind = parse_media_type(own)
    if kind not in MANIFEST_TYPES:
        raise InvalidManifestError(f"not a manifest that modelpm reads: {kind}")
    if told in MANIFEST_TYPES and told != kind:
        raise InvalidManifestError(f"the manifest says it is {kind} but was served as {told}")
    return kind


def _entries(document: dict[str, object], key: str) -> list[object]:
    entries = document.get(key)
    if not isinstance(entries, list):
        raise InvalidManifestError(f"the manifest has no list of {key}")
    if len(entries) > MAX_ENTRIES:
        raise InvalidManifestError(f"the manifest has more than {MAX_ENTRIES} {key}")
    return entries


def _layers(document: dict[str, object], key: str) -> tuple[Descriptor, ...]:
    layers = tuple(map(Descriptor.from_json, _entries(document, key)))
    for layer in layers:
        if any(mark in layer.media_type for mark in _FOREIGN):
            raise InvalidManifestError(f"{layer.digest} is a foreign layer; refused")
    return layers


def _children(document: dict[str, object]) -> tuple[Child, ...]:
    return tuple(map(_child, _entries(document, "manifests")))


def _child(value: object) -> Child:
    descriptor = Descriptor.from_json(value)
    platform = value.get("platform") if isinstance(value, dict) else None
    if platform is None:
        return Child(descriptor)
    if not isinstance(platform, dict):
        raise InvalidManifestError("a platform is not a JSON object")
    os, architecture = platform.get("os"), platform.get("architecture")
    if not isinstance(os, str) or not isinstance(architecture, str):
        raise InvalidManifestError("a platform has no os or no architecture")
    return Child(descriptor, Platform(os, architecture))


def _check_sizes(descriptors: Iterable[Descriptor]) -> None:
    sizes: dict[Digest, int] = {}
    for descriptor in descriptors:
        if sizes.setdefault(descriptor.digest, descriptor.size) != descriptor.size:
            raise InvalidManifestError(f"{descriptor.digest} is named with two sizes")
