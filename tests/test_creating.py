"""Creating and converting: what goes in comes out, the same bytes everywhere, nothing twice."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import tiny
from artifact import Artifact, compact, described, image
from docker_registry import DockerRegistry, put
from gguf_writer import tiny_llama
from registry import Registry
from writers import WRITERS

from modelpm.client import Client
from modelpm.content import Event, Moved, Settled, Step
from modelpm.creating import Wish
from modelpm.errors import (
    InvalidReferenceError,
    ModelError,
    ModelPMError,
    NotFoundError,
    StoreError,
)
from modelpm.installed import Installed
from modelpm.model import modelfile
from modelpm.model.message import Message
from modelpm.model.modelfile import Command, Modelfile
from modelpm.model.roles import Role
from modelpm.oci.descriptor import Descriptor, Digest
from tests.memory import Memory
from tests.model.ggufs import STRING, llama, value

OTHER = llama({"general.name": value(STRING, "other")}).encode()
ADAPTER = llama({"general.type": value(STRING, "adapter")}).encode()
SECOND = llama({"general.type": value(STRING, "adapter"), "general.name": value(STRING, "2")})
PROJECTOR = llama({"general.type": value(STRING, "mmproj")}).encode()
FILEPATH = "org.cncf.model.filepath"
JINJA = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Client(tmp_path / "store") as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with some of everything."""
    path = tmp_path / "folder"
    path.mkdir()
    for name, content in (
        ("tiny.gguf", tiny_llama()),
        ("other.gguf", OTHER),
        ("lora.gguf", ADAPTER),
        ("vision.gguf", PROJECTOR),
        ("safe.safetensors", tiny.safetensors("a")),
        ("note.txt", b"nothing"),
    ):
        (path / name).write_bytes(content)
    return path


def make(client: Client, folder: Path, text: str, name: str = "made", **wish: Any) -> Installed:
    return client.create(name, modelfile.parse(text), folder, Wish(**wish))


def of_paths(client: Client, *paths: Path, name: str = "made", **wish: Any) -> Installed:
    commands = tuple(Command("FROM", str(path)) for path in paths)
    return client.create(name, Modelfile(commands), wish=Wish(**wish))


def parts(model: Installed) -> dict[str, Role]:
    return {part.name: part.role for part in model.parts}


def content(model: Installed, name: str) -> bytes:
    (found,) = [part.descriptor for part in model.parts if part.name == name]
    return model._store.path(found).read_bytes()


def digests(model: Installed) -> set[Digest]:
    return {part.descriptor.digest for part in model.parts}


# The grammar, instruction by instruction.


def test_everything_of_a_modelfile_is_in_the_model(client: Client, folder: Path) -> None:
    model = make(
        client,
        folder,
        "FROM ./tiny.gguf\nFROM vision.gguf\nADAPTER lora.gguf\nDRAFT other.gguf\n"
        'TEMPLATE """{{ .Prompt }}"""\nSYSTEM Be brief.\nPARAMETER temperature 0.7\n'
        "PARAMETER stop A\nPARAMETER stop <B>\nLICENSE MIT\nLICENSE Apache-2.0\n"
        "MESSAGE user hi\nMESSAGE assistant hello\n",
    )
    assert parts(model) == {
        "tiny.gguf": Role.WEIGHTS,
        "mmproj-vision.gguf": Role.PROJECTOR,
        "lora.gguf": Role.ADAPTER,
        "other.gguf": Role.DRAFT,
        "template": Role.TEMPLATE,
        "system": Role.SYSTEM,
        "LICENSE": Role.LICENSE,
        "LICENSE-2": Role.LICENSE,
        "params.json": Role.PARAMETERS,
        "messages.json": Role.MESSAGES,
    }
    read = model.model
    assert (read.template, read.system) == ("{{ .Prompt }}", "Be brief.")
    assert read.parameters == {"temperature": 0.7, "stop": ("A", "<B>")}
    assert read.licenses == ("MIT", "Apache-2.0")
    assert read.messages == (Message("user", "hi"), Message("assistant", "hello"))
    assert content(model, "params.json") == b'{"stop":["A","\\u003cB\\u003e"],"temperature":0.7}\n'
    assert model.path.read_bytes() == tiny_llama()
    assert client.store.check() == []
    assert not client.garbage().blobs


def test_the_last_of_each_counts(client: Client, folder: Path) -> None:
    (folder / "second.gguf").write_bytes(SECOND.encode())
    model = make(
        client,
        folder,
        "FROM tiny.gguf\nSYSTEM one\nSYSTEM two\nADAPTER second.gguf\nADAPTER lora.gguf\n"
        "TEMPLATE {{ .Nothing\nTEMPLATE {{ .Prompt }}\nPARAMETER top_k 1\nPARAMETER top_k 2",
    )
    assert model.model.system == "two"
    assert model.model.parameters == {"top_k": 2}
    assert [name for name, role in parts(model).items() if role is Role.ADAPTER] == ["lora.gguf"]


def test_a_model_inherits_what_is_not_overridden(client: Client, folder: Path) -> None:
    (folder / "second.gguf").write_bytes(SECOND.encode())
    base = make(
        client,
        folder,
        "FROM tiny.gguf\nADAPTER lora.gguf\nTEMPLATE {{ .Prompt }}\nSYSTEM old\nLICENSE MIT\n"
        "PARAMETER stop A\nPARAMETER top_k 3\nMESSAGE user hi",
        "base",
    )
    same = make(client, folder, "FROM base", "same")
    assert same.digest == base.digest
    child = make(
        client,
        folder,
        "FROM base\nSYSTEM new\nLICENSE BSD\nLICENSE MIT\nPARAMETER stop B\nADAPTER second.gguf",
    )
    read = child.model
    assert (read.template, read.system) == ("{{ .Prompt }}", "new")
    assert read.licenses == ("MIT", "BSD")
    assert read.parameters == {"stop": ("B",), "top_k": 3}
    assert read.messages == (Message("user", "hi"),)
    assert child.model.weights.descriptor.digest == base.model.weights.descriptor.digest
    assert Role.ADAPTER not in {r for n, r in parts(child).items() if n == "lora.gguf"}
    bare = make(client, folder, 'FROM base\nSYSTEM ""\nTEMPLATE ""', "bare")
    assert (bare.model.template, bare.model.system) == (None, None)
    other = make(client, folder, "FROM base\nMESSAGE user ho", "other")
    assert other.model.messages == (Message("user", "ho"),)


def test_a_parameter_that_says_the_same_changes_nothing(client: Client, folder: Path) -> None:
    base = make(client, folder, "FROM tiny.gguf\nPARAMETER top_p 0.9\nPARAMETER stop A", "base")
    again = make(client, folder, "FROM base\nPARAMETER stop A\nPARAMETER top_p 0.90", "again")
    assert again.digest == base.digest


def test_ollamas_words_stay_with_its_format(client: Client, folder: Path) -> None:
    text = "FROM tiny.gguf\nRENDERER qwen3\nPARSER qwen3\nREQUIRES 0.14.0"
    with pytest.raises(ModelError, match="no place for renderer, parser, requires"):
        make(client, folder, text)
    model = make(client, folder, text, format="ollama")
    again = make(client, folder, 'FROM made\nPARSER other\nRENDERER ""', "again", format="ollama")
    assert model.manifest.config is not None
    assert again.manifest.config is not None
    with client.store.fetch(again.manifest.config) as stream:
        config = json.load(stream)
    assert config["parser"] == "other"
    assert config["requires"] == "0.14.0"
    assert "renderer" not in config
    lossy = make(client, folder, text, "lossy", lossy=True)
    assert parts(lossy) == {"tiny.gguf": Role.WEIGHTS}


def test_relative_paths_begin_at_the_folder(client: Client, folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    assert parts(make(client, inner, "FROM ../tiny.gguf")) == {"tiny.gguf": Role.WEIGHTS}
    assert parts(make(client, inner, f"FROM {folder}/tiny.gguf")) == {"tiny.gguf": Role.WEIGHTS}


def test_inherited_parameters_are_not_changed(client: Client) -> None:
    told = b'{"temperature":500,"num_ctx":4096,"stop":["","a"],"new":1}'
    kinds = {"model": tiny_llama(), "params": told}
    layers = [described(f"application/vnd.ollama.image.{k}", c) for k, c in kinds.items()]
    config = described("application/vnd.docker.container.image.v1+json", b"{}")
    install(client, image(config, layers, [b"{}", *kinds.values()]), "base")
    child = make(client, Path(), "FROM base\nPARAMETER top_k 1")
    assert json.loads(content(child, "params.json")) == {**json.loads(told), "top_k": 1}
    assert child.model.parameters["temperature"] == 100
    same = make(client, Path(), "FROM base\nPARAMETER temperature 100", "same")
    assert content(same, "params.json") == told


def test_a_path_goes_before_a_name(client: Client, folder: Path) -> None:
    (folder / "tiny").write_bytes(tiny_llama())
    make(client, folder, "FROM other.gguf", "tiny")
    assert make(client, folder, "FROM tiny").path.read_bytes() == tiny_llama()


def test_a_model_may_be_made_anew_under_its_own_name(client: Client, folder: Path) -> None:
    make(client, folder, "FROM tiny.gguf\nSYSTEM a")
    assert make(client, folder, "FROM made\nSYSTEM b").model.system == "b"


def test_what_only_the_old_one_needed_is_deleted(client: Client, folder: Path) -> None:
    old = make(client, folder, "FROM tiny.gguf\nSYSTEM a")
    make(client, folder, "FROM made\nSYSTEM b")
    assert not client.garbage()
    assert not client.store.exists(old.descriptor)


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        ("FROM ~nobody-at-all/x", NotFoundError, "line 1: ~nobody-at-all/x is no file"),
        (f"FROM {'x' * 5000}", NotFoundError, "line 1: x+ is no file"),
        ("FROM gone/m-00001-of-00002.gguf", NotFoundError, "is no file"),
        ("FROM tiny.gguf\nDRAFT gone/m-00001-of-00002.gguf", ModelError, "line 2: reading"),
        ("FROM nothing.gguf", NotFoundError, "line 1: nothing.gguf is no file in .* no model"),
        ("\nFROM A/b/../c", NotFoundError, "line 2: .* is no file"),
        ("FROM note.txt", ModelError, "line 1: .* neither GGUF nor safetensors"),
        ("FROM tiny.gguf\nFROM other.gguf", ModelError, "two models or more: other.gguf, tiny"),
        ("FROM lora.gguf", ModelError, "no weights"),
        ("FROM tiny.gguf\nADAPTER gone.gguf", ModelError, "line 2: reading .*gone.gguf: No such"),
        ("FROM tiny.gguf\nADAPTER safe.safetensors", ModelError, "safetensors"),
        ("FROM tiny.gguf\n\nTEMPLATE {{ .Prompt", ModelError, "line 3: "),
        (f"FROM tiny.gguf\nTEMPLATE {JINJA}", ModelError, "line 2: .* looks like Jinja"),
        (
            "FROM tiny.gguf\nADAPTER other.gguf",
            ModelError,
            "line 2: ADAPTER takes an adapter, and .*/other.gguf is a whole model .llama.: FROM",
        ),
        ("FROM tiny.gguf\nADAPTER vision.gguf", ModelError, "vision.gguf is a projector: FROM"),
        ("FROM tiny.gguf\nDRAFT lora.gguf", ModelError, "lora.gguf is an adapter .llama.: ADAPTER"),
        ("FROM tiny.gguf\nDRAFT vision.gguf", ModelError, "line 2: DRAFT takes a whole model, and"),
        ("FROM tiny.gguf\nPARAMETER num_ctx 0", ModelError, "line 2: the parameter num_ctx is a n"),
        ("FROM tiny.gguf\nPARAMETER top_k x", ModelError, "line 2: the parameter top_k is a"),
        ("FROM tiny.gguf\nREQUIRES new", ModelError, "line 2: REQUIRES 'new' is no version"),
        ("FROM broken.gguf", ModelError, "broken.gguf"),
        ("FROM .", ModelError, "two models or more"),
        ("FROM pipe", ModelError, "not a regular file"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    client: Client, folder: Path, text: str, error: type[ModelPMError], sentence: str
) -> None:
    (folder / "broken.gguf").write_bytes(tiny_llama()[:-5000])
    os.mkfifo(folder / "pipe")
    if text == "FROM .":
        (folder / "broken.gguf").unlink()
        (folder / "safe.safetensors").unlink()
    with pytest.raises(error, match=sentence):
        make(client, folder, text)
    assert client.list() == ()
    assert not list(client.home.glob("blobs/*/*"))


def test_an_adapter_is_known_by_what_it_says_of_the_tuning(client: Client, folder: Path) -> None:
    told = llama({"adapter.type": value(STRING, "lora")}).encode()
    (folder / "old.gguf").write_bytes(told)
    model = make(client, folder, "FROM tiny.gguf\nADAPTER old.gguf")
    assert parts(model)["old.gguf"] is Role.ADAPTER
    with pytest.raises(ModelError, match="no weights"):
        make(client, folder, "FROM old.gguf")


def test_one_model_is_enough(client: Client, folder: Path) -> None:
    make(client, folder, "FROM tiny.gguf", "a")
    make(client, folder, "FROM other.gguf", "b")
    with pytest.raises(ModelError, match="line 2: a model can be made from one model only"):
        make(client, folder, "FROM a\nFROM b")
    with pytest.raises(ModelError, match="weights twice"):
        make(client, folder, "FROM a\nFROM other.gguf")
    assert Role.PROJECTOR in parts(make(client, folder, "FROM a\nFROM vision.gguf")).values()


def test_a_digest_is_no_name_for_a_new_model(client: Client, folder: Path) -> None:
    with pytest.raises(InvalidReferenceError, match="gets a tag"):
        make(client, folder, "FROM tiny.gguf", f"made@{Digest.of(b'')}")


def test_an_unknown_format_is_refused(client: Client, folder: Path) -> None:
    with pytest.raises(ModelError, match="'zip' is no format; there are modelpack, ollama, docker"):
        make(client, folder, "FROM tiny.gguf", format="zip")


# Files and folders.


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, raw in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(raw)
    return path


def sharded(path: Path) -> Path:
    return write_folder(path, {name: raw for name, (_, raw) in tiny.sharded().items()})


def test_a_folder_of_safetensors(client: Client, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "hf")
    write_folder(
        folder,
        {
            "chat_template.jinja": JINJA.encode(),
            "merges.txt": b"a b",
            "LICENSE.txt": b"MIT",
            "README.md": b"# x",
            "1_Pooling/config.json": b"{}",
            ".gitattributes": b"x",
            ".cache/config.json": b"{}",
            "train.py": b"pass",
            "pytorch_model.bin": b"x",
            "consolidated.safetensors": tiny.safetensors("z"),
            "data.csv": b"x",
        },
    )
    model = of_paths(client, folder)
    assert parts(model) == {
        tiny.SHARDS[0]: Role.WEIGHTS,
        tiny.SHARDS[1]: Role.WEIGHTS,
        tiny.INDEX: Role.CONFIG,
        "config.json": Role.CONFIG,
        "1_Pooling/config.json": Role.CONFIG,
        "tokenizer.json": Role.TOKENIZER,
        "merges.txt": Role.TOKENIZER,
        "chat_template.jinja": Role.TEMPLATE,
        "LICENSE.txt": Role.LICENSE,
        "README.md": Role.DOCUMENT,
    }
    assert model.model.format == "safetensors"
    assert model.model.family == "llama"
    assert model.model.parameter_size == "8"
    docker = client.convert("made", "docked", Wish("docker"))
    assert digests(docker) == digests(model)


def test_code_is_taken_where_the_config_asks_for_it(client: Client, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "hf")
    write_folder(folder, {"modeling_x.py": b"pass", "config.json": b'{"auto_map": {}}'})
    assert parts(of_paths(client, folder))["modeling_x.py"] is Role.OTHER


def test_any_shard_stands_for_its_set(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    contents = [llama({"general.name": value(STRING, text)}).encode() for text in "abc"]
    names = [f"m-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    write_folder(folder, dict(zip(names, contents, strict=True)))
    of_second = of_paths(client, folder / names[1])
    of_all = of_paths(client, *(folder / name for name in reversed(names)), name="all")
    of_folder = of_paths(client, folder, name="folder")
    assert [part.name for part in of_second.model.shards] == names
    assert digests(of_second) == digests(of_folder) == digests(of_all)
    assert of_second.digest == of_folder.digest
    (folder / names[2]).unlink()
    with pytest.raises(ModelError, match=f"{names[2]} is missing"):
        of_paths(client, folder / names[0], name="less")


def test_an_incomplete_index_names_what_is_missing(client: Client, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "hf")
    (folder / tiny.SHARDS[1]).unlink()
    with pytest.raises(ModelError, match=f"{tiny.SHARDS[1]} is missing"):
        of_paths(client, folder)


def test_a_file_without_an_ending_gets_one(client: Client, tmp_path: Path) -> None:
    write_folder(tmp_path, {"weights": tiny_llama(), "safe": tiny.safetensors("a")})
    assert parts(of_paths(client, tmp_path / "weights")) == {"weights.gguf": Role.WEIGHTS}
    assert parts(of_paths(client, tmp_path / "safe")) == {"safe.safetensors": Role.WEIGHTS}


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "x.json")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "config.json").unlink() or (f / "config.json").symlink_to("/etc/passwd"),
         "leads out of"),
        (pipe, "not a regular file"),
        (lambda f: (f / "x.json").symlink_to("gone"), "x.json is a link that leads nowhere"),
        (lambda f: (f / "config.json").write_bytes(b"{"), "config.json: not valid JSON"),
        (lambda f: (f / tiny.SHARDS[0]).write_bytes(tiny.safetensors("a")[:-1]), "cut off"),
        (lambda f: (f / "tiny.gguf").write_bytes(tiny_llama()), "two models or more"),
        (lambda f: [path.unlink() for path in f.iterdir()], "no file of a model"),
        (lambda f: [path.unlink() for path in f.glob("*.safetensors")], "no weights"),
    ],
)  # fmt: skip
def test_a_bad_folder_is_refused(
    client: Client, tmp_path: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    folder = sharded(tmp_path / "hf")
    spoil(folder)
    with pytest.raises(ModelError, match=sentence):
        of_paths(client, folder)
    assert not list(client.home.glob("blobs/*/*"))


def test_links_within_the_folder_are_followed(client: Client, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "hf")
    (folder / "blobs").mkdir()
    (folder / "config.json").rename(folder / "blobs" / "x")
    (folder / "config.json").symlink_to("blobs/x")
    assert content(of_paths(client, folder), "config.json") == tiny.CONFIG_JSON


def test_hostile_names_become_safe(client: Client, tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path / "x", {"m.gguf": tiny_llama(), "a\x1b[2J.json": b"{}", "A_[2J.json": b"{}"}
    )
    names = parts(of_paths(client, folder))
    assert not any("\x1b" in name for name in names)
    assert len(names) == 3


# The same everywhere, and nothing twice.


@pytest.mark.parametrize("form", ["modelpack", "ollama", "docker"])
def test_the_same_input_has_the_same_digest_on_every_machine(tmp_path: Path, form: str) -> None:
    found = set()
    for number, mode in enumerate((0o644, 0o600, 0o444)):
        folder = write_folder(tmp_path / f"in-{number}", {"tiny.gguf": tiny_llama()})
        os.utime(folder / "tiny.gguf", (number * 10**8, number * 10**8))
        (folder / "tiny.gguf").chmod(mode)
        with Client(tmp_path / f"store-{number}") as client:
            text = "FROM tiny.gguf\nSYSTEM x\nPARAMETER top_k 3"
            found.add(make(client, folder, text, f"name-{number}", format=form).digest)
    assert len(found) == 1


def test_a_time_gets_in_only_where_it_is_asked_for(client: Client, folder: Path) -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    plain, dated = (
        make(client, folder, "FROM tiny.gguf", name, created=created)
        for name, created in (("plain", None), ("dated", when))
    )
    assert plain.digest != dated.digest
    assert plain.manifest.layers == dated.manifest.layers


def test_large_files_are_not_copied_and_stay_as_they_are(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    path.write_bytes(tiny_llama() + bytes(2**21))
    os.utime(path, (10**9, 10**9))
    before = path.stat()
    model = of_paths(client, path)
    after = path.stat()
    assert model.path.samefile(path) or model.path.stat().st_blocks == path.stat().st_blocks
    assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)
    for form in ("ollama", "docker"):
        twin = client.convert("made", form, Wish(form))
        assert twin.path == model.path
    assert sum(blob.stat().st_size > 2**20 for blob in client.home.glob("blobs/*/*")) == 1


def test_progress_tells_each_file(tmp_path: Path, folder: Path) -> None:
    events: list[Event] = []
    with Client(tmp_path / "store", observe=events.append) as client:
        make(client, folder, "FROM tiny.gguf\nADAPTER lora.gguf")
    steps = [(event.stage, event.subject) for event in events if isinstance(event, Step)]
    assert steps == [
        ("hashing", "tiny.gguf"),
        ("hashing", "lora.gguf"),
        ("tagging", ""),
        ("done", "registry.ollama.ai/library/made:latest"),
    ]
    offsets = [event.offset for event in events if isinstance(event, Moved)]
    assert offsets == [len(tiny_llama()), len(ADAPTER)]  # less than what is told at a time
    assert sum(isinstance(event, Settled) for event in events) == 2


def test_a_failure_at_the_end_leaves_no_name(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(client.store, "tag", fail)
    with pytest.raises(StoreError, match="full"):
        make(client, folder, "FROM tiny.gguf")
    assert client.list() == ()
    client.prune(client.garbage())
    assert not list(client.home.glob("blobs/*/*"))


# The way back: what `show --modelfile` says makes the same model.


@pytest.fixture
def puller(tmp_path: Path, loopback: Registry) -> Iterator[Client]:
    """A client of a registry with every writer's artifact."""
    for name, writer in WRITERS.items():
        loopback.content.add(f"library/{name}", "latest", writer.make())
    with Client(tmp_path / "home", default_registry=f"{loopback.host}/library") as client:
        yield client


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"ollama-tensors", "modelpack-two"}))
def test_what_a_modelfile_says_makes_the_same_parts(puller: Client, name: str) -> None:
    model = puller.pull(name)
    text = modelfile.render(modelfile.describe(model.model, model.short_name))
    made = puller.create("made", modelfile.parse(text))
    assert sorted(part.descriptor.digest for part in made.parts) == sorted(
        part.descriptor.digest for part in model.parts
    )
    assert parts(made) == {_as_written(part.name, part.role): part.role for part in model.parts}
    again = modelfile.render(modelfile.describe(made.model, model.short_name))
    assert again == text
    assert puller.convert(name, "converted").digest == made.digest
    assert puller.store.check() == []


def _as_written(name: str, role: Role) -> str:
    if role is not Role.PROJECTOR or "mmproj" in name:
        return name
    return f"mmproj-{name}"


def test_one_of_several_models_is_chosen(puller: Client) -> None:
    puller.pull("modelpack-two#tiny")
    with pytest.raises(ModelError, match=r"other\.gguf.*tiny\.gguf"):
        make(puller, Path(), "FROM modelpack-two")
    made = make(puller, Path(), "FROM modelpack-two#tiny")
    assert made.path.read_bytes() == tiny_llama()


def test_a_layer_a_tensor_cannot_be_written(puller: Client) -> None:
    puller.pull("ollama-tensors")
    with pytest.raises(ModelError, match="a layer for each tensor, which only Ollama reads"):
        puller.convert("ollama-tensors", "x")


def test_texts_that_the_grammar_cannot_hold_are_inherited(client: Client, folder: Path) -> None:
    text = 'quotes end this line: """\nand more'
    source = Modelfile(
        (
            Command("FROM", "tiny.gguf"),
            Command("SYSTEM", text),
            Command("LICENSE", "MIT"),
            Command("MESSAGE", text, "user"),
        )
    )
    model = client.create("odd", source, folder)
    told = modelfile.describe(model.model, "odd")
    assert [command.instruction for command in told.commands] == ["FROM", "LICENSE"]
    assert client.create("again", told).digest == model.digest


# Converting.


def test_what_a_format_has_no_place_for_is_refused_or_left_out(puller: Client) -> None:
    puller.pull("modelpack-raw")
    with pytest.raises(ModelError, match=r"no place for .*chat_template\.jinja \(template\)"):
        puller.convert("modelpack-raw", "x", Wish("ollama"))
    lossy = puller.convert("modelpack-raw", "x", Wish("ollama", lossy=True))
    assert set(parts(lossy).values()) == {Role.WEIGHTS, Role.LICENSE}
    assert lossy.path == puller.get("modelpack-raw").path


def test_there_and_back_is_the_same(client: Client, folder: Path) -> None:
    text = "FROM tiny.gguf\nTEMPLATE {{ .Prompt }}\nSYSTEM s\nPARAMETER top_p 0.5\nMESSAGE user x"
    first = make(client, folder, text, "first", format="ollama")
    client.convert("first", "second", Wish("docker"))
    client.convert("second", "third", Wish("modelpack"))
    assert client.convert("third", "fourth", Wish("ollama")).digest == first.digest


def test_a_model_that_is_not_here_is_not_converted(client: Client) -> None:
    with pytest.raises(NotFoundError):
        client.convert("nothing", "x")


def install(client: Client, made: Artifact, name: str) -> None:
    """Put an artifact into the store as it is, archives and all."""
    memory = Memory()
    for raw in made.blobs.values():
        client.store.push(memory.leaf(raw), memory)
    desc = memory.leaf(made.manifest, made.media_type)
    client.store.push(desc, memory)
    client.store.tag(desc, client.reference(name).name)


def test_an_archive_that_is_not_unpacked_is_told(client: Client) -> None:
    install(client, WRITERS["modelpack-tar"].make(), "packed")
    with pytest.raises(ModelError, match="not unpacked yet"):
        client.convert("packed", "x")


def modelpack(files: dict[str, tuple[str, bytes]]) -> Artifact:
    layers = [
        described(f"application/vnd.cncf.model.{kind}", raw, annotations={FILEPATH: name})
        for name, (kind, raw) in files.items()
    ]
    told = {"descriptor": {"family": "resnet"}, "config": {"format": "onnx", "paramSize": "1M"}}
    config = compact(told)
    return image(
        described("application/vnd.cncf.model.config.v1+json", config),
        layers,
        [config, *(raw for _, raw in files.values())],
        artifactType="application/vnd.cncf.model.manifest.v1+json",
    )


def test_of_weights_that_nobody_here_reads_the_config_tells(client: Client) -> None:
    files = {"net.onnx": ("weight.v1.raw", b"onnx")}
    install(client, modelpack(files), "net")
    made = client.convert("net", "made")
    assert (made.model.format, made.model.family, made.model.parameter_size) == (
        *("onnx", "resnet"),
        "1M",
    )


def test_names_get_the_endings_that_readers_look_for(client: Client) -> None:
    files = {"weights.bin": ("weight.v1.raw", tiny_llama())}
    install(client, modelpack(files), "bin")
    assert parts(client.convert("bin", "made")) == {"weights.bin.gguf": Role.WEIGHTS}
    jinja = "application/vnd.docker.ai.chat.template.jinja"
    raw = JINJA.encode()
    config = b"{}"
    kinds = [("application/vnd.docker.ai.gguf.v3", tiny_llama(), "m"), (jinja, raw, "template")]
    docker = image(
        described("application/vnd.docker.ai.model.config.v0.1+json", config),
        [described(kind, raw, annotations={FILEPATH: name}) for kind, raw, name in kinds],
        [config, *(raw for _, raw, _ in kinds)],
    )
    install(client, docker, "docker")
    made = client.convert("docker", "made")
    assert parts(made) == {"m.gguf": Role.WEIGHTS, "template.jinja": Role.TEMPLATE}


# What another program makes of it.


def artifact(model: Installed) -> Artifact:
    """The model's manifest and blobs."""
    blobs = {}
    for desc in model.manifest.successors:
        with model._store.fetch(desc) as stream:
            blobs[str(desc.digest)] = stream.read()
    return Artifact(model.manifest.raw, model.manifest.media_type, blobs)


def test_a_folder_that_may_not_be_looked_at_is_told(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(ModelError, match=r"line 1: reading .*: Permission denied"):
        make(client, folder, "FROM tiny.gguf")


def test_a_file_that_nobody_may_look_for_is_no_name(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(ModelError, match=r"line 1: reading .*tiny.gguf: Permission denied"):
        make(client, folder, "FROM tiny.gguf")


@pytest.mark.live
def test_oras_pulls_usable_files_under_their_names(
    client: Client, tmp_path: Path, docker_registry: DockerRegistry
) -> None:
    if shutil.which("oras") is None:
        pytest.skip("oras is not on this machine: what it makes of our files is not known")
    folder = sharded(tmp_path / "hf")
    (folder / "docs").mkdir()
    (folder / "docs" / "README.md").write_text("# x")
    model = of_paths(client, folder)
    put(docker_registry.url, "created/tiny", "v1", artifact(model))
    out = tmp_path / "out"
    target = f"{docker_registry.host}/created/tiny:v1"
    command = ["oras", "pull", "--plain-http", "--output", str(out), target]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    found = {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()
    }
    assert found == {part.name: content(model, part.name) for part in model.parts}
    assert "docs/README.md" in found


@pytest.mark.live
@pytest.mark.parametrize("form", ["modelpack", "ollama", "docker"])
def test_what_was_made_is_pulled_from_a_real_registry(
    client: Client, tmp_path: Path, folder: Path, docker_registry: DockerRegistry, form: str
) -> None:
    model = make(client, folder, "FROM tiny.gguf\nSYSTEM s\nPARAMETER top_k 1", format=form)
    digest = put(docker_registry.url, f"created/{form}", "v1", artifact(model))
    with Client(tmp_path / "other") as other:
        pulled = other.pull(f"{docker_registry.host}/created/{form}:v1")
    assert str(pulled.digest) == digest == str(model.digest)
    assert pulled.model.system == "s"
    assert pulled.model.parameters == {"top_k": 1}
    assert isinstance(pulled.manifest.config, Descriptor)


# FROM a model that is not here.


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("FROM gone", "gone"),
        ("FROM tiny.gguf\nFROM hf.co/Org/Model:Q4", "hf.co/Org/Model:Q4"),
        ("FROM gone@sha256:" + "a" * 64, "gone@sha256:" + "a" * 64),
        ("FROM gone#part", "gone#part"),
        ("FROM here", None),
        ("FROM here:latest", None),
        ("FROM tiny.gguf", None),
        ("FROM ./folder/tiny", None),
        ("FROM gone.GGUF", None),
        ("FROM org/gone.safetensors", None),
        ("FROM ../gone", None),
        ("FROM ~/gone", None),
        ("FROM no name", None),
    ],
)
def test_the_base_that_is_to_be_pulled(
    client: Client, folder: Path, text: str, base: str | None
) -> None:
    make(client, folder, "FROM tiny.gguf", "here")
    assert client.missing_base(modelfile.parse(text), folder) == base


def test_two_bases_are_refused_before_a_pull(client: Client, folder: Path) -> None:
    with pytest.raises(ModelError, match="line 2: a model can be made from one model only"):
        client.missing_base(modelfile.parse("FROM a\nFROM b"), folder)
