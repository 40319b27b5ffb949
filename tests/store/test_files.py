"""The changes of files: their errors, the folders, the locks."""

import errno
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from modelpm.errors import StoreError
from modelpm.store.files import Files, listing, open_regular, read_small, store_errors
from tests.store.damage import HARMS


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    Files().replace(path, b"one")
    for failing in ("create", "write", "fsync", "rename"):

        def before(operation: str, _path: Path, failing: str = failing) -> None:
            if operation == failing:
                raise OSError(errno.EIO, "Input/output error")

        with pytest.raises(StoreError, match="Input/output error"):
            Files(before).replace(path, b"two")
        assert path.read_bytes() == b"one"
        assert list(tmp_path.iterdir()) == [path]
    Files().replace(path, b"two")
    assert path.read_bytes() == b"two"


def test_every_change_asks_before_it_happens(tmp_path: Path) -> None:
    seen: list[str] = []
    files = Files(lambda operation, path: seen.append(f"{operation} {path.name}"))
    files.make_folder(tmp_path / "a" / "b")
    with files.create(tmp_path / "a/b/draft") as fd:
        files.write(fd, tmp_path / "a/b/draft", b"content")
        files.truncate(fd, tmp_path / "a/b/draft", 3)
        files.set_mtime(fd, tmp_path / "a/b/draft", 5, sync=True)
        files.sync_data(fd, tmp_path / "a/b/draft")
        files.write_at(fd, tmp_path / "a/b/draft", b"more", 100)
        files.sync(fd, tmp_path / "a/b/draft")
        files.publish(tmp_path / "a/b/draft", tmp_path / "a/b/final")
        files.permit(fd, tmp_path / "a/b/final", 0o444)
    files.touch(tmp_path / "a/note", b"note")
    assert files.move(tmp_path / "a/b", tmp_path / "c")
    files.sync_folder(tmp_path)
    assert files.remove(tmp_path / "c")
    assert [line.split()[0] for line in seen] == [
        "mkdir", "fsync", "mkdir", "fsync", "create", "write", "truncate", "utime", "fsync",
        "write", "fsync", "rename", "fsync", "chmod", "touch", "move", "fsync", "remove", "remove",
    ]  # fmt: skip
    assert (tmp_path / "a/note").read_bytes() == b"note"


def test_a_sync_is_tried_and_heard_of(tmp_path: Path) -> None:
    """A pipe cannot: so this tells whether anybody tried."""
    reading, writing = os.pipe()
    for sync in (Files().sync, Files().sync_data):
        with pytest.raises(StoreError, match="Invalid argument"):
            sync(writing, tmp_path / "draft")
    os.close(reading)
    os.close(writing)
    if sys.platform == "linux":
        with pytest.raises(StoreError, match="Invalid argument"):
            Files().sync_folder(Path("/proc"))


def test_what_is_gone_is_no_error_to_move_or_remove(tmp_path: Path) -> None:
    files = Files()
    assert not files.move(tmp_path / "gone", tmp_path / "there")
    assert not files.remove(tmp_path / "gone")


def test_notes_and_marks_may_fail_in_silence(tmp_path: Path) -> None:
    def before(operation: str, _path: Path) -> None:
        raise OSError(errno.ENOSPC, operation)

    (tmp_path / "file").write_bytes(b"x")
    with (tmp_path / "file").open("rb") as stream:
        Files(before).set_mtime(stream.fileno(), tmp_path / "file", 1, sync=False)
    Files(before).touch(tmp_path / "note", b"note")
    Files().touch(tmp_path / "no folder/note", b"note")
    assert (tmp_path / "file").stat().st_mtime != 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_made_with_its_parents_and_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    files = Files()
    files.make_folder(tmp_path / "a/b/c")
    files.make_folder(tmp_path / "a/b/c")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").write_bytes(b"")
    for name in ("link", "dangling", "file", "file/inner"):
        with pytest.raises(StoreError):
            files.make_folder(tmp_path / name)
    files.make_folder(tmp_path / "link/d")  # only the folder itself must not be a link
    assert (tmp_path / "a/d").is_dir()


@pytest.mark.parametrize(
    "harm", [name for name in HARMS if name not in {"cut", "grown", "flipped"}]
)
def test_only_a_regular_file_is_opened(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "a/b/c/file"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"content")
    HARMS[harm](path)
    files = Files()
    if harm == "empty":
        os.close(open_regular(path))
        with files.reopen(path) as fd:
            assert os.fstat(fd).st_size == 0
    elif harm == "gone":
        with pytest.raises(FileNotFoundError):
            open_regular(path)
        with pytest.raises(StoreError), files.reopen(path):
            pass
        with files.reopen(path, create=True) as fd:
            assert os.fstat(fd).st_size == 0
    else:
        with pytest.raises(StoreError, match="file"):
            open_regular(path)
        with pytest.raises(StoreError), files.reopen(path, create=True):
            pass
        with pytest.raises(StoreError), files.create(path):
            pass


def test_a_small_file_at_the_limit_and_past_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_small(path, 5) == b"12345"
    with pytest.raises(StoreError, match="larger than 4"):
        read_small(path, 4)


def test_a_listing_is_by_name_and_follows_no_link(tmp_path: Path) -> None:
    assert listing(tmp_path / "gone") == []
    for name in ("b", "a", "c"):
        (tmp_path / name).symlink_to("/")
    found = listing(tmp_path)
    assert [path.name for path, _ in found] == ["a", "b", "c"]
    assert all(state.st_size == 1 for _, state in found)
    with pytest.raises(StoreError, match="listing"):
        listing(tmp_path / "a" / "proc" / "version")


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "prune"),
        (errno.EDQUOT, "prune"),
        (errno.EACCES, "--home"),
        (errno.EROFS, "--home"),
        (errno.ENOLCK, "--home"),
        (errno.EIO, ""),
    ],
)
def test_an_error_says_what_was_done_to_what_and_what_to_do(code: int, advice: str) -> None:
    with pytest.raises(StoreError) as caught, store_errors("writing", Path("/a/file")):
        raise OSError(code, os.strerror(code))
    assert str(caught.value).startswith(f"writing /a/file: {os.strerror(code)}")
    assert advice in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_close_that_fails_is_an_error(tmp_path: Path) -> None:
    """A network file system may tell only now that the quota is used up."""
    with pytest.raises(StoreError, match="closing"), Files().create(tmp_path / "file") as fd:
        os.close(fd)


def test_locks_exclude_each_other_and_shared_ones_do_not(tmp_path: Path) -> None:
    files, path = Files(), tmp_path / "lock"
    path.touch()
    with files.reopen(path) as one, files.reopen(path) as two, files.reopen(path) as three:
        assert files.try_lock(one, path, exclusive=False)
        assert files.try_lock(two, path, exclusive=False)
        assert not files.try_lock(three, path, exclusive=True)
    with files.reopen(path) as one, files.reopen(path) as two:
        assert files.try_lock(one, path, exclusive=True)
        assert not files.try_lock(two, path, exclusive=False)
    assert files.locks_work(path)


def test_who_wants_a_lock_waits_a_bounded_time(tmp_path: Path) -> None:
    files, path = Files(), tmp_path / "lock"
    order = []
    taken, release = threading.Event(), threading.Event()

    def hold() -> None:
        with files.locked(path, exclusive=True):
            taken.set()
            release.wait(60)
            order.append("released")

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(10)
    files.lock_wait = 0.2
    started = time.monotonic()
    with pytest.raises(StoreError, match="locked by another"), files.locked(path, exclusive=False):
        pass
    assert 0.2 <= time.monotonic() - started < 20
    threading.Timer(0.1, release.set).start()
    files.lock_wait = 60
    with files.locked(path, exclusive=True):
        order.append("taken")
    thread.join()
    assert order == ["released", "taken"]


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError), Files().locked(tmp_path / "lock", exclusive=True):
        pass
    assert not (tmp_path / "elsewhere").exists()
