"""When to go on, when to ask again, and when to give up.

Source of the figures: what registries and their clients do. All can be set, so that tests are fast.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol, Self

from modelpm.oci.descriptor import Digest

_QUICK_ATTEMPTS = 3
_QUICK_BACKOFF = 0.1
_RANDOM = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class Growth:
    """When one blob gets more streams, or another one in the place of a slow one."""

    part: int = 32 * 2**20
    """Bytes: a part below this is not worth a request of its own."""
    tick: float = 0.05
    """Seconds between two looks at the streams."""
    window: float = 0.2
    """Seconds over which it is first measured what some number of streams brings."""
    gain: float = 1.3
    """More streams stay if they bring so many times as much."""
    pause: float = 5.0
    """Seconds after which more streams are tried once more; each time twice as long."""
    lag: float = 10.0
    """A stream is replaced when the others are so many times faster."""
    lag_window: float = 3.0
    """Seconds over which that is measured."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, how often and how much. Times are seconds, amounts bytes."""

    connect: float = 15.0
    """To reach a host, each of its addresses."""
    no_progress: float = 30.0
    """Without a byte; also for the whole head of an answer."""
    token: float = 20.0
    """For a whole answer of a token service."""
    document: float = 120.0
    """For a whole manifest, or a page of a list."""
    attempts: int = 6
    backoff: float = 0.25
    backoff_max: float = 8.0
    retry_after_max: float = 300.0
    """What a server may make us wait at once."""
    retry_after_total: float = 900.0
    """What it may make us wait for one piece of work."""
    redirects: int = 5
    auth_rounds: int = 2
    small_body: int = 64 * 2**10
    """An error, or a token."""
    pages: int = 1_000
    page_bytes: int = 64 * 2**20
    """All pages of one list."""
    entries: int = 1_000_000
    """All entries of one list."""
    progress: int = 2**20
    """After so much has arrived, a broken download has all its attempts again."""
    slow_rate: int = 1024
    """A stream below so many bytes a second is as good as stalled."""
    slow_window: float = 60.0
    """Seconds over which `slow_rate` is measured."""
    connections: int = 8
    """Streams at once, of all blobs together."""
    rate: int = 0
    """Bytes of blobs a second, of all streams together; 0 is as fast as they come."""
    growth: Growth = Growth()


class Crowd(Protocol):
    """The others whom a registry serves meanwhile."""

    @property
    def useful(self) -> int:
        """How many of them were served to the end."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether others than whoever asks are served now."""
        ...

    def await_turn(self, since: int, is_over: Callable[[], bool], /) -> bool:
        """Wait until `useful` is more than `since`; False if that is not to be."""
        ...


class Attempts:
    """The attempts at one piece of work, and the waits between them.

    There is none any more once `is_over` says so. Whoever is refused because others of the `crowd`
    are served has all attempts again when one of these has ended.
    """

    def __init__(
        self,
        limits: Limits,
        sleep: Callable[[float], object],
        on_wait: Callable[[float, str], None],
        is_over: Callable[[], bool] = bool,
        crowd: Crowd | None = None,
    ) -> None:
        self._limits = limits
        self._sleep = sleep
        self._on_wait = on_wait
        self._is_over = is_over
        self._crowd = crowd
        self._what = ""
        self._since = 0
        self.turns = 0
        """How often all attempts were used up, and a turn has come."""
        self._failed = 0
        self._waited = 0.0

    def about(self, digest: Digest) -> Self:
        """This, with whose work it is, so that a wait can be told whose end nobody knows."""
        self._what = digest.short
        return self

    def again(
        self,
        why: str,
        retry_after: str | None = None,
        *,
        quick: bool = False,
        crowded: bool = False,
    ) -> bool:
        """Wait and say True, or say False: there is to be no further attempt.

        `retry_after` is the header of that name. `quick` is for failures that seldom pass: three
        attempts within half a second. `crowded` is for those that others' being served may cause.
        """
        if self._crowd is not None and not self._failed:
            self._since = self._crowd.useful
        self._failed += 1
        bound = self._limits.attempts
        if self._is_over():
            return False
        if self._failed >= (min(bound, _QUICK_ATTEMPTS) if quick else bound):
            return crowded and self._has_turn(why)
        told = None if retry_after is None else _seconds(retry_after)
        if told is None:
            seconds = self._backoff(quick)
        else:
            seconds = min(told, self._limits.retry_after_max)
            self._waited += seconds
            if self._waited > self._limits.retry_after_total:
                return False
        self._on_wait(seconds, why)
        self._sleep(seconds)
        return not self._is_over()

    def progressed(self) -> None:
        """Enough was done since the last failure: count attempts anew."""
        self._failed = 0

    def _has_turn(self, why: str) -> bool:
        crowd = self._crowd
        if crowd is None:
            return False
        if self._what and crowd.is_busy:  # it may take long, and nobody knows how long
            self._on_wait(0.0, f"{self._what}: {why}, perhaps until others are served")
        if not crowd.await_turn(self._since, self._is_over):
            return False
        self.turns += 1
        self._failed = 0
        return True

    def _backoff(self, quick: bool) -> float:
        start = min(_QUICK_BACKOFF, self._limits.backoff) if quick else self._limits.backoff
        longest = min(start * 2 ** (self._failed - 1), self._limits.backoff_max)
        return float(longest) * _RANDOM.uniform(0.5, 1.0)


class Pace:
    """Tells a slow stream from one that drips. Only time spent in reading counts."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = 0
        self._seconds = 0.0

    def is_lost(self, count: int, seconds: float) -> bool:
        """Whether the stream, which gave `count` more bytes in `seconds`, is to be given up."""
        self._bytes += count
        self._seconds += seconds
        if self._seconds < self._limits.slow_window:
            return False
        slow = self._bytes < self._limits.slow_rate * self._seconds
        self._bytes, self._seconds = 0, 0.0
        return slow


def _seconds(retry_after: str) -> float | None:
    """What Retry-After asks for (RFC 9110, 10.2.3), None if that makes no sense."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - datetime.now(UTC)).total_seconds()
    return seconds if seconds >= 0 else None
