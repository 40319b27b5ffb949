"""A blob lies under its digest only if its bytes have that digest.

    blobs/<algorithm>/<hex>     whole, verified, read-only
    ingest/<algorithm>-<hex>    arriving, see `ingest.py`; the next attempt goes on with it

A published blob is *sealed*: its time of modification is SEAL. Whoever writes into it afterwards
breaks the seal, and a blob without a seal is hashed before it is believed. One that is a hard link
to a file from outside cannot be sealed, because its times are that file's too: see `adopted.py`.
"""

import contextlib
import hashlib
import io
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from modelpm.content import (
    Downloader,
    Fetcher,
    Observer,
    Waiting,
    read,
    verify_digest,
    verify_size,
)
from modelpm.errors import DigestMismatchError, NotFoundError, StoreError
from modelpm.oci.descriptor import HEX_LENGTH, Descriptor, Digest
from modelpm.store.adopted import Adopted, now
from modelpm.store.files import Files, listing, open_regular, store_errors
from modelpm.store.ingest import CHUNK, FLUSH_BYTES, Ingest, discard, journal_path, open_draft
from modelpm.store.naming import file_name

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SMALL = 2**16
"""Bytes: a blob up to this is verified in memory before it touches the disk, and not resumed."""

PATIENCE = 120.0
"""Seconds that another process's draft may stand still before this one begins its own."""

SEAL = 1
"""Seconds after the epoch: no file gets this time of modification by being written."""

_POLL = 0.1
_FILE_OVERHEAD = 2**14
"""Bytes that a file takes beside its content, at most, as long as it is small."""

_HEX = frozenset("0123456789abcdef")
_INGEST = re.compile(r"(sha256|sha512)-([a-f0-9]+)(?:\.[a-f0-9]{16})?(?:\.journal)?")


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the store and how many bytes deleting it frees."""

    path: Path
    size: int


class Blobs:
    """The blobs below one store's root."""

    def __init__(self, root: Path, files: Files, observe: Observer) -> None:
        self._folder = root / "blobs"
        self._ingest = root / "ingest"
        self._trash = root / "trash"
        self._files = files
        self._observe = observe
        self.adopted = Adopted(root, files)
        """Notes on the blobs that are hard links to files from outside."""
        self.trust_locks = True
        """False where the file system's locks are known not to work (`Files.locks_work`)."""
        self.may_seal = False
        """True once the store is known to be ours to write."""
        self.patience = PATIENCE
        self.small = SMALL
        self.flush_bytes = FLUSH_BYTES

    def path(self, digest: Digest) -> Path:
        """Where the blob with this digest lies, if it is here."""
        return self._folder / digest.algorithm / digest.hex

    def size(self, digest: Digest) -> int | None:
        """Bytes of the blob, or None where there is no regular file. Unverified."""
        try:
            found = self.path(digest).lstat()
        except OSError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def exists(self, desc: Descriptor) -> bool:
        """Whether the blob is here, of the right size, and sealed or found to be right now."""
        try:
            found = self.path(desc.digest).lstat()
        except OSError:
            return False
        if not stat.S_ISREG(found.st_mode) or found.st_size != desc.size:
            return False
        return (
            int(found.st_mtime) == SEAL
            or self.adopted.believes(desc.digest, found)
            or self.is_right(desc)
        )

    def is_right(self, desc: Descriptor) -> bool:
        """Read the whole blob and compare size and digest, as `verify` does."""
        try:
            self.verify(desc)
        except (DigestMismatchError, NotFoundError, StoreError):
            return False
        return True

    def verify(self, desc: Descriptor) -> None:
        """Read the whole blob.

        Where this store is ours to write a right one is sealed, and the seal of a wrong one is
        broken, so that the next pull brings it again. Raises DigestMismatchError, NotFoundError,
        or StoreError where it cannot be read.
        """
        with self._open(desc.digest) as stream:
            before, began = os.fstat(stream.fileno()), now()
            verify_size(desc, before.st_size)
            actual = hashlib.file_digest(stream, desc.digest.algorithm).hexdigest()
            self._mark(stream, desc, before, began, right=actual == desc.digest.hex)
            verify_digest(desc, Digest(desc.digest.algorithm, actual))

    def _mark(
        self,
        stream: "_Reader",
        desc: Descriptor,
        before: os.stat_result,
        began: int,
        *,
        right: bool,
    ) -> None:
        """Seal what was read and found right, or break the seal of what was found wrong."""
        if not self.may_seal:
            return
        state = os.fstat(stream.fileno())
        quiet = state.st_mtime_ns == before.st_mtime_ns  # else it was written to meanwhile
        is_sealed = int(state.st_mtime) == SEAL
        is_shared = state.st_nlink > 1 and not is_sealed  # with a file from outside
        if right != is_sealed and (quiet or not right) and not is_shared:
            mtime = SEAL if right else int(time.time())
            self._files.set_mtime(stream.fileno(), self.path(desc.digest), mtime, sync=right)
            is_sealed = int(os.fstat(stream.fileno()).st_mtime) == SEAL
        if not right:
            self.adopted.forget(desc.digest)
        elif quiet and not is_sealed:  # nor is a file sealed that belongs to somebody else
            self.adopted.note(desc.digest, os.fstat(stream.fileno()), began)

    @contextlib.contextmanager
    def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """Open the blob. Unverified. Raises NotFoundError, or StoreError for what is no file."""
        with self._open(desc.digest) as stream:
            stream.seek(offset)
            yield stream

    def _open(self, digest: Digest) -> "_Reader":
        try:
            return _Reader(self.path(digest))
        except FileNotFoundError:
            raise NotFoundError(f"the store has no blob {digest}") from None

    def require_room(self, descs: Iterable[Descriptor]) -> None:
        """Raises StoreError unless the disk has room for what of these is not here yet."""
        wanted = {desc.digest: desc for desc in descs if self.size(desc.digest) != desc.size}
        needed = 0
        for desc in wanted.values():
            left = max(0, desc.size - self._arrived(desc.digest))
            needed += left + left // 100 + _FILE_OVERHEAD
        self.require_bytes(needed)

    def require_bytes(self, needed: int) -> None:
        """Raises StoreError unless the disk has room for so many bytes."""
        free = self._files.free(self._folder) if needed else 0
        if needed > free:
            raise StoreError(
                f"{self._folder.parent} has too little room: {needed:,} bytes are needed and"
                f" {free:,} are free (free some: modelpm prune --dry-run)"
            )

    def _arrived(self, digest: Digest) -> int:
        """Bytes on the disk that the next attempt to bring a blob will use or free."""
        try:
            return _allocated(self._draft_path(digest).lstat())
        except OSError:
            return 0

    def take(self, desc: Descriptor, source: Fetcher) -> None:
        """Bring the blob in from `source`, resuming what an earlier attempt left.

        One process at a time works on a digest; others wait and find it there. Bytes that turn out
        wrong are asked for once more, all of them. Raises DigestMismatchError when they are wrong
        again, or too many or too few; then they are gone.
        """
        with self._draft(desc) as draft:
            if draft is None:
                return
            fd, path = draft
            if desc.size <= self.small:
                content = self._read_small(path, desc, source)
                self._files.truncate(fd, path, 0)
                self._files.write(fd, path, content)
            elif not self._receive(fd, path, desc, source):
                self._receive(fd, path, desc, source, last=True)
            # Of many small ones the names are made durable together, before a manifest gets one.
            self.commit(fd, path, self.path(desc.digest), durable=desc.size > self.small)
            if desc.size > self.small:
                self._files.remove(journal_path(path))

    def commit(self, fd: int, draft: Path, final: Path, *, durable: bool = True) -> None:
        """Seal what is verified and give it its name; what cannot be synced is deleted.

        Its bytes are durable then, the name where it is to be, else after a sync of the folder.
        """
        if not final.is_symlink() and final.is_dir():  # all else makes way for a rename
            self.make_way(final)
        self._files.set_mtime(fd, draft, SEAL, sync=False)
        try:
            self._files.sync(fd, draft)
        except StoreError:
            with contextlib.suppress(StoreError):
                discard(self._files, draft)
            raise
        if durable:
            self._files.publish(draft, final)
        elif not self._files.move(draft, final):
            raise StoreError(f"{draft} has vanished; try again")
        # Not before the rename: a draft that a kill leaves must be open to its owner.
        self._files.permit(fd, final, 0o444)

    def make_way(self, path: Path) -> None:
        """Set aside what lies where a blob is to be, if anything."""
        self._files.move(path, self._trash / secrets.token_hex(8))

    def _read_small(self, path: Path, desc: Descriptor, source: Fetcher) -> bytes:
        with contextlib.suppress(DigestMismatchError):
            return read(source, desc, self.small)
        try:
            return read(source, desc, self.small)
        except DigestMismatchError:
            self._files.remove(path)
            raise

    def _receive(
        self, fd: int, path: Path, desc: Descriptor, source: Fetcher, *, last: bool = False
    ) -> bool:
        """Fill the draft and hash it; whether its bytes are right.

        Wrong ones are deleted, and where it was the `last` attempt DigestMismatchError is raised;
        it is raised in any case where there are too many or too few.
        """
        with self._files.reopen(journal_path(path), create=True) as journal:
            arrived = False
            try:
                with Ingest(fd, path, journal, desc, self._files, self.flush_bytes) as ingest:
                    if isinstance(source, Downloader):
                        source.download(desc, ingest)
                    else:
                        _copy(source, desc, ingest)
                    arrived = not ingest.missing()
                    ingest.verify()
            except DigestMismatchError:
                if last or not arrived:
                    discard(self._files, path)
                    raise
                self._files.truncate(journal, journal_path(path), 0)
                return False
        return True

    def _draft_path(self, digest: Digest) -> Path:
        return self._ingest / file_name(digest)

    @contextlib.contextmanager
    def _draft(self, desc: Descriptor) -> Iterator[tuple[int, Path] | None]:
        """The ingest file of a blob, locked; None when the blob has come in meanwhile.

        Waits for another process as long as that one writes. Where locks do not work, or
        the other does nothing for too long, the attempt gets a file of its own.
        """
        path = self._draft_path(desc.digest)
        own = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        path = path if self.trust_locks else own
        other: tuple[int, int] | None = None
        patient_until = 0.0
        while True:
            with open_draft(self._files, path) as fd:
                if self._files.try_lock(fd, path, exclusive=True):
                    if self.exists(desc):
                        if _is_same(fd, path):
                            self._files.remove(path)
                        yield None
                        return
                    if _is_same(fd, path):
                        yield fd, path
                        return
                    continue
                state = os.fstat(fd)
            if other is None:
                self._observe(Waiting(0.0, f"another process is fetching {desc.digest.short}"))
            if other != (state.st_ino, state.st_mtime_ns):
                other = (state.st_ino, state.st_mtime_ns)
                patient_until = time.monotonic() + self.patience
            elif time.monotonic() > patient_until:
                path = own
            time.sleep(_POLL)

    def stored(self) -> Iterator[tuple[Digest | None, Stored]]:
        """Every file below `blobs/`; with None for what no digest names."""
        for algorithm, length in HEX_LENGTH.items():
            for path, state in listing(self._folder / algorithm):
                named = len(path.name) == length and set(path.name) <= _HEX
                digest = Digest(algorithm, path.name) if named else None
                yield digest, Stored(path, state.st_size)

    def drafts(self) -> Iterator[tuple[Digest | None, Stored]]:
        """What lies in `ingest/`; with None for what is no draft of a blob.

        A journal counts with its draft; one whose draft is gone stands for itself.
        """
        found = dict(listing(self._ingest))
        for path, state in found.items():
            if path.suffix == ".journal" and path.with_suffix("") in found:
                continue
            match = _INGEST.fullmatch(path.name)
            digest = Digest(match[1], match[2]) if match else None
            journal = found.get(journal_path(path))
            size = _allocated(state) + (journal.st_size if journal else 0)
            yield digest, Stored(path, size)

    def remove_draft(self, path: Path) -> bool:
        """Delete a draft and its journal, unless a process is working on it or it is gone."""
        if path.is_symlink() or not path.is_file():
            return discard(self._files, path)
        with open_draft(self._files, path) as fd:  # made again if it went just now
            idle = self._files.try_lock(fd, path, exclusive=True) and _is_same(fd, path)
            return idle and discard(self._files, path)

    def trash(self) -> Iterator[Stored]:
        """What a killed prune had set aside."""
        for path, state in listing(self._trash):
            yield Stored(path, state.st_size)


class _Reader(io.FileIO):
    """A blob open for reading; a read that fails is the store's error, wherever it happens."""

    def __init__(self, path: Path) -> None:
        super().__init__(open_regular(path))
        self._path = path

    def read(self, size: int | None = -1, /) -> bytes:
        with store_errors("reading", self._path):
            return super().read(size)

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        with store_errors("reading", self._path):
            return super().readinto(buffer)


def _copy(source: Fetcher, desc: Descriptor, ingest: Ingest) -> None:
    """Bring what is missing by one stream after the other.

    Raises DigestMismatchError where there are more bytes than the descriptor says, or fewer.
    """
    for start, stop in ingest.missing():
        position = start
        with source.fetch(desc, start) as stream:
            while position < stop and (chunk := stream.read(min(CHUNK, stop - position))):
                ingest.write(position, chunk)
                position += len(chunk)
            more = len(stream.read(1)) if position == desc.size else 0
        if position < stop or more:
            verify_size(desc, position + more)


def _allocated(state: os.stat_result) -> int:
    """Bytes that a file takes on the disk: holes take none."""
    return min(state.st_size, getattr(state, "st_blocks", state.st_size) * 512)


def _is_same(fd: int, path: Path) -> bool:
    """Whether the name still leads to the open file (the one before us may have renamed it)."""
    with store_errors("reading", path):
        try:
            return os.path.samestat(os.fstat(fd), path.lstat())
        except FileNotFoundError:
            return False
