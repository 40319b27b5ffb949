"""`modelpm export`: what it writes, what it says, and what it refuses."""

import json
from pathlib import Path

import pytest
from gguf_writer import tiny_llama

from tests.cli.conftest import Cli
from tests.cli.models import HOSTILE, NEVER, Maker


def test_a_model_becomes_a_folder(cli: Cli, maker: Maker, tmp_path: Path) -> None:
    maker.put("tiny", system="You are brief.", license="free")
    out = tmp_path / "out"
    result = cli("export", "tiny", str(out))
    assert result.code == 0
    assert all(line.startswith("copying ") for line in result.errors.splitlines())
    rows = [line.split() for line in result.lines]
    assert rows[0] == ["FILE", "SIZE", "AS"]
    assert {row[0] for row in rows[1:-1]} == {"model.gguf", "system", "LICENSE", "Modelfile"}
    assert result.lines[-1] == f"exported tiny:latest to {out}"
    assert (out / "model.gguf").read_bytes() == tiny_llama()
    assert (out / "Modelfile").read_text().startswith("FROM ./model.gguf\nSYSTEM You are brief.\n")
    assert cli("export", "tiny", str(tmp_path / "quiet"), "-q").output == ""


def test_the_document(cli: Cli, maker: Maker, tmp_path: Path) -> None:
    desc = maker.put("tiny", system="brief")
    told = cli("export", "tiny", str(tmp_path / "out"), "--json", "--link").json
    assert told["digest"] == str(desc.digest)
    assert told["folder"] == str(tmp_path / "out")
    assert told["files"][0] | {"digest": "", "size": 0} == {
        "name": "model.gguf",
        "size": 0,
        "made": "link",
        "role": "weights",
        "digest": "",
    }
    assert told["files"][-1]["made"] == "text"
    assert told["files"][-1]["digest"] is None


@pytest.mark.parametrize(("option", "made"), [("--link", "link"), ("--symlink", "symlink")])
def test_weights_can_be_links(
    cli: Cli, maker: Maker, tmp_path: Path, option: str, made: str
) -> None:
    maker.put("tiny", system="brief")
    told = cli("export", "tiny", str(tmp_path / "out"), "--json", option).json
    assert [file["made"] for file in told["files"]] == [made, "copy", "text"]
    assert (tmp_path / "out" / "model.gguf").is_symlink() == (made == "symlink")


def test_what_is_refused(cli: Cli, maker: Maker, tmp_path: Path) -> None:
    maker.put("tiny")
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    result = cli("export", "tiny", str(out))
    assert result.code == 7
    assert "--force" in result.errors
    assert [path.name for path in out.iterdir()] == ["mine"]
    assert cli("export", "tiny", str(out), "--force").code == 0
    assert [path.name for path in out.iterdir()] == ["model.gguf"]
    assert cli("export", "tiny", str(out), "--link", "--symlink").code == 2
    assert cli("export", "none", str(out)).code == 3
    (tmp_path / "file").touch()
    failed = cli("export", "tiny", str(tmp_path / "file"), "--force", "--json")
    assert failed.code == 7
    assert json.loads(failed.lines[-1])["error"]["class"] == "StoreError"


def test_damage_is_told(cli: Cli, maker: Maker, tmp_path: Path) -> None:
    maker.put("tiny", system="brief")
    path = Path(cli("path", "tiny").output.strip())
    path.chmod(0o644)
    path.write_bytes(b"GGUF" + bytes(path.stat().st_size - 4))
    result = cli("export", "tiny", str(tmp_path / "out"))
    assert result.code == 5
    assert "damaged" in result.errors
    assert not (tmp_path / "out").exists()


def test_hostile_names_are_escaped(cli: Cli, maker: Maker, tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE.replace("\0", "")
    maker.put("tiny")
    result = cli("export", "tiny", str(folder))
    assert result.code == 0
    assert not NEVER & set(result.output + result.errors)
