"""Container images that carry a model, and those that do not."""

import gzip
import json

import pytest
import zstandard

from modelpm.model.images import holds_model
from modelpm.oci.descriptor import Descriptor
from tests.model.archives import tar
from tests.model.artifacts import OCTETS, Memory, image, named

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def labelled(value: object) -> bytes:
    return json.dumps({"config": {"Labels": {"org.containers.type": value}}}).encode()


@pytest.mark.parametrize(
    ("config", "layers", "holds"),
    [
        (labelled("ai.image.model.raw"), [(b"x", LAYER)], True),
        (labelled("ai.image.model.car"), [(b"x", DOCKER_LAYER)], True),
        (labelled("something"), [(b"x", LAYER)], False),
        (labelled(7), [(b"x", LAYER)], False),
        (b"[]", [], False),
        (b"no JSON", [(b"x", LAYER)], False),
        (b"{}", [(tar({"models/a": b""}), LAYER)], True),
        (b"{}", [(tar({"./models/a": b""}), LAYER)], True),
        (b"{}", [(tar({"/models": b""}), LAYER)], True),
        (b"{}", [(tar({"modelsx/a": b""}), LAYER)], False),
        (b"{}", [(tar({"bin/a": b""}), LAYER), (tar({"models/a": b""}), LAYER)], True),
        (b"{}", [(tar({"models/a": b""}), DOCKER_LAYER)], True),
        (b"{}", [(gzip.compress(tar({"models/a": b"x" * 4_000})), DOCKER_LAYER)], True),
        (b"{}", [(zstandard.compress(tar({"models/a": b"x" * 4_000})), f"{LAYER}+zstd")], True),
        (b"{}", [(gzip.compress(tar({"bin/a": b""})), DOCKER_LAYER)], False),
        (b"{}", [(gzip.compress(b""), DOCKER_LAYER)], False),
        (b"{}", [(b"\x1f\x8b" + bytes(600), DOCKER_LAYER)], False),
        (b"{}", [(b"\x28\xb5\x2f\xfd" + bytes(600), f"{LAYER}+zstd")], False),
        (b"{}", [(b"models/" + bytes(505), LAYER)], False),
        (labelled("ai.image.model.raw"), [(b"x", OCTETS)], False),
    ],
)
def test_an_image_is_told(config: bytes, layers: list[tuple[bytes, str]], holds: bool) -> None:
    memory = Memory()
    blobs = [memory.put(*layer) for layer in layers]
    assert holds_model(image(memory.put(config, CONFIG), blobs), memory) is holds


def test_olot_marks_layers_and_manifests() -> None:
    memory = Memory()
    config, layer = memory.put(b"{}", CONFIG), memory.put(b"x", LAYER)
    marked = named(layer, {"olot.layer.content.digest": "sha256:00"})
    assert holds_model(image(config, [marked]), memory)
    document = json.loads(image(config, [layer]).raw)
    document["annotations"] = {"io.opendatahub.author": "olot"}
    manifest = type(image(config, [])).parse(json.dumps(document).encode())
    assert holds_model(manifest, memory)
    assert memory.fetched == []


def test_what_is_no_image_is_not_looked_at() -> None:
    memory = Memory()
    assert not holds_model(image(Descriptor.of(b"{}", OCTETS), []), memory)
    assert memory.fetched == []
