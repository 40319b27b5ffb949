"""Models made once a session, and the promise that no child outlives its test."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelpm.runner.engine import Facts
from tests.runner.models import Recipe, make

Make = Callable[[Recipe], Facts]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The facts of a model of this recipe; the same file each time."""
    folder = tmp_path_factory.mktemp("models")
    made: dict[Recipe, Facts] = {}

    def get(recipe: Recipe) -> Facts:
        if recipe not in made:
            made[recipe] = make(folder / f"m{len(made)}.gguf", recipe)
        return made[recipe]

    return get


@pytest.fixture(autouse=True)
def _no_orphans() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


def children() -> set[int]:
    """The engines' processes that this one has started and that have not been waited for."""
    task = Path(f"/proc/{os.getpid()}/task")
    if not task.exists():
        return set()
    found: set[int] = set()
    for each in task.iterdir():
        try:
            found |= {int(pid) for pid in (each / "children").read_text().split()}
        except OSError:
            continue  # the thread ended, or the kernel does not tell
    return {pid for pid in found if _is_engine(pid)}


def _is_engine(pid: int) -> bool:
    """Other tests may have servers up."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return not words or b"modelpm.runner" in words  # a zombie has no words any more
