"""A blob by several streams: every byte once, nothing after the end, no stream left behind."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from modelpm.errors import DigestMismatchError, RegistryError
from modelpm.registry.budget import Budget
from modelpm.registry.download import Download
from modelpm.registry.limits import Growth, Limits
from tests.registry.streams import Drain, Server, Stream

PART = 1000
GROWTH = Growth(part=PART, tick=0.001, window=0.004, gain=1.3, pause=0.05, lag=10, lag_window=0.05)
BLOB = random.Random(3).randbytes(64 * PART)
LONG = 20.0
"""Seconds that a busy machine may need for what takes a moment."""


class Scene:
    """A download of BLOB, and what must hold when it has ended."""

    def __init__(
        self,
        server: Server | None = None,
        *,
        size: int | None = None,
        missing: list[tuple[int, int]] | None = None,
        growth: Growth = GROWTH,
        **limits: Any,
    ) -> None:
        self.server = server or Server(BLOB, piece=PART // 4)
        desc = self.server.desc if size is None else replace(self.server.desc, size=size)
        self.sink = Drain(desc.size, missing)
        self.budget = Budget(Limits(**limits), time.sleep, time.monotonic)
        self.download = Download(
            self.server.fetch, desc, self.sink, self.budget, growth, time.monotonic
        )

    def run(self) -> None:
        """Run it to its good end."""
        try:
            self.download.run()
        finally:
            self.sink.end()
        assert self.sink.missing() == []
        self.check()

    def fails(self, kind: type[BaseException], match: str = ".*") -> None:
        with pytest.raises(kind, match=match):
            self.download.run()
        self.sink.end()
        self.check()

    def check(self) -> None:
        """No thread is left after a moment, and every connection was given back once."""
        deadline = time.monotonic() + LONG
        while streams() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert streams() == []
        assert self.sink.mistakes == []
        assert [self.budget.try_acquire() for _ in range(self.budget.connections)] == [
            True
        ] * self.budget.connections
        assert not self.budget.try_acquire()


def streams() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "stream"]


def slowly(seconds: float) -> Callable[[Stream], None]:
    """As behind a rate for each connection."""
    return lambda _stream: time.sleep(seconds)


def test_a_small_blob_is_one_request_for_all_of_it() -> None:
    scene = Scene(Server(BLOB[: 2 * PART - 1], piece=100, before=slowly(0.002)))
    scene.run()
    assert bytes(scene.sink.content) == BLOB[: 2 * PART - 1]
    assert scene.server.asked == [(0, None, True)]


def test_streams_share_what_is_left_at_the_end() -> None:
    scene = Scene(Server(BLOB[: 20 * PART], piece=PART // 20, before=slowly(0.001)), connections=4)
    scene.run()
    assert bytes(scene.sink.content) == BLOB[: 20 * PART]
    lengths = [stop - start for start, stop in scene.server.spans if stop is not None]
    assert PART // 4 <= min(lengths) < PART


def test_nothing_to_bring_is_no_request() -> None:
    scene = Scene(missing=[])
    scene.run()
    assert scene.server.asked == []


def test_streams_are_added_while_they_bring_more() -> None:
    scene = Scene(Server(BLOB, piece=PART // 10, before=slowly(0.001)))
    scene.run()
    assert bytes(scene.sink.content) == BLOB
    assert scene.server.peak == 8
    assert scene.server.asked[0] == (0, None, True)
    assert all(stop is not None for _, stop in scene.server.spans[1:-1])


def test_the_bytes_come_from_the_front_to_the_back() -> None:
    scene = Scene(Server(BLOB, piece=PART // 10, before=slowly(0.001)))
    ahead = 0

    def watch(offset: int) -> None:
        nonlocal ahead
        first = scene.sink.missing()[0][0]
        ahead = max(ahead, offset - first)

    scene.sink.before = watch
    scene.run()
    assert ahead <= 10 * PART


def test_streams_that_bring_no_more_end() -> None:
    growth = replace(GROWTH, gain=100, pause=10)
    scene = Scene(Server(BLOB, piece=PART // 10, before=slowly(0.0005)), growth=growth)
    scene.run()
    assert scene.server.peak == 2
    # Alone again one stream asks for all that is left.
    assert scene.server.spans[-1][1] is None
    assert scene.server.spans[-1][0] < len(BLOB) - 8 * PART


@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_there_are_never_more_connections_than_allowed(most: int) -> None:
    server = Server(BLOB, piece=PART // 10, before=slowly(0.0005))
    scene = Scene(server, connections=most)
    scene.run()
    assert server.peak == most
    if most == 1:
        assert server.asked == [(0, None, True)]


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_a_server_that_refuses_more_gets_no_more(most: int) -> None:
    server = Server(BLOB, piece=PART // 10, before=slowly(0.001), most=most)
    scene = Scene(server, growth=replace(GROWTH, pause=10))
    scene.run()
    assert bytes(scene.sink.content) == BLOB
    assert server.peak == most
    refused = len([stop for _, stop in server.spans if stop is not None])
    assert refused <= 2 * len(BLOB) // PART
    if most == 1:  # the one stream goes on to the end, with the request that it began with
        assert [span for span in server.spans if span[1] is None] == [(0, None)]
        assert len(server.spans) == 2


def test_a_server_without_ranges_is_read_once() -> None:
    server = Server(BLOB, piece=PART // 10, before=slowly(0.0005), has_ranges=False)
    scene = Scene(server)
    scene.run()
    assert [start for start, stop in server.spans if stop is None] == [0]
    assert server.sent == len(BLOB)
    assert len(server.spans) == 2


def test_what_is_here_is_not_asked_for() -> None:
    missing = [(500, 700), (3000, 9000), (20_000, 21_000), (60_000, len(BLOB))]
    server = Server(BLOB, piece=100, before=slowly(0.0002))
    scene = Scene(server, missing=missing)
    scene.run()
    assert server.sent <= sum(stop - start for start, stop in missing) + 8 * PART
    for start, stop in missing:
        assert scene.sink.content[start:stop] == BLOB[start:stop]


def test_the_rest_of_a_server_without_ranges_is_asked_for_as_it_can_be() -> None:
    server = Server(BLOB, piece=1000, has_ranges=False)
    scene = Scene(server, missing=[(500, 700), (3000, 9000)])
    scene.run()
    assert server.spans == [(500, 700), (500, None), (3000, None)]


def test_more_bytes_than_there_should_be_are_an_error_and_are_not_written() -> None:
    scene = Scene(Server(BLOB), size=len(BLOB) - 1)
    scene.fails(DigestMismatchError, "more than 63999")


def test_fewer_bytes_are_an_error() -> None:
    scene = Scene(Server(BLOB[:100]), size=200)
    scene.fails(DigestMismatchError, "100 bytes arrived instead of 200")
    assert scene.sink.missing() == [(100, 200)]


def test_the_last_stream_fails_for_all() -> None:
    def broken(_stream: Stream) -> None:
        raise RegistryError("gone", status=500)

    Scene(Server(BLOB, before=broken)).fails(RegistryError, "gone")


def test_a_stream_that_fails_leaves_its_part_to_the_others() -> None:
    dice = random.Random(5)

    def sometimes(stream: Stream) -> None:
        time.sleep(0.0005)
        if len(scene.server.open) > 1 and dice.random() < 0.05:
            raise RegistryError("reset")

    scene = Scene(Server(BLOB, piece=PART // 10, before=sometimes))
    scene.run()
    assert bytes(scene.sink.content) == BLOB


def test_an_error_that_is_not_the_networks_ends_it() -> None:
    def mad(stream: Stream) -> None:
        time.sleep(0.001)
        if stream.start:
            raise ZeroDivisionError

    Scene(Server(BLOB, piece=100, before=mad)).fails(ZeroDivisionError)


class StopError(Exception):
    pass


def test_a_stop_ends_it_soon_though_every_stream_waits() -> None:
    """The copy is stopped from outside: `missing` raises while reads hang."""
    scene = Scene(Server(BLOB, piece=100))
    began = time.monotonic()

    def hang(stream: Stream) -> None:
        if time.monotonic() - began < 0.05:
            time.sleep(0.0005)
        else:
            assert stream.aborted.wait(3 * LONG)

    def alive() -> None:
        if time.monotonic() - began > 0.1:
            raise StopError

    scene.server.before, scene.sink.alive = hang, alive
    with pytest.raises(StopError):
        scene.download.run()
    scene.sink.end()
    scene.sink.alive = lambda: None
    scene.check()
    assert time.monotonic() - began < LONG  # nobody waited for what hangs


def test_a_sink_that_cannot_write_ends_it() -> None:
    scene = Scene(Server(BLOB, piece=100, before=slowly(0.0005)))

    def full(_offset: int) -> None:
        if len(scene.sink.log) > 50:
            raise StopError

    scene.sink.before = full
    scene.fails(StopError)


def test_what_was_claimed_is_written_before_it_ends() -> None:
    """A stream is replaced while what it brought last is still being written."""
    entered, leave = threading.Event(), threading.Event()
    scene = Scene(Server(BLOB[: 8 * PART], piece=PART // 10, before=slowly(0.002)))

    def hold(offset: int) -> None:
        if offset == PART + 500:
            entered.set()
            assert leave.wait(3 * LONG)

    scene.sink.before = hold
    runner = threading.Thread(target=scene.download.run)
    runner.start()
    assert entered.wait(LONG)
    # All else comes, and the part of the stream that hangs is given to others.
    deadline = time.monotonic() + LONG
    while scene.sink.missing() != [(PART + 500, PART + 600)]:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    runner.join(0.05)
    assert runner.is_alive()
    leave.set()
    runner.join(LONG)
    assert not runner.is_alive()
    assert scene.sink.missing() == []
    scene.sink.end()
    scene.check()


def test_a_write_that_fails_late_fails_the_download() -> None:
    entered, leave = threading.Event(), threading.Event()
    scene = Scene(Server(BLOB[: 8 * PART], piece=PART // 10, before=slowly(0.002)))

    def hold(offset: int) -> None:
        if offset == PART + 500:
            entered.set()
            assert leave.wait(3 * LONG)
            raise StopError

    scene.sink.before = hold
    failures: list[BaseException] = []

    def run() -> None:
        try:
            scene.download.run()
        except StopError as error:
            failures.append(error)

    runner = threading.Thread(target=run)
    runner.start()
    assert entered.wait(LONG)
    runner.join(0.3)
    leave.set()
    runner.join(LONG)
    assert len(failures) == 1
    scene.check()


@pytest.mark.parametrize("nth", [1, 2, 6])
def test_a_stream_that_drips_is_replaced(nth: int) -> None:
    dripping: list[Stream] = []

    def drip(stream: Stream) -> None:
        if len(scene.server.asked) > nth and not dripping and stream.reads == 3:
            dripping.append(stream)
        if stream in dripping:
            stream.aborted.wait(3 * LONG)
        time.sleep(0.001)

    scene = Scene(Server(BLOB * 2, piece=PART // 10, before=drip))
    began = time.monotonic()
    scene.run()
    assert time.monotonic() - began < LONG
    assert len(dripping) == 1
    assert dripping[0].aborted.is_set()


def test_a_stream_that_hangs_at_the_very_end_is_replaced() -> None:
    hanging: list[Stream] = []

    def hang(stream: Stream) -> None:
        if stream.stop == len(BLOB) and not hanging:
            hanging.append(stream)
        if stream in hanging:
            stream.aborted.wait(3 * LONG)
        time.sleep(0.001)

    scene = Scene(Server(BLOB, piece=PART // 10, before=hang))
    began = time.monotonic()
    scene.run()
    assert time.monotonic() - began < LONG
    assert len(hanging) == 1


def test_many_blobs_share_the_connections_and_none_is_left_out() -> None:
    server = Server(BLOB, piece=PART // 10, before=slowly(0.0005))
    budget = Budget(Limits(connections=4), time.sleep, time.monotonic)
    sinks = [Drain(len(BLOB)) for _ in range(6)]
    threads = [
        threading.Thread(
            target=Download(server.fetch, server.desc, sink, budget, GROWTH, time.monotonic).run
        )
        for sink in sinks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * LONG)
        assert not thread.is_alive()
    for sink in sinks:
        sink.end()
        assert (sink.missing(), sink.mistakes) == ([], [])
        assert bytes(sink.content) == BLOB
    assert server.peak == 4


def chaos(seed: int) -> None:
    """One download through whatever can happen, drawn from a seed."""
    dice = random.Random(seed)
    size = dice.choice([1, PART - 1, PART, 2 * PART, 7 * PART + 3, 40 * PART])
    content = dice.randbytes(size)
    edges = sorted(dice.randrange(size + 1) for _ in range(2 * dice.randrange(4)))
    missing = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
    rough, drips = dice.choice([0, 0, 0.02, 0.2]), dice.choice([0, 0, 0.02])
    pause = dice.choice([0, 0, 0.0002])

    def before(stream: Stream) -> None:
        if pause:
            time.sleep(pause)
        if drips and dice.random() < drips:
            stream.aborted.wait(0.02)
        if dice.random() < rough and (not stream.patient or len(server.open) > 1):
            raise RegistryError("rough")

    server = Server(
        content,
        before=before,
        piece=dice.choice([1 + size // 7, 37, PART, 10**9]),
        has_ranges=dice.random() < 0.8,
        most=dice.choice([1, 2, 3, 100]),
    )
    growth = replace(
        GROWTH,
        tick=dice.choice([0.0001, 0.001]),
        window=dice.choice([0.0001, 0.002]),
        gain=dice.choice([0.5, 1.3, 100]),
        pause=dice.choice([0.001, 1]),
        lag_window=dice.choice([0.002, 0.01]),
        lag=dice.choice([1.1, 10]),
    )
    whole = not missing or dice.random() < 0.5
    scene = Scene(
        server,
        missing=None if whole else missing,
        growth=growth,
        connections=dice.choice([1, 2, 8]),
    )
    if dice.random() < 0.2:
        left = dice.randrange(1, 40)

        def stop(_offset: int) -> None:
            if len(scene.sink.log) >= left:
                raise StopError

        scene.sink.before = stop
    try:
        scene.download.run()
    except (StopError, RegistryError):
        scene.sink.end()
    else:
        scene.sink.end()
        assert scene.sink.missing() == []
        for start, stop_at in [(0, size)] if whole else missing:
            assert scene.sink.content[start:stop_at] == content[start:stop_at]
    scene.check()


@pytest.mark.parametrize("block", range(10))
def test_whatever_happens_every_byte_comes_once(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        try:
            chaos(seed)
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
