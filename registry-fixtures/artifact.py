"""An artifact in memory, and its form on disk: an OCI image layout."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A manifest or index, and the blobs and manifests that it names, by digest."""

    manifest: bytes
    media_type: str
    blobs: Mapping[str, bytes] = field(repr=False)
    artifact_type: str | None = None

    @property
    def digest(self) -> str:
        """The sha256 of the manifest."""
        return digest_of(self.manifest)

    @property
    def descriptor(self) -> Json:
        """The JSON object that points at the manifest."""
        value = described(self.media_type, self.manifest)
        return value | ({"artifactType": self.artifact_type} if self.artifact_type else {})

    @property
    def all_blobs(self) -> dict[str, bytes]:
        """The blobs and the manifest itself."""
        return {**self.blobs, self.digest: self.manifest}


def digest_of(content: bytes) -> str:
    """`sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def described(media_type: str, content: bytes, **members: object) -> Json:
    """A descriptor of this content, with further members after its size."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)} | members


def compact(value: object) -> bytes:
    """JSON without a space, keys in their own order."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def image(
    config: Json, layers: Iterable[Json], contents: Iterable[bytes], **members: Any
) -> Artifact:
    """An OCI image manifest over these descriptors; `contents` are the blobs that they name."""
    kind = members.get("artifactType")
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
    document |= {"artifactType": kind} if kind else {}
    document |= {"config": config, "layers": list(layers)} | members
    blobs = {digest_of(content): content for content in contents}
    return Artifact(compact(document), OCI_MANIFEST, blobs, kind)


def write_layout(folder: Path, artifacts: Mapping[str, Artifact]) -> None:
    """Write an OCI image layout 1.1 of artifacts by tag, in place of what the folder held."""
    shutil.rmtree(folder, ignore_errors=True)
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for artifact in artifacts.values():
        for digest, content in artifact.all_blobs.items():
            (blobs / digest.removeprefix("sha256:")).write_bytes(content)
    entries = [
        artifact.descriptor | {"annotations": {REF_NAME: tag}}
        for tag, artifact in artifacts.items()
    ]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    (folder / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_bytes(compact(index))
