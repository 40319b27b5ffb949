"""The order and the concurrency of a copy: leaves in parallel, then manifests, the name last.

One `copy` serves pull, push and mirror, and later save and load: they differ in their ends only. A
copy that was broken off heals by being run again.
"""

import contextlib
import io
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from modelpm.content import (
    Downloader,
    Event,
    Fetcher,
    Moved,
    Observer,
    Settled,
    Sink,
    Source,
    Step,
    Target,
    all_successors,
    ignore,
    walk,
)
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import Manifest, is_manifest

LAYERS_AT_ONCE = 8
"""Leaves copied at a time."""

GRACE = 0.5
"""Seconds that the threads of a copy get to end by themselves once it has failed."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of the leaves of a copy: how many of each."""

    moved: int = 0
    """Whose bytes were read from the source."""
    present: int = 0
    """That the target had."""
    given: int = 0
    """That the target got without the source: mounted, or brought by another process meanwhile."""


class _StoppedError(Exception):
    """A stream of a copy that has already failed elsewhere."""


def copy(
    source: Source,
    target: Target,
    root: Descriptor,
    *,
    choose: Callable[[Manifest], Iterable[Descriptor]] = all_successors,
    tag: Callable[[], None] | None = None,
    observe: Observer = ignore,
    jobs: int = LAYERS_AT_ONCE,
) -> Copied:
    """Bring the graph below `root` from one place to another, then call `tag`.

    The target is held by this; a source whose content may be collected is for the caller to hold.
    Raises what the source and the target raise: the first failure ends the copy, and what has
    arrived by then stays for the next attempt. KeyboardInterrupt ends it within a second.
    """
    manifests: list[tuple[Descriptor, bytes]] = []
    leaves: dict[Digest, Descriptor] = {}
    for desc, manifest in walk(source, root, choose):
        manifests.append((desc, manifest.raw))  # what they say takes many times as much memory
        leaves |= {leaf.digest: leaf for leaf in choose(manifest) if not is_manifest(leaf)}
    with target.hold([*leaves.values(), *(desc for desc, _ in manifests)]):
        observe(Step("copying", leaves=tuple(leaves.values())))
        copied = _Leaves(source, target, observe).copy(list(leaves.values()), jobs)
        observe(Step("tagging"))
        for desc, raw in manifests:
            target.push(desc, _Read(raw))
        if tag is not None:
            tag()
    return copied


@dataclass(slots=True)
class _Leaves:
    """The parallel part of one copy."""

    source: Fetcher
    target: Target
    observe: Observer
    failure: BaseException | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    settled: list[str] = field(default_factory=list)

    def copy(self, leaves: list[Descriptor], jobs: int) -> Copied:
        # The largest first, so that no long one is left to run alone at the end.
        todo = deque(sorted(leaves, key=lambda leaf: leaf.size, reverse=True))
        threads = [
            threading.Thread(target=self._work, args=(todo,), name=f"copy-{number}", daemon=True)
            for number in range(min(max(jobs, 1), len(leaves)))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive() and not self.stopping.is_set():
                    thread.join(0.1)
        finally:
            self.stopping.set()
            deadline = time.monotonic() + GRACE
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - time.monotonic()))
        if self.failure is not None:
            raise self.failure
        return Copied(**Counter(self.settled))

    def _work(self, todo: deque[Descriptor]) -> None:
        with self:
            while not self.stopping.is_set():
                try:
                    leaf = todo.popleft()
                except IndexError:
                    return  # nothing is left; the waiter sees the threads end
                self._copy_leaf(leaf)

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        """Whatever ends a thread, the waiter must hear of it."""
        if error is not None and not isinstance(error, _StoppedError):
            self.failure = self.failure or error
            self.stopping.set()
        return True

    def _copy_leaf(self, leaf: Descriptor) -> None:
        outcome = "present"
        if not self.target.exists(leaf):
            meter = _metered(self.source, self._tell, self.stopping)
            self.target.push(leaf, meter)
            outcome = "moved" if meter.opened.is_set() else "given"
        self.settled.append(outcome)
        self._tell(Settled(leaf, present=outcome != "moved"))

    def _tell(self, event: Event) -> None:
        """Nothing more of a copy that has failed: who listens may hear of the next one by then."""
        if not self.stopping.is_set():
            self.observe(event)


@dataclass(frozen=True, slots=True)
class _Read:
    """A fetcher of the one manifest that the walk has read: it need not be asked for again."""

    raw: bytes

    @contextlib.contextmanager
    def fetch(self, _desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        yield io.BytesIO(self.raw[offset:])


@dataclass(frozen=True, slots=True)
class _Metered:
    """A fetcher that tells how far its streams were read, and ends them once the copy failed."""

    source: Fetcher
    observe: Observer
    stopping: threading.Event
    opened: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        if self.stopping.is_set():
            raise _StoppedError
        self.opened.set()
        with self.source.fetch(desc, offset) as stream:
            self.observe(Moved(desc, offset))
            yield cast("BinaryIO", _MeteredStream(self, desc, offset, stream))


@dataclass(frozen=True, slots=True)
class _MeteredDownloader(_Metered):
    """The same of a source that brings its bytes itself."""

    source: Downloader

    def download(self, desc: Descriptor, sink: Sink) -> None:
        self.opened.set()
        self.source.download(desc, _MeteredSink(self, desc, sink))


def _metered(source: Fetcher, observe: Observer, stopping: threading.Event) -> _Metered:
    if isinstance(source, Downloader):
        return _MeteredDownloader(source, observe, stopping)
    return _Metered(source, observe, stopping)


class _MeteredSink:
    def __init__(self, meter: _Metered, desc: Descriptor, sink: Sink) -> None:
        self._meter, self._desc, self._sink = meter, desc, sink
        self._lock = threading.Lock()
        self._offset = desc.size - sum(stop - start for start, stop in sink.missing())
        meter.observe(Moved(desc, self._offset))

    def missing(self) -> list[tuple[int, int]]:
        if self._meter.stopping.is_set():
            raise _StoppedError
        return self._sink.missing()

    def write(self, offset: int, chunk: bytes) -> None:
        if self._meter.stopping.is_set():
            raise _StoppedError
        self._sink.write(offset, chunk)
        with self._lock:  # so that what is told never goes back
            self._offset += len(chunk)
            self._meter.observe(Moved(self._desc, self._offset))


class _MeteredStream:
    """Only `read`, which is all that a target does with a stream that is fetched for it."""

    def __init__(self, meter: _Metered, desc: Descriptor, offset: int, stream: BinaryIO) -> None:
        self._meter = meter
        self._desc = desc
        self._offset = offset
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if self._meter.stopping.is_set():
            raise _StoppedError
        chunk = self._stream.read(size)
        if chunk:
            self._offset += len(chunk)
            self._meter.observe(Moved(self._desc, self._offset))
        return chunk
