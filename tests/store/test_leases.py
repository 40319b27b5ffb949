"""Leases: live as long as their holder, and never read in vain."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelpm.errors import StoreError
from modelpm.oci.descriptor import Digest
from modelpm.store.files import Files
from modelpm.store.layout import Store
from modelpm.store.leases import Leases
from tests.memory import Memory
from tests.store.damage import HARMS

D1, D2 = Digest.of(b"1"), Digest.of(b"2", "sha512")


@pytest.fixture
def leases(store: Store) -> Leases:
    store.prepare()
    return store._leases


def files_of(store: Store) -> list[Path]:
    return list((store.root / "leases").iterdir())


def test_a_lease_lives_as_long_as_it_is_held(store: Store, leases: Leases) -> None:
    with leases.hold([D1, D2, D1]):
        assert sorted(leases.live()) == [D1, D2]
        with leases.hold([D1]):
            assert sorted(leases.live()) == [D1, D1, D2]
        assert sorted(leases.live()) == [D1, D2]
        assert list(leases.dead()) == []
    assert list(leases.live()) == []
    assert files_of(store) == []


def test_a_lease_ends_with_an_error_too(store: Store, leases: Leases) -> None:
    with pytest.raises(KeyboardInterrupt), leases.hold([D1]):
        raise KeyboardInterrupt
    assert files_of(store) == []


def test_a_lease_that_cannot_be_written_leaves_nothing(store: Store) -> None:
    store.prepare()

    def before(operation: str, path: Path) -> None:
        if operation == "write" and path.parent.name == "leases":
            raise OSError(28, "No space left on device")

    with (
        pytest.raises(StoreError, match="prune --dry-run"),
        Leases(store.root, Files(before)).hold([D1]),
    ):
        pytest.fail("it was held")
    assert files_of(store) == []


def test_the_lease_of_a_dead_process_is_dead(store: Store, leases: Leases) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from modelpm.oci.descriptor import Digest\n"
        "from modelpm.store.layout import Store\n"
        "store = Store(Path(sys.argv[1])); store.prepare()\n"
        "lease = store._leases.hold([Digest.of(b'1')]); lease.__enter__()\n"
        "print(len(list(store._leases.live())), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    words = [sys.executable, "-c", code, str(store.root)]
    done = subprocess.run(words, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (-9, b"1\n")
    assert list(leases.live()) == []
    assert list(leases.dead()) == files_of(store)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'["sha256:x"]', b"[7]", b"\xff"])
def test_a_live_lease_that_cannot_be_read_stops_the_plan(
    store: Store, memory: Memory, leases: Leases, content: bytes
) -> None:
    store.push(memory.leaf(b"garbage"), memory)
    garbage = store.garbage()
    with leases.hold([D1]):
        files_of(store)[0].write_bytes(content)
        for plan in (None, garbage):
            with pytest.raises(StoreError, match="lease"):
                store.sweep(plan or store.garbage())
    assert store.exists(memory.leaf(b"garbage"))
    assert len(store.garbage().blobs) == 1


@pytest.mark.parametrize("content", [b"", b"{", b'["sha256:x"]'])
def test_a_dead_lease_is_swept_whatever_is_in_it(
    store: Store, leases: Leases, content: bytes
) -> None:
    (store.root / "leases/0123.json").write_bytes(content)
    assert [file.path.name for file in store.garbage().strays] == ["0123.json"]
    store.sweep(store.garbage())
    assert files_of(store) == []


@pytest.mark.parametrize("harm", ["link", "dangling link", "folder", "pipe"])
def test_a_lease_that_is_no_file_stops_the_plan(store: Store, leases: Leases, harm: str) -> None:
    path = store.root / "leases/0123.json"
    path.write_bytes(b"[]")
    HARMS[harm](path)
    with pytest.raises(StoreError):
        store.garbage()


def test_other_files_among_the_leases_are_left_alone(store: Store, leases: Leases) -> None:
    (store.root / "leases/README").write_bytes(b"hello")
    assert not store.garbage()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody who may not read")
def test_leases_that_may_not_be_listed_stop_the_plan(tmp_path: Path) -> None:
    """A listing that fails must never look like an empty one."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from modelpm.errors import StoreError\n"
        "from modelpm.store.layout import Store\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "store = Store(Path(sys.argv[1])); store.prepare()\n"
        "for name in ('leases', 'blobs/sha256', 'ingest', 'used', 'trash', 'index.json', ''):\n"
        "    path = store.root / name\n"
        "    path.chmod(0)\n"
        "    try:\n"
        "        store.garbage()\n"
        "    except StoreError:\n"
        "        print('stopped')\n"
        "    path.chmod(0o755)\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    for folder in home.parents:
        if folder.stat().st_uid == 0 and folder != Path("/") and folder.name != "tmp":
            folder.chmod(folder.stat().st_mode | 0o011)
    words = [sys.executable, "-c", code, str(home / "store")]
    done = subprocess.run(words, capture_output=True, timeout=60, text=True)
    assert done.stdout.splitlines() == ["stopped"] * 7, done.stderr
