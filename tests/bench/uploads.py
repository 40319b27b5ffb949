"""What a push takes beside the peers, and what it sends again when it is broken off."""

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import loopback
from artifact import digest_of
from docker_registry import DockerRegistry
from networks import BadNetwork
from registry import Registry
from uploads import Uploads

from tests.bench.artifacts import put_big
from tests.bench.interruptions import AGAIN, end_after
from tests.bench.measure import (
    MODELPM,
    SUBJECT,
    Command,
    Figure,
    Place,
    Row,
    Run,
    compare,
    memory,
    of_runs,
    rounds,
    run,
)
from tests.bench.peers import Remote, calm, installed, modelpm

CUTS_PER_BYTE = 20 / 2**28

_CURL = """
set -eu
head=$(curl -sf -X POST -D - -o /dev/null "$1/blobs/uploads/" | tr -d '\\r')
there=$(echo "$head" | sed -n 's/^[Ll]ocation: //p')
case $there in *\\?*) there="$there&" ;; *) there="$there?" ;; esac
exec curl -sf -T "$3" "${there}digest=$2"
"""
"""`sh -c _CURL curl REPOSITORY_URL DIGEST FILE`: one blob by one PUT, and nothing else."""


def push(place: Place) -> Iterator[Row]:
    """One big layer to docker-registry, in which it is not yet, from a store."""
    case = f"push {place.mib}"
    with DockerRegistry(place.folder / "registry") as server:
        model = _Model.pulled(place, server)
        here, missing = installed(case, model.commands(server.host))
        data = place.folder / "registry" / "data"
        subjects = {name: _emptied(data, command) for name, command in here.items()}
        measured = rounds(case, subjects, place.rounds)
    yield from compare(measured, {"curl -T": 1.1, "skopeo": 1, "oras": 1})
    yield from missing


def push_again(place: Place) -> Iterator[Row]:
    """The same where all is there."""
    case = "push again"
    with DockerRegistry(place.folder / "registry") as server:
        model = _Model.pulled(place, server)
        command = model.push(server.host)
        run(command)
        runs = [run(command) for _ in range(place.rounds)]
    yield of_runs(case, SUBJECT, runs, limit=0.35)


def cuts(place: Place) -> Iterator[Row]:
    """One big layer over a network that breaks 20 times in 256 MiB; then, instead, a kill -9.

    The registry is one that keeps what came of a request and tells how much it is: what must be
    sent again is shared out among the cuts of a round. docker-registry keeps nothing that could
    be gone on with, so for it only the time is told.
    """
    count = max(2, round(place.size * CUTS_PER_BYTE))
    case = f"{count} push cuts {place.mib}"
    loopback.MAX_REQUEST_BODY = max(loopback.MAX_REQUEST_BODY, place.size)
    data = place.folder / "registry" / "data"
    with DockerRegistry(place.folder / "registry") as server:
        model = _Model.pulled(place, server)
        with BadNetwork(server.host) as network:
            runs = []
            for dice in map(random.Random, range(place.rounds)):
                shutil.rmtree(data, ignore_errors=True)
                network.begin(dice.sample(range(place.size), count), upward=True)
                runs.append(run(model.push(network.host)))
        yield of_runs(case, f"{SUBJECT}, docker-registry", runs)
    yield from _resumed(case, model, place, count)


def _resumed(case: str, model: "_Model", place: Place, count: int) -> Iterator[Row]:
    again: list[float] = []
    killed: list[float] = []
    runs: list[Run] = []
    for dice in map(random.Random, range(place.rounds)):
        for is_cut in (True, False):
            uploads = Uploads(location="/v2/{repository}/blobs/uploads/{id}")
            with Registry(uploads=uploads) as server, BadNetwork(server.host) as network:
                command = model.push(network.host)
                if is_cut:
                    network.begin(dice.sample(range(place.size), count), upward=True)
                else:
                    network.begin()
                    end_after(command, network, dice.randrange(place.size), upward=True)
                runs.append(run(command))
                traffic = network.traffic
            wasted = float(traffic.received - place.size)
            if is_cut:
                again.append(wasted / max(1, traffic.cuts))
            else:
                killed.append(wasted)
    yield of_runs(case, SUBJECT, runs)
    yield Figure(case, "again a cut", "B", tuple(again), AGAIN, is_worst=True)
    yield Figure(case, "again a kill", "B", tuple(killed), AGAIN, is_worst=True)
    yield memory(case, "memory", runs)


class _Model:
    """A model in a store, and what brings it to a registry."""

    def __init__(self, home: Path, remote: Remote) -> None:
        self._home = home
        self._remote = remote

    @classmethod
    def pulled(cls, place: Place, server: DockerRegistry) -> "_Model":
        """One layer of the place's size."""
        remote = put_big(server, place.size)
        out = place.folder / "out"
        run(modelpm(remote, out))
        return cls(out / "store", remote)

    def push(self, host: str) -> Command:
        return [MODELPM, "--home", self._home, "push", self._remote.name, f"{host}/bench/pushed"]

    def commands(self, host: str) -> dict[str, Command]:
        """The programs that can, each from the store's folder, which is a layout."""
        (digest,) = self._remote.layers
        url = f"http://{host}/v2/bench/pushed"
        file = self._home / "blobs" / "sha256" / digest.removeprefix("sha256:")
        layout = f"{self._home}:{self._remote.name}:latest"
        target = f"{host}/bench/pushed:latest"
        return {
            SUBJECT: self.push(host),
            "curl -T": ["sh", "-c", _CURL, "curl", url, digest, file],
            "skopeo": [
                *("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"),
                *(f"oci:{layout}", f"docker://{target}"),
            ],
            "oras": [
                *("oras", "cp", "--from-oci-layout", "--to-plain-http", "--no-tty"),
                *(f"{self._home}@{self._digest()}", target),
            ],
        }

    def _digest(self) -> str:
        words = [MODELPM, "--home", self._home, "show", self._remote.name, "--manifest"]
        raw = subprocess.run([str(word) for word in words], capture_output=True, check=True).stdout
        return digest_of(raw)


def _emptied(data: Path, command: Command) -> Callable[[], Run]:
    """Run the command with nothing in the registry; the emptying is not measured."""

    def once() -> Run:
        shutil.rmtree(data, ignore_errors=True)
        calm()
        return run(command)

    return once
