"""Broken model files that pass the gate: an engine that dies of one is an error with exit code 9.

MODELPM_MUTATIONS sets how many files are given to the engine, each in a child of its own.
"""

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from gguf_writer import tiny_llama

from modelpm.errors import ModelError, RunnerError
from modelpm.model.gguf import Header
from modelpm.runner import ctransformers
from modelpm.runner.engine import Finished, Sampling, Settings
from modelpm.runner.worker import Patience, Worker
from modelpm.session import facts_of
from tests.model.test_gguf_limits import mutated

COUNT = int(os.environ.get("MODELPM_MUTATIONS", "60"))
PATIENCE = Patience(load=10, step=10)
SAMPLING = Sampling(temperature=0, num_predict=4)


@pytest.mark.slow
@pytest.mark.timeout(60 + COUNT * 2)
def test_no_file_takes_more_than_its_engine_down(tmp_path: Path) -> None:
    content = tiny_llama()
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    header = Header.read(path).data_offset
    rng = random.Random(20_260_101)
    outcomes: Counter[str] = Counter()
    while outcomes["answered"] + outcomes["died"] < COUNT:
        path.write_bytes(mutated(content, header, rng))
        outcomes[_outcome(path)] += 1
        assert sum(outcomes.values()) < COUNT * 100
    print(dict(outcomes))
    assert (ModelError.exit_code, RunnerError.exit_code) == (9, 9)
    assert outcomes["refused by the gate"] > COUNT
    assert outcomes["answered"] > 0


def _outcome(path: Path) -> str:
    """What became of a file; whatever is not one of these is a fault, and is raised."""
    try:
        facts = facts_of(Header.read(path), path, "mutant")
    except ModelError:
        return "refused by the gate"
    if ctransformers.refusals(facts):
        return "refused by the engine's rules"
    with Worker(patience=PATIENCE) as worker:
        try:
            worker.load(facts, Settings(context_length=64, threads=1))
            events = list(worker.generate("hello world", SAMPLING))
        except RunnerError:
            return "died"
    assert isinstance(events[-1], Finished)
    return "answered"
