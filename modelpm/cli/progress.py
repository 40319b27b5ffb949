"""What a pull tells while it works: bars on a terminal, lines in a pipe, JSON objects, or nothing.

The words and their order are those of the reference system, so that a reader knows them.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from modelpm.cli import output
from modelpm.cli.options import Settings
from modelpm.content import Event, Moved, Observer, Settled, Step, Waiting, ignore
from modelpm.oci.descriptor import Descriptor, Digest

MOST_BARS = 10
"""Layers that get a line each; more get one line together."""

_STAGES = {
    "resolving": ("pulling manifest",),
    "tagging": ("verifying sha256 digest", "writing manifest"),
    "pruning": ("removing any unused layers",),
    "done": ("success",),
}
_REDRAW = 0.1
_REPORT = 5.0
_RECORD = 1.0
_WINDOW = 10.0
_SAMPLE = 0.5


class View(Protocol):
    """How progress looks. Called by one thread at a time."""

    def stage(self, text: str) -> None:
        """A stage of the verb begins."""
        ...

    def begin(self, leaves: tuple[Descriptor, ...]) -> None:
        """These layers will be moved."""
        ...

    def moved(self, leaf: Descriptor, offset: int) -> None:
        """So many bytes of the layer are here."""
        ...

    def settled(self, leaf: Descriptor, present: bool) -> None:
        """The layer is here, verified."""
        ...

    def waiting(self, text: str) -> None:
        """Nothing moves for a while, and why."""
        ...

    def close(self) -> None:
        """No more is told."""
        ...


@contextlib.contextmanager
def watching(settings: Settings) -> Iterator[Observer]:
    """An observer that tells what these settings want; at the end the terminal is in order."""
    if settings.quiet and not settings.json:
        yield ignore
        return
    view = Recorded() if settings.json else Drawn() if output.can_draw() else Written()
    progress = Progress(view)
    try:
        yield progress
    finally:
        progress.close()


class Progress:
    """The observer: lets the events of all threads through to the view one by one."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._is_closed = False

    def __call__(self, event: Event) -> None:
        """Take an event, from any thread."""
        with self._lock:
            if not self._is_closed:
                self._tell(event)

    def close(self) -> None:
        """End the telling; threads that still work are not heard any more."""
        # An interrupted pull leaves threads behind, one of which may be stuck while it writes.
        got = self._lock.acquire(timeout=0.5)
        self._is_closed = True
        if got:
            self._lock.release()
        self._view.close()

    def _tell(self, event: Event) -> None:
        match event:
            case Moved(leaf, offset):
                self._view.moved(leaf, offset)
            case Settled(leaf, present):
                self._view.settled(leaf, present)
            case Waiting(seconds, reason):
                self._view.waiting(f"waiting {output.duration(seconds)}: {reason}")
            case Step("copying", leaves=leaves):
                self._view.begin(leaves)
            case Step(stage):
                for text in _STAGES.get(stage, ()):
                    self._view.stage(text)


@dataclass(slots=True)
class Track:
    """How far some bytes are, and how fast they come: bytes per second over the last ten."""

    head: str
    total: int
    done: int = 0
    told: float = 0.0
    """When it was shown last; for the view."""
    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    def advance(self, count: int, now: float) -> None:
        """So many more bytes have come."""
        self.done += count
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE:
            self._samples.append((now, self.done))
            while now - self._samples[0][0] > _WINDOW:
                self._samples.popleft()

    def skip(self, count: int) -> None:
        """So many bytes were here already, or turned out not to be: no time was spent on them."""
        self.done += count
        self._samples = deque((when, done + count) for when, done in self._samples)

    @property
    def rate(self) -> float:
        """Bytes per second; 0 while that cannot be told."""
        if len(self._samples) < 2:
            return 0.0
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        return max(0.0, (after - before) / (end - start))

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take."""
        rate = self.rate
        return (self.total - self.done) / rate if rate else None


class Tracks:
    """The tracks of one copy's layers, kept by their offsets."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tracks: dict[Digest, Track] = {}
        self._offsets: dict[Digest, int] = {}
        self._common: Track | None = None

    def begin(self, leaves: tuple[Descriptor, ...], *, together: bool = False) -> None:
        """Begin a copy; `together` gives all layers one track."""
        self._tracks.clear()
        self._offsets.clear()
        total = sum(leaf.size for leaf in leaves)
        self._common = Track(f"pulling {len(leaves)} layers", total) if together else None

    def move(self, leaf: Descriptor, offset: int) -> Track:
        """The layer's track, after the layer has got to this offset."""
        track = self._common or self._tracks.get(leaf.digest)
        if track is None:
            track = self._tracks[leaf.digest] = Track(f"pulling {leaf.digest.short}", leaf.size)
        before = self._offsets.get(leaf.digest)
        self._offsets[leaf.digest] = offset
        if before is None or offset < before:
            track.skip(offset - (before or 0))
        track.advance(max(0, offset - before) if before is not None else 0, self._clock())
        return track

    def is_due(self, track: Track, seconds: float) -> bool:
        """Whether the track was last shown so long ago; if so it counts as shown now."""
        now = self._clock()
        due = now - track.told >= seconds
        if due:
            track.told = now
        return due


class Drawn:
    """A line with a bar for each layer, or one for all where there are many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._tracks = Tracks(clock)
        self._bars: output.Bars | None = None

    def stage(self, text: str) -> None:
        """End the bars, and tell the stage below them."""
        self.close()
        output.note(text)

    def begin(self, leaves: tuple[Descriptor, ...]) -> None:
        """Decide how many lines there will be."""
        rows = output.terminal_size().lines
        self._tracks.begin(leaves, together=len(leaves) > min(MOST_BARS, rows - 3))
        self._bars = output.Bars() if leaves else None

    def moved(self, leaf: Descriptor, offset: int) -> None:
        """Draw the line again, if it was not drawn just now."""
        track = self._tracks.move(leaf, offset)
        if self._tracks.is_due(track, _REDRAW):
            self._draw(track)

    def settled(self, leaf: Descriptor, present: bool) -> None:
        """Draw the line as it will stay."""
        del present  # a whole bar tells enough
        track = self._tracks.move(leaf, leaf.size)
        self._draw(track)

    def waiting(self, text: str) -> None:
        """Tell it above the bars."""
        if self._bars is None:
            output.note(text)
        else:
            self._bars.note(text)

    def close(self) -> None:
        """Leave the bars as they are."""
        if self._bars is not None:
            self._bars.close()
            self._bars = None

    def _draw(self, track: Track) -> None:
        if self._bars is None:
            return
        tail = [f"{output.size(track.total):>7}"]
        if track.done < track.total:
            tail = [f"{output.size(track.done):>7}/{output.size(track.total):>7}"]
            left = track.seconds_left
            tail.append(f"{output.size(track.rate) + '/s':>9}" if track.rate else "")
            tail.append(f"{output.duration(left):>7}" if left is not None else "")
        self._bars.draw(track.head, track.done, track.total, tail)


class Written:
    """Plain lines: one for each layer when it is there, and one now and then for a long one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tracks = Tracks(clock)
        self._told = clock()

    def stage(self, text: str) -> None:
        """Tell the stage."""
        output.note(text)

    def begin(self, leaves: tuple[Descriptor, ...]) -> None:
        """Say nothing for the first seconds."""
        self._tracks.begin(leaves)
        self._told = self._clock()

    def moved(self, leaf: Descriptor, offset: int) -> None:
        """Tell how far it is, unless something was told in the last seconds."""
        track = self._tracks.move(leaf, offset)
        now = self._clock()
        if now - self._told >= _REPORT and track.done < track.total:
            self._told = now
            percent = 100 * track.done // max(track.total, 1)
            rate = f", {output.size(track.rate)}/s" if track.rate else ""
            output.note(f"{track.head}: {percent:3}% of {output.size(track.total)}{rate}")

    def settled(self, leaf: Descriptor, present: bool) -> None:
        """Tell that the layer is there."""
        known = " (already here)" if present else ""
        output.note(f"pulling {leaf.digest.short}: 100% {output.size(leaf.size)}{known}")

    def waiting(self, text: str) -> None:
        """Tell it."""
        output.note(text)

    def close(self) -> None:
        """Nothing is open."""


class Recorded:
    """JSON objects with the keys of Ollama's API: `status`, `digest`, `total`, `completed`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._tracks = Tracks(clock)

    def stage(self, text: str) -> None:
        """Write the stage; `success` is left to who knows what was pulled."""
        if text not in _STAGES["done"]:
            output.record({"status": text})

    def begin(self, leaves: tuple[Descriptor, ...]) -> None:
        """Write nothing: each layer tells its size."""
        self._tracks.begin(leaves)

    def moved(self, leaf: Descriptor, offset: int) -> None:
        """Write how far it is, once a second."""
        if self._tracks.is_due(self._tracks.move(leaf, offset), _RECORD):
            self._write(leaf, offset)

    def settled(self, leaf: Descriptor, present: bool) -> None:
        """Write that the layer is there."""
        self._write(leaf, leaf.size, present=present)

    def waiting(self, text: str) -> None:
        """Write it."""
        output.record({"status": text})

    def close(self) -> None:
        """Nothing is open."""

    def _write(self, leaf: Descriptor, offset: int, **more: bool) -> None:
        status = f"pulling {leaf.digest.short}"
        told = {"digest": str(leaf.digest), "total": leaf.size, "completed": offset}
        output.record({"status": status, **told, **more})
