"""`create` and `convert`: what they read, what they say, and how they fail."""

import re
from pathlib import Path

import pytest
from gguf_writer import tiny_llama
from registry import Registry
from tiny import safetensors

from tests.cli.conftest import Cli
from tests.cli.models import HOSTILE, NEVER
from tests.cli.test_terminal import add

MODELFILE = "FROM ./tiny.gguf\nSYSTEM Be brief.\nPARAMETER top_k 3\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the command is given, with weights and a Modelfile."""
    path = tmp_path / "work"
    path.mkdir()
    (path / "tiny.gguf").write_bytes(tiny_llama())
    (path / "Modelfile").write_text(MODELFILE)
    monkeypatch.chdir(path)
    return path


def test_a_modelfile_becomes_a_model(cli: Cli, folder: Path) -> None:
    result = cli("create", "mine", "-f", str(folder / "Modelfile"))
    assert result.code == 0
    assert re.fullmatch(r"created mine:latest  [0-9a-f]{12}  51 KB\n", result.output)
    assert result.errors.splitlines() == [
        "hashing tiny.gguf: 100% 51 KB",
        "writing manifest",
        "success",
    ]
    assert cli("show", "mine", "--system").output == "Be brief."


@pytest.mark.usefixtures("folder")
def test_the_modelfile_of_this_folder_is_the_default(cli: Cli) -> None:
    assert cli("create", "one").code == 0
    assert cli("create", "two", "--file", "-", stdin=MODELFILE.encode()).code == 0
    assert cli("create", "three", "tiny.gguf").code == 0
    one, two, three = (cli("show", name, "--json").json for name in ("one", "two", "three"))
    assert one["digest"] == two["digest"] != three["digest"]
    assert [part["name"] for part in three["parts"]] == ["tiny.gguf"]


def test_a_folder_becomes_a_model(cli: Cli, folder: Path) -> None:
    (folder / "LICENSE").write_text("MIT")
    assert cli("create", "-q", "mine", ".") == type(cli("list"))(0, b"", "")
    assert cli("show", "mine", "--license").output == "MIT"


@pytest.mark.usefixtures("folder")
def test_create_as_json(cli: Cli) -> None:
    result = cli("create", "mine", "--json")
    assert result.errors == ""
    first, second, last = result.records
    size = len(tiny_llama())
    assert first == {"status": "hashing tiny.gguf", "total": size, "completed": size}
    assert second == {"status": "writing manifest"}
    assert (last["status"], last["name"]) == ("success", "registry.ollama.ai/library/mine:latest")
    assert last["digest"] == cli("show", "mine", "--json").json["digest"]


@pytest.mark.usefixtures("folder")
def test_the_format_and_the_time_are_chosen(cli: Cli) -> None:
    plain = cli("create", "a", "--json", "--format", "ollama").records[-1]["digest"]
    docker = cli("create", "b", "--json", "--format", "docker").records[-1]["digest"]
    dated = cli("create", "c", "--json", "--format", "docker", "--created", "2026-01-01T00:00:00Z")
    same = cli("create", "d", "--json", "--format", "docker", "--created", "2026-01-01")
    assert len({plain, docker, dated.records[-1]["digest"]}) == 3
    assert same.records[-1]["digest"] == dated.records[-1]["digest"]
    assert cli("create", "e", "--created", "yesterday").code == 2
    assert cli("create", "e", "--format", "zip").code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("x", "-f", "gone"), 3, "reading the Modelfile gone: No such file or directory (name"),
        (("x", "-f", "gone", "tiny.gguf"), 2, "a Modelfile or PATHs, not both"),
        (("x", "gone.gguf"), 3, "is no file"),
        (("x", "Modelfile"), 9, "neither GGUF nor safetensors"),
        (("x", "-f", "tiny.gguf"), 9, "the Modelfile"),
        (("no name",), 2, "no name"),
        ((), 2, "Missing argument 'NAME'"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_failure_has_a_sentence_and_a_code(
    cli: Cli, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    result = cli("create", *arguments)
    assert result.code == code
    assert sentence in result.errors
    assert cli("list", "--json").json == []


def test_a_failure_names_the_line(cli: Cli, folder: Path) -> None:
    (folder / "Modelfile").write_text("FROM tiny.gguf\n\nPARAMETER top_k many\n")
    assert (
        "the Modelfile, line 3: the parameter top_k is a whole number" in cli("create", "x").errors
    )


def test_hostile_names_reach_no_terminal(cli: Cli, folder: Path) -> None:
    hostile = HOSTILE.replace("\r", "").replace("/", "")
    (folder / f"{hostile}.gguf").write_bytes(tiny_llama())
    result = cli("create", "x", f"{hostile}.gguf")
    assert result.code == 0
    assert not NEVER & set(result.errors + result.output)


@pytest.mark.usefixtures("folder")
def test_what_show_says_makes_it_again(cli: Cli) -> None:
    cli("create", "one")
    told = cli("show", "one", "--modelfile").raw
    again = cli("create", "two", "-f", "-", "--json", stdin=told).records[-1]
    assert again["digest"] == cli("show", "one", "--json").json["digest"]


@pytest.mark.usefixtures("folder")
def test_convert_tells_what_it_made(cli: Cli) -> None:
    cli("create", "one")
    result = cli("convert", "one", "two", "--format", "ollama")
    assert result.code == 0
    assert re.fullmatch(r"converted to two:latest  [0-9a-f]{12}  51 KB\n", result.output)
    as_json = cli("convert", "one", "three", "--format", "docker", "--json").json
    assert as_json["status"] == "success"
    assert cli("convert", "--quiet", "one", "four").output == ""
    assert cli("convert", "none", "x").code == 3


def test_convert_refuses_to_lose_anything(cli: Cli, folder: Path) -> None:
    (folder / "README.md").write_text("# x")
    (folder / "Modelfile").unlink()
    cli("create", "one", ".")
    refused = cli("convert", "one", "two", "--format", "ollama")
    assert refused.code == 9
    assert "no place for README.md (document) (leave it out with --lossy" in refused.errors
    assert cli("convert", "one", "two", "--format", "ollama", "--lossy").code == 0


# FROM a model that is not here.


def test_the_model_after_from_is_pulled_first(cli: Cli, folder: Path, loopback: Registry) -> None:
    base = add(loopback, "team/tiny", 10)
    (folder / "Modelfile").write_text(f"FROM {base}\nSYSTEM Be brief.\n")
    result = cli("create", "mine")
    lines = result.errors.splitlines()
    assert (result.code, lines[0]) == (0, f"{base} is not installed; pulling it")
    assert "pulling manifest" in lines
    assert sum(line.endswith("100% 51 KB") for line in lines) == 1
    assert result.output.startswith("created mine:latest  ")
    digest = cli("show", "mine", "--json").json["digest"]
    asked = len(loopback.log)
    again = cli("create", "again", "--json")
    assert len(loopback.log) == asked
    assert [record["status"] for record in again.records] == ["writing manifest", "success"]
    assert again.records[-1]["digest"] == digest
    assert len(cli("list").lines) == 4


def test_as_json_only_the_new_model_is_a_success(
    cli: Cli, folder: Path, loopback: Registry
) -> None:
    base = add(loopback, "team/tiny", 10)
    (folder / "Modelfile").write_text(f"FROM {base}\n")
    result = cli("create", "mine", "--json", "-q", "--connections", "1")
    assert (result.code, result.errors) == (0, "")
    assert any(record["status"].startswith("pulling ") for record in result.records)
    told = [record for record in result.records if record["status"] == "success"]
    assert [record["name"] for record in told] == ["registry.ollama.ai/library/mine:latest"]
    assert cli("create", "-q", "other") == type(result)(0, b"", "")


def test_a_path_that_exists_is_no_model(cli: Cli, folder: Path, loopback: Registry) -> None:
    base = add(loopback, "team/tiny", 10)
    place = folder / base
    place.mkdir(parents=True)
    (place / "tiny.gguf").write_bytes(tiny_llama())
    (folder / "Modelfile").write_text(f"FROM {base}\n")
    assert cli("create", "mine").code == 0
    assert not loopback.log


@pytest.mark.parametrize(
    ("text", "name", "code", "sentence"),
    [
        ("FROM {base}/gone", "mine", 3, "/gone: there is no such file in /"),
        ("FROM {base}\nFROM {base}", "mine", 9, "from one model only"),
        ("FROM {base}", "no name", 2, "no name"),
        ("FROM {base}/gone.gguf", "mine", 3, "gone.gguf is no file in "),
        ("FROM A/b/../c", "mine", 3, "is no file in "),
        ("FROM /gone/m", "mine", 3, "/gone/m is no file and no folder\n"),
        ("FROM 127.0.0.1:1/team/x", "mine", 6, "x: there is no such file in /"),
    ],
)
def test_what_cannot_be_pulled(
    cli: Cli,
    folder: Path,
    loopback: Registry,
    text: str,
    name: str,
    code: int,
    sentence: str,
) -> None:
    base = add(loopback, "team/tiny", 10)
    (folder / "Modelfile").write_text(text.format(base=base))
    result = cli("create", name)
    assert result.code == code
    assert sentence in result.errors
    assert cli("list", "--json").json == []


def test_what_is_not_in_the_model_is_told(cli: Cli, folder: Path) -> None:
    (folder / "deep").mkdir()
    for name in ("pytorch_model.bin", "deep/x.bin", ".hidden", "README.md"):
        (folder / name).write_bytes(b"anything")
    told = f"{folder}: left out deep/x.bin, pytorch_model.bin (taken are"
    assert told in cli("create", "mine", str(folder)).errors
    assert "left out" not in cli("create", "-q", "mine", str(folder)).errors
    text = 'FROM tiny.gguf\nPARAMETER mirostat 2\nPARAMETER top_k 1\nPARAMETER stop ""\n'
    result = cli("create", "mine", "-f", "-", stdin=text.encode())
    assert "were left out: mirostat (line 2), stop (line 4)\n" in result.errors
    assert result.code == 0


def test_a_lone_file_of_safetensors_is_told_to_be_alone(cli: Cli, folder: Path) -> None:
    files = (
        "m-00001-of-00001.safetensors",
        "config.json",
        "tokenizer.json",
        "README.md",
        ".x.json",
    )
    for name in files:
        content = safetensors("a") if name.endswith("safetensors") else b"{}"
        (folder / name).write_bytes(content)
    result = cli("create", "mine", str(folder / files[0]))
    assert "taken without what is beside it, config.json, tokenizer.json (give" in result.errors
    assert [part["name"] for part in cli("show", "mine", "--json").json["parts"]] == [files[0]]


@pytest.mark.parametrize(
    ("name", "content", "template"),
    [
        ("tokenizer_config.json", '{"chat_template": "{{ jinja }}"}', "{{ jinja }}"),
        ("chat_template.json", '{"chat_template": "{{ jinja }}"}', "{{ jinja }}"),
        ("chat_template.jinja", "{{ jinja }}", "{{ jinja }}"),
        (
            "tokenizer_config.json",
            '{"chat_template": [{"name": "tool_use"}, {"name": "default", "template": "d"}]}',
            "d",
        ),
        ("tokenizer_config.json", '{"chat_template": [{"name": "tool_use"}]}', ""),
        ("tokenizer_config.json", '{"chat_template": 7}', ""),
        ("tokenizer_config.json", "[]", ""),
    ],
)
def test_the_template_of_a_folder_of_safetensors_is_found(
    cli: Cli, folder: Path, name: str, content: str, template: str
) -> None:
    place = folder / "safe"
    place.mkdir()
    (place / "model.safetensors").write_bytes(safetensors("a"))
    (place / name).write_text(content)
    assert cli("create", "mine", str(place)).code == 0
    assert cli("show", "mine", "--template").output.rstrip("\n") == template
    shown = cli("show", "mine", "--json").json
    assert (shown["chat_template"] or "") == template
    assert ("chat" in shown["capabilities"]) == bool(template)


def test_a_template_of_its_own_file_goes_first(cli: Cli, folder: Path) -> None:
    place = folder / "safe"
    place.mkdir()
    (place / "model.safetensors").write_bytes(safetensors("a"))
    (place / "tokenizer_config.json").write_text('{"chat_template": "old"}')
    (place / "chat_template.json").write_text('{"chat_template": ""}')
    cli("create", "mine", str(place))
    assert cli("show", "mine", "--template").output.rstrip("\n") == "old"
    (place / "chat_template.jinja").write_text("new")
    cli("create", "mine", str(place))
    assert cli("show", "mine", "--template").output.rstrip("\n") == "new"
    (place / "chat_template.jinja").unlink()
    (place / "tokenizer_config.json").write_text("[" + "0," * 2**18 + "0,0]")
    cli("create", "mine", str(place))
    assert "more than 262144 values" in cli("show", "mine").errors + cli("show", "mine").output


def test_weights_that_only_begin_as_gguf_are_cut_off(cli: Cli, folder: Path) -> None:
    (folder / "short.gguf").write_bytes(b"GGUF")
    result = cli("create", "short", "short.gguf")
    assert result.code == 9
    assert "it begins as GGUF does, and is too short for one" in result.errors
