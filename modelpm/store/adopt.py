"""How a file from outside enters the store: by reflink, hard link or copy, hashed once.

A reflink or a copy is the store's own, and is hashed as such. A hard link is the source itself: it
is hashed, linked, and found unchanged, and a note says in what state it was (`adopted`). Nothing
of the source is ever changed, neither bytes nor times nor permissions.
"""

import contextlib
import hashlib
import io
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from modelpm.errors import NotFoundError, StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.store.adopted import now
from modelpm.store.blobs import SEAL, Blobs
from modelpm.store.files import Files, open_regular, store_errors
from modelpm.store.leases import Leases

Told = Callable[[int], None]
"""Hears how many bytes have been hashed, now and then."""

WORTH_A_LINK = 2**20
"""Bytes: a smaller file is copied, so that nobody outside can change it."""

_ALGORITHM = "sha256"
_CHUNK = 2**18
_TELL = 2**23


class Adoption:
    """Takes files into the store below one root."""

    def __init__(self, root: Path, files: Files, blobs: Blobs, leases: Leases) -> None:
        self._root = root
        self._files = files
        self._blobs = blobs
        self._leases = leases

    def take(
        self, path: Path, media_type: str, kept: contextlib.ExitStack, told: Told
    ) -> Descriptor:
        """What `Store.adopt` promises."""
        with _opened(path) as (source, real):
            before = _state(source, real)
            own = self._own(real, media_type, before.st_size)
            if own is not None:
                kept.enter_context(self._leases.hold([own.digest]))
                if self._blobs.exists(own):
                    return own
            with self._draft() as (fd, draft):
                if not self._files.clone(fd, draft, source.fileno()):
                    if self._may_link(real, before):
                        self._files.remove(draft)
                        return self._link(source, real, media_type, kept, told)
                    self._blobs.require_bytes(before.st_size)
                    digest = self._copy(source, real, fd, draft, told)
                else:
                    digest = self._hash_clone(fd, draft, told)
                size = os.fstat(fd).st_size
                desc = Descriptor(media_type, digest, size)
                kept.enter_context(self._leases.hold([digest]))
                if not self._blobs.exists(desc):
                    self._blobs.commit(fd, draft, self._blobs.path(digest))
                return desc

    def _own(self, real: Path, media_type: str, size: int) -> Descriptor | None:
        """What the file is called, where it is a blob of this store."""
        with store_errors("reading", self._root):
            blobs = self._blobs.path(Digest(_ALGORITHM, "any")).parent.resolve()
        if real.parent != blobs or len(real.name) != 64:
            return None
        return Descriptor(media_type, Digest(_ALGORITHM, real.name), size)

    @contextlib.contextmanager
    def _draft(self) -> Iterator[tuple[int, Path]]:
        """A new file of the store, locked so that nobody collects it; it goes if left behind."""
        draft = self._root / "ingest" / f"{_ALGORITHM}-{secrets.token_hex(8)}"
        with self._files.create(draft) as fd:
            self._files.try_lock(fd, draft, exclusive=True)
            try:
                yield fd, draft
            finally:
                self._files.remove(draft)

    def _may_link(self, real: Path, before: os.stat_result) -> bool:
        """Whether the file can get a second name here: told by giving it one for a moment."""
        if before.st_size < WORTH_A_LINK or int(before.st_mtime) == SEAL:
            return False
        probe = self._root / "trash" / secrets.token_hex(8)
        may = self._files.link(real, probe)
        if may:
            self._files.remove(probe)
        return may

    def _link(
        self,
        source: io.FileIO,
        real: Path,
        media_type: str,
        kept: contextlib.ExitStack,
        told: Told,
    ) -> Descriptor:
        """Hash the file, then make it the blob; one that changes meanwhile is refused."""
        before, began = _state(source, real), now()
        digest = _hash(source, real, before.st_size, told)
        with store_errors("syncing", real):
            os.fsync(source.fileno())
        desc = Descriptor(media_type, digest, before.st_size)
        kept.enter_context(self._leases.hold([digest]))
        final = self._blobs.path(digest)
        if not _is_same(source, final):
            if self._blobs.exists(desc):
                return desc
            self._blobs.make_way(final)
            if not self._files.link(real, final) and not self._blobs.exists(desc):
                raise StoreError(f"linking {real} to {final}: it can no longer be done; try again")
            self._files.sync_folder(final.parent)
        after = _state(source, real)
        if _is_same(source, final):
            if not _is_unchanged(before, after):
                self._files.remove(final)
                raise _changed(real)
            self._blobs.adopted.note(digest, after, began)
        elif not self._blobs.exists(desc):  # another file had the name when it was linked
            raise _changed(real)
        return desc

    def _copy(self, source: io.FileIO, real: Path, fd: int, draft: Path, told: Told) -> Digest:
        before = _state(source, real)

        def keep(chunk: memoryview) -> None:
            self._files.write(fd, draft, bytes(chunk))

        digest = _hash(source, real, before.st_size, told, keep)
        if not _is_unchanged(before, _state(source, real)):
            raise _changed(real)
        return digest

    def _hash_clone(self, fd: int, draft: Path, told: Told) -> Digest:
        """The digest of a reflink: whatever becomes of the source, its bytes stay."""
        with io.FileIO(fd, closefd=False) as stream:
            return _hash(stream, draft, os.fstat(fd).st_size, told)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[io.FileIO, Path]]:
    """The file that a path leads to, and its real path; links are followed once, here."""
    try:
        real = path.resolve(strict=True)
        fd = open_regular(real)
    except FileNotFoundError:
        raise NotFoundError(f"reading {path}: there is no such file") from None
    except (OSError, RuntimeError) as error:
        raise StoreError(f"reading {path}: {error}") from error
    with io.FileIO(fd) as stream:
        yield stream, real


def _hash(
    stream: io.FileIO,
    path: Path,
    size: int,
    told: Told,
    keep: Callable[[memoryview], None] = lambda _chunk: None,
) -> Digest:
    """Read the file once, exactly `size` bytes; `keep` gets each piece. Raises StoreError."""
    hasher = hashlib.new(_ALGORITHM)
    buffer = memoryview(bytearray(_CHUNK))
    position, tell_at = 0, _TELL
    with store_errors("reading", path):
        stream.seek(0)
    while True:
        with store_errors("reading", path):
            count = stream.readinto(buffer)
        if not count:
            break
        position += count
        if position > size:
            raise _changed(path)
        hasher.update(buffer[:count])
        keep(buffer[:count])
        if position >= tell_at:
            told(position)
            tell_at = position + _TELL
    if position != size:
        raise _changed(path)
    told(position)
    return Digest(_ALGORITHM, hasher.hexdigest())


def _state(stream: io.FileIO, path: Path) -> os.stat_result:
    with store_errors("reading", path):
        return os.fstat(stream.fileno())


def _is_unchanged(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def _is_same(stream: io.FileIO, path: Path) -> bool:
    """Whether the name leads to the open file."""
    with store_errors("reading", path):
        try:
            return os.path.samestat(os.fstat(stream.fileno()), path.lstat())
        except FileNotFoundError:
            return False


def _changed(path: Path) -> StoreError:
    return StoreError(
        f"{path} was changed while it was read; nothing was kept"
        " (run this again when no program writes to it)"
    )
