"""How far, how fast, how long, and what for."""

import pytest

from modelpm.cli.tracks import Told, Track, Tracks, Waits
from modelpm.oci.descriptor import Descriptor
from tests.cli.test_progress import BIG, SMALL, Clock

OTHER = "another process is fetching aaaaaaaaaaaa"


def test_a_track_knows_its_rate_and_what_is_left() -> None:
    track = Track("pulling x", 10_000)
    assert (track.rate, track.seconds_left, track.is_moving) == (0.0, None, False)
    track.skip(1000)
    for second in range(4):
        track.advance(500 if second else 0)
        track.tick(float(second))
    assert track.done == 2500
    assert track.rate == 500.0
    assert track.seconds_left == 15.0
    track.skip(-2000)
    assert (track.done, track.rate) == (500, 500.0)
    assert track.is_moving


def test_a_rate_is_of_the_last_ten_seconds_and_changes_once_a_second() -> None:
    track = Track("pulling x", 10_000_000)
    rates = []
    for tenth in range(300):
        track.advance(100 if tenth < 150 else 300)
        track.tick(tenth / 10)
        rates.append(track.rate)
    assert rates[9] == pytest.approx(1000)
    assert rates[149] == pytest.approx(1000)
    assert 1100 < rates[190] < 2900
    assert rates[299] == pytest.approx(3000)
    assert len({round(rate, 3) for rate in rates}) < 32


def test_a_stall_is_seen_without_any_event() -> None:
    track = Track("pulling x", 10_000)
    for second in range(4):
        track.advance(500)
        track.tick(float(second))
    assert not track.is_stalled(4.0)
    before = track.rate
    for second in range(4, 10):
        track.tick(float(second))
    assert 0 < track.rate < before
    for second in range(10, 20):
        track.tick(float(second))
    assert track.rate == 0.0
    assert track.is_stalled(20.0)
    assert track.seconds_left is None


def test_tracks_do_not_count_what_was_there_as_speed() -> None:
    clock = Clock()
    tracks = Tracks(clock)
    tracks.begin((BIG, SMALL))
    assert tracks.move(BIG, 1_000_000_000).rate == 0.0
    clock.now += 1
    assert tracks.move(BIG, 1_100_000_000).rate == 100_000_000
    clock.now += 1
    track = tracks.move(BIG, 0)  # begun anew
    assert track.done == 0
    assert track.rate >= 0.0
    assert tracks.move(SMALL, 120).done == 120
    assert (tracks.total.done, tracks.total.total) == (120, BIG.size + 120)
    assert tracks.tick() == [track, tracks.move(SMALL, 120)]


def test_several_move_when_two_have_been_on_their_way_for_a_moment() -> None:
    clock = Clock()
    tracks = Tracks(clock)
    tracks.begin((BIG, SMALL))
    tracks.move(BIG, 0)
    clock.now += 1
    tracks.move(SMALL, 0)
    assert not tracks.several_move()
    clock.now += 1
    assert tracks.several_move()
    tracks.move(SMALL, SMALL.size, is_settled=True)
    assert not tracks.several_move()


def wait_for(clock: Clock, *added: tuple[float, str]) -> Waits:
    waits = Waits(clock)
    for seconds, reason in added:
        waits.add(seconds, reason)
    return waits


def test_a_wait_counts_down_and_ends() -> None:
    clock = Clock()
    waits = wait_for(clock, (12.0, "a"))
    texts = []
    for _ in range(14):
        texts.append(waits.text())
        clock.now += 1
    assert texts == [*(f"waiting {left}s: a" for left in range(12, 0, -1)), "", ""]


@pytest.mark.parametrize(
    ("added", "shown"),
    [
        ([], ""),
        ([(0.3, "not worth a word")], ""),
        ([(3.0, "a"), (2.0, "a")], "waiting 3s: a"),
        ([(3.0, "a"), (5.0, "b")], "waiting 5s: b (and 1 more)"),
        ([(0.0, OTHER)], f"waiting: {OTHER}"),
        ([(0.0, OTHER), (2.0, "a")], "waiting 2s: a (and 1 more)"),
        ([(2.0, str(number)) for number in range(99)], "waiting 2s: 0 (and 31 more)"),
    ],
)
def test_one_wait_of_many_is_shown(added: list[tuple[float, str]], shown: str) -> None:
    assert wait_for(Clock(), *added).text() == shown


@pytest.mark.parametrize(("leaf", "shown"), [(BIG, ""), (SMALL, f"waiting: {OTHER}")])
def test_a_wait_without_an_end_is_over_when_its_layer_moves(leaf: Descriptor, shown: str) -> None:
    waits = wait_for(Clock(), (0.0, OTHER))
    waits.over(leaf)
    assert waits.text() == shown


def test_what_was_told_is_new_again_only_after_a_while() -> None:
    clock = Clock()
    told = Told(clock, 30.0)
    assert told.is_new(2.0, "a")
    assert not told.is_new(2.0, "a")
    assert told.is_new(60.0, "b")
    clock.now += 31
    assert told.is_new(2.0, "a")
    assert not told.is_new(2.0, "b")
    assert sum(told.is_new(1.0, str(number)) for number in range(99)) == 30
