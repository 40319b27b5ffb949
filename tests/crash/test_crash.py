"""kill -9, and a failing disk, at every file operation of every verb that writes."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.crash.driver import SCENARIOS

LONG = bool(os.environ.get("MODELPM_TEST_LONG"))
SECONDS = 600 if LONG else 400
"""For a verb that is killed a hundred times: twenty times what a quiet machine needs."""

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork"),
    pytest.mark.timeout(3 * SECONDS + 20),
]


def drive(*words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.driver", *words],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr[-6_000:]
    result: dict[str, Any] = json.loads(done.stdout)
    print(words, result)
    return result


LEAST = {
    "first pull": 100,
    "pull": 30,
    "resume": 30,
    "download": 100,
    "download on": 40,
    "heal": 30,
    "rm": 5,
    "cp": 5,
    "prune": 30,
    "unpack": 80,
    "unpack whole": 60,
    "unpack another": 40,
    "prune archives": 20,
}
NEEDED = {
    "first pull": {"mkdir", "create", "write", "truncate", "fsync", "rename", "remove"},
    "pull": {"create", "write", "fsync", "rename", "move", "remove"},
    "resume": {"truncate", "write", "fsync", "rename"},
    # By several threads: what is done once only, as to remove, is not always the k-th of a run.
    "download": {"create", "write", "utime", "fsync", "rename", "chmod"},
    "download on": {"write", "fsync", "rename"},
    "heal": {"move", "write", "fsync", "rename"},
    "rm": {"create", "write", "fsync", "rename"},
    "cp": {"create", "write", "fsync", "rename"},
    "prune": {"move", "remove", "fsync"},
    "unpack": {"mkdir", "create", "write", "fsync", "rename", "remove"},
    "unpack whole": {"create", "write", "fsync", "rename", "remove"},
    "unpack another": {"create", "write", "fsync", "rename", "move", "remove"},
    "prune archives": {"move", "remove", "fsync"},
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_verb_killed_at_any_operation_leaves_a_store_in_which_it_can_be_run_again(
    name: str,
) -> None:
    result = drive(name, "kill")
    assert result["points"] >= LEAST[name]
    assert set(result["operations"]) >= NEEDED[name]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_verb_whose_disk_fails_at_any_operation_says_so_and_can_be_run_again(name: str) -> None:
    step = 1 if LONG or LEAST[name] < 30 else 6 if LEAST[name] > 50 else 2
    for how in ("EIO", "ENOSPC", "EDQUOT") if LONG else ("fail",):
        result = drive(name, how, "1", str(step))
        assert result["points"] >= LEAST[name] // step


@pytest.mark.parametrize("name", ["first pull", "pull", "resume", "download", "heal", "unpack"])
def test_four_threads_killed_at_any_operation(name: str) -> None:
    step = 1 if LONG else 7
    result = drive(name, "kill", "4", str(step))
    assert result["points"] >= LEAST[name] // step
