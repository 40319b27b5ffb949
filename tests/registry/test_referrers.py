"""Referrers: listed in pages and filtered, noted under a tag where there is no API, and kept."""

import json
import threading
from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from docker_registry import DockerRegistry
from registry import Answer, Registry, Request, Uploads

from modelpm.errors import RegistryError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import MAX_BYTES, MAX_ENTRIES, OCI_INDEX, OCI_MANIFEST
from modelpm.registry.manifests import Manifests
from modelpm.registry.repository import Repository
from tests.memory import Memory
from tests.registry.conftest import NAME, QUICK, Bench, endless, fill
from tests.registry.pushes import Guarded, Sent, push


def subject_and_signature(registry: Registry) -> tuple[Descriptor, Digest]:
    digest = fill(registry)
    raw = registry.content.manifests[str(digest)][0]
    subject = Descriptor(OCI_MANIFEST, digest, len(raw))
    return subject, fill(registry, None, subject=subject.to_json(), artifactType="a/signature")


def index(descriptors: Iterable[Descriptor]) -> bytes:
    manifests = [desc.to_json() for desc in descriptors]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    return json.dumps(document).encode()


def test_referrers_come_from_the_api(bench: Bench) -> None:
    registry = bench.registry()
    subject, signature = subject_and_signature(registry)
    found = list(bench.repository(registry).referrers(subject))
    assert [(desc.digest, desc.artifact_type) for desc in found] == [(signature, "a/signature")]
    assert len(registry.log) == 1


OLD = [
    {"has_referrers": False},
    {"scenario": [{"path": "/referrers/", "status": 400}]},
    {"scenario": [{"path": "/referrers/", "status": 405}]},
    {
        "scenario": [
            {"path": "/referrers/", "body": "<html>", "headers": {"Content-Type": "text/html"}}
        ]
    },
]


@pytest.mark.parametrize("options", OLD)
@pytest.mark.parametrize("tagged", [True, False])
def test_an_old_registry_has_a_tag_instead(
    bench: Bench, options: dict[str, Any], tagged: bool
) -> None:
    registry = bench.registry(**options)
    subject, signature = subject_and_signature(registry)
    size = len(registry.content.manifests[str(signature)][0])
    listed = Descriptor(OCI_MANIFEST, signature, size, "a/signature")
    if tagged:
        tag = f"sha256-{subject.digest.hex}"
        registry.add_manifest(NAME, tag, index([listed]), OCI_INDEX)
    found = list(bench.repository(registry).referrers(subject))
    assert found == ([listed] if tagged else [])


def test_a_tag_that_is_no_index_is_an_error(bench: Bench) -> None:
    registry = bench.registry(has_referrers=False)
    subject, _ = subject_and_signature(registry)
    fill(registry, f"sha256-{subject.digest.hex}")
    with pytest.raises(RegistryError, match="is no index"):
        list(bench.repository(registry).referrers(subject))


BAD_REFERRERS: list[dict[str, Any]] = [
    {"status": 403},
    {"status": 500},
    {"body": "{}"},
    {"body": '{"schemaVersion": 2, "manifests": [{"size": -1}]}'},
    {"endless": True},
]


@pytest.mark.parametrize("fault", BAD_REFERRERS)
def test_a_bad_list_of_referrers_is_an_error(bench: Bench, fault: dict[str, Any]) -> None:
    registry = bench.registry([{"path": "/referrers/", **fault}])
    subject, _ = subject_and_signature(registry)
    with pytest.raises(RegistryError):
        list(bench.repository(registry).referrers(subject))


def test_referrers_come_in_pages_up_to_a_bound(bench: Bench) -> None:
    registry = endless(bench)
    subject, _ = subject_and_signature(registry)
    registry.scenario = [
        {"path": "/list", "status": 200, "headers": {"Content-Type": OCI_INDEX}}
        | {"body": index([subject]).decode()}
    ]
    repository = bench.repository(registry, limits=replace(QUICK, entries=3))
    with pytest.raises(RegistryError, match="more than 3 referrers"):
        list(repository.referrers(subject))


def test_the_filter_is_asked_for_and_not_trusted(bench: Bench) -> None:
    registry = bench.registry()
    subject, signature = subject_and_signature(registry)
    fill(registry, None, subject=subject.to_json(), artifactType="a/other+type")
    repository = bench.repository(registry)
    assert [desc.digest for desc in repository.referrers(subject, "a/signature")] == [signature]
    assert registry.log[-1].path.endswith(f"/referrers/{subject.digest}?artifactType=a%2Fsignature")
    assert len(list(repository.referrers(subject, "a/other+type"))) == 1
    assert list(repository.referrers(subject, "a/none")) == []
    every = index(repository.referrers(subject))
    registry.scenario = [
        {"path": "/referrers/", "body": every.decode(), "headers": {"OCI-Filters-Applied": None}}
    ]
    assert [desc.digest for desc in repository.referrers(subject, "a/signature")] == [signature]


# Written


def sign(repository: Repository, source: Memory, subject: Descriptor, content: bytes) -> Descriptor:
    """Push what refers to the subject; its descriptor."""
    signature = source.image(content, subject=subject)
    for digest in source.content:
        leaf = Descriptor("a/b", digest, len(source.content[digest]))
        if digest not in (signature.digest, subject.digest):
            repository.push(leaf, source)
    repository.push(signature, source)
    return signature


def signed(
    bench: Bench, registry: Registry, contents: Iterable[bytes]
) -> tuple[Repository, Descriptor, list[Descriptor]]:
    repository = bench.repository(registry)
    source = Sent(b"weights")
    push(source, repository, source.root, "tag")
    memory = Memory()
    found = [sign(repository, memory, source.root, content) for content in contents]
    return repository, source.root, found


def tag_of(subject: Descriptor) -> str:
    return f"sha256-{subject.digest.hex}"


def listed(registry: Registry, subject: Descriptor) -> dict[str, Any]:
    digest = registry.content.tags[NAME][tag_of(subject)]
    document: dict[str, Any] = json.loads(registry.content.manifests[digest][0])
    return document


def test_a_registry_with_the_api_needs_no_tag(bench: Bench) -> None:
    registry = bench.registry(uploads=Uploads())
    repository, subject, signatures = signed(bench, registry, [b"one", b"two"])
    assert list(registry.content.tags[NAME]) == ["tag"]
    found = {desc.digest for desc in repository.referrers(subject)}
    assert found == {desc.digest for desc in signatures}


def test_a_registry_without_it_gets_the_tag(bench: Bench) -> None:
    registry = bench.registry(uploads=Uploads(), has_referrers=False)
    guarded = Guarded(registry)
    repository, subject, signatures = signed(bench, registry, [b"one", b"two"])
    document = listed(registry, subject)
    assert document["mediaType"] == OCI_INDEX
    assert [entry["digest"] for entry in document["manifests"]] == [
        str(desc.digest) for desc in signatures
    ]
    assert document["manifests"][0]["artifactType"]
    assert document["manifests"][0]["size"] == signatures[0].size
    assert [desc.digest for desc in repository.referrers(subject)] == [
        desc.digest for desc in signatures
    ]
    tags = {f"{NAME}:{tag}": digest for tag, digest in registry.content.tags[NAME].items()}
    guarded.check(tags)


def test_noting_it_twice_changes_nothing(bench: Bench) -> None:
    registry = bench.registry(uploads=Uploads(), has_referrers=False)
    repository, subject, _ = signed(bench, registry, [b"one"])
    before = dict(registry.content.tags[NAME])
    sign(repository, Memory(), subject, b"one")
    assert registry.content.tags[NAME] == before


def test_what_others_have_put_into_the_tag_stays(bench: Bench) -> None:
    registry = bench.registry(uploads=Uploads(), has_referrers=False)
    repository, subject, (first,) = signed(bench, registry, [b"one"])
    document = listed(registry, subject)
    foreign: dict[str, Any] = {
        "mediaType": OCI_MANIFEST,
        "digest": f"sha256:{'1' * 64}",
        "size": 7,
        "data": "e30=",
        "x-other": {"a": [1, 2]},
    }
    document["manifests"].insert(0, foreign)
    document["annotations"] = {"who": "another"}
    registry.add_manifest(NAME, tag_of(subject), json.dumps(document).encode(), OCI_INDEX)
    # What is foreign is not here; this registry takes it all the same.
    registry.content.manifests[foreign["digest"]] = (b"{}", OCI_MANIFEST)
    second = sign(repository, Memory(), subject, b"two")
    now = listed(registry, subject)
    assert now["annotations"] == {"who": "another"}
    assert now["manifests"][0] == foreign
    assert [entry["digest"] for entry in now["manifests"][1:]] == [
        str(desc.digest) for desc in (first, second)
    ]


def test_a_deleted_referrer_is_taken_out_of_the_tag(bench: Bench) -> None:
    registry = bench.registry(uploads=Uploads(), has_referrers=False)
    repository, subject, (first, second) = signed(bench, registry, [b"one", b"two"])
    repository.delete(str(first.digest))
    assert [desc.digest for desc in repository.referrers(subject)] == [second.digest]
    repository.delete(str(second.digest))
    assert list(repository.referrers(subject)) == []
    assert listed(registry, subject)["manifests"] == []


def test_where_there_is_the_api_deleting_is_one_request(bench: Bench) -> None:
    registry = bench.registry(uploads=Uploads())
    repository, subject, (first,) = signed(bench, registry, [b"one"])
    repository.delete(str(first.digest))
    assert list(repository.referrers(subject)) == []
    assert list(registry.content.tags[NAME]) == ["tag"]


def test_who_comes_in_between_is_not_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tag is put by another between our reading and our reading again."""
    registry = bench.registry(uploads=Uploads(), has_referrers=False)
    repository, subject, (first,) = signed(bench, registry, [b"one"])
    memory = Memory()
    second = memory.image(b"two", subject=subject)
    before = registry.content.tags[NAME][tag_of(subject)]
    puts = 0
    reply = registry.reply

    def meddle(request: Any) -> Any:
        nonlocal puts
        answer = reply(request)
        if request.method == "PUT" and tag_of(subject) in request.path:
            puts += 1
            if puts == 1:
                registry.content.tags[NAME][tag_of(subject)] = before
        return answer

    monkeypatch.setattr(registry, "reply", meddle)
    sign(repository, memory, subject, b"two")
    assert puts == 2
    assert {desc.digest for desc in repository.referrers(subject)} == {first.digest, second.digest}


def test_a_tag_that_never_stays_is_told(bench: Bench) -> None:
    registry = bench.registry(uploads=Uploads(), has_referrers=False)
    repository, subject, _ = signed(bench, registry, [b"one"])
    before = registry.content.manifests[registry.content.tags[NAME][tag_of(subject)]][0]
    registry.scenario = [
        {"method": "GET", "path": tag_of(subject), "body": before.decode()}
        | {"headers": {"Docker-Content-Digest": None}}
    ]
    with pytest.raises(RegistryError, match=r"others change it again and again.*try again later"):
        sign(repository, Memory(), subject, b"two")


@pytest.mark.parametrize("how", ["entries", "bytes"])
def test_a_tag_has_no_room_without_end(bench: Bench, how: str) -> None:
    registry = bench.registry(uploads=Uploads(), has_referrers=False)
    repository, subject, _ = signed(bench, registry, [b"one"])
    entry = listed(registry, subject)["manifests"][0]
    count = MAX_ENTRIES if how == "entries" else 2
    entries = [{**entry, "digest": f"sha256:{number:064x}"} for number in range(count)]
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": entries,
    }
    if how == "bytes":
        document["annotations"] = {"filler": ""}
        filler = "x" * (MAX_BYTES - len(json.dumps(document)))
        document["annotations"] = {"filler": filler}
    registry.add_manifest(NAME, tag_of(subject), json.dumps(document).encode(), OCI_INDEX)
    puts = len(registry.requests("PUT", tag_of(subject)))
    with pytest.raises(RegistryError, match="there is no room for more of them"):
        sign(repository, Memory(), subject, b"two")
    assert len(registry.requests("PUT", tag_of(subject))) == puts


def test_a_tag_that_is_something_else_is_not_overwritten(bench: Bench) -> None:
    registry = bench.registry(uploads=Uploads(), has_referrers=False)
    repository, subject, _ = signed(bench, registry, [])
    other = fill(registry, tag_of(subject))
    with pytest.raises(RegistryError, match="is no index"):
        sign(repository, Memory(), subject, b"one")
    assert registry.content.tags[NAME][tag_of(subject)] == str(other)


def test_twenty_writers_lose_little_and_say_so(bench: Bench) -> None:
    registry = bench.registry(uploads=Uploads(), has_referrers=False)
    _, subject, _ = signed(bench, registry, [])
    told: list[bool] = []

    def write(number: int) -> None:
        repository = bench.repository(registry, sleep=None)
        try:
            sign(repository, Memory(), subject, b"%d" % number)
            told.append(True)
        except RegistryError:
            told.append(False)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = listed(registry, subject)["manifests"]
    digests = [entry["digest"] for entry in entries]
    assert len(set(digests)) == len(digests) >= 1
    assert all(digest in registry.content.manifests for digest in digests)
    assert len(told) == 20
    # Once nobody else writes, whoever was lost or told so is noted by pushing again.
    for number in range(20):
        sign(bench.repository(registry), Memory(), subject, b"%d" % number)
    assert len(listed(registry, subject)["manifests"]) == 20


# Conditions.


class Conditional(Registry):
    """Replaces a tag only by whoever knows what is there, as far as it `minds` that.

    `locked` refuses everybody. One that `forgets` tells versions that it never knows again.
    """

    def __init__(
        self,
        *,
        minds: bool = True,
        forgets: bool = False,
        refuses: bool = False,
        mark: str = "",
    ) -> None:
        super().__init__(uploads=Uploads(), has_referrers=False)
        self.locked = False
        self._minds, self._forgets, self._refuses, self._mark = minds, forgets, refuses, mark
        self._one = threading.Lock()
        self._numbers = count()

    def reply(self, request: Request) -> Answer:
        if "/manifests/sha256-" not in request.path:
            return super().reply(request)
        with self._one:
            now = self.content.tags[NAME].get(request.path.rpartition("/")[2])
            if request.method == "PUT" and not self._is_good(request, now):
                return Answer(412, (), b"")
            answer = super().reply(request)
        etag = f'"{next(self._numbers)}"' if self._forgets else f'{self._mark}"{now}"'
        kept = tuple(header for header in answer.headers if header[0] != "Etag")
        return replace(answer, headers=(*kept, ("ETag", etag)))

    def _is_good(self, request: Request, now: str | None) -> bool:
        told = request.headers.get("if-match")
        if self.locked or told is None or not self._minds:
            return not self.locked
        return told == f'"{now}"' and not self._refuses


def write_all(bench: Bench, registry: Registry, subject: Descriptor, writers: int) -> int:
    """Sign at once; how many were told that it worked."""
    told: list[int] = []

    def write(number: int) -> None:
        try:
            sign(bench.repository(registry, sleep=None), Memory(), subject, b"%d" % number)
            told.append(number)
        except RegistryError:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return len(told)


def test_where_conditions_are_kept_no_writer_is_lost(bench: Bench) -> None:
    registry = Conditional()
    bench.enter(registry)
    _, subject, _ = signed(bench, registry, [b"first"])
    assert write_all(bench, registry, subject, 8) == 8
    assert len(listed(registry, subject)["manifests"]) == 9
    tagged = registry.requests("PUT", tag_of(subject))
    taken = [request for request in tagged if request.status == 201]
    assert len(taken) == 9  # the first has no version to go by
    assert all("if-match" in request.headers for request in taken[1:])


@pytest.mark.parametrize(
    ("options", "statuses"),
    [
        ({"minds": False}, [201, 201]),
        ({"mark": "W/"}, [201, 201]),
        ({"mark": "x"}, [201, 201]),
        ({"forgets": True}, [201, 412, 201]),
        ({"refuses": True}, [201, 412, 201]),
    ],
    ids=str,
)
def test_where_they_are_not_the_tag_is_written_as_ever(
    bench: Bench, options: dict[str, Any], statuses: list[int]
) -> None:
    registry = Conditional(**options)
    bench.enter(registry)
    repository, subject, _ = signed(bench, registry, [b"one"])
    sign(repository, Memory(), subject, b"two")
    assert len(listed(registry, subject)["manifests"]) == 2
    puts = registry.requests("PUT", tag_of(subject))
    assert [request.status for request in puts] == statuses
    if "mark" in options:
        assert not any("if-match" in request.headers for request in puts)


def test_a_refusal_that_is_no_condition_is_told(bench: Bench) -> None:
    """Some answer so for a tag that nobody may change."""
    registry = Conditional()
    bench.enter(registry)
    repository, subject, _ = signed(bench, registry, [b"one"])
    registry.locked = True
    with pytest.raises(RegistryError, match="412"):
        sign(repository, Memory(), subject, b"two")
    assert len(registry.requests("PUT", tag_of(subject))) == 3


def test_docker_registry_tells_a_version_and_does_not_mind_it(
    bench: Bench, docker_registry: DockerRegistry
) -> None:
    repository = Repository(bench.client(docker_registry.host), "team/versions")
    image = Sent(b"model")
    push(image, repository, image.root, "v1")
    manifests = Manifests(repository.client, "team/versions", repository._base)
    manifest, version = manifests.versioned("v1")
    assert version == f'"{manifest.digest}"'
    manifests.put("v1", manifest.raw, manifest.media_type, version='"another"')
    sign(repository, Memory(), image.root, b"one")
    sign(repository, Memory(), image.root, b"two")
    assert len(list(repository.referrers(image.root))) == 2
