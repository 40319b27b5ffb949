"""What a pull tells while it works, in each of its forms."""

import io
import json
import re
import sys
import threading
import time

import pytest

from modelpm.cli import progress
from modelpm.cli.options import Settings
from modelpm.cli.views import Drawn, Recorded, Written
from modelpm.content import Moved, Observer, Settled, Step, Waiting
from modelpm.oci.descriptor import Descriptor, Digest
from tests.cli.models import HOSTILE, NEVER

BIG = Descriptor("application/x-y", Digest("sha256", "a" * 64), 3_800_000_000)
SMALL = Descriptor("application/x-y", Digest("sha256", "b" * 64), 120)
EMPTY = Descriptor("application/x-y", Digest("sha256", "c" * 64), 0)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def settings(*, quiet: bool = False, json: bool = False) -> Settings:
    return Settings(None, None, (), None, quiet=quiet, debug=False, json=json)


def tell(observe: Observer, clock: Clock) -> None:
    """A pull of three layers, one of which is here already."""
    observe(Step("resolving", "tiny"))
    observe(Step("copying", leaves=(BIG, SMALL, EMPTY)))
    observe(Settled(SMALL, present=True))
    observe(Moved(BIG, 1_000_000_000))
    for second in range(1, 13):
        clock.now += 1
        observe(Moved(BIG, 1_000_000_000 + second * 100_000_000))
    observe(Waiting(5.2, f"the registry is busy {HOSTILE}"))
    observe(Moved(BIG, BIG.size))
    observe(Settled(BIG, present=False))
    observe(Settled(EMPTY, present=False))
    for stage in ("tagging", "pruning", "done"):
        observe(Step(stage))


def tell_unpacking(observe: Observer, clock: Clock) -> None:
    observe(Step("tagging"))
    observe(Step("unpacking", leaves=(BIG, SMALL)))
    for second in range(11):
        clock.now += 1
        observe(Moved(BIG, second * 100_000_000))
    observe(Settled(BIG, present=False))
    observe(Moved(SMALL, 0))
    observe(Settled(SMALL, present=False))
    observe(Step("done"))


def test_how_far_archives_are_unpacked_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    watch = progress.Progress(Written(clock))
    tell_unpacking(watch, clock)
    watch.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "verifying sha256 digest",
        "writing manifest",
        "unpacking archives",
        "unpacking aaaaaaaaaaaa:  10% of 3.8 GB, 100 MB/s",
        "unpacking aaaaaaaaaaaa:  23% of 3.8 GB, 100 MB/s",
        "unpacking aaaaaaaaaaaa: 100% 3.8 GB",
        "unpacking bbbbbbbbbbbb: 100% 120 B",
        "success",
    ]
    tell_unpacking(progress.Progress(Recorded(clock)), clock)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records[2] == {"status": "unpacking archives"}
    assert [(r["digest"], r["completed"]) for r in records if "digest" in r] == [
        *((str(BIG.digest), second * 100_000_000) for second in range(11)),
        (str(BIG.digest), BIG.size),
        (str(SMALL.digest), 0),
        (str(SMALL.digest), 120),
    ]
    assert all(list(r) == ["status", "digest", "total", "completed"] for r in records[3:-1])


def tell_making(observe: Observer, clock: Clock) -> None:
    """A model is made of two files; the digests are not those of their bytes."""
    for name, leaf in ((f"m{HOSTILE}.gguf", BIG), ("n.json", SMALL)):
        observe(Step("hashing", name, (leaf,)))
        for second in range(7 if leaf is BIG else 0):
            clock.now += 1
            observe(Moved(leaf, second * 100_000_000))
        observe(Moved(leaf, leaf.size))
        observe(Settled(leaf, present=False))
    for stage in ("tagging", "pruning", "done"):
        observe(Step(stage))


def test_how_far_files_are_hashed_is_told_by_their_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    tell_making(progress.Progress(Written(clock), progress.MAKE), clock)
    told = capsys.readouterr().err
    assert not NEVER & set(told)
    first, second, *rest = told.splitlines()
    assert first.startswith("hashing m\\x07")
    assert first.endswith(".gguf:  10% of 3.8 GB, 100 MB/s")
    assert second.endswith(".gguf: 100% 3.8 GB")
    assert rest == [
        "hashing n.json: 100% 120 B",
        "writing manifest",
        "removing any unused layers",
        "success",
    ]
    tell_making(progress.Progress(Recorded(clock), progress.MAKE), clock)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    hashing, total = f"hashing m{HOSTILE}.gguf", {"total": BIG.size}
    assert records == [
        *({"status": hashing, **total, "completed": s * 100_000_000} for s in range(7)),
        {"status": hashing, **total, "completed": BIG.size},
        {"status": "hashing n.json", "total": 120, "completed": 120},
        {"status": "writing manifest"},
        {"status": "removing any unused layers"},
    ]


def test_bars_of_files_have_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    watch = progress.Progress(Drawn(clock), progress.MAKE)
    tell_making(watch, clock)
    watch.close()
    drawn = capsys.readouterr().err
    assert "hashing m\\x07" in drawn
    assert "hashing n.json: 100%" in drawn
    assert drawn.index("hashing n.json: 100%") < drawn.index("writing manifest")
    assert "aaaaaaaaaaaa" not in drawn


def test_plain_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    watch = progress.Progress(Written(clock))
    tell(watch, clock)
    watch.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines.pop(4).startswith("waiting 5s: the registry is busy \\x07")
    assert not NEVER & set(captured.err)
    assert lines == [
        "pulling manifest",
        "pulling bbbbbbbbbbbb: 100% 120 B (already here)",
        "pulling aaaaaaaaaaaa:  39% of 3.8 GB, 100 MB/s",
        "pulling aaaaaaaaaaaa:  52% of 3.8 GB, 100 MB/s",
        "pulling aaaaaaaaaaaa: 100% 3.8 GB",
        "pulling cccccccccccc: 100% 0 B",
        "verifying sha256 digest",
        "writing manifest",
        "removing any unused layers",
        "success",
    ]


def tell_push(observe: Observer, clock: Clock) -> None:
    """A push of three layers, one of which is there, and one of which loses bytes on the way."""
    observe(Step("resolving", "tiny"))
    observe(Step("copying", leaves=(BIG, SMALL, EMPTY)))
    observe(Settled(SMALL, present=True))
    observe(Moved(BIG, 2_000_000_000))
    observe(Moved(BIG, 1_900_000_000))
    clock.now += 10
    observe(Moved(BIG, 3_000_000_000))
    observe(Moved(BIG, BIG.size))
    observe(Settled(BIG, present=False))
    for stage in ("tagging", "done"):
        observe(Step(stage))


def test_a_push_is_told_in_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    watch = progress.Progress(Written(clock), progress.PUSH)
    tell_push(watch, clock)
    watch.close()
    assert capsys.readouterr().err.splitlines() == [
        "retrieving manifest",
        "pushing bbbbbbbbbbbb: 100% 120 B (already there)",
        "pushing aaaaaaaaaaaa:  78% of 3.8 GB, 110 MB/s",
        "pushing aaaaaaaaaaaa: 100% 3.8 GB",
        "writing manifest",
        "success",
    ]
    watch = progress.Progress(Recorded(clock), progress.MIRROR)
    tell_push(watch, clock)
    watch(Step("referrers"))
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {record["status"] for record in records if "digest" in record} == {
        "copying bbbbbbbbbbbb",
        "copying aaaaaaaaaaaa",
    }
    assert records[-1] == {"status": "copying what refers to it"}


def test_bars_of_a_push_say_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    watch = progress.Progress(Drawn(clock), progress.PUSH)
    tell_push(watch, clock)
    watch(Step("copying", leaves=(BIG,)))
    watch(Moved(BIG, BIG.size))
    watch.close()
    drawn = capsys.readouterr().err
    assert "pushing aaaaaaaaaaaa: 100%" in drawn
    assert "finishing" in drawn
    assert "again" not in drawn
    assert "pulling" not in drawn


def test_json_lines_have_ollamas_keys(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    watch = progress.Progress(Recorded(clock))
    tell(watch, clock)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert not NEVER & set(captured.out)
    records = [json.loads(line) for line in captured.out.splitlines()]
    assert [record["status"] for record in records if "digest" not in record] == [
        "pulling manifest",
        "waiting",
        "verifying sha256 digest",
        "writing manifest",
        "removing any unused layers",
    ]
    moved = [r for r in records if r.get("digest") == str(BIG.digest) and "present" not in r]
    assert [record["completed"] for record in moved] == [
        1_000_000_000 + 100_000_000 * second for second in range(13)
    ]
    assert next(record for record in records if record["status"] == "waiting") == {
        "status": "waiting",
        "reason": f"the registry is busy {HOSTILE}",
        "seconds": 5.2,
    }
    assert records[1] == {
        "status": "pulling bbbbbbbbbbbb",
        "digest": str(SMALL.digest),
        "total": 120,
        "completed": 120,
        "present": True,
    }


def test_quiet_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.watching(settings(quiet=True)) as observe:
        tell(observe, Clock())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("as_json", [False, True])
def test_the_form_follows_the_settings(
    capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    with progress.watching(settings(json=as_json, quiet=as_json)) as observe:
        observe(Step("resolving", "tiny"))
    out, err = capsys.readouterr()
    assert (out, err) == (
        ('{"status": "pulling manifest"}\n', "") if as_json else ("", "pulling manifest\n")
    )


def test_after_the_end_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.watching(settings()) as observe:
        pass
    tell(observe, Clock())
    assert capsys.readouterr().err == ""


def test_the_end_does_not_wait_for_a_thread_that_is_stuck() -> None:
    entered, leave = threading.Event(), threading.Event()

    class Stuck(Written):
        def stage(self, text: str) -> None:
            entered.set()
            leave.wait(30)

    watch = progress.Progress(Stuck())
    thread = threading.Thread(target=watch, args=(Step("done"),))
    thread.start()
    try:
        assert entered.wait(10)
        watch.close()
        assert thread.is_alive()
    finally:
        leave.set()
        thread.join(10)


def test_one_thread_at_a_time_is_heard() -> None:
    inside: list[int] = []
    most: list[int] = []

    class Counted(Written):
        def moved(self, leaf: Descriptor, offset: int) -> None:
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    watch = progress.Progress(Counted())

    def work() -> None:
        for offset in range(200):
            watch(Moved(SMALL, offset))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(most) == 800
    assert set(most) == {1}


BUSY = "ghcr.io answered 429"


def test_a_wait_is_told_once_while_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    plain, recorded = progress.Progress(Written(clock)), progress.Progress(Recorded(clock))
    for _ in range(40):  # eight streams are turned away for two seconds, five times
        for watch in (plain, recorded):
            for _ in range(8):
                watch(Waiting(2.0, BUSY))
        clock.now += 0.25
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [f"waiting 2s: {BUSY}"]
    told = [json.loads(line) for line in captured.out.splitlines()]
    assert told == [{"status": "waiting", "reason": BUSY, "seconds": 2.0}] * 5
    plain(Waiting(0.0, "another process is fetching aaaaaaaaaaaa"))
    plain(Waiting(0.2, "the connection broke"))
    assert capsys.readouterr().err.splitlines() == [
        "waiting: another process is fetching aaaaaaaaaaaa",
        "trying again: the connection broke",
    ]


def test_bytes_that_were_wrong_are_told_of_in_every_form(
    capsys: pytest.CaptureFixture[str],
) -> None:
    again = "pulling aaaaaaaaaaaa again: its bytes were wrong"
    clock = Clock()
    for watch in (progress.Progress(Written(clock)), progress.Progress(Recorded(clock))):
        watch(Step("copying", leaves=(BIG, SMALL)))
        for offset in (0, 100, BIG.size, 0, 100):
            watch(Moved(BIG, offset))
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [again]
    assert json.loads(captured.out.splitlines()[-1]) == {"status": again, "digest": str(BIG.digest)}


def test_plain_lines_get_rarer_and_are_of_all_layers(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    watch = progress.Progress(Written(clock))
    other = Descriptor("application/x-y", Digest("sha256", "d" * 64), BIG.size)
    watch(Step("copying", leaves=(BIG, other)))
    for second in range(3600):
        clock.now += 1
        for leaf in (BIG, other):
            watch(Moved(leaf, second * 1_000_000))
    lines = capsys.readouterr().err.splitlines()
    assert 60 < len(lines) < 110
    assert re.fullmatch(r"total:   0% of 7\.6 GB, [12]\.[0-9] MB/s", lines[1])
    assert lines[-1].startswith("total:  9")


def test_json_lines_of_a_layer_are_a_second_apart(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    watch = progress.Progress(Recorded(clock))
    for offset in range(1000):
        clock.now += 0.01
        watch(Moved(BIG, offset))
    assert len(capsys.readouterr().out.splitlines()) == 10


def test_a_terminal_that_takes_nothing_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after Ctrl-S: the transfer goes on, and can be ended."""
    entered, leave = threading.Event(), threading.Event()

    class Stopped(io.TextIOWrapper):
        def write(self, text: str) -> int:
            if "\n" in text:
                entered.set()
                leave.wait(30)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Stopped(io.BytesIO(), encoding="utf-8"))
    watch = progress.Progress(Drawn())
    try:
        watch(Step("copying", leaves=(BIG, SMALL)))
        assert entered.wait(10)
        begin = time.monotonic()
        for offset in range(1000):
            watch(Moved(BIG, offset))
        watch.close()
        assert time.monotonic() - begin < 10
    finally:
        leave.set()
