"""What is measured, with which limits: one function a row of the table."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import registry
from artifact import described, image
from docker_registry import DockerRegistry, put
from ollama_artifacts import llama2

from tests.bench import stores
from tests.bench.measure import Command, Figure, Run, compare, first_byte, rounds, run

MODELPM = Path(sys.executable).with_name("modelpm")
FIXTURES = Path(__file__).parents[2] / "registry-fixtures"
MEMORY_LIMIT = 100e6

_GATE = """
import resource, sys, time
from pathlib import Path
from modelpm.model.gguf import Header
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin = time.perf_counter()
Header.read(Path(sys.argv[1]))
seconds = time.perf_counter() - begin
print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""

_ORAS_PY = """
import sys
import oras.client
host, repository, folder = sys.argv[1:]
client = oras.client.OrasClient(hostname=host, insecure=True)
client.pull(target=f"{host}/{repository}:latest", outdir=folder)
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a case may work, and how hard: the size of a big blob in bytes, the rounds."""

    folder: Path
    size: int
    rounds: int


def version(place: Place) -> Iterator[Figure]:
    """`--version`, the whole process, beside the interpreter alone."""
    runs = rounds(
        {
            "modelpm": lambda: run([MODELPM, "--version"]),
            "python -c pass": lambda: run([sys.executable, "-c", "pass"]),
        },
        place.rounds * 2,
    )
    yield from _seconds("--version", runs, limit=0.080)


def list_models(place: Place) -> Iterator[Figure]:
    """`list` with 1,000 models."""
    stores.fill(place.folder / "store", models=1000, blobs=5000, named=True)
    command: Command = [MODELPM, "--home", place.folder / "store", "list"]
    runs = rounds({"modelpm": lambda: run(command)}, place.rounds * 2)
    yield from _seconds("list 1,000", runs, limit=0.150)


def prune(place: Place) -> Iterator[Figure]:
    """`prune` of 10,000 blobs that 1,000 models have left."""
    full, store = place.folder / "full", place.folder / "store"
    stores.fill(full, models=1000, blobs=10_000, named=False)

    def once() -> Run:
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(full, store)
        return run([MODELPM, "--home", store, "--quiet", "prune"])

    yield from _seconds("prune 10,000", rounds({"modelpm": once}, place.rounds), limit=1.5)


def gate(place: Place) -> Iterator[Figure]:
    """The GGUF gate on a vocabulary of 150,000 tokens."""
    path = place.folder / "wide.gguf"
    stores.write_wide_gguf(path)
    results = []
    for _ in range(place.rounds * 2):
        words = subprocess.check_output([sys.executable, "-c", _GATE, path], text=True).split()
        results.append((float(words[0]), float(words[1])))
    yield Figure("gate 150k", "modelpm", "s", tuple(s for s, _ in results), 0.060)
    yield Figure("gate 150k", "modelpm memory", "B", tuple(m for _, m in results), 64e6)


def first_token(place: Place) -> Iterator[Figure]:
    """`run llama2`: from the start of the process to the first byte of the answer."""
    with _llama2_registry() as server:
        home = {"MODELPM_HOME": str(place.folder / "store")}
        name = f"{server.host}/library/llama2"
        run([MODELPM, "pull", name], home)
    command: Command = [MODELPM, "run", name, "how do I free disk space?"]
    samples = [first_byte(command, home) for _ in range(place.rounds * 2 + 1)]
    yield Figure("first token", "modelpm", "s", tuple(samples[1:]), 0.6)


def pull_again(place: Place) -> Iterator[Figure]:
    """`pull` of what is there already: seconds and requests."""
    with _llama2_registry() as server:
        command: Command = [MODELPM, "pull", "--quiet", f"{server.host}/library/llama2"]
        home = {"MODELPM_HOME": str(place.folder / "store")}
        run(command, home)
        before = len(server.log)
        runs = rounds({"modelpm": lambda: run(command, home)}, place.rounds * 2)
        requests = (len(server.log) - before) / (place.rounds * 2 + 1)
    yield from _seconds("pull again", runs, limit=0.35)
    yield Figure("pull again", "modelpm requests", "", (requests,), 2)


def pull(place: Place) -> Iterator[Figure]:
    """One big blob from docker-registry, beside every peer that is installed."""
    with DockerRegistry(place.folder / "registry") as server:
        # In a process of its own: the system counts the memory of a parent, as it was when a child
        # began, among the child's.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            digest = pool.submit(_put_big, server.url, place.size).result()
        peers = _pull_peers(place.folder, server.host, digest)
        subjects = {name: _fresh(place.folder, peer) for name, peer in peers.items()}
        runs = rounds(subjects, place.rounds)
    yield from compare(f"pull {place.size >> 20} MiB", runs, {})
    memory = tuple(float(each.memory) for each in runs["modelpm"])
    yield Figure(f"pull {place.size >> 20} MiB", "modelpm memory", "B", memory, MEMORY_LIMIT)


def _llama2_registry() -> registry.Registry:
    content = registry.Content()
    for tag, artifact in llama2(FIXTURES / "llama2").items():
        content.add("library/llama2", tag, artifact)
    return registry.Registry(content=content)


def _put_big(url: str, size: int) -> str:
    """Push one layer of random bytes as `bench/big`; its digest."""
    blob = b"".join(os.urandom(2**20) for _ in range(size >> 20))
    title = {"org.opencontainers.image.title": "big.gguf"}
    layer = described("application/octet-stream", blob, annotations=title)
    config = described("application/vnd.oci.empty.v1+json", b"{}")
    put(url, "bench/big", "latest", image(config, [layer], [b"{}", blob]))
    return str(layer["digest"])


def _pull_peers(folder: Path, host: str, digest: str) -> dict[str, Callable[[], Command]]:
    """How each program brings the blob to this machine, into `folder/out`."""
    out = folder / "out"
    url = f"http://{host}/v2/bench/big/blobs/{digest}"
    shell = {
        "curl": f"curl -sf -o {out}/blob {url}",
        "curl; sync": f"curl -sf -o {out}/blob {url} && sync {out}/blob",
        "curl | sha256": f"curl -sf {url} | tee {out}/blob | openssl dgst -sha256",
        "skopeo": f"skopeo copy -q --src-tls-verify=false docker://{host}/bench/big oci:{out}:x",
        "oras": f"oras pull --plain-http -o {out} {host}/bench/big:latest",
        "crane": f"crane pull --insecure --format oci {host}/bench/big:latest {out}/crane",
    }
    peers: dict[str, Callable[[], Command]] = {
        "modelpm": lambda: [MODELPM, "--home", out / "store", "pull", f"{host}/bench/big"]
    }
    for name, words in shell.items():
        if shutil.which(words.split()[0]):
            peers[name] = lambda words=words: ["sh", "-c", words]  # type: ignore[misc]  # bound now
    peers["oras-py"] = lambda: [sys.executable, "-c", _ORAS_PY, host, "bench/big", out]
    return peers


def _fresh(folder: Path, command: Callable[[], Command]) -> Callable[[], Run]:
    """Run the command into an empty folder; making it empty is not measured."""

    def once() -> Run:
        shutil.rmtree(folder / "out", ignore_errors=True)
        (folder / "out").mkdir()
        return run(command())

    return once


def _seconds(case: str, runs: dict[str, list[Run]], *, limit: float) -> Iterator[Figure]:
    for subject, results in runs.items():
        samples = tuple(result.seconds for result in results)
        yield Figure(case, subject, "s", samples, limit if subject == "modelpm" else None)
