"""What `show` tells of a model, whole and in parts, flawed and hostile."""

import json
from pathlib import Path

import pytest
from gguf_writer import tiny_llama

from modelpm.cli.description import parameter_lines
from modelpm.content import Packed
from modelpm.oci.descriptor import Digest
from modelpm.store.layout import Store
from tests.cli.conftest import Cli
from tests.cli.models import HOSTILE, LIBRARY, NEVER, Maker
from tests.cli.terminal import Terminal, assert_harmless

TEXTS = {
    "template": "{{ .System }}\n\t{{ .Prompt }}",
    "system": "You are brief.",
    "params": json.dumps({"temperature": 0.5, "stop": ["</s>", "\n"]}),
    "license": "\n".join(["", *(f"line {number}" for number in range(9))]),
    "messages": json.dumps([{"role": "user", "content": "hi"}]),
}
OVERVIEW = """\
  Model
    architecture        llama
    name                tiny
    format              gguf
    parameters          39.5K
    quantization        Q8_0
    context length      128
    embedding length    32
    block count         2
    vocabulary          llama
    vocabulary size     295
    capabilities        completion, chat

  Origin
    name       registry.ollama.ai/library/tiny:latest
    dialect    ollama

  Parameters
    temperature    0.5
    stop           "</s>"
    stop           "\\n"

  System
    You are brief.

  License
    line 0
    line 1
    line 2
    ...

"""


def test_the_overview(cli: Cli, maker: Maker) -> None:
    maker.put("tiny", **TEXTS)
    result = cli("show", "tiny")
    assert result.code == 0
    assert result.errors == ""
    told, _, parts_told = result.output.partition("  Parts\n")
    assert told == OVERVIEW
    parts = [line.split() for line in parts_told.splitlines()]
    assert parts[0] == ["ROLE", "NAME", "SIZE", "DIGEST", "TYPE"]
    assert {part[-1].rpartition(".")[0] for part in parts[1:]} == {"application/vnd.ollama.image"}
    roles = ["weights", "template", "system", "parameters", "license", "messages"]
    assert [part[0] for part in parts[1:]] == roles


def test_each_part_alone(cli: Cli, maker: Maker) -> None:
    desc = maker.put("tiny", **TEXTS)
    assert cli("show", "tiny", "--manifest").raw == maker.memory.content[desc.digest]
    assert cli("show", "tiny", "--template").output == TEXTS["template"]
    assert cli("show", "tiny", "--system").output == "You are brief."
    assert cli("show", "tiny", "--license").output == TEXTS["license"]
    assert cli("show", "tiny", "--parameters").lines == [
        "temperature    0.5",
        'stop           "</s>"',
        'stop           "\\n"',
    ]
    told = cli("show", "tiny", "--modelfile").output
    assert told.startswith("FROM tiny:latest\n")
    assert "SYSTEM" in told
    assert cli("show", "tiny", "--system", "--json").json == {"system": "You are brief."}


def test_a_part_that_is_not_there_is_told(cli: Cli, maker: Maker) -> None:
    maker.put("tiny")
    for part in ("system", "license", "parameters", "template"):
        result = cli("show", "tiny", f"--{part}")
        assert (result.code, result.output) == (0, "")
        assert result.errors == f"tiny:latest has no {part}\n"
        assert cli("show", "tiny", f"--{part}", "-q").errors == ""
        assert cli("show", "tiny", f"--{part}", "--json").json == {part: None}


def test_everything_as_json(cli: Cli, maker: Maker) -> None:
    desc = maker.put("tiny", **TEXTS)
    told = cli("show", "tiny", "--json").json
    assert told["name"] == f"{LIBRARY}/tiny:latest"
    assert told["digest"] == str(desc.digest)
    assert told["dialect"] == "ollama"
    assert Path(told["path"]).is_file()
    assert told["model"]["architecture"] == "llama"
    assert told["model"]["parameter_count"] == 39_520
    assert told["parameters"] == {"temperature": 0.5, "stop": ["</s>", "\n"]}
    assert told["template"] == TEXTS["template"]
    assert told["chat_template"] is None
    assert told["licenses"] == [TEXTS["license"]]
    assert told["messages"] == [{"role": "user", "content": "hi"}]
    assert told["capabilities"] == ["completion", "chat"]
    assert told["provenance"] == {}
    assert told["properties"] == {}
    assert set(told["parts"][0]) == {"role", "name", "mediaType", "digest", "size", "packedIn"}
    assert told["parts"][0]["role"] == "weights"
    assert told["flaws"] == []


@pytest.mark.parametrize("cut", [3, 100, 20_000])
def test_weights_that_do_not_pass_the_gate_are_a_flaw_among_facts(
    cli: Cli, maker: Maker, cut: int
) -> None:
    maker.put("tiny", tiny_llama()[:cut], system="brief")
    result = cli("show", "tiny")
    assert result.code == 0
    assert result.errors.startswith("Flaw: reading ")
    assert "architecture    llama" in result.output
    assert "    brief" in result.output
    told = cli("show", "tiny", "--json").json
    assert told["model"]["architecture"] == "llama"
    assert len(told["flaws"]) == 1


def test_texts_that_cannot_be_read_are_flaws(cli: Cli, maker: Maker) -> None:
    maker.put("tiny", params="[]", messages="{}", system="brief")
    result = cli("show", "tiny")
    assert result.code == 0
    assert result.errors == "Flaw: the model's parameters are not a JSON object\n"
    assert "    brief" in result.output
    assert len(cli("show", "tiny", "--json").json["flaws"]) == 2
    assert cli("show", "tiny", "--parameters").code == 9


def test_a_missing_blob_is_a_flaw(cli: Cli, maker: Maker, home: Path) -> None:
    maker.put("tiny", system="brief")
    weights = Path(cli("path", "tiny").output.strip())
    weights.unlink()
    result = cli("show", "tiny")
    assert result.code == 0
    assert result.errors == (
        "Flaw: tiny:latest: the store's copy is damaged in application/vnd.ollama.image.model:"
        f" the store has no blob sha256:{weights.name}"
        " (it was made here, as far as is known: create or import it again)\n"
    )
    told = cli("show", "tiny", "--json").json
    assert told["path"] is None
    assert told["system"] == "brief"


def test_where_a_model_comes_from(cli: Cli, maker: Maker) -> None:
    index = f"sha256:{'1' * 64}"
    desc = maker.put("plain")
    manifest = json.loads(maker.memory.content[desc.digest])
    source = {"org.opencontainers.image.source": f"https://example.com/{HOSTILE}"}
    desc = maker.manifest("tiny", {**manifest, "annotations": source})
    maker.store.tag(desc, f"{LIBRARY}/tiny:latest", selected_from=Digest.parse(index))
    result = cli("show", "tiny")
    assert "    source           https://example.com/" in result.output
    assert f"    selected from    {index}" in result.output
    assert not NEVER & set(result.output)
    told = cli("show", "tiny", "--json").json["provenance"]
    assert set(told) == {"source", "selected_from"}


def test_files_in_archives_are_told_with_their_layer(
    cli: Cli, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = maker.memory.leaf(tiny_llama(), "application/octet-stream")
    kind = "application/vnd.cncf.model.weight.v1.tar+gzip"
    layer = maker.memory.leaf(b"\x1f\x8b packed", kind)
    config = maker.memory.leaf(b"{}", "application/vnd.cncf.model.config.v1+json")
    for desc in (weights, layer, config):
        maker.store.push(desc, maker.memory)
    maker.manifest("tiny", {"config": config.to_json(), "layers": [layer.to_json()]})
    held = {layer.digest: (Packed("m.gguf", weights),)}
    monkeypatch.setattr(Store, "unpacked", lambda _store, desc: held.get(desc.digest))
    lines = cli("show", "tiny").lines
    row = next(line.split() for line in lines if line.split()[:1] == ["weights"])
    assert row[1] == "m.gguf"
    assert row[-3:] == [weights.digest.short, layer.digest.short, kind]
    assert "IN LAYER" in "".join(lines)
    assert lines[-1].strip() == "Files of compressed layers are kept beside them."
    assert cli("show", "tiny", "--json").json["parts"][0]["packedIn"] == str(layer.digest)


def test_a_safetensors_model_has_no_flaw(cli: Cli, maker: Maker) -> None:
    header = json.dumps({"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    content = len(header).to_bytes(8, "little") + header + b"\0\0"
    files = {
        "weight": ("model.safetensors", content),
        "weight.config": ("config.json", b'{"model_type":"qwen2","hidden_size":64}'),
    }
    layers = []
    for kind, (name, raw) in files.items():
        desc = maker.memory.leaf(raw, f"application/vnd.cncf.model.{kind}.v1.raw")
        maker.store.push(desc, maker.memory)
        named = {"annotations": {"org.cncf.model.filepath": name}}
        layers.append(desc.to_json() | named)
    config = maker.memory.leaf(b"{}", "application/vnd.cncf.model.config.v1+json")
    maker.store.push(config, maker.memory)
    maker.manifest("tiny", {"config": config.to_json(), "layers": layers})
    result = cli("show", "tiny")
    assert (result.code, result.errors) == (0, "")
    told = cli("show", "tiny", "--json").json
    assert told["flaws"] == []
    assert told["model"]["architecture"] == "qwen2"
    assert told["model"]["embedding_length"] == 64


def test_what_is_no_model_still_has_a_manifest(cli: Cli, maker: Maker) -> None:
    members = {
        "config": {"mediaType": "application/x-y", "digest": f"sha256:{'0' * 64}", "size": 2},
        "layers": [],
    }
    leaf = maker.memory.leaf(b"{}", "application/vnd.example+json")
    maker.store.push(leaf, maker.memory)
    desc = maker.manifest("odd", {**members, "config": leaf.to_json()})
    assert cli("show", "odd").code == 9
    assert cli("show", "odd", "--manifest").raw == maker.memory.content[desc.digest]


@pytest.mark.parametrize(
    "system",
    [
        "two\r\nlines",
        "a\x0cform\x0bfeed\x1c\x85\u2028line ends",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\x1b[31mred\x1b]0;title\x07",
        HOSTILE,
        " spaces and an end\n\n",
        "\ufeffmark",
    ],
)
def test_a_text_in_a_file_is_the_very_text(
    cli: Cli, maker: Maker, tmp_path: Path, system: str
) -> None:
    maker.put("tiny", system=system, template=system, license=system)
    for part in ("system", "template", "license"):
        assert cli("show", "tiny", f"--{part}").raw == system.encode()
    written = tmp_path / "Modelfile"
    digests = []
    for name in ("tiny", "second", "third"):
        written.write_bytes(cli("show", name, "--modelfile").raw)
        assert cli("create", "second" if name == "tiny" else "third", "-f", str(written)).code == 0
        digests.append(cli("show", "second", "--json").json["digest"])
        assert cli("show", "second", "--system").raw == system.encode()
    assert len(set(digests)) == 1


@pytest.mark.parametrize("columns", [80, 70])
@pytest.mark.parametrize("command", ["show", "list", "diff"])
def test_no_line_is_wider_than_the_terminal(
    cli: Cli, maker: Maker, command: str, columns: int
) -> None:
    maker.put("tiny", system="brief")
    other = f"localhost:5000/team/a-rather-long-name@sha256:{'a1' * 32}"
    maker.put(other, tiny_llama(name="b" * 70), system="brief", template="{{ .Prompt }}")
    arguments = {"show": ["tiny"], "list": [], "diff": ["tiny", "tiny:other"]}[command]
    maker.put("tiny:other", tiny_llama(name="b" * 70), params=json.dumps({"stop": ["c" * 90]}))
    with Terminal(command, *arguments, columns=columns) as terminal:
        assert terminal.wait() == 0
    lines = terminal.text.splitlines()
    assert max(map(len, lines)) <= columns
    assert "..." in terminal.text
    assert max(map(len, cli(command, *arguments).lines)) > 80, "a pipe gets all of it"


@pytest.mark.parametrize("part", ["system", "template", "license", "modelfile", "parameters"])
def test_a_text_on_a_terminal_does_nothing(maker: Maker, part: str) -> None:
    family = "\U0001f468\u200d\U0001f469"
    hostile = f"{HOSTILE}{family}"
    params = json.dumps({"stop": [hostile]})
    maker.put("tiny", system=hostile, template=hostile, license=hostile, params=params)
    with Terminal("show", "tiny", f"--{part}", columns=200) as terminal:
        assert terminal.wait() == 0
    assert_harmless(terminal.text)
    assert "\\x1b[2J" in terminal.text or "\\u001b[2J" in terminal.text
    assert part == "parameters" or family in terminal.text


def test_hostile_texts_are_escaped_in_what_is_composed(cli: Cli, maker: Maker) -> None:
    texts = {
        "template": HOSTILE,
        "system": HOSTILE,
        "license": f"{HOSTILE}\n{HOSTILE}",
        "params": json.dumps({HOSTILE: HOSTILE, "stop": [HOSTILE]}),
        "messages": json.dumps([{"role": "user", "content": HOSTILE}]),
    }
    maker.put("tiny", tiny_llama(name=HOSTILE), **texts)
    for arguments in (
        ("show", "tiny"),
        ("show", "tiny", "--parameters"),
        ("show", "tiny", "--json"),
    ):
        result = cli(*arguments)
        assert not NEVER & set(result.output + result.errors), arguments
        assert "\\x07" in result.output or "\\u0007" in result.output


def test_parameters_have_a_line_a_value() -> None:
    assert parameter_lines({}) == []
    assert parameter_lines({"a": True, "longer": ("x", "é")}) == [
        "a         true",
        'longer    "x"',
        'longer    "é"',
    ]
