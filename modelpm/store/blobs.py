"""A blob lies under its digest only if its bytes have that digest.

    blobs/<algorithm>/<hex>     whole, verified, read-only
    ingest/<algorithm>-<hex>    arriving; the next attempt goes on where this one ended

A published blob is *sealed*: its time of modification is SEAL. Whoever writes into it afterwards
breaks the seal, and a blob without a seal is hashed before it is believed. The bytes that an
interrupted attempt left are never trusted: they are hashed again before more are asked for.
"""

import contextlib
import hashlib
import io
import os
import queue
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from modelpm.content import Fetcher, Observer, Waiting, verify_digest, verify_size
from modelpm.errors import DigestMismatchError, NotFoundError, StoreError
from modelpm.oci.descriptor import HEX_LENGTH, Descriptor, Digest
from modelpm.store.files import Files, listing, open_regular, store_errors

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK = 2**20
QUEUED_CHUNKS = 8
PATIENCE = 120.0
"""Seconds that another process's draft may stand still before this one begins its own."""

SEAL = 1
"""Seconds after the epoch: no file gets this time of modification by being written."""

_POLL = 0.1
_HEX = frozenset("0123456789abcdef")
_INGEST = re.compile(r"(sha256|sha512)-([a-f0-9]+)(?:\.[a-f0-9]{16})?")


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
        self.trust_locks = True
        """False where the file system's locks are known not to work (`Files.locks_work`)."""
        self.may_seal = False
        """True once the store is known to be ours to write."""
        self.patience = PATIENCE

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
        return int(found.st_mtime) == SEAL or self.is_right(desc)

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
            before = os.fstat(stream.fileno())
            verify_size(desc, before.st_size)
            actual = hashlib.file_digest(stream, desc.digest.algorithm).hexdigest()
            self._mark(stream, desc, before, right=actual == desc.digest.hex)
            verify_digest(desc, Digest(desc.digest.algorithm, actual))

    def _mark(
        self, stream: "_Reader", desc: Descriptor, before: os.stat_result, *, right: bool
    ) -> None:
        """Seal what was read and found right, or break the seal of what was found wrong."""
        now = os.fstat(stream.fileno())
        quiet = now.st_mtime_ns == before.st_mtime_ns  # else it was written to meanwhile
        if self.may_seal and right != (int(now.st_mtime) == SEAL) and (quiet or not right):
            mtime = SEAL if right else int(time.time())
            self._files.set_mtime(stream.fileno(), self.path(desc.digest), mtime, sync=right)

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

    def take(self, desc: Descriptor, source: Fetcher) -> None:
        """Bring the blob in from `source`, resuming what an earlier attempt left.

        One process at a time works on a digest; others wait and find it there. Raises
        DigestMismatchError when the bytes are wrong; then they are gone.
        """
        with self._draft(desc) as draft:
            if draft is None:
                return
            fd, path = draft
            start = os.fstat(fd).st_size
            if not 0 < start <= desc.size:
                self._receive(fd, path, desc, source, 0)
            else:
                try:
                    self._receive(fd, path, desc, source, start)
                except DigestMismatchError:
                    # The fault may lie in what the earlier attempt left: once more, from nothing.
                    self._receive(fd, path, desc, source, 0)
            final = self.path(desc.digest)
            if not final.is_symlink() and final.is_dir():  # all else makes way for a rename
                self._files.move(final, self._trash / secrets.token_hex(8))
            self._files.publish(fd, path, final, mtime=SEAL)

    def _receive(self, fd: int, path: Path, desc: Descriptor, source: Fetcher, start: int) -> None:
        """Fill the draft from byte `start` on and check the whole of it.

        Raises DigestMismatchError; what a fresh attempt brought is then deleted.
        """
        self._files.truncate(fd, path, start)
        hasher = _Hasher(desc.digest.algorithm)
        try:
            with store_errors("reading", path):
                _hash_prefix(hasher, fd, start)
            size = start + self._stream(fd, path, desc, source, start, hasher)
        finally:
            actual = Digest(desc.digest.algorithm, hasher.finish())
        try:
            verify_size(desc, size)
            verify_digest(desc, actual)
        except DigestMismatchError:
            if not start:
                self._files.remove(path)
            raise

    def _stream(
        self, fd: int, path: Path, desc: Descriptor, source: Fetcher, start: int, hasher: "_Hasher"
    ) -> int:
        """Copy from the source until its end, or until one byte too many; the bytes copied."""
        count = 0
        left = desc.size - start
        if left == 0 and desc.size:
            return 0
        with source.fetch(desc, start) as stream:
            while count <= left and (chunk := stream.read(min(CHUNK, left - count + 1))):
                count += len(chunk)
                if count > left:
                    break
                hasher.update(chunk)
                self._files.write(fd, path, chunk)
        return count

    @contextlib.contextmanager
    def _draft(self, desc: Descriptor) -> Iterator[tuple[int, Path] | None]:
        """The ingest file of a blob, locked; None when the blob has come in meanwhile.

        Waits for another process as long as that one's file grows. Where locks do not work, or
        the other does nothing for too long, the attempt gets a file of its own.
        """
        path = self._ingest / f"{desc.digest.algorithm}-{desc.digest.hex}"
        own = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        path = path if self.trust_locks else own
        other: tuple[int, int] | None = None
        patient_until = 0.0
        while True:
            with self._files.reopen(path, create=True) as fd:
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
            if other != (state.st_ino, state.st_size):
                other = (state.st_ino, state.st_size)
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
        """What lies in `ingest/`; with None for what is no draft of a blob."""
        for path, state in listing(self._ingest):
            match = _INGEST.fullmatch(path.name)
            digest = Digest(match[1], match[2]) if match else None
            yield digest, Stored(path, state.st_size)

    def remove_draft(self, path: Path) -> bool:
        """Delete an ingest file, unless a process is working on it or it is gone."""
        if path.is_symlink() or not path.is_file():
            return self._files.remove(path)
        with self._files.reopen(path, create=True) as fd:  # made again if it went just now
            idle = self._files.try_lock(fd, path, exclusive=True) and _is_same(fd, path)
            return idle and self._files.remove(path)

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


class _Hasher:
    """A digest computed in a thread of its own, so that it costs the transfer no time."""

    def __init__(self, algorithm: str) -> None:
        self._hash = hashlib.new(algorithm)
        self._chunks: queue.Queue[bytes | None] = queue.Queue(QUEUED_CHUNKS)
        self._thread = threading.Thread(target=self._run, name="hasher", daemon=True)
        self._thread.start()

    def update(self, chunk: bytes) -> None:
        self._chunks.put(chunk)

    def finish(self) -> str:
        """The hex digest of all that was put; ends the thread."""
        self._chunks.put(None)
        self._thread.join()
        return self._hash.hexdigest()

    def _run(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            self._hash.update(chunk)


def _hash_prefix(hasher: _Hasher, fd: int, size: int) -> None:
    os.lseek(fd, 0, os.SEEK_SET)
    while size:
        chunk = os.read(fd, min(CHUNK, size))
        if not chunk:
            break
        hasher.update(chunk)
        size -= len(chunk)


def _is_same(fd: int, path: Path) -> bool:
    """Whether the name still leads to the open file (the one before us may have renamed it)."""
    with store_errors("reading", path):
        try:
            return os.path.samestat(os.fstat(fd), path.lstat())
        except FileNotFoundError:
            return False
