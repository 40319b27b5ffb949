"""Layers that are archives are taken apart: each file in them becomes a blob under its own digest.

So the same weights are stored once, whatever they came in, and engines get plain files. It happens
after a copy and before the name, under the same lease; nothing gets a name that is refused here.
"""

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from modelpm.content import (
    Downloader,
    Fetcher,
    Moved,
    Observer,
    Packed,
    Settled,
    Step,
    ignore,
    read_manifest,
)
from modelpm.errors import (
    ContentError,
    InvalidReferenceError,
    ModelError,
    RegistryError,
)
from modelpm.model import archive
from modelpm.model.archive import Member
from modelpm.model.dialects import OMLMD
from modelpm.model.parts import MAX_PARTS
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import Manifest
from modelpm.store.layout import Store
from modelpm.store.recipes import FILE, MAX_FILES, MAX_NAMES

MAX_AROUND = 2**19
"""Bytes of headers and padding around one file, to fetch them alone."""

_PACKED = (".tar", ".tar.gz", ".tar.gzip", ".tar.zstd", "+gzip", "+zstd")
_ONE_FILE = (".raw+gzip", ".raw+zstd")
_LAYERS = ("application/vnd.oci.image.layer.v1.", "application/vnd.docker.image.rootfs.diff.")
_ENDINGS = (".tar", ".tgz", ".tar.gz", ".tar.zst", ".tar.bz2", ".tar.xz")
_IMAGES = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
_MODELS = "models"
"""Where an image has its model (KServe's modelcars, RamaLama)."""

_TITLE = "org.opencontainers.image.title"
_UNPACK = "io.deis.oras.content.unpack"
_TOLD_DIGEST = "olot.layer.content.digest"
_TOLD_TYPE = "olot.layer.content.type"
_CHUNK = 2**18
_TOLD_EVERY = 2**20
"""Bytes from one event to the next: a decompressor reads a few kilobytes at a time."""

Open = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens the plain archive at its beginning."""

Told = Callable[[int], None]
"""Hears how far something has been read."""


def unpack(store: Store, root: Descriptor, observe: Observer = ignore) -> None:
    """Take apart the archives among the layers of a manifest that is here with all it needs.

    Idempotent; what is known already costs next to nothing. Raises ModelError for an archive that
    breaks the rules (`archive.members`), ContentError, and StoreError.
    """
    manifest = read_manifest(store, root)
    layers = {layer.digest: layer for layer in _archives(manifest)}.values()
    packed = sum(layer.size for layer in layers)
    room = _Room(root, archive.unpacked_limit(packed), MAX_PARTS)
    below = _folder(manifest)
    todo: list[_Layer] = []
    for layer in layers:
        files = store.unpacked(layer) if store.archives.knows(layer, below) else None
        if files is None:
            todo += filter(None, [_Layer.find(store, layer)])
        else:
            store.archives.settle(layer)
            room.take(files)
    if todo:
        observe(Step("unpacking", leaves=tuple(layer.desc for layer in todo)))
    for each in todo:
        room.take(_unpack(each, below, room.size, observe))
        observe(Settled(each.desc, present=False))


def spare(source: Fetcher, store: Store, root: Descriptor) -> None:
    """Make the layers that are known files with headers around them, if the files are here.

    Only the headers are fetched. What an annotation says is not believed: a layer whose digest
    does not come out is left to be fetched as a whole, and so is any that raises doubts.
    """
    if not isinstance(source, Downloader):
        return
    manifest = read_manifest(source, root)
    for layer in {layer.digest: layer for layer in manifest.layers}.values():
        told = _told_digest(layer)
        file = store.archives.file(told) if told and is_packed(layer) else None
        if file is not None and not store.exists(layer):
            with contextlib.suppress(ContentError, ModelError, RegistryError), store.hold([file]):
                _spare(source, store, layer, file, _folder(manifest))


def is_packed(layer: Descriptor) -> bool:
    """Whether a layer's media type says that it is an archive, or one compressed file.

    The types of images are also given to any file, and so to files that are archives themselves.
    """
    if not layer.media_type.endswith(_PACKED):
        return False
    told = layer.annotations
    is_file = layer.media_type.startswith(_LAYERS) and told.get(_TITLE, "").endswith(_ENDINGS)
    return not is_file or told.get(_UNPACK) == "true" or _TOLD_DIGEST in told


def _archives(manifest: Manifest) -> list[Descriptor]:
    """The layers that are archives; omlmd gives its own the names of archives, too."""
    if OMLMD.is_titled(manifest):
        return [layer for layer in manifest.layers if layer.media_type.endswith(_PACKED)]
    return list(filter(is_packed, manifest.layers))


def _folder(manifest: Manifest) -> str:
    """The only folder of the archives that counts; empty for all."""
    is_image = manifest.config is not None and manifest.config.media_type in _IMAGES
    return _MODELS if is_image and not OMLMD.is_titled(manifest) else ""


@dataclass(slots=True)
class _Room:
    """What the layers of one model may still unpack to, all together."""

    root: Descriptor
    size: int
    files: int

    def take(self, files: tuple[Packed, ...]) -> None:
        """A layer holds these. Raises ModelError where they are too many."""
        self.size -= sum(file.descriptor.size for file in files)
        self.files -= len(files)
        if self.files < 0:
            raise ModelError(
                f"the archives of {self.root.digest} have more than {MAX_PARTS:,} files"
            )


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer that is an archive, or one compressed file; `how` is as `archive.packing` tells."""

    store: Store
    desc: Descriptor
    how: str
    is_tar: bool = True

    @classmethod
    def find(cls, store: Store, desc: Descriptor) -> "_Layer | None":
        """The layer, if its bytes are such. Raises ModelError."""
        with store.fetch(desc) as stream:
            how = archive.packing(_head(stream))
        if how is None:
            return None
        layer = cls(store, desc, how)
        with layer.open(archive.unpacked_limit(desc.size)) as stream:
            is_tar = archive.packing(_head(stream)) == "tar"
        if not is_tar and not desc.media_type.endswith(_ONE_FILE):
            return None
        return replace(layer, is_tar=is_tar)

    @contextlib.contextmanager
    def open(self, limit: int, told: Told = lambda _position: None) -> Iterator[BinaryIO]:
        """The plain archive, or the file; `told` hears how far the layer itself is read."""
        with self.store.fetch(self.desc) as inner:
            stream = cast("BinaryIO", _Followed(inner, told))
            if self.how == "tar":
                yield stream
            else:
                yield cast("BinaryIO", archive.decompressed(stream, self.how, limit))


class _Followed:
    """A stream that tells how far it has been read: as much of one as is used here."""

    def __init__(self, stream: BinaryIO, told: Told) -> None:
        self._stream = stream
        self._told = told
        self.seekable, self.tell, self.seek = stream.seekable, stream.tell, stream.seek

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes."""
        chunk = self._stream.read(size)
        self._told(self._stream.tell())
        return chunk


@dataclass(slots=True)
class _Passes:
    """Tells how far so many passes over a layer are, as the share of its bytes that is done."""

    desc: Descriptor
    count: int
    observe: Observer
    begun: int = 0
    offset: int = -_TOLD_EVERY

    def next(self) -> Told:
        """One more pass begins: whom to tell how far it is."""
        before, self.begun = self.begun, self.begun + 1

        def told(position: int) -> None:
            offset = (before * self.desc.size + position) // self.count
            if offset >= self.offset + _TOLD_EVERY:
                self.offset = offset
                self.observe(Moved(self.desc, offset))

        told(0)
        return told


def _unpack(layer: _Layer, below: str, room: int, observe: Observer) -> tuple[Packed, ...]:
    """Find the files, hash them, keep those that are not here, and note them all.

    `room` are the bytes that the model's other layers have left to this one.
    """
    store, desc, is_plain = layer.store, layer.desc, layer.how == "tar"
    limit = desc.size if is_plain else min(archive.unpacked_limit(desc.size), max(0, room))
    # One to find the files, one to keep them, and of a plain archive one to see what they make.
    passes = _Passes(desc, 3 if is_plain else 2, observe)

    def opened() -> AbstractContextManager[BinaryIO]:
        return layer.open(limit, passes.next())

    found = _survey(opened, limit, below, is_tar=layer.is_tar)
    if found is None:
        return ()
    files = tuple(file for _, file in found)
    with store.hold([file.descriptor for file in files]):
        _take(store, opened, found)
        if not all(store.archives.file(file.descriptor.digest) for file in files):
            return files  # one is an archive that is itself kept as its files
        if is_plain:
            placed = [(member.offset, file) for member, file in found]
            store.archives.split(desc, placed, below, passes.next())
        else:
            store.archives.note(desc, files, below)
    return files


def _survey(
    opened: Open, limit: int, below: str, *, is_tar: bool
) -> list[tuple[Member, Packed]] | None:
    """Each file with its digest; None where there are too many of them.

    All of it is read before any of it is kept, so nothing of a bad archive ever is.
    """
    found: list[tuple[Member, Packed]] = []
    names = 0
    with opened() as stream:
        for member in archive.members(stream, limit, below) if is_tar else [Member("", 0, -1)]:
            names += len(member.name)
            if len(found) == MAX_FILES or names > MAX_NAMES:
                return None
            digest, size = _hash(stream, member.size)
            desc = Descriptor(FILE, digest, size)
            found.append((Member(member.name, member.offset, size), Packed(member.name, desc)))
    return found


def _take(store: Store, opened: Open, found: list[tuple[Member, Packed]]) -> None:
    """Keep the files that are not here, in one pass."""
    missing = [pair for pair in found if not store.exists(pair[1].descriptor)]
    if not missing:
        return
    with opened() as stream:
        for member, file in missing:
            if not store.exists(file.descriptor):  # the same file may be there twice
                store.push(file.descriptor, _Inside(stream, member))


@dataclass(frozen=True, slots=True)
class _Inside:
    """A fetcher of one file in an archive that is open; the stream may only go forward."""

    archive: BinaryIO
    member: Member

    @contextlib.contextmanager
    def fetch(self, _desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        start = self.member.offset + offset
        if self.archive.seekable():
            self.archive.seek(start)
        while (left := start - self.archive.tell()) > 0:
            if not self.archive.read(min(left, _CHUNK)):
                break
        yield cast("BinaryIO", _Part(self.archive, self.member.size - offset))


class _Part(io.RawIOBase):
    """The next so many bytes of a stream."""

    def __init__(self, stream: BinaryIO, count: int) -> None:
        super().__init__()
        self._stream = stream
        self._left = count

    def readable(self) -> bool:
        """True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes."""
        chunk = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(chunk)
        return chunk


def _hash(stream: BinaryIO, size: int) -> tuple[Digest, int]:
    """The digest of the next `size` bytes, or with -1 of all. Raises ModelError for fewer."""
    hasher = hashlib.sha256()
    position = 0
    while position != size and (
        chunk := stream.read(_CHUNK if size < 0 else min(_CHUNK, size - position))
    ):
        hasher.update(chunk)
        position += len(chunk)
    if size not in {-1, position}:
        raise ModelError("the archive ends in the middle of a member")
    return Digest("sha256", hasher.hexdigest()), position


def _head(stream: BinaryIO) -> bytes:
    head = b""
    while len(head) < 512 and (chunk := stream.read(512 - len(head))):
        head += chunk
    return head


# Layers that need not be fetched.


def _told_digest(layer: Descriptor) -> Digest | None:
    """The digest of the one file in a layer, as an annotation tells it."""
    if layer.annotations.get(_TOLD_TYPE, "file") != "file":
        return None
    told = layer.annotations.get(_TOLD_DIGEST, "")
    try:
        return Digest.parse(told if ":" in told else f"sha256:{told}")
    except InvalidReferenceError:
        return None


class _Edges:
    """A sink that wants only the first and the last `count` bytes of a blob."""

    def __init__(self, size: int, count: int) -> None:
        self.first, self.last = bytearray(count), bytearray(count)
        self._ranges = ((0, count, self.first), (size - count, size, self.last))

    def missing(self) -> list[tuple[int, int]]:
        """Both ends, however much of them is here."""
        return [(start, stop) for start, stop, _ in self._ranges]

    def write(self, offset: int, chunk: bytes) -> None:
        """Take bytes of one end; others are none that were asked for, and are dropped."""
        for start, stop, edge in self._ranges:
            if start <= offset and offset + len(chunk) <= stop:
                edge[offset - start : offset - start + len(chunk)] = chunk


def _spare(
    source: Downloader, store: Store, layer: Descriptor, file: Descriptor, below: str
) -> None:
    """Fetch what is around the file, and note how both make the layer."""
    around = layer.size - file.size
    if not 0 < around <= min(MAX_AROUND, file.size):
        return
    edges = _Edges(layer.size, around)
    source.download(layer, edges)
    head = io.BytesIO(edges.first)
    for member in archive.members(head, layer.size, below):
        if member.size == file.size and member.offset <= around:
            before, after = edges.first[: member.offset], edges.last[member.offset :]
            pieces = (bytes(before), Packed(member.name, file), bytes(after))
            with store.archives.opened(pieces) as stream:
                found = list(archive.members(cast("BinaryIO", stream), layer.size, below))
            if found == [member]:
                store.archives.make(layer, pieces, below)
            return
