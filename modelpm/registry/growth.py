"""Whether more streams bring more, and which of them hardly brings anything: by measuring only.

No threads, no clock: who asks says what time it is and what has arrived.
"""

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from modelpm.registry.limits import Growth

_Stream = TypeVar("_Stream", bound=Hashable)

_LOOKS = 3
"""Windows, each twice as long as the one before, in which more streams can show their worth."""


class Trial:
    """How many streams there should be: twice as many, as long as that brings clearly more."""

    def __init__(self, growth: Growth, most: int) -> None:
        self.wanted = 1
        self._growth = growth
        self._most = most
        self._pause = growth.pause
        self._not_before = 0.0
        self._fewer: tuple[int, float] | None = None
        """While more are tried: how many there were, and what they brought in a second."""
        self._count = 0
        self._looks = 1
        self._began, self._before = 0.0, 0

    def judge(self, now: float, arrived: int, count: int, *, flowing: bool) -> None:
        """Take note of what `count` streams have brought by now, all of them if `flowing`."""
        if count != self._count or arrived == self._before or not flowing:
            self._count, self._looks = count, 1
            self._measure_from(now, arrived)
            return
        seconds = now - self._began
        if seconds < self._growth.window * 2 ** (self._looks - 1):
            return
        rate = (arrived - self._before) / seconds
        self._measure_from(now, arrived)
        if self._fewer is not None and count > self._fewer[0]:
            if rate < self._growth.gain * self._fewer[1]:
                self._doubt(now, self._fewer[0])
                return
            self._fewer = None
        self._looks = 1
        if count == self.wanted < self._most and now >= self._not_before:
            self._fewer = count, rate
            self.wanted = min(2 * count, self._most)

    def refuse(self, now: float, count: int) -> None:
        """There cannot be more than `count` streams, for now."""
        self.wanted = max(1, count)
        self._rest(now)

    def _doubt(self, now: float, fewer: int) -> None:
        """More streams bring no more, as it looks: look longer, then go back."""
        self._looks += 1
        if self._looks > _LOOKS:
            self.refuse(now, fewer)

    def _rest(self, now: float) -> None:
        self._fewer, self._looks = None, 1
        self._not_before = now + self._pause
        self._pause *= 2

    def _measure_from(self, now: float, arrived: int) -> None:
        self._began, self._before = now, arrived


class Laggards(Generic[_Stream]):
    """Finds streams that lag far behind the others; the last one, behind what streams brought."""

    def __init__(self, growth: Growth, now: float) -> None:
        self._growth = growth
        self._looked = self._noted = now
        self._before: dict[_Stream, int] = {}
        self._total, self._together = 0, 0
        self._stream_seconds = 0.0

    def find(self, now: float, arrived: Mapping[_Stream, int], total: int) -> list[_Stream]:
        """Which streams to replace: of all of them, with the bytes that each has brought by now.

        `total` counts what all streams have brought, also those that are gone.
        """
        if len(arrived) > 1:
            self._stream_seconds += (now - self._noted) * len(arrived)
            self._together += total - self._total
        self._noted, self._total = now, total
        seconds = now - self._looked
        if seconds < self._growth.lag_window:
            return []
        before, self._before, self._looked = self._before, dict(arrived), now
        rates = {
            stream: (count - before[stream]) / seconds
            for stream, count in arrived.items()
            if stream in before
        }
        return [stream for stream in rates if self._lags(stream, rates)]

    def _lags(self, stream: _Stream, rates: Mapping[_Stream, float]) -> bool:
        others = [rate for other, rate in rates.items() if other != stream]
        if others:
            import statistics  # noqa: PLC0415 - lazy: for large blobs over several streams only

            return rates[stream] * self._growth.lag < statistics.median(others)
        usual = self._together / self._stream_seconds if self._stream_seconds else 0.0
        if rates[stream] * self._growth.lag >= usual:
            return False
        # Once only: if the next is no better, that is how it is now.
        self._together, self._stream_seconds = 0, 0.0
        return True
