"""Pushes to the real docker-registry: mounts, cuts, kills, deletes; and what a registry that can go
on after a cut is spared."""

import contextlib
import getpass
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from docker_registry import DockerRegistry
from networks import BadNetwork
from registry import Registry, Uploads

from modelpm.content import read
from modelpm.errors import NotFoundError, RegistryError
from modelpm.oci.descriptor import Descriptor
from modelpm.registry.client import RegistryClient
from modelpm.registry.credentials import Anonymous
from modelpm.registry.limits import Limits
from modelpm.registry.notes import Notes
from modelpm.registry.repository import Repository
from modelpm.store.layout import Store
from modelpm.transfer import copy
from tests.conftest import require
from tests.memory import LAYER, Memory
from tests.registry.pushes import noise

MIB = 2**20
LIMITS = Limits(backoff=0.01, backoff_max=0.02)


@contextlib.contextmanager
def opened(
    host: str, name: str, notes: Notes | None = None, limits: Limits = LIMITS
) -> Iterator[Repository]:
    client = RegistryClient(host, credentials=Anonymous(), limits=limits)
    with contextlib.closing(client):
        yield Repository(client, name, notes)


def test_what_is_pushed_comes_back_and_is_mounted_elsewhere(
    docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    memory = Memory()
    root = memory.image(noise(3 * MIB), b"small")
    store = Store(tmp_path / "home")
    copy(memory, store, root)
    store.tag(root, "localhost:5000/any:tag")
    with opened(docker_registry.host, "push/first", store.notes) as first:
        copy(store, first, root, tag=lambda: first.tag(root, "v1"))
        assert first.resolve("v1").digest == root.digest
        again = Memory()
        copy(first, again, root)
        assert again.content == memory.content
    with BadNetwork(docker_registry.host) as network:
        # The notes are of the registry's own name; by that of the proxy nothing is known.
        with opened(network.host, "push/second", store.notes) as second:
            assert store.notes.sisters(network.host, root.digest) == []
            network.begin()
            copy(store, second, root)
            assert network.traffic.received > 3 * MIB
        with opened(network.host, "push/third", store.notes) as third:
            network.begin()
            copy(store, third, root, tag=lambda: third.tag(root, "v1"))
            assert network.traffic.received < 20_000
            assert third.resolve("v1").digest == root.digest


def test_between_two_repositories_the_registry_moves_the_bytes(
    docker_registry: DockerRegistry,
) -> None:
    memory = Memory()
    root = memory.image(noise(2 * MIB, 7))
    with BadNetwork(docker_registry.host) as network, opened(network.host, "move/from") as one:
        copy(memory, one, root)
        two = Repository(one.client, "move/to")
        network.begin()
        copy(one, two, root, tag=lambda: two.tag(root, "v1"))
        assert network.traffic.received + network.traffic.sent < 30_000


@pytest.mark.parametrize("seed", range(2))
def test_a_push_that_is_cut_twenty_times_finishes(
    docker_registry: DockerRegistry, seed: int
) -> None:
    """docker-registry can go on with no upload that was cut, so each begins anew."""
    size = 12 * MIB
    content = noise(size, seed)
    desc = Descriptor.of(content, LAYER)
    memory = Memory()
    memory.content[desc.digest] = content
    chosen, cuts = random.Random(seed), [0]
    for _ in range(20):
        cuts.append(cuts[-1] + chosen.randrange(int(1.5 * MIB), size))
    with (
        BadNetwork(docker_registry.host) as network,
        opened(network.host, f"cut/r{seed}") as target,
    ):
        network.begin(cuts[1:], upward=True)
        target.push(desc, memory)
        assert network.traffic.cuts == 20
        assert read(target, desc, 2 * size) == content


@pytest.mark.parametrize("seed", range(2))
def test_where_the_registry_can_go_on_nothing_to_speak_of_is_sent_twice(seed: int) -> None:
    size = 48 * MIB
    content = noise(size, seed)
    desc = Descriptor.of(content, LAYER)
    memory = Memory()
    memory.content[desc.digest] = content
    chosen = random.Random(seed)
    cuts = sorted(chosen.randrange(1_000, size - MIB) for _ in range(20))
    uploads = Uploads(location="/v2/{repository}/blobs/uploads/{id}")
    with (
        Registry(uploads=uploads) as registry,
        BadNetwork(registry.host) as network,
        opened(network.host, "team/tiny") as target,
    ):
        network.begin(cuts, upward=True)
        target.push(desc, memory)
        traffic = network.traffic
        assert registry.content.blobs[str(desc.digest)] == content
    assert traffic.cuts == 20
    assert traffic.received <= size + 20 * 4 * MIB


PUSH = """
import sys
from pathlib import Path
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.registry.client import RegistryClient
from modelpm.registry.credentials import Anonymous
from modelpm.registry.limits import Limits
from modelpm.registry.repository import Repository
from modelpm.store.layout import Store

home, host, digest, size, rate = sys.argv[1:]
store = Store(Path(home))
client = RegistryClient(host, credentials=Anonymous(), limits=Limits(rate=int(rate)))
desc = Descriptor("a/b", Digest.parse(digest), int(size))
Repository(client, "killed/tiny", store.notes).push(desc, store)
print("done")
"""


def killed(store: Store, host: str, desc: Descriptor, after: float) -> None:
    """A push that is killed with all its threads in the middle of the bytes."""
    arguments = [str(store.root), host, str(desc.digest), str(desc.size), str(8 * MIB)]
    process = subprocess.Popen(
        [sys.executable, "-c", PUSH, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        deadline = time.monotonic() + 60
        uploads = store.root / "notes"
        while not any(path.name.startswith("upload-") for path in uploads.iterdir()):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    assert output == b""


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Store, Descriptor, bytes]:
    content = noise(16 * MIB)
    desc = Descriptor.of(content, LAYER)
    memory = Memory()
    memory.content[desc.digest] = content
    store = Store(tmp_path / "home")
    store.push(desc, memory)
    return store, desc, content


def test_a_killed_push_goes_on_where_the_registry_is(
    filled: tuple[Store, Descriptor, bytes],
) -> None:
    store, desc, content = filled
    with Registry(uploads=Uploads()) as registry:
        killed(store, registry.host, desc, 0.5)
        killed(store, registry.host, desc, 0.3)
        deadline = time.monotonic() + 20
        while registry.answering and time.monotonic() < deadline:
            time.sleep(0.01)
        with opened(registry.host, "killed/tiny", store.notes) as target:
            target.push(desc, store)
        assert registry.content.blobs[str(desc.digest)] == content
        assert registry.uploads is not None
        assert registry.uploads.received == len(content)
        assert len(registry.requests("PATCH")) >= 1
        assert registry.uploads.sessions == {}
    assert not any(path.name.startswith("upload-") for path in (store.root / "notes").iterdir())


def test_a_killed_push_finishes_at_docker_registry(
    filled: tuple[Store, Descriptor, bytes], docker_registry: DockerRegistry
) -> None:
    store, desc, content = filled
    killed(store, docker_registry.host, desc, 0.4)
    with opened(docker_registry.host, "killed/tiny", store.notes) as target:
        assert not target.exists(desc)
        target.push(desc, store)
        assert read(target, desc, 2 * len(content)) == content


def test_a_proxy_that_takes_small_bodies_only_gets_pieces(
    docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    content = noise(3 * MIB, 3)
    desc = Descriptor.of(content, LAYER)
    memory = Memory()
    memory.content[desc.digest] = content
    require("nginx")
    with (
        small_bodies(docker_registry.host, tmp_path) as host,
        opened(host, "pieces/tiny") as target,
    ):
        target.push(desc, memory)
        assert read(target, desc) == content


@contextlib.contextmanager
def small_bodies(upstream: str, folder: Path) -> Iterator[str]:
    """nginx before a registry, which takes no request with a body of more than 1 MiB."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f'{kind}_temp_path "{folder}/{kind}";' for kind in kinds)
        config = folder / "nginx.conf"
        config.write_text(f"""
            daemon off; worker_processes 1; user {getpass.getuser()};
            pid "{folder}/pid"; error_log stderr warn; events {{ worker_connections 64; }}
            http {{ access_log off; {temporary} client_max_body_size 1m;
                server {{ listen {host};
                    location / {{ proxy_pass http://{upstream}; proxy_set_header Host $http_host; }}
                }}
            }}
        """)
        process = subprocess.Popen(
            ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(config)],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    with process:
        try:
            yield host
        finally:
            process.terminate()


def test_what_is_deleted_is_gone(docker_registry: DockerRegistry) -> None:
    memory = Memory()
    root = memory.image(b"to be deleted")
    with opened(docker_registry.host, "delete/tiny") as target:
        copy(memory, target, root, tag=lambda: target.tag(root, "v1"))
        with pytest.raises(RegistryError, match=r":v1: 400 DIGEST_INVALID.*by digest only"):
            target.delete("v1")
        target.delete(str(root.digest))
        with pytest.raises(NotFoundError):
            target.resolve("v1")
        assert "delete/tiny" in set(target.client.catalog())


def test_referrers_are_kept_under_a_tag_there(docker_registry: DockerRegistry) -> None:
    memory = Memory()
    root = memory.image(b"signed")
    one, two = (memory.image(name, subject=root) for name in (b"one", b"two"))
    with opened(docker_registry.host, "refer/tiny", limits=replace(LIMITS, attempts=3)) as target:
        for desc in (root, one, two):
            copy(memory, target, desc)
        assert {desc.digest for desc in target.referrers(root)} == {one.digest, two.digest}
        target.delete(str(one.digest))
        assert [desc.digest for desc in target.referrers(root)] == [two.digest]
