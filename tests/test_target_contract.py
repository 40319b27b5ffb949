"""What every Target promises, asked of each of them."""

import contextlib
import io
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from docker_registry import DockerRegistry
from registry import Registry, Uploads

from modelpm.content import Target, read, read_manifest
from modelpm.errors import ContentError, DigestMismatchError, ModelPMError, NotFoundError
from modelpm.oci.descriptor import Descriptor
from modelpm.registry.client import RegistryClient
from modelpm.registry.credentials import Anonymous
from modelpm.registry.repository import Repository
from modelpm.store.layout import Store
from modelpm.transfer import copy
from tests.memory import LAYER, Memory, Scattered

NAME = "localhost:5000/team/model:tag"
TARGETS: dict[str, Callable[[Path], Target]] = {
    "memory": lambda _: Memory(),
    "store": lambda folder: Store(folder / "store"),
}


class Named(Repository):
    """A repository whose tags are asked for by full names, as a store's are."""

    def resolve(self, reference: str) -> Descriptor:
        return super().resolve(reference.removeprefix("localhost:5000/team/model:"))

    def tag(self, desc: Descriptor, reference: str) -> None:
        super().tag(desc, reference.removeprefix("localhost:5000/team/model:"))


@pytest.fixture
def loopback_host() -> Iterator[str]:
    with Registry(uploads=Uploads()) as registry:
        yield registry.host


@pytest.fixture
def docker_host(docker_registry: DockerRegistry) -> str:
    return docker_registry.host


@pytest.fixture(params=[*TARGETS, "loopback_host", "docker_host"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    if request.param in TARGETS:
        yield TARGETS[request.param](tmp_path)
        return
    client = RegistryClient(request.getfixturevalue(request.param), credentials=Anonymous())
    with contextlib.closing(client):
        # Each test has a repository of its own: registries are shared.
        yield Named(client, f"contract/r{secrets.token_hex(8)}")


class Bytes:
    """A source that serves these bytes whatever it is asked for."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.opened = 0

    @contextlib.contextmanager
    def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        self.opened += 1
        yield io.BytesIO(self.content[offset:])


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_what_is_pushed_is_there_and_can_be_read(target: Target, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    desc = Descriptor.of(content, LAYER)
    assert not target.exists(desc)
    target.push(desc, Bytes(content))
    assert target.exists(desc)
    assert read(target, desc) == content
    with target.fetch(desc, size // 2) as stream:
        assert stream.read() == content[size // 2 :]


def test_a_source_that_brings_its_bytes_itself_is_as_good(target: Target) -> None:
    memory = Memory()
    content = bytes(range(256)) * 3_000
    desc = memory.leaf(content)
    source = Scattered(memory.content, 50_000, 3)
    target.push(desc, source)
    assert read(target, desc) == content
    wrong = Scattered({desc.digest: content[:-1] + b"?"}, 50_000, 3)
    other = memory.leaf(content[:-1])
    with pytest.raises(DigestMismatchError):
        target.push(other, Scattered({other.digest: content[:-2] + b"?"}, 50_000, 3))
    assert not target.exists(other)
    target.push(desc, wrong)  # it is there, so nobody asks


def test_sha512_is_verified_like_sha256(target: Target) -> None:
    memory = Memory()
    desc = memory.leaf(b"content", algorithm="sha512")
    with pytest.raises(DigestMismatchError):
        target.push(desc, Bytes(b"Content"))
    target.push(desc, memory)
    assert read(target, desc) == b"content"


def test_pushing_again_changes_nothing_and_opens_nothing(target: Target) -> None:
    desc = Descriptor.of(b"content", LAYER)
    target.push(desc, Bytes(b"content"))
    again = Bytes(b"other")
    target.push(desc, again)
    assert again.opened == 0
    assert read(target, desc) == b"content"


@pytest.mark.parametrize("served", [b"", b"conten", b"Content", b"content!", b"x" * 2**21])
def test_wrong_bytes_are_refused_and_leave_nothing(target: Target, served: bytes) -> None:
    desc = Descriptor.of(b"content", LAYER)
    with pytest.raises(DigestMismatchError):
        target.push(desc, Bytes(served))
    assert not target.exists(desc)
    with pytest.raises(NotFoundError), target.fetch(desc) as stream:
        stream.read(1)
    target.push(desc, Bytes(b"content"))
    assert target.exists(desc)


def test_exists_asks_for_the_size_too(target: Target) -> None:
    desc = Descriptor.of(b"content", LAYER)
    target.push(desc, Bytes(b"content"))
    assert not target.exists(Descriptor(LAYER, desc.digest, desc.size + 1))


def test_what_is_not_there_is_not_found(target: Target) -> None:
    desc = Descriptor.of(b"content", LAYER)
    assert not target.exists(desc)
    with pytest.raises(NotFoundError), target.fetch(desc) as stream:
        stream.read(1)
    for reference in (NAME, str(desc.digest)):
        with pytest.raises(NotFoundError):
            target.resolve(reference)


def test_a_name_points_moves_and_resolves(target: Target) -> None:
    memory = Memory()
    first, second = memory.image(b"a", b"b"), memory.image(b"a", b"c")
    for root in (first, second):
        copy(memory, target, root)
        target.tag(root, NAME)
        found = target.resolve(NAME)
        assert (found.digest, found.size, found.media_type) == (
            root.digest,
            root.size,
            root.media_type,
        )
        assert target.resolve(str(root.digest)).digest == root.digest
        assert read_manifest(target, found).raw == memory.content[root.digest]


def test_a_name_is_refused_for_what_is_not_there(target: Target) -> None:
    root = Memory().image(b"a")
    with pytest.raises(ModelPMError):
        target.tag(root, NAME)
    with pytest.raises(NotFoundError):
        target.resolve(NAME)


def test_referrers_are_those_with_the_subject(target: Target) -> None:
    memory = Memory()
    root, other = memory.image(b"a"), memory.image(b"b")
    signature = memory.image(b"s", subject=root)
    for number, desc in enumerate((root, other, signature)):
        copy(memory, target, desc)
        target.tag(desc, f"{NAME}{number}")
    assert [desc.digest for desc in target.referrers(root)] == [signature.digest]
    assert list(target.referrers(other)) == []


def test_holding_is_a_context_and_lets_errors_through(target: Target) -> None:
    desc = Descriptor.of(b"content", LAYER)
    with target.hold([desc, desc]):
        target.push(desc, Bytes(b"content"))
    with pytest.raises(ContentError), target.hold([]):
        raise ContentError("of the body")
    assert target.exists(desc)
