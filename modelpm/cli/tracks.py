"""How far a copy's layers are, how fast they come, and what is waited for, at any moment."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from modelpm.cli import output
from modelpm.oci.descriptor import Descriptor, Digest

_WINDOW = 10.0
_BUCKET = 1.0
_BEGIN = 2.0
_FIRST_BUCKETS = 0.5
_SETTLED_IN = 0.5
_SHORT = 1.0
_MOST_WAITS = 32


@dataclass(frozen=True, slots=True)
class Words:
    """What a verb calls what happens to a layer."""

    verb: str
    """`pulling`: before the layer's digest."""
    present: str = ""
    """Of a layer that need not move, where there can be one."""
    ending: str = "finishing"
    """Of a layer whose last byte has moved, while it is not settled."""
    again: str = ""
    """Why a layer begins anew, where that is a thing to tell."""
    subject: str = ""
    """What moves, if it has a name and its digest is not known."""

    def of(self, leaf: Descriptor) -> str:
        """What happens to this layer."""
        return f"{self.verb} {self.subject or leaf.digest.short}"


PULLING = Words("pulling", "already here", "verifying", "its bytes were wrong")
PUSHING = Words("pushing", "already there")
COPYING = Words("copying", "already there")
UNPACKING = Words("unpacking")
HASHING = Words("hashing")


@dataclass(slots=True)
class Track:
    """How far some bytes are, and how fast they come: bytes a second over the last ten."""

    head: str
    total: int
    done: int = 0
    is_settled: bool = False
    """Whether all is here and verified."""
    began: float | None = None
    """When it was first told of."""
    rate: float = 0.0
    """Bytes a second; 0 while that cannot be told. Changes once a second, at first twice."""
    _buckets: deque[tuple[float, int]] = field(default_factory=deque)

    def advance(self, count: int) -> None:
        """So many more bytes have come."""
        self.done += count

    def skip(self, count: int) -> None:
        """So many bytes were here already, or turned out not to be: no time was spent on them."""
        self.done += count
        self._buckets = deque((when, done + count) for when, done in self._buckets)

    def tick(self, now: float) -> None:
        """It is so late: what has come until now may fill a bucket of the rate."""
        if self.began is None:
            self.began = now
        buckets = self._buckets
        width = _BUCKET if now - self.began >= _BEGIN else _FIRST_BUCKETS
        if buckets and now - buckets[-1][0] < width:
            return
        buckets.append((now, self.done))
        while len(buckets) > 2 and now - buckets[0][0] > _WINDOW:
            buckets.popleft()
        start, before = buckets[0]
        if now > start:
            self.rate = max(0.0, (self.done - before) / (now - start))

    @property
    def is_moving(self) -> bool:
        """Whether it has begun and is not at its end."""
        return self.began is not None and self.done < self.total

    def is_stalled(self, now: float) -> bool:
        """Whether nothing has come for so long that the rate is none."""
        return self.began is not None and not self.rate and now - self.began >= _WINDOW

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take."""
        return (self.total - self.done) / self.rate if self.rate else None


class Tracks:
    """The tracks of one copy's layers, in their order, and the track of all of them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.words = PULLING
        self._tracks: dict[Digest, Track] = {}
        self._offsets: dict[Digest, int] = {}
        self.total = Track("total", 0)

    def begin(self, leaves: tuple[Descriptor, ...], words: Words = PULLING) -> None:
        """Begin a copy of these layers."""
        self.words = words
        self._tracks = {leaf.digest: self._track(leaf) for leaf in leaves}
        self._offsets.clear()
        self.total = Track("total", sum(leaf.size for leaf in leaves))

    def move(self, leaf: Descriptor, offset: int, *, is_settled: bool = False) -> Track:
        """The layer's track, after the layer has got to this offset."""
        track = self._tracks.get(leaf.digest)
        if track is None:
            track = self._tracks[leaf.digest] = self._track(leaf)
        now = self.clock()
        track.is_settled = is_settled
        before = self._offsets.get(leaf.digest)
        self._offsets[leaf.digest] = offset
        for each in (track, self.total):
            if before is None or offset < before:
                each.skip(offset - (before or 0))
            else:
                each.advance(offset - before)
            each.tick(now)
        return track

    def tick(self) -> list[Track]:
        """All tracks as they are now; a rate falls while nothing comes."""
        for track in (*self._tracks.values(), self.total):
            if track.is_moving:
                track.tick(self.clock())
        return list(self._tracks.values())

    def several_move(self) -> bool:
        """Whether two layers or more have been on their way for a moment."""
        latest = self.clock() - _SETTLED_IN
        moving = (
            track.is_moving and track.began is not None and track.began <= latest
            for track in self._tracks.values()
        )
        return sum(moving) > 1

    def _track(self, leaf: Descriptor) -> Track:
        return Track(output.escape(self.words.of(leaf)), leaf.size)


class Waits:
    """Why nothing comes, of the parts of a copy that wait just now.

    A wait of less than a second is nothing that a person need know.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def add(self, seconds: float, reason: str) -> None:
        """Something waits so long; with 0 until `over` is told."""
        if 0 < seconds < _SHORT or len(self._until) >= _MOST_WAITS:
            return
        until = self._clock() + seconds if seconds else math.inf
        self._until[reason] = max(until, self._until.get(reason, 0.0))

    def over(self, leaf: Descriptor) -> None:
        """The layer moves: who waited for it, without knowing how long, does not any more."""
        if self._until:
            for reason, until in list(self._until.items()):
                if until == math.inf and leaf.digest.short in reason:
                    del self._until[reason]

    def text(self) -> str:
        """A line about the longest wait that a server demands, or another one; empty if none."""
        now = self._clock()
        self._until = {reason: until for reason, until in self._until.items() if until > now}
        if not self._until:
            return ""
        timed = [item for item in self._until.items() if item[1] < math.inf]
        if timed:
            reason, until = max(timed, key=lambda item: item[1])
            text = waiting(math.ceil(until - now), reason)
        else:
            text = waiting(0, next(iter(self._until)))
        others = len(self._until) - 1
        return f"{text} (and {others} more)" if others else text


class Told:
    """Which reasons to wait a reader has just been told, so that none is told over and over."""

    def __init__(self, clock: Callable[[], float], pause: float) -> None:
        self._clock = clock
        self._pause = pause
        self._until: dict[str, float] = {}

    def is_new(self, seconds: float, reason: str) -> bool:
        """Whether to tell it: not again while it goes on, nor within `pause` seconds."""
        now = self._clock()
        self._until = {each: until for each, until in self._until.items() if until > now}
        if reason in self._until or len(self._until) >= _MOST_WAITS:
            return False
        self._until[reason] = now + max(seconds, self._pause)
        return True


def waiting(seconds: float, reason: str) -> str:
    """A wait in words; with 0 seconds nobody knows how long."""
    if 0 < seconds < _SHORT:
        return f"trying again: {reason}"
    return f"waiting {output.duration(seconds)}: {reason}" if seconds else f"waiting: {reason}"


def again(leaf: Descriptor, words: Words = PULLING) -> str:
    """What is said when a layer begins anew; empty where that is nothing to tell."""
    return f"{words.of(leaf)} again: {words.again}" if words.again else ""
