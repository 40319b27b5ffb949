"""What a copy tells while it works, and in which form: drawn, in lines, as JSON, or not at all.

The words and their order are those of the reference system, so that a reader knows them.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from modelpm.cli import output
from modelpm.cli.options import Settings
from modelpm.cli.tracks import COPYING, HASHING, PULLING, PUSHING, UNPACKING, Words
from modelpm.cli.views import Drawn, Recorded, Written
from modelpm.content import Event, Moved, Observer, Settled, Step, Waiting, ignore
from modelpm.oci.descriptor import Descriptor, Digest


@dataclass(frozen=True, slots=True)
class Telling:
    """What a verb tells of its stages: their lines, and the words for what moves in them."""

    stages: Mapping[str, tuple[str, ...]]
    moves: Mapping[str, Words]


PULL = Telling(
    {
        "resolving": ("pulling manifest",),
        "unpacking": ("unpacking archives",),
        "tagging": ("verifying sha256 digest", "writing manifest"),
        "pruning": ("removing any unused layers",),
        "done": ("success",),
    },
    {"copying": PULLING, "unpacking": UNPACKING},
)
PUSH = Telling(
    {
        "resolving": ("retrieving manifest",),
        "tagging": ("writing manifest",),
        "done": ("success",),
    },
    {"copying": PUSHING},
)
MIRROR = Telling({**PUSH.stages, "referrers": ("copying what refers to it",)}, {"copying": COPYING})
MAKE = Telling(
    {
        "tagging": ("writing manifest",),
        "pruning": ("removing any unused layers",),
        "done": ("success",),
    },
    {"hashing": HASHING},
)


class View(Protocol):
    """How progress looks. Called by one thread at a time."""

    def stage(self, text: str) -> None:
        """A stage of the verb begins."""
        ...

    def begin(self, leaves: tuple[Descriptor, ...], words: Words) -> None:
        """These layers will be moved, which is told in these words."""
        ...

    def moved(self, leaf: Descriptor, offset: int) -> None:
        """So many bytes of the layer are here."""
        ...

    def again(self, leaf: Descriptor) -> None:
        """What was here of the layer was wrong, and is gone."""
        ...

    def settled(self, leaf: Descriptor, present: bool) -> None:
        """The layer is here, verified."""
        ...

    def waiting(self, seconds: float, reason: str) -> None:
        """Some part of it waits so long, and why; 0 where nobody knows how long."""
        ...

    def close(self) -> None:
        """No more is told."""
        ...


@contextlib.contextmanager
def watching(settings: Settings, telling: Telling = PULL) -> Iterator[Observer]:
    """An observer that tells what these settings want; at the end the terminal is in order."""
    if settings.quiet and not settings.json:
        yield ignore
        return
    kind = Recorded if settings.json else Drawn if output.can_draw() else Written
    progress = Progress(kind(), telling)
    try:
        yield progress
    finally:
        progress.close()


class Progress:
    """The observer: lets the events of all threads through to the view one by one."""

    def __init__(self, view: View, telling: Telling = PULL) -> None:
        self._view = view
        self._telling = telling
        self._lock = threading.Lock()
        self._is_closed = False
        self._offsets: dict[Digest, int] = {}

    def __call__(self, event: Event) -> None:
        """Take an event, from any thread."""
        with self._lock:
            if not self._is_closed:
                self._tell(event)

    def close(self) -> None:
        """End the telling; threads that still work are not heard any more."""
        # An interrupted copy leaves threads behind, one of which may be stuck while it writes.
        got = self._lock.acquire(timeout=0.5)
        self._is_closed = True
        if got:
            self._lock.release()
        self._view.close()

    def _tell(self, event: Event) -> None:
        match event:
            case Moved(leaf, offset):
                # Bytes that are here are only ever dropped for being wrong.
                if offset < self._offsets.get(leaf.digest, 0):
                    self._view.again(leaf)
                self._offsets[leaf.digest] = offset
                self._view.moved(leaf, offset)
            case Settled(leaf, present):
                self._view.settled(leaf, present)
            case Waiting(seconds, reason):
                self._view.waiting(seconds, reason)
            case Step(stage, subject, leaves):
                for text in self._telling.stages.get(stage, ()):
                    self._view.stage(text)
                if (words := self._telling.moves.get(stage)) is not None:
                    self._offsets.clear()
                    self._view.begin(leaves, replace(words, subject=subject))
