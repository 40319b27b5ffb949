"""What tests of pushing share: an image to push, and what must hold on the server whatever happens.

N6  no tag moved, no manifest accepted, unless everything it names is there
N3  no origin but the registry was sent a secret
"""

import contextlib
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from registry import Registry, Sink
from uploads import named

from modelpm import transfer
from modelpm.content import Moved, Observer, Settled, ignore
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.registry.repository import Repository
from tests.memory import Memory


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no cut, gap or doubling leaves as they are."""
    block = hashlib.sha256(seed.to_bytes(8, "big")).digest() * 1024
    return b"".join(
        number.to_bytes(4, "big") + block[4:] for number in range(size // len(block) + 1)
    )[:size]


class Sent(Memory):
    """A source in memory whose content may turn out to be wrong."""

    def __init__(self, *contents: bytes, subject: Descriptor | None = None) -> None:
        super().__init__()
        self.root = self.image(*contents, subject=subject)
        self.wrong: dict[Digest, bytes] = {}

    @contextlib.contextmanager
    def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        with super().fetch(desc, offset) as stream:
            wrong = self.wrong.get(desc.digest)
            yield stream if wrong is None else io.BytesIO(wrong[offset:])


def push(
    source: Memory, repository: Repository, root: Descriptor, tag: str, observe: Observer = ignore
) -> None:
    """Copy a graph to a registry and tag it, as the verb does."""
    transfer.copy(source, repository, root, tag=lambda: repository.tag(root, tag), observe=observe)


@dataclass
class Events:
    """What a copy tells."""

    moved: dict[Digest, int] = field(default_factory=dict)
    settled: dict[Digest, bool] = field(default_factory=dict)

    def __call__(self, event: object) -> None:
        if isinstance(event, Moved):
            self.moved[event.descriptor.digest] = event.offset
        elif isinstance(event, Settled):
            self.settled[event.descriptor.digest] = event.present


class Guarded:
    """A registry as it was, to see what a push has done to it."""

    def __init__(self, registry: Registry, sinks: Sequence[Sink] = ()) -> None:
        self._registry, self._sinks = registry, sinks
        self._tags = self._all_tags()

    def check(self, moved: dict[str, str] | None = None) -> None:
        """N6 and N3. `moved` are the tags that were to be moved, and where to: all or none."""
        content = self._registry.content
        for digest, blob in content.blobs.items():
            algorithm, _, hexadecimal = digest.partition(":")
            assert hashlib.new(algorithm, blob).hexdigest() == hexadecimal
        for raw, _ in content.manifests.values():
            blobs, manifests, _ = named(raw)
            assert all(blob in content.blobs for blob in blobs)
            assert all(manifest in content.manifests for manifest in manifests)
        assert self._all_tags() == self._tags | (moved or {})
        for sink in self._sinks:
            assert sink.secrets == ()

    def _all_tags(self) -> dict[str, str]:
        return {
            f"{repository}:{tag}": digest
            for repository, tags in self._registry.content.tags.items()
            for tag, digest in tags.items()
        }
