"""Artifacts in memory: manifests of any dialect, and the content that they name."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from modelpm.errors import NotFoundError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import OCI_INDEX, OCI_MANIFEST, Manifest

EMPTY = "application/vnd.oci.empty.v1+json"
OCTETS = "application/octet-stream"
GGUF = b"GGUF" + bytes(60)


class Drip(io.BytesIO):
    """A stream that gives one byte at a time, as a slow network may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(1, 1 if size is None or size < 0 else size))


@dataclass
class Memory:
    """A Fetcher of what was put into it; `fetched` counts what was asked for."""

    content: dict[Digest, bytes] = field(default_factory=dict)
    fetched: list[Digest] = field(default_factory=list)

    def put(self, content: bytes, media_type: str, **annotations: str) -> Descriptor:
        """Keep content; where it is."""
        digest = Digest.of(content)
        self.content[digest] = content
        told = {key.replace("__", "+").replace("_", "."): v for key, v in annotations.items()}
        return Descriptor(media_type, digest, len(content), annotations=told)

    @contextmanager
    def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        self.fetched.append(desc.digest)
        if desc.digest not in self.content:
            raise NotFoundError(f"{desc.digest} is not here")
        with Drip(self.content[desc.digest][offset:]) as stream:
            yield stream


def named(descriptor: Descriptor, annotations: Mapping[str, str]) -> Descriptor:
    """The same with other annotations."""
    return Descriptor(
        descriptor.media_type, descriptor.digest, descriptor.size, annotations=annotations
    )


def image(
    config: Descriptor, layers: Sequence[Descriptor], artifact_type: str | None = None
) -> Manifest:
    """An image manifest."""
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    if artifact_type is not None:
        document["artifactType"] = artifact_type
    return Manifest.parse(json.dumps(document).encode())


def index(*children: Mapping[str, object]) -> Manifest:
    """An index; each child is the JSON of its entry, of which only what matters is given."""
    entries = [
        {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"%d" % i)), "size": i + 1, **child}
        for i, child in enumerate(children)
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Manifest.parse(json.dumps(document).encode())
