"""`pull` in a pipe: what it says, what it leaves behind, and how it fails."""

import re
from pathlib import Path

import pytest
from registry import Basic, Registry
from writers import WRITERS

from modelpm.cli.commands.pull import DAMAGED, KEPT
from tests.cli.conftest import Cli
from tests.cli.test_terminal import add


def test_a_pull_in_a_pipe_is_a_line_a_layer(cli: Cli, loopback: Registry) -> None:
    name = add(loopback, "team/tiny", 10)
    result = cli("pull", name)
    assert (result.code, result.output) == (0, "")
    lines = result.errors.splitlines()
    assert lines[0] == "pulling manifest"
    assert lines[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    assert sorted(line[22:] for line in lines[1:-3]) == ["100% 10 B", "100% 30 B", "100% 51 KB"]
    assert cli("list").lines[1].split()[0] == f"{name}:latest"
    again = cli("pull", name).errors.splitlines()
    assert all(line.endswith("(already here)") for line in again[1:-3])
    assert cli("pull", "-q", name) == type(result)(0, b"", "")


def test_a_pull_as_json(cli: Cli, loopback: Registry) -> None:
    name = add(loopback, "team/tiny", 10)
    result = cli("pull", name, "--json")
    assert (result.code, result.errors) == (0, "")
    last = result.records[-1]
    assert last["status"] == "success"
    assert last["name"] == f"{name}:latest"
    assert re.fullmatch("sha256:[0-9a-f]{64}", last["digest"])
    settled = [record for record in result.records if "present" in record]
    assert sum(record["total"] for record in settled) == last["size"]


def test_one_failure_does_not_stop_the_others(cli: Cli, loopback: Registry) -> None:
    one, two = add(loopback, "team/one"), add(loopback, "team/two", 10)
    missing = f"{loopback.host}/team/none"
    result = cli("pull", one, missing, "no name", two)
    assert result.code == 3
    assert len(cli("list").lines) == 3
    lines = result.errors.splitlines()
    assert [line for line in lines if line.endswith(":")] == [
        f"{name}:" for name in (one, missing, "no name", two)
    ]
    assert len([line for line in lines if line.startswith("Error: ")]) == 2
    assert cli("pull", "no name", missing).code == 2


def test_failures_as_json_end_with_the_first(cli: Cli, loopback: Registry) -> None:
    one, missing = add(loopback, "team/one"), f"{loopback.host}/team/none"
    result = cli("pull", "--json", missing, "no name", one)
    assert result.code == 3
    failed = [record for record in result.records if record.get("status") == "failed"]
    assert [record["name"] for record in failed] == [missing, "no name"]
    assert [record["error"]["code"] for record in failed] == [3, 2]
    assert result.records[-1] == {"error": failed[0]["error"]}


def test_a_name_that_moved_frees_what_it_had(cli: Cli, loopback: Registry, home: Path) -> None:
    name = add(loopback, "team/tiny", 10)
    cli("pull", name)
    add(loopback, "team/tiny", 20)
    assert "removing any unused layers" in cli("pull", name).errors.splitlines()
    assert cli("prune", "--json").json["deleted"] == []


def test_wrong_bytes_are_an_integrity_error(cli: Cli, loopback: Registry) -> None:
    name = add(loopback, "team/tiny", 10)
    loopback.scenario = [{"path": "/blobs/", "method": "GET", "flip": 1}]
    result = cli("pull", name)
    assert result.code == 5
    assert result.errors.splitlines()[-1] == DAMAGED
    assert len(cli("list").lines) == 1


@pytest.mark.parametrize("as_json", [False, True])
def test_a_wait_is_told(cli: Cli, loopback: Registry, *, as_json: bool) -> None:
    name = add(loopback, "team/tiny", 10)
    busy = {"path": "/blobs/", "times": 2, "status": 429, "headers": {"Retry-After": "1"}}
    loopback.scenario = [busy]
    result = cli("pull", name, *(["--json"] if as_json else []))
    assert result.code == 0
    reason = f"{loopback.host} answered 429"
    if as_json:
        waiting = [record for record in result.records if record["status"] == "waiting"]
        assert waiting[0] == {"status": "waiting", "reason": reason, "seconds": 1.0}
    else:
        waiting = [line for line in result.errors.splitlines() if "waiting" in line]
        assert waiting == [f"waiting 1s: {reason}"]


def test_bytes_that_are_wrong_once_are_fetched_again(cli: Cli, loopback: Registry) -> None:
    name = add(loopback, "team/tiny", 200_000)
    licence = max(loopback.content.blobs.items(), key=lambda item: len(item[1]))[0]
    loopback.scenario = [{"path": licence, "times": 1, "flip": 1}]
    result = cli("pull", name)
    assert result.code == 0
    again = f"pulling {licence[7:19]} again: its bytes were wrong"
    assert result.errors.splitlines().count(again) == 1


def test_a_failure_in_the_middle_says_that_it_can_go_on(cli: Cli, loopback: Registry) -> None:
    name = add(loopback, "team/tiny", 2_000_000)
    licence = max(loopback.content.blobs.items(), key=lambda item: len(item[1]))[0]
    loopback.scenario = [
        {"path": licence, "times": 1, "cut": 100_000},
        {"path": licence, "status": 400},
    ]
    result = cli("pull", name)
    assert result.code == 6
    assert result.errors.splitlines()[-1] == KEPT
    assert "Error: " in result.errors.splitlines()[-2]
    loopback.scenario = []
    assert cli("pull", name).code == 0
    assert "range" in loopback.requests("GET", licence)[-1].headers


def test_a_failure_at_once_does_not(cli: Cli, loopback: Registry) -> None:
    loopback.scenario = [{"status": 400}]
    assert KEPT not in cli("pull", f"{loopback.host}/team/tiny").errors


def test_a_host_that_does_not_answer_is_a_registry_error(cli: Cli) -> None:
    with Registry() as registry:
        host = registry.host
    result = cli("pull", f"{host}/team/tiny")
    assert result.code == 6
    assert host in result.errors


def test_credentials_are_dockers(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Registry(auth=Basic("user", "secret")) as registry:
        name = add(registry, "team/tiny")
        assert cli("pull", name).code == 4
        folder = tmp_path / "docker"
        folder.mkdir()
        entry = f'{{"auths": {{"{registry.host}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}'
        (folder / "config.json").write_text(entry)
        monkeypatch.setenv("DOCKER_CONFIG", str(folder))
        assert cli("pull", name).code == 0


def test_a_model_that_is_none_is_told(cli: Cli, loopback: Registry) -> None:
    loopback.add_artifact("team/none", "latest", [("application/x-y", b"text")])
    assert cli("pull", f"{loopback.host}/team/none").code == 9


@pytest.mark.parametrize("place", ["nowhere", "command line", "environment", "file"])
def test_archives_are_kept_where_that_is_asked_for(
    cli: Cli, home: Path, loopback: Registry, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    artifact = WRITERS["modelpack-tar"].make()
    loopback.content.add("team/tar", "latest", artifact)
    options = ["--keep-layers"] if place == "command line" else []
    if place == "environment":
        monkeypatch.setenv("MODELPM_KEEP_LAYERS", "1")
    if place == "file":
        path = home.with_name("settings.toml")
        path.write_text("keep-layers = true\n")
        options = ["--config", str(path)]
    assert cli("pull", "-q", f"{loopback.host}/team/tar", *options).code == 0
    kept = {f"sha256:{path.name}" for path in (home / "blobs/sha256").iterdir()}
    assert (set(artifact.blobs) <= kept) == (place != "nowhere")
