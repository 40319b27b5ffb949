"""What a pull takes beside the peers: from a near registry, over a wide network, of many layers."""

from collections.abc import Iterator
from dataclasses import replace

from docker_registry import DockerRegistry, unavailable
from networks import WideNetwork

from tests.bench.artifacts import put_big, put_many
from tests.bench.measure import SUBJECT, Missing, Place, Row, compare, rounds
from tests.bench.peers import (
    all_fresh,
    curl_parallel,
    installed,
    modelpm,
    one_stream,
    ranges,
    takes_connections,
    whole_artifact,
)

CONNECTION_RATE = 40_000_000
"""Bytes a second that the wide network gives a connection."""

SMALL_LAYER = 64 * 2**10
MANY_LAYERS = 200


def pull(place: Place) -> Iterator[Row]:
    """One big layer from docker-registry, verified and durable."""
    case, out = f"pull {place.mib}", place.folder / "out"
    with DockerRegistry(place.folder / "registry") as server:
        remote = put_big(server, place.size)
        wanted = {**whole_artifact(remote, out), **one_stream(remote, out)}
        here, missing = installed(case, wanted)
        measured = rounds(case, all_fresh(out, here), place.rounds)
    limits = {"curl; sync": 1.15, "curl": 1.4, "oras-py": 1 / 2, "skopeo": 1 / 4}
    yield from compare(measured, limits)
    yield from missing


def connections(place: Place) -> Iterator[Row]:
    """The same with one stream: the choice of how many there are must not cost anything."""
    case, out = f"one stream {place.mib}", place.folder / "out"
    one = "--connections 1"
    if not takes_connections():
        yield Missing(case, one, "this modelpm has no pull --connections")
        return
    with DockerRegistry(place.folder / "registry") as server:
        remote = put_big(server, place.size)
        commands = {SUBJECT: modelpm(remote, out), one: modelpm(remote, out, *one.split())}
        measured = rounds(case, all_fresh(out, commands), place.rounds)
    yield from compare(measured, {one: 1.05})


def wide(place: Place) -> Iterator[Row]:
    """One big layer where a connection gets 40 MB/s, however many there are."""
    case, out = f"wide {place.mib}", place.folder / "out"
    if (reason := unavailable("nginx")) is not None:
        yield Missing(case, "all", reason)
        return
    near, folder = place.folder / "registry", place.folder / "network"
    with (
        DockerRegistry(near) as server,
        WideNetwork(folder, server.host, near / "data", rate=CONNECTION_RATE) as network,
    ):
        remote = replace(put_big(server, place.size), host=network.host)
        wanted = {
            **whole_artifact(remote, out),
            "curl": one_stream(remote, out)["curl"],
            "curl, 8 ranges": ranges(remote, out),
        }
        # It has one stream too, and a round takes half a minute for each that has.
        del wanted["oras-py"]
        here, missing = installed(case, wanted)
        measured = rounds(case, all_fresh(out, here), place.rounds)
    yield from compare(measured, {"curl": 1 / 6})
    yield from missing


def many(place: Place) -> Iterator[Row]:
    """Many small layers from docker-registry, as many as make up the size but at most 200."""
    count = max(1, min(MANY_LAYERS, place.size // SMALL_LAYER))
    case, out = f"{count} layers", place.folder / "out"
    with DockerRegistry(place.folder / "registry") as server:
        remote = put_many(server, count, SMALL_LAYER)
        parallel = curl_parallel(remote, out, place.folder / "curl.config")
        here, missing = installed(
            case, {**whole_artifact(remote, out), "curl --parallel": parallel}
        )
        measured = rounds(case, all_fresh(out, here), place.rounds)
    yield from compare(measured, {"curl --parallel": 4, "skopeo": 1, "oras": 1, "oras-py": 1})
    yield from missing
