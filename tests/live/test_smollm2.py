"""A real model of today, as `oras push` would leave it, through a real registry."""

import pytest
from artifact import EMPTY_TYPE, described, image
from docker_registry import DockerRegistry, put

from modelpm.client import Client
from modelpm.model.gguf import Header
from modelpm.oci.descriptor import Digest

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(400)]


def test_smollm2_is_pulled_and_shown(
    docker_registry: DockerRegistry, client: Client, smollm2: bytes
) -> None:
    title = {"org.opencontainers.image.title": "SmolLM2-135M-Instruct.Q4_1.gguf"}
    layer = described("application/octet-stream", smollm2, annotations=title)
    artifact = image(described(EMPTY_TYPE, b"{}", data="e30="), [layer], [b"{}", smollm2])
    put(docker_registry.url, "huggingface/smollm2", "135m", artifact)
    model = client.pull(f"{docker_registry.host}/huggingface/smollm2:135m")
    assert str(model.digest) == artifact.digest
    (part,) = model.parts
    assert (part.role.value, part.name) == ("weights", title["org.opencontainers.image.title"])
    assert part.descriptor.digest == Digest.of(smollm2)
    header = Header.read(model.path)
    assert (header.architecture, header.quantization) == ("llama", "Q4_1")
    assert header.parameter_size == "134.5M"
    assert header.vocabulary == "gpt2"
    again = client.pull(f"{docker_registry.host}/huggingface/smollm2@{artifact.digest}")
    assert again.path == model.path
