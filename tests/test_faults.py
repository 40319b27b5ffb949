"""Registries that fail and lie: each row is a scenario, the exit code, and what may remain.

Families of the security rules on manifests, blobs and authentication, through the whole of `pull`.
After every row the conditions of `invariants` hold, and a good registry then serves the same pull.
The weights are large enough, and come slowly enough, that several streams bring their parts.
"""

import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bad
import build
import pytest
from gguf_writer import tiny_llama
from registry import Answer, Registry, Request, Rules, Sink
from uploads import Uploads

from modelpm.client import Client
from modelpm.errors import DigestMismatchError, ModelPMError, NotFoundError
from modelpm.oci.descriptor import Digest
from modelpm.registry.credentials import Credential
from modelpm.registry.limits import Growth, Limits
from tests.invariants import Unharmed, contents

PART = 32 * 2**10
GROWTH = Growth(part=PART, tick=0.005, window=0.02, pause=0.2, lag_window=0.1)
QUICK = Limits(
    connect=5,
    no_progress=0.4,
    token=0.5,
    document=2,
    backoff=0.01,
    backoff_max=0.02,
    progress=PART // 4,
    slow_rate=1000,
    slow_window=0.3,
    growth=GROWTH,
)
WEIGHTS = tiny_llama() + random.Random(4).randbytes(2**20)
RATE = 2 * 2**20
"""Bytes a second of each connection: a stream alone needs half a second."""

BLOB = {"path": "/blobs/"}
MANIFEST = {"path": "/manifests/"}
ALL = {"path": "/v2/"}
PARTS = {"path": "/blobs/", "header": {"range": "."}}
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
    again: tuple[dict[str, Any], ...] = ()
    """More rules."""

    @property
    def rules(self) -> Rules:
        return [{**self.where, **self.act}, *self.again, {**BLOB, "rate": RATE}]


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
    # What befalls parts, while other streams go on.
    Row("all in order", BLOB, {"rate": RATE}, 0),
    *(
        Row(f"cut at {at}", BLOB, {"rate": RATE, "cut": at, "times": 2}, 0)
        for at in (0, 1, 8191, PART // 2, len(WEIGHTS) // 2, len(WEIGHTS) - 1)
    ),
    Row("parts always cut", PARTS, {"rate": RATE, "cut": PART // 2}, 0),
    Row("parts never begun", PARTS, {"cut": 0}, 6, drafts=True),
    Row("parts reset", PARTS, {"rate": RATE, "reset": PART // 2, "times": 20}, 0),
    Row("one part drips", PARTS, {"rate": 1, "nth": 3}, 0),
    Row("one part stalls", PARTS, {"stall": 100, "nth": 3}, 0),
    Row("two parts never begin", PARTS, {"stall": 0, "skip": 2, "times": 2}, 0),
    Row("all drip", BLOB, {"rate": 1}, 6, drafts=True),
    Row("ranges not at all", BLOB, {"rate": RATE, "range": "ignore"}, 0),
    Row("ranges refused", PARTS, {"range": "refuse"}, 0),
    Row("ranges with a wrong start", PARTS, {"range": "start"}, 0),
    Row("ranges with a wrong total", PARTS, {"range": "total"}, 0),
    Row("ranges without a word", PARTS, {"range": "none"}, 0),
    Row("ranges in many parts", PARTS, {"range": "multipart"}, 0),
    Row("ranges of other bytes", PARTS, {"rate": RATE, "range": "other"}, 5, drafts=True),
    Row("one lie about a range", PARTS, {"range": "start", "nth": 4}, 0),
    Row("ranges encoded", PARTS, {"headers": {"Content-Encoding": "gzip"}, "nth": 3}, 0),
    Row("few connections, 429", BLOB, {"crowd": 2, "status": 429}, 0),
    Row("few connections, 503", BLOB, {"crowd": 1, "status": 503}, 0),
    Row("few connections, reset", BLOB, {"crowd": 3, "reset": 0}, 0),
    Row("few, with Retry-After", PARTS, {"status": 503, "headers": {"Retry-After": "300"}}, 0),
    Row(
        "Retry-After of garbage", BLOB, {"status": 429, "headers": {"Retry-After": "soon"}}, 6, True
    ),
    Row(
        "Retry-After in the past", BLOB, {"status": 429, "headers": {"Retry-After": "-1"}}, 6, True
    ),
    Row("parts forbidden", PARTS, {"status": 403, "rate": RATE}, 0),
    Row("the first forbidden", BLOB, {"status": 403}, 4, drafts=True),
    Row("parts vanish", PARTS, {"status": 404}, 3, drafts=True),
    Row("another byte, everywhere", BLOB, {"rate": RATE, "flip": len(WEIGHTS) - 1}, 5, drafts=True),
    Row("a byte too many, parts", BLOB, {"rate": RATE, "append": 1}, 5, drafts=True),
    Row("10 GB too many", BLOB, {"append": 10**10}, 5, drafts=True),
    Row("endless parts", PARTS, {"rate": RATE, "endless": True}, 0),
    Row("endless, no ranges", BLOB, {"range": "ignore", "endless": True}, 5, drafts=True),
    *(
        Row(f"to {where}", BLOB, {"redirect": where}, 6, drafts=True)
        for where in ("gopher://127.0.0.1/", "data:,x", "//127.0.0.1/x", "http://a@127.0.0.1/", " ")
    ),
    Row("to two lines", BLOB, {"redirect": "/x\r\nX-Evil: 1"}, 3, drafts=True),
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

    def unharmed(self, sinks: Sequence[Sink] = ()) -> Unharmed:
        """The conditions, as they are now."""
        self.registry.clear()
        return Unharmed(self.client.home, self.folder, self.registry, sinks)


@pytest.fixture
def scene(tmp_path: Path, loopback: Registry) -> Iterator[Scene]:
    layers = [("application/vnd.ollama.image.model", WEIGHTS)]
    loopback.content.add_artifact("a/wanted", "latest", layers)
    loopback.content.add("a/kept", "latest", build.ollama())
    with Client(tmp_path / "home", limits=QUICK) as client:
        client.pull(f"{loopback.host}/a/kept")
        yield Scene(client, loopback, tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_nothing_is_lost(row: Row, scene: Scene) -> None:
    unharmed = scene.unharmed()
    scene.registry.scenario = row.rules
    if row.exit_code == 0:
        assert scene.client.pull(scene.wanted).path.read_bytes() == WEIGHTS
    else:
        with pytest.raises(ModelPMError) as caught:
            scene.client.pull(scene.wanted)
        assert caught.value.exit_code == row.exit_code
        assert scene.registry.host in str(caught.value) or "sha256:" in str(caught.value)
        _settle(scene.client)
    unharmed.check(drafts=row.drafts, published=row.exit_code == 0)
    scene.registry.scenario = []
    assert scene.client.pull(scene.wanted).path.read_bytes() == WEIGHTS
    assert scene.client.store.check() == []
    assert len(scene.client.list()) == 2


def test_the_weights_come_in_parts(scene: Scene) -> None:
    """What the rows above stand on."""
    scene.registry.scenario = [{**BLOB, "rate": RATE}]
    scene.client.pull(scene.wanted)
    asked = scene.registry.requests("GET", str(Digest.of(WEIGHTS)))
    assert len([request for request in asked if "range" in request.headers]) > 4
    assert scene.registry.peak >= 4


class Flipping(Registry):
    """Sends a wrong last byte of the weights so many times, then the right one."""

    times = 1

    def reply(self, request: Request) -> Answer:
        answer = super().reply(request)
        asked = request.headers.get("range", "")
        reaches_end = asked.endswith("-") or not asked or int(asked.partition("-")[2]) + 1 >= SIZE
        if self.times and len(answer.body) == SIZE and reaches_end:
            self.times -= 1
            return replace(answer, body=answer.body[:-1] + bytes([answer.body[-1] ^ 1]))
        return answer


SIZE = len(WEIGHTS)


@pytest.mark.parametrize(("times", "exit_code"), [(1, 0), (2, 5)])
def test_a_wrong_part_costs_one_whole_refetch(tmp_path: Path, times: int, exit_code: int) -> None:
    rules = [{**BLOB, "rate": RATE}]
    with Flipping(rules) as registry, Client(tmp_path / "home", limits=QUICK) as client:
        registry.times = 99 if exit_code else times
        layers = [("application/vnd.ollama.image.model", WEIGHTS)]
        registry.content.add_artifact("a/wanted", "latest", layers)
        unharmed = Unharmed(client.home, tmp_path, registry)
        name = f"{registry.host}/a/wanted"
        if exit_code == 0:
            client.pull(name)
        else:
            with pytest.raises(DigestMismatchError):
                client.pull(name)
            _settle(client)
            assert contents(client.home / "ingest") == {}
        unharmed.check(drafts=False, published=exit_code == 0)
        assert registry.sent < 2.5 * SIZE


@pytest.mark.parametrize(("hops", "exit_code"), [(5, 0), (6, 6)])
def test_so_many_redirects_are_followed_and_no_secret_with_them(
    scene: Scene, hops: int, exit_code: int
) -> None:
    held = scene.registry.content
    with Sink(held) as near, Sink(held) as far:
        sinks = [near, far]
        for hop in range(1, hops):
            origin = sinks[(hop + 1) % 2]
            rule = {"path": f"/hop/{hop}/", "redirect": f"{origin.url}/hop/{hop + 1}/{{digest}}"}
            sinks[hop % 2].scenario = [*sinks[hop % 2].scenario, rule]
        for sink in sinks:
            sink.scenario = [*sink.scenario, {"rate": RATE}]
        scene.registry.scenario = [
            {**ALL, "authorized": False, "challenge": 'Basic realm="here"'},
            {**BLOB, "redirect": f"{far.url}/hop/1/{{digest}}"},
        ]
        with Client(scene.client.home, limits=QUICK, credentials=Known()) as client:
            unharmed = scene.unharmed(sinks)
            if exit_code == 0:
                assert client.pull(scene.wanted).path.read_bytes() == WEIGHTS
                assert len(near.log) + len(far.log) > 20  # parts too came from there
            else:
                with pytest.raises(ModelPMError, match="more than 5 redirects"):
                    client.pull(scene.wanted)
                _settle(client)
            unharmed.check(drafts=exit_code != 0, published=exit_code == 0)
        assert any(request.has_secret for request in scene.registry.log)


class Known:
    """Knows who we are, everywhere."""

    def find(self, host: str, repository: str) -> Credential | None:
        return Credential("alice", "s3cret-of-alice")


def test_a_hundred_resets_lose_nothing(scene: Scene) -> None:
    dice = random.Random(8)
    unharmed = scene.unharmed()
    scene.registry.scenario = [
        *({**BLOB, "times": 1, "rate": RATE, "reset": dice.randrange(PART)} for _ in range(100)),
        {**BLOB, "rate": RATE},
    ]
    with Client(scene.client.home, limits=replace(QUICK, progress=0)) as client:
        assert client.pull(scene.wanted).path.read_bytes() == WEIGHTS
    unharmed.check(drafts=False, published=True)
    assert scene.registry.sent < SIZE + 100 * PART


@pytest.mark.parametrize(
    "case", [case for case in bad.CASES if case.stage == "parse"], ids=lambda case: case.name
)
def test_a_bad_manifest_is_refused_and_nothing_of_it_fetched(case: bad.Case, scene: Scene) -> None:
    scene.registry.content.add_manifest("a/bad", "latest", case.content(), case.served_as)
    unharmed = scene.unharmed()
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


CROWDS = [
    {"status": 503},
    {"status": 429, "headers": {"Retry-After": "0"}},
    {"reset": 0},
]
PATIENT = replace(QUICK, backoff=0.03, backoff_max=0.1)
"""Patient enough for a server to notice that a connection has ended."""
LICENSES = [random.Random(seed).randbytes(2**18).hex().encode() for seed in range(3)]
LAYERS = [
    ("application/vnd.ollama.image.model", WEIGHTS),
    *(("application/vnd.ollama.image.license", text) for text in LICENSES),
]
"""Each takes longer than all attempts at another one."""


@pytest.mark.parametrize("refusal", CROWDS, ids=str)
def test_a_registry_that_serves_one_at_a_time_is_waited_for(
    tmp_path: Path, refusal: dict[str, object]
) -> None:
    rules = [{**BLOB, "crowd": 1, **refusal}, {**BLOB, "rate": 2**20}]
    with Registry(rules) as registry, Client(tmp_path / "home", limits=PATIENT) as client:
        registry.content.add_artifact("a/wanted", "latest", LAYERS)
        unharmed = Unharmed(client.home, tmp_path, registry)
        client.pull(f"{registry.host}/a/wanted")
        unharmed.check(drafts=False, published=True)
        assert client.store.check() == []


@pytest.mark.parametrize("refusal", [{"status": 503}, {"reset": 0}], ids=str)
def test_a_registry_that_takes_one_at_a_time_is_waited_for(
    tmp_path: Path, refusal: dict[str, object]
) -> None:
    rules = [
        {"path": "/blobs/uploads/", "crowd": 1, **refusal},
        {"method": "PUT", "path": "/blobs/", "intake_rate": 2**20},
    ]
    with Registry() as registry, Client(tmp_path / "home", limits=PATIENT) as client:
        registry.content.add_artifact("a/here", "latest", LAYERS)
        client.pull(f"{registry.host}/a/here")
        with Registry(rules, uploads=Uploads()) as there:
            client.push(f"{registry.host}/a/here", f"{there.host}/a/there")
            assert {len(blob) for blob in there.content.blobs.values()} >= {len(LAYERS[0])}
            assert "latest" in there.content.tags["a/there"]


def _settle(client: Client) -> None:
    """Wait for the threads of a copy that failed: they hold their drafts a moment longer."""
    deadline = time.monotonic() + 20
    leases = client.home / "leases"
    while list(leases.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
