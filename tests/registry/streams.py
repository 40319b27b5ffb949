"""A source of ranges and a sink in memory, to see what a download does with them.

Both count what goes wrong: bytes written twice or outside of the blob, writes after the end.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from modelpm.errors import RegistryError
from modelpm.oci.descriptor import Descriptor

Before = Callable[["Stream"], None]


def nothing(_stream: "Stream") -> None:
    pass


@dataclass
class Server:
    """Serves ranges of `content`. `before` is called at each read: it may wait, or raise."""

    content: bytes
    before: Before = nothing
    piece: int = 2**30
    has_ranges: bool = True
    most: int = 1_000
    """Streams at once; one more is refused, unless it is patient."""
    asked: list[tuple[int, int | None, bool]] = field(default_factory=list)
    open: "list[Stream]" = field(default_factory=list)
    peak: int = 0
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def desc(self) -> Descriptor:
        return Descriptor.of(self.content, "a/b")

    def fetch(self, start: int, stop: int | None, *, patient: bool) -> "Stream":
        with self.lock:
            self.asked.append((start, stop, patient))
        return Stream(self, start, stop, patient)

    @property
    def spans(self) -> list[tuple[int, int | None]]:
        return [(start, stop) for start, stop, _ in self.asked]


class Stream:
    """The bytes [start, stop), or the rest and what comes after it."""

    def __init__(self, server: Server, start: int, stop: int | None, patient: bool) -> None:
        self.server = server
        self.start, self.stop, self.patient = start, stop, patient
        self.position = start
        self.reads = 0
        self.aborted = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.server.lock:
            if self in self.server.open:
                self.server.open.remove(self)

    def abort(self) -> None:
        self.aborted.set()

    def read(self, size: int, /) -> bytes:
        self.reads += 1
        if self.reads == 1:
            self._begin()
        self.server.before(self)
        if self.aborted.is_set():
            raise RegistryError("ended by us")
        end = len(self.server.content) if self.stop is None else self.stop
        size = min(size, self.server.piece, end - self.position)
        chunk = self.server.content[self.position : self.position + size]
        self.position += len(chunk)
        with self.server.lock:
            self.server.sent += len(chunk)
        return chunk

    def _begin(self) -> None:
        server = self.server
        if self.stop is not None and not server.has_ranges:
            raise RegistryError("another part came than was asked for", status=200)
        with server.lock:
            if len(server.open) >= server.most:
                raise RegistryError("too many connections", status=429)
            server.open.append(self)
            server.peak = max(server.peak, len(server.open))


class Drain:
    """A sink that keeps the bytes, and counts what must not happen. `before` may wait, or raise."""

    def __init__(self, size: int, missing: list[tuple[int, int]] | None = None) -> None:
        self.content = bytearray(size)
        self._came = bytearray(b"\1" * size)
        for start, stop in [(0, size)] if missing is None else missing:
            self._came[start:stop] = bytes(stop - start)
        self.lock = threading.Lock()
        self.is_over = False
        self.mistakes: list[str] = []
        self.before: Callable[[int], None] = lambda _offset: None
        self.alive: Callable[[], None] = lambda: None
        self.log: list[tuple[float, int]] = []
        """When how many bytes came."""

    def missing(self) -> list[tuple[int, int]]:
        self.alive()
        with self.lock:
            found, end = [], 0
            while (start := self._came.find(0, end)) >= 0:
                end = self._came.find(1, start)
                end = len(self._came) if end < 0 else end
                found.append((start, end))
            return found

    def write(self, offset: int, chunk: bytes) -> None:
        self.before(offset)
        with self.lock:
            self.log.append((time.monotonic(), len(chunk)))
            stop = offset + len(chunk)
            if self.is_over:
                self.mistakes.append(f"written after the end: {offset}-{stop}")
            if stop > len(self.content) or 1 in self._came[offset:stop]:
                self.mistakes.append(f"written twice, or beyond: {offset}-{stop}")
            self.content[offset:stop] = chunk
            self._came[offset:stop] = b"\1" * len(chunk)

    def end(self) -> None:
        """From now on no write is in order."""
        with self.lock:
            self.is_over = True
