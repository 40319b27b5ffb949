"""Archives in registries become files in the store, once, whatever else they came in."""

import contextlib
import gzip
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from artifact import OCI_MANIFEST, Artifact, compact, described, image
from gguf_writer import tiny_llama
from registry import Registry
from writers import WRITERS, Writer

from modelpm import unpacking
from modelpm.client import Client
from modelpm.content import Event, Moved, Settled, Sink, Step, read, read_manifest
from modelpm.errors import DigestMismatchError, ModelError, RegistryError, StoreError
from modelpm.model import archive
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import OCI_MANIFEST as MANIFEST_TYPE
from modelpm.store.files import Files
from modelpm.store.layout import Store
from modelpm.transfer import copy
from tests.memory import Memory, Scattered
from tests.model.test_archive import HOSTILE, entry, tar
from tests.store.conftest import tmp_path

WEIGHTS = random.Random(8).randbytes(2_500_000)
WEIGHT = "application/vnd.cncf.model.weight.v1."
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
NAME = "localhost/a:1"


__all__ = ["tmp_path"]


def digests(files: Iterable[bytes]) -> set[Digest]:
    return {Digest.of(content) for content in files}


def bring(
    store: Store,
    memory: Memory,
    *layers: Descriptor,
    config: str = "application/vnd.cncf.model.config.v1+json",
    name: str = NAME,
) -> list[Event]:
    """What a pull does with these layers; what was told."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": memory.leaf(b"{}", config).to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    root = memory.leaf(compact(document), MANIFEST_TYPE)
    events: list[Event] = []

    def tag() -> None:
        unpacking.unpack(store, root, events.append)
        store.tag(root, name)

    unpacking.spare(memory, store, root)
    copy(memory, store, root, tag=tag)
    return events


def blobs(store: Store) -> set[Digest]:
    return {digest for digest, _ in store._blobs.stored() if digest is not None}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def memory() -> Memory:
    return Memory()


# Every writer.


@pytest.fixture
def client(tmp_path: Path, loopback: Registry) -> Iterator[Client]:
    for name, writer in WRITERS.items():
        loopback.content.add(f"library/{name}", "latest", writer.make())
    with Client(tmp_path / "home", default_registry=f"{loopback.host}/library") as opened:
        yield opened


@pytest.mark.parametrize("name", WRITERS)
def test_the_files_of_every_writer_come_out(name: str, client: Client) -> None:
    model = client.pull(name)
    wanted = digests(content for _, content in WRITERS[name].files.values())
    assert wanted <= blobs(client.store)
    assert {part.descriptor.digest for part in model.parts} == wanted
    assert client.store.check() == []
    assert not client.garbage()


def test_all_writers_share_one_copy_of_the_weights(client: Client) -> None:
    """But those who compress theirs, because what they wrote cannot be made again."""
    squeezed = set()
    for name, writer in WRITERS.items():
        if writer.runs:
            layers = client.pull(name).manifest.layers
            squeezed |= {at.digest.hex for at in layers if at.media_type.endswith(("gzip", "zstd"))}
    kept = [path for path in client.home.rglob("*") if path.is_file() and path.name not in squeezed]
    assert [path for path in kept if tiny_llama() in path.read_bytes()] == [
        client.get("ollama").path
    ]
    assert client.store.check() == []


@pytest.mark.parametrize("name", [name for name, writer in WRITERS.items() if not writer.plain])
def test_layers_are_read_from_the_store_as_they_came(name: str, client: Client) -> None:
    model = client.pull(name)
    artifact = WRITERS[name].model()
    for layer in model.manifest.layers:
        assert read(client.store, layer, layer.size) == artifact.blobs[str(layer.digest)]


def test_a_second_pull_asks_for_no_blob_and_unpacks_nothing(
    client: Client, loopback: Registry
) -> None:
    client.pull("modelpack-tar")
    before = {path: path.stat().st_mtime_ns for path in client.home.rglob("recipes/*")}
    asked = len(loopback.log)
    client.pull("modelpack-tar")
    assert not [request for request in loopback.log[asked:] if "/blobs/" in request.path]
    assert {path: path.stat().st_mtime_ns for path in client.home.rglob("recipes/*")} == before


def test_layers_are_kept_for_who_wants_them(client: Client, loopback: Registry) -> None:
    """Also those that were taken apart before, without a byte from the registry."""
    names = [name for name, writer in WRITERS.items() if not writer.plain]
    for name in names:
        client.pull(name)
    apart = blobs(client.store)
    asked = len(loopback.log)
    with Client(client.home, default_registry=client.default_registry, keep_layers=True) as keeper:
        for name in names:
            for layer in keeper.pull(name).manifest.layers:
                assert (
                    keeper.store.path(layer).read_bytes()
                    == WRITERS[name].model().blobs[str(layer.digest)]
                )
        assert len(blobs(keeper.store)) > len(apart)
        assert keeper.store.check() == []
        assert not keeper.garbage()
    assert not [request for request in loopback.log[asked:] if "/blobs/" in request.path]
    for name in names:
        client.pull(name)
    assert blobs(client.store) == apart


def test_a_damaged_file_makes_no_layer(client: Client) -> None:
    model = client.pull("modelpack-tar")
    (weights,) = (part for part in model.parts if part.name.endswith(".gguf"))
    path = client.store.path(weights.descriptor)
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    keeper = Store(client.home, keep_layers=True)
    keeper.prepare()
    (layer,) = (
        layer
        for layer in model.manifest.layers
        if weights.descriptor in {file.descriptor for file in keeper.unpacked(layer) or ()}
    )
    with pytest.raises(DigestMismatchError):
        keeper.archives.settle(layer)
    assert layer.digest not in blobs(keeper)


def test_removing_and_pruning_leaves_nothing(client: Client) -> None:
    for name in WRITERS:
        client.pull(name)
    client.remove(list(WRITERS))
    client.prune(client.garbage())
    left = {path.name for path in client.home.rglob("*") if path.is_file()}
    assert left == {"lock", "reserve", "oci-layout", "modelpm.json", "index.json"}


def test_a_moved_tag_takes_the_old_files_with_it(client: Client, loopback: Registry) -> None:
    make: Callable[[], Artifact] = WRITERS["modelpack-tar"].make
    loopback.content.add("library/moved", "latest", make())
    client.pull("moved")
    assert Digest.of(tiny_llama()) in blobs(client.store)
    loopback.content.add("library/moved", "latest", WRITERS["modelpack-shards"].make())
    client.pull("moved")
    assert Digest.of(tiny_llama()) not in blobs(client.store)
    assert not client.garbage()


# What is an archive, and what is not.

PLAIN = tar(entry("model.gguf", WEIGHTS), entry("config.json", b"{ }"), entry("empty", b""))
FILES = (WEIGHTS, b"{ }", b"")


def squeezed(content: bytes) -> dict[str, bytes]:
    return {
        "tar": content,
        "tar+gzip": gzip.compress(content, 1, mtime=0),
        "tar+zstd": zstandard.compress(content),
    }


def assert_told(events: list[Event], *layers: Descriptor) -> None:
    """The unpacking of these layers, in this order, was told with all its bytes."""
    assert events[0] == Step("unpacking", leaves=layers)
    rest = events[1:]
    for layer in layers:
        told = rest[: rest.index(Settled(layer, present=False))]
        rest = rest[len(told) + 1 :]
        offsets = [each.offset for each in told if each == Moved(layer, getattr(each, "offset", 0))]
        assert len(offsets) == len(told)
        assert offsets[0] == 0
        assert offsets == sorted(set(offsets))
        assert layer.size - 2**21 < offsets[-1] <= layer.size
    assert rest == []


def test_how_far_it_is_is_told_of_all_layers(store: Store, memory: Memory) -> None:
    big = random.Random(9).randbytes(9_000_000)
    layers = [
        memory.leaf(squeezed(tar(entry(f"{kind}.bin", big + kind.encode())))[kind], WEIGHT + kind)
        for kind in ("tar", "tar+gzip", "tar+zstd")
    ]
    events = bring(store, memory, *layers)
    assert_told(events, *layers)
    for layer in layers:
        told = [each for each in events if isinstance(each, Moved) and each.descriptor == layer]
        assert 5 < len(told) < 10


@pytest.mark.parametrize("kind", ["tar", "tar+gzip", "tar+zstd"])
@pytest.mark.parametrize("claimed", ["tar", "tar+gzip", "tar+zstd"])
def test_bytes_beat_the_media_type(kind: str, claimed: str, store: Store, memory: Memory) -> None:
    layer = memory.leaf(squeezed(PLAIN)[kind], WEIGHT + claimed)
    events = bring(store, memory, layer)
    assert_told(events, layer)
    assert [file.name for file in store.unpacked(layer) or ()] == [
        "model.gguf",
        "config.json",
        "empty",
    ]
    assert digests(FILES) <= blobs(store)
    assert (layer.digest in blobs(store)) == (kind != "tar")
    assert read(store, layer, layer.size) == squeezed(PLAIN)[kind]
    assert store.check() == []
    assert bring(store, memory, layer) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [(gzip.compress(WEIGHTS, 1), "raw+gzip"), (zstandard.compress(WEIGHTS), "raw+zstd")],
)
def test_one_compressed_file_comes_out_without_a_name(
    content: bytes, told: str, store: Store, memory: Memory
) -> None:
    layer = memory.leaf(content, f"application/vnd.kitops.modelkit.model.v1.{told}")
    bring(store, memory, layer)
    (file,) = store.unpacked(layer) or ()
    assert (file.name, file.descriptor.digest) == ("", Digest.of(WEIGHTS))
    assert store.path(file.descriptor).read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("content", "media_type", "annotations"),
    [
        (WEIGHTS, LAYER, {}),
        (tiny_llama(), WEIGHT + "tar", {}),
        (gzip.compress(WEIGHTS), WEIGHT + "tar+gzip", {}),
        (PLAIN, WEIGHT + "raw", {}),
        (PLAIN, "application/octet-stream", {}),
        (b"", WEIGHT + "tar", {}),
        (PLAIN, LAYER, {"org.opencontainers.image.title": "data.tar"}),
        (PLAIN, "application/vnd.ollama.image.model", {}),
    ],
)
def test_what_is_no_archive_stays(
    content: bytes, media_type: str, annotations: dict[str, str], store: Store, memory: Memory
) -> None:
    plain = memory.leaf(content, media_type)
    layer = Descriptor(media_type, plain.digest, plain.size, annotations=annotations)
    assert bring(store, memory, layer) == []
    assert store.unpacked(layer) is None
    assert store.path(layer).read_bytes() == content


@pytest.mark.parametrize(
    "annotations",
    [
        {"io.deis.oras.content.unpack": "true"},
        {"olot.layer.content.digest": str(Digest.of(WEIGHTS))},
        {"org.opencontainers.image.title": "model"},
    ],
)
def test_an_archive_that_is_called_one_is_unpacked_where_its_writer_means_it(
    annotations: dict[str, str],
) -> None:
    told = {"org.opencontainers.image.title": "model.tar"} | annotations
    assert unpacking.is_packed(Descriptor(LAYER, Digest.of(b""), 0, annotations=told))


def test_of_an_image_only_the_models_come_out(store: Store, memory: Memory) -> None:
    base = tar(
        entry("bin/busybox", b"x" * 2_000, mode=0o4755),
        entry("bin/sh", type=b"1", linkname="bin/busybox"),
    )
    models = tar(
        entry("models/model.gguf", WEIGHTS),
        entry("models/model.file", type=b"2", linkname="/etc/passwd"),
    )
    layers = memory.leaf(base, LAYER), memory.leaf(gzip.compress(base), f"{LAYER}+gzip")
    model = memory.leaf(models, LAYER)
    bring(store, memory, *layers, model, config=IMAGE_CONFIG)
    assert [store.unpacked(layer) for layer in layers] == [(), ()]
    assert [file.name for file in store.unpacked(model) or ()] == ["models/model.gguf"]
    assert {layer.digest for layer in layers} <= blobs(store)
    assert model.digest not in blobs(store)
    assert bring(store, memory, *layers, model, config=IMAGE_CONFIG) == []


@pytest.mark.parametrize("kind", ["tar", "tar+gzip"])
def test_a_layer_of_an_image_has_all_its_files_in_another_format(
    kind: str, store: Store, memory: Memory
) -> None:
    """Whichever of the two is pulled first; what an image has outside `models` is not looked at."""
    files = {"models/a.gguf": b"GGUF" * 9, "etc/x.json": b"[]"}
    content = squeezed(tar(*(entry(name, content) for name, content in files.items())))[kind]
    layer = memory.leaf(content, WEIGHT + kind)
    bring(store, memory, layer, config=IMAGE_CONFIG, name="localhost/image:1")
    assert [file.name for file in store.unpacked(layer) or ()] == ["models/a.gguf"]
    for tag, config in (("2", "application/vnd.cncf.model.config.v1+json"), ("3", IMAGE_CONFIG)):
        bring(store, memory, layer, config=config, name=f"localhost/a:{tag}")
        assert [file.name for file in store.unpacked(layer) or ()] == list(files)
    assert read(store, layer, layer.size) == content
    assert store.check() == []
    assert not store.garbage()


def test_the_same_file_twice_is_kept_once(store: Store, memory: Memory) -> None:
    layer = memory.leaf(tar(entry("a", WEIGHTS), entry("b", WEIGHTS)), WEIGHT + "tar")
    bring(store, memory, layer)
    assert len(store.unpacked(layer) or ()) == 2
    assert sum(path.stat().st_size for path in store.root.rglob("blobs/*/*")) < 2_600_000


def test_layers_share_their_files(store: Store, memory: Memory) -> None:
    layers = [memory.leaf(squeezed(PLAIN)[kind], WEIGHT + kind) for kind in squeezed(PLAIN)]
    raw = memory.leaf(WEIGHTS, WEIGHT + "raw")
    bring(store, memory, layers[0])
    memory.fetched.clear()
    bring(store, memory, raw, name="localhost/raw:1")
    assert raw.digest not in {digest for digest, _ in memory.fetched}
    bring(store, memory, *layers, raw, name="localhost/all:1")
    for layer in layers:
        assert len(store.unpacked(layer) or ()) == 3
    store.untag({NAME})
    store.sweep(store.garbage())
    assert store.check() == []


def test_a_store_from_before_is_unpacked_by_the_next_pull(store: Store, memory: Memory) -> None:
    layer = memory.leaf(PLAIN, WEIGHT + "tar")
    root = memory.image(layer)
    copy(memory, store, root, tag=lambda: store.tag(root, NAME))
    assert store.unpacked(layer) is None
    bring(store, memory, layer)
    assert store.unpacked(layer) is not None
    assert layer.digest not in blobs(store)


def test_a_lost_note_is_made_again(store: Store, memory: Memory) -> None:
    layer = memory.leaf(squeezed(PLAIN)["tar+gzip"], WEIGHT + "tar+gzip")
    bring(store, memory, layer)
    (store.root / "recipes" / f"sha256-{layer.digest.hex}").unlink()
    assert store.unpacked(layer) is None
    assert_told(bring(store, memory, layer), layer)
    assert len(store.unpacked(layer) or ()) == 3


@pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_NAMES"])
def test_an_archive_of_very_many_files_stays(
    limit: str, store: Store, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, limit, 2)
    layer = memory.leaf(PLAIN, WEIGHT + "tar")
    bring(store, memory, layer)
    assert store.unpacked(layer) is None
    assert store.path(layer).read_bytes() == PLAIN


def test_an_archive_in_an_archive_stays(store: Store, memory: Memory) -> None:
    inner = memory.leaf(PLAIN, WEIGHT + "tar")
    content = tar(entry("inner.tar", PLAIN))
    outer = memory.leaf(content, WEIGHT + "tar")
    bring(store, memory, inner)
    bring(store, memory, outer, name="localhost/b:1")
    assert store.unpacked(outer) is None
    assert store.path(outer).read_bytes() == content
    assert store.check() == []


class Pruned(Files):
    """Files of one process, while another prunes before each of its operations."""

    def __init__(self, root: Path) -> None:
        super().__init__(self.step)
        self.other = Store(root)
        self.other._files.lock_wait = 0.0
        self.prunes = 0
        self.busy = False

    def step(self, _operation: str, _path: Path) -> None:
        if self.busy or not (self.other.root / "lock").exists():
            return
        self.busy = True
        try:
            with contextlib.suppress(StoreError):  # the lock is ours just now
                self.other.sweep(self.other.garbage())
                self.prunes += 1
        finally:
            self.busy = False


@pytest.mark.parametrize("kind", squeezed(PLAIN))
def test_a_prune_at_any_moment_takes_nothing_that_is_needed(
    kind: str, tmp_path: Path, memory: Memory
) -> None:
    files = Pruned(tmp_path / "store")
    store = Store(tmp_path / "store", files=files)
    layer = memory.leaf(squeezed(PLAIN)[kind], WEIGHT + kind)
    bring(store, memory, layer)
    assert files.prunes > 20
    assert store.check() == []
    assert len(store.unpacked(layer) or ()) == 3
    assert read(store, layer, layer.size) == squeezed(PLAIN)[kind]


# What is refused.


@pytest.mark.parametrize("kind", ["tar", "tar+zstd"])
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_of_a_hostile_archive_is_kept(
    name: str, kind: str, store: Store, memory: Memory
) -> None:
    bad, _ = HOSTILE[name]
    if name in {"cut header", "huge size", "no checksum"} or not archive.packing(bad):
        pytest.skip("its first header is no header, so it is no archive")
    good = tar(entry("good.gguf", b"good" * 50_000))[: 512 + 200_192]
    layer = memory.leaf(squeezed(good + bad)[kind], WEIGHT + kind)
    with pytest.raises(ModelError):
        bring(store, memory, layer)
    assert store.entries() == []
    assert Digest.of(b"good" * 50_000) not in blobs(store)
    assert not (store.root / "recipes").exists() or not list((store.root / "recipes").iterdir())
    store.sweep(store.garbage())
    assert blobs(store) == set()


def test_a_bomb_writes_nothing(
    store: Store, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "SMALL", 100_000)
    bomb = tar(entry("first", b"x" * 50_000), entry("zeros", bytes(30_000_000)))
    for kind in ("tar+gzip", "tar+zstd"):
        layer = memory.leaf(squeezed(bomb)[kind], WEIGHT + kind)
        with pytest.raises(ModelError, match=r"claims|unpacks"):
            bring(store, memory, layer)
        assert Digest.of(b"x" * 50_000) not in blobs(store)
    cut = squeezed(tar(entry("a", random.Random(1).randbytes(300_000))))["tar+zstd"][:-200_000]
    with pytest.raises(ModelError, match="middle of a member"):
        bring(store, memory, memory.leaf(cut, WEIGHT + "tar+zstd"))


def test_many_small_bombs_are_no_more_than_one(
    store: Store, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "SMALL", 5_000_000)
    files = [b"%02d" % number + bytes(2_000_000) for number in range(8)]
    bombs = [squeezed(tar(entry("zeros", content)))["tar+zstd"] for content in files]
    layers = [memory.leaf(bomb, WEIGHT + "tar+zstd") for bomb in bombs]
    for _ in range(2):  # what a first attempt kept counts for the next one
        with pytest.raises(ModelError, match="claims"):
            bring(store, memory, *layers)
        assert len(digests(files) & blobs(store)) == 2
    assert store.entries() == []


def test_files_without_number_are_not_written(
    store: Store, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "MAX_PARTS", 4)
    files = [b"%d" % number for number in range(12)]
    layers = [
        memory.leaf(
            tar(*(entry(f"{at}", files[at]) for at in range(start, start + 3))), WEIGHT + "tar"
        )
        for start in range(0, 12, 3)
    ]
    with pytest.raises(ModelError, match="more than 4 files"):
        bring(store, memory, *layers)
    assert len(digests(files) & blobs(store)) == 6
    assert store.entries() == []


def test_an_archive_whose_bytes_change_is_not_believed(store: Store, memory: Memory) -> None:
    """A compressed stream is read twice; what differs the second time is refused."""
    layer = memory.leaf(squeezed(PLAIN)["tar+zstd"], WEIGHT + "tar+zstd")
    store.push(layer, memory)
    with store.fetch(layer) as stream:
        inside = unpacking._Inside(stream, archive.Member("x", 10, 100_000))
        wrong = Descriptor("", Digest.of(b"x"), 100_000)
        with pytest.raises(DigestMismatchError):
            store.push(wrong, inside)
    ended = unpacking._Inside(_ended(), archive.Member("x", 10, 100))
    with pytest.raises(DigestMismatchError):
        store.push(Descriptor("", Digest.of(b"x"), 100), ended)


def _ended() -> Any:
    return archive.Decompressed(lambda _count: b"", 1_000)


# What need not be fetched.


def olot(content: bytes, **told: str) -> Artifact:
    """A modelcar's layer as olot writes it, in a ModelPack manifest."""
    packed = tar(entry("models/", type=b"5"), entry("models/model.gguf", content))
    annotations = {
        "olot.layer.content.digest": str(Digest.of(content)),
        "olot.layer.content.type": "file",
    } | told
    layer = described(LAYER, packed, annotations=annotations)
    config = described(IMAGE_CONFIG, b"{}")
    return image(config, [layer], [b"{}", packed])


class Counting(Scattered):
    """A source that counts what it was asked for."""

    def __init__(self) -> None:
        super().__init__({}, 20_000, 1)
        self.asked = 0
        self.downloads = 0

    def download(self, desc: Descriptor, sink: Sink) -> None:
        self.downloads += 1
        self.asked += sum(stop - start for start, stop in sink.missing())
        super().download(desc, sink)

    def put(self, artifact: Artifact) -> Descriptor:
        for digest, content in artifact.all_blobs.items():
            self.content[Digest.parse(digest)] = content
        return Descriptor(
            artifact.media_type, Digest.parse(artifact.digest), len(artifact.manifest)
        )

    def pull(self, store: Store, artifact: Artifact, name: str = NAME) -> Descriptor:
        """Bring the artifact as a pull does. Returns its only layer."""
        root = self.put(artifact)

        def tag() -> None:
            unpacking.unpack(store, root)
            store.tag(root, name)

        unpacking.spare(self, store, root)
        copy(self, store, root, tag=tag)
        (layer,) = read_manifest(store, root).layers
        return layer


def test_of_a_known_file_only_what_is_around_it_is_fetched(store: Store) -> None:
    source = Counting()
    store.push(source.leaf(WEIGHTS), source)
    source.asked = 0
    layer = source.pull(store, olot(WEIGHTS))
    assert source.asked < 50_000
    assert read(store, layer, layer.size) == source.content[layer.digest]
    assert [file.name for file in store.unpacked(layer) or ()] == ["models/model.gguf"]
    assert layer.digest not in blobs(store)
    assert store.check() == []


def test_three_formats_are_one_copy_and_fetched_once(tmp_path: Path, loopback: Registry) -> None:
    raw = image(
        described("application/vnd.cncf.model.config.v1+json", b"{}"),
        [described(WEIGHT + "raw", WEIGHTS)],
        [b"{}", WEIGHTS],
    )
    docker = image(
        described("application/vnd.docker.ai.model.config.v0.1+json", b"{}"),
        [described("application/vnd.docker.ai.gguf.v3", WEIGHTS)],
        [b"{}", WEIGHTS],
    )
    for name, made in (("raw", raw), ("olot", olot(WEIGHTS)), ("docker", docker)):
        loopback.content.add(f"library/{name}", "latest", made)
    with Client(tmp_path / "home", default_registry=f"{loopback.host}/library") as client:
        client.pull("raw")
        asked = len(loopback.log)
        for name in ("olot", "docker"):
            client.pull(name)
        ranges = [
            request.headers.get("range", "")
            for request in loopback.log[asked:]
            if "/blobs/" in request.path and request.method == "GET"
        ]
        client.store.sweep(client.store.garbage())
        assert client.store.check() == []
    size = sum(path.stat().st_size for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert size < len(WEIGHTS) * 1.01
    assert len(ranges) == 2
    assert all(told.startswith("bytes=") for told in ranges)


@pytest.mark.parametrize(
    "told",
    [
        {"olot.layer.content.digest": "sha256:short"},
        {"olot.layer.content.digest": ""},
        {"olot.layer.content.digest": str(Digest.of(b"not here"))},
        {"olot.layer.content.digest": str(Digest.of(b"little"))},
        {"olot.layer.content.digest": str(Digest.of(b"w" * len(WEIGHTS)))},
        {"olot.layer.content.type": "directory"},
    ],
)
def test_what_raises_doubts_is_fetched_whole(told: dict[str, str], store: Store) -> None:
    source = Counting()
    for content in (WEIGHTS, b"little", b"w" * len(WEIGHTS)):
        store.push(source.leaf(content), source)
    source.asked = 0
    layer = source.pull(store, olot(WEIGHTS, **told))
    assert source.asked >= layer.size
    assert [file.descriptor.digest for file in store.unpacked(layer) or ()] == [Digest.of(WEIGHTS)]
    assert layer.digest not in blobs(store)
    assert store.check() == []


def test_a_digest_without_its_algorithm_is_understood(store: Store) -> None:
    source = Counting()
    store.push(source.leaf(WEIGHTS), source)
    source.asked = 0
    source.pull(store, olot(WEIGHTS, **{"olot.layer.content.digest": Digest.of(WEIGHTS).hex}))
    assert source.asked < 50_000


def test_a_layer_of_more_files_is_fetched_whole(store: Store) -> None:
    source = Counting()
    store.push(source.leaf(WEIGHTS), source)
    packed = tar(entry("models/model.gguf", WEIGHTS), entry("models/more", b"more"))
    annotations = {"olot.layer.content.digest": str(Digest.of(WEIGHTS))}
    layer = described(LAYER, packed, annotations=annotations)
    source.asked = 0
    found = source.pull(store, image(described(IMAGE_CONFIG, b"{}"), [layer], [b"{}", packed]))
    assert source.asked > len(WEIGHTS)
    assert len(store.unpacked(found) or ()) == 2


@pytest.mark.parametrize("where", ["other place", "no such member", "no archive"])
def test_headers_that_lead_nowhere_are_fetched_whole(where: str, store: Store) -> None:
    source = Counting()
    store.push(source.leaf(WEIGHTS), source)
    size = len(WEIGHTS)
    packed = {
        "other place": tar(entry("models/model.gguf", WEIGHTS[:-1] + b"!")),
        "no such member": tar(entry("models/model.gguf", WEIGHTS[:-700])) + bytes(700),
        "no archive": b"\1" * (size + 10_000),
    }[where]
    annotations = {"olot.layer.content.digest": str(Digest.of(WEIGHTS))}
    layer = described(LAYER, packed, annotations=annotations)
    source.asked = 0
    found = source.pull(store, image(described(IMAGE_CONFIG, b"{}"), [layer], [b"{}", packed]))
    assert source.asked > size
    assert read(store, found, found.size) == packed


def test_a_layer_that_is_here_is_not_asked_for(store: Store) -> None:
    source = Counting()
    source.pull(store, olot(WEIGHTS))
    source.downloads = 0
    source.pull(store, olot(WEIGHTS))
    assert source.downloads == 0


def test_a_registry_that_fails_meanwhile_is_asked_again(store: Store) -> None:
    class Failing(Counting):
        def download(self, desc: Descriptor, sink: Sink) -> None:
            if len(sink.missing()) == 2:
                raise RegistryError("gone")
            super().download(desc, sink)

    source = Failing()
    store.push(source.leaf(WEIGHTS), source)
    layer = source.pull(store, olot(WEIGHTS))
    assert store.unpacked(layer) is not None


def test_edges_drop_what_they_do_not_want() -> None:
    edges = unpacking._Edges(100, 10)
    assert edges.missing() == [(0, 10), (90, 100)]
    for offset, chunk in ((0, b"ab"), (50, b"no"), (9, b"no"), (98, b"yz")):
        edges.write(offset, chunk)
    assert (bytes(edges.first[:3]), bytes(edges.last[-3:])) == (b"ab\0", b"\0yz")


def test_the_table_has_what_is_tested_here() -> None:
    packed: list[Writer] = [writer for writer in WRITERS.values() if not writer.plain]
    assert len(packed) > 8
