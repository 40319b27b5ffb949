"""The stream of a blob: whole in the end, or an error; never another part, never without end."""

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from registry import Content, Registry

from modelpm import content
from modelpm.errors import DigestMismatchError, NotFoundError, RegistryError
from modelpm.oci.descriptor import Descriptor
from modelpm.registry.repository import Repository
from modelpm.registry.stream import BlobStream
from tests.registry.conftest import NAME, QUICK, Bench

MIB = 2**20
BLOB = random.Random(7).randbytes(3 * MIB)
LAYER = Descriptor.of(BLOB, "application/octet-stream")
NEVER = 10**9


def serve(bench: Bench, *rules: dict[str, Any], **options: Any) -> Registry:
    registry = bench.registry([{"path": "/blobs/", **rule} for rule in rules], **options)
    registry.add_artifact(NAME, "latest", [("application/octet-stream", BLOB)])
    return registry


def pieces(repository: Repository, offset: int = 0, desc: Descriptor = LAYER) -> Iterator[bytes]:
    with repository.fetch(desc, offset) as stream:
        while piece := stream.read(MIB):
            assert len(piece) <= MIB
            yield piece


def pull(repository: Repository, offset: int = 0, desc: Descriptor = LAYER) -> bytes:
    return b"".join(pieces(repository, offset, desc))


def ranges(registry: Registry) -> list[str]:
    return [request.headers.get("range", "") for request in registry.requests("GET", "/blobs/")]


def test_a_blob_is_one_request(bench: Bench) -> None:
    registry = serve(bench)
    assert pull(bench.repository(registry)) == BLOB
    assert ranges(registry) == [""]


@pytest.mark.parametrize("offset", [0, 1, MIB, len(BLOB) - 1, len(BLOB)])
def test_a_blob_is_read_from_an_offset(bench: Bench, offset: int) -> None:
    registry = serve(bench)
    assert pull(bench.repository(registry), offset) == BLOB[offset:]
    assert len(ranges(registry)) == (offset < len(BLOB))


def test_an_empty_blob_needs_no_request(bench: Bench) -> None:
    registry = serve(bench)
    assert pull(bench.repository(registry), desc=Descriptor.of(b"", "a/b")) == b""
    assert not registry.log


CUTS = [0, 1, 8191, len(BLOB) // 2, len(BLOB) - 1]


@pytest.mark.parametrize("fault", ["cut", "reset", "stall"])
@pytest.mark.parametrize("at", CUTS)
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_broken_stream_goes_on_where_it_broke(
    bench: Bench, fault: str, at: int, framing: str
) -> None:
    registry = serve(bench, {"times": 1, "framing": framing, fault: at, "hold": 5})
    repository = bench.repository(registry, limits=replace(QUICK, no_progress=0.2))
    assert pull(repository) == BLOB
    first, second = ranges(registry)
    assert first == ""
    # A reset may take away what the client's kernel still held.
    begin = int(second.removeprefix("bytes=").removesuffix("-") or 0)
    assert begin <= at if fault == "reset" else begin == at
    assert len(bench.waits.told) == 1


def test_a_stream_that_always_breaks_is_given_up_with_what_came(bench: Bench) -> None:
    registry = serve(bench, {"cut": 1000})
    repository = bench.repository(registry)
    came = bytearray()
    with pytest.raises(RegistryError, match="again and again; 6000 of 3145728 bytes") as caught:
        came += b"".join(piece for piece in collect(repository, came))
    assert caught.value.__context__ is None
    assert bytes(came) == BLOB[:6000]
    assert len(ranges(registry)) == QUICK.attempts


def collect(repository: Repository, came: bytearray) -> Iterator[bytes]:
    for piece in pieces(repository):
        came += piece
        yield b""


def test_progress_gives_a_download_its_attempts_back(bench: Bench) -> None:
    limits = replace(QUICK, attempts=2, progress=100_000)
    registry = serve(bench, {"cut": 100_000})
    assert pull(bench.repository(registry, limits=limits)) == BLOB
    registry.scenario = [{"path": "/blobs/", "cut": 99_999}]
    with pytest.raises(RegistryError):
        pull(bench.repository(registry, limits=limits))


def test_two_hundred_resets_lose_nothing(bench: Bench) -> None:
    dice = random.Random(11)
    rules = [{"times": 1, "reset": dice.randrange(64 * 1024)} for _ in range(200)]
    registry = serve(bench, *rules)
    limits = replace(QUICK, progress=0)
    assert pull(bench.repository(registry, limits=limits)) == BLOB
    starts = [int(told[6:-1] or 0) for told in ranges(registry)]
    assert starts == sorted(starts)


@pytest.mark.parametrize(
    "fault", [{"stall": 0, "hold": 3}, {"rate": 400}, {"stall": 500, "hold": 3}]
)
def test_a_stream_that_does_not_move_is_left(bench: Bench, fault: dict[str, Any]) -> None:
    registry = serve(bench, fault)
    limits = replace(
        QUICK, attempts=2, no_progress=0.2, slow_rate=4000, slow_window=0.3, progress=NEVER
    )
    started = time.monotonic()
    with pytest.raises(RegistryError, match="again and again"):
        pull(bench.repository(registry, limits=limits))
    assert time.monotonic() - started < 5


def test_a_slow_reader_is_not_a_slow_stream(bench: Bench) -> None:
    registry = serve(bench)
    limits = replace(QUICK, slow_rate=10 * MIB, slow_window=0.2)
    with bench.repository(registry, limits=limits).fetch(LAYER) as stream:
        got = b""
        for _ in range(3):
            got += stream.read(MIB)
            time.sleep(0.1)
        while piece := stream.read(MIB):
            got += piece
    assert got == BLOB
    assert len(ranges(registry)) == 1


LIES: list[dict[str, Any]] = [
    {"range": "start"},
    {"range": "total"},
    {"range": "none"},
    {"range": "multipart"},
    {"range": "refuse"},
    {"range": "ignore"},
    {"header": {"range": "."}, "headers": {"Content-Range": "bytes 0-1/2, bytes 5-6/7"}},
    {"header": {"range": "."}, "headers": {"Content-Range": "items 1-2/3"}},
    {"header": {"range": "."}, "headers": {"Content-Range": f"bytes 5000-{len(BLOB)}/{len(BLOB)}"}},
    {"header": {"range": "."}, "headers": {"Content-Range": f"bytes 5000-4000/{len(BLOB)}"}},
    {"header": {"range": "."}, "headers": {"Content-Range": "bytes " + "9" * 5000 + "-1/2"}},
    {"header": {"range": "."}, "headers": {"Content-Range": f"bytes 5000-6000/{len(BLOB)}"}},
    {"header": {"range": "."}, "length": 17},
]


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_about_ranges_is_read_from_the_start(
    bench: Bench, lie: dict[str, Any]
) -> None:
    registry = serve(bench, lie)
    assert pull(bench.repository(registry), 5000) == BLOB[5000:]
    assert ranges(registry)[0] == "bytes=5000-"
    if lie != {"range": "ignore"}:
        assert ranges(registry)[1:] == [""]


def test_a_server_without_ranges_may_break_too(bench: Bench) -> None:
    registry = serve(bench, {"range": "ignore", "cut": 2 * MIB, "times": 2}, {"range": "ignore"})
    assert pull(bench.repository(registry), 5000) == BLOB[5000:]


def test_a_shorter_range_than_asked_for_is_gone_on_from(bench: Bench) -> None:
    headers = {"Content-Range": f"bytes 5000-6999/{len(BLOB)}"}
    rule = {"header": {"range": "bytes=5000-"}, "status": 206, "times": 1, "headers": headers}
    registry = serve(bench, {**rule, "drop": len(BLOB) - 7000})
    assert pull(bench.repository(registry), 5000) == BLOB[5000:]


def test_an_unasked_part_is_refused(bench: Bench) -> None:
    headers = {"Content-Range": f"bytes 1-{len(BLOB) - 1}/{len(BLOB)}"}
    registry = serve(bench, {"status": 206, "headers": headers})
    with pytest.raises(RegistryError, match="another part"):
        pull(bench.repository(registry))


SIZES: list[dict[str, Any]] = [
    {"append": 1},
    {"append": 10**10},
    {"drop": 1},
    {"drop": len(BLOB)},
    {"length": 10**12},
    {"length": 5},
]


@pytest.mark.parametrize("fault", SIZES)
def test_another_size_is_told_before_a_byte_moves(bench: Bench, fault: dict[str, Any]) -> None:
    registry = serve(bench, fault)
    with pytest.raises(DigestMismatchError, match="instead of 3145728"):
        pull(bench.repository(registry))
    assert len(ranges(registry)) == 1


TOO_LONG: list[dict[str, Any]] = [
    {"framing": "close", "append": 1},
    {"framing": "chunked", "append": 1},
    {"framing": "close", "append": 10**10},
    {"endless": True},
    {"endless": True, "framing": "chunked"},
]


@pytest.mark.parametrize("fault", TOO_LONG)
@pytest.mark.parametrize("offset", [0, 1000, len(BLOB) - 1])
def test_of_too_much_one_byte_is_given(bench: Bench, fault: dict[str, Any], offset: int) -> None:
    registry = serve(bench, fault)
    repository = bench.repository(registry)
    got = pull(repository, offset)
    assert got[:-1] == BLOB[offset:]
    assert len(got) == len(BLOB) - offset + 1
    with pytest.raises(DigestMismatchError):
        content.read(repository, LAYER, len(BLOB))


def test_too_little_without_a_length_is_asked_for_again(bench: Bench) -> None:
    registry = serve(bench, {"framing": "close", "drop": 100, "times": 1})
    assert pull(bench.repository(registry)) == BLOB
    assert ranges(registry)[1] == f"bytes={len(BLOB) - 100}-"


def test_wrong_bytes_are_handed_over_for_the_reader_to_find(bench: Bench) -> None:
    registry = serve(bench, {"flip": 5})
    with pytest.raises(DigestMismatchError, match="the bytes have the digest"):
        content.read(bench.repository(registry), LAYER, len(BLOB))


def test_a_blob_that_is_not_there_is_named(bench: Bench) -> None:
    registry = serve(bench)
    with pytest.raises(NotFoundError, match=f"{NAME}, blob [0-9a-f]{{12}}: 404 BLOB_UNKNOWN"):
        pull(bench.repository(registry), desc=Descriptor.of(b"absent", "a/b"))


def test_a_link_that_expires_is_asked_for_again(bench: Bench) -> None:
    held = Content()
    sink = bench.sink(held)
    registry = serve(bench, {"redirect": f"{sink.url}/{{count}}/{{digest}}"}, content=held)
    sink.scenario = [
        {"path": "^/1/", "cut": MIB},
        {"path": "^/2/", "status": 403, "body": "<Error>Request has expired</Error>"},
    ]
    assert pull(bench.repository(registry)) == BLOB
    assert [request.path[:3] for request in sink.log] == ["/1/", "/2/", "/3/"]
    assert sink.log[-1].headers["range"] == f"bytes={MIB}-"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_link_that_is_never_good_is_given_up_soon(bench: Bench, status: int) -> None:
    sink = bench.sink(scenario=[{"status": status}])
    registry = serve(bench, {"redirect": f"{sink.url}/x"})
    with pytest.raises(RegistryError, match="the link to the content has expired"):
        pull(bench.repository(registry))
    assert len(sink.log) == 3


def test_a_busy_server_after_a_break_is_waited_for(bench: Bench) -> None:
    registry = serve(bench, {"cut": MIB, "times": 1}, {"status": 503, "times": 1})
    assert pull(bench.repository(registry)) == BLOB


def part(bench: Bench, registry: Registry, start: int, stop: int, **options: Any) -> BlobStream:
    url = f"{registry.url}/v2/{NAME}/blobs/{LAYER.digest}"
    return BlobStream(bench.client(registry.host, **options), url, LAYER, start, stop)


SPANS = [(0, len(BLOB)), (0, 1), (5, 5), (MIB, 2 * MIB), (len(BLOB) - 1, len(BLOB))]


@pytest.mark.parametrize(("start", "stop"), SPANS)
def test_a_range_is_read(bench: Bench, start: int, stop: int) -> None:
    registry = serve(bench)
    with part(bench, registry, start, stop) as stream:
        got = b"".join(iter(lambda: stream.read(MIB), b""))
    assert got == BLOB[start:stop]


def test_a_broken_range_goes_on(bench: Bench) -> None:
    registry = serve(bench, {"cut": 1000, "times": 1})
    with part(bench, registry, 5000, 9000) as stream:
        assert b"".join(iter(lambda: stream.read(MIB), b"")) == BLOB[5000:9000]
    assert ranges(registry) == ["bytes=5000-8999", "bytes=6000-8999"]


@pytest.mark.parametrize("kind", ["ignore", "refuse", "total", "start", "none", "multipart"])
@pytest.mark.parametrize("start", [0, 5000])
def test_a_range_of_a_server_without_ranges_is_an_error(
    bench: Bench, kind: str, start: int
) -> None:
    registry = serve(bench, {"range": kind})
    with (
        part(bench, registry, start, 9000) as stream,
        pytest.raises(RegistryError, match="another part"),
    ):
        stream.read(1)


def test_a_stream_is_a_raw_stream(bench: Bench) -> None:
    registry = serve(bench)
    with bench.repository(registry).fetch(LAYER) as stream:
        assert stream.readable()
        assert stream.read(0) == b""
        assert stream.read() == BLOB
        assert stream.read(1) == b""


def test_a_stream_may_be_closed_early_or_unread(bench: Bench) -> None:
    registry = serve(bench)
    repository = bench.repository(registry)
    with repository.fetch(LAYER) as stream:
        assert stream.read(1) == BLOB[:1]
    with repository.fetch(LAYER):
        pass
    assert pull(repository) == BLOB
    assert len(ranges(registry)) == 2
