"""The fixtures keep their promises: rebuilt byte for byte, bad as told, servers that misbehave."""

import contextlib
import filecmp
import gzip
import hashlib
import http.client
import io
import json
import re
import signal
import ssl
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import archives
import bad
import build
import pytest
import zstandard
from artifact import Artifact
from certificates import Authority
from gguf_writer import tiny_llama
from ollama_artifacts import go_json, read_modelfile
from registry import OLLAMA_QUIRKS, Basic, Bearer, Content, Registry, Sink, TokenServer
from writers_artifacts import palan_signature

from modelpm import errors
from modelpm.content import all_successors, read_manifest, walk
from modelpm.model.dialects import choose
from modelpm.model.gguf import Header
from modelpm.model.model import Model
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.manifest import Manifest
from tests.model.archives import Unpacking

FIXTURES = Path(build.__file__).parent
BLOB = bytes(range(256)) * 40
ALICE = {"Authorization": "Basic YWxpY2U6czNjcmV0"}


# Layouts


def test_rebuilding_gives_the_committed_bytes(tmp_path: Path) -> None:
    build.main([str(tmp_path)])
    for folder in ("layouts", "bad"):
        assert differences(filecmp.dircmp(FIXTURES / folder, tmp_path / folder)) == []


def differences(comparison: "filecmp.dircmp[str]") -> list[str]:
    found = [*comparison.left_only, *comparison.right_only, *comparison.funny_files]
    _, changed, failed = filecmp.cmpfiles(
        comparison.left, comparison.right, comparison.common_files, shallow=False
    )
    for below in comparison.subdirs.values():
        found += differences(below)
    return found + changed + failed


@pytest.mark.parametrize("name", build.WRITERS)
def test_a_layout_holds_a_whole_artifact(name: str) -> None:
    writer = build.WRITERS[name]
    artifact = writer.make()
    digests = set()
    for _, manifest in walk(Held(artifact), root(artifact), all_successors):
        for successor in manifest.successors:
            content = artifact.blobs[str(successor.digest)]
            assert Descriptor.of(content, "x/y").digest == successor.digest
            assert len(content) == successor.size
            digests.add(successor.digest)
    files = {Descriptor.of(content, "x/y").digest for _, content in writer.files.values()}
    assert (files <= digests) is writer.plain
    assert sum(map(len, artifact.all_blobs.values())) < 2**18


@pytest.mark.parametrize("name", build.WRITERS)
def test_every_writer_is_read(name: str) -> None:
    """Pulled from a registry nothing is unpacked yet; in a store each file is a part."""
    writer = build.WRITERS[name]
    manifest, memory = held(writer.make())
    while manifest.is_index:
        manifest = read_manifest(memory, choose(manifest, "amd64"))
    assert str(manifest.digest) == writer.model().digest
    before = Model.read(manifest, memory)
    assert len(before.parts) == len(manifest.layers)
    assert any(part.is_archive for part in before.parts) is not writer.plain
    model = Model.read(manifest, memory, memory.unpacked)
    found = {
        part.name: (part.role.value, memory.content[part.descriptor.digest]) for part in model.parts
    }
    assert list(found.items()) == list(writer.files.items())
    assert not any(part.is_archive for part in model.parts)
    if writer.runs:
        assert memory.content[model.weights.descriptor.digest] == tiny_llama()
    if writer.plain:
        assert before.parts == model.parts


def held(artifact: Artifact) -> tuple[Manifest, Unpacking]:
    """An artifact's manifest, and all that it names where archives are looked into."""
    memory = Unpacking()
    for content in artifact.all_blobs.values():
        memory.put(content, "x/y")
    return Manifest.parse(artifact.manifest, artifact.media_type), memory


def test_writers_tell_the_same_facts() -> None:
    told = {}
    for name, writer in build.WRITERS.items():
        manifest, memory = held(writer.model())
        told[name] = Model.read(manifest, memory).facts
    families = {facts.family for facts in told.values()}
    quantizations = {facts.quantization for facts in told.values()}
    assert (families, quantizations) == ({"llama", None}, {build.QUANTIZATION, None})
    assert {name for name, facts in told.items() if facts.context_length} == {
        "docker-ai",
        "docker-ai-unnamed",
        "palan",
    }
    licensed = {name for name, facts in told.items() if facts.license == "Apache-2.0"}
    assert {"kitops", "kitops-old", "modelpack-tar", "palan"} < licensed


def test_a_signature_of_a_model_is_no_model() -> None:
    manifest, memory = held(palan_signature())
    with pytest.raises(errors.ModelError, match="is a signature, not a model"):
        Model.read(manifest, memory)


def test_archives_are_what_they_say() -> None:
    content = bytes(range(256)) * 1_000
    assert gzip.decompress(archives.gzip(content)) == content
    assert gzip.decompress(archives.gzip(b"")) == b""
    unzstd = zstandard.ZstdDecompressor()
    assert unzstd.decompress(archives.zstd(content)) == content
    assert unzstd.decompress(archives.zstd(b"")) == b""
    members = [
        archives.Member("a/", kind=archives.FOLDER),
        archives.Member("a/b", content, owner=1000, time=7),
        archives.Member("c", kind=archives.SYMLINK, target="a/b"),
    ]
    with tarfile.open(fileobj=io.BytesIO(archives.tar(members))) as archive:
        found = {member.name: member for member in archive}
        assert list(found) == ["a", "a/b", "c"]
        stream = archive.extractfile("a/b")
        assert stream is not None
        assert stream.read() == content
    assert found["a"].isdir()
    assert (found["a/b"].uid, found["a/b"].mtime) == (1000, 7)
    assert found["c"].linkname == "a/b"


def test_the_tiny_model_is_what_the_configurations_say(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_llama())
    header = Header.read(path)
    assert (header.parameter_size, header.quantization) == (build.PARAMETERS, build.QUANTIZATION)
    assert (header.architecture, header.vocabulary, header.context_length) == (
        "llama",
        "llama",
        128,
    )


def test_go_json_is_what_ollama_writes() -> None:
    words = ("start_header_id", "end_header_id", "eot_id")
    golden = go_json({"stop": [f"<|{word}|>" for word in words]})
    digest = "56bb8bd477a519ffa694fc449c2413c6f0e1d3b1c88fa7e3c9d88d3ae49d4dcb"
    assert hashlib.sha256(golden).hexdigest() == digest
    assert go_json({"b": "&", "a": "é\u2028"}) == '{"a":"é\\u2028","b":"\\u0026"}\n'.encode()
    assert go_json({"b": 1, "a": 2}, sort_keys=False) == b'{"b":1,"a":2}\n'


def test_a_modelfile_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.gguf").write_bytes(b"weights")
    (tmp_path / "Modelfile").write_text(
        '# comment\nFROM ./w.gguf\nTEMPLATE """{{ .Prompt }}\nand\n"""\nSYSTEM be kind\n'
        'PARAMETER temperature 0.5\nPARAMETER stop "[INST]"\nPARAMETER stop </s>\n'
        'LICENSE """one"""\nLICENSE "two"\nMESSAGE user hello there\n'
    )
    recipe = read_modelfile(tmp_path / "Modelfile")
    assert recipe.weights == b"weights"
    assert (recipe.template, recipe.system) == ("{{ .Prompt }}\nand\n", "be kind")
    assert recipe.parameters == {"temperature": 0.5, "stop": ["[INST]", "</s>"]}
    assert recipe.licenses == ("one", "two")
    assert recipe.messages == ({"role": "user", "content": "hello there"},)


def test_llama2_and_its_terse_sister_share_the_weights(tmp_path: Path) -> None:
    build.main(["--llama2", str(tmp_path)])
    content = Content()
    content.add_layout("library/llama2", tmp_path)
    assert set(content.tags["library/llama2"]) == {"latest", "terse"}
    latest, terse = (
        {
            layer.media_type.removeprefix("application/vnd.ollama.image."): layer
            for layer in Manifest.parse(content.manifests[digest][0]).layers
        }
        for digest in content.tags["library/llama2"].values()
    )
    assert latest["model"] == terse["model"]
    assert latest["model"].size <= 4_000_000
    assert latest["system"] != terse["system"]
    assert latest["params"] != terse["params"]
    assert set(latest) == {"model", "template", "system", "license", "params"}


# Bad cases


@dataclass
class Held:
    """Fetches from an artifact in memory."""

    artifact: Artifact

    def fetch(self, desc: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        return io.BytesIO(self.artifact.all_blobs[str(desc.digest)][offset:])


def root(artifact: Artifact) -> Descriptor:
    return Descriptor.of(artifact.manifest, artifact.media_type)


def cases(stage: str) -> list[Any]:
    return [pytest.param(case, id=case.name) for case in bad.CASES if case.stage == stage]


def test_the_table_names_every_case_and_file() -> None:
    table = json.loads((FIXTURES / "bad" / "cases.json").read_bytes())
    assert [row["name"] for row in table] == [case.name for case in bad.CASES]
    files = {path.name for path in (FIXTURES / "bad").iterdir()} - {"cases.json"}
    assert files == {row["file"] for row in table if row["file"]}
    for case in bad.CASES:
        assert (expected(case).exit_code if case.error else 0) == case.exit_code


def expected(case: bad.Case) -> type[errors.ModelPMError]:
    error: type[errors.ModelPMError] = getattr(errors, str(case.error))
    return error


@pytest.mark.parametrize("case", cases("parse"))
def test_a_bad_manifest_is_refused(case: bad.Case) -> None:
    with pytest.raises(expected(case)):
        Manifest.parse(case.content(), case.served_as)


def test_the_manifest_that_the_bad_ones_were_made_from_is_good() -> None:
    assert Manifest.parse(bad.titled("model.gguf").manifest).layers[0].size == 24


def test_a_deep_index_is_refused() -> None:
    deep = bad.nested_index()
    with pytest.raises(errors.InvalidManifestError):
        list(walk(Held(deep), root(deep), all_successors))
    shallow = bad.nested_index(2)
    assert len(list(walk(Held(shallow), root(shallow), all_successors))) == 3


def test_an_index_without_a_model_is_refused() -> None:
    (case,) = (case for case in bad.CASES if case.stage == "choose")
    with pytest.raises(expected(case)):
        choose(Manifest.parse(case.content(), case.served_as))


@pytest.mark.parametrize("case", cases("name"))
def test_a_hostile_title_becomes_a_safe_name(case: bad.Case) -> None:
    title = bad.TITLES[case.name]
    artifact = bad.titled(title)
    manifest = Manifest.parse(artifact.manifest)
    assert manifest.layers[0].annotations["org.opencontainers.image.title"] == title
    name = Model.read(manifest, Held(artifact)).weights.name
    assert re.fullmatch(r"[A-Za-z0-9_\[\];.-]+(/[A-Za-z0-9_.-]+)*", name)
    assert not re.search(r"(^|/)\.\.?(/|$)|[. ]$|^con$|^aux", name.lower())
    assert len(name) <= 255


@pytest.mark.parametrize("case", cases("gate"))
def test_a_bad_file_is_refused(case: bad.Case, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(case.content())
    with pytest.raises(expected(case)):
        Header.read(path)


@pytest.mark.parametrize("case", cases("engine"))
def test_what_only_the_engine_refuses_is_good_gguf(case: bad.Case, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(case.content())
    assert Header.read(path).architecture == "llama"


# The registry


@dataclass(frozen=True)
class Got:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def get(
    registry: Registry | Sink | TokenServer, path: str, method: str = "GET", **headers: str
) -> Got:
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        with connection.getresponse() as response:
            return Got(response.status, response.headers, response.read())


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as server:
        server.add_artifact("team/tiny", "latest", [("application/octet-stream", BLOB)])
        yield server


def blob_path(registry: Registry) -> str:
    digest = next(key for key, value in registry.content.blobs.items() if value == BLOB)
    return f"/v2/team/tiny/blobs/{digest}"


def test_it_serves_manifests_and_blobs(registry: Registry) -> None:
    assert get(registry, "/v2/").status == 200
    by_tag = get(registry, "/v2/team/tiny/manifests/latest")
    digest = by_tag.headers["Docker-Content-Digest"]
    assert digest == str(Manifest.parse(by_tag.body).digest)
    assert get(registry, f"/v2/team/tiny/manifests/{digest}").body == by_tag.body
    head = get(registry, "/v2/team/tiny/manifests/latest", "HEAD")
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(by_tag.body)))
    assert get(registry, blob_path(registry)).body == BLOB
    assert get(registry, "/v2/team/tiny/blobs/uploads/", "POST").status == 405


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/team/other/manifests/latest", "NAME_UNKNOWN"),
        ("/v2/team/tiny/manifests/other", "MANIFEST_UNKNOWN"),
        (f"/v2/team/tiny/blobs/sha256:{'0' * 64}", "BLOB_UNKNOWN"),
        ("/v2/team/tiny/tags/other", "NOT_FOUND"),
        ("/v3/", "NOT_FOUND"),
    ],
)
def test_it_knows_what_it_does_not_have(registry: Registry, path: str, code: str) -> None:
    got = get(registry, path)
    assert (got.status, json.loads(got.body)["errors"][0]["code"]) == (404, code)


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("0-0", 0, 1), ("10-19", 10, 20), ("10000-", 10000, 10240), ("-7", 10233, 10240)],
)
def test_it_serves_ranges(registry: Registry, wanted: str, start: int, stop: int) -> None:
    got = get(registry, blob_path(registry), Range=f"bytes={wanted}")
    assert (got.status, got.body) == (206, BLOB[start:stop])
    assert got.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(BLOB)}"


@pytest.mark.parametrize(
    ("wanted", "status"), [("10240-", 416), ("-0", 416), ("9-8", 416), ("0-1,3-4", 200), ("x", 200)]
)
def test_it_refuses_or_ignores_other_ranges(registry: Registry, wanted: str, status: int) -> None:
    assert get(registry, blob_path(registry), Range=f"bytes={wanted}").status == status


def test_it_pages_tags(registry: Registry) -> None:
    for tag in "abcd":
        registry.add_artifact("team/tiny", tag, [])
    path, found = "/v2/team/tiny/tags/list?n=2", []
    while path:
        got = get(registry, path)
        found += json.loads(got.body)["tags"]
        link = re.fullmatch(r'<(.*)>; rel="next"', got.headers.get("Link", ""))
        path = link[1] if link else ""
    assert found == ["a", "b", "c", "d", "latest"]
    assert len(registry.requests("GET", "/tags/list")) == 3


def test_it_lists_referrers(registry: Registry) -> None:
    subject = registry.content.tags["team/tiny"]["latest"]
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject}
    extra = {"subject": {**entry, "size": 2}, "annotations": {"a": "b"}}
    signature = registry.add_artifact("team/tiny", None, [], artifactType="x/sig", **extra)
    path = f"/v2/team/tiny/referrers/{subject}"
    everything = Manifest.parse(get(registry, path).body)
    assert [str(child.descriptor.digest) for child in everything.children] == [signature]
    assert everything.children[0].descriptor.artifact_type == "x/sig"
    filtered = get(registry, f"{path}?artifactType=x/other")
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert Manifest.parse(filtered.body).children == ()
    registry.has_referrers = False
    assert get(registry, path).status == 404


@pytest.mark.parametrize("name", build.LAYOUTS)
def test_it_serves_layouts(registry: Registry, name: str) -> None:
    registry.add_layout(f"fixtures/{name}", FIXTURES / "layouts" / name)
    artifact = build.LAYOUTS[name]()
    got = get(registry, f"/v2/fixtures/{name}/manifests/latest")
    assert (got.body, got.headers["Content-Type"]) == (artifact.manifest, artifact.media_type)
    for digest, blob in artifact.blobs.items():
        assert get(registry, f"/v2/fixtures/{name}/blobs/{digest}").body == blob


# Faults

ENDS: list[tuple[Mapping[str, Any], type[Exception], int]] = [
    ({"cut": 0}, http.client.IncompleteRead, 0),
    ({"cut": 5000}, http.client.IncompleteRead, 5000),
    ({"stall": 100, "hold": 0.05}, http.client.IncompleteRead, 100),
    ({"length": 20_000}, http.client.IncompleteRead, len(BLOB)),
    ({"framing": "chunked", "cut": 10}, http.client.IncompleteRead, 10),
    ({"reset": 10}, ConnectionResetError, -1),
]


@pytest.mark.parametrize(("act", "error", "length"), ENDS, ids=[str(end[0]) for end in ENDS])
def test_a_body_ends_early(
    registry: Registry, act: Mapping[str, Any], error: type[Exception], length: int
) -> None:
    registry.scenario = [act]
    with pytest.raises(error) as caught:
        get(registry, blob_path(registry))
    if isinstance(caught.value, http.client.IncompleteRead):
        assert len(caught.value.partial) == length


BODIES: list[tuple[Mapping[str, Any], bytes]] = [
    ({"flip": 3}, BLOB[:3] + b"\x02" + BLOB[4:]),
    ({"drop": 1}, BLOB[:-1]),
    ({"append": 2}, BLOB + bytes(2)),
    ({"body": "other"}, b"other"),
    ({"framing": "chunked"}, BLOB),
    ({"framing": "close"}, BLOB),
    ({"rate": 200_000}, BLOB),
]


@pytest.mark.parametrize(("act", "body"), BODIES, ids=[str(each[0]) for each in BODIES])
def test_a_body_is_other(registry: Registry, act: Mapping[str, Any], body: bytes) -> None:
    registry.scenario = [act]
    assert get(registry, blob_path(registry)).body == body


RANGES: list[tuple[str, int, str | None, bytes]] = [
    ("ignore", 200, None, BLOB),
    ("refuse", 416, "bytes */10240", b""),
    ("start", 206, "bytes 11-19/10240", BLOB[10:20]),
    ("total", 206, "bytes 10-19/10241", BLOB[10:20]),
    ("none", 206, None, BLOB[10:20]),
    ("other", 206, "bytes 10-19/10240", BLOB[11:21]),
]


@pytest.mark.parametrize(("lie", "status", "told", "body"), RANGES)
def test_a_range_lies(
    registry: Registry, lie: str, status: int, told: str | None, body: bytes
) -> None:
    registry.scenario = [{"range": lie}]
    got = get(registry, blob_path(registry), Range="bytes=10-19")
    assert (got.status, got.headers["Content-Range"], got.body) == (status, told, body)


def test_a_range_has_many_parts(registry: Registry) -> None:
    registry.scenario = [{"range": "multipart"}]
    got = get(registry, blob_path(registry), Range="bytes=10-19")
    assert got.headers["Content-Type"] == "multipart/byteranges; boundary=fence"
    assert BLOB[10:20] in got.body


def test_heads_are_other(registry: Registry) -> None:
    path = blob_path(registry)
    headers = {"Content-Type": "text/html", "Etag": None, "X": ["1", "2"]}
    registry.scenario = [
        {"nth": 2, "gzip": True},
        {"times": 1, "status": 429, "headers": {"Retry-After": "7"}},
        {"times": 1, "challenge": ["Basic realm=a", 'Bearer realm="b"']},
        {"times": 1, "redirect": "http://x/{digest}?{count}\r\nSet-Cookie: a=b"},
        {"times": 1, "headers": headers},
        {
            "method": "GET",
            "status": 200,
            "authorized": False,
            "header": {"x-a": "^b$"},
            "body": "!",
        },
    ]
    first = get(registry, path)
    assert (first.status, first.headers["Retry-After"]) == (429, "7")
    assert get(registry, path).headers["Content-Encoding"] == "gzip"
    challenged = get(registry, path)
    assert challenged.status == 401
    assert challenged.headers.get_all("WWW-Authenticate") == ["Basic realm=a", 'Bearer realm="b"']
    redirected = get(registry, path)
    assert redirected.headers["Location"] == f"http://x/{path.rpartition('/')[2]}?1"
    assert redirected.headers["Set-Cookie"] == "a=b"
    odd = get(registry, path).headers
    assert (odd["Content-Type"], odd["Etag"], odd.get_all("X")) == ("text/html", None, ["1", "2"])
    assert get(registry, path, **{"X-A": "b"}).body == b"!"
    assert get(registry, path, **{"X-A": "b"}, **ALICE).body == BLOB
    registry.scenario = [{"skip": 1, "times": 1, "status": 503}]
    assert [get(registry, path).status for _ in range(3)] == [200, 503, 200]


def test_a_body_without_end_ends_when_the_client_leaves(registry: Registry) -> None:
    registry.scenario = [{"endless": True}]
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", blob_path(registry))
        with connection.getresponse() as response:
            assert len(response.read(2**20)) == 2**20
            assert response.headers["Content-Length"] is None


def test_stopping_does_not_wait_for_a_stalled_answer(registry: Registry) -> None:
    registry.scenario = [{"delay": 60}]
    with Registry(registry.scenario, content=registry.content) as other:
        connection = http.client.HTTPConnection("127.0.0.1", other.port, timeout=10)
        connection.request("GET", "/v2/")
        while not other.log:
            time.sleep(0.01)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    with contextlib.closing(connection), pytest.raises(http.client.RemoteDisconnected):
        connection.getresponse()


def test_a_scenario_with_an_unknown_word_is_refused() -> None:
    with pytest.raises(TypeError, match="ignorre"):
        Registry([{"ignorre": True}])


def test_it_can_answer_as_ollama_does(registry: Registry) -> None:
    registry.scenario = OLLAMA_QUIRKS
    path = "/v2/team/tiny/manifests/latest"
    assert get(registry, path, "HEAD").status == 404
    got = get(registry, path)
    assert got.headers.get_content_type() == "text/plain"
    assert got.headers["Docker-Content-Digest"] is None


# Credentials


def test_a_sink_writes_down_secrets_and_serves_blobs(registry: Registry) -> None:
    with Sink(registry.content) as sink:
        digest = blob_path(registry).rpartition("/")[2]
        assert get(sink, f"/cdn/{digest}?sig=1").body == BLOB
        assert not any(request.has_secret for request in sink.log)
        assert get(sink, "/elsewhere", "POST", **ALICE).status == 404
        assert [request.path for request in sink.secrets] == ["/elsewhere"]
        sink.clear()
        assert sink.log == ()


def test_basic_wants_user_and_password(registry: Registry) -> None:
    registry.auth = Basic("alice", "s3cret")
    refused = get(registry, "/v2/")
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="fixture"')
    assert get(registry, "/v2/", **ALICE).status == 200
    for wrong in ("Basic ????", "Basic YQ==", "Bearer YWxpY2U6czNjcmV0"):
        assert get(registry, "/v2/", Authorization=wrong).status == 401


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer({"alice": "s3cret"}) as server:
        yield server


def token_for(tokens: TokenServer, *, actions: str = "pull", **headers: str) -> dict[str, Any]:
    scope = f"repository:team/tiny:{actions}"
    got = get(tokens, f"/token?service=x&offline_token=true&scope={scope}", **headers)
    document = json.loads(got.body)
    assert isinstance(document, dict)
    return document


def test_bearer_wants_a_token_of_the_right_scope(registry: Registry, tokens: TokenServer) -> None:
    registry.auth = Bearer(tokens)
    registry.add_artifact("team/other", "latest", [])
    path = "/v2/team/tiny/manifests/latest"
    challenge = get(registry, path).headers["WWW-Authenticate"]
    scope = "repository:team/tiny:pull"
    assert challenge == f'Bearer realm="{tokens.realm}",service="fixture",scope="{scope}"'
    token = token_for(tokens)["token"]
    bearer = {"Authorization": f"Bearer {token}"}
    assert get(registry, path, **bearer).status == 200
    assert get(registry, "/v2/", **bearer).status == 200
    assert get(registry, "/v2/team/other/manifests/latest", **bearer).status == 401
    tokens.revoke()
    assert get(registry, path, **bearer).status == 401


def test_tokens_are_for_what_a_user_may_do(tokens: TokenServer) -> None:
    token = token_for(tokens, actions="pull,push")["token"]
    assert tokens.allows(token, "team/tiny", "pull")
    assert not tokens.allows(token, "team/tiny", "push")
    token = token_for(tokens, actions="pull,push", **ALICE)["token"]
    assert tokens.allows(token, "team/tiny", "push")
    tokens.lifetime = -1
    assert not tokens.allows(token_for(tokens)["token"], "team/tiny", "pull")
    tokens.anonymous = False
    assert "errors" in token_for(tokens)
    assert get(tokens, "/other").status == 404


def post(tokens: TokenServer, **form: str) -> dict[str, Any] | None:
    body = urllib.parse.urlencode(form).encode()
    try:
        with urllib.request.urlopen(tokens.realm, body, timeout=10) as response:
            document: dict[str, Any] = json.load(response)
            return document
    except urllib.error.HTTPError as error:
        error.close()
        return None


def test_an_identity_token_buys_tokens_and_rotates(tokens: TokenServer) -> None:
    identity = token_for(tokens, **ALICE)["refresh_token"]
    form = {"grant_type": "refresh_token", "scope": "repository:a:pull,push"}
    bought = post(tokens, refresh_token=identity, **form)
    assert bought is not None
    assert tokens.allows(bought["access_token"], "a", "push")
    assert "refresh_token" not in bought
    tokens.rotates = True
    bought = post(tokens, refresh_token=identity, **form)
    assert bought is not None
    assert post(tokens, refresh_token=identity, **form) is None
    assert post(tokens, refresh_token=bought["refresh_token"], **form) is not None
    assert post(tokens, grant_type="password", username="alice", password="s3cret") is not None
    assert post(tokens, grant_type="password", username="alice", password="wrong") is None
    assert post(tokens, grant_type="other") is None


# TLS and the command


def test_tls_has_right_and_wrong_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    good, wrong, old = authority.issue(), authority.issue("wrong.example"), authority.issue(days=-1)
    for pair, complaint in ((good, ""), (wrong, "mismatch"), (old, "expired")):
        with Registry(tls=pair.server_context()) as registry:
            if not complaint:
                with urllib.request.urlopen(f"{registry.url}/v2/", context=trusting) as response:
                    assert response.status == 200
                continue
            with pytest.raises(urllib.error.URLError, match=complaint):
                urllib.request.urlopen(f"{registry.url}/v2/", context=trusting, timeout=10)


def test_tls_may_want_a_client_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.issue().server_context(authority.certificate)
    client = authority.issue("client")
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    with Registry(tls=context) as registry:
        with pytest.raises(OSError):  # the words differ by how far the client has come
            urllib.request.urlopen(f"{registry.url}/v2/", context=trusting, timeout=10)
        trusting.load_cert_chain(client.certificate, client.key)
        with urllib.request.urlopen(f"{registry.url}/v2/", context=trusting) as response:
            assert response.status == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_layouts_until_it_is_ended(number: signal.Signals) -> None:
    layout = f"team/tiny:v1={FIXTURES / 'layouts' / 'ollama'}"
    command = [sys.executable, str(FIXTURES / "registry.py"), "--llama2", "--layout", layout]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host = process.stdout.readline().strip()
        for name, tags in (("team/tiny", ["v1"]), ("library/llama2", ["latest", "terse"])):
            with urllib.request.urlopen(f"http://{host}/v2/{name}/tags/list") as response:
                assert json.load(response)["tags"] == tags
        process.send_signal(number)
        assert process.wait(10) == 0


def test_content_keeps_what_it_is_given() -> None:
    content = Content()
    digest = content.add("a", "latest", build.index())
    assert content.tags["a"] == {"latest": digest}
    assert len(content.manifests) == 3


def test_many_clients_at_once(registry: Registry) -> None:
    bodies: list[bytes] = []
    clients = [
        threading.Thread(target=lambda: bodies.append(get(registry, blob_path(registry)).body))
        for _ in range(20)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert bodies == [BLOB] * 20
