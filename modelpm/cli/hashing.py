"""How far the hashing of files is, told while a model is created: a bar, lines, or JSON objects."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from modelpm.cli import output
from modelpm.cli.options import Settings
from modelpm.cli.output import Bar
from modelpm.cli.tracks import Track
from modelpm.content import Event, Moved, Observer, Settled, Step, ignore

_FRAME = 0.1
_REPORT = 5.0
_RECORD = 1.0


@contextlib.contextmanager
def hashing(settings: Settings) -> Iterator[Observer]:
    """An observer that tells what these settings want; at the end the terminal is in order."""
    if settings.quiet and not settings.json:
        yield ignore
        return
    told = _Told(settings.json, None if settings.json or not output.can_draw() else output.Block())
    try:
        yield told
    finally:
        told.close()


@dataclass(slots=True)
class _Told:
    """One file after the other, from one thread."""

    as_json: bool
    block: output.Block | None
    clock: Callable[[], float] = time.monotonic
    _track: Track = field(default_factory=lambda: Track("", 0))
    _name: str = ""
    _last: float = 0.0
    _is_drawn: bool = False

    def __call__(self, event: Event) -> None:
        match event:
            case Step("hashing", name, (leaf,)):
                self._name = name
                self._track = Track(f"hashing {output.escape(name)}", leaf.size)
                self._last = self.clock()
            case Moved(_, offset):
                self._track.advance(offset - self._track.done)
                self._track.tick(self.clock())
                self._show()
            case Settled():
                self._end()
            case Step("tagging"):
                self._stage("writing manifest")
            case Step("pruning"):
                self._stage("removing any unused layers")
            case Step("done"):
                self._stage("success")

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.block is not None and self._is_drawn:
            self.block.close()
            self.block, self._is_drawn = output.Block(), False

    def _show(self) -> None:
        pause = _RECORD if self.as_json else _FRAME if self.block is not None else _REPORT
        if self.clock() - self._last < pause:
            return
        self._last = self.clock()
        if self.as_json:
            self._record()
        elif self.block is not None:
            self._draw()
        else:
            percent = 100 * self._track.done // max(self._track.total, 1)
            output.note(f"{self._track.head}: {percent:3}% of {output.size(self._track.total)}")

    def _end(self) -> None:
        self._track.done = self._track.total
        if self.as_json:
            self._record()
        elif self.block is not None:
            self._draw()
            self.close()
        else:
            output.note(f"{self._track.head}: 100% {output.size(self._track.total)}")

    def _draw(self) -> None:
        track = self._track
        tail = [f"{output.size(track.total):>7}"]
        if track.done < track.total and track.rate:
            tail.append(f"{output.size(track.rate)}/s")
        if self.block is not None:
            self.block.draw([Bar(track.head, track.done, track.total, tail)])
            self._is_drawn = True

    def _record(self) -> None:
        told = {"total": self._track.total, "completed": self._track.done}
        output.record({"status": f"hashing {self._name}", **told})

    def _stage(self, text: str) -> None:
        self.close()
        if not self.as_json:
            output.note(text)
        elif text != "success":
            output.record({"status": text})
