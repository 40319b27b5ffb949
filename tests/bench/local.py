"""What modelpm takes where hardly a byte is moved: start-up, store, gate, first token."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import registry
from ollama_artifacts import llama2

from tests.bench import stores
from tests.bench.measure import (
    MODELPM,
    Command,
    Figure,
    Place,
    Row,
    Run,
    first_byte,
    rounds,
    run,
    seconds,
)

FIXTURES = Path(registry.__file__).parent

_GATE = """
import resource, sys, time
from pathlib import Path
from modelpm.model.gguf import Header
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin = time.perf_counter()
Header.read(Path(sys.argv[1]))
seconds = time.perf_counter() - begin
memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
Path(sys.argv[2]).write_text(f"{seconds} {memory}")
"""


def version(place: Place) -> Iterator[Row]:
    """`--version`, the whole process, beside the interpreter alone."""
    subjects = {
        "modelpm": lambda: run([MODELPM, "--version"]),
        "python -c pass": lambda: run([sys.executable, "-c", "pass"]),
    }
    yield from seconds(rounds("--version", subjects, place.rounds), limit=0.080)


def list_models(place: Place) -> Iterator[Row]:
    """`list` with 1,000 models."""
    stores.fill(place.folder / "store", models=1000, blobs=5000, named=True)
    command: Command = [MODELPM, "--home", place.folder / "store", "list"]
    measured = rounds("list 1,000", {"modelpm": lambda: run(command)}, place.rounds)
    yield from seconds(measured, limit=0.150)


def prune(place: Place) -> Iterator[Row]:
    """`prune` of 10,000 blobs that 1,000 models have left."""
    full, store = place.folder / "full", place.folder / "store"
    stores.fill(full, models=1000, blobs=10_000, named=False)

    def once() -> Run:
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(full, store)
        return run([MODELPM, "--home", store, "--quiet", "prune"])

    yield from seconds(rounds("prune 10,000", {"modelpm": once}, place.rounds), limit=1.5)


def gate(place: Place) -> Iterator[Row]:
    """The GGUF gate on a vocabulary of 150,000 tokens."""
    path = place.folder / "wide.gguf"
    stores.write_wide_gguf(path)
    told = place.folder / "told"
    times, memory = [], []
    for _ in range(place.rounds):
        run([sys.executable, "-c", _GATE, path, told])
        words = told.read_text().split()
        times.append(float(words[0]))
        memory.append(float(words[1]))
    yield Figure("gate 150k", "modelpm", "s", tuple(times), 0.060)
    yield Figure("gate 150k", "modelpm memory", "B", tuple(memory), 64e6, is_worst=True)


def first_token(place: Place) -> Iterator[Row]:
    """`run llama2`: from the start of the process to the first byte of the answer."""
    with _llama2_registry() as server:
        home = {"MODELPM_HOME": str(place.folder / "store")}
        name = f"{server.host}/library/llama2"
        run([MODELPM, "pull", name], home)
    command: Command = [MODELPM, "run", name, "how do I free disk space?"]
    samples = [first_byte(command, home) for _ in range(place.rounds + 1)]
    yield Figure("first token", "modelpm", "s", tuple(samples[1:]), 0.6)


def pull_again(place: Place) -> Iterator[Row]:
    """`pull` of what is there already: seconds and requests."""
    with _llama2_registry() as server:
        command: Command = [MODELPM, "pull", "--quiet", f"{server.host}/library/llama2"]
        home = {"MODELPM_HOME": str(place.folder / "store")}
        run(command, home)
        before = len(server.log)
        measured = rounds("pull again", {"modelpm": lambda: run(command, home)}, place.rounds)
        requests = (len(server.log) - before) / (place.rounds + 1)
    yield from seconds(measured, limit=0.35)
    yield Figure("pull again", "modelpm requests", "", (requests,), 2)


def _llama2_registry() -> registry.Registry:
    content = registry.Content()
    for tag, artifact in llama2(FIXTURES / "llama2").items():
        content.add("library/llama2", tag, artifact)
    return registry.Registry(content=content)
