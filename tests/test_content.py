"""The checked read, and the walk of a graph with its bounds."""

import contextlib
import io
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from modelpm.content import (
    MAX_GRAPH_BYTES,
    MAX_MANIFESTS,
    MAX_NESTING,
    Downloader,
    Moved,
    all_successors,
    ignore,
    read,
    read_manifest,
    verify_digest,
    verify_size,
    walk,
)
from modelpm.errors import DigestMismatchError, InvalidManifestError, NotFoundError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import MAX_BYTES, OCI_INDEX, OCI_MANIFEST
from tests.memory import LAYER, Memory


class Drip(io.BytesIO):
    """A stream that gives at most three bytes at a time, and counts what it gave."""

    given = 0

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(3 if size is None or size < 0 else min(size, 3))
        self.given += len(chunk)
        return chunk


class One:
    """A fetcher of one stream."""

    def __init__(self, content: bytes) -> None:
        self.stream = Drip(content)

    @contextlib.contextmanager
    def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        self.stream.seek(offset)
        yield self.stream


@pytest.mark.parametrize("content", [b"", b"x", b"0123456789" * 10])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_right_content_is_read_whole(content: bytes, algorithm: str) -> None:
    desc = Descriptor(LAYER, Digest.of(content, algorithm), len(content))
    assert read(One(content), desc) == content


@pytest.mark.parametrize(
    "served", [b"", b"right", b"right conten", b"right content!", b"wrong content", b"x" * 1_000]
)
def test_wrong_content_is_refused_and_not_read_on(served: bytes) -> None:
    desc = Descriptor.of(b"right content", LAYER)
    source = One(served)
    with pytest.raises(DigestMismatchError):
        read(source, desc)
    assert source.stream.given <= desc.size + 1


def test_a_read_at_the_limit_and_past_it() -> None:
    desc = Descriptor.of(b"12345", LAYER)
    assert read(One(b"12345"), desc, limit=5) == b"12345"
    source = One(b"12345")
    with pytest.raises(InvalidManifestError, match="limit is 4"):
        read(source, desc, limit=4)
    assert source.stream.given == 0
    with pytest.raises(InvalidManifestError):
        read(source, Descriptor(LAYER, desc.digest, MAX_BYTES + 1))


def test_size_and_digest_say_what_is_wrong() -> None:
    desc = Descriptor.of(b"abc", LAYER)
    verify_size(desc, 3)
    verify_digest(desc, Digest.of(b"abc"))
    with pytest.raises(DigestMismatchError, match="2 bytes arrived instead of 3"):
        verify_size(desc, 2)
    with pytest.raises(DigestMismatchError, match="more than 3"):
        verify_size(desc, 4)
    with pytest.raises(DigestMismatchError, match=Digest.of(b"abd").hex):
        verify_digest(desc, Digest.of(b"abd"))


def test_a_manifest_is_read_as_what_it_is_called() -> None:
    memory = Memory()
    root = memory.image(b"layer")
    assert read_manifest(memory, root).descriptor == root
    with pytest.raises(InvalidManifestError, match="was served as"):
        read_manifest(memory, Descriptor(OCI_INDEX, root.digest, root.size))


def test_the_walk_gives_each_manifest_once_and_children_first() -> None:
    memory = Memory()
    shared = memory.image(b"a")
    inner = memory.index(shared, memory.image(b"b"))
    root = memory.index(inner, shared, memory.image(b"c"), inner)
    walked = [desc.digest for desc, _ in walk(memory, root, all_successors)]
    assert len(walked) == len(set(walked)) == 5
    assert walked[-1] == root.digest
    assert walked.index(shared.digest) < walked.index(inner.digest)
    assert len(memory.fetched) == 5


def test_the_walk_goes_only_where_it_is_told() -> None:
    memory = Memory()
    root = memory.index(memory.image(b"a"), memory.image(b"b"))
    walked = list(walk(memory, root, lambda manifest: manifest.successors[:1]))
    assert len(walked) == 2


def nested(memory: Memory, depth: int) -> Descriptor:
    root = memory.image(b"layer")
    for _ in range(depth - 1):
        root = memory.index(root)
    return root


def test_nesting_at_the_limit_and_past_it() -> None:
    memory = Memory()
    assert len(list(walk(memory, nested(memory, MAX_NESTING), all_successors))) == MAX_NESTING
    for depth in (MAX_NESTING + 1, 40):
        with pytest.raises(InvalidManifestError, match="too deep"):
            list(walk(memory, nested(memory, depth), all_successors))


def test_the_number_of_manifests_at_the_limit_and_past_it() -> None:
    memory = Memory()
    images = [memory.image(b"%d" % number) for number in range(MAX_MANIFESTS)]
    root = memory.index(*images[1:])
    assert len(list(walk(memory, root, all_successors))) == MAX_MANIFESTS
    with pytest.raises(InvalidManifestError, match="too many"):
        list(walk(memory, memory.index(*images), all_successors))


def test_the_bytes_of_a_graph_at_the_limit_and_past_it() -> None:
    memory = Memory()
    raw = memory.content[memory.image(b"layer").digest]
    count = MAX_GRAPH_BYTES // MAX_BYTES

    def padded(number: int, size: int) -> Descriptor:
        return memory.leaf(raw + b" " * (size - len(raw) - number) + b"\n" * number, OCI_MANIFEST)

    wide = [padded(number, MAX_BYTES) for number in range(count - 1)]
    index_size = memory.index(*wide, padded(0, MAX_BYTES - 9_000)).size
    full = memory.index(*wide, padded(0, MAX_BYTES - index_size))
    assert full.size == index_size
    assert len(list(walk(memory, full, all_successors))) == count + 1
    over = memory.index(*wide, padded(0, MAX_BYTES - index_size + 1))
    with pytest.raises(InvalidManifestError, match="bytes"):
        list(walk(memory, over, all_successors))


def test_a_source_that_lies_about_a_child_ends_the_walk() -> None:
    memory = Memory()
    child = memory.image(b"a")
    root = memory.index(child)
    memory.content[child.digest] = memory.content[root.digest]  # a cycle, if nobody verified
    with pytest.raises(DigestMismatchError):
        list(walk(memory, root, all_successors))
    del memory.content[child.digest]
    with pytest.raises(NotFoundError):
        list(walk(memory, root, all_successors))


def test_events_can_be_left_unseen_and_downloading_is_an_extra() -> None:
    ignore(Moved(Descriptor.of(b"", LAYER), 0))
    assert not isinstance(Memory(), Downloader)
