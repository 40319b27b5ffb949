"""Registries that fail and lie: each row is a scenario, the exit code, and what may remain.

Families of the security rules on manifests, blobs and authentication, through the whole of `pull`.
After every row the store is as it was, and a good registry then serves the same pull.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bad
import build
import pytest
from gguf_writer import tiny_llama
from registry import Registry, Rules

from modelpm.client import Client
from modelpm.errors import ModelPMError, NotFoundError
from modelpm.oci.descriptor import Digest
from modelpm.registry.limits import Limits
from tests.invariants import Unharmed

QUICK = Limits(connect=5, no_progress=0.4, token=0.5, document=2, backoff=0.01, backoff_max=0.02)
SECONDS = 15
"""No row takes longer, however long the registry would go on."""

BLOB = {"path": "/blobs/"}
MANIFEST = {"path": "/manifests/"}
ALL = {"path": "/v2/"}
LIE = {"Docker-Content-Digest": f"sha256:{'0' * 64}"}


@dataclass(frozen=True, slots=True)
class Row:
    """A scenario and its outcome; with exit code 0 the pull succeeds in spite of it."""

    name: str
    where: dict[str, Any]
    act: dict[str, Any]
    exit_code: int
    drafts: bool = False
    """Whether what has arrived may stay, to go on from."""

    @property
    def rules(self) -> Rules:
        return [{**self.where, **self.act}]


ROWS = [
    Row("other bytes by tag", MANIFEST, {"flip": 20}, 5),
    Row("not JSON", MANIFEST, {"body": "<html>", "headers": {"Docker-Content-Digest": None}}, 6),
    Row("no JSON object", MANIFEST, {"body": "[]", "headers": {"Docker-Content-Digest": None}}, 6),
    Row("endless", MANIFEST, {"endless": True}, 6),
    Row("compressed", MANIFEST, {"gzip": True}, 6),
    Row("a lie in the head", MANIFEST, {"headers": LIE}, 5),
    Row("stalled", MANIFEST, {"stall": 10}, 6),
    Row("cut", MANIFEST, {"cut": 10}, 6),
    Row("500 for ever", MANIFEST, {"status": 500}, 6),
    Row("500, then good", MANIFEST, {"status": 500, "times": 3}, 0),
    Row("always cut", BLOB, {"cut": 60}, 6, drafts=True),
    Row("cut twice", BLOB, {"cut": 60, "times": 2}, 0),
    Row("reset twice", BLOB, {"reset": 60, "times": 2}, 0),
    Row("chunked and cut once", BLOB, {"cut": 60, "framing": "chunked", "times": 1}, 0),
    Row("another byte", BLOB, {"flip": 3}, 5, drafts=True),
    Row("too short", BLOB, {"drop": 1}, 5, drafts=True),
    Row("too short, without a length", BLOB, {"drop": 1, "framing": "close"}, 6, drafts=True),
    Row("a byte too many", BLOB, {"append": 1}, 5, drafts=True),
    Row("a byte too many, unannounced", BLOB, {"append": 1, "framing": "close"}, 5, drafts=True),
    Row("endless blob", BLOB, {"endless": True}, 5, drafts=True),
    Row("stalled blob", BLOB, {"stall": 60}, 6, drafts=True),
    Row("stalled blob, once", BLOB, {"stall": 60, "times": 1}, 0),
    Row("never begun", BLOB, {"stall": 0}, 6, drafts=True),
    Row("compressed blob", BLOB, {"gzip": True}, 6, drafts=True),
    Row("blob 500", BLOB, {"status": 500}, 6, drafts=True),
    Row("blob 503, then good", BLOB, {"status": 503, "times": 2}, 0),
    Row("Retry-After", BLOB, {"status": 429, "headers": {"Retry-After": "0"}, "times": 2}, 0),
    Row("blob 404", BLOB, {"status": 404}, 3, drafts=True),
    Row("to a file", BLOB, {"redirect": "file:///etc/passwd"}, 6, drafts=True),
    Row("to ftp", BLOB, {"redirect": "ftp://127.0.0.1/x"}, 6, drafts=True),
    Row("to itself", BLOB, {"redirect": "{path}"}, 6, drafts=True),
    Row("401 for ever", ALL, {"challenge": 'Basic realm="x"'}, 4),
    Row("401 without a word", ALL, {"status": 401}, 4),
    Row("403", ALL, {"status": 403}, 4),
    Row("404", ALL, {"status": 404}, 3),
    Row("busy for ever", ALL, {"status": 429}, 6),
    Row("402", ALL, {"status": 402}, 6),
]


@dataclass(frozen=True, slots=True)
class Scene:
    """A store with one model, and a registry that has another and shares no layer with it."""

    client: Client
    registry: Registry
    folder: Path

    @property
    def wanted(self) -> str:
        return f"{self.registry.host}/a/wanted"


@pytest.fixture
def scene(tmp_path: Path, loopback: Registry) -> Iterator[Scene]:
    weights = tiny_llama() + bytes(32)  # other weights: nothing is here already
    layers = [("application/vnd.ollama.image.model", weights)]
    loopback.content.add_artifact("a/wanted", "latest", layers)
    loopback.content.add("a/kept", "latest", build.ollama())
    with Client(tmp_path / "home", limits=QUICK) as client:
        client.pull(f"{loopback.host}/a/kept")
        yield Scene(client, loopback, tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_nothing_is_lost(row: Row, scene: Scene) -> None:
    unharmed = Unharmed(scene.client.home, scene.folder)
    scene.registry.scenario = row.rules
    begin = time.monotonic()
    if row.exit_code == 0:
        scene.client.pull(scene.wanted)
    else:
        with pytest.raises(ModelPMError) as caught:
            scene.client.pull(scene.wanted)
        assert caught.value.exit_code == row.exit_code
        assert scene.registry.host in str(caught.value) or "sha256:" in str(caught.value)
        _settle(scene.client)
        unharmed.check(drafts=row.drafts)
    assert time.monotonic() - begin < SECONDS
    scene.registry.scenario = []
    assert scene.client.pull(scene.wanted).path.exists()
    assert scene.client.store.check() == []
    assert len(scene.client.list()) == 2


@pytest.mark.parametrize(
    "case", [case for case in bad.CASES if case.stage == "parse"], ids=lambda case: case.name
)
def test_a_bad_manifest_is_refused_and_nothing_of_it_fetched(case: bad.Case, scene: Scene) -> None:
    unharmed = Unharmed(scene.client.home, scene.folder)
    scene.registry.content.add_manifest("a/bad", "latest", case.content(), case.served_as)
    before = len(scene.registry.log)
    with pytest.raises(ModelPMError) as caught:
        scene.client.pull(f"{scene.registry.host}/a/bad")
    assert caught.value.exit_code == 6  # the registry broke the protocol
    assert len(scene.registry.log) - before == 1
    unharmed.check(drafts=False)


def test_urls_of_a_layer_are_never_followed(scene: Scene) -> None:
    with Registry() as elsewhere:
        document = json.loads(build.oras_gguf().manifest)
        document["layers"][0]["urls"] = [f"http://{elsewhere.host}/weights"]
        scene.registry.content.add_manifest("a/foreign", "latest", json.dumps(document).encode())
        with pytest.raises(ModelPMError, match="foreign"):
            scene.client.pull(f"{scene.registry.host}/a/foreign")
        assert elsewhere.log == ()


def test_layers_with_one_digest_are_fetched_once_and_verified(scene: Scene) -> None:
    weights = tiny_llama() + bytes(64)
    layer = ("application/vnd.ollama.image.model", weights)
    config = ("application/vnd.ollama.image.license", b"{}")  # the bytes of the config as well
    digest = scene.registry.content.add_artifact("a/twice", "latest", [layer, layer, config])
    scene.client.pull(f"{scene.registry.host}/a/twice")
    asked = [request.path for request in scene.registry.log if "/a/twice/blobs/" in request.path]
    assert len(asked) == len(set(asked)) == 2
    assert str(scene.client.get(f"{scene.registry.host}/a/twice").digest) == digest
    scene.client.remove([f"{scene.registry.host}/a/twice"])
    scene.client.prune(scene.client.garbage())
    scene.registry.scenario = [{"path": "/blobs/", "flip": 0}]
    with pytest.raises(ModelPMError):
        scene.client.pull(f"{scene.registry.host}/a/twice")


@pytest.fixture
def broken_off(scene: Scene) -> tuple[str, Path]:
    """A pull that ended after 700,000 of its bytes: its name, and what is left of it."""
    content = bytes(2**20) + tiny_llama()
    layers = [("application/vnd.ollama.image.model", content)]
    scene.registry.content.add_artifact("a/large", "latest", layers)
    weights = {"path": f"/blobs/{Digest.of(content)}"}
    scene.registry.scenario = [{**weights, "cut": 700_000, "times": 1}, {**weights, "status": 404}]
    name = f"{scene.registry.host}/a/large"
    with pytest.raises(NotFoundError):
        scene.client.pull(name)
    _settle(scene.client)
    draft = scene.client.home / "ingest" / f"sha256-{Digest.of(content).hex}"
    assert draft.stat().st_size == len(content)
    scene.registry.scenario = []
    scene.registry.clear()
    return name, draft


def test_what_had_arrived_is_not_fetched_again(scene: Scene, broken_off: tuple[str, Path]) -> None:
    name, _ = broken_off
    scene.client.pull(name)
    (request,) = scene.registry.requests("GET", "/blobs/")
    match = re.fullmatch(r"bytes=([0-9]+)-", request.headers["range"])
    assert match is not None
    assert 600_000 < int(match[1]) <= 700_000


def test_bytes_that_rotted_while_they_waited_cost_one_restart(
    scene: Scene, broken_off: tuple[str, Path]
) -> None:
    name, draft = broken_off
    with draft.open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"!")
    scene.client.pull(name)
    assert len(scene.registry.requests("GET", "/blobs/")) == 2
    assert scene.client.store.check() == []


def _settle(client: Client) -> None:
    """Wait for the threads of a copy that failed: they hold their drafts a moment longer."""
    deadline = time.monotonic() + 5
    leases = client.home / "leases"
    while list(leases.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
