"""A source in memory, and a store to fill."""

from pathlib import Path

import pytest

from modelpm.store.layout import Store
from tests.memory import Memory


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)
