"""Attempts and waits: bounded in number, each and in sum; Retry-After as the server means it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from modelpm.oci.descriptor import Digest
from modelpm.registry.limits import Attempts, Limits, Pace
from tests.registry.conftest import Waits


def attempts(waits: Waits, limits: Limits | None = None) -> Attempts:
    return Attempts(limits or Limits(), waits.sleep, waits.tell)


def test_the_attempts_end_and_the_waits_grow_to_a_bound() -> None:
    waits = Waits()
    trying = attempts(waits, Limits(attempts=10))
    assert [trying.again("busy") for _ in range(10)] == [True] * 9 + [False]
    bounds = [0.25, 0.5, 1, 2, 4, 8, 8, 8, 8]
    assert all(
        bound / 2 <= slept <= bound for slept, bound in zip(waits.slept, bounds, strict=True)
    )
    assert [seconds for seconds, _ in waits.told] == waits.slept
    assert {reason for _, reason in waits.told} == {"busy"}


def test_what_seldom_passes_is_tried_for_less_than_a_second() -> None:
    waits = Waits()
    trying = attempts(waits)
    assert [trying.again("refused", quick=True) for _ in range(3)] == [True, True, False]
    assert sum(waits.slept) < 0.5


def test_progress_gives_all_attempts_back() -> None:
    trying = attempts(Waits(), Limits(attempts=2))
    assert trying.again("cut")
    trying.progressed()
    assert trying.again("cut")
    assert not trying.again("cut")


class Crowd:
    """Others, of whom so many come to their end while a turn is waited for."""

    def __init__(self, *ends: int) -> None:
        self.useful = 7
        self.is_busy = bool(ends)
        self._ends = list(ends)

    def await_turn(self, since: int, is_over: Callable[[], bool]) -> bool:
        self.useful += self._ends.pop(0) if self._ends else 0
        return self.useful > since and not is_over()


def crowded(crowd: Crowd, is_over: Callable[[], bool] = bool) -> tuple[Attempts, Waits]:
    waits = Waits()
    return Attempts(Limits(attempts=2), waits.sleep, waits.tell, is_over, crowd), waits


def test_whoever_is_crowded_out_has_all_attempts_again_after_a_turn() -> None:
    trying, waits = crowded(Crowd(1, 1, 0))
    assert [trying.again("busy", crowded=True) for _ in range(6)] == [True] * 5 + [False]
    assert (trying.turns, len(waits.slept)) == (2, 3)


def test_who_was_served_since_the_first_failure_counts_too() -> None:
    trying, _ = crowded(crowd := Crowd())
    assert trying.again("busy", crowded=True)
    crowd.useful += 1
    assert trying.again("busy", crowded=True)
    assert [trying.again("busy", crowded=True) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("ends", [[1], []])
def test_a_wait_for_others_is_told_where_there_are_any(ends: list[int], is_known: bool) -> None:
    """With the digest, by which it is seen to be over."""
    trying, waits = crowded(Crowd(*ends))
    digest = Digest.of(b"a layer")
    if is_known:
        assert trying.about(digest) is trying
    assert trying.again("busy", crowded=True)
    trying.again("busy", crowded=True)
    expected = (0.0, f"{digest.short}: busy, perhaps until others are served")
    assert waits.told[1:] == [expected] * (len(ends) * is_known)


def test_no_turn_is_waited_for_where_that_is_not_why() -> None:
    trying, _ = crowded(Crowd(1))
    assert [trying.again("broken") for _ in range(2)] == [True, False]
    assert trying.turns == 0


def test_no_turn_comes_when_the_work_is_over() -> None:
    trying, _ = crowded(Crowd(1), lambda: True)
    assert not trying.again("busy", crowded=True)


def http_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


TOLD = [
    ("1", 1.0),
    (" 7 ", 7.0),
    ("0", 0.0),
    ("300", 300.0),
    ("301", 300.0),
    ("1" + "0" * 99, 300.0),
]
GARBAGE = ["-1", "1.5", "soon", "", "\u0661", "Thu, 99 Foo 2026 00:00:00 GMT", http_date(-60)]


@pytest.mark.parametrize(("header", "seconds"), TOLD)
def test_retry_after_is_obeyed_up_to_a_bound(header: str, seconds: float) -> None:
    waits = Waits()
    assert attempts(waits).again("busy", header)
    assert waits.slept == [seconds]


@pytest.mark.parametrize("header", GARBAGE)
def test_a_senseless_retry_after_leaves_our_own_wait(header: str) -> None:
    waits = Waits()
    assert attempts(waits).again("busy", header)
    assert 0.12 < waits.slept[0] <= 0.25


@pytest.mark.parametrize("zone", [" GMT", " -0000"])
def test_retry_after_may_be_a_date(zone: str) -> None:
    waits = Waits()
    assert attempts(waits).again("busy", http_date(20).removesuffix(" GMT") + zone)
    assert 18 < waits.slept[0] <= 20


def test_a_server_makes_us_wait_a_quarter_of_an_hour_in_all() -> None:
    waits = Waits()
    trying = attempts(waits, Limits(attempts=99))
    assert [trying.again("busy", "300") for _ in range(4)] == [True, True, True, False]
    assert sum(waits.slept) == 900


def test_a_stream_is_lost_when_it_drips_for_a_whole_window() -> None:
    limits = replace(Limits(), slow_rate=10, slow_window=60)
    dripping, flowing = Pace(limits), Pace(limits)
    assert not any(dripping.is_lost(9, 1) for _ in range(59))
    assert dripping.is_lost(9, 1)
    assert not any(flowing.is_lost(10, 1) for _ in range(600))
