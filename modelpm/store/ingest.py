"""A blob on its way in: which of its bytes are here, and which of them may be believed.

    ingest/<algorithm>-<hex>            the draft, at once as long as the blob, with holes
    ingest/<algorithm>-<hex>.journal    what was written to it, and what of that is on the disk

The journal is a list of records of 24 bytes: kind, start, stop, CRC 32. What was written is there
after kill -9, but not after the machine went down: then only what was synced before counts. So a
journal names the start of the machine in which it was written. What it says saves work only: the
whole file is hashed, from its first byte, before it becomes a blob.
"""

import bisect
import contextlib
import hashlib
import os
import stat
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from modelpm.content import verify_digest, verify_size
from modelpm.errors import StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.store.files import Files, open_regular, store_errors

CHUNK = 2**20
KEPT_CHUNKS = 8
"""Chunks kept in memory for the hasher; what it cannot take from there it reads from the file."""

KEPT_AHEAD = 2 * KEPT_CHUNKS * CHUNK
"""Bytes: what is further ahead of the hasher than this is not kept for it."""

NOTED_BYTES = 2**18
"""What one stream wrote gets a record in pieces of at least so many bytes."""

FLUSH_BYTES = 64 * 2**20
"""Written bytes after which a flush to the disk begins, while more arrive."""

MAX_JOURNAL = 32 * 2**20
"""Bytes: what a journal says past this is not read."""

_RECORD = struct.Struct("<4sQQI")
_WRITTEN, _SYNCED, _BOOT = b"writ", b"sync", b"boot"


class Ranges:
    """A set of bytes as ranges [start, stop): sorted, apart from one another."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def add(self, start: int, stop: int) -> None:
        """Put a range in; it may touch or cover others."""
        if start >= stop:
            return
        first = bisect.bisect_left(self._stops, start)
        last = bisect.bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def missing(self, size: int) -> list[tuple[int, int]]:
        """What of the first `size` bytes is not in the set, which has none beyond."""
        edges = [0, *(edge for each in self for edge in each), size]
        return [
            (start, stop)
            for start, stop in zip(edges[::2], edges[1::2], strict=True)
            if start < stop
        ]

    def end_from(self, position: int) -> int:
        """Up to where the set has every byte from `position` on."""
        index = bisect.bisect_right(self._starts, position) - 1
        return max(position, self._stops[index]) if index >= 0 else position

    def meets(self, start: int, stop: int) -> bool:
        """Whether the set has any byte of [start, stop)."""
        index = bisect.bisect_right(self._stops, start)
        return start < stop and index < len(self._starts) and self._starts[index] < stop


class Ingest:
    """The open, locked draft of one blob: a `Sink`, hashed behind what arrives.

    A thread follows the bytes from the first on; another brings them to the disk early. Whatever
    ends one of them is raised to whoever writes, asks what is missing, or verifies.
    """

    def __init__(
        self,
        fd: int,
        path: Path,
        journal: int,
        desc: Descriptor,
        files: Files,
        flush_bytes: int = FLUSH_BYTES,
    ) -> None:
        self._fd, self._path = fd, path
        self._journal, self._journal_path = journal, journal_path(path)
        self._desc = desc
        self._files = files
        self._flush_bytes = flush_bytes
        self._noted_bytes = min(NOTED_BYTES, flush_bytes)
        self._changed = threading.Condition()
        self._written = self._recover()
        self._taken = Ranges()
        """What was written before, or is being written: no byte is written twice."""
        for start, stop in self._written:
            self._taken.add(start, stop)
        self._writing = 0
        self._unnoted: dict[int, int] = {}
        """Ends and starts of what was written but has no record yet."""
        self._unsynced = 0
        self._kept: dict[int, bytes] = {}
        self._hashed = 0
        self._hash = hashlib.new(desc.digest.algorithm)
        self._ending = False
        self._failure: BaseException | None = None
        self._hasher, self._flusher = (
            threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
            for name, work in (("hasher", self._follow), ("flusher", self._flush))
        )

    def __enter__(self) -> Self:
        try:
            for thread in (self._hasher, self._flusher):
                thread.start()
        except BaseException:  # the system may refuse a thread
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads; what was written stays for the next attempt."""
        self._end()
        if self._written.missing(self._desc.size):
            with contextlib.suppress(StoreError):
                for stop, start in self._unnoted.items():
                    self._note(_WRITTEN, start, stop)

    # The Sink.

    def missing(self) -> list[tuple[int, int]]:
        """The ranges that are not here. Raises what has ended a thread."""
        with self._changed:
            self._raise_failure()
            return self._written.missing(self._desc.size)

    def write(self, offset: int, chunk: bytes) -> None:
        """Take bytes, note them, and let the hasher know.

        Raises StoreError, also for what is here already and for what comes after the end: then
        the descriptor may be that of another file.
        """
        stop = offset + len(chunk)
        with self._changed:
            self._raise_failure()
            if stop > self._desc.size:
                verify_size(self._desc, stop)
            if self._ending or self._taken.meets(offset, stop):
                raise StoreError(f"{self._path} takes no bytes at {offset} any more")
            self._taken.add(offset, stop)
            self._writing += 1
        written = False
        try:
            self._files.write_at(self._fd, self._path, chunk, offset)
            written = True
        finally:
            with self._changed:
                self._writing -= 1
                self._changed.notify_all()
                if written:
                    self._have(offset, stop, chunk)

    def verify(self) -> None:
        """Wait for the threads to come to the end. Raises DigestMismatchError, StoreError."""
        missing = sum(stop - start for start, stop in self.missing())
        verify_size(self._desc, self._desc.size - missing)
        self._hasher.join()
        self._end()  # a flush on its way may fail yet
        self._raise_failure()
        actual = Digest(self._desc.digest.algorithm, self._hash.hexdigest())
        verify_digest(self._desc, actual)

    # What is behind it.

    def _recover(self) -> Ranges:
        """What may be believed of an earlier attempt; the rest of the journal is cut off."""
        boot = self._files.boot_id()
        # A start that nobody knows is like no other.
        token = struct.unpack("<QQ", hashlib.sha256(boot or os.urandom(16)).digest()[:16])
        trusted = Ranges()
        written_in = None
        length = 0
        with store_errors("reading", self._path):
            whole = os.fstat(self._fd).st_size == self._desc.size
            content = os.pread(self._journal, MAX_JOURNAL, 0) if whole else b""
        for kind, start, stop in _parse(content):
            length += _RECORD.size
            if kind == _BOOT:
                written_in = start, stop
            elif stop <= self._desc.size and (kind == _SYNCED or written_in == token):
                trusted.add(start, stop)
        # The journal first: it must never speak of bytes that the draft lost.
        self._files.truncate(self._journal, self._journal_path, length)
        if not length:
            self._files.truncate(self._fd, self._path, 0)
            self._files.truncate(self._fd, self._path, self._desc.size)
        if written_in != token:
            self._note(_BOOT, *token)
        return trusted

    def _note(self, kind: bytes, start: int, stop: int) -> None:
        crc = zlib.crc32(_RECORD.pack(kind, start, stop, 0))
        self._files.write(self._journal, self._journal_path, _RECORD.pack(kind, start, stop, crc))

    def _have(self, start: int, stop: int, chunk: bytes) -> None:
        """These bytes are in the file. The caller has the lock."""
        self._written.add(start, stop)
        self._unsynced += len(chunk)
        if len(self._kept) < KEPT_CHUNKS and start < self._hashed + KEPT_AHEAD:
            self._kept[start] = chunk
        start = self._unnoted.pop(start, start)
        if stop - start < self._noted_bytes:
            self._unnoted[stop] = start
        else:
            self._note(_WRITTEN, start, stop)

    def _run(self, work: Callable[[], None]) -> None:
        with contextlib.ExitStack() as stack:
            stack.push(self._hear)
            work()

    def _hear(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        """Whatever ends a thread, those who wait hear of it."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()
        return True

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _is_over(self) -> bool:
        return self._ending or self._failure is not None

    def _end(self) -> None:
        """Let no byte in any more, and wait for what is on its way."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._writing)
        for thread in (self._hasher, self._flusher):
            if thread.ident is not None:
                thread.join()

    def _follow(self) -> None:
        """Hash the bytes from the first on, from memory where they are still there."""
        position = 0
        while position < self._desc.size:
            chunk, stop = self._await(position)
            if stop <= position:
                return
            if chunk is None:
                with store_errors("reading", self._path):
                    chunk = os.pread(self._fd, min(CHUNK, stop - position), position)
            if not chunk:
                raise StoreError(f"{self._path} was made shorter while it was written")
            self._hash.update(chunk)
            position += len(chunk)

    def _await(self, position: int) -> tuple[bytes | None, int]:
        """Wait for bytes at a position: they, if in memory, and up to where to read others.

        Without any, when there is nothing to wait for any more.
        """
        with self._changed:
            self._hashed = position
            self._changed.wait_for(
                lambda: self._is_over() or self._written.end_from(position) > position
            )
            if self._is_over():
                return None, position
            for offset in [offset for offset in self._kept if offset < position]:
                del self._kept[offset]
            chunk = self._kept.pop(position, None)
            return chunk, min([self._written.end_from(position), *self._kept])

    def _flush(self) -> None:
        """Bring what was written to the disk early, so that the last fsync is short."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._is_over() or self._unsynced >= self._flush_bytes
                )
                if self._is_over():
                    return
                self._unsynced = 0
                written = list(self._written)
            try:
                self._files.sync_data(self._fd, self._path)
            except BaseException:
                with contextlib.suppress(StoreError):
                    discard(self._files, self._path)
                raise
            with self._changed:
                for start, stop in written:
                    self._note(_SYNCED, start, stop)


def journal_path(draft: Path) -> Path:
    """Where the journal of a draft lies."""
    return draft.with_name(f"{draft.name}.journal")


@contextlib.contextmanager
def open_draft(files: Files, path: Path) -> Iterator[int]:
    """A draft to go on writing, from its start; made where it is not there. Raises StoreError.

    A loss of power may leave one that has the permissions of a blob already, and not yet its name.
    """
    with contextlib.suppress(OSError, StoreError):
        if not path.lstat().st_mode & stat.S_IWUSR:
            with os.fdopen(open_regular(path), "rb") as stream:
                files.permit(stream.fileno(), path, 0o644)
    with files.reopen(path, create=True) as fd:
        yield fd


def discard(files: Files, draft: Path) -> bool:
    """Delete the journal, then the draft: without the one the other is never believed.

    False if the draft was gone. Raises StoreError.
    """
    try:
        files.remove(journal_path(draft))
    finally:
        was_there = files.remove(draft)
    return was_there


def _parse(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The records up to the first that is torn."""
    for offset in range(0, len(content) - _RECORD.size + 1, _RECORD.size):
        kind, start, stop, crc = _RECORD.unpack_from(content, offset)
        if crc != zlib.crc32(_RECORD.pack(kind, start, stop, 0)):
            return
        yield kind, start, stop
