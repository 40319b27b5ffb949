"""Uploads: whatever a registry, a network or a disk does, a blob is there whole or not at all."""

import contextlib
import io
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import pytest
from certificates import Authority
from registry import Basic, Bearer, Registry, Rules, Uploads

from modelpm import transfer
from modelpm.content import Source, read
from modelpm.errors import (
    AuthenticationError,
    DigestMismatchError,
    ModelPMError,
    NotFoundError,
    RegistryError,
    StoreError,
)
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.registry import upload, upload_session
from modelpm.registry.quirks import Quirks
from modelpm.registry.repository import Repository
from tests.memory import LAYER
from tests.registry.conftest import NAME, QUICK, Always, Bench
from tests.registry.pushes import Events, Guarded, Sent, noise, push

SIZE = 300_000
MIB = 2**20
CONTENT = noise(SIZE)
DESC = Descriptor.of(CONTENT, LAYER)
LIMITS = replace(QUICK, progress=1_000, document=3)
TAGGED = f"{NAME}:tag"


class Memo:
    """Notes in memory."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, Digest], list[str]] = {}
        self.uploads: dict[str, str] = {}

    def sisters(self, host: str, digest: Digest, /) -> list[str]:
        return self.seen.get((host, digest), [])

    def saw(self, host: str, repository: str, digest: Digest, /) -> None:
        self.seen.setdefault((host, digest), []).insert(0, repository)

    def upload(self, key: str, /) -> str | None:
        return self.uploads.get(key)

    def begin_upload(self, key: str, location: str, /) -> None:
        self.uploads[key] = location

    def end_upload(self, key: str, /) -> None:
        self.uploads.pop(key, None)


class Bytes:
    """A source of these bytes, which counts how often it is opened and where."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.opened: list[int] = []

    @contextlib.contextmanager
    def fetch(self, _desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        self.opened.append(offset)
        yield io.BytesIO(self.content[offset:])


def writable(bench: Bench, scenario: Rules = (), **options: Any) -> Registry:
    registry = bench.registry(scenario, uploads=Uploads(**options))
    registry.content.tags[NAME] = {}
    return registry


def repository(
    bench: Bench, registry: Registry, *, notes: Memo | None = None, name: str = NAME, **options: Any
) -> Repository:
    client = bench.client(registry.host, **({"limits": LIMITS} | options))
    return Repository(client, name, notes)


def requests(registry: Registry) -> list[str]:
    """What was asked, without the manifests."""
    return [request.method for request in registry.log if "/manifests/" not in request.path]


# One blob, all in order


@pytest.mark.parametrize("size", [0, 1, 2, 65_536, 2**19, 2**19 + 1, 3 * MIB])
def test_a_blob_goes_in_one_put(bench: Bench, size: int) -> None:
    registry = writable(bench)
    content = noise(size)
    desc = Descriptor.of(content, LAYER)
    source = Bytes(content)
    target = repository(bench, registry)
    target.push(desc, source)
    assert requests(registry) == ["HEAD", "POST", "PUT"]
    assert registry.content.blobs[str(desc.digest)] == content
    put = registry.requests("PUT")[0]
    assert put.headers["content-length"] == str(size)
    assert "transfer-encoding" not in put.headers
    target.push(desc, source)
    assert requests(registry) == ["HEAD", "POST", "PUT", "HEAD"]
    assert registry.uploads is not None
    assert registry.uploads.sessions == {}


def test_what_was_said_not_to_be_there_is_not_asked_for_again(bench: Bench) -> None:
    registry = writable(bench)
    target = repository(bench, registry)
    assert not target.exists(DESC)
    target.push(DESC, Bytes())
    assert target.exists(DESC)
    assert requests(registry) == ["HEAD", "POST", "PUT", "HEAD"]


def test_an_image_is_pushed_layers_first_and_found_again(bench: Bench) -> None:
    registry = writable(bench)
    source = Sent(b"a" * 1_000, CONTENT, b"c")
    guarded = Guarded(registry)
    events = Events()
    push(source, repository(bench, registry), source.root, "tag", events)
    guarded.check({TAGGED: str(source.root.digest)})
    first = [request.path for request in registry.log].index(
        f"/v2/{NAME}/manifests/{source.root.digest}"
    )
    assert not any("/blobs/" in request.path for request in registry.log[first:])
    puts = [request.path for request in registry.requests("PUT", "/manifests/")]
    assert puts == [f"/v2/{NAME}/manifests/{end}" for end in (source.root.digest, "tag")]
    assert registry.content.manifests[str(source.root.digest)][0] == read(source, source.root)
    assert events.moved[DESC.digest] == SIZE
    assert set(events.settled.values()) == {False}
    registry.clear()
    events = Events()
    target = repository(bench, registry)
    push(source, target, source.root, "tag", events)
    assert set(events.settled.values()) == {True}
    assert events.moved == {}
    leaves = 4
    assert [request.method for request in registry.log] == ["HEAD"] * (leaves + 1) + ["GET", "PUT"]


LOCATIONS = [
    "/v2/{repository}/blobs/uploads/{id}",
    "{id}",
    "../uploads/{id}",
    "{home}/v2/{repository}/blobs/uploads/{id}?_state=a%2Fb%3D%3D&x=1+2",
    "{id}?a=%2F~'()&b",
    "{id}#fragment",
    "{home}/v2/{repository}/blobs/uploads/{id}?q=1#fragment",
]


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("location", LOCATIONS)
def test_a_location_may_have_every_shape(
    bench: Bench, location: str, pieces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = writable(bench, location=location)
    if pieces:
        known(monkeypatch, most_at_once=0, largest=100_000)
    repository(bench, registry).push(DESC, Bytes())
    assert registry.content.blobs[str(DESC.digest)] == CONTENT
    last = registry.requests("PUT")[0].path
    query = location.partition("#")[0].partition("?")[2]
    mark = f"{query}&" if query else ""
    assert last.partition("?")[2] == f"{mark}digest={DESC.digest}"
    assert len(registry.requests("PATCH")) == (3 if pieces else 0)


BAD_LOCATIONS = [
    "",
    "//evil.example/x",
    "ftp://evil.example/x",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "http://user:secret@evil.example/x",
    "http://evil.example/x",
    "http://127.0.0.1:1/x",
    "/v2/a b",
    "/v2/\\evil",
    "http://[::1/x",
]


@pytest.mark.parametrize("location", BAD_LOCATIONS)
def test_a_location_that_leads_astray_is_refused(bench: Bench, location: str) -> None:
    registry = writable(bench, [{"method": "POST", "headers": {"Location": location}}])
    guarded = Guarded(registry)
    with pytest.raises(RegistryError, match=f"pushing {registry.host}/{NAME}, blob") as caught:
        repository(bench, registry).push(DESC, Bytes())
    assert "secret" not in str(caught.value)
    assert registry.requests("PUT") == ()
    guarded.check()


def known(monkeypatch: pytest.MonkeyPatch, **quirks: Any) -> None:
    """Have the registry of the test be one that is known for this."""
    for module in (upload, upload_session):
        monkeypatch.setattr(module, "quirks_of", lambda _host: Quirks(".*", **quirks))


# Faults: rows are data

Row = tuple[dict[str, Any], Rules, int]
"""Options of the uploads, the scenario, and how many times the blob may have gone over the wire."""

PUT = {"method": "PUT", "path": "/uploads/"}
PATCH = {"method": "PATCH"}
UNREAD = {**PUT, "take": 0, "after": "answer"}
HEALED: dict[str, Row] = {
    "cut at the first byte": ({}, [{**PUT, "times": 1, "take": 0}], 1),
    "cut in the middle": ({}, [{**PUT, "times": 1, "take": 100_000}], 1),
    "reset in the middle": ({}, [{**PUT, "times": 1, "take": 100_000, "after": "reset"}], 1),
    "cut before the last byte": ({}, [{**PUT, "times": 1, "take": SIZE - 1}], 1),
    "cut after one byte, which looks like none": ({}, [{**PUT, "times": 1, "take": 1}], 1),
    "cut three times": (
        {},
        [{**PUT, "times": 1, "take": 50_000}, {**PATCH, "times": 2, "take": 60_000}],
        1,
    ),
    "cut, and nothing was kept": (
        {"keeps": "none"},
        [{**PUT, "times": 1, "take": 200_000}],
        2,
    ),
    "cut, and the session is gone": (
        {"signed": True},
        [{**PUT, "times": 2, "take": 200_000}],
        3,
    ),
    "cut, and nothing is told": ({"tells": False}, [{**PUT, "times": 1, "take": 200_000}], 2),
    "the answer to the whole is lost": ({}, [{**PUT, "times": 1, "delay": 5}], 1),
    "the answer is cut": ({}, [{**PUT, "times": 1, "framing": "close", "status": 500}], 2),
    "503 once": ({}, [{**PUT, "times": 1, "take": 0, "after": "answer", "status": 503}], 1),
    "429 with Retry-After": (
        {},
        [{**PUT, "times": 2, "take": 0, "after": "answer", "status": 429,
          "headers": {"Retry-After": "1"}}],
        1,
    ),
    "the session is not known": (
        {},
        [{**PUT, "times": 2, "take": 0, "after": "answer", "status": 404}],
        1,
    ),
    "the session is not known after all was sent": ({}, [{**PUT, "times": 1, "status": 404}], 2),
    "the status of the session fails": (
        {},
        [{**PUT, "times": 1, "take": 100_000}, {"method": "GET", "path": "/uploads/", "times": 2,
                                                "status": 502}],
        1,
    ),
    "the session may not be asked": (
        {},
        [{**PUT, "times": 1, "take": 100_000}, {"method": "GET", "path": "/uploads/",
                                                "status": 405}],
        2,
    ),
    "Range ahead of what was sent": (
        {},
        [{**PUT, "times": 1, "take": 100_000},
         {"method": "GET", "path": "/uploads/", "times": 1, "headers": {"Range": "0-299998"}}],
        2,
    ),
    "Range past the end": (
        {},
        [{**PUT, "times": 1, "take": 100_000},
         {"method": "GET", "path": "/uploads/", "times": 1, "headers": {"Range": "0-999999"}}],
        2,
    ),
    "Range is nonsense": (
        {},
        [{**PUT, "times": 1, "take": 100_000},
         {"method": "GET", "path": "/uploads/", "headers": {"Range": "bytes=5-"}}],
        2,
    ),
    "Range with its unit": (
        {},
        [{**PUT, "times": 1, "take": 100_000},
         {"method": "GET", "path": "/uploads/", "headers": {"Range": "bytes=0-99999"}}],
        1,
    ),
    "a PATCH that is taken without Range": (
        {},
        [{**PUT, "times": 1, "take": 100_000}, {**PATCH, "headers": {"Range": None}}],
        1,
    ),
    "nothing is told but a wrong blob is refused": (
        {},
        [{**PUT, "times": 1, "take": 100_000},
         {"method": "GET", "path": "/uploads/", "times": 1, "headers": {"Range": "0-89999"}}],
        3,
    ),
    "413 in front of the registry": (
        {},
        [{**PUT, "header": {"content-length": "[0-9]{6}"}, "take": 0, "after": "answer",
          "status": 413},
         {**PATCH, "header": {"content-length": "[2-9][0-9]{5}"}, "take": 0, "after": "answer",
          "status": 413}],
        1,
    ),
    "the digest is not told": ({}, [{**PUT, "headers": {"Docker-Content-Digest": None}}], 1),
    "the digest is nonsense": ({}, [{**PUT, "headers": {"Docker-Content-Digest": "md5:x"}}], 1),
    "201 without Location": ({}, [{**PUT, "headers": {"Location": None}}], 1),
}  # fmt: skip


@pytest.mark.parametrize("row", HEALED.values(), ids=HEALED)
def test_a_push_gets_over_it(bench: Bench, row: Row) -> None:
    options, scenario, times = row
    registry = writable(bench, scenario, **options)
    source = Sent(CONTENT)
    guarded = Guarded(registry)
    target = repository(bench, registry, notes=Memo())
    push(source, target, source.root, "tag")
    guarded.check({TAGGED: str(source.root.digest)})
    assert registry.content.blobs[str(DESC.digest)] == CONTENT
    assert registry.uploads is not None
    assert registry.uploads.received <= times * SIZE + 5_000


Failing = tuple[dict[str, Any], Rules, type[ModelPMError], str]
FAILING: dict[str, Failing] = {
    "always cut": ({}, [{**PUT, "take": 0}], RegistryError, "again and again.* 0 of 300000"),
    "always 503": ({}, [{**UNREAD, "status": 503}], RegistryError, "503, again and again"),
    "no more room": ({}, [{**UNREAD, "status": 507}], RegistryError, "507, again and again"),
    "denied": ({}, [{"method": "POST", "status": 403}], AuthenticationError, "403 FAULT"),
    "denied at the end": ({}, [{**PUT, "status": 403}], AuthenticationError, "403 FAULT"),
    "read-only": ({}, [{"method": "POST", "status": 405}], RegistryError, "405 FAULT"),
    "no such repository": ({}, [{"method": "POST", "status": 404}], NotFoundError, "404 FAULT"),
    "the quota's words": (
        {},
        [{"method": "POST", "status": 403,
          "body": '{"errors": [{"code": "DENIED", "message": "quota is 5 GB"}]}'}],
        AuthenticationError,
        "403 DENIED: quota is 5 GB",
    ),
    "another digest": (
        {},
        [{**PUT, "headers": {"Docker-Content-Digest": f"sha256:{'0' * 64}"}}],
        RegistryError,
        "has stored it as sha256:0000",
    ),
    "taken but not there": (
        {},
        [{**PUT, "body": "", "status": 201, "headers": {"Docker-Content-Digest": None}},
         {"method": "HEAD", "status": 404}],
        RegistryError,
        "took it, but it is not there",
    ),
    "refused as wrong": ({}, [{**PUT, "status": 400}], RegistryError, "400 FAULT"),
    "always too large": (
        {},
        [{**PUT, "take": 0, "after": "answer", "status": 413},
         {**PATCH, "take": 0, "after": "answer", "status": 413}],
        RegistryError,
        "413",
    ),
    "too large for the least piece": (
        {"least": 250_000},
        [{**PUT, "take": 0, "after": "answer", "status": 413},
         {**PATCH, "take": 0, "after": "answer", "status": 413}],
        RegistryError,
        "413",
    ),
    "sessions never known": ({}, [{**UNREAD, "status": 404}], RegistryError, "no longer known"),
    "redirected": (
        {}, [{**PUT, "redirect": "https://evil.example/"}], RegistryError, "307",
    ),
    "a manifest that is refused": (
        {},
        [{"method": "PUT", "path": "/manifests/", "status": 400, "body":
          '{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown\\u001b[31m"}]}'}],
        RegistryError,
        "misses what the manifest names",
    ),
    "a manifest that comes to nothing": (
        {},
        [{**UNREAD, "path": "/manifests/", "status": 503}],
        RegistryError,
        "503",
    ),
    "a manifest that is stored as another": (
        {},
        [{"method": "PUT", "path": "/manifests/sha256",
          "headers": {"Docker-Content-Digest": f"sha256:{'0' * 64}"}}],
        RegistryError,
        "has stored",
    ),
    "a manifest that does not come back": (
        {}, [{"method": "GET", "path": "/manifests/", "status": 404}], RegistryError,
        "does not come back",
    ),
    "a manifest that comes back changed": (
        {}, [{"method": "GET", "path": "/manifests/", "append": 1}], RegistryError,
        "does not come back",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", FAILING.values(), ids=FAILING)
def test_a_push_that_fails_tags_nothing(bench: Bench, row: Failing) -> None:
    options, scenario, error, words = row
    registry = writable(bench, scenario, **options)
    old, source = Sent(b"old"), Sent(CONTENT)
    registry.scenario = ()
    target = repository(bench, registry)
    push(old, target, old.root, "tag")
    guarded = Guarded(registry)
    registry.scenario = scenario
    with pytest.raises(error, match=words) as caught:
        push(source, repository(bench, registry), source.root, "tag")
    assert type(caught.value) is error
    guarded.check()
    registry.scenario = ()
    push(source, repository(bench, registry), source.root, "tag")
    guarded.check({TAGGED: str(source.root.digest)})


# Wrong bytes

WRONG = {
    "empty": b"",
    "short": CONTENT[:-1],
    "long": CONTENT + b"!",
    "much longer": CONTENT + noise(5 * MIB),
    "first byte": b"?" + CONTENT[1:],
    "last byte": CONTENT[:-1] + b"?",
    "zeros": bytes(SIZE),
}


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_blob_that_is_wrong_here_never_gets_there(
    bench: Bench, wrong: bytes, pieces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = writable(bench)
    if pieces:
        known(monkeypatch, most_at_once=0, largest=100_000)
    source = Sent(CONTENT)
    source.wrong[DESC.digest] = wrong
    guarded = Guarded(registry)
    notes = Memo()
    with pytest.raises(DigestMismatchError) as caught:
        push(source, repository(bench, registry, notes=notes), source.root, "tag")
    assert caught.value.exit_code == 5
    guarded.check()
    assert str(DESC.digest) not in registry.content.blobs
    assert registry.uploads is not None
    assert registry.uploads.received < SIZE + len(b"{}")  # the end was held back
    assert not any(registry.uploads.sessions.values())
    assert not any(str(DESC.digest) in key for key in notes.uploads)
    assert registry.requests("PUT", "/manifests/") == ()
    source.wrong.clear()
    push(source, repository(bench, registry), source.root, "tag")
    guarded.check({TAGGED: str(source.root.digest)})


def test_a_file_that_changes_after_a_cut_is_found_out(bench: Bench) -> None:
    registry = writable(bench, [{**PUT, "times": 1, "take": 100_000}])

    class Changing(Bytes):
        @contextlib.contextmanager
        def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
            if self.opened:
                self.content = CONTENT[:50_000] + b"?" + CONTENT[50_001:]
            with super().fetch(desc, offset) as stream:
                yield stream

    with pytest.raises(DigestMismatchError):
        repository(bench, registry).push(DESC, Changing())
    assert registry.content.blobs == {}


def test_what_the_source_raises_comes_out_as_it_is(bench: Bench) -> None:
    registry = writable(bench)

    class Failing(io.BytesIO):
        def __init__(self, error: Exception) -> None:
            super().__init__(CONTENT)
            self.error = error

        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 0:
                raise self.error
            return super().read(min(1_000, size or 0))

    for error, kind in [
        (StoreError("a bad disk"), StoreError),
        (RegistryError("another registry is down"), RegistryError),
        (OSError(5, "Input/output error"), StoreError),
        (KeyError("a bug"), KeyError),
    ]:

        class Broken(Bytes):
            @contextlib.contextmanager
            def fetch(
                self,
                _desc: Descriptor,
                _offset: int = 0,
                error: Exception = error,
            ) -> Iterator[BinaryIO]:
                yield Failing(error)

        with pytest.raises(kind, match=r"bad disk|is down|Input/output|a bug"):
            repository(bench, registry).push(DESC, Broken())
    deadline = time.monotonic() + 20
    while len(registry.requests("PUT")) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(registry.requests("PUT")) == 4  # none of them was tried again
    assert registry.content.blobs == {}


# Resuming


def test_a_cut_push_is_resumed_where_the_registry_is(bench: Bench) -> None:
    registry = writable(bench, [{**PUT, "times": 1, "take": 123_456}])
    source = Bytes()
    repository(bench, registry).push(DESC, source)
    assert registry.uploads is not None
    assert registry.uploads.received == SIZE
    patch = registry.requests("PATCH")[0]
    assert patch.headers["content-range"] == "123456-299999"
    assert registry.content.blobs[str(DESC.digest)] == CONTENT


def test_a_push_that_gave_up_goes_on_the_next_time(bench: Bench) -> None:
    registry = writable(bench, [{**PUT, "take": 100_000}, {**PATCH, "take": 0}])
    notes = Memo()
    with pytest.raises(RegistryError, match="100000 of 300000"):
        repository(bench, registry, notes=notes).push(DESC, Bytes())
    assert list(notes.uploads) == [f"{registry.host}/{NAME}@{DESC.digest}"]
    registry.scenario = ()
    registry.clear()
    repository(bench, registry, notes=notes).push(DESC, Bytes())
    assert requests(registry) == ["HEAD", "GET", "PATCH", "PUT", "HEAD"]
    assert registry.uploads is not None
    assert registry.uploads.received == SIZE
    assert notes.uploads == {}
    assert notes.sisters(registry.host, DESC.digest) == [NAME, NAME]


@pytest.mark.parametrize(
    "url",
    [
        "{home}/v2/team/tiny/blobs/uploads/99",
        "http://evil.example/v2/",
        "ftp://x",
        "",
        "not a url",
    ],
)
def test_a_noted_session_that_is_gone_or_strange_costs_nothing(bench: Bench, url: str) -> None:
    registry = writable(bench)
    notes = Memo()
    key = f"{registry.host}/{NAME}@{DESC.digest}"
    notes.uploads[key] = url.format(home=registry.url)
    repository(bench, registry, notes=notes).push(DESC, Bytes())
    assert registry.content.blobs[str(DESC.digest)] == CONTENT
    assert notes.uploads == {}


def test_a_noted_session_that_has_nothing_is_left_to_whoever_fills_it(bench: Bench) -> None:
    registry = writable(bench)
    assert registry.uploads is not None
    registry.uploads.sessions["7"] = bytearray()
    notes = Memo()
    key = f"{registry.host}/{NAME}@{DESC.digest}"
    notes.uploads[key] = f"{registry.url}/v2/{NAME}/blobs/uploads/7"
    repository(bench, registry, notes=notes).push(DESC, Bytes())
    assert requests(registry) == ["HEAD", "GET", "POST", "PUT"]
    assert registry.uploads.sessions == {"7": bytearray()}


@pytest.mark.parametrize("times", [1, 2])
def test_what_others_have_written_into_is_sent_anew_once(bench: Bench, times: int) -> None:
    refusal = json.dumps({"errors": [{"code": "DIGEST_INVALID"}]})
    registry = writable(bench, [{**PUT, "times": times, "status": 400, "body": refusal}])
    if times == 1:
        repository(bench, registry).push(DESC, Bytes())
        assert registry.content.blobs[str(DESC.digest)] == CONTENT
    else:
        with pytest.raises(RegistryError, match="DIGEST_INVALID"):
            repository(bench, registry).push(DESC, Bytes())
    assert len(registry.requests("PUT")) == 2


def test_what_was_there_from_another_file_is_sent_anew(bench: Bench) -> None:
    registry = writable(bench)
    assert registry.uploads is not None
    registry.uploads.sessions["7"] = bytearray(b"?" * 200_000)
    notes = Memo()
    key = f"{registry.host}/{NAME}@{DESC.digest}"
    notes.uploads[key] = f"{registry.url}/v2/{NAME}/blobs/uploads/7"
    repository(bench, registry, notes=notes).push(DESC, Bytes())
    assert registry.content.blobs[str(DESC.digest)] == CONTENT
    assert registry.uploads.sessions == {}


@pytest.mark.parametrize("options", [{}, {"keeps": "none"}, {"signed": True}])
@pytest.mark.parametrize("seed", range(4))
def test_a_push_cut_twenty_times_finishes(bench: Bench, options: dict[str, Any], seed: int) -> None:
    chosen = random.Random(seed)
    size = 2 * MIB
    content = noise(size, seed)
    desc = Descriptor.of(content, LAYER)
    rules = []
    for number in range(20):
        cut = {
            "times": 1,
            "take": chosen.randrange(2_000, size),
            "after": ["cut", "reset"][number % 2],
        }
        rules.append({"path": "/uploads/[0-9]", "header": {"content-length": "[0-9]{5}"}, **cut})
    registry = writable(bench, rules, **options)
    repository(bench, registry).push(desc, Bytes(content))
    assert registry.content.blobs[str(desc.digest)] == content
    assert registry.uploads is not None
    if not options:
        assert registry.uploads.received == size  # nothing was sent twice


def test_a_registry_that_keeps_whole_pieces_only_gets_small_ones_after_a_cut(bench: Bench) -> None:
    size = 20 * MIB
    content = noise(size)
    desc = Descriptor.of(content, LAYER)
    cut = {"times": 1, "take": 3 * MIB}
    registry = writable(
        bench, [{**PUT, "times": 1, "take": 18 * MIB}, {**PATCH, "nth": 2, **cut}], keeps="none"
    )
    source = Bytes(content)
    repository(bench, registry).push(desc, source)
    assert registry.content.blobs[str(desc.digest)] == content
    lengths = [int(request.headers["content-length"]) for request in registry.requests("PATCH")]
    assert lengths == [8 * MIB, 8 * MIB, 8 * MIB, 4 * MIB]
    assert source.opened[-1] == 16 * MIB  # what was hashed is not read again


def test_a_registry_that_does_not_add_pieces_gets_the_blob_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = writable(bench, pieces=False)
    known(monkeypatch, most_at_once=0, largest=100_000)
    repository(bench, registry).push(DESC, Bytes())
    assert registry.content.blobs[str(DESC.digest)] == CONTENT
    assert [m for m in requests(registry) if m in ("PATCH", "PUT")] == ["PATCH", "PATCH", "PUT"]


def test_a_registry_without_patch_gets_the_blob_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = writable(bench, [{**PATCH, "status": 405}])
    known(monkeypatch, most_at_once=0, largest=100_000)
    repository(bench, registry).push(DESC, Bytes())
    assert registry.content.blobs[str(DESC.digest)] == CONTENT


def test_pieces_are_as_large_as_the_registry_wants_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = writable(bench, least=120_000)
    known(monkeypatch, most_at_once=0, largest=50_000)
    repository(bench, registry).push(DESC, Bytes())
    spans = [request.headers["content-range"] for request in registry.requests("PATCH")]
    assert spans == ["0-119999", "120000-239999", "240000-299999"]


def test_413_is_answered_with_less(bench: Bench) -> None:
    row = HEALED["413 in front of the registry"]
    registry = writable(bench, row[1])
    repository(bench, registry).push(DESC, Bytes())
    spans = [request.headers["content-range"] for request in registry.requests("PATCH", status=202)]
    assert spans == ["0-149999", "150000-299999"]


def test_416_is_followed_to_where_the_registry_is(bench: Bench) -> None:
    registry = writable(bench, [{**PUT, "times": 1, "take": 100_000},
                                {"method": "GET", "path": "/uploads/", "times": 1,
                                 "headers": {"Range": "0-50000"}}])  # fmt: skip
    repository(bench, registry).push(DESC, Bytes())
    statuses = [request.status for request in registry.requests("PATCH")]
    assert statuses == [416, 202]
    assert registry.content.blobs[str(DESC.digest)] == CONTENT


def test_no_advice_makes_a_known_registry_clear(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = writable(bench, [{"method": "POST", "status": 404}])
    known(monkeypatch, advice="make it first")
    with pytest.raises(RegistryError, match=r"no such repository \(make it first\)"):
        repository(bench, registry).push(DESC, Bytes())


# Mounts

SISTER = "team/sister"


def sisters(bench: Bench, registry: Registry) -> Memo:
    """Notes of a sister that has the blob."""
    notes = Memo()
    repository(bench, registry, notes=notes, name=SISTER).push(DESC, Bytes())
    registry.clear()
    assert registry.uploads is not None
    registry.uploads.received = 0
    return notes


def test_a_blob_of_a_sister_is_mounted(bench: Bench) -> None:
    registry = writable(bench)
    notes = sisters(bench, registry)
    source = Bytes()
    target = repository(bench, registry, notes=notes)
    target.push(DESC, source)
    assert requests(registry) == ["HEAD", "POST", "HEAD"]
    assert registry.log[1].path.endswith(f"?mount={DESC.digest}&from={SISTER}")
    assert source.opened == []
    assert target.exists(DESC)
    assert notes.sisters(registry.host, DESC.digest)[0] == NAME


MOUNTS: dict[str, tuple[Rules, int]] = {
    "201 without Location": ([{"path": "mount=", "headers": {"Location": None}}], 0),
    "201, but it is not there": (
        [{"path": "mount=", "status": 201, "body": ""},
         {"method": "HEAD", "path": f"/{NAME}/", "times": 2, "status": 404}],
        SIZE,
    ),
    "401": ([{"path": "mount=", "challenge": 'Basic realm="x"'}], SIZE),
    "403": ([{"path": "mount=", "status": 403}], SIZE),
    "404": ([{"path": "mount=", "status": 404}], SIZE),
    "405": ([{"path": "mount=", "status": 405}], SIZE),
}  # fmt: skip


@pytest.mark.parametrize(("rules", "received"), MOUNTS.values(), ids=MOUNTS)
def test_a_mount_that_is_not_is_an_upload(bench: Bench, rules: Rules, received: int) -> None:
    registry = writable(bench)
    notes = sisters(bench, registry)
    registry.scenario = rules
    repository(bench, registry, notes=notes).push(DESC, Bytes())
    registry.scenario = ()
    assert registry.uploads is not None
    assert registry.uploads.received == received
    assert repository(bench, registry).exists(DESC)


def test_a_session_in_the_place_of_a_mount_is_taken(bench: Bench) -> None:
    registry = writable(bench)
    notes = Memo()
    notes.seen[registry.host, DESC.digest] = ["gone/a", NAME, "gone/b", "gone/a"]
    repository(bench, registry, notes=notes).push(DESC, Bytes())
    assert requests(registry) == ["HEAD", "POST", "POST", "DELETE", "PUT"]
    assert registry.uploads is not None
    assert registry.uploads.sessions == {}


def test_a_registry_known_not_to_mount_is_not_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = writable(bench)
    notes = sisters(bench, registry)
    known(monkeypatch, mount=False)
    repository(bench, registry, notes=notes).push(DESC, Bytes())
    assert requests(registry) == ["HEAD", "POST", "PUT"]


def test_between_repositories_of_a_registry_no_byte_moves(bench: Bench) -> None:
    registry = writable(bench)
    source = Sent(CONTENT, b"b")
    client = bench.client(registry.host, limits=LIMITS)
    one, two = Repository(client, SISTER), Repository(client, NAME)
    push(source, one, source.root, "tag")
    registry.clear()
    push_between(one, two, source.root)
    assert registry.received < 2_000  # the manifest, twice
    assert registry.requests("GET", "/blobs/") == ()


def push_between(one: Repository, two: Repository, root: Descriptor) -> None:
    transfer.copy(one, two, root, tag=lambda: two.tag(root, "tag"))


def test_where_nothing_can_be_mounted_one_connection_is_enough_for_both_ends(bench: Bench) -> None:
    registry = writable(bench)
    source = Sent(CONTENT, b"b")
    client = bench.client(registry.host, limits=replace(LIMITS, connections=1))
    one, two = Repository(client, SISTER), Repository(client, NAME)
    push(source, one, source.root, "tag")
    registry.scenario = [{"path": "mount=", "status": 404}]
    done = threading.Thread(target=push_between, args=(one, two, source.root), daemon=True)
    done.start()
    done.join(20)
    assert not done.is_alive()
    assert two.resolve("tag").digest == source.root.digest


# Secrets


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def test_another_origin_gets_the_bytes_and_no_secret(bench: Bench, authority: Authority) -> None:
    shared = Uploads()
    foreign = bench.registry(
        [{**PUT, "times": 1, "take": 100_000}],
        uploads=shared,
        tls=authority.issue().server_context(),
    )
    shared.location = f"{foreign.url}/v2/{{repository}}/blobs/uploads/{{id}}?signature=s3cret"
    registry = bench.registry(
        uploads=shared, content=foreign.content, auth=Basic("a", "s3cret-of-a")
    )
    registry.content.tags[NAME] = {}
    target = repository(
        bench,
        registry,
        credentials=Always("a", "s3cret-of-a"),
        ca_file=str(authority.certificate),
    )
    target.push(DESC, Bytes())
    assert registry.content.blobs[str(DESC.digest)] == CONTENT
    assert [request.method for request in foreign.log] == ["PUT", "GET", "PATCH", "PUT"]
    assert not any(request.has_secret for request in foreign.log)
    assert all(request.has_secret for request in registry.log[1:])


def test_a_refusal_of_another_origin_is_not_about_our_login(
    bench: Bench, authority: Authority
) -> None:
    foreign = bench.registry(
        [{"challenge": 'Basic realm="give it to me"'}], tls=authority.issue().server_context()
    )
    location = f"{foreign.url}/v2/{{repository}}/blobs/uploads/{{id}}?signature=s3cret"
    registry = bench.registry(uploads=Uploads(location), auth=Basic("a", "s3cret-of-a"))
    registry.content.tags[NAME] = {}
    target = repository(
        bench,
        registry,
        credentials=Always("a", "s3cret-of-a"),
        ca_file=str(authority.certificate),
    )
    with pytest.raises(RegistryError, match=f"{foreign.host}: 401") as caught:
        target.push(DESC, Bytes())
    assert type(caught.value) is RegistryError
    assert "s3cret" not in str(caught.value)
    assert not any(request.has_secret for request in foreign.log)


def test_a_mount_asks_for_both_repositories(bench: Bench) -> None:
    tokens = bench.tokens({"alice": "s3cret-of-alice"})
    registry = writable(bench)
    notes = sisters(bench, registry)
    registry.auth = Bearer(tokens)
    repository(
        bench, registry, notes=notes, credentials=Always(), trusted_realms=[tokens.url]
    ).push(DESC, Bytes())
    assert registry.uploads is not None
    assert registry.uploads.received == 0
    assert any(
        f"repository%3A{NAME.replace('/', '%2F')}%3Apull%2Cpush" in request.path
        and f"repository%3A{SISTER.replace('/', '%2F')}%3Apull" in request.path
        for request in tokens.log
    )


def test_a_token_that_ends_in_the_middle_is_renewed(bench: Bench) -> None:
    tokens = bench.tokens({"alice": "s3cret-of-alice"})
    registry = writable(bench, [{**PUT, "times": 1, "take": 100_000}])
    registry.auth = Bearer(tokens)
    target = repository(bench, registry, credentials=Always(), trusted_realms=[tokens.url])

    class Revoking(Bytes):
        @contextlib.contextmanager
        def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
            if not self.opened:
                tokens.revoke()
            with super().fetch(desc, offset) as stream:
                yield stream

    target.push(DESC, Revoking())
    assert registry.content.blobs[str(DESC.digest)] == CONTENT


# Together


def test_a_rate_holds_for_what_is_sent(bench: Bench) -> None:
    registry = writable(bench)
    slept: list[float] = []
    limits = replace(LIMITS, rate=1_000_000)
    repository(bench, registry, limits=limits, sleep=slept.append).push(DESC, Bytes())
    assert registry.content.blobs[str(DESC.digest)] == CONTENT
    assert slept


def test_no_more_blobs_are_sent_at_once_than_there_may_be_connections(bench: Bench) -> None:
    registry = writable(bench, [{**PUT, "delay": 0.05}])
    source = Sent(*(noise(1_000, seed) for seed in range(8)))
    limits = replace(LIMITS, connections=2)
    target = repository(bench, registry, limits=limits)
    push(source, target, source.root, "tag")
    assert target.resolve("tag").digest == source.root.digest


@pytest.mark.parametrize("same", [True, False])
def test_two_pushes_at_once_leave_all_in_order(bench: Bench, same: bool) -> None:
    registry = writable(bench)
    sources = [Sent(CONTENT), Sent(CONTENT if same else noise(SIZE, 1))]
    guarded = Guarded(registry)
    threads = [
        threading.Thread(
            target=push, args=(source, repository(bench, registry), source.root, "tag")
        )
        for source in sources
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    digest = registry.content.tags[NAME]["tag"]
    assert digest in [str(source.root.digest) for source in sources]
    guarded.check({TAGGED: digest})


def test_a_manifest_that_was_taken_before_the_failure_is_good(bench: Bench) -> None:
    registry = writable(bench)
    source = Sent(b"a")
    # What the registry answers is bent; what it does is done.
    registry.scenario = [{"method": "PUT", "path": "/manifests/", "status": 500}]
    push(source, repository(bench, registry), source.root, "tag")
    registry.scenario = [{"method": "PUT", "path": "/manifests/", "delay": 2}]
    push(source, repository(bench, registry), source.root, "other")
    assert set(registry.content.tags[NAME].values()) == {str(source.root.digest)}


# Turns.


def copied(source: Source, target: Repository, root: Descriptor) -> BaseException | None:
    """What a copy raises, which has to end soon."""
    raised: list[BaseException] = []

    def copy() -> None:
        try:
            transfer.copy(source, target, root)
        except ModelPMError as error:
            raised.append(error)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return raised[0] if raised else None


def test_uploads_do_not_wait_for_themselves_where_their_own_source_is_refused(
    bench: Bench,
) -> None:
    """Both repositories are of one registry: what is sent is read from where it goes."""
    registry = writable(bench, [{"path": "mount=", "status": 404}])
    client = bench.client(registry.host, limits=LIMITS)
    there, here = Repository(client, NAME), Repository(client, "team/other")
    image = Sent(*(noise(SIZE, seed) for seed in range(4)))
    push(image, there, image.root, "tag")
    registry.scenario = [
        {"path": "mount=", "status": 404},
        {"path": f"{NAME}/blobs/", "method": "GET", "status": 503},
    ]
    error = copied(there, here, image.root)
    assert isinstance(error, RegistryError)
    assert "503" in str(error)


def test_uploads_that_only_begin_are_not_each_others_turn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each session takes its first piece, refuses the second one, and is gone then."""
    registry = writable(
        bench,
        [
            {**PATCH, "header": {"content-range": "^[1-9]"}, "status": 503},
            {"method": "GET", "path": "/uploads/", "status": 404},
        ],
    )
    monkeypatch.setattr(upload, "quirks_of", lambda _: Quirks(".*", most_at_once=0, largest=2**17))
    image = Sent(*(noise(SIZE, seed) for seed in range(4)))
    error = copied(image, repository(bench, registry, limits=QUICK), image.root)
    assert isinstance(error, RegistryError)
    assert "503" in str(error)
