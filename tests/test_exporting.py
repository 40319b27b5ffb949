"""A model's files in a folder: the right ones, whole or none, wherever it is broken off."""

import contextlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import build
import pytest
from artifact import Artifact, described, image
from gguf_writer import tiny_llama
from registry import Registry

from modelpm.client import Client
from modelpm.comparing import Change
from modelpm.content import Event, Moved, Settled, Step
from modelpm.creating import Wish
from modelpm.errors import ContentError, DigestMismatchError, ModelError, StoreError
from modelpm.exporting import Disk, Way, export
from modelpm.model import modelfile
from modelpm.model.model import Role
from modelpm.oci.descriptor import Descriptor, Digest
from tests.memory import Memory

MODELPACK = "application/vnd.cncf.model."
OLLAMA_FILES = {
    "LICENSE",
    "Modelfile",
    "messages.json",
    "model.gguf",
    "params.json",
    "system",
    "template",
}


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def client(tmp_path: Path, events: list[Event]) -> Client:
    return Client(tmp_path / "home", default_registry="reg.example/x", observe=events.append)


def put(client: Client, name: str, artifact: Artifact) -> None:
    """Install an artifact."""
    memory = Memory()
    memory.content = {Digest.parse(d): content for d, content in artifact.all_blobs.items()}
    document = json.loads(artifact.manifest)
    for member in (document["config"], *document["layers"]):
        client.store.push(Descriptor.from_json(member), memory)
    root = Descriptor.from_json(artifact.descriptor)
    client.store.push(root, memory)
    client.store.tag(root, f"reg.example/x/{name}:latest")


def put_named(client: Client, files: dict[str, bytes], name: str = "tiny") -> None:
    """Install a ModelPack of these files, whatever they are called."""
    kind = MODELPACK
    layers = [
        described(
            f"{kind}{'weight' if path.endswith('.gguf') else 'doc'}.v1.raw",
            content,
            annotations={"org.cncf.model.filepath": path},
        )
        for path, content in files.items()
    ]
    config = described(f"{kind}config.v1+json", b"{}")
    put(client, name, image(config, layers, [b"{}", *files.values()]))


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every file and link below a folder."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else _bytes(path)
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


@pytest.mark.parametrize("name", build.LAYOUTS)
def test_every_dialect_is_exported(name: str, tmp_path: Path, loopback: Registry) -> None:
    loopback.content.add("library/tiny", "latest", build.LAYOUTS[name]())
    registry = f"{loopback.host}/library"
    with Client(tmp_path / "home", default_registry=registry) as client:
        model = client.pull("tiny")
        files = client.export("tiny", tmp_path / "out")
        found = tree(tmp_path / "out")
        assert set(found) == {file.name for file in files}
        for file in files:
            assert len(found[file.name]) == file.size
        for part in model.parts:
            assert Digest.of(_bytes(tmp_path / "out" / part.name)) == part.descriptor.digest
        assert _bytes(tmp_path / "out" / model.model.weights.name) == tiny_llama()
        assert client.store.check() == []
    assert {path.name for path in tmp_path.iterdir()} == {"home", "out"}


def test_an_ollama_model_loses_nothing(client: Client, tmp_path: Path) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    client.export("tiny", tmp_path / "out")
    assert set(tree(tmp_path / "out")) == OLLAMA_FILES
    told = modelfile.parse((tmp_path / "out" / "Modelfile").read_bytes())
    assert told.sources == ("./model.gguf",)
    model = client.get("tiny").model
    assert told.last("TEMPLATE") == model.template
    assert told.last("SYSTEM") == model.system
    assert told.parameters == model.parameters
    assert told.messages == model.messages


def test_the_same_model_is_made_of_what_was_exported(client: Client, tmp_path: Path) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    client.export("tiny", tmp_path / "out")
    told = modelfile.parse((tmp_path / "out" / "Modelfile").read_bytes())
    client.create("again", told, tmp_path / "out", Wish(format="ollama"))
    changed = [each for each in client.diff("tiny", "again").parts if each.change != Change.SAME]
    # The fixture's messages have their keys in another order than Go's.
    assert [each.part.role for each in changed] in ([], [Role.MESSAGES])
    assert client.get("again").model.messages == client.get("tiny").model.messages


def test_what_a_config_says_to_engines_is_in_the_modelfile(client: Client, tmp_path: Path) -> None:
    words = b'{"model_format":"gguf","renderer":"qwen","parser":"","requires":7}'
    config = described("application/vnd.docker.container.image.v1+json", words)
    layer = described("application/vnd.ollama.image.model", tiny_llama())
    put(client, "tiny", image(config, [layer], [words, tiny_llama()]))
    client.export("tiny", tmp_path / "out")
    assert (tmp_path / "out" / "Modelfile").read_text() == "FROM ./model.gguf\nRENDERER qwen\n"


def test_adapters_and_projectors_are_in_the_modelfile(client: Client, tmp_path: Path) -> None:
    kinds = {
        "model": tiny_llama(),
        "projector": b"p" * 99,
        "adapter": b"a" * 99,
        "draft": b"d" * 99,
    }
    layers = [described(f"application/vnd.ollama.image.{k}", c) for k, c in kinds.items()]
    config = described("application/vnd.docker.container.image.v1+json", b"{}")
    put(client, "tiny", image(config, layers, [b"{}", *kinds.values()]))
    client.export("tiny", tmp_path / "out")
    lines = (tmp_path / "out" / "Modelfile").read_text().splitlines()
    assert lines == [
        "FROM ./model.gguf",
        "FROM ./mmproj.gguf",
        "ADAPTER ./adapter.gguf",
        "DRAFT ./draft.gguf",
    ]


def test_weights_that_are_not_complete_are_not_exported(client: Client, tmp_path: Path) -> None:
    put_named(client, {"m-00001-of-00002.gguf": tiny_llama(), "LICENSE": b"free"})
    with pytest.raises(ModelError, match=r"tiny:latest: .* m-00002-of-00002.gguf is missing"):
        client.export("tiny", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_of_two_models_the_whole_one_is_exported(client: Client, tmp_path: Path) -> None:
    put_named(client, {"m-00001-of-00002.gguf": tiny_llama(), "n.gguf": tiny_llama() + b"n"})
    client.export("tiny#n", tmp_path / "out")
    assert set(tree(tmp_path / "out")) == {"n.gguf"}


def test_files_can_be_edited_and_the_store_stays(client: Client, tmp_path: Path) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    for way, names in ((Way.COPY, OLLAMA_FILES), (Way.LINK, OLLAMA_FILES - {"model.gguf"})):
        out = tmp_path / way
        client.export("tiny", out, way=way)
        for name in names:
            assert (out / name).stat().st_nlink == 1
            (out / name).write_bytes(b"edited")
    assert client.store.check() == []


def test_links_are_the_file_of_the_store(client: Client, tmp_path: Path) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    path = client.get("tiny").path
    made = {file.name: file.made for file in client.export("tiny", tmp_path / "a", way="link")}
    assert made == {
        "model.gguf": "link",
        **dict.fromkeys(OLLAMA_FILES - {"model.gguf", "Modelfile"}, "copy"),
        "Modelfile": "text",
    }
    assert (tmp_path / "a" / "model.gguf").samefile(path)
    assert stat.S_IMODE((tmp_path / "a" / "model.gguf").stat().st_mode) == 0o444
    client.export("tiny", tmp_path / "b", way="symlink")
    assert (tmp_path / "b" / "model.gguf").readlink() == path.resolve()
    assert not (tmp_path / "b" / "template").is_symlink()


def test_unknown_ways_are_refused(client: Client, tmp_path: Path) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    with pytest.raises(ValueError, match="move"):
        client.export("tiny", tmp_path / "out", way="move")


HOSTILE = {
    "../../escape.gguf": tiny_llama(),
    "/etc/passwd": b"1",
    "..\\up": b"2",
    "C:\\x": b"3",
    "a/../../../b": b"4",
    "Readme": b"5",
    "README": b"6",
    "con": b"7",
    "docs": b"8",
    "docs/inner/deep.txt": b"9",
    "Modelfile": b"10",
    "x" * 300: b"11",
    "line\nbreak\x1b[2J": b"12",
    "~/.ssh/authorized_keys": b"13",
    "-rf": b"14",
}


def test_nothing_leaves_the_folder_whatever_the_names(client: Client, tmp_path: Path) -> None:
    put_named(client, HOSTILE)
    before = set(tmp_path.rglob("*"))
    files = client.export("tiny", tmp_path / "out")
    made = {path for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    assert all(path.is_relative_to(tmp_path / "out") for path in made)
    assert sorted(map(_bytes, made)) == sorted(HOSTILE.values())
    assert len({file.name.casefold() for file in files}) == len(HOSTILE)


def test_a_name_that_the_modelfile_would_have_is_kept(client: Client, tmp_path: Path) -> None:
    recipe = build.LAYOUTS["ollama"]()
    document = json.loads(recipe.manifest)
    document["layers"][1]["annotations"] = {"org.opencontainers.image.title": "Modelfile"}
    blobs = list(recipe.blobs.values())
    put(client, "tiny", image(document["config"], document["layers"], blobs))
    template = client.get("tiny").model.template
    names = {file.name for file in client.export("tiny", tmp_path / "out")}
    assert {"Modelfile", "Modelfile-2"} <= names
    assert (tmp_path / "out" / "Modelfile").read_text() == template


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "full"])
def test_what_is_there_is_kept(client: Client, tmp_path: Path, kind: str) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    if kind == "file":
        out.write_text("mine")
    elif kind == "full":
        out.mkdir()
        (out / "mine").write_text("mine")
    else:
        out.symlink_to(other if kind == "link" else tmp_path / "none")
    before = tree(tmp_path)
    with pytest.raises(StoreError, match="out is"):
        client.export("tiny", out)
    assert tree(tmp_path) == before
    if kind != "full":
        with pytest.raises(StoreError, match="out is"):
            client.export("tiny", out, replace=True)
    assert tree(tmp_path) == before


def test_an_empty_folder_is_filled_and_parents_are_made(client: Client, tmp_path: Path) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    (tmp_path / "empty").mkdir()
    client.export("tiny", tmp_path / "empty")
    client.export("tiny", tmp_path / "a" / "b" / "..hidden")
    assert set(tree(tmp_path / "empty")) == set(tree(tmp_path / "a" / "b" / "..hidden"))


class Clumsy(Disk):
    """A disk that cannot exchange folders."""

    def exchange(self, draft: Path, folder: Path) -> bool:
        return False


@pytest.mark.parametrize("disk", [Disk, Clumsy])
def test_force_replaces_the_whole_folder(client: Client, tmp_path: Path, disk: type[Disk]) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "sub" / "old").write_text("old")
    (out / "link").symlink_to(client.home)
    export(client.store, client.get("tiny"), out, replace=True, disk=disk())
    assert set(tree(out)) == OLLAMA_FILES
    assert client.store.check() == []
    assert len(list(tmp_path.iterdir())) == 2
    export(client.store, client.get("tiny"), tmp_path / "new", replace=True, disk=disk())


@pytest.mark.parametrize("place", ["home", "home/blobs", ".", "home/x", "sub/.."])
def test_precious_folders_are_refused(
    client: Client, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    (tmp_path / "sub").mkdir()
    before = tree(tmp_path)
    with pytest.raises(StoreError, match="the store; export"):
        client.export("tiny", tmp_path / place, replace=True)
    monkeypatch.chdir(tmp_path / "sub")
    for here in (".", "../sub", ""):
        with pytest.raises(StoreError, match="where this command runs"):
            client.export("tiny", here, replace=True)
    assert tree(tmp_path) == before


def test_a_folder_below_a_file_is_refused(client: Client, tmp_path: Path) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="File exists"):
        client.export("tiny", tmp_path / "file" / "out")
    with pytest.raises(StoreError, match="File name too long"):
        client.export("tiny", tmp_path / ("x" * 256))


class FailsError(Exception):
    """What a test makes of the k-th change of the disk."""


class Fault:
    """Fails the change number `at`, and knows whether it did."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.left = at
        self.error = error

    def __call__(self, _operation: str, _path: Path) -> None:
        self.left -= 1
        if self.left == -1:
            raise self.error

    @property
    def is_over(self) -> bool:
        return self.left >= 0


def attempts() -> Iterator[int]:
    yield from range(200)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), FailsError(), KeyboardInterrupt()], ids=type
)
def test_wherever_it_fails_there_is_nothing_or_all(
    client: Client, tmp_path: Path, error: BaseException
) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    before = tree(tmp_path)
    for at in attempts():
        out = tmp_path / "out"
        raised: BaseException | None = None
        fault = Fault(at, error)
        try:
            export(client.store, client.get("tiny"), out, disk=Disk(fault))
        except (StoreError, FailsError, KeyboardInterrupt) as failure:
            raised = failure
        if out.exists():  # it fell after the rename, or not at all
            assert set(tree(out)) == OLLAMA_FILES
            shutil.rmtree(out)
        assert tree(tmp_path) == before
        assert [path.name for path in tmp_path.iterdir()] == ["home"]
        if fault.is_over:
            break
        if raised is not None and isinstance(error, OSError):
            told = str(raised)
            assert isinstance(raised, StoreError)
            assert "No space left" in told
            assert "prune" not in told
    assert at > 30


@pytest.mark.parametrize("disk", [Disk, Clumsy])
def test_wherever_a_replacement_fails_the_old_folder_or_the_new_is_there(
    client: Client, tmp_path: Path, disk: type[Disk]
) -> None:
    put(client, "tiny", build.LAYOUTS["oras-gguf"]())
    for at in attempts():
        out = tmp_path / f"out{at}"
        out.mkdir()
        (out / "old").write_text("old")
        fault = Fault(at, OSError(5, "Input/output error"))
        with contextlib.suppress(StoreError):
            export(client.store, client.get("tiny"), out, replace=True, disk=disk(fault))
        assert set(tree(out)) in ({"old"}, {"tiny.gguf"})
        if fault.is_over:
            break
    assert at > 5


def test_damage_in_the_store_is_told_and_nothing_is_left(client: Client, tmp_path: Path) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    path = client.get("tiny").path
    sealed = path.stat()
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(sealed.st_atime_ns, sealed.st_mtime_ns))  # a disk that forgets
    with pytest.raises(DigestMismatchError):
        client.export("tiny", tmp_path / "out")
    path.write_bytes(bytes(content) + b"more")
    for way in Way:
        with pytest.raises(ContentError):
            client.export("tiny", tmp_path / "out", way=way)
    path.unlink()
    with pytest.raises(ContentError):
        client.export("tiny", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_what_is_no_model_is_not_exported(client: Client, tmp_path: Path) -> None:
    kind = f"{MODELPACK}weight.v1.tar"
    layer = described(kind, b"\0" * 1024, annotations={"org.cncf.model.filepath": "model.gguf"})
    config = described(f"{MODELPACK}config.v1+json", b"{}")
    put(client, "packed", image(config, [layer], [b"{}", b"\0" * 1024]))
    with pytest.raises(ModelError):
        client.export("packed", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_two_models_in_one_artifact_are_exported_both(client: Client, tmp_path: Path) -> None:
    put_named(client, {"a.gguf": tiny_llama(), "b.gguf": b"other"})
    client.export("tiny", tmp_path / "out")
    assert set(tree(tmp_path / "out")) == {"a.gguf", "b.gguf"}


def test_what_a_killed_export_left_goes_with_the_next(client: Client, tmp_path: Path) -> None:
    put(client, "tiny", build.LAYOUTS["oras-gguf"]())
    drafts = [tmp_path / f".{name}.{'a' * 16}.export" for name in ("out", "other", "live")]
    for path in drafts:
        path.mkdir()
        (path / "half").write_text("half")
    (tmp_path / f".out.{'b' * 16}.export").symlink_to(drafts[1])
    client.export("tiny", tmp_path / "out")
    assert not drafts[0].exists()
    with Disk().claimed(drafts[2]) as is_mine:
        assert is_mine
        client.export("tiny", tmp_path / "live")
        assert drafts[2].exists()
    assert drafts[1].exists()


class Lockless(Disk):
    """A file system on which every lock succeeds."""

    def try_lock(self, fd: int, path: Path, *, exclusive: bool) -> bool:
        return True


def test_without_locks_nothing_is_swept(client: Client, tmp_path: Path) -> None:
    put(client, "tiny", build.LAYOUTS["oras-gguf"]())
    left = tmp_path / f".out.{'a' * 16}.export"
    left.mkdir()
    export(client.store, client.get("tiny"), tmp_path / "out", disk=Lockless())
    assert left.exists()


class Small(Disk):
    """A disk with little room."""

    def free(self, path: Path) -> int:
        return 1000


def test_no_room_is_told_before_a_byte_is_written(client: Client, tmp_path: Path) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    with pytest.raises(StoreError, match="1,000 are free"):
        export(client.store, client.get("tiny"), tmp_path / "out", disk=Small())
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    files = export(client.store, client.get("tiny"), tmp_path / "out", Way.LINK, disk=Small())
    assert files


class Cloning(Disk):
    """A disk with reflinks, of which a copy is the picture."""

    def clone(self, fd: int, path: Path, source: int) -> bool:
        return os.sendfile(fd, source, 0, 2**30) > 0


def test_a_reflink_is_verified_too(client: Client, tmp_path: Path) -> None:
    put(client, "tiny", build.LAYOUTS["oras-gguf"]())
    model = client.get("tiny")
    (file,) = export(client.store, model, tmp_path / "out", disk=Cloning())
    assert file.made == "reflink"
    assert tree(tmp_path / "out") == {"tiny.gguf": tiny_llama()}
    path = model.path
    path.chmod(0o644)
    path.write_bytes(b"GGUF" + bytes(path.stat().st_size - 4))
    with pytest.raises(DigestMismatchError):
        export(client.store, model, tmp_path / "again", disk=Cloning())


def test_progress_is_told(client: Client, tmp_path: Path, events: list[Event]) -> None:
    large = b"GGUF" + bytes(20 * 2**20)
    put_named(client, {"large.gguf": large, "README": b"hello"})
    events.clear()
    client.export("tiny", tmp_path / "out")
    (step,) = [event for event in events if isinstance(event, Step)]
    settled = [event.descriptor for event in events if isinstance(event, Settled)]
    moved = [event.offset for event in events if isinstance(event, Moved)]
    assert step.leaves == tuple(settled)
    assert moved == [2**23, 2**24]


def test_nothing_is_collected_meanwhile(client: Client, tmp_path: Path) -> None:
    put(client, "tiny", build.LAYOUTS["ollama"]())
    other = Client(client.home, default_registry="reg.example/x")
    found: list[int] = []

    def before(_operation: str, _path: Path) -> None:
        if not found:
            other.remove(["tiny"])
            found.append(len(other.garbage().blobs))

    export(client.store, client.get("tiny"), tmp_path / "out", disk=Disk(before))
    assert found[0] <= 1  # the manifest, which has been read


def test_the_system_may_lack_an_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Disk().exchange(tmp_path / "none", tmp_path / "neither")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not Disk().exchange(tmp_path, tmp_path)
