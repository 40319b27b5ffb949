"""The forms in which a copy's progress can be seen: a drawn block, plain lines, JSON objects."""

import contextlib
import threading
import time
from collections.abc import Callable

from modelpm.cli import output
from modelpm.cli.output import Bar
from modelpm.cli.tracks import PULLING, Told, Track, Tracks, Waits, Words, again, waiting
from modelpm.oci.descriptor import Descriptor, Digest

MOST_BARS = 10
"""Layers that get a line each; more get one line together."""

_FRAME = 0.1
_CLOSING = 0.5
_REPORT = 5.0
_RARELY = 60.0
_RECORD = 1.0
_REMIND = 30.0
_SPARE_ROWS = 4
"""Of the terminal: for the total, a wait, and the cursor; and one to see where it began."""


class Drawn:
    """A line with a bar for each layer, or one for all where there are many, and one for the total.

    What is told changes only what the next frame shows: a terminal that is slow, or that has been
    stopped, keeps no transfer waiting.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tracks = Tracks(clock)
        self._waits = Waits(clock)
        self._notes: list[str] = []
        self._is_together = False
        self._has_total = False
        self._frames: _Frames | None = None

    def stage(self, text: str) -> None:
        """End the block, and tell the stage below it."""
        self.close()
        output.note(text)

    def begin(self, leaves: tuple[Descriptor, ...], words: Words) -> None:
        """Decide how many lines there will be."""
        self.close()
        rows = output.terminal_size().lines
        self._is_together = len(leaves) > min(MOST_BARS, rows - _SPARE_ROWS)
        self._has_total = False
        self._tracks.begin(leaves, words)
        if self._is_together:
            self._tracks.total.head = f"{words.verb} {len(leaves)} layers"
        if leaves:
            self._open()

    def moved(self, leaf: Descriptor, offset: int) -> None:
        """Know it for the next frame."""
        with self._lock:
            self._waits.over(leaf)
            self._tracks.move(leaf, offset)

    def again(self, leaf: Descriptor) -> None:
        """Say it above the bars, for the layer's begins anew."""
        with self._lock:
            self._notes += filter(None, [again(leaf, self._tracks.words)])

    def settled(self, leaf: Descriptor, present: bool) -> None:
        """Know it for the next frame: a whole bar tells enough."""
        del present
        with self._lock:
            self._waits.over(leaf)
            self._tracks.move(leaf, leaf.size, is_settled=True)

    def waiting(self, seconds: float, reason: str) -> None:
        """Show it in the last line, as long as it goes on."""
        with self._lock:
            self._waits.add(seconds, reason)
        if self._frames is None:
            self._open()

    def close(self) -> None:
        """Leave the bars as they are, with the cursor below them."""
        if self._frames is not None:
            frames, self._frames = self._frames, None
            try:
                frames.close()
            finally:
                self._tracks.begin(())

    def _open(self) -> None:
        self._frames = _Frames(self._content)

    def _content(self, *, is_last: bool) -> tuple[list[Bar | str], list[str]]:
        """The lines of a frame, and what has come to be said above them."""
        with self._lock:
            notes, self._notes = self._notes, []
            tracks = self._tracks.tick()
            self._has_total = self._has_total or self._tracks.several_move()
            if tracks and self._is_together:
                self._tracks.total.is_settled = all(track.is_settled for track in tracks)
                tracks = [self._tracks.total]
            elif self._has_total:
                self._tracks.total.is_settled = all(track.is_settled for track in tracks)
                tracks.append(self._tracks.total)
            lines: list[Bar | str] = [self._bar(track) for track in tracks]
            wait = "" if is_last else self._waits.text()
        return ([*lines, wait] if wait else lines), notes

    def _bar(self, track: Track) -> Bar:
        tail = [f"{output.size(track.total):>7}"]
        if track.done < track.total:
            left = track.seconds_left
            stalled = "stalled" if track.is_stalled(self._clock()) else ""
            tail = [
                f"{output.size(track.done):>7}/{output.size(track.total):>7}",
                f"{output.size(track.rate) + '/s' if track.rate else stalled:>9}",
                f"{output.duration(left) if left is not None else '':>6}",
            ]
        elif not track.is_settled and track.began is not None:
            tail.append(self._tracks.words.ending)
        return Bar(track.head, track.done, track.total, tail)


class _Frames:
    """The thread that draws a block again and again, until `close`."""

    def __init__(self, content: Callable[..., tuple[list[Bar | str], list[str]]]) -> None:
        self._content = content
        self._block = output.Block()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Draw a last time, unless the terminal takes nothing any more."""
        self._ending.set()
        deadline = time.monotonic() + _CLOSING
        interrupt: KeyboardInterrupt | None = None
        while self._thread.is_alive() and (left := deadline - time.monotonic()) > 0:
            try:
                self._thread.join(left)
            except KeyboardInterrupt as error:  # the cursor must not stay inside the block
                interrupt = error
        if interrupt is not None:
            raise interrupt

    def _run(self) -> None:
        # Whoever writes next finds out that nobody reads any more, and tells it.
        with contextlib.suppress(OSError, ValueError):
            while not self._ending.wait(_FRAME):
                self._block.draw(*self._content(is_last=False))
            self._block.draw(*self._content(is_last=True))
            self._block.close()


class Written:
    """Plain lines: one for each layer when it is there, and one now and then for a long one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tracks = Tracks(clock)
        self._told = Told(clock, _REMIND)
        self._began = self._reported = clock()

    def stage(self, text: str) -> None:
        """Tell the stage."""
        output.note(text)

    def begin(self, leaves: tuple[Descriptor, ...], words: Words) -> None:
        """Say nothing for the first seconds."""
        self._tracks.begin(leaves, words)
        self._began = self._reported = self._clock()

    def moved(self, leaf: Descriptor, offset: int) -> None:
        """Tell how far it is, or all are, unless something was told in the last seconds.

        The longer it takes, the less often: every five seconds at first, every minute at last.
        """
        track = self._tracks.move(leaf, offset)
        now = self._clock()
        pause = min(max(_REPORT, (now - self._began) / 10), _RARELY)
        if now - self._reported >= pause and track.done < track.total:
            self._reported = now
            track = self._tracks.total if self._tracks.several_move() else track
            percent = 100 * track.done // max(track.total, 1)
            rate = f", {output.size(track.rate)}/s" if track.rate else ""
            output.note(f"{track.head}: {percent:3}% of {output.size(track.total)}{rate}")

    def again(self, leaf: Descriptor) -> None:
        """Tell it."""
        if text := again(leaf, self._tracks.words):
            output.note(text)

    def settled(self, leaf: Descriptor, present: bool) -> None:
        """Tell that the layer is there."""
        track = self._tracks.move(leaf, leaf.size, is_settled=True)
        known = f" ({self._tracks.words.present})" if present else ""
        output.note(f"{track.head}: 100% {output.size(leaf.size)}{known}")

    def waiting(self, seconds: float, reason: str) -> None:
        """Tell it, but none over and over."""
        if self._told.is_new(seconds, reason):
            output.note(waiting(seconds, reason))

    def close(self) -> None:
        """Nothing is open."""


class Recorded:
    """JSON objects with the keys of Ollama's API: `status`, `digest`, `total`, `completed`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._words = PULLING
        self._told = Told(clock, _RECORD)
        self._recorded: dict[Digest, float] = {}

    def stage(self, text: str) -> None:
        """Write the stage; `success` is left to who knows what was pulled."""
        if text != "success":
            output.record({"status": text})

    def begin(self, leaves: tuple[Descriptor, ...], words: Words) -> None:
        """Write nothing: each layer tells its size, and what has a name only if it takes long."""
        self._words = words
        now = self._clock()
        self._recorded = {leaf.digest: now for leaf in leaves if words.subject}

    def moved(self, leaf: Descriptor, offset: int) -> None:
        """Write how far it is, once a second."""
        now = self._clock()
        if now - self._recorded.get(leaf.digest, 0.0) >= _RECORD:
            self._recorded[leaf.digest] = now
            self._write(leaf, offset)

    def again(self, leaf: Descriptor) -> None:
        """Write it."""
        if text := again(leaf, self._words):
            output.record({"status": text, "digest": str(leaf.digest)})

    def settled(self, leaf: Descriptor, present: bool) -> None:
        """Write that the layer is there."""
        self._write(leaf, leaf.size, **({"present": present} if self._words.present else {}))

    def waiting(self, seconds: float, reason: str) -> None:
        """Write it, once while it goes on."""
        if self._told.is_new(seconds, reason):
            told = {"reason": reason, "seconds": round(seconds, 1)}
            output.record({"status": "waiting", **told})

    def close(self) -> None:
        """Nothing is open."""

    def _write(self, leaf: Descriptor, offset: int, **more: bool) -> None:
        known = {} if self._words.subject else {"digest": str(leaf.digest)}
        told = {**known, "total": leaf.size, "completed": offset}
        output.record({"status": self._words.of(leaf), **told, **more})
