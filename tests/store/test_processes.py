"""Several processes on one store: real ones, which pause, wait, stop and die."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from modelpm.errors import StoreError
from modelpm.oci.descriptor import Descriptor
from modelpm.store.layout import Store
from tests.memory import LAYER
from tests.store.drafts import draft_path
from tests.store.worker import BIG, MODELS, NAMES, SMALL, Broken, source

NAME = "localhost/model:tag"
BIG_BLOB, SMALL_BLOB = Descriptor.of(BIG, LAYER), Descriptor.of(SMALL, LAYER)
STEPS = int(os.environ.get("MODELPM_TEST_STEPS", "2500" if os.environ.get("CI") else "100"))
"""Random verbs of each of four processes in a soak."""


class Process:
    """A worker, and what it says."""

    def __init__(self, root: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.worker", str(root), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, beginning: str) -> str:
        """The next line that begins so; at its end the process must have said one."""
        out: IO[str] | None = self.process.stdout
        assert out is not None
        for line in out:
            if line.startswith(beginning):
                return line.strip()
        raise AssertionError(f"no {beginning!r}: {self.process.communicate()[1]}")

    def go(self) -> None:
        """Let a paused process continue."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Wait for a good end; what it said since."""
        out, err = self.process.communicate(timeout=100)
        assert self.process.returncode == 0, err[-4_000:]
        return out

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@contextlib.contextmanager
def start(root: Path, *words: str) -> Iterator[Process]:
    worker = Process(root, *words)
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGCONT)
            worker.kill()


@contextlib.contextmanager
def paused(root: Path, *words: str) -> Iterator[Process]:
    """A pull that has brought the small blobs and the first half of the big one."""
    with start(root, "pull", NAME, "pausing", *words) as worker:
        worker.until("paused")
        deadline = time.monotonic() + 60
        while len(list((root / "blobs/sha256").iterdir())) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield worker


def assert_whole(root: Path, *names: str) -> None:
    store = Store(root)
    assert {entry.name for entry in store.entries()} == set(names)
    assert store.check() == []
    for entry in store.entries():
        assert all(store.exists(desc) for desc in source.graph(entry.descriptor).values())


def draft(root: Path) -> Path:
    return draft_path(root, BIG_BLOB)


def test_prune_beside_a_running_pull_loses_nothing(root: Path) -> None:
    with paused(root) as worker:
        store = Store(root)
        assert not store.garbage()
        with start(root, "prune") as pruner:
            pruner.end()
        assert store.exists(SMALL_BLOB)
        assert draft(root).read_bytes().rstrip(b"\0") == BIG[: len(BIG) // 2]
        worker.go()
        assert "done 0" in worker.end()
    assert_whole(root, NAME)
    assert not store.garbage()


def test_a_plan_from_before_a_pull_does_not_harm_it(root: Path) -> None:
    store = Store(root)
    for desc in (SMALL_BLOB, BIG_BLOB):
        store.push(desc, source)
    garbage = store.garbage()
    assert len(garbage.blobs) == 2
    (root / "blobs/sha256" / BIG_BLOB.digest.hex).unlink()
    with paused(root) as worker:
        assert not store.sweep(garbage)
        worker.go()
        worker.end()
    assert_whole(root, NAME)


def test_what_a_killed_pull_leaves_is_resumed_or_pruned(root: Path) -> None:
    with paused(root) as worker:
        worker.kill()
    store = Store(root)
    garbage = store.garbage()
    assert [digest for digest, _ in garbage.blobs] == [
        d for d in sorted(source.content) if store._blobs.path(d).exists()
    ]
    assert [file.path for file in garbage.drafts] == [draft(root)]
    assert [file.path.parent.name for file in garbage.strays] == ["leases"]
    with start(root, "pull", NAME) as again:
        assert f"done {len(BIG) // 2}" in again.end()
    assert_whole(root, NAME)
    assert [file.path.parent.name for file in store.garbage().strays] == ["leases"]
    store.sweep(store.garbage())
    assert not store.garbage()


def test_two_pulls_of_one_blob_fetch_it_once(root: Path) -> None:
    with paused(root) as first, start(root, "pull", "localhost/other:tag") as second:
        said = second.until("waiting")
        assert BIG_BLOB.digest.short in said
        first.go()
        assert "done 0" in first.end()
        out = second.end()
        assert "waiting" not in out  # it is told once
        assert out.splitlines()[-1] == "done"  # it asked for nothing
    assert_whole(root, NAME, "localhost/other:tag")


def test_who_waited_goes_on_where_a_killed_one_ended(root: Path) -> None:
    with paused(root) as first, start(root, "pull", "localhost/other:tag") as second:
        second.until("waiting")
        first.kill()
        assert f"done {len(BIG) // 2}" in second.end()
    assert_whole(root, "localhost/other:tag")


def test_nobody_waits_for_ever_for_one_that_stands_still(root: Path) -> None:
    with paused(root) as first:
        first.process.send_signal(signal.SIGSTOP)
        with start(root, "pull", "localhost/other:tag", "impatient") as second:
            second.until("waiting")
            assert "done 0" in second.end()
        assert_whole(root, "localhost/other:tag")
        assert [file.path for file in Store(root).garbage().drafts] == []  # it is leased
        first.process.send_signal(signal.SIGCONT)
        first.go()
        first.end()
    assert_whole(root, NAME, "localhost/other:tag")
    assert list((root / "ingest").iterdir()) == []


def test_a_draft_in_use_is_not_swept_though_nobody_leases_it(root: Path) -> None:
    with paused(root) as worker:
        for lease in (root / "leases").iterdir():
            lease.unlink()
        store = Store(root)
        garbage = store.garbage()
        assert [file.path for file in garbage.drafts] == [draft(root)]
        swept = store.sweep(garbage)
        assert swept.drafts == ()
        assert draft(root).exists()
        worker.go()  # its small blob is gone, so it gets no name, and says so
        assert worker.process.wait(60) == 1
        assert "cannot get a name" in worker.process.communicate()[0]
    assert_whole(root)


def test_where_locks_do_not_work_bytes_are_fetched_twice_and_nothing_is_lost(root: Path) -> None:
    with (
        start(root, "pull", NAME, "pausing", "broken") as first,
        start(root, "pull", NAME, "pausing", "broken") as second,
    ):
        for worker in (first, second):
            worker.until("paused")
        store = Store(root, files=Broken())
        with pytest.raises(StoreError, match="no locks that work") as caught:
            store.garbage()
        assert caught.value.exit_code == 7
        for worker in (first, second):
            worker.go()
            assert "done 0" in worker.end()
    assert_whole(root, NAME)


def test_a_store_is_made_once_by_many_at_once(root: Path) -> None:
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(start(root, "pull", f"localhost/m:{number}")) for number in range(6)
        ]
        for worker in workers:
            worker.end()
    assert_whole(root, *(f"localhost/m:{number}" for number in range(6)))


def test_names_written_by_several_at_once_are_all_there(root: Path) -> None:
    with start(root, "pull", NAME) as worker:
        worker.end()
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(start(root, "names", str(n), "30")) for n in range(4)]
        for worker in workers:
            worker.end()
    assert_whole(root, NAME, *(f"localhost/{n}:{m}" for n in range(4) for m in range(30)))


def test_prunes_beside_each_other(root: Path) -> None:
    store = Store(root)
    store.prepare()
    for number in range(1_500):
        desc = Descriptor.of(b"%d" % number, LAYER)
        (root / "blobs/sha256" / desc.digest.hex).write_bytes(b"%d" % number)
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(start(root, "prune")) for _ in range(3)]
        for worker in workers:
            worker.end()
    assert not store.garbage()
    assert_whole(root)


@pytest.mark.parametrize("broken", ["", "broken"])
def test_soak(root: Path, broken: str) -> None:
    """Four processes, random verbs; every name resolves and every model verifies afterwards."""
    steps = STEPS if not broken else max(STEPS // 4, 10)
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(start(root, "soak", str(seed), str(steps), *broken.split()))
            for seed in range(4)
        ]
        for worker in workers:
            worker.end()
    store = Store(root)
    entries = store.entries()
    assert {entry.name for entry in entries} <= set(NAMES)
    assert_whole(root, *(entry.name or "" for entry in entries))
    assert {entry.descriptor.digest for entry in entries} <= {desc.digest for desc in MODELS}
    store.sweep(store.garbage())
    assert not store.garbage()
    assert_whole(root, *(entry.name or "" for entry in entries))
    kept = {d for entry in entries for d in source.graph(entry.descriptor)}
    assert {digest for digest, _ in store._blobs.stored()} == kept
    print(f"soak: {4 * steps} steps, {len(entries)} names left")
