"""Every fixture layout, put into the real docker-registry, comes back as the model that it is."""

from pathlib import Path

import build
import pytest
from docker_registry import DockerRegistry, put
from gguf_writer import tiny_llama

from modelpm.client import Client
from modelpm.errors import ModelError, NotFoundError, RunnerError
from modelpm.model.roles import Role
from modelpm.oci.descriptor import Digest
from modelpm.oci.manifest import Manifest
from tests.live.conftest import Copy

pytestmark = pytest.mark.live

LAYOUTS = Path(build.__file__).parent / "layouts"
NOT_LOADED_BY_SKOPEO = frozenset(
    {"ollama", "ollama-all", "ollama-tensors", "huggingface", "index", "kitops-index", "olot-index"}
)
"""Docker manifests and indexes, which it cannot load unchanged; `docker_registry` tells why."""
UNTYPED = frozenset({"kitops-old"})
"""skopeo wants to know what a manifest is; an old ModelKit's does not say."""
LOADED_BY_SKOPEO = sorted(set(build.LAYOUTS) - NOT_LOADED_BY_SKOPEO - UNTYPED)


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


@pytest.mark.parametrize("name", build.WRITERS)
def test_every_writer_is_pulled_shown_and_exported(
    name: str, docker_registry: DockerRegistry, client: Client, tmp_path: Path
) -> None:
    writer = build.WRITERS[name]
    put(docker_registry.url, f"written/{name}", "v1", writer.make())
    model = client.pull(f"{docker_registry.host}/written/{name}:v1")
    assert str(model.digest) == writer.model().digest
    shown = {part.name: part.role.value for part in model.parts}
    assert list(shown.items()) == [(file, role) for file, (role, _) in writer.files.items()]
    for part in model.parts:
        assert client.store.path(part.descriptor).read_bytes() == writer.files[part.name][1]
    assert client.store.check() == []
    client.export(model.name, tmp_path / "out")
    for file, (_, content) in writer.files.items():
        assert (tmp_path / "out" / file).read_bytes() == content
    written = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    more = {str(path.relative_to(tmp_path / "out")) for path in written} - set(writer.files)
    assert more <= {"Modelfile"}


@pytest.mark.parametrize("name", build.LAYOUTS)
def test_every_gguf_runs(name: str, docker_registry: DockerRegistry, client: Client) -> None:
    put(docker_registry.url, f"run/{name}", "v1", build.LAYOUTS[name]())
    model = client.pull(f"{docker_registry.host}/run/{name}:v1")
    if any(part.role is Role.ADAPTER for part in model.parts):
        with pytest.raises(RunnerError, match="does not use its adapter"):
            client.open(model.name)
        return
    with client.open(model.name, parameters={"num_predict": 4, "seed": 1}) as session:
        "".join(session.ask("hello"))
        assert session.finished is not None
        assert session.finished.answer_tokens > 0


@pytest.mark.parametrize("name", [name for name, each in build.WRITERS.items() if not each.plain])
def test_archives_are_pushed_on_bit_for_bit(
    name: str, docker_registry: DockerRegistry, client: Client
) -> None:
    """What the store keeps in pieces is whole to whoever reads it."""
    artifact = build.WRITERS[name].model()
    put(docker_registry.url, f"whole/{name}", "v1", artifact)
    model = client.pull(f"{docker_registry.host}/whole/{name}:v1")
    for layer in model.manifest.layers:
        assert client.store.exists(layer)
        with client.store.fetch(layer) as stream:
            assert stream.read() == artifact.blobs[str(layer.digest)]


def test_one_of_two_models_is_chosen(
    docker_registry: DockerRegistry, client: Client, tmp_path: Path
) -> None:
    put(docker_registry.url, "two/tiny", "v1", build.WRITERS["modelpack-two"].make())
    name = f"{docker_registry.host}/two/tiny:v1"
    with pytest.raises(ModelError, match=r"two models .* NAME#other"):
        _ = client.pull(name).path
    assert client.get(f"{name}#tiny").path.read_bytes() == tiny_llama()
    with client.open(f"{name}#tiny.gguf", parameters={"num_predict": 2}) as session:
        "".join(session.ask("hello"))
    client.export(f"{name}#other", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"other.gguf", "LICENSE"}
    assert client.pull(f"{name}#other").path.read_bytes() == tiny_llama(name="other")
    with pytest.raises(ModelError, match="'third' is none of the models in this artifact"):
        _ = client.get(f"{name}#third").path


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
    assert str(by_tag.digest) == build.WRITERS[name].model().digest


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
    zipped = {
        layer.digest.hex
        for model in models
        for layer in model.manifest.layers
        if layer.media_type.endswith(("gzip", "zstd"))
    }
    blobs = [blob for blob in client.home.glob("blobs/*/*") if blob.stat().st_size > 40_000]
    assert [blob for blob in blobs if blob.name not in zipped] == [models[0].path]


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
