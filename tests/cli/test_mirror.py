"""`mirror`: from one registry to another, with what refers to it, and nothing kept here."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import build
import pytest
import requests
from artifact import EMPTY_TYPE, Artifact, described, image
from docker_registry import DockerRegistry, put
from registry import Bearer, Registry, TokenServer

from tests.cli.conftest import Cli
from tests.conftest import require

INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A second registry."""
    require("docker-registry")
    with DockerRegistry(tmp_path_factory.mktemp("other")) as registry:
        yield registry


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository's name that belongs to the test."""
    return "m/" + re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")


def manifest(registry: DockerRegistry, name: str, reference: str) -> bytes:
    """The manifest's bytes, asked for without modelpm."""
    kinds = f"{INDEX}, application/vnd.oci.image.manifest.v1+json"
    kinds += ", application/vnd.docker.distribution.manifest.v2+json"
    url = f"{registry.url}/v2/{name}/manifests/{reference}"
    answer = requests.get(url, headers={"Accept": kinds}, timeout=20)
    return answer.content if answer.ok else b""


def blob(registry: DockerRegistry, name: str, digest: str) -> bytes:
    return requests.get(f"{registry.url}/v2/{name}/blobs/{digest}", timeout=20).content


@pytest.mark.parametrize("layout", build.LAYOUTS)
def test_every_layout_arrives_byte_for_byte(
    cli: Cli,
    docker_registry: DockerRegistry,
    other: DockerRegistry,
    name: str,
    layout: str,
    home: Path,
) -> None:
    artifact = build.LAYOUTS[layout]()
    put(docker_registry.url, name, "v1", artifact)
    result = cli("mirror", f"{docker_registry.host}/{name}:v1", f"{other.host}/{name}")
    assert (result.code, result.lines) == (0, [f"{other.host}/{name}@{artifact.digest}"])
    assert "copying" in result.errors
    assert manifest(other, name, "v1") == artifact.manifest
    for document in [artifact.manifest, *children(artifact)]:
        for layer in [*json.loads(document).get("layers", [])]:
            assert blob(other, name, layer["digest"]) == artifact.blobs[layer["digest"]]
    assert not list(home.glob("blobs/*/*"))


def children(artifact: Artifact) -> list[bytes]:
    entries = json.loads(artifact.manifest).get("manifests", [])
    return [artifact.blobs[entry["digest"]] for entry in entries]


def test_what_is_there_is_not_copied_again(
    cli: Cli, docker_registry: DockerRegistry, other: DockerRegistry, name: str
) -> None:
    put(docker_registry.url, name, "v1", build.ollama())
    words = ("mirror", f"{docker_registry.host}/{name}:v1", f"{other.host}/{name}:copy", "--json")
    first = cli(*words).records[-1]
    assert first["name"] == f"{other.host}/{name}:copy"
    assert first["uploaded"] + first["present"] + first["mounted"] == 7
    again = cli(*words).records[-1]
    assert (again["uploaded"], again["mounted"], again["present"]) == (0, 0, 7)


def test_on_one_registry_layers_are_mounted(
    cli: Cli, docker_registry: DockerRegistry, name: str
) -> None:
    put(docker_registry.url, name, "v1", build.ollama())
    source, goal = f"{docker_registry.host}/{name}:v1", f"{docker_registry.host}/{name}-copy"
    copied = cli("mirror", source, goal, "--json").records[-1]
    assert (copied["uploaded"], copied["mounted"]) == (0, 7)


def test_all_tags(
    cli: Cli, docker_registry: DockerRegistry, other: DockerRegistry, name: str
) -> None:
    for tag, make in (("a", build.ollama), ("b", build.index)):
        put(docker_registry.url, name, tag, make())
    source, goal = f"{docker_registry.host}/{name}", f"{other.host}/{name}"
    assert cli("mirror", "--all-tags", source, goal).code == 0
    assert sorted(cli("tags", goal).lines) == ["a", "b"]
    assert cli("mirror", "--all-tags", f"{source}:a", goal).code == 2
    assert cli("mirror", "--all-tags", source, f"{goal}:a").code == 2


def test_all_tags_cost_one_token(cli: Cli, other: DockerRegistry, name: str) -> None:
    with TokenServer() as tokens, Registry(auth=Bearer(tokens)) as registry:
        for tag in "abc":
            registry.content.add(name, tag, build.ollama())
        result = cli("mirror", "--all-tags", f"{registry.host}/{name}", f"{other.host}/{name}")
        assert (result.code, len(result.lines)) == (0, 3)
        assert result.errors.count("success") == 3
        assert len(tokens.log) == 1


@pytest.mark.parametrize("is_taken", [True, False])
def test_signatures_and_other_referrers_go_along(
    cli: Cli, docker_registry: DockerRegistry, other: DockerRegistry, name: str, is_taken: bool
) -> None:
    artifact = build.ollama()
    put(docker_registry.url, name, "v1", artifact)
    signature = image(
        described(EMPTY_TYPE, b"{}"),
        [described("application/x-signature", b"signed")],
        [b"{}", b"signed"],
        artifactType="application/x-signature",
        subject=artifact.descriptor,
    )
    put(docker_registry.url, name, signature.digest, signature)
    entry = described(
        signature.media_type, signature.manifest, artifactType=signature.artifact_type
    )
    listed = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    fallback = "sha256-" + artifact.digest.removeprefix("sha256:")
    put(docker_registry.url, name, fallback, Artifact(listed, INDEX, signature.all_blobs))
    cosign = image(described(EMPTY_TYPE, b"{}"), [], [b"{}"], annotations={"is": "cosign"})
    put(docker_registry.url, name, f"{fallback}.sig", cosign)
    options = ["--json"] if is_taken else ["--json", "--no-referrers"]
    source = f"{docker_registry.host}/{name}:v1"
    result = cli("mirror", source, f"{other.host}/{name}", *options)
    assert result.records[-1]["referrers"] == (2 if is_taken else 0)
    assert manifest(other, name, signature.digest) == (signature.manifest if is_taken else b"")
    assert manifest(other, name, f"{fallback}.sig") == (cosign.manifest if is_taken else b"")
    if is_taken:
        found = json.loads(manifest(other, name, fallback))["manifests"]
        assert [each["digest"] for each in found] == [signature.digest]
        # As a mirror leaves it that is killed before it has listed what it brought.
        empty = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
        put(other.url, name, fallback, Artifact(empty, INDEX, {}))
        assert cli("mirror", source, f"{other.host}/{name}").code == 0
        assert json.loads(manifest(other, name, fallback))["manifests"] == found


def test_a_damaged_source_makes_no_tag(
    cli: Cli, docker_registry: DockerRegistry, other: DockerRegistry, name: str
) -> None:
    with Registry() as liar:
        liar.content.add(name, "v1", build.ollama())
        liar.scenario = [{"path": "/blobs/", "method": "GET", "flip": 1}]
        result = cli("mirror", f"{liar.host}/{name}:v1", f"{other.host}/{name}")
    assert result.code == 5
    assert manifest(other, name, "v1") == b""


def test_what_is_not_there_is_not_found(
    cli: Cli, docker_registry: DockerRegistry, other: DockerRegistry, name: str
) -> None:
    assert cli("mirror", f"{docker_registry.host}/{name}", f"{other.host}/{name}").code == 3
    source = f"{docker_registry.host}/{name}"
    assert cli("mirror", "--all-tags", source, f"{other.host}/{name}").code == 3
