"""Looking at registries and deleting there: `tags`, and `show`, `list` and `rm` with `--remote`."""

import json
import re
from dataclasses import replace
from pathlib import Path

import build
import pytest
from artifact import described, image
from docker_registry import DockerRegistry, put
from registry import Answer, Basic, Registry, Request, Uploads

from tests.cli.conftest import Cli
from tests.cli.terminal import Terminal, assert_harmless

HEX = "a" * 64


@pytest.fixture
def offered(loopback: Registry) -> str:
    """A repository with two models, a signature and a fallback index."""
    for tag, artifact in (("v1", build.ollama()), ("v2", build.index())):
        loopback.content.add("team/tiny", tag, artifact)
    for tag in (f"sha256-{HEX}", f"sha256-{HEX}.sig"):
        loopback.content.add("team/tiny", tag, build.oras_gguf())
    return f"{loopback.host}/team/tiny"


def test_tags_are_those_of_models(cli: Cli, offered: str) -> None:
    assert cli("tags", offered).lines == ["v1", "v2"]
    assert cli("tags", offered, "--json").json == ["v1", "v2"]
    everything = [f"sha256-{HEX}", f"sha256-{HEX}.sig", "v1", "v2"]
    assert sorted(cli("tags", offered, "--all").lines) == everything


@pytest.mark.parametrize("end", [":v1", f"@sha256:{HEX}"])
def test_tags_are_of_a_repository(cli: Cli, offered: str, end: str) -> None:
    result = cli("tags", offered + end)
    assert result.code == 2
    assert "no tag and no digest" in result.errors


def test_tags_of_what_is_not_there(cli: Cli, loopback: Registry) -> None:
    assert cli("tags", f"{loopback.host}/team/none").code == 3


def test_hostile_tags_do_not_reach_the_terminal(cli: Cli, offered: str, loopback: Registry) -> None:
    body = json.dumps({"name": "team/tiny", "tags": ["v1", "\x1b[2J", "../x", "v2"]})
    loopback.scenario = [{"path": "/tags/list", "body": body}]
    assert cli("tags", offered).lines == ["v1", "v2"]


def test_a_model_is_shown_without_its_weights(
    cli: Cli, offered: str, loopback: Registry, home: Path
) -> None:
    result = cli("show", "--remote", f"{offered}:v1")
    assert result.code == 0
    assert "Parts" in result.output
    assert "weights" in result.output
    weights = max(loopback.content.blobs.items(), key=lambda item: len(item[1]))[0]
    assert loopback.requests("GET", weights) == ()
    assert not (home / "blobs").exists()
    document = cli("show", "--remote", f"{offered}:v1", "--json").json
    assert document["name"] == f"{offered}:v1"
    assert document["digest"] == build.ollama().digest
    assert (document["path"], document["flaws"]) == (None, [])
    local = cli("pull", f"{offered}:v1")
    assert local.code == 0
    here = cli("show", f"{offered}:v1", "--json").json
    for key in ("digest", "size", "parts", "system", "template", "parameters", "licenses"):
        assert document[key] == here[key]


@pytest.mark.parametrize("part", ["template", "system", "parameters", "license", "modelfile"])
def test_one_thing_of_it_is_shown(cli: Cli, offered: str, part: str) -> None:
    there = cli("show", "--remote", f"{offered}:v1", f"--{part}")
    cli("pull", f"{offered}:v1")
    assert there.output == cli("show", f"{offered}:v1", f"--{part}").output != ""


def test_of_an_index_what_fits_is_shown_and_its_own_manifest(cli: Cli, offered: str) -> None:
    document = cli("show", "--remote", f"{offered}:v2", "--json").json
    assert document["digest"] == build.modelpack_raw().digest
    assert cli("show", "--remote", f"{offered}:v2", "--manifest").raw == build.index().manifest
    assert cli("show", "--remote", f"{offered}:v1", "--manifest").raw == build.ollama().manifest


def test_what_is_no_model_is_told_but_its_manifest_is_shown(cli: Cli, loopback: Registry) -> None:
    box = image(described("application/vnd.oci.image.config.v1+json", b"{}"), [], [b"{}"])
    loopback.add("team/box", "latest", box)
    raw = box.manifest
    name = f"{loopback.host}/team/box"
    assert cli("show", "--remote", name).code == 9
    assert cli("show", "--remote", name, "--manifest").raw == raw
    assert cli("show", "--remote", f"{name}:none").code == 3


def test_repositories_are_listed_where_the_registry_tells_them(
    cli: Cli, docker_registry: DockerRegistry
) -> None:
    for name in ("catalog/one", "catalog/two", "catalog/deep/three"):
        put(docker_registry.url, name, "latest", build.ollama())
    host = docker_registry.host
    every = cli("list", "--remote", host)
    assert {f"{host}/catalog/{name}" for name in ("one", "two", "deep/three")} <= {*every.lines}
    begun = cli("list", "--remote", host, "catalog/t").lines
    assert begun == [f"{host}/catalog/two"]
    assert cli("list", "--remote", host, "*/three", "--json").json == [f"{host}/catalog/deep/three"]


@pytest.mark.parametrize("name", ["acme", "", "{host}/catalog", "https://{host}"])
def test_only_a_registry_has_repositories(cli: Cli, loopback: Registry, name: str) -> None:
    result = cli("list", "--remote", name.format(host=loopback.host))
    assert (result.code, result.lines) == (2, [])
    assert "is no host" in result.errors
    assert not loopback.log


def test_a_registry_without_a_catalog_says_so(cli: Cli, loopback: Registry) -> None:
    loopback.scenario = [{"path": "/_catalog", "status": 404}]
    result = cli("list", "--remote", loopback.host)
    assert result.code in (3, 6)
    assert loopback.host in result.errors


def test_credentials_are_used(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Registry(auth=Basic("user", "secret")) as registry:
        registry.content.add("team/tiny", "v1", build.ollama())
        name = f"{registry.host}/team/tiny"
        assert cli("tags", name).code == 4
        assert cli("show", "--remote", f"{name}:v1").code == 4
        folder = tmp_path / "docker"
        folder.mkdir()
        entry = f'{{"auths": {{"{registry.host}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}'
        (folder / "config.json").write_text(entry)
        monkeypatch.setenv("DOCKER_CONFIG", str(folder))
        assert cli("tags", name).lines == ["v1"]
        assert cli("show", "--remote", f"{name}:v1").code == 0


@pytest.fixture
def deletable(docker_registry: DockerRegistry, request: pytest.FixtureRequest) -> str:
    """A repository of its own with one model under v1 and latest, and another under v2."""
    number = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    for tag, artifact in (("v1", 0), ("latest", 0), ("v2", 1)):
        made = (build.ollama(), build.oras_gguf())[artifact]
        put(docker_registry.url, f"deleted/{number}", tag, made)
    return f"{docker_registry.host}/deleted/{number}"


def test_tags_are_sorted_as_people_count(cli: Cli, loopback: Registry) -> None:
    for tag in ("v10", "latest", "v2", "1.10", "b", "1.9", "v2-q4", "a", "V2"):
        loopback.content.add("team/sorted", tag, build.ollama())
    name = f"{loopback.host}/team/sorted"
    expected = ["1.9", "1.10", "V2", "a", "b", "latest", "v2", "v2-q4", "v10"]
    assert cli("tags", name).lines == expected
    assert cli("tags", name, "--json").json == expected


def test_without_a_terminal_it_wants_a_yes(cli: Cli, deletable: str) -> None:
    result = cli("rm", "--remote", f"{deletable}:v2")
    assert result.code == 2
    assert "--yes" in result.errors
    assert len(cli("tags", deletable).lines) == 3


def test_a_dry_run_deletes_nothing(cli: Cli, deletable: str) -> None:
    result = cli("rm", "--remote", "--dry-run", f"{deletable}:v2")
    assert result.code == 0
    assert result.output.startswith(f"would delete {deletable}:v2 (")
    digest = build.ollama().digest
    pinned = cli("rm", "--remote", "--dry-run", "--json", f"{deletable}@{digest}").json
    assert pinned["dry_run"] is True
    (deleted,) = pinned["deleted"]
    assert sorted(deleted["tags"]) == ["latest", "v1"]
    assert len(cli("tags", deletable).lines) == 3


def test_a_tag_goes_or_says_what_would_go_too(cli: Cli, deletable: str) -> None:
    assert cli("rm", "--remote", "-y", f"{deletable}:v2").lines[0].startswith("deleted ")
    assert sorted(cli("tags", deletable).lines) == ["latest", "v1"]
    refused = cli("rm", "--remote", "-y", f"{deletable}:v1")
    assert refused.code == 6
    assert "latest" in refused.errors
    assert "--force" in refused.errors
    assert sorted(cli("tags", deletable).lines) == ["latest", "v1"]
    forced = cli("rm", "--remote", "-y", "--force", "--json", f"{deletable}:v1").json
    assert sorted(forced["deleted"][0]["tags"]) == ["latest", "v1"]
    assert cli("tags", deletable).lines == []


def test_what_went_with_another_is_not_asked_for_again(cli: Cli, deletable: str) -> None:
    names = [f"{deletable}:{tag}" for tag in ("v1", "latest", "v2")]
    result = cli("rm", "--remote", "-y", *names)  # no other tag goes: all were named
    assert (result.code, len(result.lines)) == (0, 2)
    assert cli("tags", deletable).lines == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_tags_and_the_digest_of_one_manifest_go_at_once(
    cli: Cli, deletable: str, docker_registry: DockerRegistry, order: tuple[int, ...]
) -> None:
    names = [f"{deletable}:v1", f"{deletable}:latest", f"{deletable}@{build.ollama().digest}"]
    result = cli("rm", "--remote", "-y", *(names[number] for number in order))
    assert (result.code, len(result.lines), result.errors) == (0, 1, "")
    assert "v1" in result.output
    assert "latest" in result.output
    assert cli("tags", deletable).lines == ["v2"]


class Whole(Registry):
    """Deletes the manifest, and so all its tags, when it is asked to delete a tag."""

    def reply(self, request: Request) -> Answer:
        start, _, tag = request.path.rpartition("/")
        digest = self.content.tags["team/tiny"].get(tag)
        if request.method == "DELETE" and digest is not None:
            request = replace(request, path=f"{start}/{digest}")
        return super().reply(request)


def test_a_tag_that_went_unsaid_with_another_is_no_failure(cli: Cli) -> None:
    with Whole(uploads=Uploads()) as registry:
        for tag, artifact in (("v1", 0), ("v2", 0), ("v3", 1)):
            registry.content.add("team/tiny", tag, (build.ollama(), build.oras_gguf())[artifact])
        name = f"{registry.host}/team/tiny"
        result = cli("rm", "--remote", "-y", f"{name}:v1", f"{name}:v2", f"{name}:v3")
        assert (result.code, result.errors) == (0, "")
        assert [line.split()[1] for line in result.lines] == [f"{name}:v1", f"{name}:v3"]
        assert registry.content.tags["team/tiny"] == {}


def test_a_tag_that_others_have_deleted_meanwhile_is_a_failure(cli: Cli) -> None:
    with Registry(uploads=Uploads()) as registry:
        registry.content.add("team/tiny", "v1", build.ollama())
        registry.scenario = [
            {"method": "DELETE", "status": 404},
            {"method": "GET", "path": "/manifests/", "skip": 1, "status": 404},
        ]
        assert cli("rm", "--remote", "-y", f"{registry.host}/team/tiny:v1").code == 3


def test_what_was_deleted_before_a_failure_is_told(cli: Cli, deletable: str) -> None:
    result = cli("rm", "--remote", "-y", f"{deletable}:v2", f"{deletable}:v1")
    assert (result.code, result.lines) == (6, [])
    assert f"deleted before that: {deletable}:v2 (" in result.errors
    assert sorted(cli("tags", deletable).lines) == ["latest", "v1"]


def test_a_digest_goes_with_its_tags(cli: Cli, deletable: str) -> None:
    digest = build.ollama().digest
    result = cli("rm", "--remote", "-y", f"{deletable}@{digest}")
    assert result.code == 0
    assert "with its tags" in result.output
    assert cli("tags", deletable).lines == ["v2"]
    assert cli("rm", "--remote", "-y", f"{deletable}@{digest}").code == 3


def test_all_names_are_found_before_one_is_deleted(cli: Cli, deletable: str) -> None:
    assert cli("rm", "--remote", "-y", f"{deletable}:v2", f"{deletable}:none").code == 3
    assert len(cli("tags", deletable).lines) == 3


@pytest.mark.parametrize(
    ("answer", "code", "left"), [("n\n", 130, 3), ("\x03", 130, 3), ("y\n", 0, 2)]
)
def test_on_a_terminal_it_asks(
    cli: Cli, home: Path, deletable: str, answer: str, code: int, left: int
) -> None:
    with Terminal("rm", "--remote", f"{deletable}:v2") as terminal:
        terminal.wait_for("Delete? [y/N]: ")
        terminal.read_for(0.2)  # until it reads: before that readline loses an interrupt
        terminal.press(answer)
        assert terminal.wait() == code
    assert "to be deleted, for everybody" in terminal.text
    assert_harmless(terminal.text)
    assert len(cli("tags", deletable).lines) == left


def test_by_force_it_tells_before_and_after_what_goes_too(
    cli: Cli, home: Path, deletable: str
) -> None:
    dry = cli("rm", "--remote", "--force", "--dry-run", f"{deletable}:v1")
    assert dry.output.endswith("); where the registry deletes no tag by itself, also latest\n")
    told = cli("rm", "--remote", "--force", "--dry-run", "--json", f"{deletable}:v1").json
    assert (told["deleted"][0]["tags"], told["deleted"][0]["may_go_too"]) == (["v1"], ["latest"])
    alone = cli("rm", "--remote", "--force", "--dry-run", f"{deletable}:v2")
    assert alone.output.endswith(")\n")
    with Terminal("rm", "--remote", "--force", f"{deletable}:v1", columns=200) as terminal:
        terminal.wait_for("by itself, also latest")
        terminal.wait_for("Delete? [y/N]: ")
        terminal.read_for(0.2)
        terminal.press("y\n")
        terminal.wait_for(f"deleted {deletable}:v1 (")
        terminal.wait_for("and with it its tags latest)")
        assert terminal.wait() == 0
    assert cli("tags", deletable).lines == ["v2"]


@pytest.mark.parametrize("option", ["--yes", "--force"])
def test_what_is_for_registries_is_not_for_names_here(cli: Cli, option: str) -> None:
    assert cli("rm", option, "tiny").code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rm", "--remote", "--yes"), "reading {name}:latest: 404"),
        (("show", "--remote"), "reading {name}:latest: 404"),
        (("show", "--remote", "--manifest"), "reading {name}:latest: 404"),
        (("tags",), "listing tags of {name}: 404"),
        (("pull",), "pulling {name}:latest: 404"),
    ],
)
def test_a_failure_says_what_was_attempted(
    cli: Cli, loopback: Registry, arguments: tuple[str, ...], words: str
) -> None:
    name = f"{loopback.host}/team/gone"
    result = cli(*arguments, name)
    assert result.code == 3
    assert f"Error: {words.format(name=name)}" in result.errors


def test_about_several_it_asks_once(cli: Cli, home: Path, deletable: str) -> None:
    names = [f"{deletable}:v1", f"{deletable}:latest"]
    with Terminal("rm", "--remote", *names) as terminal:
        terminal.wait_for("Delete? [y/N]: ")
        terminal.read_for(0.2)
        terminal.press("y\n")
        assert terminal.wait() == 0
    assert terminal.text.count("Delete?") == 1
    assert terminal.text.count("to be deleted, for everybody") == 2
    assert "and with it its tags latest" in terminal.text.replace("\r\n", "")
    assert cli("tags", deletable).lines == ["v2"]


HOST_ALONE = [
    ("pull", "HOST"),
    ("push", "tiny", "HOST"),
    ("push", "tiny", "registry.lan:5000"),
    ("mirror", "team/tiny", "HOST"),
    ("mirror", "HOST", "team/tiny"),
    ("rm", "--remote", "--yes", "HOST"),
    ("rm", "HOST"),
    ("tags", "HOST"),
    ("show", "--remote", "ghcr.io"),
    ("run", "10.0.0.5", "hello"),
    ("cp", "tiny", "localhost"),
    ("create", "HOST", "model.gguf"),
    ("convert", "tiny", "ghcr.io:v1", "--format", "ollama"),
]


@pytest.mark.parametrize("words", HOST_ALONE, ids=" ".join)
def test_a_registry_without_a_repository_is_no_model_of_the_default_one(
    cli: Cli, loopback: Registry, words: tuple[str, ...]
) -> None:
    loopback.content.add("tiny", "latest", build.ollama())
    default = ("--default-registry", loopback.host)
    assert cli("pull", "tiny", *default).code == 0
    before = loopback.log
    result = cli(*(loopback.host if word == "HOST" else word for word in words), *default)
    assert result.code == 2
    assert "the repository is missing (HOST:PORT/REPOSITORY)" in result.errors
    assert loopback.log == before
