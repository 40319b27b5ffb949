"""Downloads by several streams from registries that are slow, crowded, broken or lie."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
from registry import Answer, Bearer, Content, Pace, Registry, Request, Sink

from modelpm.errors import AuthenticationError, DigestMismatchError, NotFoundError, RegistryError
from modelpm.oci.descriptor import Descriptor
from modelpm.registry.limits import Growth
from tests.registry.conftest import NAME, QUICK, Bench
from tests.registry.streams import Drain

TCP, ESTABLISHED = Path("/proc/net/tcp"), "01"
MIB = 2**20
PART = MIB // 8
BLOB = random.Random(9).randbytes(4 * MIB)
LAYER = Descriptor.of(BLOB, "application/octet-stream")
GROWTH = Growth(part=PART, tick=0.01, window=0.1, pause=0.3, lag_window=0.25)
LIMITS = replace(QUICK, growth=GROWTH, no_progress=2)
LONG = 20.0
"""Seconds that a busy machine may need for what takes a moment."""

EACH = {"rate": MIB}
"""A rule: each answer has this rate, so that more of them are faster."""


def serve(bench: Bench, *rules: dict[str, Any], **options: Any) -> Registry:
    registry = bench.registry([{"path": "/blobs/", **rule} for rule in rules], **options)
    registry.add_artifact(NAME, "latest", [("application/octet-stream", BLOB)])
    return registry


def bring(
    bench: Bench,
    registry: Registry,
    sink: Drain | None = None,
    sleep: Callable[[float], None] | None = None,
    **limits: Any,
) -> tuple[Drain, float]:
    """Download BLOB, check every byte, and say how long it took. Without `sleep` none waits."""
    sink = sink or Drain(len(BLOB))
    missing = sink.missing()
    options = {"limits": replace(LIMITS, **limits), "plain_http": True}
    options |= {"sleep": sleep} if sleep else {}
    began = time.monotonic()
    try:
        bench.repository(registry, **options).download(LAYER, sink)
    finally:
        seconds = time.monotonic() - began
        sink.end()
        assert sink.mistakes == []
    assert sink.missing() == []
    for start, stop in missing:
        assert sink.content[start:stop] == BLOB[start:stop]
    return sink, seconds


def ranges(registry: Registry) -> list[str]:
    return [request.headers.get("range", "") for request in registry.requests("GET", "/blobs/")]


@pytest.fixture(autouse=True)
def _no_stream_is_left() -> Iterator[None]:
    """Streams end when the servers do, at the latest."""
    yield
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        names = [thread.name for thread in threading.enumerate()]
        if "stream" not in names:
            return
        time.sleep(0.01)
    raise AssertionError("a stream is left")


class Watched:
    """Looks at the kernel's connections of a server: a server itself hears late of one's end."""

    def __init__(self, server: Registry) -> None:
        self.peak = 0
        self._port = f":{server.port:04X} "
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = 0
        while not self._over.wait(0.002):
            lines = TCP.read_text().splitlines()[1:]
            fields = [line.split() for line in lines if self._port in line]
            ours = [each for each in fields if f"{each[1]} ".endswith(self._port)]
            # One look takes its time: it may see a connection that ended, and the one after it.
            before, now = sum(each[3] == ESTABLISHED for each in ours), before
            self.peak = max(self.peak, min(before, now))


# As many streams as help.


def test_connections_that_are_slow_each_are_used_together(bench: Bench) -> None:
    registry = serve(bench, EACH)
    _, seconds = bring(bench, registry)
    assert registry.peak == 8
    assert seconds < 4  # one stream alone needs more; on a quiet machine it is less than two
    assert registry.requests("HEAD") == ()
    assert registry.sent <= len(BLOB) + MIB


@pytest.mark.skipif(not TCP.exists(), reason="only Linux tells")
@pytest.mark.parametrize("most", [1, 2, 3])
def test_the_server_never_sees_more_connections_than_allowed(bench: Bench, most: int) -> None:
    registry = serve(bench, {"rate": (4 if most == 1 else 1) * MIB})
    with Watched(registry) as watched:
        bring(bench, registry, connections=most)
    assert watched.peak == most
    if most == 1:
        assert ranges(registry) == [""]


def test_connections_are_used_again(bench: Bench) -> None:
    registry = serve(bench, EACH)
    bring(bench, registry)
    # The first one is given up when others take over what it was to bring.
    assert registry.accepted <= 8 + 2
    assert len(ranges(registry)) > 2 * registry.accepted


def test_a_total_rate_is_reached_by_few_streams(bench: Bench) -> None:
    registry = serve(bench, {"total": 4 * MIB})
    _, seconds = bring(bench, registry, growth=replace(GROWTH, gain=1.5))
    assert seconds < 5  # it has to be more than one
    assert registry.peak <= 4
    assert registry.sent <= len(BLOB) + MIB


def test_a_registry_that_is_fast_enough_is_asked_once(bench: Bench) -> None:
    registry = serve(bench, {})
    bring(bench, registry, growth=Growth())
    assert ranges(registry) == [""]


# Servers that cannot, or will not.

LIES: list[dict[str, Any]] = [
    {"range": kind} for kind in ("ignore", "refuse", "start", "total", "none", "multipart")
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: str(lie["range"]))
def test_a_server_without_ranges_gives_one_stream(bench: Bench, lie: dict[str, Any]) -> None:
    registry = serve(bench, {**lie, "rate": 6 * MIB})
    bring(bench, registry)
    first, *others = ranges(registry)
    assert first == ""
    assert 1 <= len(others) <= 6  # on a busy machine several ask before the first is refused
    assert registry.sent <= len(BLOB) * 1.5


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: str(lie["range"]))
def test_the_rest_comes_from_a_server_without_ranges_too(bench: Bench, lie: dict[str, Any]) -> None:
    registry = serve(bench, lie)
    bring(bench, registry, Drain(len(BLOB), [(100, 5000), (3 * MIB, len(BLOB))]))


def test_a_lie_about_one_range_costs_the_ranges_only(bench: Bench) -> None:
    registry = serve(
        bench, {"nth": 4, "range": "other", "headers": {"Content-Range": "x"}}, {"rate": 4 * MIB}
    )
    bring(bench, registry)


REFUSALS: list[dict[str, Any]] = [
    {"status": 429, "headers": {"Retry-After": "30"}},
    {"status": 503, "headers": {"Retry-After": "30"}},
    {"status": 503},
    {"reset": 0},
    {"cut": 0},
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
@pytest.mark.parametrize("most", [1, 3])
def test_a_server_that_takes_few_connections_is_not_pressed(
    bench: Bench, most: int, refusal: dict[str, Any]
) -> None:
    registry = serve(bench, {"crowd": most, **refusal}, {"rate": 6 * MIB})
    _, seconds = bring(bench, registry)
    assert seconds < LONG
    assert not any(seconds >= 30 for seconds in bench.waits.slept)
    # A few for each part; the longer a busy machine takes, the more often more streams are tried.
    assert len(ranges(registry)) < 5 * len(BLOB) // PART


def test_the_only_stream_waits_as_long_as_the_server_says(bench: Bench) -> None:
    registry = serve(bench, {"status": 429, "headers": {"Retry-After": "7"}, "times": 2})
    bring(bench, registry)
    assert bench.waits.slept == [7, 7]


# Streams that break, or nearly.


@pytest.mark.parametrize(
    "fault", [{"rate": 2000}, {"stall": 1000, "hold": 60}, {"stall": 0, "hold": 60}], ids=str
)
def test_a_slow_part_is_replaced(bench: Bench, fault: dict[str, Any]) -> None:
    registry = serve(bench, {"nth": 4, **fault}, {"rate": MIB})
    _, seconds = bring(bench, registry, no_progress=1.5 * LONG)
    assert seconds < LONG
    assert registry.requests("GET", "/blobs/", status=206)


def test_fifty_cuts_cost_less_than_a_part_each(bench: Bench) -> None:
    dice = random.Random(21)
    rules = [{"times": 1, dice.choice(["cut", "reset"]): dice.randrange(PART)} for _ in range(50)]
    registry = serve(bench, *rules, {"rate": 16 * MIB})
    bring(bench, registry, progress=0)
    assert registry.sent - len(BLOB) < 50 * PART


class Expiring(Sink):
    """Each of its links is good once, and breaks."""

    def __init__(self, content: Content) -> None:
        super().__init__(content)
        self._known: set[str] = set()
        self._known_lock = threading.Lock()

    def answer(self, request: Request) -> Answer:
        answer = super().answer(request)
        with self._known_lock:
            is_new = request.path not in self._known
            self._known.add(request.path)
        if not is_new:
            return replace(answer, status=403, body=b"<Error>Request has expired</Error>")
        return replace(answer, pace=Pace(rate=4 * MIB, cut=PART // 2))


def test_every_link_expires_at_once(bench: Bench) -> None:
    """Each signed link serves one request, and that breaks: the registry is asked for another."""

    held = Content()
    sink = bench.start(Expiring(held))
    registry = serve(bench, {"redirect": f"{sink.url}/{{count}}/{{digest}}"}, content=held)
    bring(bench, registry, progress=PART // 4)
    assert sink.secrets == ()
    assert len(sink.log) >= 2 * len(BLOB) // PART


def test_a_token_that_expires_in_the_middle_is_renewed(bench: Bench) -> None:
    tokens = bench.tokens(lifetime=0.2)
    registry = serve(bench, {"authorized": True, "rate": 2 * MIB}, auth=Bearer(tokens))
    bring(bench, registry)
    assert len(tokens.log) >= 2
    assert registry.requests("GET", "/blobs/", status=401)


def test_a_registry_that_shuts_its_door_in_the_middle_says_why(bench: Bench) -> None:
    registry = serve(bench, {"times": 3, "rate": MIB}, {"status": 403})
    sink = Drain(len(BLOB))
    with pytest.raises(AuthenticationError, match="403"):
        bring(bench, registry, sink)
    left = sum(stop - start for start, stop in sink.missing())
    assert 0 < left < len(BLOB)


def test_a_blob_that_vanishes_is_not_there(bench: Bench) -> None:
    registry = serve(bench, {"times": 2, "rate": MIB}, {"status": 404})
    with pytest.raises(NotFoundError):
        bring(bench, registry)


def test_a_registry_that_breaks_for_ever_is_given_up(bench: Bench) -> None:
    registry = serve(bench, {"cut": 1000})
    with pytest.raises(RegistryError, match="again and again"):
        bring(bench, registry)
    assert LIMITS.attempts <= len(ranges(registry)) <= 8 * LIMITS.attempts


SIZES: list[dict[str, Any]] = [
    {"append": 1},
    {"append": 1, "framing": "close"},
    {"append": 1, "framing": "chunked"},
    {"append": 10**10},
    {"drop": 1},
    {"endless": True},
    {"length": 17},
]


@pytest.mark.parametrize("fault", SIZES, ids=str)
@pytest.mark.parametrize("most", [1, 8])
def test_another_size_is_an_error_and_no_byte_of_it_is_kept_beyond(
    bench: Bench, fault: dict[str, Any], most: int
) -> None:
    registry = serve(bench, {**fault, "range": "ignore"})
    sink = Drain(len(BLOB))
    with pytest.raises(DigestMismatchError, match="instead of"):
        bring(bench, registry, sink, connections=most)
    assert len(sink.content) == len(BLOB)
    assert registry.sent <= 3 * len(BLOB)


def test_a_server_that_does_not_stop_at_the_end_of_a_range_is_left(bench: Bench) -> None:
    registry = serve(bench, {"endless": True, "rate": 16 * MIB})
    sink, _ = bring(bench, registry)
    assert bytes(sink.content) == BLOB


# What the user wants.


class StopError(Exception):
    pass


@pytest.mark.parametrize("fault", [{"rate": 2**16}, {"stall": MIB, "hold": 60}], ids=str)
def test_a_stop_ends_all_streams_soon(bench: Bench, fault: dict[str, Any]) -> None:
    registry = serve(bench, fault)
    sink = Drain(len(BLOB))
    stop_at = time.monotonic() + 0.5

    def alive() -> None:
        if time.monotonic() > stop_at:
            raise StopError

    sink.alive = alive
    with pytest.raises(StopError):
        bring(bench, registry, sink, no_progress=60)
    while any(thread.name == "stream" for thread in threading.enumerate()):
        assert time.monotonic() - stop_at < LONG
        time.sleep(0.01)
    assert time.monotonic() - stop_at < LONG  # what stalls does so for longer


def test_a_rate_is_kept_by_all_streams_together(bench: Bench) -> None:
    registry = serve(bench, {"rate": 2 * MIB})
    sink = Drain(len(BLOB))
    rate = 3 * MIB
    _, seconds = bring(bench, registry, sink, sleep=time.sleep, rate=rate)
    assert rate / 3 < len(BLOB) / seconds < rate * 1.05
    bursts = [
        sum(count for moment, count in sink.log if 0 <= moment - first < 0.2)
        for first, _ in sink.log
    ]
    assert max(bursts) < 0.6 * rate  # a busy machine wakes several late, at once


def test_small_blobs_count_as_connections_too(bench: Bench) -> None:
    registry = serve(bench, {"delay": 0.02})
    blobs = [bytes([number]) * 1000 for number in range(30)]
    for blob in blobs:
        registry.add_blob(blob)
    limits = replace(LIMITS, connections=3)
    repository = bench.repository(registry, limits=limits, plain_http=True)
    got: list[bytes] = []

    def fetch(blob: bytes) -> None:
        with repository.fetch(Descriptor.of(blob, "a/b")) as stream:
            got.append(stream.read(2000))

    threads = [threading.Thread(target=fetch, args=(blob,)) for blob in blobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert sorted(got) == blobs
    assert registry.peak == registry.accepted == 3
