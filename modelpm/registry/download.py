"""How many streams bring one blob: as many as make it faster, and no more.

A blob comes from its front to its back, so that whoever hashes it can follow. One stream begins,
with one request for all of it. As long as twice as many bring clearly more there are twice as many;
then each of them asks for one part after the other. What a stream cannot bring, or hardly brings,
is left to the others. A server that gives no ranges, or not so many connections, is asked for no
more than it can give.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from modelpm.content import Sink, verify_size
from modelpm.errors import RegistryError
from modelpm.oci.descriptor import Descriptor
from modelpm.registry.budget import Budget
from modelpm.registry.growth import Laggards, Trial
from modelpm.registry.limits import Growth

_PARTS = 16
"""Each stream's part of a very large blob is at least such a part of it."""

_NO_RANGES = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)


class PartStream(Protocol):
    """Bytes that come one after the other. UNVERIFIED."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes as soon as there are any; none at the end."""
        ...

    def abort(self) -> None:
        """Make the read that waits, and each later one, fail soon. From any thread."""
        ...


class RangeFetcher(Protocol):
    """Where the bytes of one blob can be read in any order, by several streams at a time."""

    def __call__(
        self, start: int, stop: int | None, *, patient: bool
    ) -> AbstractContextManager[PartStream]:
        """Open the bytes [start, stop), or without `stop` the rest, by whatever the server gives.

        A `patient` stream waits where the server says so. Reading raises RegistryError; with the
        status 200, 206 or 416 where the server does not serve that range.
        """
        ...


@dataclass(eq=False, slots=True)
class _Stream:
    """One stream and the bytes [position, stop) that it brings now. Others may take of them."""

    position: int
    stop: int
    until: int = 0
    """Where the request ends that is open; it may be beyond `stop`."""
    is_range: bool = False
    is_patient: bool = False
    arrived: int = 0
    """Bytes of all its parts."""
    opened: PartStream | None = None

    @property
    def left(self) -> int:
        return self.stop - self.position


class Download:
    """One blob from a source that serves ranges into a sink. Runs once."""

    def __init__(
        self,
        fetch: RangeFetcher,
        desc: Descriptor,
        sink: Sink,
        budget: Budget,
        growth: Growth,
        clock: Callable[[], float],
    ) -> None:
        self._fetch = fetch
        self._desc = desc
        self._sink = sink
        self._budget = budget
        self._growth = growth
        self._clock = clock
        self._part = max(growth.part, desc.size // (_PARTS * budget.connections))
        self._changed = threading.Condition()
        # All below changes under the condition only.
        self._todo = sink.missing()
        self._active: list[_Stream] = []
        self._trial = Trial(growth, budget.connections)
        self._laggards: Laggards[_Stream] = Laggards(growth, clock())
        self._arrived = 0
        self._landing = 0
        """Writes that are under way."""
        self._replaced = 0
        self._has_ranges = True
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Bring all that the sink misses; then nothing more is written, also after a failure.

        Raises what the source's streams and the sink raise, and DigestMismatchError when there are
        more bytes than the descriptor says, or fewer.
        """
        try:
            while self._todo and self._failure is None:
                self._budget.acquire(self._sink.missing)
                self._start()
                self._watch()
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            with self._changed:
                while self._landing:
                    self._changed.wait()
        if self._failure is not None:
            raise self._failure

    def _watch(self) -> None:
        """Look at the streams until none is left."""
        while True:
            with self._changed:
                if not self._active:
                    return
                self._changed.wait(self._growth.tick)
                if self._has_ranges:
                    self._measure(self._clock())
            self._sink.missing()  # raises when the download is to end
            while self._lacks_streams() and self._budget.try_acquire():
                if not self._start():
                    break

    def _measure(self, now: float) -> None:
        arrived = {stream: stream.arrived for stream in self._active}
        flowing = all(arrived.values())
        self._trial.judge(now, self._arrived, len(arrived), flowing=flowing)
        for stream in self._laggards.find(now, arrived, self._arrived):
            self._replaced += 1
            if self._replaced > self._budget.connections + self._arrived // self._growth.part:
                break  # where all hardly bring anything, a stream's own patience has to end
            self._leave(stream)
            if not stream.arrived:  # as good as refused
                self._trial.refuse(now, len(self._active))
            _abort(stream)

    def _lacks_streams(self) -> bool:
        with self._changed:
            return self._failure is None and len(self._active) < self._trial.wanted

    def _start(self) -> bool:
        """Begin a stream, which has its connection already, if there is a part for it."""
        with self._changed:
            part = self._pick()
            if part is not None:
                stream = _Stream(*part)
                self._active.append(stream)
        if part is None:
            self._budget.release()
            return False
        threading.Thread(target=self._work, args=(stream,), name="stream", daemon=True).start()
        return True

    def _fail(self, error: BaseException) -> None:
        """End all streams: nothing is claimed from now on."""
        with self._changed:
            self._failure = self._failure or error
            streams, self._active = self._active, []
            self._changed.notify_all()
        for stream in streams:
            _abort(stream)

    # One stream, in its own thread.

    def _work(self, stream: _Stream) -> None:
        """Bring one part after the other, as long as this stream is wanted."""
        try:
            while self._goes_on(stream):
                self._bring(stream)
        except BaseException as error:  # noqa: BLE001 - whatever it is, `run` raises it
            self._lose(stream, error)
        finally:
            self._budget.release()

    def _goes_on(self, stream: _Stream) -> bool:
        """Whether there is a part for this stream; if not, it is over."""
        with self._changed:
            if stream not in self._active:
                return False
            if stream.left:
                return True
            count = len(self._active)
            if count == 1 or (count <= self._trial.wanted and not self._budget.is_short):
                part = self._pick()
                if part is not None:
                    stream.position, stream.stop = part
                    return True
            self._leave(stream)
            return False

    def _bring(self, stream: _Stream) -> None:
        """Read one part to its end, wherever that is moved meanwhile."""
        with self._open(stream) as opened:
            if not self._expose(stream, opened):
                return
            while True:
                chunk = opened.read(self._budget.piece)
                claim = self._claim(stream, len(chunk))
                if claim is None:
                    return
                offset, count = claim
                if count:
                    self._land(offset, chunk[:count])
                if not stream.left:
                    break
            is_end = not stream.is_range and stream.position == self._desc.size
            if is_end and (len(chunk) > count or opened.read(1)):
                verify_size(self._desc, self._desc.size + 1)

    def _open(self, stream: _Stream) -> AbstractContextManager[PartStream]:
        """A part as a range; alone up to the blob's end, the rest as every server gives it."""
        with self._changed:
            is_alone = len(self._active) == 1
            is_rest = not self._has_ranges or (is_alone and stream.stop == self._desc.size)
            stream.is_range, stream.is_patient = not is_rest, is_alone
            stream.until = self._desc.size if is_rest else stream.stop
            start, stop = stream.position, None if is_rest else stream.stop
        return self._fetch(start, stop, patient=is_alone)

    def _expose(self, stream: _Stream, opened: PartStream) -> bool:
        """Let others abort it from now on; False if the stream is over already."""
        with self._changed:
            stream.opened = opened
            return stream in self._active

    def _claim(self, stream: _Stream, count: int) -> tuple[int, int] | None:
        """Where so many bytes that came belong, and how many of them are wanted.

        They are written, whatever happens to the stream meanwhile. None for a stream that is over.
        Raises DigestMismatchError where none came although there should be more.
        """
        with self._changed:
            if stream not in self._active:
                return None
            if not count:
                verify_size(self._desc, stream.position)
            if count >= stream.left:
                self._extend(stream)
            offset, count = stream.position, min(count, stream.left)
            stream.position += count
            stream.arrived += count
            self._arrived += count
            self._landing += bool(count)
            return offset, count

    def _land(self, offset: int, chunk: bytes) -> None:
        try:
            self._sink.write(offset, chunk)
        except BaseException as error:
            self._fail(error)  # before `run` hears that nothing is in the air any more
            raise
        finally:
            with self._changed:
                self._landing -= 1
                self._changed.notify_all()

    def _lose(self, stream: _Stream, error: BaseException) -> None:
        """A stream cannot go on: if it is not the last, fewer others bring the rest."""
        with self._changed:
            if stream not in self._active:
                return
            self._leave(stream)
            is_last = stream.is_patient and not self._active
            if not isinstance(error, RegistryError):
                self._fail(error)
            elif stream.is_range and error.status in _NO_RANGES:
                self._has_ranges = False
            elif is_last:
                self._fail(error)
            self._trial.refuse(self._clock(), len(self._active) if self._has_ranges else 1)

    # Parts. The condition is held.

    def _pick(self) -> tuple[int, int] | None:
        """The next part; if none is left, half of the largest that a stream works on.

        Of several that may be a quarter of a part, so that all end at about the same time.
        """
        if not self._todo and self._has_ranges:
            giver = max(self._active, key=lambda stream: stream.left, default=None)
            least = self._growth.part // 2 if len(self._active) > 1 else 2 * self._growth.part
            if giver is not None and giver.left >= least:
                middle = giver.position + min(self._part, giver.left // 2)
                self._todo, giver.stop = [(middle, giver.stop)], middle
        return self._take(self._desc.size) if self._todo else None

    def _take(self, limit: int) -> tuple[int, int]:
        """What comes first of what is to do: a part of it, or all where one stream is enough."""
        start, stop = self._todo.pop(0)
        is_all = self._trial.wanted == 1 or stop - start < self._part + self._growth.part
        end = min(limit, stop if is_all else start + self._part)
        if end < stop:
            self._todo.insert(0, (end, stop))
        return start, end

    def _extend(self, stream: _Stream) -> None:
        """Let a request that is open anyway go on beyond the part, if nobody brings that."""
        is_wanted = len(self._active) <= self._trial.wanted
        is_next = bool(self._todo) and self._todo[0][0] == stream.stop < stream.until
        if is_wanted and is_next:
            _, stream.stop = self._take(stream.until)

    def _leave(self, stream: _Stream) -> None:
        """A stream is over; what it has not brought is to do again."""
        self._active.remove(stream)
        if stream.left:
            self._todo = _merged([*self._todo, (stream.position, stream.stop)])
        self._changed.notify_all()


def _abort(stream: _Stream) -> None:
    if stream.opened is not None:
        stream.opened.abort()


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges that do not overlap, in order, those that touch made one."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        touches = merged and merged[-1][1] == start
        merged.append((merged.pop()[0] if touches else start, stop))
    return merged
