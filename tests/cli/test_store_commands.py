"""The commands that look at the store and change it: list, path, cp, rm, prune."""

import json
from pathlib import Path

import pytest

from modelpm.oci.manifest import Manifest
from modelpm.store.index import REF_NAME
from modelpm.store.layout import Store
from tests.cli.conftest import Cli
from tests.cli.models import HOSTILE, LIBRARY, NEVER, Maker


def test_a_store_that_is_not_there_is_an_empty_list(cli: Cli, home: Path) -> None:
    assert cli("list").lines == ["NAME    ID    SIZE    MODIFIED"]
    assert cli("list", "--json").json == []
    assert not home.exists()


def test_list_shows_names_ids_sizes_and_ages(cli: Cli, maker: Maker) -> None:
    one = maker.put("tiny")
    two = maker.put("ghcr.io/acme/longer:7b", system="brief")
    result = cli("list")
    head, first, second = (line.split() for line in result.lines)
    assert head == ["NAME", "ID", "SIZE", "MODIFIED"]
    assert first[:4] == ["ghcr.io/acme/longer:7b", two.digest.short, "51", "KB"]
    assert second[:4] == ["tiny:latest", one.digest.short, "51", "KB"]
    assert first[-1] in ("ago", "now")
    assert [line.index(one.digest.short) for line in result.lines[2:]] == [
        result.lines[0].index("ID")
    ]
    assert cli("list", "-q").output == result.output


def test_list_as_json(cli: Cli, maker: Maker) -> None:
    desc = maker.put("tiny")
    (model,) = cli("list", "--json").json
    assert model.pop("modified").endswith("Z")
    size = Manifest.parse(maker.memory.content[desc.digest]).size
    assert model == {
        "name": f"{LIBRARY}/tiny:latest",
        "short_name": "tiny:latest",
        "digest": str(desc.digest),
        "size": size,
    }


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["alpha:latest", "beta:1", "beta:2"]),
        ("be", ["beta:1", "beta:2"]),
        ("*:1", ["beta:1"]),
        ("beta:[12]", ["beta:1", "beta:2"]),
        ("registry", ["alpha:latest", "beta:1", "beta:2"]),
        ("gamma", []),
    ],
)
def test_list_takes_a_pattern(cli: Cli, maker: Maker, pattern: str, names: list[str]) -> None:
    for name in ("alpha", "beta:1", "beta:2"):
        maker.put(name)
    assert [model["short_name"] for model in cli("list", "--json", pattern).json] == names


def rename(home: Path, name: str) -> None:
    """Give the first entry another name, as another program could."""
    index = json.loads((home / "index.json").read_bytes())
    index["manifests"][0]["annotations"] = {REF_NAME: name}
    (home / "index.json").write_text(json.dumps(index))


def test_a_hostile_name_of_another_program_is_escaped(cli: Cli, maker: Maker, home: Path) -> None:
    maker.put("tiny")
    rename(home, f"evil{HOSTILE}")
    for arguments in (("list",), ("list", "--json")):
        assert not NEVER & set(cli(*arguments).output)
    assert "evil\\x07" in cli("list").output


def test_path_is_the_weights_verified(cli: Cli, maker: Maker) -> None:
    maker.put("tiny", b"GGUF not really")
    result = cli("path", "tiny")
    assert Path(result.output.removesuffix("\n")).read_bytes() == b"GGUF not really"
    told = cli("path", "tiny", "--json").json
    assert told == {"name": f"{LIBRARY}/tiny:latest", "path": result.output.removesuffix("\n")}
    assert cli("path", "none").code == 3


def test_path_of_a_set_needs_the_name_of_a_file(cli: Cli, maker: Maker) -> None:
    contents = {f"m-0000{number}-of-00002.gguf": b"GGUF %d" % number for number in (1, 2)}
    maker.pack("tiny", contents)
    for name in ("tiny", "tiny#m", "tiny#m.gguf"):
        refused = cli("path", name)
        assert (refused.code, refused.output) == (9, "")
        assert "the weights are 2 files" in refused.errors
        assert "modelpm export tiny:latest DIR" in refused.errors
    for name, content in contents.items():
        for choice in (name, name.upper(), name.removesuffix(".gguf")):
            path = cli("path", f"tiny#{choice}").output.removesuffix("\n")
            assert Path(path).read_bytes() == content
    assert cli("path", "tiny#m-00003-of-00003.gguf").code == 9


def test_path_refuses_what_was_changed(cli: Cli, maker: Maker) -> None:
    maker.put("tiny", b"GGUF not really")
    path = Path(cli("path", "tiny").output.removesuffix("\n"))
    path.chmod(0o644)
    path.write_bytes(b"GGUF was altered")
    assert cli("path", "tiny").code == 5


def test_cp_gives_a_second_name(cli: Cli, maker: Maker) -> None:
    desc = maker.put("tiny")
    assert cli("cp", "tiny", "mine:v1").output == "copied tiny to mine:v1\n"
    assert cli("tag", "tiny", "mine:v2", "-q").output == ""
    told = cli("cp", "tiny", "mine:v3", "--json").json
    assert told == {"name": f"{LIBRARY}/mine:v3", "digest": str(desc.digest)}
    assert len(cli("list").lines) == 5
    assert cli("cp", "none", "mine:v4").code == 3
    assert cli("cp", "tiny", "Mine").code == 2
    assert cli("cp", "tiny", f"mine@{desc.digest}").code == 2


def test_rm_deletes_all_or_none(cli: Cli, maker: Maker) -> None:
    for name in ("a", "b"):
        maker.put(name, name.encode() * 5000)
    assert cli("rm", "a", "none").code == 3
    assert len(cli("list").lines) == 3
    result = cli("rm", "a", "b:latest", "a")
    assert result.code == 0
    assert result.lines == ["deleted a:latest", "deleted b:latest"]
    assert result.errors == "modelpm prune frees 11 KB\n"
    assert len(cli("list").lines) == 1


def test_rm_tells_what_it_would_delete(cli: Cli, maker: Maker) -> None:
    maker.put("a", b"x" * 5000, license="shared")
    maker.put("b", b"y" * 7000, license="shared")
    result = cli("rm", "a", "--dry-run")
    assert result.output == "would delete a:latest\n"
    assert result.errors == "modelpm prune would then free 5.6 KB\n"
    told = cli("rm", "a", "--dry-run", "--json").json
    prunable = told.pop("prunable")
    assert told == {"dry_run": True, "deleted": [f"{LIBRARY}/a:latest"]}
    assert len(cli("list").lines) == 3
    assert cli("rm", "a", "-q").output == ""
    assert cli("prune", "--dry-run", "--json").json["size"] == prunable
    told = cli("rm", "b", "--json").json
    assert told["dry_run"] is False
    assert told["prunable"] > 12000


def test_rm_works_where_prune_cannot(cli: Cli, maker: Maker, home: Path) -> None:
    maker.put("a")
    broken = maker.put("b", b"other")
    (home / "blobs" / "sha256" / broken.digest.hex).unlink()
    result = cli("rm", "a")
    assert result.code == 0
    assert result.output == "deleted a:latest\n"
    assert "prune cannot work yet: " in result.errors
    assert cli("prune").code == 7


def test_prune_deletes_exactly_what_it_listed(cli: Cli, maker: Maker, home: Path) -> None:
    kept, gone = maker.put("kept"), maker.put("gone", b"z" * 5000)
    assert cli("prune").lines == ["freed 0 bytes"]
    cli("rm", "gone")
    (home / "ingest" / f"sha256-{'0' * 64}").write_bytes(b"p" * 70)
    (home / "blobs" / "sha256" / "foreign\x1b[2J").write_bytes(b"f" * 7)
    dry = cli("prune", "--dry-run")
    rows = [line.split() for line in dry.lines[:-1]]
    assert rows[0] == ["KIND", "SIZE", "ITEM"]
    assert {row[0] for row in rows[1:]} == {"blob", "download", "stray"}
    assert ["blob", str(gone.size), "B", gone.digest.short] in rows
    assert ["download", "70", "B", f"ingest/sha256-{'0' * 64}"] in rows
    assert ["stray", "7", "B", "blobs/sha256/foreign\\x1b[2J"] in rows
    assert not NEVER & set(dry.output)
    size = 5000 + gone.size + 70 + 7
    assert dry.lines[-1] == f"would free {size:,} bytes (5.5 KB)"
    planned = cli("prune", "--dry-run", "--json").json
    assert planned["dry_run"] is True
    assert {"kind": "blob", "item": str(gone.digest), "size": gone.size} in planned["deleted"]
    assert planned["size"] == size
    done = cli("prune", "--json").json
    assert (done["deleted"], done["size"]) == (planned["deleted"], planned["size"])
    assert done["dry_run"] is False
    assert cli("prune", "-q").output == ""
    assert cli("prune", "--json").json == {"dry_run": False, "deleted": [], "size": 0}
    assert Store(home).check() == []
    assert cli("list", "--json").json[0]["digest"] == str(kept.digest)


def test_prune_prints_what_it_deleted(cli: Cli, maker: Maker) -> None:
    maker.put("gone", b"z" * 5000)
    cli("rm", "gone")
    dry, done = cli("prune", "--dry-run"), cli("prune")
    assert done.lines[:-1] == dry.lines[:-1]
    assert done.lines[-1] == dry.lines[-1].replace("would free", "freed")


def test_a_store_that_is_none_is_a_store_error(cli: Cli, home: Path) -> None:
    home.mkdir()
    (home / "index.json").write_text("[]")
    for arguments in (("list",), ("prune",), ("rm", "a"), ("show", "a")):
        result = cli(*arguments)
        assert result.code == 7
        assert len(result.errors.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("rm", "none"), ("cp", "none", "other")])
def test_what_is_not_here_to_be_named_or_deleted_is_looked_for_here(
    cli: Cli, arguments: tuple[str, ...]
) -> None:
    result = cli(*arguments)
    assert (result.code, result.errors) == (
        3,
        "Error: none is not installed (try: modelpm list)\n",
    )


@pytest.mark.parametrize(
    "arguments", [("cp", "tiny#a", "other"), ("cp", "tiny", "tiny#a"), ("rm", "tiny#a")]
)
def test_a_part_is_no_name_by_itself(cli: Cli, maker: Maker, arguments: tuple[str, ...]) -> None:
    maker.put("tiny")
    result = cli(*arguments)
    assert result.code == 2
    assert "tiny#a: #PART chooses one of several models" in result.errors
    assert "(try: tiny)" in result.errors
