"""What a mirror has not, as far as it has said so: it is not asked for the same again and again."""

import threading
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED = 3_600.0
"""Seconds after which a mirror may have got what it had not."""
MAX_GAPS = 10_000

_WHOLE = ""


class Gaps:
    """The repositories that one mirror has not, and tags and digests in others; the last ones.

    Threads may share it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: OrderedDict[tuple[str, str], float] = OrderedDict()

    def note(self, repository: str, reference: str = _WHOLE) -> None:
        """It has not this tag or digest, or without one all of a repository."""
        with self._lock:
            self._until[repository, reference] = self._clock() + REMEMBERED
            self._until.move_to_end((repository, reference))
            while len(self._until) > MAX_GAPS:
                self._until.popitem(last=False)

    def has(self, repository: str, reference: str = _WHOLE) -> bool:
        """Whether this is known to be missing there, or all of its repository."""
        keys = ((repository, _WHOLE), (repository, reference))
        with self._lock:
            return any(self._clock() < self._until.get(key, 0.0) for key in keys)
