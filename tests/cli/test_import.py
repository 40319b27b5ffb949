"""`modelpm import`: what is listed, what is taken in, and where it looks."""

import errno
import os
import sys
from pathlib import Path

import build
import pytest
from gguf_writer import tiny_llama
from ollama_artifacts import Recipe, artifact

from modelpm.cli.commands import import_
from modelpm.cli.places import PROGRAMS, places
from modelpm.oci.descriptor import Digest
from tests.cli.conftest import Cli
from tests.cli.models import HOSTILE, LIBRARY, NEVER, Maker
from tests.places import hugging_face, lm_studio, ollama


@pytest.fixture
def ollamas(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ollama's folder, where its own setting says; one model is broken."""
    place = tmp_path / "ollama"
    monkeypatch.setenv("OLLAMA_MODELS", str(place))
    broken = artifact(Recipe(weights=b"GGUF"), size="1", quantization="Q8_0")
    ollama(place, {f"{LIBRARY}/broken/latest": broken})
    (place / "blobs" / f"sha256-{Digest.of(b'GGUF').hex}").unlink()
    ollama(place, {f"{LIBRARY}/tiny/{tag}": build.LAYOUTS["ollama"]() for tag in ("latest", "2")})
    ollama(place, {f"{LIBRARY}/other/latest": build.LAYOUTS["modelpack-raw"]()})
    return place


def test_without_a_name_all_are_listed(cli: Cli, ollamas: Path) -> None:
    result = cli("import", "ollama")
    assert (result.code, result.errors) == (0, "")
    rows = {line.split()[0]: line for line in result.lines}
    assert list(rows) == ["NAME", "broken:latest", "other:latest", "tiny:2", "tiny:latest"]
    assert "not finished" in rows["broken:latest"]
    told = {each["name"]: each for each in cli("import", "ollama", "--json").json}
    assert told["tiny:2"]["reference"] == f"{LIBRARY}/tiny:2"
    assert told["tiny:2"]["is_here"] is False


def test_a_model_is_taken_in_once(cli: Cli, maker: Maker, tmp_path: Path) -> None:
    del maker
    place = ollama(tmp_path / "o", {f"{LIBRARY}/tiny/latest": build.LAYOUTS["ollama"]()})
    result = cli("import", "ollama", "tiny", "--from", str(place))
    assert result.code == 0
    assert result.lines[-1].startswith("imported tiny:latest  ")
    assert "writing manifest" in result.errors
    assert cli("path", "tiny").code == 0
    again = cli("import", "ollama", "tiny", "--from", str(place), "--json")
    assert again.records[-1]["status"] == "success"
    assert again.records[-1]["from"] == "tiny:latest"
    assert again.records[-1]["present"] is True
    told = cli("import", "ollama", "tiny", "--from", str(place)).lines[-1]
    assert told.startswith("already here: tiny:latest  ")
    assert cli("import", "ollama", "--from", str(place), "--json").json[0]["is_here"] is True
    assert cli("import", "ollama", "tiny", "--from", str(place), "-q").output == ""
    other = cli("import", "ollama", "tiny", "--from", str(place), "--as", "mine:1")
    assert "imported mine:1" in other.output


def test_one_failure_does_not_stop_the_others(cli: Cli, ollamas: Path) -> None:
    text = build.LAYOUTS["ollama"]().blobs
    (digest,) = (digest for digest, raw in text.items() if raw.startswith(b"You are"))
    (ollamas / "blobs" / digest.replace(":", "-")).write_bytes(text[digest].swapcase())
    result = cli("import", "ollama", "--all")
    assert result.code == 9
    assert "not finished" in result.errors
    assert "damaged" in result.errors
    assert "imported other:latest" in result.output
    failed = cli("import", "ollama", "tiny", "other", "none", "--json")
    assert [each.get("status") for each in failed.records if "from" in each or "name" in each] == [
        "failed",
        "success",
        "failed",
    ]
    assert failed.records[-1]["error"]["class"] == "DigestMismatchError"
    assert failed.code == 5


def test_what_is_not_there_and_what_is_not_meant(cli: Cli, tmp_path: Path, home: Path) -> None:
    place = ollama(tmp_path / "o", {f"{LIBRARY}/tiny/latest": build.LAYOUTS["ollama"]()})
    for arguments, code in (
        (("ollama", "none", "--from", str(place)), 3),
        (("ollama", "--from", str(tmp_path / "none")), 3),
        (("hf",), 3),
        (("lmstudio",), 3),
        (("other",), 2),
        (("ollama", "--as", "x", "--from", str(place)), 2),
        (("ollama", "tiny", "--all", "--from", str(place)), 2),
        (("ollama", "tiny", "--as", "No Name", "--from", str(place)), 2),
    ):
        assert cli("import", *arguments).code == code, arguments
    assert not home.exists()


def test_a_place_that_is_closed_does_not_hide_another(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ollama's service keeps its models where only its own user may look."""
    mine = ollama(tmp_path / "o", {f"{LIBRARY}/tiny/latest": build.LAYOUTS["ollama"]()})
    is_dir = Path.is_dir

    def closed(path: Path) -> bool:
        if path.is_relative_to("/closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", closed)
    monkeypatch.setattr(import_, "places", lambda _program: [mine, Path("/closed/models")])
    result = cli("import", "ollama")
    assert (result.code, result.lines[1].split()[0]) == (0, "tiny:latest")
    assert "reading /closed/models: Permission denied" in result.errors
    monkeypatch.setattr(import_, "places", lambda _program: [tmp_path, Path("/closed/models")])
    result = cli("import", "ollama")
    assert result.code == 7
    assert "reading /closed/models: Permission denied" in result.errors


def test_hugging_face_and_lm_studio(
    cli: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    hugging_face(tmp_path / "hf" / "hub", "acme/tiny", {"m.gguf": tiny_llama()})
    lm_studio(tmp_path / "home" / ".lmstudio" / "models", {"acme/tiny/m.gguf": tiny_llama()})
    assert "imported hf.co/acme/tiny:latest" in cli("import", "hf", "acme/tiny").output
    assert "imported localhost/acme/tiny:latest" in cli("import", "lmstudio", "--all").output
    assert (
        len({cli("path", name).output for name in ("hf.co/acme/tiny", "localhost/acme/tiny")}) == 1
    )


def test_hostile_names_are_escaped(cli: Cli, home: Path, tmp_path: Path) -> None:
    name = HOSTILE.replace("\0", "").replace("/", "")
    place = lm_studio(tmp_path / "l", {f"{name}/x/m.gguf": tiny_llama(), f"a/{name}/x.gguf": b"x"})
    for arguments in ((), ("--all",), ("--all", "--json")):
        result = cli("import", "lmstudio", "--from", str(place), *arguments)
        assert not NEVER & set(result.output + result.errors), arguments


HOME = Path("/home/a")


@pytest.mark.parametrize(
    ("program", "environment", "first"),
    [
        ("ollama", {}, "/home/a/.ollama/models"),
        ("ollama", {"OLLAMA_MODELS": "/data"}, "/data"),
        ("hf", {}, "/home/a/.cache/huggingface/hub"),
        ("hf", {"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ("hf", {"HF_HOME": "/h", "XDG_CACHE_HOME": "/c"}, "/h/hub"),
        ("hf", {"HF_HUB_CACHE": "/x", "HF_HOME": "/h"}, "/x"),
        ("lmstudio", {}, "/home/a/.lmstudio/models"),
    ],
)
def test_places(
    program: str, environment: dict[str, str], first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "OLLAMA_MODELS",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_HOME",
        "XDG_CACHE_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(HOME))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert places(program)[0] == Path(first)
    assert program in PROGRAMS


def test_names_are_completed(
    cli: Cli, ollamas: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("_MODELPM_COMPLETE", "bash_complete")
    for line, replies in (
        ("modelpm import ", ["ollama", "hf", "lmstudio"]),
        ("modelpm import ollama t", ["tiny:2", "tiny:latest"]),
        ("modelpm import ollama x", []),
        ("modelpm import hf x", []),
        (f"modelpm import ollama --from {tmp_path}/none t", []),
        ("modelpm import nonsense x", []),
    ):
        monkeypatch.setenv("COMP_LINE", line)
        found = [reply.partition(",")[2] for reply in cli().lines]
        assert [reply for reply in found if reply] == replies, line
    assert sys.platform != "win32" or os.name == "nt"
