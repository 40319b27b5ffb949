"""One blob wanted by several at once: it is fetched once, and little more than once after kills."""

import contextlib
import hashlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from modelpm.content import Event, Sink, Waiting
from modelpm.errors import RegistryError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.store.ingest import Ranges
from modelpm.store.layout import Store
from tests.memory import LAYER
from tests.store.drafts import draft_path
from tests.store.streams import PIECE, piece
from tests.store.test_ingest import Pieces, opened

PIECES = 288
SIZE = PIECES * PIECE  # 72 MiB
MOST_AGAIN = 8 * 2**20
KILLS = 20
LONG = 30.0
"""Seconds that a busy machine may need for what takes a moment; patience is four times as long."""


def descriptor(pieces: int = PIECES) -> Descriptor:
    digest = hashlib.sha256()
    for number in range(pieces):
        digest.update(piece(number))
    return Descriptor(LAYER, Digest("sha256", digest.hexdigest()), pieces * PIECE)


@contextlib.contextmanager
def pulling(
    root: Path, served: Path, desc: Descriptor, rate: float
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.store.streams",
            *map(str, (root, served, desc.size, desc.digest, rate)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def served_ranges(served: Path) -> list[tuple[int, int]]:
    lines = served.read_text().splitlines() if served.exists() else []
    return [(int(start), int(stop)) for start, stop in map(str.split, lines)]


def again(ranges: list[tuple[int, int]]) -> int:
    """Bytes that were served more than once."""
    once = Ranges()
    for start, stop in ranges:
        once.add(start, stop)
    return sum(stop - start for start, stop in ranges) - sum(stop - start for start, stop in once)


def wait_for_bytes(served: Path, count: int, before: int) -> None:
    deadline = time.monotonic() + LONG
    while sum(stop - start for start, stop in served_ranges(served)[before:]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_after_kills_at_random_moments_little_is_fetched_again(root: Path, tmp_path: Path) -> None:
    chance = random.Random(9)
    served = tmp_path / "served"
    desc = descriptor()
    lost: list[int] = []
    here = 0
    for _ in range(KILLS):
        before = served_ranges(served)
        with pulling(root, served, desc, 20e6) as process:
            wait_for_bytes(served, chance.randint(1, 4 * 2**20), len(before))
            time.sleep(chance.uniform(0, 0.01))
            assert process.poll() is None, "it was too quick for so many kills"
            process.send_signal(signal.SIGKILL)
            process.wait(LONG)
        came = sum(stop - start for start, stop in served_ranges(served)[len(before) :])
        with opened(draft_path(root, desc), desc) as ingest:
            had, here = here, SIZE - sum(stop - start for start, stop in ingest.missing())
        lost.append(came - (here - had))
    with pulling(root, served, desc, 0) as process:
        assert process.wait(60) == 0
    assert Store(root).exists(desc)
    assert Store(root).check() == []
    assert list((root / "ingest").iterdir()) == []
    print(f"{KILLS} kills in {SIZE} bytes: {sum(lost)} bytes again, {max(lost)} at most at once")
    assert again(served_ranges(served)) == sum(lost)
    assert 0 < max(lost) <= MOST_AGAIN


def test_two_processes_fetch_a_blob_once_and_the_second_waits(root: Path, tmp_path: Path) -> None:
    desc = descriptor(32)
    with (
        pulling(root, tmp_path / "one", desc, 20e6) as first,
        contextlib.ExitStack() as stack,
    ):
        wait_for_bytes(tmp_path / "one", PIECE, 0)
        second = stack.enter_context(pulling(root, tmp_path / "two", desc, 20e6))
        assert second.stdout is not None
        assert second.stdout.read() == "waiting\ndone\n"
        assert first.wait(LONG) == 0
    assert served_ranges(tmp_path / "two") == []
    assert again(served_ranges(tmp_path / "one")) == 0
    assert Store(root).exists(desc)


def test_who_waited_takes_over_soon_and_trusts_all_that_was_written(
    root: Path, tmp_path: Path
) -> None:
    desc = descriptor(64)
    with (
        pulling(root, tmp_path / "one", desc, 4e6) as first,
        pulling(root, tmp_path / "two", desc, 0) as second,
    ):
        assert second.stdout is not None
        if not served_ranges(tmp_path / "one"):  # the first to begin is the first to write
            assert second.stdout.readline() == "waiting\n"
        wait_for_bytes(tmp_path / "one", 2 * 2**20, 0)
        first.send_signal(signal.SIGKILL)
        wait_for_bytes(tmp_path / "two", 1, 0)
        assert second.wait(LONG) == 0
    one, two = served_ranges(tmp_path / "one"), served_ranges(tmp_path / "two")
    # What the first had in its hands when it died, one piece a stream.
    assert 0 < again(one + two) <= 4 * PIECE
    assert Store(root).exists(desc)


class Gated(Pieces):
    """A source that waits for a signal in the middle, and may fail there."""

    def __init__(self, content: bytes, *, fails: bool) -> None:
        super().__init__(content, PIECE)
        self.fails = fails
        self.entered, self.gate = threading.Event(), threading.Event()

    def download(self, desc: Descriptor, sink: Sink) -> None:
        half = desc.size // 2
        self.asked += sink.missing()
        sink.write(0, self.content[:half])
        self.entered.set()
        assert self.gate.wait(LONG)
        if self.fails:
            raise RegistryError("cut")
        sink.write(half, self.content[half:])


def test_two_threads_fetch_a_blob_once_and_one_goes_on_where_the_other_failed(root: Path) -> None:
    for fails in (False, True):
        content = bytes([fails]) * 2**20
        desc = Descriptor.of(content, LAYER)
        first, second = Gated(content, fails=fails), Pieces(content, PIECE)
        events: list[Event] = []
        failures: list[Exception] = []

        def push(
            store: Store, source: Pieces, desc: Descriptor = desc, told: list[Exception] = failures
        ) -> None:
            try:
                store.push(desc, source)
            except RegistryError as error:
                told.append(error)

        one = threading.Thread(target=push, args=(Store(root), first))
        one.start()
        assert first.entered.wait(LONG)
        two = threading.Thread(target=push, args=(Store(root, observe=events.append), second))
        two.start()
        deadline = time.monotonic() + LONG
        while not events:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        first.gate.set()
        for thread in (one, two):
            thread.join(LONG)
            assert not thread.is_alive()
        assert len(failures) == fails
        assert [type(event) for event in events] == [Waiting]
        assert desc.digest.short in str(events)
        assert second.asked == ([(2**19, 2**20)] if fails else [])
        assert Store(root).exists(desc)
        assert list((root / "ingest").iterdir()) == []
