"""What a pull tells while it works, in each of its forms."""

import json
import threading

import pytest

from modelpm.cli import progress
from modelpm.cli.options import Settings
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


def test_plain_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    watch = progress.Progress(progress.Written(clock))
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


def test_json_lines_have_ollamas_keys(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    watch = progress.Progress(progress.Recorded(clock))
    tell(watch, clock)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert not NEVER & set(captured.out)
    records = [json.loads(line) for line in captured.out.splitlines()]
    assert [record["status"] for record in records if "digest" not in record] == [
        "pulling manifest",
        f"waiting 5s: the registry is busy {HOSTILE}",
        "verifying sha256 digest",
        "writing manifest",
        "removing any unused layers",
    ]
    moved = [r for r in records if r.get("digest") == str(BIG.digest) and "present" not in r]
    assert [record["completed"] for record in moved] == [
        1_000_000_000 + 100_000_000 * second for second in range(13)
    ]
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

    class Stuck(progress.Written):
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

    class Counted(progress.Written):
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


def test_a_track_knows_its_rate_and_what_is_left() -> None:
    track = progress.Track("pulling x", 10_000)
    assert (track.rate, track.seconds_left) == (0.0, None)
    track.skip(1000)
    for second in range(4):
        track.advance(500 if second else 0, float(second))
    assert track.done == 2500
    assert track.rate == 500.0
    assert track.seconds_left == 15.0
    track.skip(-2000)
    assert (track.done, track.rate) == (500, 500.0)
    for second in range(4, 40):
        track.advance(0, float(second))
    assert track.rate == 0.0


def test_tracks_do_not_count_what_was_there_as_speed() -> None:
    clock = Clock()
    tracks = progress.Tracks(clock)
    tracks.begin((BIG, SMALL))
    assert tracks.move(BIG, 1_000_000_000).rate == 0.0
    clock.now += 1
    assert tracks.move(BIG, 1_100_000_000).rate == 100_000_000
    clock.now += 1
    track = tracks.move(BIG, 0)  # begun anew
    assert track.done == 0
    assert track.rate >= 0.0
    assert tracks.move(SMALL, 120).done == 120
    tracks.begin((BIG, SMALL), together=True)
    assert tracks.move(BIG, 100).head == "pulling 2 layers"
    assert tracks.move(SMALL, 120).done == 220
    assert tracks.move(BIG, 300).done == 420
