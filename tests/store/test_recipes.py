"""A layer that is kept as its files is, bit for bit, the layer that it was."""

import hashlib
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from modelpm.content import Packed, read
from modelpm.errors import DigestMismatchError, NotFoundError, StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.store import archives, recipes
from modelpm.store.archives import Contents
from modelpm.store.blobs import Blobs
from modelpm.store.files import Files
from modelpm.store.layout import Store
from modelpm.store.recipes import FILE, Made, Piece, Recipe, Recipes
from modelpm.transfer import copy
from tests.memory import Memory

NAME = "localhost/a:1"


def packed(content: bytes, name: str = "x") -> Packed:
    return Packed(name, Descriptor(FILE, Digest.of(content), len(content)))


class Layer:
    """A made-up archive: files, and bytes around them."""

    def __init__(self, *parts: tuple[bytes, bool]) -> None:
        self.content = b"".join(part for part, _ in parts)
        self.files: list[tuple[int, Packed]] = []
        self.bodies: list[bytes] = []
        offset = 0
        for number, (part, is_file) in enumerate(parts):
            if is_file:
                self.files.append((offset, packed(part, f"file-{number}")))
                self.bodies.append(part)
            offset += len(part)

    def put(self, store: Store, memory: Memory, name: str = NAME) -> Descriptor:
        """Copy it as a model's layer, split it, and give it a name."""
        layer = memory.leaf(self.content)
        root = memory.image(layer)

        def tag() -> None:
            self.split(store, memory, layer)
            store.tag(root, name)

        copy(memory, store, root, tag=tag)
        return layer

    def split(self, store: Store, memory: Memory, layer: Descriptor) -> None:
        descs = [memory.leaf(body, FILE) for body in self.bodies]
        with store.hold(descs):
            for desc in descs:
                store.push(desc, memory)
            store.archives.split(layer, self.files)


WEIGHTS = random.Random(5).randbytes(3_000_000)
LAYER = Layer(
    (b"head" * 128, False), (WEIGHTS, True), (b"gap", False), (b"[1]", True), (b"\0", False)
)


def blob(store: Store, digest: Digest) -> Path:
    return store.root / "blobs" / digest.algorithm / digest.hex


def recipe_path(store: Store, layer: Descriptor) -> Path:
    return store.root / "recipes" / f"{layer.digest.algorithm}-{layer.digest.hex}"


# The form.

ROUND_TRIPS: list[tuple[Piece, ...]] = [
    (),
    (b"only bytes",),
    (packed(b""),),
    (b"a", packed(b"x", "é/\u0000\ud800?"[:3]), b"b", packed(b"y" * 100), b"\0" * 10_000),
]


@pytest.mark.parametrize("pieces", ROUND_TRIPS)
@pytest.mark.parametrize("makes", [True, False])
def test_a_recipe_is_read_as_it_was_written(pieces: tuple[Piece, ...], makes: bool) -> None:
    recipe = Recipe(pieces, makes)
    again = Recipe.decode(recipe.encode())
    assert again == recipe
    assert again.files == tuple(piece for piece in pieces if isinstance(piece, Packed))


def sealed(body: bytes) -> bytes:
    return b"modelpm recipe 1 %s\n%s" % (hashlib.sha256(body).hexdigest().encode(), body)


EMPTY = "eJwDAAAAAAE="
BAD = {
    "nothing": b"",
    "another version": Recipe((b"a",), True).encode().replace(b"recipe 1", b"recipe 2"),
    "changed": Recipe((b"a",), True).encode().replace(b'"makes":true', b'"makes":false'),
    "cut": Recipe((b"a",), True).encode()[:-1],
    "no JSON": sealed(b"{"),
    "a list": sealed(b"[]"),
    "no literals": sealed(b'{"makes":true,"pieces":[]}'),
    "makes a number": sealed(b'{"makes":1,"pieces":[],"literals":"%s"}' % EMPTY.encode()),
    "bad base64": sealed(b'{"makes":true,"pieces":[],"literals":"?"}'),
    "bad deflate": sealed(b'{"makes":true,"pieces":[],"literals":"AAAA"}'),
    "cut deflate": sealed(b'{"makes":true,"pieces":[],"literals":"eJw="}'),
    "piece": sealed(b'{"makes":true,"pieces":["x"],"literals":"%s"}' % EMPTY.encode()),
    "negative": sealed(b'{"makes":true,"pieces":[-1],"literals":"%s"}' % EMPTY.encode()),
    "too few literals": sealed(b'{"makes":true,"pieces":[5],"literals":"%s"}' % EMPTY.encode()),
    "digest": sealed(
        b'{"makes":true,"pieces":[["a","sha256:x",1]],"literals":"%s"}' % EMPTY.encode()
    ),
    "too many literals": Recipe((b"ab",), True).encode(),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_recipe_is_not_followed(name: str) -> None:
    content = BAD[name]
    if name == "too many literals":
        content = sealed(content.split(b"\n", 1)[1].replace(b'"pieces":[2]', b'"pieces":[1]'))
    with pytest.raises(StoreError):
        Recipe.decode(content)


def test_literals_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = Recipe((bytes(1_000),), True).encode()
    monkeypatch.setattr(recipes, "MAX_LITERALS", 1_000)
    assert Recipe.decode(content).size == 1_000
    monkeypatch.setattr(recipes, "MAX_LITERALS", 999)
    with pytest.raises(StoreError):
        Recipe.decode(content)


def test_files_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = Recipe((packed(b""), packed(b"")), False).encode()
    monkeypatch.setattr(recipes, "MAX_FILES", 2)
    assert len(Recipe.decode(content).files) == 2
    monkeypatch.setattr(recipes, "MAX_FILES", 1)
    with pytest.raises(StoreError):
        Recipe.decode(content)


def test_the_folder_tells_what_is_in_it(tmp_path: Path) -> None:
    found = Recipes(tmp_path, Files())
    assert list(found.listing()) == []
    (tmp_path / "recipes").mkdir()
    digest = Digest.of(b"x")
    found.write(digest, Recipe((b"x",), True))
    (tmp_path / "recipes/foreign").write_bytes(b"")
    (tmp_path / f"recipes/sha512-{digest.hex}").write_bytes(b"")
    assert [told for told, _, _ in found.listing()] == [None, digest, None]
    assert found.find(Digest.of(b"y")) is found.read(Digest.of(b"y")) is None


# The stream.


@pytest.mark.parametrize("seed", range(20))
def test_what_is_made_can_be_read_from_anywhere(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    bodies = [chance.randbytes(chance.choice([0, 1, 700, 300_000])) for _ in range(8)]
    pieces = tuple(packed(body) if chance.random() < 0.5 else body for body in bodies)
    whole = b"".join(bodies)
    for body in bodies:
        (tmp_path / Digest.of(body).hex).write_bytes(body)
    made = Made(pieces, lambda digest: io.FileIO(tmp_path / digest.hex))
    assert made.seekable()
    assert made.readable()
    assert made.size == len(whole)
    for _ in range(60):
        start = chance.randrange(len(whole) + 10)
        assert made.seek(start) == made.tell() == start
        wanted = chance.choice([0, 1, 5_000])
        got = b""
        while len(got) < wanted and (chunk := made.read(wanted - len(got))):
            got += chunk
        assert got == whole[start : start + wanted]
    assert made.seek(-1, io.SEEK_END) == max(0, len(whole) - 1)
    assert made.seek(-5, io.SEEK_CUR) == max(0, len(whole) - 6)
    made.seek(0)
    assert made.readall() == whole
    made.close()


# In a store.


def test_a_split_layer_is_here_as_before(store: Store, memory: Memory) -> None:
    layer = LAYER.put(store, memory)
    assert not blob(store, layer.digest).exists()
    assert store.exists(layer)
    assert not store.exists(Descriptor(layer.media_type, layer.digest, layer.size + 1))
    assert read(store, layer, layer.size) == LAYER.content
    with store.fetch(layer, 1_000_000) as stream:
        assert stream.read(10) == LAYER.content[1_000_000:1_000_010]
    assert store.unpacked(layer) == tuple(file for _, file in LAYER.files)
    assert store.check() == []
    assert not store.garbage()
    names = [path for path in store.root.rglob("*") if path.is_file()]
    on_disk = sum(path.stat().st_size for path in names if path.name != "reserve")
    assert on_disk < len(LAYER.content) * 1.01


def test_its_files_have_paths_and_it_has_none(store: Store, memory: Memory) -> None:
    layer = LAYER.put(store, memory)
    weights = LAYER.files[0][1].descriptor
    assert store.path(weights).read_bytes() == WEIGHTS
    with pytest.raises(StoreError, match="kept as the files in it"):
        store.path(layer)


def test_it_can_be_copied_on(store: Store, memory: Memory, tmp_path: Path) -> None:
    layer = LAYER.put(store, memory)
    other = Store(tmp_path / "other")
    copy(store, other, store.resolve(NAME), tag=lambda: other.tag(store.resolve(NAME), NAME))
    assert blob(other, layer.digest).read_bytes() == LAYER.content


def test_a_second_copy_moves_nothing(store: Store, memory: Memory) -> None:
    LAYER.put(store, memory)
    memory.fetched.clear()
    copy(memory, store, store.resolve(NAME))
    asked = {digest for digest, _ in memory.fetched}
    assert asked <= {store.resolve(NAME).digest}


@pytest.mark.parametrize("read_it", [lambda s, d: s.verify(d), lambda s, d: read(s, d, d.size)])
def test_a_layer_that_becomes_its_files_while_it_is_asked_for_is_read(
    read_it: Callable[[Store, Descriptor], object],
    root: Path,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = LAYER.put(Store(root, keep_layers=True), memory)
    settled: list[Digest] = []

    def open_late(self: Contents, digest: Digest) -> object:
        if digest == layer.digest and not settled:
            settled.append(digest)
            Store(root).archives.settle(layer)
            assert not self.path(digest).exists()
        return open_blob(self, digest)

    store = Store(root)
    store.prepare()
    open_blob = Blobs._open
    monkeypatch.setattr(Contents, "_open", open_late)
    read_it(store, layer)
    assert settled


def test_prune_takes_recipe_and_files_with_the_last_name(store: Store, memory: Memory) -> None:
    LAYER.put(store, memory)
    store.copy(NAME, "localhost/b:1")
    store.untag({NAME})
    assert not store.garbage()
    store.untag({"localhost/b:1"})
    store.sweep(store.garbage())
    left = {path.name for path in store.root.rglob("*") if path.is_file()}
    assert left == {"lock", "reserve", "oci-layout", "modelpm.json", "index.json"}


def test_files_that_another_model_needs_stay(store: Store, memory: Memory) -> None:
    layer = LAYER.put(store, memory)
    raw = memory.image(memory.leaf(WEIGHTS, FILE))
    memory.fetched.clear()
    copy(memory, store, raw, tag=lambda: store.tag(raw, "localhost/raw:1"))
    assert Digest.of(WEIGHTS) not in {digest for digest, _ in memory.fetched}
    store.untag({NAME})
    store.sweep(store.garbage().only(store.reach(raw) | {layer.digest}))
    store.sweep(store.garbage())
    assert store.check() == []
    assert blob(store, Digest.of(WEIGHTS)).exists()
    assert not recipe_path(store, layer).exists()


def test_a_leased_layer_keeps_its_files(store: Store, memory: Memory) -> None:
    layer = LAYER.put(store, memory)
    store.untag({NAME})
    with store.hold([layer]):
        store.sweep(store.garbage())
        assert read(store, layer, layer.size) == LAYER.content
    store.sweep(store.garbage())
    assert not store.exists(layer)


def test_a_reach_has_the_files(store: Store, memory: Memory) -> None:
    layer = LAYER.put(store, memory)
    reached = store.reach(store.resolve(NAME))
    assert {layer.digest, *(file.descriptor.digest for _, file in LAYER.files)} <= reached


def test_keep_layers_keeps_them(root: Path, memory: Memory) -> None:
    store = Store(root, keep_layers=True)
    layer = LAYER.put(store, memory)
    assert store.path(layer).read_bytes() == LAYER.content
    assert store.unpacked(layer) is not None
    assert store.path(LAYER.files[0][1].descriptor).read_bytes() == WEIGHTS
    again = Store(root)
    again.archives.settle(layer)
    assert not blob(again, layer.digest).exists()
    assert again.check() == []


def test_without_files_or_with_much_around_them_a_layer_stays(
    store: Store, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = Layer((b"x" * 100, False)).put(store, memory)
    assert blob(store, bare.digest).exists()
    assert store.unpacked(bare) == ()
    monkeypatch.setattr(archives, "MAX_LITERALS", 515)
    layer = LAYER.put(store, memory, "localhost/b:1")
    assert blob(store, layer.digest).exists()
    assert store.unpacked(layer) == tuple(file for _, file in LAYER.files)
    store.archives.settle(layer)
    assert blob(store, layer.digest).exists()
    store.untag({NAME, "localhost/b:1"})
    store.sweep(store.garbage())
    assert not list((store.root / "recipes").iterdir())


def test_what_does_not_make_the_layer_is_not_kept(store: Store, memory: Memory) -> None:
    layer = memory.leaf(LAYER.content)
    store.push(layer, memory)
    store.push(memory.leaf(WEIGHTS, FILE), memory)
    wrong = [(100, LAYER.files[0][1])]
    with pytest.raises(DigestMismatchError):
        store.archives.split(layer, wrong)
    beyond = [(1_000, LAYER.files[0][1])]
    with pytest.raises(DigestMismatchError):
        store.archives.split(layer, beyond)
    assert blob(store, layer.digest).exists()
    assert not recipe_path(store, layer).exists()


def test_a_missing_file_makes_nothing(store: Store, memory: Memory) -> None:
    layer = memory.leaf(LAYER.content)
    store.push(layer, memory)
    with pytest.raises(StoreError, match="try again"):
        store.archives.split(layer, LAYER.files)
    assert blob(store, layer.digest).exists()


def test_a_file_that_goes_at_the_last_moment_makes_nothing(
    store: Store, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = memory.leaf(LAYER.content)
    store.push(layer, memory)
    hashed = archives.hashed

    def then_gone(made: Made, algorithm: str, told: Callable[[int], None]) -> Digest:
        digest = hashed(made, algorithm, told)
        blob(store, Digest.of(b"[1]")).unlink()
        return digest

    monkeypatch.setattr(archives, "hashed", then_gone)
    with pytest.raises(StoreError, match="try again"):
        LAYER.split(store, memory, layer)
    assert blob(store, layer.digest).exists()
    assert not recipe_path(store, layer).exists()


def test_a_layer_that_is_a_file_of_another_stays(store: Store, memory: Memory) -> None:
    inner = Layer((b"head", False), (b"body" * 100, True))
    outer = Layer((b"first", False), (inner.content, True))
    layer = inner.put(store, memory)
    assert not blob(store, layer.digest).exists()
    with pytest.raises(StoreError, match="try again"):
        outer.put(store, memory, "localhost/outer:1")
    store.untag({NAME})
    store.sweep(store.garbage())
    around = outer.put(store, memory, "localhost/outer:1")
    inner.put(store, memory)
    assert blob(store, layer.digest).exists()
    assert read(store, around, around.size) == outer.content
    assert store.check() == []
    store.untag({"localhost/outer:1"})
    store.sweep(store.garbage())
    assert read(store, layer, layer.size) == inner.content
    assert store.check() == []


# Damage.


@pytest.fixture
def layer(store: Store, memory: Memory) -> Descriptor:
    return LAYER.put(store, memory)


def heal(store: Store, memory: Memory, layer: Descriptor) -> None:
    assert not store.exists(layer)
    assert LAYER.put(store, memory) == layer
    assert read(store, layer, layer.size) == LAYER.content
    assert not blob(store, layer.digest).exists()
    assert store.check() == []
    assert not store.garbage()


def test_a_damaged_file_is_found_and_healed(
    store: Store, memory: Memory, layer: Descriptor
) -> None:
    path = blob(store, Digest.of(WEIGHTS))
    path.chmod(0o644)
    path.write_bytes(WEIGHTS[:-1] + b"?")
    whats = [problem.what for problem in store.check()]
    assert any(str(layer.digest) in what for what in whats)
    heal(store, memory, layer)


@pytest.mark.parametrize("damage", [b"", b"garbage"])
def test_a_damaged_recipe_is_found_and_healed(
    store: Store, memory: Memory, layer: Descriptor, damage: bytes
) -> None:
    recipe_path(store, layer).write_bytes(damage)
    assert [problem.name for problem in store.check()] == [NAME]
    assert store.unpacked(layer) is None
    with pytest.raises(StoreError, match="recipe"):
        store.garbage()
    with pytest.raises(NotFoundError), store.fetch(layer):
        pass
    heal(store, memory, layer)


def test_a_lost_file_is_found_and_healed(store: Store, memory: Memory, layer: Descriptor) -> None:
    blob(store, Digest.of(b"[1]")).unlink()
    assert [problem.name for problem in store.check()] == [NAME]
    assert store.unpacked(layer) is None
    with pytest.raises(StoreError, match="cannot get a name"):
        store.copy(NAME, "localhost/b:1")
    heal(store, memory, layer)


def test_a_damaged_recipe_beside_its_layer_harms_nobody(root: Path, memory: Memory) -> None:
    store = Store(root, keep_layers=True)
    layer = LAYER.put(store, memory)
    recipe_path(store, layer).write_bytes(b"garbage")
    assert store.check() == []
    garbage = store.garbage()
    assert {digest for digest, _ in garbage.blobs} == {
        file.descriptor.digest for _, file in LAYER.files
    }
    other = Layer((b"o", False), (b"other", True))
    beside = other.put(Store(root), memory, "localhost/o:1")
    assert blob(store, beside.digest).exists()  # it may be what the unreadable one is made of
    recipe_path(store, layer).unlink()
    store = Store(root)
    store.archives.settle(beside)
    assert not blob(store, beside.digest).exists()


def test_a_recipe_of_the_wrong_size_makes_nothing(
    store: Store, memory: Memory, layer: Descriptor
) -> None:
    recipe_path(store, layer).write_bytes(Recipe((b"short",), True).encode())
    assert not store.exists(layer)
    whats = [problem.what for problem in store.check() if problem.name]
    assert whats
    assert "5 bytes" in whats[0]


def test_foreign_files_among_the_recipes_are_strays(
    store: Store, memory: Memory, layer: Descriptor
) -> None:
    (store.root / "recipes/foreign").write_bytes(b"x")
    (store.root / f"recipes/.{recipe_path(store, layer).name}.0123456789abcdef").write_bytes(b"x")
    garbage = store.garbage()
    assert len(garbage.strays) == 2
    store.sweep(garbage)
    assert [path.name for path in (store.root / "recipes").iterdir()] == [
        recipe_path(store, layer).name
    ]


def test_settling_what_is_not_whole_keeps_the_layer(root: Path, memory: Memory) -> None:
    store = Store(root, keep_layers=True)
    layer = LAYER.put(store, memory)
    blob(store, Digest.of(b"[1]")).unlink()
    Store(root).archives.settle(layer)
    assert blob(store, layer.digest).exists()
    recipe_path(store, layer).unlink()
    Store(root).archives.settle(layer)
    assert blob(store, layer.digest).exists()


def test_a_layer_that_shrinks_is_refused() -> None:
    stream: BinaryIO = io.BytesIO(b"short")
    with pytest.raises(DigestMismatchError, match="shorter"):
        list(archives._pieces(stream, 10, [(7, packed(b"x"))]))
