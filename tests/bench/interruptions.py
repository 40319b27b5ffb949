"""What is fetched again when the network cuts a pull, or when a kill -9 ends it.

The bytes are counted where they leave for the client, heads and all: what lay in a socket when the
end came was paid for.
"""

import contextlib
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace

from docker_registry import DockerRegistry
from networks import BadNetwork

from tests.bench.artifacts import put_big
from tests.bench.measure import (
    RUN_SECONDS,
    SUBJECT,
    Command,
    Figure,
    Place,
    Row,
    Run,
    RunError,
    memory,
    of_runs,
    run,
)
from tests.bench.peers import Remote, modelpm

CUTS_PER_BYTE = 50 / 2**30
AGAIN = 8 * 2**20
LATENCY = 0.01
SEED = 20

_LOOK_SECONDS = 0.002
_SETTLING_SECONDS = 0.3


def cuts(place: Place) -> Iterator[Row]:
    """One big layer over a network that is late and breaks, 50 times in a GiB.

    Once only the connection breaks that is busy, once all that are open. What is fetched again is
    shared out among the cuts of a round.
    """
    count = max(2, round(place.size * CUTS_PER_BYTE))
    case, out = f"{count} cuts {place.mib}", place.folder / "out"
    dice = random.Random(SEED)
    with _through_bad_network(place) as (remote, network):
        command = modelpm(remote, out)
        for breaks_all in (False, True):
            again: list[float] = []
            runs: list[Run] = []
            for _ in range(place.rounds):
                shutil.rmtree(out, ignore_errors=True)
                network.begin(dice.sample(range(place.size), count), breaks_all=breaks_all)
                runs.append(run(command))
                traffic = network.traffic
                again.append((traffic.sent - place.size) / max(1, traffic.cuts))
            what = "all break" if breaks_all else "one breaks"
            yield of_runs(case, f"{SUBJECT}, {what}", runs)
            yield Figure(case, f"again a cut, {what}", "B", tuple(again), AGAIN, is_worst=True)
            yield memory(case, f"memory, {what}", runs)


def kills(place: Place) -> Iterator[Row]:
    """One big layer, ended by kill -9 at a random moment and pulled again: a kill a round."""
    case, out = f"kills {place.mib}", place.folder / "out"
    dice = random.Random(SEED)
    again = []
    with _through_bad_network(place) as (remote, network):
        command = modelpm(remote, out)
        for _ in range(place.rounds):
            shutil.rmtree(out, ignore_errors=True)
            network.begin()
            end_after(command, network, dice.randrange(place.size))
            run(command)
            again.append(float(network.traffic.sent - place.size))
    yield Figure(case, "again a kill", "B", tuple(again), AGAIN, is_worst=True)


@contextlib.contextmanager
def _through_bad_network(place: Place) -> Iterator[tuple[Remote, BadNetwork]]:
    """One layer of the place's size, to be had over a bad network."""
    with (
        DockerRegistry(place.folder / "registry") as server,
        BadNetwork(server.host, latency=LATENCY) as network,
    ):
        yield replace(put_big(server, place.size), host=network.host), network


def end_after(command: Command, network: BadNetwork, size: int, *, upward: bool = False) -> None:
    """Start the command and kill it once so many bytes have been sent, or received from it."""

    def is_time() -> bool:
        traffic = network.traffic
        return (traffic.received if upward else traffic.sent) >= size

    words = [str(word) for word in command]
    deadline = time.monotonic() + RUN_SECONDS
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while process.poll() is None and not is_time():
                if time.monotonic() > deadline:
                    raise RunError(f"{words[0]} took longer than {RUN_SECONDS} s")
                time.sleep(_LOOK_SECONDS)
        finally:
            process.kill()
    # What the proxy still had in hand is counted when it finds the client gone.
    time.sleep(_SETTLING_SECONDS)
