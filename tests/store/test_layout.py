"""The folder as a whole: how it is made, what it refuses, and that it can be moved about."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from modelpm.content import Event
from modelpm.errors import DigestMismatchError, NotFoundError, StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.store.blobs import SEAL, SMALL, Stored
from modelpm.store.files import Files, store_errors
from modelpm.store.gc import Garbage
from modelpm.store.index import REF_NAME
from modelpm.store.layout import VERSION, Store
from modelpm.transfer import copy
from tests.memory import LAYER, Memory
from tests.store.damage import HARMS, snapshot

NAME = "localhost/model:tag"
WEIGHTS = b"weights" * 200_000
LEAF = Descriptor.of(WEIGHTS, LAYER)


def fill(store: Store, memory: Memory, name: str = NAME) -> Descriptor:
    root = memory.image(WEIGHTS, b"license")
    copy(memory, store, root)
    store.tag(root, name)
    return root


def test_a_store_that_is_not_there_reads_as_empty_and_is_not_made(store: Store) -> None:
    assert store.entries() == []
    assert store.find(NAME) is None
    assert store.check() == []
    assert store.garbage() == Garbage((), (), ())
    assert not store.sweep(Garbage((), (), ()))
    assert not store.exists(LEAF)
    with pytest.raises(NotFoundError):
        store.resolve(NAME)
    with pytest.raises(NotFoundError):
        store.path(LEAF)
    with pytest.raises(NotFoundError, match="modelpm list"):
        store.copy(NAME, "localhost/other:tag")
    assert not store.root.exists()


def test_the_first_write_makes_an_image_layout(store: Store, memory: Memory) -> None:
    root = fill(store, memory)
    layout = json.loads((store.root / "oci-layout").read_bytes())
    assert layout == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((store.root / "index.json").read_bytes())
    assert index["schemaVersion"] == 2
    entry = index["manifests"][0]
    assert entry["digest"] == str(root.digest)
    assert entry["annotations"][REF_NAME] == NAME
    assert json.loads((store.root / "modelpm.json").read_bytes()) == {"version": VERSION}
    assert (store.root / "blobs/sha256" / root.digest.hex).read_bytes() == memory.content[
        root.digest
    ]


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_reads_the_store_in_place(store: Store, memory: Memory) -> None:
    root = fill(store, memory, "model:tag")
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{store.root}:model:tag"],
        capture_output=True,
        timeout=60,
    )
    assert done.stdout == memory.content[root.digest], done.stderr


@pytest.mark.parametrize(
    "names",
    [
        ["file"],
        [".git"],
        [".bashrc", "blobs"],
        ["manifests", "blobs"],
        [".index.json.short"],
        ["oci-layout", "foreign"],
    ],
)
def test_a_folder_of_somebody_else_is_refused(
    store: Store, memory: Memory, names: list[str]
) -> None:
    store.root.mkdir()
    for name in names:
        (store.root / name).write_bytes(b"x")
    before = snapshot(store.root)
    with pytest.raises(StoreError, match="neither empty nor a store"):
        store.push(memory.leaf(b"x"), memory)
    assert snapshot(store.root) == before


def test_what_a_killed_first_write_left_is_no_obstacle(store: Store, memory: Memory) -> None:
    store.root.mkdir()
    (store.root / "blobs").mkdir()
    (store.root / "lock").touch()
    (store.root / ".modelpm.json.0123456789abcdef").write_bytes(b"{")
    fill(store, memory)
    assert store.check() == []


def test_blobs_without_an_index_are_not_taken_for_garbage(store: Store, memory: Memory) -> None:
    fill(store, memory)
    (store.root / "index.json").rename(store.root.parent / "saved")
    for verb in ("push", "untag", "garbage", "hold"):
        with pytest.raises(StoreError, match="has blobs but no index"):
            WRITES[verb](Store(store.root))
    (store.root.parent / "saved").rename(store.root / "index.json")
    assert Store(store.root).check() == []


WRITES: dict[str, Callable[[Store], object]] = {
    "push": lambda store: store.push(LEAF, _source()),
    "tag": lambda store: store.tag(LEAF, "localhost/other:tag"),
    "untag": lambda store: store.untag({NAME}),
    "copy": lambda store: store.copy(NAME, "localhost/other:tag"),
    "hold": lambda store: store.hold([LEAF]).__enter__(),
    "garbage": lambda store: store.garbage(),
}


def _source() -> Memory:
    memory = Memory()
    memory.leaf(WEIGHTS)
    return memory


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("version", [b'{"version": 2}', b'{"version": "1"}'])
def test_a_store_of_another_version_is_only_read(
    store: Store, memory: Memory, write: str, version: bytes
) -> None:
    root = fill(store, memory)
    (store.root / "modelpm.json").write_bytes(version)
    os.utime(store.root / "blobs/sha256" / LEAF.digest.hex)
    before = snapshot(store.root)
    later = Store(store.root)
    assert later.resolve(NAME).digest == root.digest
    assert later.check() == []
    assert later.path(LEAF).read_bytes() == WEIGHTS
    assert later.exists(LEAF)
    with pytest.raises(StoreError, match="upgrade"):
        WRITES[write](later)
    assert snapshot(store.root) == before


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"7", b"\xff", b'{"version": null}', b"[" * 50]
)
def test_a_version_that_cannot_be_read_stops_everything(
    store: Store, memory: Memory, content: bytes
) -> None:
    fill(store, memory)
    (store.root / "modelpm.json").write_bytes(content)
    for verb in (Store.entries, Store.garbage, Store.check, Store.prepare):
        with pytest.raises(StoreError, match=r"modelpm\.json"):
            verb(Store(store.root))


def test_the_root_may_be_a_link(store: Store, memory: Memory, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    store.root.symlink_to("real")
    fill(store, memory)
    assert store.check() == []
    assert (tmp_path / "real/index.json").exists()
    assert not store.garbage()


FOLDERS = ["blobs", "blobs/sha256", "blobs/sha512", "ingest", "leases", "used", "trash"]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_link_in_the_place_of_a_folder_is_refused(
    store: Store, memory: Memory, tmp_path: Path, folder: str, write: str
) -> None:
    fill(store, memory)
    outside = tmp_path / "outside"
    (store.root / folder).rename(outside)
    (outside / "stray").write_bytes(b"not yours")
    (store.root / folder).symlink_to(outside)
    before = snapshot(tmp_path)
    with pytest.raises(StoreError, match="symbolic link"):
        WRITES[write](Store(store.root))
    later = Store(store.root)
    later.check()
    if not folder.startswith("blobs"):
        assert later.path(LEAF).read_bytes() == WEIGHTS
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("harm", ["link", "dangling link", "folder", "pipe"])
@pytest.mark.parametrize("name", ["index.json", "modelpm.json", "lock"])
def test_what_is_no_file_in_the_place_of_one_is_refused(
    tmp_path: Path, memory: Memory, name: str, harm: str
) -> None:
    store = Store(tmp_path / "a/b/c")
    fill(store, memory)
    HARMS[harm](store.root / name)
    outside = {key: value for key, value in snapshot(tmp_path).items() if "a/b/c" not in key}
    with pytest.raises(StoreError):
        Store(store.root).untag({NAME})
    after = {key: value for key, value in snapshot(tmp_path).items() if "a/b/c" not in key}
    assert after == outside


@pytest.mark.parametrize("how", ["moved", "copied", "copied with times"])
def test_a_store_can_be_moved_and_copied(
    store: Store, memory: Memory, tmp_path: Path, how: str
) -> None:
    root = fill(store, memory)
    other = tmp_path / "deep" / "elsewhere"
    other.parent.mkdir()
    words = {"moved": ["mv"], "copied": ["cp", "-r"], "copied with times": ["cp", "-a"]}[how]
    subprocess.run([*words, str(store.root), str(other)], check=True)
    moved = Store(other)
    assert moved.resolve(NAME).digest == root.digest
    assert moved.path(LEAF).read_bytes() == WEIGHTS
    assert moved.exists(LEAF)
    copy(memory, moved, root)
    assert memory.fetched.count((LEAF.digest, 0)) == 1  # nothing was fetched again
    assert moved.check() == []
    assert (other / "blobs/sha256" / LEAF.digest.hex).stat().st_mtime == SEAL
    assert not moved.garbage()


def test_entries_of_other_programs_stay_as_they_are(store: Store, memory: Memory) -> None:
    fill(store, memory)
    unnamed = memory.image(b"unnamed")
    foreign = memory.image(b"foreign")
    for desc in (unnamed, foreign):
        copy(memory, store, desc)
    path = store.root / "index.json"
    index = json.loads(path.read_bytes())
    entries = [
        {**unnamed.to_json(), "platform": {"os": "linux", "architecture": "amd64"}, "x": [1.5]},
        {**foreign.to_json(), "annotations": {REF_NAME: "latest", "com.example": "\u00e9"}},
    ]
    index["manifests"] += entries
    index["annotations"] = {"org.example": "kept"}
    index["artifactType"] = "a/b"
    path.write_text(json.dumps(index, indent=3))
    store.tag(store.resolve(NAME), "localhost/other:tag")
    store.untag({NAME, "localhost/none:tag"})
    after = json.loads(path.read_bytes())
    assert after["manifests"][:2] == entries
    assert len(after["manifests"]) == 3
    assert after["annotations"] == {"org.example": "kept"}
    assert after["artifactType"] == "a/b"
    assert store.find("latest") is not None
    assert not store.garbage()  # what another program keeps without a name is kept


def test_a_layout_of_another_program_becomes_a_store(root: Path, memory: Memory) -> None:
    (root / "blobs/sha256").mkdir(parents=True)
    desc = memory.image(b"layer")
    for digest in memory.graph(desc):
        (root / "blobs/sha256" / digest.hex).write_bytes(memory.content[digest])
    entry = {**desc.to_json(), "annotations": {REF_NAME: "latest"}}
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    before = snapshot(root)
    store = Store(root)
    assert store.resolve("latest").digest == desc.digest
    assert store.check() == []
    assert store.path(Descriptor.of(b"layer", LAYER)).read_bytes() == b"layer"
    assert snapshot(root) == before  # reading it changes nothing
    assert not store.garbage()
    fill(store, memory)
    assert store.check() == []


def test_path_notes_the_use_and_hashes_once_a_start(store: Store, memory: Memory) -> None:
    fill(store, memory)
    note = store.root / "used" / f"sha256-{LEAF.digest.hex}"
    boot = note.read_bytes()
    os.utime(note, (5, 5))
    store.path(LEAF)
    assert note.stat().st_mtime > 5
    note.write_bytes(b"another start")
    store.path(LEAF)
    assert note.read_bytes() == boot
    note.unlink()
    os.mkfifo(note)
    assert store.path(LEAF).read_bytes() == WEIGHTS  # a pipe does not block
    assert note.read_bytes() == boot
    small = Descriptor.of(b"license", LAYER)
    assert store.path(small).read_bytes() == b"license"
    assert (store.root / "used" / f"sha256-{small.digest.hex}").exists()


def test_path_of_what_has_another_size_is_refused(store: Store, memory: Memory) -> None:
    fill(store, memory)
    with pytest.raises(DigestMismatchError):
        store.path(Descriptor(LAYER, LEAF.digest, LEAF.size + 1))


def test_a_name_knows_when_how_large_and_from_where(store: Store, memory: Memory) -> None:
    root = fill(store, memory)
    index = Digest.of(b"an index")
    store.tag(root, NAME, selected_from=index)
    store.copy(NAME, "localhost/other:tag")
    for name in (NAME, "localhost/other:tag"):
        entry = store.find(name)
        assert entry is not None
        assert entry.size == LEAF.size + len(b"license") + len(b"{}")
        assert entry.modified.endswith("Z")
        assert entry.selected_from == index
    assert len(store.entries()) == 2


def test_a_manifest_lacking_something_gets_no_name(store: Store, memory: Memory) -> None:
    root = memory.image(b"here", b"missing")
    for desc in memory.graph(root).values():
        if desc.size != len(b"missing"):
            store.push(desc, memory)
    with pytest.raises(StoreError, match="is not here"):
        store.tag(root, NAME)
    inner = memory.index(root, memory.image(b"not even its manifest"))
    store.push(inner, memory)
    with pytest.raises(StoreError, match="cannot get a name"):
        store.tag(inner, NAME)
    assert store.entries() == []


class NoLocks(Files):
    """A file system that has no locks, and says so."""

    def try_lock(self, fd: int, path: Path, *, exclusive: bool) -> bool:
        with store_errors("locking", path):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_a_file_system_without_locks_is_an_error_in_words(root: Path, memory: Memory) -> None:
    with pytest.raises(StoreError, match="this file system has no locks"):
        Store(root, files=NoLocks()).push(memory.leaf(b"x"), memory)


def test_a_file_in_the_place_of_the_store_is_an_error(store: Store, memory: Memory) -> None:
    store.root.write_bytes(b"file")
    for verb in (Store.entries, Store.garbage, Store.check, Store.prepare):
        with pytest.raises(StoreError):
            verb(Store(store.root))


def test_the_lock_is_free_while_bytes_move(store: Store, memory: Memory) -> None:
    """Whoever observes the copy can list, name, remove and plan meanwhile."""
    fill(store, memory)
    events: list[Event] = []

    def observe(event: Event) -> None:
        events.append(event)
        other = Store(store.root)
        other._files.lock_wait = 0.2
        other.copy(NAME, f"localhost/copy:{len(events)}")
        other.untag({f"localhost/copy:{len(events)}"})
        assert not other.garbage().blobs

    copy(memory, store, memory.image(b"new", b"newer"), observe=observe, jobs=1)
    assert len(events) > 5


LOCKED: dict[str, Callable[[Store], object]] = {
    "tag": lambda store: store.tag(store.resolve(NAME), NAME),
    "untag": lambda store: store.untag({NAME}),
    "copy": lambda store: store.copy(NAME, "localhost/other:tag"),
    "garbage": lambda store: store.garbage(),
    "sweep": lambda store: store.sweep(Garbage((), (Stored(store.root / "ingest/x", 1),), ())),
    "hold": lambda store: store.hold([LEAF]).__enter__(),
}


@pytest.mark.parametrize("verb", LOCKED)
@pytest.mark.parametrize("exclusive", [True, False])
def test_names_leases_and_plans_wait_for_the_lock(
    store: Store, memory: Memory, verb: str, exclusive: bool
) -> None:
    fill(store, memory)
    later = Store(store.root)
    later._files.lock_wait = 0.05
    before = snapshot(store.root)
    with Files().locked(store.root / "lock", exclusive=exclusive):
        if verb == "hold" and not exclusive:
            with later.hold([LEAF]):  # many may take leases at once
                assert snapshot(store.root) != before
        else:
            with pytest.raises(StoreError, match="locked by another"):
                LOCKED[verb](later)
    assert snapshot(store.root) == before


def test_the_order_of_a_pull_is_the_order_of_durability(root: Path, memory: Memory) -> None:
    """Each file: written, synced, renamed; a name when all folders are synced."""
    log: list[tuple[str, str]] = []

    def before(operation: str, path: Path) -> None:
        log.append((operation, str(path.relative_to(root.parent))))

    store = Store(root, files=Files(before))
    store.prepare()
    log.clear()
    desc = memory.image(b"layer", config=b"")
    copy(memory, store, desc, tag=lambda: store.tag(desc, NAME), jobs=1)
    assert log.pop(0)[0] == "create"  # the lease
    assert log.pop(0)[0] == "write"
    for digest in (Digest.of(b"layer"), Digest.of(b""), desc.digest):
        draft, final = f"store/ingest/sha256-{digest.hex}", f"store/blobs/sha256/{digest.hex}"
        wanted = [("create", draft), ("truncate", draft), ("write", draft), ("utime", draft)]
        wanted += [("fsync", draft), ("move", draft), ("chmod", final)]
        assert log[: len(wanted)] == wanted
        del log[: len(wanted)]
    assert log[:2] == [("fsync", "store/blobs/sha256"), ("fsync", "store/blobs/sha512")]
    assert [operation for operation, _ in log[2:]] == [
        "create", "write", "fsync", "rename", "fsync",  # the names
        "create", "write",  # the reserve
        "remove",  # the lease
    ]  # fmt: skip
    assert log[5][1].startswith("store/.index.json.")
    assert log[6] == ("fsync", "store")
    log.clear()
    store.untag({NAME})
    store.sweep(store.garbage())
    kinds = [operation for operation, _ in log]
    assert kinds.index("rename") < kinds.index("move")  # names go before bytes
    last_move = len(kinds) - 1 - kinds[::-1].index("move")
    assert log[last_move + 1] == ("fsync", "store/blobs/sha256")
    assert set(kinds[last_move + 2 :]) == {"remove"}


def test_a_large_blob_is_durable_with_its_name_as_soon_as_it_is_here(
    root: Path, memory: Memory
) -> None:
    log: list[tuple[str, str]] = []
    store = Store(root, files=Files(lambda operation, path: log.append((operation, str(path)))))
    desc = memory.leaf(bytes(SMALL + 1))
    store.push(desc, memory)
    draft = str(root / "ingest" / f"sha256-{desc.digest.hex}")
    at = log.index(("rename", draft))
    assert ("fsync", draft) in log[:at]
    assert log[at + 1] == ("fsync", str(root / "blobs" / "sha256"))


def test_bytes_come_in_while_another_has_the_lock(store: Store, memory: Memory) -> None:
    fill(store, memory)
    later = Store(store.root)
    later._files.lock_wait = 0.05
    with Files().locked(store.root / "lock", exclusive=True):
        assert later.path(LEAF).read_bytes() == WEIGHTS
        later.push(memory.leaf(b"more"), memory)
        assert len(later.entries()) == 1
        assert later.check() == []


def test_referrers_and_names_live_and_die_as_they_should(store: Store, memory: Memory) -> None:
    root = fill(store, memory)
    signature = memory.image(b"signature", subject=root)
    copy(memory, store, signature)
    index = store.root / "index.json"
    document = json.loads(index.read_bytes())
    document["manifests"].append(signature.to_json())
    index.write_text(json.dumps(document))
    assert not store.garbage()
    assert [desc.digest for desc in store.referrers(root)] == [signature.digest]
    store.untag({NAME})
    assert {digest for digest, _ in store.garbage().blobs} >= set(memory.graph(signature))
