"""A source, and a store to fill, in memory where there is room: these tests sync a lot."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelpm.store.layout import Store
from tests.memory import Memory

ROOM = 512 * 2**20


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < ROOM:
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)
