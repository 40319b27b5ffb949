"""What is sent of a blob: read in order, hashed beside the sending, its end held back till then.

Whoever changes a file while it is sent, or whose disk is bad, makes no upload that can be finished:
the last bytes go out only once all of them are known to be right.
"""

import hashlib
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Self

from modelpm.content import Fetcher, verify_digest, verify_size
from modelpm.errors import StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.registry.budget import Budget

_READ = 2**19
"""Bytes to read at a time."""

_SENT = 2**17
"""Bytes to send at a time: a socket's time-out is for all of them together."""

_AHEAD = 8
"""Pieces that may be sent before they are hashed."""

MARKED = 8 * 2**20
"""Bytes between two places from which the hashing can go on."""

_MARKS = 512
"""How many of these places are remembered: the last ones."""


class Outgoing:
    """The bytes of one blob on their way out, as often as it takes. Not for several threads."""

    def __init__(self, desc: Descriptor, source: Fetcher, budget: Budget) -> None:
        self.desc = desc
        self._source = source
        self._budget = budget
        self._start: Any = hashlib.new(desc.digest.algorithm)
        self._marks: deque[tuple[int, Any]] = deque(maxlen=_MARKS)
        self._running: Generator[memoryview, None, None] | None = None
        self.position = 0
        """How far the bytes have gone out, in the last part."""
        self.failure: BaseException | None = None
        """What ended the reading, if anything did."""

    def part(self, start: int, stop: int) -> "Part":
        """The bytes [start, stop), as the body of a request."""
        return Part(self, start, stop)

    def pieces(self, start: int, stop: int) -> Iterator[memoryview]:
        """Read and give the bytes [start, stop); those before are read where they must be hashed.

        Raises what the source raises, DigestMismatchError before the last bytes of a wrong blob.
        """
        self.close()
        self._running = self._pieces(start, stop)
        try:
            yield from self._running
        except GeneratorExit:
            raise
        except OSError as error:
            self.failure = StoreError(f"reading {self.desc.digest}: {error.strerror or error}")
            raise self.failure from error
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.close()

    def close(self) -> None:
        """End the part that is going out."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def _pieces(self, start: int, stop: int) -> Generator[memoryview, None, None]:
        position, hasher = self._mark_before(start)
        self.position = start
        size = self.desc.size
        with (
            self._source.fetch(self.desc, position) as stream,
            self._hashing(position, hasher) as h,
        ):
            while position < stop:
                piece = stream.read(min(_READ, self._budget.piece, stop - position))
                if not piece:
                    verify_size(self.desc, position)
                h.update(piece)
                before, position = position, position + len(piece)
                if position >= size:
                    verify_size(self.desc, position + len(stream.read(1)))
                    verify_digest(self.desc, Digest(self.desc.digest.algorithm, h.finish()))
                yield from self._sent(memoryview(piece)[max(0, start - before) :])

    def _sent(self, view: memoryview) -> Iterator[memoryview]:
        """Cut what was read; whoever asks for the next piece has sent the last one."""
        for offset in range(0, len(view), _SENT):
            part = view[offset : offset + _SENT]
            yield part
            self.position += len(part)
            self._budget.spend(len(part))

    def _mark_before(self, offset: int) -> tuple[int, Any]:
        known = (mark for mark in reversed(self._marks) if mark[0] <= offset)
        position, hasher = next(known, (0, self._start))
        return position, hasher.copy()

    def _hashing(self, position: int, hasher: Any) -> "_Hashing":
        return _Hashing(position, hasher, self._marks)


class Part:
    """A part of what goes out. Each iteration reads it anew."""

    def __init__(self, outgoing: Outgoing, start: int, stop: int) -> None:
        self._outgoing, self.start, self.stop = outgoing, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[memoryview]:
        return self._outgoing.pieces(self.start, self.stop)


class _Hashing:
    """A thread that hashes what it is given, and remembers how far on the way."""

    def __init__(self, position: int, hasher: Any, marks: deque[tuple[int, Any]]) -> None:
        self._position, self._hasher, self._marks = position, hasher, marks
        self._queue: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self._thread = threading.Thread(target=self._run, name="hasher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.finish()

    def update(self, piece: bytes) -> None:
        """Hash this too, soon."""
        self._queue.put(piece)

    def finish(self) -> str:
        """The hash of all that was given. May be called twice."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        hexadecimal: str = self._hasher.hexdigest()
        return hexadecimal

    def _run(self) -> None:
        while (piece := self._queue.get()) is not None:
            self._hasher.update(piece)
            before, self._position = self._position, self._position + len(piece)
            last = self._marks[-1][0] if self._marks else 0
            if before // MARKED < self._position // MARKED and self._position > last:
                self._marks.append((self._position, self._hasher.copy()))
