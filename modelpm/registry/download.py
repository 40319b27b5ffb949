"""How many streams bring one blob: as many as make it faster, and no more.

One stream begins. As long as twice as many bring clearly more there are twice as many, up to the
registry's limit; a new one takes the second half of the largest part that is left. A stream that
lags far behind the others loses its part to a new one. A server that gives no ranges, or not so
many connections, gets what it can take: what a stream cannot bring goes back to where it came from.
"""

import statistics
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO

from modelpm.content import RangeFetcher, Sink, verify_size
from modelpm.errors import RegistryError
from modelpm.oci.descriptor import Descriptor
from modelpm.registry.limits import Budget

MIN_PART = 32 * 2**20
"""Bytes: a part below this is not worth a connection of its own."""

TICK = 0.05
"""Seconds between two looks at the streams."""

WINDOW = 0.2
"""Seconds over which the rate of some number of streams is taken."""

GAIN = 1.3
"""Twice as many streams stay if they bring so many times as much."""

PROBE_AGAIN = 5.0
"""Seconds after which more streams are tried once more; each time twice as long."""

LAG = 10
"""A stream is replaced when it is so many times slower than the median of the others."""

LAG_SECONDS = 5.0
"""How long it must have been."""

_NO_RANGES = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)


@dataclass(eq=False, slots=True)
class _Part:
    """The bytes [position, stop) that one stream brings; `giver` is whose they were before."""

    position: int
    stop: int
    giver: "_Part | None" = None
    since: float = 0.0
    began_at: int = 0
    """Where it was at the time `since`: its rate is taken from there."""

    @property
    def left(self) -> int:
        return self.stop - self.position


class Download:
    """One blob from a source that serves ranges into a sink. Runs once."""

    def __init__(
        self,
        source: RangeFetcher,
        desc: Descriptor,
        sink: Sink,
        budget: Budget,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._desc = desc
        self._sink = sink
        self._budget = budget
        self._clock = clock
        self._changed = threading.Condition()
        self._todo = [_Part(start, stop) for start, stop in sink.missing()]
        self._active: list[_Part] = []
        self._wanted = 1
        self._most = budget.connections
        self._arrived = 0
        self._has_ranges = True
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Bring all that the sink misses.

        Raises what the source's streams and the sink raise, and DigestMismatchError when there are
        more bytes than the descriptor says.
        """
        alone = self._most == 1 or sum(part.left for part in self._todo) < 2 * MIN_PART
        while self._todo and self._failure is None:
            self._budget.acquire(self._sink.missing)
            if alone:
                self._work(self._todo.pop(0))
            else:
                self._start(self._todo.pop(0))
                self._watch()
        if self._failure is not None:
            raise self._failure

    # The streams.

    def _start(self, part: _Part) -> None:
        """Begin a stream that has its connection already."""
        thread = threading.Thread(target=self._work, args=(part,), name="stream", daemon=True)
        thread.start()

    def _work(self, first: _Part) -> None:
        """Bring one part after the other, as long as this stream is wanted."""
        part: _Part | None = first
        try:
            while part is not None:
                self._enter(part)
                self._bring(part)
                part = self._next(part)
        except RegistryError as error:
            self._lose(part, error)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the watcher must hear of it
            self._fail(error)
        finally:
            self._budget.release()
            with self._changed:
                self._changed.notify_all()

    def _enter(self, part: _Part) -> None:
        with self._changed:
            part.since, part.began_at = self._clock(), part.position
            if part not in self._active:
                self._active.append(part)

    def _bring(self, part: _Part) -> None:
        """Read one part to its end, wherever that is moved meanwhile."""
        with self._open(part) as stream:
            while part.left > 0:
                chunk = stream.read(self._budget.piece)
                offset, count = self._claim(part, len(chunk))
                if count:
                    self._sink.write(offset, chunk[:count])
                if not chunk:
                    break
                self._budget.spend(len(chunk))
                # A stream that goes to the blob's end gives one byte more where there are more.
                if offset + len(chunk) > self._desc.size:
                    verify_size(self._desc, offset + len(chunk))
            if part.left > 0:
                verify_size(self._desc, part.position)
            if part.stop == self._desc.size and part.giver is None and stream.read(1):
                verify_size(self._desc, self._desc.size + 1)

    def _open(self, part: _Part) -> AbstractContextManager[BinaryIO]:
        """A stream of a part; of one to the blob's end as every server gives it."""
        is_rest = part.giver is None and part.stop == self._desc.size
        if is_rest or not self._has_ranges:
            return self._source.fetch(self._desc, part.position)
        return self._source.fetch_range(self._desc, part.position, part.stop)

    def _claim(self, part: _Part, count: int) -> tuple[int, int]:
        """Of so many bytes that came, where the first belongs and how many are the part's."""
        with self._changed:
            offset, count = part.position, min(count, part.left)
            part.position += count
            self._arrived += count
            return offset, count

    def _next(self, done: _Part) -> _Part | None:
        """What a stream that has brought its part does next; None is to end."""
        with self._changed:
            if done in self._active:
                self._active.remove(done)
            if self._failure is not None or len(self._active) >= self._wanted:
                return None if self._active or not self._todo else self._todo.pop(0)
            return self._pick()

    def _pick(self) -> _Part | None:
        """A part that nobody brings, else the second half of the largest that is worth it."""
        if self._todo:
            return self._todo.pop(0)
        giver = max(self._active, key=lambda part: part.left, default=None)
        if giver is None or giver.left < 2 * MIN_PART or not self._has_ranges:
            return None
        middle = giver.stop - giver.left // 2
        part = _Part(middle, giver.stop, giver)
        giver.stop = middle
        return part

    def _take_away(self, part: _Part) -> None:
        """Leave a stream nothing to bring: the rest goes back to its giver, or waits."""
        rest = _Part(part.position, part.stop)
        part.stop = part.position
        giver = part.giver
        if rest.left <= 0:
            return
        if giver is not None and giver in self._active and giver.stop == rest.position:
            giver.stop = rest.stop
        else:
            self._todo.append(rest)

    def _lose(self, part: _Part | None, error: RegistryError) -> None:
        """A stream cannot go on. The last one fails for all; else there are fewer from now on."""
        with self._changed:
            if part is not None and part in self._active:
                self._active.remove(part)
                self._take_away(part)
            if error.status in _NO_RANGES and self._has_ranges:
                self._has_ranges = False
            elif not self._active:
                self._failure = self._failure or error
            self._most = max(1, len(self._active))
            self._wanted = min(self._wanted, self._most)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            for part in self._active:
                part.stop = part.position
            self._active.clear()

    # The watcher.

    def _watch(self) -> None:
        """Look at the streams until none is left."""
        trial = _Trial(self._clock())
        try:
            while True:
                with self._changed:
                    self._changed.wait(TICK)
                    if self._failure is not None:
                        return
                    if not self._active:
                        return  # what is left to do, one stream begins anew
                    now, arrived, count = self._clock(), self._arrived, len(self._active)
                self._sink.missing()  # raises when the copy is to end
                self._replace_laggards(now)
                verdict = trial.judge(now, arrived, count, self._wanted)
                if verdict > self._wanted:
                    self._add(min(verdict, self._most) - count)
                elif verdict < self._wanted:
                    self._shrink(verdict)
        except BaseException as error:
            self._fail(error)
            raise

    def _add(self, count: int) -> None:
        """Begin more streams, as far as there are connections and parts for them."""
        for _ in range(count):
            if not self._budget.try_acquire():
                break
            with self._changed:
                part = self._pick()
                if part is not None:
                    self._active.append(part)
            if part is None:
                self._budget.release()
                break
            self._start(part)
        with self._changed:
            self._wanted = max(1, len(self._active))

    def _shrink(self, count: int) -> None:
        """End the youngest streams, down to so many."""
        with self._changed:
            self._wanted = count
            for part in reversed(self._active[count:]):
                self._take_away(part)

    def _replace_laggards(self, now: float) -> None:
        """Give what a stream hardly brings to a new one; the old one ends when it wakes up."""
        with self._changed:
            rates = {part: _rate(part, now) for part in self._active}
            known = [rate for rate in rates.values() if rate is not None]
            slow = [
                part
                for part, rate in rates.items()
                if rate is not None
                and part.left > 0
                and len(known) > 1
                and rate * LAG < statistics.median(known)
            ]
            for part in slow:
                self._active.remove(part)
                self._take_away(part)
            replacements = min(len(slow), len(self._todo))
        if replacements:
            self._add(replacements)


@dataclass(slots=True)
class _Trial:
    """Whether more streams bring more: rates of numbers of streams, taken one after the other."""

    began: float
    before: int = 0
    probe_at: float = 0.0
    pause: float = PROBE_AGAIN
    count: int = 0
    last: tuple[int, float] = (0, 0.0)
    """A number of streams and what they brought in a second."""

    def judge(self, now: float, arrived: int, count: int, wanted: int) -> int:
        """How many streams there should be."""
        if count != self.count or arrived == self.before:
            self.began, self.before, self.count = now, arrived, count
            return wanted
        if now - self.began < WINDOW:
            return wanted
        rate = (arrived - self.before) / (now - self.began)
        self.began, self.before = now, arrived
        fewer, their_rate = self.last
        if fewer < count and fewer and rate < GAIN * their_rate:
            self.last = (0, 0.0)
            self.probe_at, self.pause = now + self.pause, self.pause * 2
            return fewer
        if now < self.probe_at:
            return wanted
        self.last = (count, rate)
        return 2 * count


def _rate(part: _Part, now: float) -> float | None:
    """Bytes a second over the last seconds; None while that cannot be told."""
    seconds = now - part.since
    if seconds < LAG_SECONDS:
        return None
    rate = (part.position - part.began_at) / seconds
    if seconds > 2 * LAG_SECONDS:
        part.since, part.began_at = now - LAG_SECONDS, part.position - int(rate * LAG_SECONDS)
    return rate
