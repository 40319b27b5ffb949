"""One copy of the weights, whatever they came in, and each layer as it came when it goes on."""

import hashlib
import json
import random
import urllib.request
from pathlib import Path

import pytest
from artifact import Artifact, described, image
from docker_registry import DockerRegistry, put

from modelpm.client import Client
from modelpm.store.layout import Store
from tests.live.conftest import Copy
from tests.model.test_archive import entry, tar

pytestmark = pytest.mark.live

WEIGHTS = random.Random(11).randbytes(20_000_000)
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
WEIGHT = "application/vnd.cncf.model.weight.v1."
CONFIG = "application/vnd.cncf.model.config.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def raw() -> Artifact:
    return image(described(CONFIG, b"{}"), [described(WEIGHT + "raw", WEIGHTS)], [b"{}", WEIGHTS])


def docker() -> Artifact:
    config = described("application/vnd.docker.ai.model.config.v0.1+json", b"{}")
    layer = described("application/vnd.docker.ai.gguf.v3", WEIGHTS)
    return image(config, [layer], [b"{}", WEIGHTS])


def modctl() -> Artifact:
    """A tar with one file, which no annotation tells the digest of."""
    packed = tar(entry("model.gguf", WEIGHTS, mtime=1_700_000_000, uid=1000))
    return image(described(CONFIG, b"{}"), [described(WEIGHT + "tar", packed)], [b"{}", packed])


def olot() -> Artifact:
    packed = tar(entry("models/", type=b"5"), entry("models/model.gguf", WEIGHTS))
    told = {"olot.layer.content.digest": f"sha256:{DIGEST}", "olot.layer.content.type": "file"}
    layer = described(LAYER, packed, annotations=told)
    return image(described(IMAGE_CONFIG, b"{}"), [layer], [b"{}", packed])


MAKERS = {"raw": raw, "docker": docker, "modctl": modctl, "olot": olot}


def on_disk(home: Path) -> int:
    files = {path.stat().st_ino: path.stat().st_size for path in home.rglob("*") if path.is_file()}
    return sum(files.values())


@pytest.mark.parametrize("order", [("raw", "docker", "modctl", "olot"), ("modctl", "olot", "raw")])
def test_weights_in_several_formats_are_one_copy(
    order: tuple[str, ...], docker_registry: DockerRegistry, client: Client
) -> None:
    for name in order:
        put(docker_registry.url, f"copies/{name}", "v1", MAKERS[name]())
        client.pull(f"{docker_registry.host}/copies/{name}:v1")
    assert on_disk(client.home) < 1.01 * len(WEIGHTS)
    assert (client.home / "blobs/sha256" / DIGEST).read_bytes() == WEIGHTS
    assert client.store.check() == []
    assert not client.garbage()


def test_what_was_pulled_as_a_tar_goes_on_as_that_tar(
    docker_registry: DockerRegistry, client: Client, run_skopeo: Copy, tmp_path: Path
) -> None:
    """Out of the store byte for byte, into the registry by way of skopeo, with one digest."""
    artifact = modctl()
    put(docker_registry.url, "tars/first", "v1", artifact)
    model = client.pull(f"{docker_registry.host}/tars/first:v1")
    target = tmp_path / "layout"
    (target / "blobs/sha256").mkdir(parents=True)
    config = model.manifest.config
    assert config is not None
    for desc in (model.descriptor, config, *model.manifest.layers):
        with client.store.fetch(desc) as stream:
            content = stream.read() if desc.size < 100_000 else b"".join(iter(stream.read, b""))
        (target / "blobs/sha256" / desc.digest.hex).write_bytes(content)
    (target / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    top = model.descriptor.to_json() | {"annotations": {"org.opencontainers.image.ref.name": "v1"}}
    (target / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    host = f"{docker_registry.host}/tars/second:v1"
    options = ("--quiet", "--preserve-digests", "--dest-tls-verify=false")
    run_skopeo("copy", *options, f"oci:{target}:v1", f"docker://{host}")
    again = client.pull(host)
    assert again.digest == model.digest
    url = f"{docker_registry.url}/v2/tars/second/blobs/{model.manifest.layers[0].digest}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert answer.read() == artifact.blobs[str(model.manifest.layers[0].digest)]


def test_a_store_that_keeps_layers_is_read_by_skopeo(
    docker_registry: DockerRegistry, client: Client, run_skopeo: Copy, tmp_path: Path
) -> None:
    put(docker_registry.url, "kept/tar", "v1", modctl())
    client.store = Store(client.home, keep_layers=True)
    model = client.pull(f"{docker_registry.host}/kept/tar:v1")
    run_skopeo("copy", "--quiet", f"oci:{client.home}:{model.name}", f"dir:{tmp_path / 'out'}")
    layer = model.manifest.layers[0].digest
    assert (tmp_path / "out" / layer.hex).stat().st_size > len(WEIGHTS)
