"""A repository as a Source: manifests verified, lists bounded, nothing asked for twice."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from registry import OLLAMA_QUIRKS, Registry, Uploads

from modelpm.content import read, read_manifest
from modelpm.errors import (
    AuthenticationError,
    DigestMismatchError,
    InvalidReferenceError,
    NotFoundError,
    RegistryError,
)
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from modelpm.registry.repository import Repository
from tests.memory import Memory
from tests.registry.conftest import LAYERS, NAME, QUICK, Always, Bench, endless, fill
from tests.registry.pushes import Sent, push


def put(registry: Registry, document: object, media_type: str = OCI_MANIFEST) -> Digest:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Digest.parse(registry.add_manifest(NAME, "latest", raw, media_type))


def test_a_tag_and_a_digest_point_at_the_same(bench: Bench) -> None:
    registry = bench.registry()
    digest = fill(registry, artifactType="application/vnd.model")
    repository = bench.repository(registry)
    desc = repository.resolve("latest")
    assert desc.digest == digest
    assert (desc.media_type, desc.artifact_type) == (OCI_MANIFEST, "application/vnd.model")
    assert repository.resolve(str(digest)) == desc
    assert repository.name == NAME


def test_resolving_and_fetching_is_one_request(bench: Bench) -> None:
    registry = bench.registry()
    fill(registry)
    repository = bench.repository(registry)
    desc = repository.resolve("latest")
    assert read_manifest(repository, desc).digest == desc.digest
    with repository.fetch(desc, 10) as stream:
        rest = stream.read()
    assert rest == read(repository, desc)[10:]
    assert [request.method for request in registry.log] == ["GET"]
    accept = registry.log[0].headers["accept"].split(", ")
    assert accept[:2] == [OCI_MANIFEST, DOCKER_MANIFEST]
    assert len(accept) == 5


def test_a_manifest_that_is_no_longer_kept_is_fetched_and_verified(bench: Bench) -> None:
    registry = bench.registry()
    repository = bench.repository(registry)
    digests = [fill(registry, annotations={"n": str(number)}) for number in range(20)]
    descriptors = [repository.resolve(str(digest)) for digest in digests]
    assert len(registry.log) == 20
    read_manifest(repository, descriptors[-1])
    assert len(registry.log) == 20
    read_manifest(repository, descriptors[0])
    assert len(registry.log) == 21


def test_a_registry_like_ollamas_is_understood(bench: Bench) -> None:
    registry = bench.registry(OLLAMA_QUIRKS)
    document = json.loads(registry.content.manifests[str(fill(registry))][0])
    put(registry, {**document, "mediaType": DOCKER_MANIFEST}, DOCKER_MANIFEST)
    assert bench.repository(registry).resolve("latest").media_type == DOCKER_MANIFEST


def test_another_manifest_than_the_digest_asked_for_is_refused(bench: Bench) -> None:
    registry = bench.registry()
    digest = fill(registry)
    raw, kind = registry.content.manifests[str(digest)]
    registry.content.manifests[str(digest)] = (raw + b" ", kind)
    repository = bench.repository(registry)
    desc = Descriptor(OCI_MANIFEST, digest, len(raw))
    for attempt in (lambda: repository.resolve(str(digest)), lambda: repository.fetch(desc)):
        with pytest.raises(DigestMismatchError, match=f"{digest}: .* sent sha256:"):
            attempt()


def test_sha512_is_verified_too(bench: Bench) -> None:
    registry = bench.registry()
    raw, kind = registry.content.manifests[str(fill(registry))]
    right, wrong = (f"sha512:{hashlib.sha512(text).hexdigest()}" for text in (raw, b"x"))
    registry.content.manifests |= {right: (raw, kind), wrong: (raw, kind)}
    repository = bench.repository(registry)
    desc = repository.resolve(right)
    assert str(desc.digest) == right
    assert read(repository, desc) == raw
    with pytest.raises(DigestMismatchError):
        repository.resolve(wrong)


ZERO = "sha256:" + "0" * 64
HEADERS = [
    (ZERO, False),
    ("sha512:" + "0" * 128, False),
    (None, True),
    ("", True),
    ("sha256:short", True),
    ("md5:" + "0" * 32, True),
    ("garbage", True),
]


@pytest.mark.parametrize(("told", "taken"), HEADERS)
def test_a_digest_in_the_head_may_be_missing_but_not_wrong(
    bench: Bench, told: str | None, taken: bool
) -> None:
    registry = bench.registry([{"headers": {"Docker-Content-Digest": told}}])
    digest = fill(registry)
    repository = bench.repository(registry)
    if taken:
        assert repository.resolve("latest").digest == digest
        return
    with pytest.raises(DigestMismatchError, match="but it is"):
        repository.resolve("latest")


EMPTY = {"mediaType": "a/b", "digest": ZERO, "size": 2}
BAD_MANIFESTS: list[Any] = [
    {"schemaVersion": 2, "config": EMPTY, "layers": [], "manifests": []},
    {"schemaVersion": 1, "config": EMPTY, "layers": []},
    {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []},
    {"schemaVersion": 2, "config": {**EMPTY, "digest": "sha256:../../x"}, "layers": []},
    {"schemaVersion": 2, "config": EMPTY, "layers": [{**EMPTY, "urls": ["http://x"]}]},
    {"schemaVersion": 2, "mediaType": "x\x1b[31m/y", "config": EMPTY, "layers": []},
    {"schemaVersion": 2, "mediaType": "a/" + "b" * 65_536, "config": EMPTY, "layers": []},
    b"[" * 100_000,
    b"",
    b"null",
    b"<html>hello</html>",
    b'{"schemaVersion": 2, "schemaVersion": 2}',
]


@pytest.mark.parametrize("document", BAD_MANIFESTS)
def test_an_unusable_manifest_is_the_registrys_fault(bench: Bench, document: object) -> None:
    registry = bench.registry()
    digest = put(registry, document)
    repository = bench.repository(registry)
    for attempt in ("latest", str(digest)):
        with pytest.raises(RegistryError, match=f"pulling {registry.host}/{NAME}: unusable"):
            repository.resolve(attempt)
    raw = registry.content.manifests[str(digest)][0]
    with pytest.raises(RegistryError, match="unusable manifest"):
        repository.fetch(Descriptor(OCI_MANIFEST, digest, len(raw)))


def test_a_child_must_be_what_its_parent_calls_it(bench: Bench) -> None:
    registry = bench.registry([{"headers": {"Content-Type": "text/plain"}}])
    digest = fill(registry)
    size = len(registry.content.manifests[str(digest)][0])
    with pytest.raises(RegistryError, match="unusable manifest"):
        bench.repository(registry).fetch(Descriptor(OCI_INDEX, digest, size))


@pytest.mark.parametrize(("size", "fits"), [(4 * 2**20, True), (4 * 2**20 + 1, False)])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_manifest_has_at_most_4_mib(bench: Bench, size: int, fits: bool, framing: str) -> None:
    registry = bench.registry([{"framing": framing}])
    raw = json.dumps({"schemaVersion": 2, "config": EMPTY, "layers": []}).encode().ljust(size)
    digest = put(registry, raw)
    repository = bench.repository(registry)
    if fits:
        assert repository.resolve("latest") == Descriptor(OCI_MANIFEST, digest, size)
        return
    with pytest.raises(RegistryError, match="more than 4194304 bytes"):
        repository.resolve("latest")


NO_REFERENCES = ["", "a b", "../x", "..", "a/b", "a?b", "a#b", "a%2fb", "a" * 129, "\u0430"]
NO_REFERENCES += ["sha256:x", "sha256:" + "A" * 64, "md5:" + "0" * 32, "latest\n", "-x"]


@pytest.mark.parametrize("reference", NO_REFERENCES)
def test_what_is_no_reference_is_not_asked_for(bench: Bench, reference: str) -> None:
    registry = bench.registry()
    with pytest.raises(InvalidReferenceError):
        bench.repository(registry).resolve(reference)
    assert not registry.log


@pytest.mark.parametrize("name", ["", "../x", "A", "a//b", "a/", "a?b", "a:b", "a@b"])
def test_what_is_no_repository_is_not_asked_for(bench: Bench, name: str) -> None:
    with pytest.raises(InvalidReferenceError):
        Repository(bench.client("reg.io"), name)


@pytest.mark.parametrize("name", ["tiny", "my.team/tiny", "a/b/c/d", "localhost/tiny", "a.b/c.d"])
def test_any_repository_is_at_its_own_registry(bench: Bench, name: str) -> None:
    registry = bench.registry()
    registry.add_artifact(name, "latest", LAYERS)
    repository = Repository(bench.client(registry.host), name)
    manifest = read_manifest(repository, repository.resolve("latest"))
    assert read(repository, manifest.layers[0]) == b"weights"
    assert repository.tags() == ["latest"]
    assert list(repository.referrers(manifest.descriptor)) == []
    assert all(request.path.startswith(f"/v2/{name}/") for request in registry.log)


def test_what_exists_exists(bench: Bench) -> None:
    registry = bench.registry()
    fill(registry)
    repository = bench.repository(registry)
    desc = repository.resolve("latest")
    layer = read_manifest(repository, desc).layers[0]
    assert repository.exists(desc)
    assert repository.exists(layer)
    assert not repository.exists(Descriptor.of(b"x", "a/b"))
    assert not repository.exists(Descriptor.of(b"x", OCI_MANIFEST))
    assert {request.method for request in registry.log[1:]} == {"HEAD"}


@pytest.mark.parametrize("status", [401, 403, 500])
def test_what_cannot_be_asked_does_not_count_as_missing(bench: Bench, status: int) -> None:
    registry = bench.registry([{"status": status}])
    with pytest.raises(RegistryError):
        bench.repository(registry).exists(Descriptor.of(b"x", "a/b"))


def test_where_head_is_not_allowed_manifests_are_got(bench: Bench) -> None:
    registry = bench.registry([{"method": "HEAD", "status": 405}])
    digest = fill(registry)
    repository = bench.repository(registry)
    assert repository.exists(replace(Descriptor.of(b"", OCI_MANIFEST), digest=digest))
    with pytest.raises(RegistryError, match="405"):
        repository.exists(Descriptor.of(b"weights", "a/b"))


# Tags


def test_tags_come_in_pages(bench: Bench) -> None:
    registry = bench.registry(page_size=3)
    names = [f"v{number}" for number in range(8)]
    for name in names:
        fill(registry, name)
    assert bench.repository(registry).tags() == names
    assert len(registry.requests("GET", "/tags/")) == 3


def test_pages_never_leave_the_registry(bench: Bench) -> None:
    sink = bench.sink()
    link = f'<{sink.url}/v2/{NAME}/tags/list?n=1&last=v1>; rel="next"'
    registry = bench.registry([{"path": "/tags/list$", "headers": {"Link": link}}])
    for name in ("v1", "v2"):
        fill(registry, name)
    assert bench.repository(registry, credentials=Always()).tags() == ["v1", "v2", "v2"]
    assert not sink.log


LINKS = ["</v2/team/tiny/tags/list>", "<?a=1>", "</v2/team/tiny/tags/list?last=v0>"]


@pytest.mark.parametrize("link", LINKS)
def test_a_circle_of_pages_ends(bench: Bench, link: str) -> None:
    registry = bench.registry([{"headers": {"Link": f'{link}; rel="next"'}}])
    fill(registry, "v1")
    with pytest.raises(RegistryError, match=f"listing tags of {registry.host}/{NAME}: the list"):
        bench.repository(registry).tags()
    assert len(registry.log) <= 2


def test_a_list_has_so_many_pages(bench: Bench) -> None:
    registry = endless(bench)
    repository = bench.repository(registry, limits=replace(QUICK, pages=5))
    with pytest.raises(RegistryError, match="the list does not end"):
        repository.tags()
    assert len(registry.log) == 6


def test_a_list_has_so_many_bytes(bench: Bench) -> None:
    registry = endless(bench)
    repository = bench.repository(registry, limits=replace(QUICK, page_bytes=200))
    with pytest.raises(RegistryError, match="the list does not end"):
        repository.tags()
    assert len(registry.log) < 10


BAD_LISTS = ['{"tags": 7}', "[]", "null", "<html>", '{"tags": {"a": ', "7", "[" * 100_000]


@pytest.mark.parametrize("body", BAD_LISTS)
def test_a_list_that_is_none_is_an_error(bench: Bench, body: str) -> None:
    registry = bench.registry([{"body": body}])
    fill(registry)
    with pytest.raises(RegistryError, match=f"no usable list of tags of {NAME}"):
        bench.repository(registry).tags()


def test_what_is_no_tag_is_left_out(bench: Bench) -> None:
    body = json.dumps({"tags": ["ok", "\x1b[31mred", "../x", 7, None, "a" * 129, ["x"]]})
    registry = bench.registry([{"body": body}])
    fill(registry)
    assert bench.repository(registry).tags() == ["ok"]


@pytest.mark.parametrize("body", ['{"tags": null}', '{"tags": []}', "{}"])
def test_a_repository_may_have_no_tags(bench: Bench, body: str) -> None:
    registry = bench.registry([{"body": body}])
    fill(registry)
    assert bench.repository(registry).tags() == []


def test_tags_of_what_is_not_there(bench: Bench) -> None:
    with pytest.raises(NotFoundError, match="listing tags of"):
        bench.repository(bench.registry()).tags()


def test_too_many_tags_are_refused(bench: Bench) -> None:
    registry = bench.registry()
    fill(registry, "v1")
    fill(registry, "v2")
    assert len(bench.repository(registry, limits=replace(QUICK, entries=2)).tags()) == 2
    with pytest.raises(RegistryError, match="no usable list"):
        bench.repository(registry, limits=replace(QUICK, entries=1)).tags()


# Deleting


def pushed(bench: Bench, registry: Registry) -> tuple[Repository, Descriptor]:
    repository = bench.repository(registry)
    source = Sent(b"weights")
    push(source, repository, source.root, "one")
    repository.tag(source.root, "two")
    return repository, source.root


def test_a_tag_is_deleted_alone(bench: Bench) -> None:
    repository, root = pushed(bench, bench.registry(uploads=Uploads()))
    repository.delete("one")
    assert repository.tags() == ["two"]
    assert repository.resolve(str(root.digest)).digest == root.digest
    with pytest.raises(NotFoundError, match=r"deleting .*:one: 404 MANIFEST_UNKNOWN"):
        repository.delete("one")


def test_a_manifest_is_deleted_with_its_tags(bench: Bench) -> None:
    repository, root = pushed(bench, bench.registry(uploads=Uploads()))
    repository.delete(str(root.digest))
    assert repository.tags() == []
    for ask in (repository.resolve, repository.delete):
        with pytest.raises(NotFoundError):
            ask(str(root.digest))
    with pytest.raises(NotFoundError), repository.fetch(root):
        pass


def test_a_registry_that_does_not_delete_is_told_apart(bench: Bench) -> None:
    uploads = Uploads(deletes=False, deletes_tags=False)
    repository, root = pushed(bench, bench.registry(uploads=uploads))
    with pytest.raises(RegistryError, match=r":one: 405 UNSUPPORTED: .*may delete by digest only"):
        repository.delete("one")
    with pytest.raises(RegistryError, match=r"405 UNSUPPORTED: .*its owner may allow it"):
        repository.delete(str(root.digest))
    assert repository.tags() == ["one", "two"]


def test_who_may_not_delete_is_told_so(bench: Bench) -> None:
    registry = bench.registry(uploads=Uploads())
    repository, _ = pushed(bench, registry)
    registry.scenario = [{"method": "DELETE", "status": 403}]
    with pytest.raises(AuthenticationError, match=r"deleting .*:one: 403"):
        repository.delete("one")


@pytest.mark.parametrize("reference", ["", "a/b", "../x", "sha256:short", "a b", "a" * 129])
def test_what_is_neither_tag_nor_digest_is_not_deleted(bench: Bench, reference: str) -> None:
    registry = bench.registry(uploads=Uploads())
    with pytest.raises(InvalidReferenceError):
        bench.repository(registry).delete(reference)
    assert registry.log == ()


# Tagging


@pytest.mark.parametrize("reference", ["", "a/b", f"sha256:{'0' * 64}", "a b", "a" * 129])
def test_only_a_tag_is_a_name(bench: Bench, reference: str) -> None:
    registry = bench.registry(uploads=Uploads())
    repository, root = pushed(bench, registry)
    asked = len(registry.log)
    with pytest.raises(InvalidReferenceError):
        repository.tag(root, reference)
    assert len(registry.log) == asked


def test_the_very_bytes_are_tagged(bench: Bench) -> None:
    registry = bench.registry(uploads=Uploads())
    odd = (
        b' { "layers" : [ ] , "schemaVersion":2,\n"config": '
        + json.dumps(Descriptor.of(b"{}", "a/b").to_json()).encode()
        + b"} "
    )
    source = Memory()
    source.leaf(b"{}")
    root = Descriptor.of(odd, OCI_MANIFEST)
    source.content[root.digest] = odd
    repository = bench.repository(registry)
    push(source, repository, root, "odd")
    assert registry.content.manifests[registry.content.tags[NAME]["odd"]] == (odd, OCI_MANIFEST)
    assert repository.resolve("odd").digest == root.digest


def test_a_manifest_that_is_not_what_it_is_called_is_not_put(bench: Bench) -> None:
    registry = bench.registry(uploads=Uploads())
    source = Sent(b"weights")
    source.wrong[source.root.digest] = b"{}"
    with pytest.raises(DigestMismatchError):
        bench.repository(registry).push(source.root, source)
    assert registry.requests("PUT") == ()
