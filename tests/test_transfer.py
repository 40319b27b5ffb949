"""The copy: order, concurrency, failure, interruption, and seeded random graphs."""

import contextlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from modelpm.content import Event, Fetcher, Moved, Settled, Sink, Step
from modelpm.errors import DigestMismatchError, NotFoundError, RegistryError, StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import Manifest, is_manifest
from modelpm.store.layout import Store
from modelpm.transfer import LAYERS_AT_ONCE, Copied, copy
from tests.memory import LAYER, Memory, Scattered, random_graph
from tests.store.drafts import draft_path, make_draft

NAME = "localhost:5000/team/model:tag"


class Tracing(Memory):
    """A target that writes down the order of what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, Digest | None]] = []

    def exists(self, desc: Descriptor) -> bool:
        assert self.held[desc.digest], "asked about before it was held"
        self.log.append(("exists", desc.digest))
        return super().exists(desc)

    def push(self, desc: Descriptor, source: Fetcher) -> None:
        assert self.held[desc.digest], "pushed before it was held"
        self.log.append(("push", desc.digest))
        super().push(desc, source)


def test_leaves_come_first_then_manifests_children_first_then_the_name() -> None:
    source, target = Memory(), Tracing()
    inner = source.index(source.image(b"a", b"bb"), source.image(b"bb", b"ccc"))
    root = source.index(inner, source.image(b"dddd"))
    copy(source, target, root, tag=lambda: target.tag(root, NAME))
    assert target.content == source.content
    assert target.names == {NAME: root}
    kinds = [is_manifest(source.graph(root)[digest]) for digest in target.pushed]
    assert kinds == sorted(kinds)
    place = {digest: number for number, digest in enumerate(target.pushed)}
    for digest, desc in source.graph(root).items():
        if is_manifest(desc):
            for below in Manifest.parse(source.content[digest]).successors:
                assert place[below.digest] < place[digest]
    assert not +target.held


def test_each_digest_is_fetched_once_and_each_manifest_is_read_once() -> None:
    source, target = Memory(), Memory()
    config = b"the config is a layer too"
    root = source.index(
        source.image(b"a", b"a", config, config=config), source.image(b"a", config=config)
    )
    copy(source, target, root)
    assert sorted(digest for digest, _ in source.fetched) == sorted(source.content)


def test_manifests_are_pushed_even_where_everything_is_there() -> None:
    source, target = Memory(), Tracing()
    root = source.image(b"a")
    copy(source, target, root)
    target.log.clear()
    copy(source, target, root)
    assert ("push", root.digest) in target.log
    assert [what for what, _ in target.log].count("push") == 1


def test_a_broken_copy_heals_by_being_run_again() -> None:
    source, target = Memory(), Memory()
    lost = source.leaf(b"lost for now")
    root = source.image(b"a", lost)
    content = source.content.pop(lost.digest)
    with pytest.raises(NotFoundError):
        copy(source, target, root, tag=lambda: target.tag(root, NAME))
    assert target.names == {}
    assert root.digest not in target.content
    assert not +target.held
    source.content[lost.digest] = content
    copy(source, target, root, tag=lambda: target.tag(root, NAME))
    assert target.content == source.content


def test_a_copy_tells_how_the_leaves_came() -> None:
    class Mounting(Memory):
        """Gets one layer from elsewhere than the source."""

        def push(self, desc: Descriptor, source: Fetcher) -> None:
            if desc.digest == mounted.digest:
                self.content[desc.digest] = b"mounted"
            super().push(desc, source)

    source, target = Memory(), Mounting()
    mounted, present = source.leaf(b"mounted"), source.leaf(b"present")
    root = source.image(b"moved", mounted, present)
    target.content[present.digest] = b"present"
    events: list[Event] = []
    copied = copy(source, target, root, observe=events.append)
    assert copied == Copied(moved=2, present=1, given=1)
    settled = {event.descriptor.digest for event in events if isinstance(event, Settled)}
    assert len(settled) == 4
    told = {e.descriptor.digest for e in events if isinstance(e, Settled) and e.present}
    assert told == {mounted.digest, present.digest}
    assert copy(source, target, root) == Copied(present=4)
    assert copy(Scattered(source.content, 2, 2), Memory(), root) == Copied(moved=4)


def test_wrong_bytes_end_the_copy() -> None:
    source, target = Memory(), Memory()
    root = source.image(b"right")
    source.content[Digest.of(b"right")] = b"wrong"
    with pytest.raises(DigestMismatchError):
        copy(source, target, root)
    assert Digest.of(b"right") not in target.content


def test_the_observer_hears_every_step_in_order() -> None:
    source, target = Memory(), Memory()
    root = source.image(b"a" * 200_000, b"b")
    target.push(Descriptor.of(b"b", LAYER), source)
    events: list[Event] = []
    copy(source, target, root, observe=events.append)
    first = events[0]
    assert isinstance(first, Step)
    assert first.stage == "copying"
    assert {leaf.size for leaf in first.leaves} == {200_000, 1, 2}
    assert events[-1] == Step("tagging")
    for leaf in first.leaves:
        mine = [e for e in events if isinstance(e, Moved | Settled) and e.descriptor == leaf]
        end = mine[-1]
        assert isinstance(end, Settled)
        assert end.present == (leaf.size == 1)
        offsets = [e.offset for e in mine if isinstance(e, Moved)]
        assert offsets == sorted(offsets)
        assert (offsets[-1:] == [leaf.size]) == (not end.present)


def test_the_observer_hears_how_far_a_resumed_download_is(tmp_path: Path) -> None:
    memory = Memory()
    content = random.Random(1).randbytes(600_000)
    root = memory.image(content)
    source, store = Scattered(memory.content, 50_000, 3), Store(tmp_path / "store")
    desc = Descriptor.of(content, LAYER)
    store.prepare()
    make_draft(draft_path(store.root, desc), content, (100_000, 300_000))
    events: list[Event] = []
    copy(source, store, root, observe=events.append)
    offsets = [e.offset for e in events if isinstance(e, Moved) and e.descriptor == desc]
    assert offsets[0] == 200_000
    assert offsets == sorted(offsets)
    assert offsets[-1] == 600_000
    assert events.index(Settled(desc, present=False)) > events.index(Moved(desc, 600_000))


@pytest.mark.parametrize("asks", ["missing", "write"])
def test_a_download_ends_once_the_copy_has_failed(asks: str, tmp_path: Path) -> None:
    class Endless(Scattered):
        ended = threading.Event()

        def download(self, desc: Descriptor, sink: Sink) -> None:
            if desc.size == 200_000:
                sink.missing()
                started.set()
                raise RegistryError("it fails")
            try:
                assert started.wait(10)
                for offset in range(desc.size):
                    time.sleep(0.001)
                    if asks == "missing":
                        sink.missing()
                    else:
                        sink.write(offset, b"x")
            finally:
                self.ended.set()

    started = threading.Event()
    memory = Memory()
    root = memory.image(b"x" * 300_000, b"y" * 200_000)
    source, store = Endless(memory.content, 1_000, 1), Store(tmp_path / "store")
    with pytest.raises(RegistryError, match="it fails"):
        copy(source, store, root)
    assert source.ended.wait(20)
    assert store.entries() == []


class Slow(Memory):
    """A source in which some content is slow, and that knows how many streams are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open = 0
        self.most = 0
        self.gates: dict[Digest, threading.Event] = {}
        self.changed = threading.Condition()
        self.wanted = 0
        """So many streams wait for one another."""

    @contextlib.contextmanager
    def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        with self.changed:
            self.open += 1
            self.most = max(self.most, self.open)
            self.changed.notify_all()
        try:
            if desc.digest in self.gates:
                self.gates[desc.digest].wait(60)
            elif not is_manifest(desc):
                with self.changed:
                    self.changed.wait_for(lambda: self.most >= self.wanted, 20)
            with super().fetch(desc, offset) as stream:
                yield stream
        finally:
            with self.changed:
                self.open -= 1


@pytest.mark.parametrize(
    ("jobs", "most"), [(0, 1), (1, 1), (3, 3), (LAYERS_AT_ONCE, LAYERS_AT_ONCE), (50, 12)]
)
def test_so_many_leaves_are_copied_at_a_time(jobs: int, most: int) -> None:
    source, target = Slow(), Memory()
    root = source.image(*(b"layer %d" % number for number in range(11)))
    source.wanted = most
    copy(source, target, root, jobs=jobs)
    assert target.content == source.content
    assert source.most == most


def test_a_failure_ends_the_copy_at_once_though_another_leaf_hangs() -> None:
    source, target = Slow(), Memory()
    hanging, lost = source.leaf(b"hanging" * 9), source.leaf(b"lost" * 9)
    root = source.image(hanging, lost, *(b"layer %d" % number for number in range(20)))
    source.gates[hanging.digest] = threading.Event()
    del source.content[lost.digest]
    started = time.monotonic()
    with pytest.raises(NotFoundError):
        copy(source, target, root)
    assert time.monotonic() - started < 20
    source.gates[hanging.digest].set()  # the thread goes on, is told to stop, and ends
    deadline = time.monotonic() + 20
    while any(t.name.startswith("copy-") for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert hanging.digest not in target.content
    assert len(target.content) < 20


def test_nothing_is_asked_for_once_the_copy_has_failed() -> None:
    """One leaf waits in the target, as for another process, while the other one fails."""

    class Waiting(Memory):
        gate = threading.Event()
        entered = threading.Event()

        def push(self, desc: Descriptor, source: Fetcher) -> None:
            if desc.size == 9:
                self.entered.set()
                self.gate.wait(20)
            elif desc.size == 8:
                self.entered.wait(20)
                raise StoreError("it fails")
            super().push(desc, source)

    source, target = Memory(), Waiting()
    root = source.image(b"x" * 9, b"y" * 8)
    with pytest.raises(StoreError, match="it fails"):
        copy(source, target, root)
    source.fetched.clear()
    target.gate.set()
    for thread in threading.enumerate():
        if thread.name.startswith("copy-"):
            thread.join(10)
    assert source.fetched == []
    assert Digest.of(b"x" * 9) not in target.content


def test_the_first_failure_is_the_one_that_is_told() -> None:
    class Failing(Memory):
        @contextlib.contextmanager
        def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
            if is_manifest(desc):
                with super().fetch(desc, offset) as stream:
                    yield stream
                return
            time.sleep(desc.size / 20)
            raise RegistryError(f"after {desc.size}")

    source = Failing()
    with pytest.raises(RegistryError, match=r"after 2$"):
        copy(source, Memory(), source.image(b"x" * 20, b"x" * 30))  # the config has two bytes


@pytest.mark.parametrize("error", [IndexError, KeyError, StopIteration, RuntimeError])
def test_a_bug_in_a_leaf_is_never_taken_for_success(error: type[Exception]) -> None:
    class Buggy(Memory):
        def push(self, desc: Descriptor, source: Fetcher) -> None:
            if desc.size == 9:
                raise error("a bug")
            super().push(desc, source)

    source = Memory()
    with pytest.raises(error, match="a bug"):
        copy(source, Buggy(), source.image(b"x" * 9, b"y"))


def test_an_observer_that_raises_ends_the_copy() -> None:
    def observe(event: Event) -> None:
        if isinstance(event, Moved):
            raise StoreError("enough")

    source, target = Memory(), Memory()
    with pytest.raises(StoreError, match="enough"):
        copy(source, target, source.image(b"a"), observe=observe)
    assert not +target.held


def test_ctrl_c_ends_a_copy_that_hangs() -> None:
    source, target = Slow(), Memory()
    hanging = source.leaf(b"hanging")
    root = source.image(hanging)
    source.gates[hanging.digest] = threading.Event()
    started = time.monotonic()
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        copy(source, target, root)
    timer.join()
    source.gates[hanging.digest].set()
    assert time.monotonic() - started < 20
    assert not +target.held


@pytest.mark.parametrize("seed", range(20))
def test_any_graph_arrives_whole_whatever_breaks_on_the_way(seed: int, tmp_path: Path) -> None:
    """Between the two ends content vanishes, comes back, and is there in part."""
    chance = random.Random(seed)
    source = Memory()
    pool = [bytes([chance.randrange(256)]) * chance.choice([0, 1, 300, 70_000]) for _ in range(12)]
    store = Store(tmp_path / "store")
    expected: dict[str, Digest] = {}
    for number in range(4):
        root = random_graph(source, chance, pool)
        graph = source.graph(root)
        gone = chance.sample(sorted(graph), chance.randrange(min(3, len(graph))))
        saved = {digest: source.content.pop(digest) for digest in gone if digest != root.digest}
        name = f"localhost/model:{number % 3}"

        def tag(root: Descriptor = root, name: str = name) -> None:
            store.tag(root, name)

        jobs = chance.randint(1, 5)
        try:
            copy(source, store, root, tag=tag, jobs=jobs)
        except NotFoundError:
            entry = store.find(name)
            assert (entry.descriptor.digest if entry else None) == expected.get(name)
            source.content |= saved
            copy(source, store, root, tag=tag, jobs=jobs)
        source.content |= saved
        expected[name] = root.digest
        for desc in graph.values():
            assert store.exists(desc)
        assert store.check() == []
    assert {entry.name: entry.descriptor.digest for entry in store.entries()} == expected
