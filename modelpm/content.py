"""What it means to be readable and writable by digest; the checked read; the walk of a graph.

A place that holds content is a `Source`; one that can be written is a `Target`. What `fetch`
yields is UNVERIFIED: whoever keeps bytes verifies them, and whoever interprets bytes reads them
through `read`, which verifies.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol, runtime_checkable

from modelpm.errors import DigestMismatchError, InvalidManifestError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import MAX_BYTES, Manifest, is_manifest

MAX_NESTING = 4
"""Manifests below manifests: an index of indexes of indexes of images is the deepest we follow."""

MAX_MANIFESTS = 1_000
"""Manifests in one graph."""

MAX_GRAPH_BYTES = 16 * 2**20
"""Bytes of all manifests of one graph: whoever copies it keeps them in memory, and all leaves."""


class Fetcher(Protocol):
    """Bytes can be read from here."""

    def fetch(self, desc: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """Open the content at a byte offset. UNVERIFIED.

        The stream may yield fewer or more bytes than `desc.size` says. Raises NotFoundError where
        there is none, and the place's own error where it cannot be read; reading may raise too.
        """
        ...


class Sink(Protocol):
    """Where the bytes of one blob go, in any order and from several threads."""

    def missing(self) -> list[tuple[int, int]]:
        """The ranges [start, stop) that are not here yet, in order.

        Raises where nothing is to come any more; whoever waits asks now and then.
        """
        ...

    def write(self, offset: int, chunk: bytes) -> None:
        """Take bytes that begin at `offset`. Each byte is written once."""
        ...


@runtime_checkable
class Downloader(Fetcher, Protocol):
    """A place that knows by itself how its bytes come fastest."""

    def download(self, desc: Descriptor, sink: Sink) -> None:
        """Bring all that the sink misses. UNVERIFIED, but no byte more than `desc.size`.

        Raises as `fetch`, and DigestMismatchError when the size turns out to be another.
        """
        ...


class Source(Fetcher, Protocol):
    """A place to read from, in which content has names."""

    def resolve(self, reference: str) -> Descriptor:
        """What a tag, a digest or a listed name points at now. Raises NotFoundError."""
        ...

    def referrers(self, subject: Descriptor) -> Iterable[Descriptor]:
        """The manifests whose subject this is (distribution spec, "Listing Referrers")."""
        ...


class Target(Source, Protocol):
    """A place that can be written."""

    def exists(self, desc: Descriptor) -> bool:
        """Whether the content is here, whole, so that `push` would have nothing to do."""
        ...

    def push(self, desc: Descriptor, source: Fetcher) -> None:
        """Take the content from `source`, verified. Idempotent.

        The target chooses the offset, opens the source as often as it needs, or not at all.
        Raises DigestMismatchError when the bytes are wrong; then nothing is kept under their name.
        """
        ...

    def tag(self, desc: Descriptor, reference: str) -> None:
        """Point a name at a manifest that is here. Moves the name if it exists."""
        ...

    def hold(self, descs: Iterable[Descriptor]) -> AbstractContextManager[None]:
        """Promise that none of this content is collected here until the context ends.

        Whoever copies holds what it needs before it asks `exists` for the first time. Raises the
        target's own error where it has no room for what of this is not here yet.
        """
        ...


@dataclass(frozen=True, slots=True)
class Packed:
    """One regular file inside a layer that is an archive.

    `name` is as the archive has it: UNSAFE as a path, though relative and without `..`; it is
    empty where the layer is one compressed file, which the archive's own annotations name. The
    descriptor is that of the file's own bytes; its media type is `application/octet-stream`.
    """

    name: str
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class Moved:
    """Progress of one piece of content: `offset` of its `descriptor.size` bytes have arrived."""

    descriptor: Descriptor
    offset: int


@dataclass(frozen=True, slots=True)
class Settled:
    """One piece of content is verified and in place; `present` if it was there before."""

    descriptor: Descriptor
    present: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """A transfer waits `seconds` before it goes on, and why, in words."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """A stage of a verb begins.

    One of `resolving`, `copying`, `unpacking`, `hashing`, `tagging`, `pruning` and `done`.
    `subject` is the name worked on, for `hashing` the file's, else empty. `leaves` are the pieces
    of content that the stage will settle; the one of `hashing` only stands for its file. What is
    `Moved` while a layer is unpacked is its share of all the passes over it.
    """

    stage: str
    subject: str = ""
    leaves: tuple[Descriptor, ...] = ()


Event = Moved | Settled | Waiting | Step
Observer = Callable[[Event], None]
"""Told of events, in the order of each piece of content but from several threads at once."""


def ignore(_event: Event) -> None:
    """The observer that does not look."""


def read(fetcher: Fetcher, desc: Descriptor, limit: int = MAX_BYTES) -> bytes:
    """The whole content, checked against its descriptor.

    Raises DigestMismatchError when size or digest differ, InvalidManifestError when the
    descriptor claims more than `limit` bytes, and what `fetch` raises.
    """
    if desc.size > limit:
        raise InvalidManifestError(f"{desc.digest} claims {desc.size} bytes; the limit is {limit}")
    with fetcher.fetch(desc) as stream:
        content = b"".join(_at_most(stream, desc.size + 1))
    verify_size(desc, len(content))
    verify_digest(desc, Digest(desc.digest.algorithm, _hash(desc, content)))
    return content


def read_manifest(fetcher: Fetcher, desc: Descriptor) -> Manifest:
    """The manifest or index that the descriptor points at. Raises as `read` and `parse` do."""
    return Manifest.parse(read(fetcher, desc), desc.media_type)


def walk(
    fetcher: Fetcher, root: Descriptor, chosen: Callable[[Manifest], Iterable[Descriptor]]
) -> Iterator[tuple[Descriptor, Manifest]]:
    """Each manifest of a graph once, children before parents.

    `chosen` gives the successors of a manifest to go on with; `all_successors` takes all.
    Bounded: raises InvalidManifestError past MAX_NESTING, MAX_MANIFESTS or MAX_GRAPH_BYTES.
    """
    seen: dict[Digest, int] = {}

    def visit(desc: Descriptor, depth: int) -> Iterator[tuple[Descriptor, Manifest]]:
        if desc.digest in seen:
            return
        seen[desc.digest] = desc.size
        if depth > MAX_NESTING or len(seen) > MAX_MANIFESTS:
            raise InvalidManifestError(f"{root.digest} holds too many manifests, or too deep")
        if sum(seen.values()) > MAX_GRAPH_BYTES:
            raise InvalidManifestError(f"{root.digest} holds more than {MAX_GRAPH_BYTES} bytes")
        manifest = read_manifest(fetcher, desc)
        for successor in chosen(manifest):
            if is_manifest(successor):
                yield from visit(successor, depth + 1)
        yield desc, manifest

    return visit(root, 1)


def all_successors(manifest: Manifest) -> Iterable[Descriptor]:
    """Everything that the manifest names below it."""
    return manifest.successors


def verify_size(desc: Descriptor, size: int) -> None:
    """Raises DigestMismatchError unless `size` is the descriptor's."""
    if size != desc.size:
        what = f"more than {desc.size}" if size > desc.size else str(size)
        raise DigestMismatchError(f"{desc.digest}: {what} bytes arrived instead of {desc.size}")


def verify_digest(desc: Descriptor, actual: Digest) -> None:
    """Raises DigestMismatchError unless `actual` is the descriptor's digest."""
    if actual != desc.digest:
        raise DigestMismatchError(f"{desc.digest}: the bytes have the digest {actual}")


def _hash(desc: Descriptor, content: bytes) -> str:
    return hashlib.new(desc.digest.algorithm, content).hexdigest()


def _at_most(stream: BinaryIO, count: int) -> Iterator[bytes]:
    while count > 0 and (chunk := stream.read(min(count, 2**20))):
        count -= len(chunk)
        yield chunk
