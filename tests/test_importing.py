"""Models of other programs: found, adopted, verified; their folders stay as they were."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import build
import pytest
from artifact import compact, described, image
from gguf_writer import tiny_llama
from ollama_artifacts import Recipe, artifact

from modelpm.client import Client
from modelpm.content import Event, Moved, Settled, Step
from modelpm.errors import (
    DigestMismatchError,
    InvalidReferenceError,
    ModelError,
    NotFoundError,
    StoreError,
)
from modelpm.foreign import found as finding
from modelpm.foreign import huggingface, lmstudio, ollama
from modelpm.foreign.found import Found, full_name, tag_of
from modelpm.model.model import Role
from modelpm.oci.descriptor import Digest
from modelpm.store.layout import Store
from tests import places

LARGE = 2**20
"""Bytes from which a file is linked, not copied."""
LIBRARY = "registry.ollama.ai/library"
CONFIG = b'{"model_type":"qwen2","max_position_embeddings":512}'


def large_llama() -> bytes:
    """A tiny llama that is worth a link."""
    return tiny_llama(name="x" * LARGE)


def safetensors(name: str = "a") -> bytes:
    header = {name: {"dtype": "F16", "shape": [600], "data_offsets": [0, 1200]}}
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + bytes(1200)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def client(tmp_path: Path, events: list[Event]) -> Client:
    return Client(tmp_path / "home", observe=events.append)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


def one(client: Client, program: str, place: Path) -> Found:
    (found,) = client.foreign(program, place)
    return found


def by_name(client: Client, program: str, place: Path) -> dict[str, Found]:
    return {found.name: found for found in client.foreign(program, place)}


def fetched(client: Client, digest: str) -> bytes:
    return (client.home / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()


# Ollama


def test_a_model_of_ollama_keeps_its_bytes_and_its_name(client: Client, place: Path) -> None:
    model = build.LAYOUTS["ollama"]()
    places.ollama(place, {f"{LIBRARY}/tiny/latest": model})
    before = places.state(place)
    found = one(client, "ollama", place)
    assert (found.name, found.reference) == ("tiny:latest", f"{LIBRARY}/tiny:latest")
    assert found.size == sum(map(len, model.blobs.values()))
    assert found.fits("tiny")
    assert found.fits(f"{LIBRARY}/TINY:latest")
    taken = client.import_(found)
    assert taken.short_name == "tiny:latest"
    assert taken.manifest.raw == model.manifest
    assert taken.path.read_bytes() == tiny_llama()
    assert client.store.check() == []
    assert places.state(place) == before


@pytest.mark.parametrize(
    ("path", "reference"),
    [
        ("registry.ollama.ai/acme/tiny/7b", "registry.ollama.ai/acme/tiny:7b"),
        ("registry.ollama.ai/Acme/Tiny/Q4_K_M", "registry.ollama.ai/acme/tiny:Q4_K_M"),
        ("hf.co/Acme/Tiny-GGUF/Q4_K_M", "hf.co/Acme/Tiny-GGUF:Q4_K_M"),
        ("localhost:5000/acme/tiny/x", "localhost:5000/acme/tiny:x"),
        ("registry.ollama.ai/library/__/x", ""),
    ],
)
def test_names_of_ollama(client: Client, place: Path, path: str, reference: str) -> None:
    places.ollama(place, {path: build.LAYOUTS["ollama"]()})
    found = one(client, "ollama", place)
    assert found.reference == reference
    if reference:
        assert client.import_(found).name == reference
    else:
        with pytest.raises(InvalidReferenceError, match="--as"):
            client.import_(found)
        assert client.import_(found, "mine").short_name == "mine:latest"
        with pytest.raises(InvalidReferenceError, match="not a digest"):
            client.import_(found, f"mine@sha256:{'0' * 64}")


def test_what_is_here_is_skipped(client: Client, place: Path, events: list[Event]) -> None:
    model = build.LAYOUTS["ollama"]()
    places.ollama(place, {f"{LIBRARY}/tiny/latest": model, f"{LIBRARY}/other/1": model})
    found = by_name(client, "ollama", place)
    client.import_(found["tiny:latest"])
    index = (client.home / "index.json").read_bytes()
    events.clear()
    client.import_(found["tiny:latest"])
    assert not [event for event in events if isinstance(event, Step)]
    assert (client.home / "index.json").read_bytes() == index
    client.import_(found["other:1"])
    assert [event.stage for event in events if isinstance(event, Step)] == ["tagging", "done"]


def test_a_name_that_is_taken_stays(client: Client, place: Path) -> None:
    places.ollama(place, {f"{LIBRARY}/tiny/latest": build.LAYOUTS["ollama"]()})
    old = client.import_(one(client, "ollama", place)).digest
    recipe = Recipe(weights=tiny_llama(), system="other")
    other = artifact(recipe, size="1", quantization="Q8_0")
    places.ollama(place, {f"{LIBRARY}/tiny/latest": other})
    with pytest.raises(StoreError, match="another model"):
        client.import_(one(client, "ollama", place))
    assert client.get("tiny").digest == old
    assert str(client.import_(one(client, "ollama", place), "tiny:new").digest) == other.digest


def test_large_files_are_taken_in_without_a_copy(
    client: Client, place: Path, events: list[Event]
) -> None:
    weights = large_llama()
    recipe = Recipe(weights=weights, system="brief")
    places.ollama(
        place, {f"{LIBRARY}/tiny/latest": artifact(recipe, size="1", quantization="Q8_0")}
    )
    before = places.state(place)
    model = client.import_(one(client, "ollama", place))
    blob = place / "blobs" / f"sha256-{Digest.of(weights).hex}"
    same = model.path.samefile(blob)
    assert same or blob.stat().st_nlink == 1  # a reflink is as good
    assert places.state(place) == before
    assert client.store.check() == []
    steps = [event.subject for event in events if isinstance(event, Step)]
    assert Digest.of(weights).short in steps
    assert any(isinstance(event, Moved) for event in events)
    assert any(isinstance(event, Settled) for event in events)


Break = Callable[[Path], object]


def first(place: Path, pattern: str) -> Path:
    return max(place.rglob(pattern), key=lambda path: path.lstat().st_size)


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def foldered(path: Path) -> None:
    path.unlink()
    path.mkdir()


def relinked(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


DAMAGED: dict[str, tuple[Break, str]] = {
    "a blob is missing": (lambda p: first(p, "sha256-*").unlink(), "not finished"),
    "a blob is short": (lambda p: os.truncate(first(p, "sha256-*"), 5), "damaged"),
    "a blob is a link": (
        lambda p: relinked(first(p, "sha256-*"), Path("/etc/passwd")),
        "no regular file",
    ),
    "a blob is a pipe": (
        lambda p: piped(first(p, "sha256-*")),
        "no regular file",
    ),
    "the manifest is cut": (lambda p: os.truncate(first(p, "latest"), 50), "JSON"),
    "the manifest is huge": (lambda p: os.truncate(first(p, "latest"), 2**23), "larger"),
    "the manifest is a link": (
        lambda p: relinked(first(p, "latest"), Path("/etc/passwd")),
        "symbolic link",
    ),
    "the manifest is a folder": (
        lambda p: foldered(first(p, "latest")),
        "regular file",
    ),
    "the manifest is an index": (
        lambda p: first(p, "latest").write_bytes(build.LAYOUTS["index"]().manifest),
        "index",
    ),
    "a digest is a path": (
        lambda p: first(p, "latest").write_bytes(
            first(p, "latest").read_bytes().replace(b"sha256:", b"sha256:../")
        ),
        "digest",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_told_and_the_others_go_on(client: Client, place: Path, case: str) -> None:
    spoil, message = DAMAGED[case]
    bad = Recipe(weights=tiny_llama(name="bad"), system="bad")
    places.ollama(place, {f"{LIBRARY}/bad/latest": artifact(bad, size="1", quantization="Q8_0")})
    spoil(place)
    places.ollama(place, {f"{LIBRARY}/good/1": build.LAYOUTS["ollama"]()})
    before = places.state(place)
    found = by_name(client, "ollama", place)
    assert message in found["bad:latest"].flaw
    with pytest.raises(ModelError, match="bad"):
        client.import_(found["bad:latest"])
    assert not client.home.exists()
    client.import_(found["good:1"])
    assert [model.short_name for model in client.list()] == ["good:1"]
    assert places.state(place) == before


def test_bytes_that_turned_are_noticed(client: Client, place: Path) -> None:
    places.ollama(place, {f"{LIBRARY}/tiny/latest": build.LAYOUTS["ollama"]()})
    blob = first(place, "sha256-*")
    blob.write_bytes(b"GGUF" + bytes(blob.stat().st_size - 4))
    found = one(client, "ollama", place)
    with pytest.raises(DigestMismatchError, match="damaged"):
        client.import_(found)
    assert client.list() == ()
    client.prune(client.garbage())
    assert list((client.home / "blobs" / "sha256").iterdir()) == []


def test_what_is_no_model_is_refused_before_a_byte_moves(client: Client, place: Path) -> None:
    config = described("application/vnd.oci.image.config.v1+json", b"{}")
    layer = described("application/vnd.oci.image.layer.v1.tar+gzip", b"\x1f\x8b")
    places.ollama(place, {f"{LIBRARY}/x/1": image(config, [layer], [b"{}", b"\x1f\x8b"])})
    with pytest.raises(ModelError):
        client.import_(one(client, "ollama", place))
    assert not (client.home / "blobs").exists() or not any(
        (client.home / "blobs" / "sha256").iterdir()
    )


def test_early_names_of_blobs_are_read(client: Client, place: Path) -> None:
    places.ollama(place, {f"{LIBRARY}/tiny/latest": build.LAYOUTS["ollama"]()})
    for blob in (place / "blobs").iterdir():
        blob.rename(blob.with_name(blob.name.replace("-", ":")))
    client.import_(one(client, "ollama", place))
    assert client.store.check() == []


def test_the_place_may_be_named_from_above(client: Client, place: Path) -> None:
    places.ollama(place / "models", {f"{LIBRARY}/tiny/latest": build.LAYOUTS["ollama"]()})
    assert one(client, "ollama", place).name == "tiny:latest"
    with pytest.raises(NotFoundError, match="Ollama"):
        client.foreign("ollama", place / "none")
    (place / "models" / "manifests" / "stray").write_text("x")
    assert len(client.foreign("ollama", place)) == 1


def test_too_many_models_are_refused(
    client: Client, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ollama, huggingface, lmstudio):
        monkeypatch.setattr(module, "MAX_FOUND", 1)
    model = build.LAYOUTS["ollama"]()
    places.ollama(place / "o", {f"{LIBRARY}/a/1": model, f"{LIBRARY}/b/1": model})
    for name in "ab":
        places.hugging_face(place / "h", f"acme/{name}", {"m.gguf": tiny_llama()})
    files = {f"p/m/{name}.gguf": tiny_llama() for name in "ab"}
    places.lm_studio(place / "l", files)
    for program, folder in (("ollama", "o"), ("hf", "h"), ("lmstudio", "l")):
        with pytest.raises(StoreError, match="more than 1 models"):
            client.foreign(program, place / folder)


# Hugging Face


FILES = {
    "config.json": CONFIG,
    "model.safetensors": safetensors(),
    "tokenizer/tokenizer.json": b"{}",
    "README.md": b"# tiny\n",
    ".gitattributes": b"*.bin filter=lfs\n",
}


def test_a_revision_becomes_a_modelpack(client: Client, place: Path) -> None:
    places.hugging_face(place, "Acme/Tiny", FILES)
    before = places.state(place)
    found = one(client, "hf", place)
    assert (found.name, found.reference) == ("Acme/Tiny", "hf.co/Acme/Tiny:latest")
    model = client.import_(found)
    assert {part.name: part.role for part in model.parts} == {
        "model.safetensors": Role.WEIGHTS,
        "config.json": Role.CONFIG,
        "tokenizer/tokenizer.json": Role.TOKENIZER,
        "README.md": Role.DOCUMENT,
    }
    for part in model.parts:
        assert fetched(client, str(part.descriptor.digest)) == FILES[part.name]
    assert model.model.dialect.name == "modelpack"
    assert dict(model.manifest.annotations) == {
        "org.opencontainers.image.source": "https://huggingface.co/Acme/Tiny",
        "org.opencontainers.image.revision": places.COMMIT,
    }
    assert model.model.facts.family == "qwen2"
    assert client.store.check() == []
    assert places.state(place) == before


def test_the_same_files_make_the_same_digest(tmp_path: Path) -> None:
    digests = set()
    for number, order in enumerate((list(FILES), sorted(FILES, reverse=True))):
        place = tmp_path / f"p{number}"
        places.hugging_face(place, "Acme/Tiny", {name: FILES[name] for name in order})
        with Client(tmp_path / f"h{number}") as client:
            digests.add(client.import_(one(client, "hf", place)).digest)
    assert len(digests) == 1


def test_revisions_have_names_of_their_own(client: Client, place: Path) -> None:
    places.hugging_face(place, "acme/tiny", {"m.gguf": tiny_llama()})
    new = {"m.gguf": tiny_llama(name="new")}
    places.hugging_face(place, "acme/tiny", new, commit=places.OTHER, ref="refs/pr/1")
    places.hugging_face(place, "acme/tiny", new, commit="a" * 40, ref="")
    places.hugging_face(place, "gpt2", {"m.gguf": tiny_llama()})
    found = by_name(client, "hf", place)
    assert {each.name: each.reference for each in found.values()} == {
        "acme/tiny": "hf.co/acme/tiny:latest",
        "acme/tiny@refs/pr/1": "hf.co/acme/tiny:refs-pr-1",
        f"acme/tiny@{'a' * 40}": f"hf.co/acme/tiny:{'a' * 40}",
        "gpt2": "hf.co/gpt2:latest",
    }
    assert found["acme/tiny"].fits(f"acme/tiny@{places.COMMIT}")
    assert found["acme/tiny"].fits("hf.co/acme/tiny")
    assert not found["acme/tiny@refs/pr/1"].fits("acme/tiny")
    for each in found.values():
        client.import_(each)
    assert len(client.list()) == 4


def test_what_holds_no_weights_is_no_model(client: Client, place: Path) -> None:
    places.hugging_face(place, "acme/data", {"README.md": b"x"})
    (place / "datasets--acme--d").mkdir()
    (place / "models--acme--empty").mkdir()
    assert client.foreign("hf", place) == ()
    with pytest.raises(NotFoundError):
        client.foreign("hf", place / "models--acme--data")


def test_several_quantizations_are_one_artifact(client: Client, place: Path) -> None:
    files = {"a-Q8_0.gguf": tiny_llama(), "b-Q4_0.gguf": tiny_llama(name="b")}
    places.hugging_face(place, "acme/tiny", files)
    model = client.import_(one(client, "hf", place))
    with pytest.raises(ModelError, match="two models"):
        _ = model.path
    assert model.model.choosing("b-Q4_0").weights.name == "b-Q4_0.gguf"


def _snapshot(place: Path) -> Path:
    return place / "models--acme--tiny" / "snapshots" / places.COMMIT


BROKEN: dict[str, tuple[Break, str]] = {
    "a link leads out": (
        lambda p: (_snapshot(p) / "extra.json").symlink_to("/etc/passwd"),
        "leads out of",
    ),
    "a link leads to another repository": (
        lambda p: (_snapshot(p) / "extra.json").symlink_to("../../../models--other/blobs/x"),
        "leads out of",
    ),
    "a link leads to a folder": (
        lambda p: (_snapshot(p) / "extra").symlink_to("../../blobs"),
        "no regular file",
    ),
    "a link leads nowhere": (
        lambda p: (_snapshot(p) / "extra.json").symlink_to("../../blobs/none"),
        "not finished",
    ),
    "a link leads to itself": (
        lambda p: (_snapshot(p) / "extra.json").symlink_to("extra.json"),
        "reading",
    ),
    "a pipe": (lambda p: os.mkfifo(_snapshot(p) / "extra.json"), "no regular file"),
    "a shard is missing": (
        lambda p: (_snapshot(p) / "m-00001-of-00002.safetensors").write_bytes(safetensors()),
        "m-00002-of-00002.safetensors is missing",
    ),
    "a file of the index is missing": (
        lambda p: (_snapshot(p) / "model.safetensors.index.json").write_text(
            '{"weight_map":{"a":"model.safetensors","b":"more.safetensors"}}'
        ),
        "more.safetensors is missing",
    ),
    "the index is no index": (
        lambda p: (_snapshot(p) / "model.safetensors.index.json").write_text("[]"),
        "weight_map",
    ),
    "folders without end": (
        lambda p: (_snapshot(p) / "/".join("d" * 40)).mkdir(parents=True),
        "too deep",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_cache_is_told(client: Client, place: Path, case: str) -> None:
    spoil, message = BROKEN[case]
    places.hugging_face(place, "other", {"m.gguf": tiny_llama()})
    (place / "models--other" / "blobs" / "x").write_text("secret")
    places.hugging_face(place, "acme/tiny", {"model.safetensors": safetensors()})
    spoil(place)
    before = places.state(place)
    found = by_name(client, "hf", place)
    assert message in found["acme/tiny"].flaw
    with pytest.raises(ModelError):
        client.import_(found["acme/tiny"])
    assert not client.home.exists()
    client.import_(found["other"])
    assert places.state(place) == before


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_is_not_its_etag_is_noticed(client: Client, place: Path, name: str) -> None:
    places.hugging_face(place, "acme/tiny", FILES)
    blob = (_snapshot(place) / name).resolve()
    raw = blob.read_bytes()
    blob.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(DigestMismatchError, match="damaged"):
        client.import_(one(client, "hf", place))
    assert client.list() == ()


def test_a_cache_without_links_is_read(client: Client, place: Path) -> None:
    places.hugging_face(place, "acme/tiny", FILES)
    for path in list(_snapshot(place).rglob("*")):
        if path.is_symlink():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
    assert len(client.import_(one(client, "hf", place)).parts) == 4


def test_refs_that_are_none_are_passed_over(client: Client, place: Path) -> None:
    folder = places.hugging_face(place, "acme/tiny", {"m.gguf": tiny_llama()}, ref="")
    (folder / "refs" / "long").write_bytes(b"x" * 1000)
    (folder / "refs" / "odd").write_text("../../x")
    (folder / "refs" / "link").symlink_to("/etc/passwd")
    (folder / "refs" / "/".join("d" * 9)).mkdir(parents=True)
    (folder / "snapshots" / "odd").mkdir()
    assert one(client, "hf", place).name == f"acme/tiny@{places.COMMIT}"


def test_a_gguf_that_does_not_pass_the_gate_is_refused(client: Client, place: Path) -> None:
    places.hugging_face(place, "acme/tiny", {"m.gguf": tiny_llama()[:9000]})
    with pytest.raises(ModelError):
        client.import_(one(client, "hf", place))
    places.hugging_face(place, "acme/tiny2", {"m.safetensors": safetensors()[:-1]})
    with pytest.raises(ModelError):
        client.import_(by_name(client, "hf", place)["acme/tiny2"])
    assert client.list() == ()


def test_what_the_cache_tells_is_not_hashed_again(
    client: Client, place: Path, events: list[Event]
) -> None:
    places.hugging_face(place, "acme/tiny", FILES)
    client.import_(one(client, "hf", place))
    events.clear()
    client.import_(one(client, "hf", place))
    hashed = [event.subject for event in events if isinstance(event, Step)]
    assert "model.safetensors" not in hashed
    assert "tagging" not in [event.stage for event in events if isinstance(event, Step)]


# LM Studio


def test_each_quantization_is_a_model(client: Client, place: Path) -> None:
    files = {
        "acme/Tiny-GGUF/tiny-Q4_K_M.gguf": tiny_llama(),
        "acme/Tiny-GGUF/tiny-Q8_0.gguf": tiny_llama(name="b"),
        "acme/Tiny-GGUF/mmproj-tiny-f16.gguf": tiny_llama(name="eye"),
        "acme/plain/plain.gguf": tiny_llama(),
        "acme/mlx/model.safetensors": safetensors(),
        "acme/mlx/config.json": CONFIG,
        "acme/twins/a-Q4_0.gguf": tiny_llama(),
        "acme/twins/b-Q4_0.gguf": tiny_llama(name="b"),
        "acme/none/README.md": b"x",
    }
    places.lm_studio(place, files)
    before = places.state(place)
    found = by_name(client, "lmstudio", place)
    assert {each.name: each.reference for each in found.values()} == {
        "acme/Tiny-GGUF:Q4_K_M": "localhost/acme/tiny-gguf:Q4_K_M",
        "acme/Tiny-GGUF:Q8_0": "localhost/acme/tiny-gguf:Q8_0",
        "acme/mlx": "localhost/acme/mlx:latest",
        "acme/plain": "localhost/acme/plain:latest",
        "acme/twins:a-Q4_0": "localhost/acme/twins:a-Q4_0",
        "acme/twins:b-Q4_0": "localhost/acme/twins:b-Q4_0",
    }
    for each in found.values():
        client.import_(each)
    model = client.get("localhost/acme/tiny-gguf:Q8_0")
    assert {part.name: part.role for part in model.parts} == {
        "tiny-Q8_0.gguf": Role.WEIGHTS,
        "mmproj-tiny-f16.gguf": Role.PROJECTOR,
    }
    assert model.model.facts.quantization == "Q8_0"
    assert not model.manifest.annotations
    assert client.store.check() == []
    assert places.state(place) == before
    assert found["acme/plain"].fits("acme/plain/plain.gguf")


def test_shards_are_one_model_or_none(client: Client, place: Path) -> None:
    shards = {f"p/m/s-0000{n}-of-00002.gguf": tiny_llama(name=str(n)) for n in (1, 2)}
    places.lm_studio(place, shards)
    model = client.import_(one(client, "lmstudio", place))
    assert [part.name[-8:-5] for part in model.model.shards] == ["002", "002"]
    first(place, "*00002-of*").unlink()
    assert "is missing" in one(client, "lmstudio", place).flaw


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../outside.gguf"])
def test_links_out_of_the_folder_are_refused(
    client: Client, place: Path, target: str, tmp_path: Path
) -> None:
    (tmp_path / "outside.gguf").write_bytes(tiny_llama())
    places.lm_studio(place, {"p/m/a.gguf": tiny_llama(), "p/ok/a.gguf": tiny_llama()})
    (place / "p" / "m" / "b.gguf").symlink_to(target)
    (place / "p" / "linked").symlink_to("/etc")
    found = by_name(client, "lmstudio", place)
    assert found.keys() == {"p/m", "p/ok"}
    assert "leads out of" in found["p/m"].flaw
    assert not found["p/ok"].flaw


def test_a_broken_index_and_too_many_files_are_flaws(
    client: Client, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.lm_studio(place, {"p/m/model.safetensors.index.json": b"[]", "p/ok/a.gguf": b"x"})
    found = by_name(client, "lmstudio", place)
    assert "weight_map" in found["p/m"].flaw
    with pytest.raises(ModelError):
        client.import_(found["p/ok"])
    monkeypatch.setattr(finding, "MAX_FILES", 0)
    assert all("more than 0 files" in each.flaw for each in client.foreign("lmstudio", place))


def test_the_same_weights_are_kept_once(client: Client, place: Path) -> None:
    weights = tiny_llama()
    recipe = Recipe(weights=weights)
    small = artifact(recipe, size="1", quantization="Q8_0")
    places.ollama(place / "o", {f"{LIBRARY}/tiny/latest": small})
    places.hugging_face(place / "h", "acme/tiny", {"m.gguf": weights})
    places.lm_studio(place / "l", {"acme/tiny/m.gguf": weights})
    paths = {
        client.import_(one(client, program, place / folder)).path
        for program, folder in (("ollama", "o"), ("hf", "h"), ("lmstudio", "l"))
    }
    assert len(paths) == 1


# What they have in common


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_names_that_are_no_text_are_taken_in(client: Client, place: Path) -> None:
    odd = os.fsdecode(b"\xff.gguf")
    places.lm_studio(place / "l", {f"acme/tiny/{odd}": tiny_llama()})
    places.hugging_face(place / "h", "acme/tiny", {odd: tiny_llama()})
    for program, folder in (("lmstudio", "l"), ("hf", "h")):
        model = client.import_(one(client, program, place / folder))
        assert [part.name for part in model.parts] == ["_.gguf"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf.co/A/b:c", "hf.co/A/b:c"),
        ("registry.ollama.ai/A/b:C", "registry.ollama.ai/a/b:C"),
        ("localhost/a/b c:d", ""),
        ("\u212a.example/a:b", ""),
        ("x.example/../a:b", ""),
    ],
)
def test_full_names(text: str, name: str) -> None:
    assert full_name(text) == name


@pytest.mark.parametrize(
    ("text", "tag"),
    [("a/b c", "a-b-c"), ("...", "latest"), ("x" * 200, "x" * 128), ("\u212a", "latest")],
)
def test_tags(text: str, tag: str) -> None:
    assert tag_of(text) == tag


def test_nothing_is_collected_before_it_has_its_name(
    client: Client, place: Path, events: list[Event]
) -> None:
    places.hugging_face(place, "acme/tiny", FILES)
    other = Store(client.home)
    freed: list[int] = []

    def observe(event: Event) -> None:
        if isinstance(event, Step):
            freed.append(len(other.sweep(other.garbage()).blobs))

    with Client(client.home, observe=observe) as watched:
        watched.import_(one(watched, "hf", place))
    assert sum(freed) == 0
    assert client.store.check() == []


def test_files_that_vanish_or_change_are_told(client: Client, place: Path) -> None:
    places.ollama(place, {f"{LIBRARY}/tiny/latest": build.LAYOUTS["ollama"]()})
    found = one(client, "ollama", place)
    first(place, "sha256-*").unlink()
    with pytest.raises(NotFoundError):
        client.import_(found)
    assert client.list() == ()
    assert compact({}) == b"{}"
