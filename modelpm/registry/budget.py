"""What all streams of blobs to and from one registry share: connections, and bytes a second."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator

from modelpm.registry.limits import Limits

_LOOK = 0.1
_PIECE = 2**20
_LEAST_PIECE = 2**10
_PIECES_A_SECOND = 10
_BANKED = 0.05
"""Seconds that a stream may come late and still be within the rate."""


class Budget:
    """Threads may share it. Whoever takes a connection gives it back."""

    def __init__(
        self, limits: Limits, sleep: Callable[[float], None], clock: Callable[[], float]
    ) -> None:
        self.connections = max(1, limits.connections)
        self.piece = _PIECE
        """Bytes to read at a time: with a rate so few that no wait is long."""
        if limits.rate:
            self.piece = min(_PIECE, max(_LEAST_PIECE, limits.rate // _PIECES_A_SECOND))
        self._free = threading.Semaphore(self.connections)
        self._waiting = 0
        self._rate = limits.rate
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._due = 0.0
        self.useful = 0
        """Streams that have ended well. It changes under the condition, as the next one does."""
        self._flowing = 0
        self._own: Counter[int] = Counter()
        """Of these, those of each thread."""
        self._flow = threading.Condition()

    @property
    def is_short(self) -> bool:
        """Whether somebody waits for a connection."""
        return self._waiting > 0

    @property
    def is_busy(self) -> bool:
        """Whether something flows in another thread than the one that asks."""
        with self._flow:
            return self._flowing > self._own[threading.get_ident()]

    def acquire(self, alive: Callable[[], object] = bool) -> None:
        """Wait for a connection. `alive` is called meanwhile, and may raise to end the wait."""
        if self._free.acquire(blocking=False):
            return
        with self._lock:
            self._waiting += 1
        try:
            while not self._free.acquire(timeout=_LOOK):
                alive()
        finally:
            with self._lock:
                self._waiting -= 1

    def try_acquire(self) -> bool:
        """Take a connection if one is free and nobody waits for it."""
        return not self.is_short and self._free.acquire(blocking=False)

    def release(self) -> None:
        """Give a connection back."""
        self._free.release()

    def spend(self, count: int) -> None:
        """Tell of bytes that came; waits as long as the rate demands."""
        if not self._rate:
            return
        with self._lock:
            now = self._clock()
            self._due = max(self._due, now - _BANKED) + count / self._rate
            pause = self._due - now
        if pause > 0:
            self._sleep(pause)

    @contextlib.contextmanager
    def flowing(self, is_useful: Callable[[], bool] = bool) -> Iterator[None]:
        """While bytes flow, or may. At the end `is_useful` says whether they got the work on."""
        thread = threading.get_ident()  # another one may end it
        with self._flow:
            self._flowing += 1
            self._own[thread] += 1
        try:
            yield
        finally:
            with self._flow:
                self._flowing -= 1
                self._own[thread] -= 1
                self._own = +self._own
                self.useful += is_useful()
                self._flow.notify_all()

    def await_turn(self, since: int, is_over: Callable[[], bool]) -> bool:
        """For one whom the registry has no room for: wait until another's stream has ended well.

        `since` is what `useful` was when the first attempt failed. False where no stream flows, so
        that the registry has no such reason, or once `is_over`. What flows in the thread that asks
        stands still meanwhile, as an upload does that reads what it sends from the same registry:
        nobody may wait for that.
        """
        with self._flow:
            own = self._own[threading.get_ident()]
            self._flowing -= own
            self._flow.notify_all()
            try:
                while self._flowing > 0 and self.useful == since and not is_over():
                    self._flow.wait(_LOOK)
                    # A stream that was cut is opened again; then it goes on.
                    self._flow.wait_for(lambda: self._flowing > 0 or self.useful > since, _LOOK)
            finally:
                self._flowing += own
            return self.useful > since and not is_over()
