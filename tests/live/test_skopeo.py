"""The store is an OCI image layout: skopeo reads models out of it in place."""

import json
from pathlib import Path

import build
import pytest
from docker_registry import DockerRegistry, put
from gguf_writer import tiny_llama

from modelpm.client import Client
from tests.live.conftest import Copy

pytestmark = pytest.mark.live

READABLE = ("docker-ai", "docker-ai-unnamed", "modelpack-raw", "oras-gguf", "index")
"""skopeo 1.9.3 passes over entries whose media type is Docker's, as Ollama's is."""


@pytest.mark.parametrize("name", READABLE)
def test_skopeo_inspects_the_store(
    name: str, docker_registry: DockerRegistry, client: Client, run_skopeo: Copy
) -> None:
    put(docker_registry.url, f"inspected/{name}", "v1", build.LAYOUTS[name]())
    model = client.pull(f"{docker_registry.host}/inspected/{name}:v1")
    shown = run_skopeo("inspect", "--raw", f"oci:{client.home}:{model.name}")
    assert shown.stdout == model.manifest.raw


@pytest.mark.parametrize("name", READABLE)
def test_skopeo_copies_from_the_store(
    name: str, docker_registry: DockerRegistry, client: Client, run_skopeo: Copy, tmp_path: Path
) -> None:
    put(docker_registry.url, f"copied/{name}", "v1", build.LAYOUTS[name]())
    put(docker_registry.url, "copied/ollama", "v1", build.ollama())
    client.pull(f"{docker_registry.host}/copied/ollama:v1")
    model = client.pull(f"{docker_registry.host}/copied/{name}:v1")
    target = tmp_path / "out"
    run_skopeo("copy", "--quiet", f"oci:{client.home}:{model.name}", f"dir:{target}")
    assert (target / "manifest.json").read_bytes() == model.manifest.raw
    weights = model.model.weights.descriptor.digest
    assert (target / weights.hex).read_bytes() == tiny_llama()


def test_the_store_lists_every_name(docker_registry: DockerRegistry, client: Client) -> None:
    for name in ("ollama", "index"):
        put(docker_registry.url, f"listed/{name}", "v1", build.LAYOUTS[name]())
        client.pull(f"{docker_registry.host}/listed/{name}:v1")
    layout = json.loads((client.home / "oci-layout").read_bytes())
    assert layout == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((client.home / "index.json").read_bytes())
    names = [
        entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]
    ]
    assert names == [f"{docker_registry.host}/listed/{name}:v1" for name in ("ollama", "index")]
