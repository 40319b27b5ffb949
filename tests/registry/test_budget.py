"""Connections and bytes a second, shared by all streams of a registry."""

import threading
import time

import pytest

from modelpm.registry.budget import Budget
from modelpm.registry.limits import Limits

MIB = 2**20


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def of(clock: Clock, **limits: int) -> Budget:
    return Budget(Limits(**limits), clock.sleep, clock)  # type: ignore[arg-type]  # ints only


@pytest.mark.parametrize("rate", [1, 5_000, 100_000, 3 * MIB, 10**9])
def test_a_rate_is_kept_and_no_wait_is_long(rate: int) -> None:
    clock = Clock()
    budget = of(clock, rate=rate)
    assert 1 <= budget.piece <= MIB
    began, count = clock.now, 0
    while clock.now - began < 10 or count < 20 * budget.piece:
        budget.spend(budget.piece)
        count += budget.piece
        clock.now += 0.0001  # to read them takes a moment too
    assert count / (clock.now - began) == pytest.approx(rate, rel=0.05)
    if rate >= 5_000:
        assert max(clock.slept) <= 0.21


def test_without_a_rate_nothing_is_waited_for() -> None:
    clock = Clock()
    budget = of(clock)
    budget.spend(10**12)
    assert (budget.piece, clock.slept) == (MIB, [])


def test_time_that_was_not_used_is_not_made_up_for() -> None:
    clock = Clock()
    budget = of(clock, rate=1_000_000)
    budget.spend(100_000)
    clock.now += 60
    began = clock.now
    for _ in range(10):
        budget.spend(100_000)
    assert clock.now - began > 0.9


def test_streams_share_the_rate() -> None:
    budget = Budget(Limits(rate=20 * MIB), time.sleep, time.monotonic)
    stop, came = threading.Event(), [0] * 5

    def stream(number: int) -> None:
        while not stop.is_set():
            budget.spend(budget.piece // 8)
            came[number] += budget.piece // 8

    threads = [threading.Thread(target=stream, args=(number,)) for number in range(5)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(1)
    total, seconds = sum(came), time.monotonic() - began
    stop.set()
    for thread in threads:
        thread.join(1)
        assert not thread.is_alive()
    assert total / seconds < 20 * MIB * 1.05
    assert total / seconds > 20 * MIB / 2  # a busy machine may be late, and that is not made up for
    assert min(came) > total / 20  # nobody is left out


def test_there_are_so_many_connections() -> None:
    budget = of(Clock(), connections=2)
    assert (budget.try_acquire(), budget.try_acquire(), budget.try_acquire()) == (True, True, False)
    budget.release()
    budget.acquire()
    assert not budget.try_acquire()
    assert of(Clock(), connections=0).connections == 1


def shortage(budget: Budget) -> int:
    return int(budget.is_short)


def test_who_waits_for_a_connection_goes_first_and_can_be_ended() -> None:
    budget = of(Clock(), connections=1)
    budget.acquire()
    looked, got = threading.Event(), threading.Event()

    def wait() -> None:
        budget.acquire(looked.set)
        got.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert looked.wait(5)
    assert shortage(budget) == 1
    assert not budget.try_acquire()
    budget.release()
    waiter.join(5)
    assert got.is_set()
    assert shortage(budget) == 0

    def dead() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        budget.acquire(dead)
    assert shortage(budget) == 0
    budget.release()
    assert budget.try_acquire()


# Turns.


def waiting(budget: Budget, over: threading.Event) -> tuple[threading.Thread, list[bool]]:
    """One who waits for a turn, in a thread of its own, and what came of it."""
    said: list[bool] = []
    thread = threading.Thread(target=lambda: said.append(budget.await_turn(0, over.is_set)))
    thread.start()
    return thread, said


def test_where_nothing_flows_there_is_no_turn() -> None:
    began = time.monotonic()
    assert not of(Clock()).await_turn(0, bool)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("useful", [True, False])
def test_a_turn_comes_when_a_stream_has_ended_well(useful: bool) -> None:
    budget = of(Clock())
    with budget.flowing(lambda: useful):
        thread, said = waiting(budget, threading.Event())
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(5)
    assert said == [useful]


def test_a_stream_that_is_opened_again_is_waited_for() -> None:
    budget = of(Clock())
    with budget.flowing():
        thread, said = waiting(budget, threading.Event())
        time.sleep(0.02)
    with budget.flowing(lambda: True):
        thread.join(0.5)
        assert thread.is_alive()
    thread.join(5)
    assert said == [True]


def test_the_wait_for_a_turn_ends_when_the_work_does() -> None:
    budget, over = of(Clock()), threading.Event()
    with budget.flowing():
        thread, said = waiting(budget, over)
        over.set()
        thread.join(5)
        assert said == [False]


def test_nobody_waits_for_what_flows_in_his_own_thread() -> None:
    """An upload whose source is refused by the same registry."""
    budget = of(Clock())
    with budget.flowing(), budget.flowing():
        assert not budget.is_busy
        assert not budget.await_turn(0, bool)
    with budget.flowing():
        thread, said = waiting(budget, threading.Event())
        with budget.flowing():  # in the thread that is waited for
            assert not budget.await_turn(1, bool)
            thread.join(0.3)
            assert thread.is_alive()
    thread.join(5)
    assert said == [False]


def test_those_who_wait_do_not_wait_for_each_other() -> None:
    budget, said = of(Clock()), list[bool]()
    ready = threading.Barrier(3)

    def upload() -> None:
        with budget.flowing():
            ready.wait(5)
            said.append(budget.await_turn(0, bool))

    threads = [threading.Thread(target=upload, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert said == [False] * 3
    assert not budget.is_busy


def test_a_stream_may_be_ended_by_another_thread() -> None:
    budget = of(Clock())
    flow = budget.flowing(lambda: True)
    thread = threading.Thread(target=flow.__enter__)
    thread.start()
    thread.join(5)
    busy = [budget.is_busy]
    flow.__exit__(None, None, None)
    assert [*busy, budget.is_busy, budget.useful] == [True, False, 1]
