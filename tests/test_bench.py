"""The machinery of the figures, at sizes at which the figures mean nothing."""

import contextlib
import http.client
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from docker_registry import DockerRegistry
from networks import BadNetwork, WideNetwork
from registry import Registry

from modelpm.runner.ctransformers import unavailable
from tests.bench.__main__ import CASES, main
from tests.bench.artifacts import put_big, put_many
from tests.bench.measure import Figure, Missing, Rounds, Run, RunError, compare, rounds, run
from tests.bench.peers import curl_parallel, one_stream, ranges
from tests.conftest import require

MIB = 2**20


def get(host: str, path: str, **headers: str) -> bytes:
    """The body that one request brings, on a connection of its own."""
    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        assert response.status in (200, 206)
        return response.read()
    finally:
        connection.close()


# Figures


def test_a_run_is_measured_without_the_memory_of_who_started_it() -> None:
    ballast = bytearray(b"x" * (100 * MIB))
    result = run([sys.executable, "-c", "import time; time.sleep(0.1)"])
    assert len(ballast) > result.memory > MIB
    assert 0.1 < result.seconds < 20


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([sys.executable, "-c", "raise SystemExit('not today')"], "ended with 1: not today"),
        (["/no/such/program"], "cannot be run"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "took longer than 0.5 s"),
    ],
)
def test_a_run_that_goes_wrong_says_so(command: list[str], words: str) -> None:
    with pytest.raises(RunError, match=words):
        run(command, timeout=0.5 if "longer" in words else 20)


def test_the_rounds_begin_with_another_subject_each_time() -> None:
    order: list[str] = []

    def subject(name: str) -> Callable[[], Run]:
        def once() -> Run:
            order.append(name)
            return Run(len(order), 0)

        return once

    measured = rounds("case", {"modelpm": subject("a"), "peer": subject("b")}, 2)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [run.seconds for run in measured.runs["modelpm"]] == [4, 5]


def test_a_peer_that_fails_is_left_out_and_modelpm_is_not() -> None:
    def fails() -> Run:
        raise RunError("no")

    measured = rounds("case", {"modelpm": lambda: Run(1, 0), "peer": fails}, 1)
    assert (list(measured.runs), measured.failures) == (
        ["modelpm"],
        [Missing("case", "peer", "no")],
    )
    with pytest.raises(RunError):
        rounds("case", {"modelpm": fails}, 1)


def test_ratios_are_taken_round_by_round() -> None:
    def runs(*seconds: float) -> list[Run]:
        return [Run(each, int(each)) for each in seconds]

    measured = Rounds("case", {"modelpm": runs(1, 20, 3), "curl": runs(1, 10, 1)}, [])
    rows = {row.subject: row for row in compare(measured, {"curl": 1.5}) if isinstance(row, Figure)}
    assert rows["modelpm"].ratios == {"curl": 2}
    assert list(rows["modelpm / curl"].samples) == [1, 2, 3]
    assert not rows["modelpm / curl"].is_met
    assert rows["modelpm memory"].value == 20


# Networks


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_bad_network_cuts_where_it_was_told_and_counts() -> None:
    with Registry() as registry, BadNetwork(registry.host) as network:
        path = f"/v2/t/blobs/{registry.content.add_blob(bytes(4 * MIB))}"
        registry.content.tags["t"] = {}
        assert len(get(network.host, path)) == 4 * MIB
        wait_for(lambda: network.traffic.sent > 4 * MIB)  # it counts after it has sent
        assert network.traffic.sent < 4 * MIB + 1000
        network.begin([MIB, 3 * MIB])
        for at in (MIB, 2 * MIB):
            with pytest.raises((http.client.IncompleteRead, ConnectionError)) as caught:
                get(network.host, path)
            partial = getattr(caught.value, "partial", b"")
            assert len(partial) < at + 2 * 256 * 2**10
        assert len(get(network.host, path, Range="bytes=0-9")) == 10
        traffic = network.traffic
        assert (traffic.cuts, traffic.connections) == (2, 3)
        assert 3 * MIB < traffic.sent < 4 * MIB


def test_a_bad_network_cuts_what_goes_up_and_counts() -> None:
    with Registry() as registry, BadNetwork(registry.host) as network:
        network.begin([MIB], upward=True)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(network.host, timeout=20)
            connection.request("PUT", "/v2/t/blobs/uploads/x", bytes(4 * MIB))
            connection.getresponse()
        connection.close()
        wait_for(lambda: network.traffic.cuts == 1)
        assert MIB <= network.traffic.received <= 4 * MIB


def test_a_cut_can_reach_every_connection() -> None:
    with Registry() as registry, BadNetwork(registry.host) as network:
        path = f"/v2/t/blobs/{registry.content.add_blob(bytes(2 * MIB))}"
        registry.content.tags["t"] = {}
        idle = http.client.HTTPConnection(network.host, timeout=20)
        idle.request("GET", path, headers={"Range": "bytes=0-0"})
        assert idle.getresponse().read() == b"\0"
        network.begin([MIB], breaks_all=True)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            get(network.host, path)
        assert idle.sock.recv(1) == b""
        idle.close()


def test_a_bad_network_is_late() -> None:
    with Registry() as registry, BadNetwork(registry.host, latency=0.1) as network:
        begin = time.monotonic()
        assert get(network.host, "/v2/") == b"{}"
        assert time.monotonic() - begin > 0.2


def test_a_bad_network_that_has_ended_says_so() -> None:
    with pytest.raises(RuntimeError, match="has not been started"):
        BadNetwork("127.0.0.1:1").begin()
    with pytest.raises(RuntimeError, match="has ended"), BadNetwork("no address") as network:
        network.begin()


def test_a_wide_network_is_slow_a_connection(tmp_path: Path) -> None:
    require("docker-registry")
    require("nginx")
    near = tmp_path / "near"
    with (
        DockerRegistry(near) as registry,
        WideNetwork(tmp_path / "wide", registry.host, near / "data", rate=4 * MIB) as network,
    ):
        remote = put_big(registry, 4 * MIB)
        path = f"/v2/bench/big/blobs/{remote.layers[0]}"
        spans = [f"bytes={start}-{start + MIB - 1}" for start in range(0, 4 * MIB, MIB)]
        begin = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(lambda span: get(network.host, path, Range=span), spans))
        together = time.monotonic() - begin
        whole = get(network.host, path)
        alone = time.monotonic() - begin - together
        assert whole == b"".join(parts)
        assert alone > max(0.7, together)
        accept = "application/vnd.oci.image.manifest.v1+json"
        manifest = json.loads(get(network.host, "/v2/bench/big/manifests/latest", Accept=accept))
        assert manifest["layers"][0]["size"] == 4 * MIB


# Subjects


def test_curl_brings_what_there_is(tmp_path: Path) -> None:
    require("docker-registry")
    require("curl")
    with DockerRegistry(tmp_path / "registry") as server:
        big, many = put_big(server, MIB + 3), put_many(server, 3, 1000)
        run(one_stream(big, tmp_path)["curl; sync"])
        run(ranges(big, tmp_path))
        run(curl_parallel(many, tmp_path, tmp_path / "config"))
    whole = (tmp_path / "blob").read_bytes()
    assert len(whole) == MIB + 3
    assert whole == b"".join((tmp_path / f"part{number}").read_bytes() for number in range(8))
    assert [(tmp_path / str(number)).stat().st_size for number in range(3)] == [1000] * 3


# Cases


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_case_gives_figures(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if CASES[case].mib:
        require("docker-registry")
    if case == "first-token" and (reasons := unavailable()):
        pytest.skip(reasons[0])
    status = main(["--size", "1", "--rounds", "1", "--json", str(tmp_path / "out"), case])
    document = json.loads((tmp_path / "out").read_text())
    figures, missing = document["figures"], document["missing"]
    assert {"python", "cores", "peers"} < set(document["facts"])
    assert figures or missing
    assert [row for row in missing if row["failure"]] == []
    assert status == (0 if all(figure["met"] for figure in figures) else 1)
    printed = capsys.readouterr().out
    assert all(row["subject"] in printed for row in figures + missing)
