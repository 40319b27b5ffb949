"""Every fixture layout, put into the real docker-registry, comes back as the model that it is."""

from pathlib import Path

import build
import pytest
from docker_registry import DockerRegistry, put
from gguf_writer import tiny_llama

from modelpm.client import Client
from modelpm.errors import ModelError, NotFoundError
from modelpm.oci.descriptor import Digest
from modelpm.oci.manifest import Manifest
from tests.live.conftest import Copy

pytestmark = pytest.mark.live

LAYOUTS = Path(build.__file__).parent / "layouts"
LOADED_BY_SKOPEO = ("docker-ai", "docker-ai-unnamed", "modelpack-raw", "oras-gguf")
"""The others it cannot load unchanged; `docker_registry` tells why."""


@pytest.mark.parametrize("name", LOADED_BY_SKOPEO)
def test_what_skopeo_loaded_is_pulled(
    name: str, docker_registry: DockerRegistry, client: Client, run_skopeo: Copy
) -> None:
    target = f"{docker_registry.host}/skopeo/{name}"
    options = ("--quiet", "--preserve-digests", "--dest-tls-verify=false")
    run_skopeo("copy", *options, f"oci:{LAYOUTS / name}:latest", f"docker://{target}:v1")
    model = client.pull(f"{target}:v1")
    assert str(model.digest) == build.LAYOUTS[name]().digest
    assert model.path.read_bytes() == tiny_llama()


@pytest.mark.parametrize("name", build.LAYOUTS)
def test_tag_digest_and_both_mean_one_model(
    name: str, docker_registry: DockerRegistry, client: Client
) -> None:
    digest = put(docker_registry.url, f"names/{name}", "v1", build.LAYOUTS[name]())
    base = f"{docker_registry.host}/names/{name}"
    by_tag = client.pull(f"{base}:v1")
    by_digest = client.pull(f"{base}@{digest}")
    by_both = client.pull(f"{base}:other@{digest}")
    assert {by_tag.digest, by_digest.digest, by_both.digest} == {by_tag.digest}
    assert [model.name for model in client.list()] == [f"{base}:v1", f"{base}@{digest}"]
    if name == "index":
        assert str(by_tag.digest) == build.modelpack_raw().digest
    else:
        assert str(by_tag.digest) == digest


def test_the_digest_decides_over_the_tag(docker_registry: DockerRegistry, client: Client) -> None:
    old = put(docker_registry.url, "moved/tiny", "v1", build.ollama())
    new = put(docker_registry.url, "moved/tiny", "v1", build.oras_gguf())
    base = f"{docker_registry.host}/moved/tiny"
    assert str(client.pull(f"{base}:v1@{old}").digest) == old
    assert str(client.pull(f"{base}:v1").digest) == new


def test_all_dialects_share_one_copy_of_the_weights(
    docker_registry: DockerRegistry, client: Client
) -> None:
    for name, make in build.LAYOUTS.items():
        put(docker_registry.url, f"shared/{name}", "latest", make())
    models = [client.pull(f"{docker_registry.host}/shared/{name}") for name in build.LAYOUTS]
    assert len({model.path for model in models}) == 1
    weights = [blob for blob in client.home.glob("blobs/*/*") if blob.stat().st_size > 50_000]
    assert len(weights) == 1


def test_parts_have_their_roles(docker_registry: DockerRegistry, client: Client) -> None:
    roles = {}
    for name, make in build.LAYOUTS.items():
        put(docker_registry.url, f"roles/{name}", "latest", make())
        model = client.pull(f"{docker_registry.host}/roles/{name}")
        roles[name] = [(part.role.value, part.name) for part in model.parts]
    assert roles["docker-ai"] == [
        ("weights", "model.gguf"),
        ("template", "template.jinja"),
        ("license", "LICENSE"),
    ]
    assert roles["docker-ai-unnamed"][0] == ("weights", "model.gguf")
    assert roles["oras-gguf"] == [("weights", "tiny.gguf")]
    assert roles["index"] == roles["modelpack-raw"]
    assert [role for role, _ in roles["modelpack-raw"]] == [
        "template",
        "weights",
        "license",
        "document",
    ]
    assert [role for role, _ in roles["ollama"]] == [
        "weights",
        "template",
        "system",
        "license",
        "parameters",
        "messages",
    ]


def test_a_second_pull_moves_nothing(docker_registry: DockerRegistry, client: Client) -> None:
    put(docker_registry.url, "twice/tiny", "latest", build.ollama())
    first = client.pull(f"{docker_registry.host}/twice/tiny")
    before = {path: path.stat().st_mtime_ns for path in client.home.glob("blobs/*/*")}
    second = client.pull(f"{docker_registry.host}/twice/tiny")
    assert second.digest == first.digest
    assert {path: path.stat().st_mtime_ns for path in client.home.glob("blobs/*/*")} == before


def test_what_is_not_there_is_not_found(docker_registry: DockerRegistry, client: Client) -> None:
    put(docker_registry.url, "there/tiny", "latest", build.ollama())
    for name in ("there/tiny:other", f"there/tiny@{Digest.of(b'')}", "nowhere/tiny"):
        with pytest.raises(NotFoundError):
            client.pull(f"{docker_registry.host}/{name}")
    assert client.list() == ()


def test_a_container_image_is_no_model(docker_registry: DockerRegistry, client: Client) -> None:
    index = build.index()
    put(docker_registry.url, "boxes/box", "latest", index)
    container = _children(index.manifest)[0]
    with pytest.raises(ModelError, match="container image"):
        client.pull(f"{docker_registry.host}/boxes/box@{container}")
    assert client.list() == ()


def _children(index: bytes) -> list[str]:
    return [str(child.descriptor.digest) for child in Manifest.parse(index).children]
