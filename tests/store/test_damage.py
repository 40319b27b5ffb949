"""What becomes of a store in which files went wrong: found before use, healed by a pull, never
spread. A pipe never blocks, a link is never followed."""

import os
from pathlib import Path

import pytest

from modelpm.content import read, read_manifest
from modelpm.errors import ContentError, DigestMismatchError, ModelPMError, StoreError
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.manifest import OCI_MANIFEST
from modelpm.store.blobs import SEAL
from modelpm.store.check import check
from modelpm.store.layout import Store
from modelpm.transfer import copy
from tests.memory import LAYER, Memory
from tests.store.damage import HARMS, flipped, rewrite, snapshot

NAME, OTHER = "localhost/model:tag", "localhost/other:tag"
WEIGHTS = b"weights " * 150_000
LEAF = Descriptor.of(WEIGHTS, LAYER)


@pytest.fixture
def model(store: Store, memory: Memory) -> Descriptor:
    root = memory.image(WEIGHTS, b"shared")
    other = memory.image(b"other", b"shared")
    for desc, name in ((root, NAME), (other, OTHER)):
        copy(memory, store, desc)
        store.tag(desc, name)
    return root


def blob(store: Store, desc: Descriptor) -> Path:
    return store.root / "blobs/sha256" / desc.digest.hex


def heal(store: Store, memory: Memory, model: Descriptor) -> None:
    copy(memory, store, model)
    store.tag(model, NAME)


@pytest.mark.parametrize("harm", HARMS)
def test_a_harmed_leaf_is_found_before_use_and_healed(
    harm: str, store: Store, memory: Memory, model: Descriptor, tmp_path: Path
) -> None:
    HARMS[harm](blob(store, LEAF))
    outside = {key: value for key, value in snapshot(tmp_path).items() if "elsewhere" in key}
    assert not store.exists(LEAF)
    with pytest.raises(ModelPMError) as caught:
        store.path(LEAF)
    assert isinstance(caught.value, ContentError | StoreError)
    with pytest.raises(ModelPMError):
        read(store, LEAF, limit=2**30)
    problems = store.check()
    assert {problem.name for problem in problems} >= {NAME}
    assert OTHER not in {problem.name for problem in problems}
    assert not store.garbage()  # it is needed, whatever it is
    heal(store, memory, model)
    assert store.check() == []
    assert read(store, LEAF, limit=2**30) == WEIGHTS
    assert store.path(LEAF).stat().st_mtime == SEAL
    # A folder cannot be renamed over; it waits in the trash.
    store.sweep(store.garbage())
    assert list((store.root / "trash").iterdir()) == []
    after = {key: value for key, value in snapshot(tmp_path).items() if "elsewhere" in key}
    assert after == outside


@pytest.mark.parametrize("harm", HARMS)
def test_a_harmed_manifest_stops_prune_and_is_healed(
    harm: str, store: Store, memory: Memory, model: Descriptor
) -> None:
    store.push(memory.leaf(b"garbage"), memory)
    garbage = store.garbage()
    assert len(garbage.blobs) == 1
    HARMS[harm](blob(store, model))
    before = snapshot(store.root)
    with pytest.raises(ModelPMError):
        read_manifest(store, model)
    assert not store.exists(model)
    for plan in (None, garbage):
        with pytest.raises(StoreError) as caught:
            store.sweep(plan or store.garbage())
        assert caught.value.exit_code == 7
    assert snapshot(store.root) == before
    assert [problem.name for problem in store.check() if problem.name] == [NAME]
    heal(store, memory, model)
    assert store.check() == []
    assert store.garbage().blobs == garbage.blobs


@pytest.mark.parametrize("harm", HARMS)
def test_what_nobody_needs_is_swept_whatever_it_became(
    harm: str, store: Store, memory: Memory, model: Descriptor, tmp_path: Path
) -> None:
    garbage = memory.leaf(b"garbage")
    store.push(garbage, memory)
    HARMS[harm](blob(store, garbage))
    outside = {key: value for key, value in snapshot(tmp_path).items() if "elsewhere" in key}
    store.sweep(store.garbage())
    assert not os.path.lexists(blob(store, garbage))
    assert not store.garbage()
    assert store.check() == []
    after = {key: value for key, value in snapshot(tmp_path).items() if "elsewhere" in key}
    assert after == outside


def test_rot_under_an_unbroken_seal_is_found_by_a_check_and_healed(
    store: Store, memory: Memory, model: Descriptor
) -> None:
    """The disk changed a bit and no time: only reading it all can tell."""
    rewrite(blob(store, LEAF), flipped(blob(store, LEAF)), keep_time=True)
    assert store.exists(LEAF)
    assert store.path(LEAF) == blob(store, LEAF)  # it was hashed since the machine started
    problems = Store(store.root).check()
    assert [problem.name for problem in problems] == [NAME]
    assert "the bytes have the digest" in problems[0].what
    assert not store.exists(LEAF)
    with pytest.raises(DigestMismatchError):
        store.path(LEAF)
    heal(store, memory, model)
    assert store.check() == []


def test_rot_is_found_at_the_first_use_after_a_start_of_the_machine(
    store: Store, memory: Memory, model: Descriptor
) -> None:
    rewrite(blob(store, LEAF), flipped(blob(store, LEAF)), keep_time=True)
    note = store.root / "used" / f"sha256-{LEAF.digest.hex}"
    note.write_bytes(b"another start of the machine")
    with pytest.raises(DigestMismatchError):
        store.path(LEAF)
    assert note.read_bytes() == b"another start of the machine"
    assert not store.exists(LEAF)
    heal(store, memory, model)
    assert store.path(LEAF).read_bytes() == WEIGHTS


def test_rot_of_a_manifest_under_an_unbroken_seal_is_healed_by_a_pull(
    store: Store, memory: Memory, model: Descriptor
) -> None:
    rewrite(blob(store, model), flipped(blob(store, model)), keep_time=True)
    assert not store.exists(model)
    heal(store, memory, model)
    assert store.check() == []


def test_a_touched_but_right_blob_is_hashed_once_and_sealed(
    store: Store, model: Descriptor
) -> None:
    os.utime(blob(store, LEAF))
    assert store.exists(LEAF)
    assert blob(store, LEAF).stat().st_mtime == SEAL


def test_a_broken_leaf_is_told_for_every_name_that_needs_it(
    store: Store, memory: Memory, model: Descriptor
) -> None:
    shared = Descriptor.of(b"shared", LAYER)
    rewrite(blob(store, shared), b"Shared")
    assert [problem.name for problem in store.check()] == [NAME, OTHER]
    blob(store, shared).unlink()
    assert [problem.name for problem in store.check()] == [NAME, OTHER]
    with pytest.raises(StoreError, match="cannot get a name"):
        store.copy(NAME, "localhost/third:tag")
    assert store.find("localhost/third:tag") is None


def test_files_that_no_name_needs_are_checked_too(store: Store, memory: Memory) -> None:
    for content in (b"one", b"two"):
        store.push(memory.leaf(content), memory)
    rewrite(blob(store, Descriptor.of(b"one", LAYER)), b"One")
    (store.root / "blobs/sha256/README").write_bytes(b"hello")
    problems = store.check()
    assert [problem.name for problem in problems] == ["", ""]
    assert any("README is no blob" in problem.what for problem in problems)
    assert Descriptor.of(b"One", LAYER).digest.hex in str(problems)


def test_what_is_removed_during_a_check_is_no_problem(
    store: Store, memory: Memory, model: Descriptor
) -> None:
    store.push(memory.leaf(b"garbage"), memory)
    answers = [store.entries()]
    store.untag({NAME, OTHER})
    store.sweep(store.garbage())
    problems = check(store._blobs, lambda: answers.pop() if answers else store.entries())
    assert list(problems) == []


def test_an_entry_that_is_no_manifest_is_a_problem_and_stops_prune(
    store: Store, memory: Memory, model: Descriptor
) -> None:
    index = store.root / "index.json"
    index.write_text(index.read_text().replace(OCI_MANIFEST, "text/plain"))
    assert "no manifest" in str(store.check())
    with pytest.raises(StoreError, match="no manifest"):
        store.garbage()
    with pytest.raises(StoreError, match="no manifest"):
        store.tag(LEAF, "localhost/leaf:tag")
