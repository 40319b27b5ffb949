"""What is told of damage: which part of the model it is in, and what brings it back."""

from pathlib import Path

import pytest

from modelpm.errors import DigestMismatchError
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.reference import Reference
from modelpm.store import origin
from modelpm.store.layout import Store
from tests.memory import Memory

NAME = "localhost:5000/team/model:v1"


@pytest.fixture
def root(store: Store) -> Descriptor:
    """An image of two layers in the store."""
    memory = Memory()
    image = memory.image(b"one", b"two")
    for desc in memory.graph(image).values():
        store.push(desc, memory)
    return image


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def told(store: Store, root: Descriptor, message: str, name: str = NAME) -> str:
    return str(origin.damaged(store, name, "model", root, DigestMismatchError(message)))


def test_what_is_damaged_is_named(store: Store, root: Descriptor) -> None:
    layer, manifest = Memory().leaf(b"two", ""), root.digest
    assert f"damaged in its manifest: {manifest} is bad" in told(store, root, f"{manifest} is bad")
    text = told(store, root, f"{layer.digest} is wrong")
    assert f"damaged in application/vnd.example.layer.v1: {layer.digest}" in text
    assert told(store, root, "something").startswith("model: the store's copy is damaged: some")
    (store.root / "blobs" / "sha256" / root.digest.hex).unlink()
    assert "damaged: something" in told(store, root, "something")


@pytest.mark.parametrize(
    ("noted", "name", "remedy"),
    [
        (NAME, NAME, "(try: modelpm pull model)"),
        (NAME, NAME.replace("team", "other"), "(it was made here, as far as is known: create"),
        ("", NAME, "(it was made here, as far as is known: create or import it again)"),
        (NAME, "A name of another's!", "(create or import it again)"),
    ],
)
def test_a_pull_is_told_only_where_it_helps(
    store: Store, root: Descriptor, noted: str, name: str, remedy: str
) -> None:
    if noted:
        origin.note(store, Reference.parse(noted), root)
    assert remedy in told(store, root, "wrong", name)
