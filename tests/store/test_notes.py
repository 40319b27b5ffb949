"""Notes of registries: newest first, bounded, private where they must be, and never in the way."""

import os
import stat
import threading
from pathlib import Path

import pytest

from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.store.layout import Store
from modelpm.store.notes import KEPT_SECONDS
from tests.memory import LAYER, Memory

DIGEST = Digest.of(b"content")
OTHER = Digest.of(b"other")
KEY = f"reg.example/team/tiny@{DIGEST}"
URL = "https://reg.example/v2/team/tiny/blobs/uploads/1?_state=signed"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "home")
    store.prepare()
    return store


def noted(store: Store) -> list[Path]:
    return sorted((store.root / "notes").iterdir())


def test_where_a_blob_was_seen_is_told_by_registry_newest_first(store: Store) -> None:
    assert store.notes.sisters("a.example", DIGEST) == []
    for host, name in [("a.example", "x"), ("b.example", "y"), ("a.example", "z")]:
        store.notes.saw(host, name, DIGEST)
    assert store.notes.sisters("a.example", DIGEST) == ["z", "x"]
    assert store.notes.sisters("b.example", DIGEST) == ["y"]
    store.notes.saw("a.example", "x", DIGEST)
    assert Store(store.root).notes.sisters("a.example", DIGEST) == ["x", "z"]
    assert store.notes.sisters("a.example", OTHER) == []


def test_what_is_known_already_is_not_written_again(store: Store) -> None:
    store.notes.saw("a.example", "x", DIGEST)
    before = noted(store)[0].stat().st_ino
    store.notes.saw("a.example", "x", DIGEST)
    assert noted(store)[0].stat().st_ino == before


def test_only_so_many_places_are_remembered(store: Store) -> None:
    for number in range(40):
        store.notes.saw("a.example", f"r{number}", DIGEST)
    assert store.notes.sisters("a.example", DIGEST) == [f"r{n}" for n in range(39, 23, -1)]


def test_an_upload_is_remembered_until_it_ends(store: Store) -> None:
    notes = store.notes
    assert notes.upload(KEY) is None
    notes.begin_upload(KEY, URL)
    assert Store(store.root).notes.upload(KEY) == URL
    assert notes.upload(f"{KEY}0") is None
    notes.begin_upload(KEY, URL + "2")
    assert notes.upload(KEY) == URL + "2"
    notes.end_upload(KEY)
    notes.end_upload(KEY)
    assert notes.upload(KEY) is None
    assert noted(store) == []


def test_a_session_is_for_its_users_eyes_only(store: Store) -> None:
    old = os.umask(0)
    try:
        store.notes.begin_upload(KEY, URL)
    finally:
        os.umask(old)
    (path,) = noted(store)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "reg.example" not in path.name


BAD = [
    b"",
    b"{",
    b"null",
    b"{}",
    b"[1]",
    b'["a", 1]',
    b'[["a"]]',
    b'[["a", 1]]',
    b"[" * 99_999,
    b" " * 99_999,
]


@pytest.mark.parametrize("content", BAD)
def test_what_cannot_be_read_is_not_known(store: Store, content: bytes) -> None:
    store.notes.begin_upload(KEY, URL)
    store.notes.saw("a.example", "x", DIGEST)
    for path in noted(store):
        path.write_bytes(content)
    assert store.notes.upload(KEY) is None
    assert store.notes.sisters("a.example", DIGEST) == []
    store.notes.saw("a.example", "x", DIGEST)
    assert store.notes.sisters("a.example", DIGEST) == ["x"]


def test_a_note_of_another_upload_under_this_name_is_not_taken(store: Store) -> None:
    store.notes.begin_upload(KEY, URL)
    noted(store)[0].write_text(f'["other", "{URL}"]')
    assert store.notes.upload(KEY) is None


def test_links_and_folders_in_the_place_of_notes_are_left_alone(
    store: Store, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text(f'["{KEY}", "{URL}"]')
    store.notes.begin_upload(KEY, URL)
    (path,) = noted(store)
    path.unlink()
    path.symlink_to(outside)
    assert store.notes.upload(KEY) is None
    store.notes.begin_upload(KEY, URL + "2")
    assert outside.read_text() == f'["{KEY}", "{URL}"]'
    path.unlink()
    path.mkdir()
    store.notes.begin_upload(KEY, URL)
    assert store.notes.upload(KEY) is None


def test_where_nothing_can_be_written_nothing_is_remembered(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    store.notes.saw("a.example", "x", DIGEST)
    store.notes.begin_upload(KEY, URL)
    store.notes.end_upload(KEY)
    assert store.notes.sisters("a.example", DIGEST) == []
    assert not store.root.exists()
    store.root.write_text("a file")
    assert store.notes.upload(KEY) is None


def test_prune_forgets_blobs_that_are_gone_and_uploads_that_are_old(store: Store) -> None:
    memory = Memory()
    kept = memory.image(b"a")
    for digest in memory.content:
        store.push(Descriptor(LAYER, digest, len(memory.content[digest])), memory)
        store.notes.saw("a.example", "x", digest)
    store.tag(kept, "a.example/x:tag")
    store.notes.saw("a.example", "x", OTHER)
    for key in (KEY, f"{KEY}0"):
        store.notes.begin_upload(key, URL)
    path = next(path for path in noted(store) if KEY + '"' in path.read_text())
    os.utime(path, (0, path.stat().st_mtime - KEPT_SECONDS))
    stray = store.root / "notes" / ".upload-x.0123456789abcdef"
    stray.write_text("")
    garbage = store.garbage()
    assert {file.path.name for file in garbage.strays} == {
        stray.name,
        path.name,
        f"sha256-{OTHER.hex}",
    }
    store.sweep(garbage)
    assert store.notes.upload(KEY) is None
    assert store.notes.upload(f"{KEY}0") == URL
    assert store.notes.sisters("a.example", OTHER) == []
    assert all(store.notes.sisters("a.example", digest) == ["x"] for digest in memory.content)
    assert not store.garbage()


def test_threads_do_not_lose_each_others_notes(store: Store) -> None:
    def see(number: int) -> None:
        store.notes.saw("a.example", f"r{number}", DIGEST)

    threads = [threading.Thread(target=see, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.notes.sisters("a.example", DIGEST)) == 12
