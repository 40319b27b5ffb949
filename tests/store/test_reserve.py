"""Room for deleting: what a full disk still allows."""

import errno
import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from modelpm.errors import StoreError
from modelpm.store.files import Files
from modelpm.store.layout import Store
from modelpm.store.reserve import LEAST, Reserve
from modelpm.transfer import copy
from tests.memory import Memory

NAMES = ("a.example/one:latest", "a.example/two:latest")


class Disk:
    """A disk that is full as long as the reserve is there, and where there is none."""

    def __init__(self, root: Path, code: int = errno.ENOSPC) -> None:
        self.reserve = root / "reserve"
        self.code = code
        self.is_full = False
        self.has_reserve = True

    def __call__(self, operation: str, path: Path) -> None:
        writes = operation in ("create", "write", "mkdir")
        has_room = self.has_reserve and not self.reserve.exists() and path != self.reserve
        if self.is_full and writes and not has_room:
            raise OSError(self.code, "the disk is full")


def two_models(root: Path, memory: Memory, before: Callable[[str, Path], None]) -> Store:
    store = Store(root, files=Files(before))
    for name in NAMES:
        desc = memory.image(name.encode() * 9, config=b"")
        copy(memory, store, desc, tag=functools.partial(store.tag, desc, name))
    return store


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_on_a_full_disk_names_and_bytes_can_be_deleted(
    tmp_path: Path, memory: Memory, code: int
) -> None:
    root = tmp_path / "store"
    disk = Disk(root, code)
    store = two_models(root, memory, disk)
    disk.is_full = True
    with pytest.raises(StoreError):
        store.tag(store.entries()[0].descriptor, "a.example/three:latest")
    assert disk.reserve.exists()  # it is for deleting only
    store.untag({NAMES[0]})
    swept = store.sweep(store.garbage())
    assert [entry.name for entry in store.entries()] == [NAMES[1]]
    assert len(swept.blobs) == 2
    assert store.check() == []
    disk.is_full = False
    store.tag(store.entries()[0].descriptor, NAMES[0])
    assert disk.reserve.stat().st_size >= LEAST


def test_it_grows_with_the_list_of_names(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path, Files())
    for size, kept in ((10, LEAST), (LEAST, 2 * LEAST), (10, 2 * LEAST)):
        reserve.keep(size)
        assert (tmp_path / "reserve").stat().st_size == kept


def test_another_failure_does_not_cost_it(tmp_path: Path, memory: Memory) -> None:
    disk = Disk(tmp_path / "store", errno.EIO)
    store = two_models(tmp_path / "store", memory, disk)
    disk.is_full = True
    with pytest.raises(StoreError):
        store.untag({NAMES[0]})
    assert disk.reserve.exists()
    assert len(store.entries()) == 2


def test_where_there_is_none_the_failure_is_told(tmp_path: Path, memory: Memory) -> None:
    disk = Disk(tmp_path / "store")
    store = two_models(tmp_path / "store", memory, disk)
    disk.reserve.unlink()
    disk.is_full, disk.has_reserve = True, False
    with pytest.raises(StoreError, match="the disk is full"):
        store.untag({NAMES[0]})
