"""A file with secrets: whose it is, who sees it, and that it is always one whole version."""

import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelpm.errors import AuthenticationError
from modelpm.registry import secret_file
from modelpm.registry.secret_file import MAX_BYTES, SecretFile

NOBODY = 65534


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def own(path: Path) -> SecretFile:
    return SecretFile(path, private=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def umask() -> Iterator[None]:
    """Whatever a test makes of it, it is as before."""
    before = os.umask(0o022)
    yield
    os.umask(before)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = own(tmp_path / "deep" / "er" / "auth.json")
    assert file.read() == b""
    file.edit(lambda raw: raw + b"one")
    file.edit(lambda raw: raw + b" two")
    file.edit(lambda raw: None)
    assert file.read() == b"one two"
    assert names(tmp_path / "deep" / "er") == [".auth.json.lock", "auth.json"]


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("bits", [0, 0o022, 0o077, 0o777])
def test_modes_are_not_the_umasks(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "new" / "auth.json"
    os.umask(bits)
    for _ in range(2):
        own(path).edit(lambda raw: b"x")
        assert [mode(p) for p in (path, path.parent)] == [0o600, 0o700]
        assert mode(path.with_name(".auth.json.lock")) == 0o600


def test_a_file_that_others_could_read_is_closed_by_the_next_writing(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_bytes(b"old")
    path.chmod(0o644)
    assert own(path).read() == b"old"
    own(path).edit(lambda raw: b"new")
    assert mode(path) == 0o600


@pytest.mark.parametrize("bits", [0o602, 0o620, 0o666])
def test_a_file_that_others_could_write_is_refused(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "auth.json"
    path.write_bytes(b"planted")
    path.chmod(bits)
    with pytest.raises(AuthenticationError, match=r"can be written by others \(try: chmod 600"):
        own(path).read()
    with pytest.raises(AuthenticationError, match="written by others"):
        own(path).edit(lambda raw: b"x")
    assert SecretFile(path, private=False).read() == b"planted"


@needs_root
def test_anothers_file_and_link_are_refused(tmp_path: Path) -> None:
    path, link = tmp_path / "auth.json", tmp_path / "link"
    path.write_bytes(b"planted")
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(AuthenticationError, match="belongs to another user"):
        own(path).read()
    os.chown(path, 0, 0)
    link.symlink_to(path)
    assert own(link).read() == b"planted"
    os.lchown(link, NOBODY, NOBODY)
    for attempt in (own(link).read, lambda: own(link).edit(lambda raw: b"x")):
        with pytest.raises(AuthenticationError, match="belongs to another user"):
            attempt()
    assert path.read_bytes() == b"planted"


def test_a_link_of_ones_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "secrets.json"
    link = tmp_path / "auth.json"
    link.symlink_to(target)
    own(link).edit(lambda raw: b"x")
    assert link.is_symlink()
    assert target.read_bytes() == b"x"
    assert names(tmp_path) == ["auth.json", "real"]


@needs_root
def test_another_programs_file_keeps_owner_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"old")
    path.chmod(0o640)
    os.chown(path, NOBODY, NOBODY)
    SecretFile(path, private=False).edit(lambda raw: raw + b" new")
    status = path.stat()
    assert (status.st_uid, status.st_gid, mode(path)) == (NOBODY, NOBODY, 0o640)
    assert path.read_bytes() == b"old new"
    SecretFile(tmp_path / "fresh.json", private=False).edit(lambda raw: b"x")
    assert mode(tmp_path / "fresh.json") == 0o600


def test_a_folder_in_which_everybody_writes_is_no_place(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(AuthenticationError, match="everybody can write"):
        own(folder / "auth.json").edit(lambda raw: b"x")
    assert names(folder) == []
    folder.chmod(0o1777)
    own(folder / "auth.json").edit(lambda raw: b"x")


def test_a_planted_draft_or_lock_that_is_a_link_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda count: "guessed")
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for name in (".auth.json.lock", ".auth.json.guessed.new"):
        planted = tmp_path / name
        planted.symlink_to(victim)
        with pytest.raises(AuthenticationError, match="cannot be written"):
            own(tmp_path / "auth.json").edit(lambda raw: b"x")
        assert victim.read_bytes() == b"precious"
        planted.unlink(missing_ok=True)


@pytest.mark.parametrize("step", ["fsync", "fchmod"])
def test_a_failure_leaves_the_old_version_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "auth.json"
    own(path).edit(lambda raw: b"old")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(AuthenticationError, match="cannot be written: Input/output error"):
            own(path).edit(lambda raw: b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == [".auth.json.lock", "auth.json"]


def test_what_is_too_large_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    own(path).edit(lambda raw: b"x" * MAX_BYTES)
    with pytest.raises(AuthenticationError, match="would get more than"):
        own(path).edit(lambda raw: raw + b"x")
    assert len(own(path).read()) == MAX_BYTES
    path.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(AuthenticationError, match="has more than"):
        own(path).read()


def test_drafts_of_the_dead_are_swept(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    old, young = (tmp_path / f".auth.json.{name}.new" for name in ("old", "young"))
    for draft in (old, young):
        draft.write_bytes(b"secret")
    os.utime(old, (time.time() - 100, time.time() - 100))
    own(path).edit(lambda raw: b"x")
    assert names(tmp_path) == [".auth.json.lock", young.name, "auth.json"]


def test_writers_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_file, "LOCK_SECONDS", 0.2)
    path = tmp_path / "auth.json"
    inside, leave = threading.Event(), threading.Event()

    def slowly(raw: bytes) -> bytes:
        inside.set()
        leave.wait(20)
        return raw + b"a"

    writer = threading.Thread(target=own(path).edit, args=[slowly])
    writer.start()
    assert inside.wait(20)
    with pytest.raises(AuthenticationError, match="locked by another modelpm"):
        own(path).edit(lambda raw: b"x")
    monkeypatch.setattr(secret_file, "LOCK_SECONDS", 20)
    threading.Timer(0.05, leave.set).start()
    own(path).edit(lambda raw: raw + b"b")
    writer.join()
    assert path.read_bytes() == b"ab"
