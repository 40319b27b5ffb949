"""What modelpm pushed is what others pull, and what others pushed is what modelpm pulls."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import build
import pytest
from artifact import EMPTY_TYPE, digest_of
from docker_registry import DockerRegistry, put
from gguf_writer import tiny_llama

from modelpm.client import Client
from modelpm.model.dialects import choose
from modelpm.oci.descriptor import Digest
from modelpm.oci.manifest import DOCKER_MANIFEST, Manifest
from tests.live.conftest import Copy

pytestmark = pytest.mark.live

GGUF = "application/vnd.docker.ai.gguf.v3"
Program = Callable[..., "subprocess.CompletedProcess[bytes]"]


def program(name: str) -> Program:
    """Runs a program that is not everywhere; skips the test, with the reason, where it is not."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on this machine: what it says of a push is not known")

    def run(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
        done = subprocess.run([path, *arguments], capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        return done

    return run


@pytest.fixture
def pushed(client: Client, docker_registry: DockerRegistry, request: pytest.FixtureRequest) -> str:
    """A model that was pulled and then pushed elsewhere by modelpm; its name there."""
    layout = request.param
    put(docker_registry.url, f"origin/{layout}", "v1", build.LAYOUTS[layout]())
    host = docker_registry.host
    client.pull(f"{host}/origin/{layout}:v1")
    name = f"{host}/interop/{layout}:v1"
    result = client.push(f"{host}/origin/{layout}:v1", name)
    assert result.digest == client.get(f"{host}/origin/{layout}:v1").digest
    return name


ALL = pytest.mark.parametrize("pushed", build.LAYOUTS, indirect=True)
OCI = pytest.mark.parametrize(
    "pushed",
    [name for name, make in build.LAYOUTS.items() if make().media_type != DOCKER_MANIFEST],
    indirect=True,
)
"""skopeo and oras pass over layers of Docker's media types, as Ollama's config is."""


def expected(name: str) -> dict[str, bytes]:
    """The manifest and the blobs that a pull of `pushed` has to bring, by digest."""
    artifact = build.LAYOUTS[name.rpartition("/")[2].partition(":")[0]]()
    document = json.loads(artifact.manifest)
    digest, manifest = artifact.digest, artifact.manifest
    if "manifests" in document:
        digest = str(choose(Manifest.parse(manifest, artifact.media_type)).digest)
        manifest = artifact.blobs[digest]
        document = json.loads(manifest)
    digests = [document["config"]["digest"], *(layer["digest"] for layer in document["layers"])]
    return {digest: manifest} | {each: artifact.blobs[each] for each in digests}


@OCI
def test_skopeo_pulls_it_byte_for_byte(pushed: str, run_skopeo: Copy, tmp_path: Path) -> None:
    target = tmp_path / "layout"
    options = ("--quiet", "--preserve-digests", "--src-tls-verify=false")
    run_skopeo("copy", *options, f"docker://{pushed}", f"oci:{target}:x")
    assert_has(target, expected(pushed))


@ALL
def test_skopeo_reads_the_manifest(pushed: str, run_skopeo: Copy) -> None:
    shown = run_skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{pushed}")
    assert shown.stdout in expected(pushed).values()


@ALL
def test_crane_pulls_it_byte_for_byte(pushed: str) -> None:
    crane = program("crane")
    wanted = expected(pushed)
    assert crane("manifest", "--insecure", pushed).stdout in wanted.values()
    repository = pushed.rpartition(":")[0]
    for digest, content in wanted.items():
        if content[:1] != b"{":
            assert crane("blob", "--insecure", f"{repository}@{digest}").stdout == content
    assert crane("digest", "--insecure", pushed).stdout.decode().strip() in wanted


@ALL
def test_oras_copies_it_byte_for_byte(pushed: str, tmp_path: Path) -> None:
    oras = program("oras")
    target = tmp_path / "layout"
    oras("cp", "--from-plain-http", "--to-oci-layout", pushed, f"{target}:x")
    assert_has(target, expected(pushed))


def assert_has(layout: Path, wanted: dict[str, bytes]) -> None:
    """The layout has these, byte for byte, and names the manifest."""
    for digest, content in wanted.items():
        assert (layout / "blobs" / digest.replace(":", "/")).read_bytes() == content
    named = json.loads((layout / "index.json").read_bytes())["manifests"]
    assert {entry["digest"] for entry in named} <= set(wanted)


def test_what_oras_pushed_is_pulled(
    client: Client, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    oras = program("oras")
    (tmp_path / "tiny.gguf").write_bytes(tiny_llama())
    name = f"{docker_registry.host}/interop/by-oras:v1"
    kind = "--artifact-type=application/vnd.example.model"
    subprocess_in(tmp_path, oras, "push", "--plain-http", kind, name, f"tiny.gguf:{GGUF}")
    model = client.pull(name)
    assert model.path.read_bytes() == tiny_llama()
    again = client.push(name, f"{docker_registry.host}/interop/by-oras-again:v1")
    assert again.digest == model.digest


def subprocess_in(folder: Path, run: Program, *arguments: str) -> None:
    """Run it there: oras keeps the paths that it is told as titles."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        run(*arguments)
    finally:
        os.chdir(before)


def test_what_oras_attached_is_mirrored(
    client: Client, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    oras = program("oras")
    host = docker_registry.host
    put(docker_registry.url, "interop/attached", "v1", build.oras_gguf())
    (tmp_path / "note.txt").write_text("signed")
    kind = "--artifact-type=application/vnd.example.note"
    subprocess_in(
        tmp_path, oras, "attach", "--plain-http", kind, f"{host}/interop/attached:v1", "note.txt"
    )
    mirrored = client.mirror(f"{host}/interop/attached:v1", f"{host}/interop/attached-copy")
    assert mirrored.referrers == 1
    found = oras("discover", "--plain-http", "-o", "json", f"{host}/interop/attached-copy:v1")
    (manifest,) = json.loads(found.stdout)["manifests"]
    assert manifest["artifactType"] == "application/vnd.example.note"


def test_what_crane_copied_is_pulled(client: Client, docker_registry: DockerRegistry) -> None:
    crane = program("crane")
    digest = put(docker_registry.url, "interop/by-put", "v1", build.ollama())
    host = docker_registry.host
    crane("copy", "--insecure", f"{host}/interop/by-put:v1", f"{host}/interop/by-crane:v1")
    model = client.pull(f"{host}/interop/by-crane:v1")
    assert (str(model.digest), model.path.read_bytes()) == (digest, tiny_llama())


def test_what_skopeo_copied_from_a_push_is_pulled(
    client: Client, docker_registry: DockerRegistry, run_skopeo: Copy
) -> None:
    host = docker_registry.host
    digest = put(docker_registry.url, "interop/first", "v1", build.modelpack_raw())
    client.pull(f"{host}/interop/first:v1")
    client.push(f"{host}/interop/first:v1", f"{host}/interop/second")
    options = ("--quiet", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false")
    ends = [f"docker://{host}/interop/{name}:v1" for name in ("second", "third")]
    run_skopeo("copy", *options, *ends)
    model = client.pull(f"{host}/interop/third:v1")
    assert str(model.digest) == digest


def test_what_was_mirrored_keeps_every_child(
    client: Client, docker_registry: DockerRegistry, run_skopeo: Copy
) -> None:
    host = docker_registry.host
    digest = put(docker_registry.url, "interop/many", "v1", build.index())
    mirrored = client.mirror(f"{host}/interop/many:v1", f"{host}/interop/many-copy")
    assert str(mirrored.digest) == digest
    raw = run_skopeo(
        "inspect", "--raw", "--tls-verify=false", f"docker://{host}/interop/many-copy:v1"
    )
    assert raw.stdout == build.index().manifest
    for child in json.loads(raw.stdout)["manifests"]:
        name = f"docker://{host}/interop/many-copy@{child['digest']}"
        assert (
            digest_of(run_skopeo("inspect", "--raw", "--tls-verify=false", name).stdout)
            == child["digest"]
        )


def test_the_empty_config_is_as_everywhere(client: Client, docker_registry: DockerRegistry) -> None:
    """The blob that all artifacts share is mounted or found, never damaged."""
    host = docker_registry.host
    put(docker_registry.url, "interop/empty", "v1", build.oras_gguf())
    model = client.pull(f"{host}/interop/empty:v1")
    config = model.manifest.config
    assert config is not None
    assert (config.media_type, config.digest) == (EMPTY_TYPE, Digest.of(b"{}"))
    first = client.push(f"{host}/interop/empty:v1", f"{host}/interop/empty-copy")
    assert first.mounted == len(model.manifest.successors)
    assert first.uploaded == 0
