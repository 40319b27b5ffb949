"""A blob on its way in: which of its bytes are here, and which of them may be believed.

    ingest/<algorithm>-<hex>            the file, at once as long as the blob, with holes
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
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from modelpm.content import verify_digest
from modelpm.errors import StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.store.files import Files, store_errors

CHUNK = 2**20
KEPT_CHUNKS = 8
"""Chunks kept in memory for the hasher; what it cannot take from there it reads from the file."""

KEPT_AHEAD = 2 * KEPT_CHUNKS * CHUNK
"""Bytes: what is further ahead of the hasher than this is not kept for it."""

FLUSH_BYTES = 64 * 2**20
"""Written bytes after which a flush to the disk begins, while more arrive."""

MAX_JOURNAL = 64 * 2**20

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
        """What of the first `size` bytes is not in the set."""
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


class Ingest:
    """The open, locked draft of one blob: a `Sink`, hashed behind what arrives."""

    def __init__(
        self, fd: int, path: Path, journal: int, desc: Descriptor, files: Files, boot: bytes
    ) -> None:
        self._fd, self._path = fd, path
        self._journal, self._journal_path = journal, journal_path(path)
        self._desc = desc
        self._files = files
        self._changed = threading.Condition()
        self._hashed = 0
        self._written = self._recover(boot)
        self._kept: dict[int, bytes] = {}
        self._unsynced = 0
        self._ending = False
        self._failure: BaseException | None = None
        self.resumed = bool(list(self._written))
        """Whether an earlier attempt had brought some of it."""
        self._hash = hashlib.new(desc.digest.algorithm)
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("hasher", self._hasher), ("flusher", self._flusher))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads; what was written stays for the next attempt."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # The Sink.

    def missing(self) -> list[tuple[int, int]]:
        """The ranges that are not here."""
        with self._changed:
            return self._written.missing(self._desc.size)

    def write(self, offset: int, chunk: bytes) -> None:
        """Take bytes, note them, and let the hasher know."""
        self._files.write_at(self._fd, self._path, chunk, offset)
        stop = offset + len(chunk)
        self._note(_WRITTEN, offset, stop)
        with self._changed:
            if self._failure is not None:
                raise self._failure
            self._written.add(offset, stop)
            self._unsynced += len(chunk)
            if len(self._kept) < KEPT_CHUNKS and offset < self._hashed + KEPT_AHEAD:
                self._kept[offset] = chunk
            self._changed.notify_all()

    def verify(self) -> None:
        """Wait for the hasher to come to the end. Raises DigestMismatchError, StoreError."""
        self._threads[0].join()
        if self._failure is not None:
            raise self._failure
        actual = Digest(self._desc.digest.algorithm, self._hash.hexdigest())
        verify_digest(self._desc, actual)

    # What is behind it.

    def _recover(self, boot: bytes) -> Ranges:
        """What may be believed of an earlier attempt; the rest of the journal is cut off."""
        trusted = Ranges()
        token = _token(boot)
        records: list[tuple[bytes, int, int]] = []
        with store_errors("reading", self._path):
            if os.fstat(self._fd).st_size == self._desc.size:
                records = _parse(_read_all(self._journal))
        if not records:
            self._files.truncate(self._fd, self._path, 0)
            self._files.truncate(self._fd, self._path, self._desc.size)
        self._files.truncate(self._journal, self._journal_path, len(records) * _RECORD.size)
        written_in: tuple[int, int] | None = None
        for kind, start, stop in records:
            if kind == _BOOT:
                written_in = start, stop
            elif stop <= self._desc.size and (kind == _SYNCED or written_in == token):
                trusted.add(start, stop)
        if written_in != token:
            self._note(_BOOT, *token)
        return trusted

    def _note(self, kind: bytes, start: int, stop: int) -> None:
        record = _RECORD.pack(kind, start, stop, 0)
        sealed = _RECORD.pack(kind, start, stop, zlib.crc32(record))
        self._files.write(self._journal, self._journal_path, sealed)

    def _hasher(self) -> None:
        """Follow the bytes from the first on, from memory where they are still there."""
        position = 0
        try:
            while position < self._desc.size:
                chunk, end = self._await(position)
                if end <= position:
                    return
                if chunk is None:
                    with store_errors("reading", self._path):
                        chunk = os.pread(self._fd, min(CHUNK, end - position), position)
                if not chunk:
                    raise StoreError(f"{self._path} was made shorter while it was written")
                self._hash.update(chunk)
                position += len(chunk)
        except StoreError as error:
            self._fail(error)

    def _await(self, position: int) -> tuple[bytes | None, int]:
        """Wait for bytes at a position: they, if in memory, and up to where there are more."""
        with self._changed:
            self._hashed = position
            while (end := self._written.end_from(position)) <= position and not self._ending:
                self._changed.wait()
            for offset in [offset for offset in self._kept if offset < position]:
                del self._kept[offset]
            chunk = self._kept.pop(position, None)
            return chunk, min((offset for offset in self._kept), default=end)

    def _flusher(self) -> None:
        """Bring what was written to the disk early, so that the last fsync is short."""
        try:
            while True:
                with self._changed:
                    while self._unsynced < FLUSH_BYTES and not self._ending:
                        self._changed.wait()
                    if self._ending:
                        return
                    self._unsynced = 0
                    written = list(self._written)
                self._files.flush(self._fd, self._path)
                for start, stop in written:
                    self._note(_SYNCED, start, stop)
        except StoreError as error:
            # What reads well from memory may be nothing on the disk: nobody may go on with it.
            self._fail(error)
            with contextlib.suppress(StoreError):
                self.discard()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def discard(self) -> None:
        """Delete the journal, then the draft: without the one the other is never believed."""
        self._files.remove(self._journal_path)
        self._files.remove(self._path)


def journal_path(draft: Path) -> Path:
    """Where the journal of a draft lies."""
    return draft.with_name(f"{draft.name}.journal")


def _token(boot: bytes) -> tuple[int, int]:
    """A start of the machine as two numbers; one that nobody knows is like no other."""
    digest = hashlib.sha256(boot).digest() if boot else os.urandom(16)
    return int.from_bytes(digest[:8]), int.from_bytes(digest[8:16])


def _read_all(journal: int) -> bytes:
    size = os.fstat(journal).st_size
    return os.pread(journal, size, 0) if size <= MAX_JOURNAL else b""


def _parse(content: bytes) -> list[tuple[bytes, int, int]]:
    """The records up to the first that is torn."""
    records = []
    for offset in range(0, len(content) - _RECORD.size + 1, _RECORD.size):
        kind, start, stop, crc = _RECORD.unpack_from(content, offset)
        if crc != zlib.crc32(_RECORD.pack(kind, start, stop, 0)):
            break
        records.append((kind, start, stop))
    return records
