"""How many streams there should be, and which of them lags: decided from measurements alone."""

import itertools
from collections.abc import Callable

import pytest

from modelpm.registry.growth import Laggards, Trial
from modelpm.registry.limits import Growth

GROWTH = Growth()
TICK = GROWTH.tick


def grown(
    rate: Callable[[int], float], seconds: float, *, most: int = 8, can: int = 100
) -> list[tuple[float, int]]:
    """When the number of streams changed and to what, if `count` of them bring rate(count)."""
    trial, now, arrived, count = Trial(GROWTH, most), 0.0, 0.0, 1
    changes = [(0.0, 1)]
    while now < seconds:
        now += TICK
        arrived += TICK * rate(count)
        trial.judge(now, int(arrived), count, flowing=True)
        count = min(trial.wanted, can)
        if count != changes[-1][1]:
            changes.append((now, count))
    return changes


def counts(changes: list[tuple[float, int]]) -> list[int]:
    return [count for _, count in changes]


def test_streams_are_doubled_as_long_as_that_brings_more() -> None:
    changes = grown(lambda count: count * 40e6, 10)
    assert counts(changes) == [1, 2, 4, 8]
    assert changes[-1][0] < 1


def test_where_one_stream_brings_all_there_is_it_is_soon_alone_again() -> None:
    changes = grown(lambda _: 40e6, 60)
    assert counts(changes) == [1, 2] * (len(changes) // 2) + [1] * (len(changes) % 2)
    alone = [then - now for (now, count), (then, _) in itertools.pairwise(changes)]
    assert all(seconds < 1.8 for seconds in alone[1::2])
    # Tried again later and later.
    assert 4 <= len(changes) <= 9


@pytest.mark.parametrize(("limit", "best"), [(110e6, 4), (60e6, 2), (330e6, 8)])
def test_a_total_rate_ends_the_growth(limit: float, best: int) -> None:
    changes = grown(lambda count: min(count * 40e6, limit), 4.5)
    assert changes[-1][1] == best


@pytest.mark.parametrize("most", [1, 3, 8, 20])
def test_there_are_never_more_streams_than_allowed(most: int) -> None:
    assert counts(grown(lambda count: count * 1e6, 20, most=most))[-1] == most


def test_streams_that_cannot_be_had_are_not_waited_for() -> None:
    assert counts(grown(lambda count: count * 1e6, 20, can=3)) == [1, 2, 3]


def test_a_late_gain_counts() -> None:
    """New streams are slow at first."""
    trial, arrived = Trial(GROWTH, 2), 0.0
    for tick in range(1, 200):
        now = tick * TICK
        extra = min(1.0, max(0.0, (now - 0.5) / 0.5)) if trial.wanted == 2 else 0.0
        arrived += TICK * 1e6 * (1 + extra)
        trial.judge(now, int(arrived), trial.wanted, flowing=True)
    assert trial.wanted == 2


def test_nothing_is_judged_while_not_all_streams_flow() -> None:
    trial = Trial(GROWTH, 8)
    for tick in range(100):
        trial.judge(tick * TICK, tick * 1000, 1, flowing=False)
    assert trial.wanted == 1
    for tick in range(100):  # nor while nothing comes
        trial.judge(10 + tick * TICK, 99_000, 1, flowing=True)
    assert trial.wanted == 1


def test_a_refusal_rests_for_a_while_and_longer_each_time() -> None:
    trial, now, arrived, tried = Trial(GROWTH, 8), 0.0, 0, []
    while now < 100:
        now, arrived = now + TICK, arrived + 10**6
        trial.judge(now, arrived, 1, flowing=True)
        if trial.wanted > 1:
            tried.append(now)
            trial.refuse(now, 1)
            assert trial.wanted == 1
    pauses = [then - now for now, then in itertools.pairwise(tried)]
    assert [round(pause / GROWTH.pause) for pause in pauses] == [1, 2, 4, 8]
    trial.refuse(now, 0)
    assert trial.wanted == 1


def found(rates: dict[str, list[float]]) -> list[tuple[int, str]]:
    """Which of the streams lag, second by second; one without a rate is gone."""
    laggards = Laggards[str](GROWTH, 0.0)
    arrived: dict[str, float] = {}
    total, slow = 0.0, []
    for second in range(max(map(len, rates.values()))):
        for part in range(10):
            now = second + part / 10
            there = {name for name, each in rates.items() if second < len(each)}
            arrived = {name: arrived.get(name, 0.0) for name in there}
            for name in there:
                arrived[name] += rates[name][second] / 10
                total += rates[name][second] / 10
            counts = {name: int(count) for name, count in arrived.items()}
            slow += [(second, name) for name in laggards.find(now, counts, int(total))]
    return slow


def test_streams_of_one_speed_do_not_lag() -> None:
    assert found({name: [100 + 30 * number] * 30 for number, name in enumerate("abcdef")}) == []


def test_a_stream_below_a_tenth_of_the_others_lags() -> None:
    slow = found({"a": [1000.0] * 7, "b": [1000.0] * 7, "c": [90.0] * 7})
    assert [name for _, name in slow] == ["c"] * len(slow)
    assert slow[0][0] <= 2 * GROWTH.lag_window
    assert found({"a": [1000.0] * 7, "b": [1000.0] * 7, "c": [110.0] * 7}) == []


def test_of_two_one_may_lag() -> None:
    assert {name for _, name in found({"a": [1000.0] * 7, "b": [0.0] * 7})} == {"b"}


def test_all_that_stand_still_are_not_laggards_of_one_another() -> None:
    assert found({"a": [0.0] * 10, "b": [0.0] * 10}) == []


def test_the_last_stream_lags_behind_what_was_usual_once() -> None:
    slow = found({"a": [1000.0], "b": [1000.0], "c": [1000.0, *[1.0] * 20]})
    assert [name for _, name in slow] == ["c"]


def test_one_stream_alone_never_lags() -> None:
    assert found({"a": [1000.0] * 5 + [0.0] * 20}) == []
