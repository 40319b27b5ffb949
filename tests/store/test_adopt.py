"""Adopting files: by reflink, hard link or copy; the source never changed, its changes noticed."""

import contextlib
import errno
import os
import random
import stat
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from modelpm.errors import DigestMismatchError, ModelPMError, NotFoundError, StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.store import adopt as adopt_module
from modelpm.store.adopt import WORTH_A_LINK
from modelpm.store.adopted import FRESH
from modelpm.store.blobs import SEAL, Blobs
from modelpm.store.files import Files
from modelpm.store.layout import Store

KIND = "application/octet-stream"
LONG_AGO = 10**9
Change = Callable[[Path], None]
LARGE = random.Random(5).randbytes(WORTH_A_LINK + 12345)
SMALL = b"a small file"


class Limited(Files):
    """Files on a file system that can do less; what was asked for is written down."""

    def __init__(self, *impossible: str) -> None:
        super().__init__(self._refuse)
        self._impossible = impossible
        self.asked: list[str] = []

    def _refuse(self, operation: str, _path: Path) -> None:
        self.asked.append(operation)
        if operation in self._impossible:
            raise OSError(errno.EXDEV, "not possible here")


class Cloning(Limited):
    """Files on a file system with reflinks, which are played by a copy at once."""

    def __init__(self) -> None:
        super().__init__()

    def clone(self, fd: int, path: Path, source: int) -> bool:
        with self.change("clone", path):
            os.pwrite(fd, os.pread(source, 2**24, 0), 0)
        return True


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    write(path, LARGE)
    return path


def write(path: Path, content: bytes, mtime: int = LONG_AGO) -> None:
    path.write_bytes(content)
    os.utime(path, (mtime, mtime))


def adopt(store: Store, path: Path) -> Descriptor:
    with contextlib.ExitStack() as kept:
        return store.adopt(path, KIND, kept)


def state_of(path: Path) -> tuple[object, ...]:
    """All that adopting may not change."""
    found = path.stat()
    return found.st_mode, found.st_mtime_ns, found.st_uid, found.st_ino, path.read_bytes()


class Copying(Limited):
    """Files on a file system that can neither clone nor link."""

    def __init__(self) -> None:
        super().__init__("clone", "link")


WAYS: dict[str, type[Files]] = {"link": Files, "copy": Copying, "reflink": Cloning}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("content", [LARGE, SMALL, b""], ids=["large", "small", "empty"])
@pytest.mark.parametrize("mode", [0o644, 0o444])
def test_a_file_becomes_a_blob_and_stays_as_it_is(
    tmp_path: Path, root: Path, way: str, content: bytes, mode: int
) -> None:
    path = tmp_path / "file"
    write(path, content)
    path.chmod(mode)
    before = state_of(path)
    store = Store(root, files=WAYS[way]())
    desc = adopt(store, path)
    assert desc == Descriptor(KIND, Digest.of(content), len(content))
    assert state_of(path) == before
    assert store.exists(desc)
    assert store.path(desc).read_bytes() == content
    assert state_of(path) == before
    assert store.check() == []
    assert state_of(path) == before
    is_linked = store.path(desc).stat().st_ino == path.stat().st_ino
    assert is_linked == (way == "link" and content == LARGE)
    if not is_linked:
        assert int(store.path(desc).stat().st_mtime) == SEAL
        assert stat.S_IMODE(store.path(desc).stat().st_mode) == 0o444
    assert not list((root / "ingest").iterdir())
    assert not list((root / "trash").iterdir())


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_read_once(
    source: Path, root: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    original = adopt_module._hash

    def hash_once(stream: FileIO, path: Path, size: int, *more: Any) -> Digest:
        hashed.append(size)
        return original(stream, path, size, *more)

    def verify(_blobs: Blobs, desc: Descriptor) -> None:
        hashed.append(desc.size)

    monkeypatch.setattr(adopt_module, "_hash", hash_once)
    monkeypatch.setattr(Blobs, "verify", verify)
    store = Store(root, files=WAYS[way]())
    desc = adopt(store, source)
    assert store.exists(desc)
    assert store.path(desc).stat().st_size == len(LARGE)
    assert hashed == [len(LARGE)]


def test_progress_is_told_to_the_end(source: Path, store: Store) -> None:
    told: list[int] = []
    with contextlib.ExitStack() as kept:
        store.adopt(source, KIND, kept, told.append)
    assert told == sorted(told)
    assert told[-1] == len(LARGE)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_here_already_is_not_written_again(source: Path, root: Path, way: str) -> None:
    store = Store(root, files=WAYS[way]())
    first = adopt(store, source)
    inode = store.path(first).stat().st_ino
    assert adopt(store, source) == first
    twin = source.with_name("twin")
    write(twin, LARGE)
    assert adopt(store, twin) == first
    assert store.path(first).stat().st_ino == inode
    assert twin.stat().st_nlink == 1
    assert store.check() == []


def test_a_blob_of_the_store_is_adopted_where_it_is(source: Path, store: Store) -> None:
    desc = adopt(store, source)
    blob = store.path(desc)
    assert adopt(store, blob) == desc
    with source.open("r+b") as file:
        file.write(b"other")
    changed = adopt(store, blob)
    assert changed.digest == Digest.of(source.read_bytes())


def edit(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"edited")


def edit_secretly(path: Path) -> None:
    before = path.stat()
    edit(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, 1000)


@pytest.mark.parametrize("change", [edit, edit_secretly, cut])
def test_an_edit_of_the_source_is_noticed(source: Path, store: Store, change: Change) -> None:
    desc = adopt(store, source)
    assert store.exists(desc)
    change(source)
    assert not store.exists(desc)
    with pytest.raises(DigestMismatchError):
        store.path(desc)
    assert [str(desc.digest) in problem.what for problem in store.check()] == [True]
    edited = source.read_bytes()
    write(source, LARGE)
    assert store.exists(desc)
    assert store.check() == []
    assert edited != LARGE


def test_a_replaced_source_does_not_matter(source: Path, store: Store) -> None:
    desc = adopt(store, source)
    other = source.with_name("other")
    write(other, SMALL)
    other.replace(source)
    assert store.exists(desc)
    assert store.path(desc).read_bytes() == LARGE


def test_once_the_source_is_gone_the_blob_is_sealed(source: Path, store: Store) -> None:
    desc = adopt(store, source)
    blob = store.path(desc)
    source.unlink()
    assert store.exists(desc)
    assert int(blob.stat().st_mtime) == SEAL


class NotOurs(Files):
    """Files of which some belong to another user: their times are not ours to set."""

    def set_mtime(self, fd: int, path: Path, mtime: int, *, sync: bool) -> None:
        pass


def test_a_blob_that_cannot_be_sealed_is_noted(source: Path, root: Path) -> None:
    store = Store(root, files=NotOurs())
    desc = adopt(store, source)
    blob = store.path(desc)
    source.unlink()
    assert not store._blobs.adopted.believes(desc.digest, blob.stat())
    assert store.exists(desc)
    assert store._blobs.adopted.believes(desc.digest, blob.stat())


def test_a_touched_source_is_hashed_once_more_and_believed(source: Path, store: Store) -> None:
    desc = adopt(store, source)
    os.utime(source, (LONG_AGO + 5, LONG_AGO + 5))
    blob = store.root / "blobs" / "sha256" / desc.digest.hex
    assert not store._blobs.adopted.believes(desc.digest, blob.stat())
    assert store.exists(desc)
    assert store._blobs.adopted.believes(desc.digest, blob.stat())
    assert source.stat().st_mtime == LONG_AGO + 5


def test_what_was_changed_just_now_is_not_noted(source: Path, store: Store) -> None:
    now = time.time_ns()
    os.utime(source, ns=(now, now))
    desc = adopt(store, source)
    assert not store._blobs.adopted.path(desc.digest).exists()
    assert store.exists(desc)  # hashed
    assert not store._blobs.adopted.path(desc.digest).exists()
    assert now + FRESH > time.time_ns() or store.exists(desc)


def test_a_source_with_the_time_of_the_seal_is_copied(source: Path, store: Store) -> None:
    os.utime(source, (SEAL, SEAL))
    desc = adopt(store, source)
    assert store.path(desc).stat().st_ino != source.stat().st_ino


def test_a_note_that_lies_is_forgotten_by_fsck(source: Path, store: Store) -> None:
    desc = adopt(store, source)
    edit(source)
    adopted = store._blobs.adopted
    adopted.note(desc.digest, source.stat(), time.time_ns() + 2 * FRESH)
    assert store.exists(desc)  # as it would be with a disk that rots
    assert len(store.check()) == 1
    assert not store.exists(desc)


def test_a_damaged_blob_makes_way(source: Path, store: Store) -> None:
    desc = Descriptor(KIND, Digest.of(LARGE), len(LARGE))
    store.prepare()
    blob = store.root / "blobs" / "sha256" / desc.digest.hex
    for damage in (lambda: blob.write_bytes(b"x"), blob.mkdir, lambda: blob.symlink_to("/")):
        damage()
        assert adopt(store, source) == desc
        assert store.path(desc).stat().st_ino == source.stat().st_ino
        blob.unlink()


def test_pruning_leaves_the_source_alone(source: Path, store: Store) -> None:
    desc = adopt(store, source)
    before = state_of(source)
    store.sweep(store.garbage())
    assert not store.exists(desc)
    assert state_of(source) == before
    assert source.stat().st_nlink == 1
    assert not list((store.root / "adopted").iterdir())
    assert not store.garbage()


def test_what_is_adopted_is_kept_until_the_stack_ends(source: Path, store: Store) -> None:
    with contextlib.ExitStack() as kept:
        desc = store.adopt(source, KIND, kept)
        store.sweep(store.garbage())
        assert store.exists(desc)
    assert store.garbage()


# What is refused.


def test_links_are_followed_once(source: Path, store: Store) -> None:
    link = source.with_name("link")
    link.symlink_to("model.gguf")
    assert adopt(store, link).digest == Digest.of(LARGE)
    assert link.is_symlink()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("nothing")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (fifo, StoreError, "not a regular file"),
        (Path.mkdir, StoreError, "not a regular file"),
        (loop, StoreError, "reading"),
        (device, StoreError, "not a regular file"),
        (dangling, NotFoundError, "no such file"),
        (lambda _: None, NotFoundError, "no such file"),
    ],
)
def test_what_is_no_file_is_refused(
    tmp_path: Path, store: Store, make: Change, error: type[ModelPMError], sentence: str
) -> None:
    make(tmp_path / "it")
    with pytest.raises(error, match=sentence):
        adopt(store, tmp_path / "it")
    assert not any((store.root / "blobs" / "sha256").iterdir())


def test_a_file_that_may_not_be_read_is_refused(source: Path, store: Store) -> None:
    source.chmod(0)
    if os.geteuid() == 0:
        pytest.skip("root may read any file")
    with pytest.raises(StoreError, match="Permission denied"):
        adopt(store, source)


class Meddling:
    """A listener that changes the source while it is hashed."""

    def __init__(self, change: Callable[[], None]) -> None:
        self._changes = [change]

    def __call__(self, _count: int) -> None:
        while self._changes:
            self._changes.pop()()


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def swap(path: Path) -> None:
    other = path.with_name("other")
    write(other, LARGE[::-1])
    other.replace(path)


@pytest.mark.parametrize("way", ["link", "copy"])
@pytest.mark.parametrize("change", [grow, cut, edit])
def test_a_file_that_changes_while_it_is_read_is_refused(
    source: Path, root: Path, way: str, change: Change
) -> None:
    store = Store(root, files=WAYS[way]())
    with contextlib.ExitStack() as kept, pytest.raises(StoreError, match="was changed while"):
        store.adopt(source, KIND, kept, Meddling(lambda: change(source)))
    assert not any((root / "blobs" / "sha256").iterdir())
    assert not store.garbage()
    assert adopt(store, source).digest == Digest.of(source.read_bytes())


def test_a_file_that_is_swapped_while_it_is_read_is_refused(source: Path, store: Store) -> None:
    with contextlib.ExitStack() as kept, pytest.raises(StoreError, match="was changed while"):
        store.adopt(source, KIND, kept, Meddling(lambda: swap(source)))
    assert not store.exists(Descriptor(KIND, Digest.of(LARGE), len(LARGE)))
    store.sweep(store.garbage())
    assert store.check() == []


def test_a_reflink_is_what_the_file_was(source: Path, root: Path) -> None:
    store = Store(root, files=Cloning())
    with contextlib.ExitStack() as kept:
        desc = store.adopt(source, KIND, kept, Meddling(lambda: edit(source)))
    assert desc.digest == Digest.of(LARGE)
    assert store.check() == []


def test_a_disk_without_room_is_told_before_the_copy(
    source: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(root, files=Limited("clone", "link"))
    monkeypatch.setattr(Files, "free", lambda *_: 1000)
    with pytest.raises(StoreError, match="too little room"):
        adopt(store, source)
    assert not any((root / "ingest").iterdir())


def test_a_link_that_fails_at_last_is_told(source: Path, root: Path) -> None:
    class Once(Files):
        links = 0

        def link(self, source: Path, path: Path) -> bool:
            self.links += 1
            return self.links == 1 and super().link(source, path)

    store = Store(root, files=Once())
    with pytest.raises(StoreError, match="it can no longer be done"):
        adopt(store, source)


# Death at every step.


class Died(BaseException):
    pass


def points(root: Path, source: Path, way: str) -> Iterator[int]:
    """How many steps an adoption has."""
    counted: list[str] = []
    files = _dying(way, counted.append)
    adopt(Store(root, files=files), source)
    yield from range(len(counted))


def _dying(way: str, before: Callable[[str], object]) -> Files:
    """Files that ask before every operation."""
    files = WAYS[way]()
    inner = files._before

    def both(operation: str, path: Path) -> None:
        before(operation)
        inner(operation, path)

    files._before = both
    return files


@pytest.mark.parametrize("way", WAYS)
def test_death_at_any_step_leaves_nothing_wrong(tmp_path: Path, source: Path, way: str) -> None:
    before = state_of(source)
    for point in points(tmp_path / "count", source, way):
        root = tmp_path / f"store-{point}"
        steps = iter(range(10**6))

        def die(_operation: str, point: int = point, steps: Iterator[int] = steps) -> None:
            if next(steps) >= point:
                raise Died

        with contextlib.suppress(Died):
            adopt(Store(root, files=_dying(way, die)), source)
        survivor = Store(root)
        assert survivor.check() == []
        survivor.sweep(survivor.garbage())
        assert adopt(survivor, source).digest == Digest.of(LARGE)
        assert survivor.check() == []
        survivor.sweep(survivor.garbage())
        assert not survivor.garbage()
        assert state_of(source) == before
        assert source.stat().st_nlink == (
            2 if way == "link" and (tmp_path / "count").exists() else 1
        )
