"""`push`: what it says, where things go, how it fails, and that it can be broken off."""

import os
import re
import time
from pathlib import Path

import build
import pytest
from docker_registry import DockerRegistry, put
from gguf_writer import tiny_llama
from registry import Registry
from uploads import Uploads

from modelpm.cli.commands.push import KEPT
from modelpm.oci.descriptor import Digest
from tests.cli.conftest import Cli
from tests.cli.models import Maker
from tests.cli.terminal import SOON, Terminal, assert_harmless

INTERRUPTED = f"interrupted; {KEPT}"


@pytest.fixture
def place(docker_registry: DockerRegistry, request: pytest.FixtureRequest) -> str:
    """A repository that belongs to the test."""
    number = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return f"{docker_registry.host}/pushed/{number}"


def test_a_push_in_a_pipe_is_a_line_a_layer(cli: Cli, maker: Maker, place: str) -> None:
    desc = maker.put("tiny", license="free")
    result = cli("push", "tiny", f"{place}:v1")
    assert (result.code, result.lines) == (0, [f"{place}@{desc.digest}"])
    lines = result.errors.splitlines()
    assert lines[0] == "retrieving manifest"
    assert lines[-2:] == ["writing manifest", "success"]
    assert sorted(line[22:] for line in lines[1:-2]) == ["100% 4 B", "100% 49 B", "100% 51 KB"]
    assert all(re.match("pushing [0-9a-f]{12}: ", line) for line in lines[1:-2])
    assert cli("tags", place).lines == ["v1"]
    other = cli("push", "tiny", f"{place}:v2").errors.splitlines()
    assert all(line.endswith(" (already there)") for line in other[1:-2])
    again = cli("push", "tiny", f"{place}:v1")
    told = again.errors.splitlines()
    assert (told[0], told[-1]) == ("retrieving manifest", "success")
    assert all(line.endswith(" (already there)") for line in told[1:-2])
    assert again.lines == result.lines
    assert cli("push", "-q", "tiny", f"{place}:v1") == type(result)(0, result.raw, "")


def test_a_push_as_json(cli: Cli, maker: Maker, place: str) -> None:
    desc = maker.put("tiny", license="free")
    result = cli("push", "tiny", f"{place}:v1", "--json")
    assert (result.code, result.errors) == (0, "")
    last = result.records[-1]
    size = sum(
        record["total"] for record in result.records if "total" in record and "present" in record
    )
    assert last == {
        "status": "success",
        "name": f"{place}:v1",
        "digest": str(desc.digest),
        "size": size,
        "uploaded": 3,
        "present": 0,
        "mounted": 0,
    }
    again = cli("push", "tiny", f"{place}:v1", "--json").records[-1]
    assert (again["uploaded"], again["present"]) == (0, 3)


def test_what_was_pushed_is_what_is_pulled(cli: Cli, maker: Maker, place: str, home: Path) -> None:
    desc = maker.put("tiny", system="Be brief.")
    assert cli("push", "tiny", f"{place}:v1").code == 0
    other = str(home.with_name("other"))
    assert cli("--home", other, "pull", f"{place}:v1").code == 0
    (model,) = cli("--home", other, "list", "--json").json
    assert model["digest"] == str(desc.digest)
    path = Path(cli("--home", other, "path", f"{place}:v1", "--json").json["path"])
    assert path.read_bytes() == tiny_llama()


def test_a_name_says_itself_where_to(cli: Cli, maker: Maker, place: str) -> None:
    desc = maker.put(f"{place}:v1")
    assert cli("push", f"{place}:v1").lines == [f"{place}@{desc.digest}"]
    assert cli("tags", place).lines == ["v1"]


@pytest.mark.parametrize(
    ("name", "end", "tag"), [("tiny:7b", "", "7b"), ("tiny", "", "latest"), ("tiny:7b", ":x", "x")]
)
def test_without_a_tag_it_keeps_its_own(
    cli: Cli, maker: Maker, place: str, name: str, end: str, tag: str
) -> None:
    maker.put(name)
    assert cli("push", name, f"{place}{end}").code == 0
    assert cli("tags", place).lines == [tag]
    assert cli("push", name, "--to", f"{place}{end}").code == 0


def test_what_was_pinned_goes_without_a_tag(
    cli: Cli, docker_registry: DockerRegistry, place: str
) -> None:
    digest = put(docker_registry.url, "origin/pinned", "v1", build.ollama())
    name = f"{docker_registry.host}/origin/pinned@{digest}"
    assert cli("pull", name).code == 0
    assert cli("push", name, place).lines == [f"{place}@{digest}"]
    assert cli("show", "--remote", f"{place}@{digest}").code == 0
    assert cli("push", name, f"{place}@sha256:{'a' * 64}").code == 2


@pytest.mark.parametrize("layout", build.LAYOUTS)
def test_a_model_that_was_pulled_keeps_its_digest(
    cli: Cli, docker_registry: DockerRegistry, place: str, layout: str
) -> None:
    put(docker_registry.url, f"origin/{layout}", "v1", build.LAYOUTS[layout]())
    name = f"{docker_registry.host}/origin/{layout}:v1"
    assert cli("pull", name).code == 0
    (here,) = cli("list", name, "--json").json
    pushed = cli("push", name, place, "--json").records[-1]
    assert pushed["digest"] == here["digest"]
    assert (
        cli("show", name, "--manifest").raw
        == cli("show", "--remote", f"{place}:v1", "--manifest").raw
    )


def test_all_tags_of_a_repository(cli: Cli, maker: Maker, place: str) -> None:
    for tag in ("1", "2"):
        maker.put(f"tiny:{tag}", system=tag)
    maker.put("tinier:3")
    result = cli("push", "--all-tags", "tiny", place)
    assert result.code == 0
    assert len(result.lines) == 2
    assert "tiny:1:" in result.errors.splitlines()
    assert sorted(cli("tags", place).lines) == ["1", "2"]
    assert cli("push", "--all-tags", "none", place).code == 3
    assert cli("push", "--all-tags", "tiny:1", place).code == 2
    assert cli("push", "--all-tags", "tiny", f"{place}:x").code == 2


def test_several_names_go_where_each_says(cli: Cli, maker: Maker, place: str) -> None:
    names = [f"{place}:{tag}" for tag in "abc"]
    for name in names:
        maker.put(name, system=name[-1])
    assert cli("push", *names).code == 0
    assert sorted(cli("tags", place).lines) == ["a", "b", "c"]


def test_one_failure_does_not_stop_the_others(cli: Cli, maker: Maker, place: str) -> None:
    names = [f"{place}:a", "none", f"{place}:c"]
    maker.put(names[0])
    maker.put(names[2])
    result = cli("push", *names)
    assert result.code == 3
    assert sorted(cli("tags", place).lines) == ["a", "c"]


def test_two_words_that_may_mean_two_things_are_asked_about(
    cli: Cli, maker: Maker, place: str
) -> None:
    one, two = f"{place}:a", f"{place}:b"
    maker.put(one, system="one")
    maker.put(two, system="two")
    result = cli("push", one, two)
    assert result.code == 2
    assert f"--to {two}" in result.errors
    assert cli("push", one, "--to", two).code == 0
    assert cli("tags", place).lines == ["b"]
    assert cli("push", one, two, "--to", place).code == 2
    assert cli("cp", one, two).code == 0
    assert cli("push", one, two).code == 0  # both mean the same now


def test_what_is_not_here_cannot_be_pushed(cli: Cli, place: str) -> None:
    result = cli("push", "none", place)
    assert result.code == 3
    assert "modelpm pull none" in result.errors


def test_a_damaged_model_is_not_pushed_and_can_be_healed(
    cli: Cli, docker_registry: DockerRegistry, place: str, home: Path
) -> None:
    put(docker_registry.url, "origin/damaged", "v1", build.ollama())
    name = f"{docker_registry.host}/origin/damaged:v1"
    assert cli("pull", name).code == 0
    path = home / "blobs" / "sha256" / Digest.of(tiny_llama()).hex
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(tiny_llama()[:-1] + b"\xff")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    # The bytes are read only where the registry does not have them in any repository it knows of.
    with DockerRegistry(home.with_name("fresh")) as fresh:
        result = cli("push", name, f"{fresh.host}/team/tiny")
        assert result.code == 5
        assert f"modelpm pull {name}" in result.errors
        assert cli("tags", f"{fresh.host}/team/tiny").code == 3
        assert cli("pull", name).code == 0
        assert path.read_bytes() == tiny_llama()
        assert cli("push", name, f"{fresh.host}/team/tiny").code == 0


def test_a_host_that_does_not_answer_is_a_registry_error(cli: Cli, maker: Maker) -> None:
    maker.put("tiny")
    result = cli("push", "tiny", "127.0.0.1:1/team/tiny")
    assert result.code == 6
    assert "127.0.0.1:1" in result.errors
    assert KEPT not in result.errors


def test_bars_say_pushing(cli: Cli, maker: Maker, place: str, home: Path) -> None:
    maker.put("tiny", license="free")
    with Terminal("push", "tiny", f"{place}:v1") as terminal:
        assert terminal.wait() == 0
    lines = terminal.screen
    assert lines[0] == "retrieving manifest"
    bar = re.compile(r"pushing [0-9a-f]{12}: 100% ▕█+▏ +([\d.]+ K?B)")
    sizes = [match[1] for line in lines[1:4] if (match := bar.fullmatch(line))]
    assert sorted(sizes) == ["4 B", "49 B", "51 KB"]
    assert lines[4:6] == ["writing manifest", "success"]
    assert lines[6].startswith(place[:40])
    assert "pulling" not in terminal.text
    assert_harmless(terminal.text)


SLOW = {"path": "/uploads/", "method": "PUT", "intake_rate": 5_000_000}
STUCK = {"path": "/uploads/", "method": "POST", "delay": 30}


@pytest.mark.parametrize("rule", [SLOW, STUCK], ids=["sending", "waiting"])
def test_interrupted_it_leaves_a_clean_terminal(
    maker: Maker, cli: Cli, home: Path, rule: dict[str, object]
) -> None:
    maker.put("tiny", os.urandom(30_000_000))
    with Registry(scenario=[rule], uploads=Uploads()) as registry:
        name = f"{registry.host}/team/tiny"
        with Terminal("push", "tiny", name) as terminal:
            terminal.wait_for("pushing")
            terminal.read_for(1)
            begin = time.monotonic()
            terminal.press("\x03")
            assert terminal.wait() == 130
            assert time.monotonic() - begin < SOON
            assert terminal.modes == terminal.modes_before
        assert terminal.screen[-2:] == [INTERRUPTED, ""]
        assert_harmless(terminal.text)
        assert registry.content.tags.get("team/tiny", {}) == {}
        registry.scenario = []
        assert cli("push", "tiny", name).code == 0
        assert list(registry.content.tags["team/tiny"]) == ["latest"]


def test_a_failure_in_the_middle_says_that_it_can_go_on(cli: Cli, maker: Maker) -> None:
    maker.put("tiny", os.urandom(3_000_000))
    with Registry(
        scenario=[{"path": "digest=", "method": "PUT", "status": 400}], uploads=Uploads()
    ) as registry:
        result = cli("push", "tiny", f"{registry.host}/team/tiny")
    assert result.code == 6
    assert result.errors.splitlines()[-1] == KEPT
    assert registry.content.tags.get("team/tiny", {}) == {}


@pytest.mark.parametrize("as_json", [False, True])
def test_what_may_not_be_pushed_is_told(cli: Cli, maker: Maker, *, as_json: bool) -> None:
    maker.put("tiny")
    with Registry(scenario=[{"method": "POST", "status": 403}], uploads=Uploads()) as registry:
        result = cli("push", "tiny", f"{registry.host}/team/tiny", *["--json"] * as_json)
    assert result.code == 4
    if as_json:
        assert result.records[-1]["error"]["code"] == 4
    else:
        assert f"modelpm login {registry.host}" in result.errors
        assert KEPT not in result.errors


def test_a_rate_and_connections_hold_for_a_push(cli: Cli, maker: Maker) -> None:
    maker.put("tiny", os.urandom(3_000_000))
    with Registry(uploads=Uploads()) as registry:
        begin = time.monotonic()
        name = f"{registry.host}/team/tiny"
        assert cli("push", "tiny", name, "--limit-rate", "2M", "--connections", "1").code == 0
        assert time.monotonic() - begin > 1
