"""The same with nothing left out: `Client.pull` from a registry, in an interpreter of its own."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import build
import pytest
from registry import Registry

from modelpm.client import Client
from modelpm.content import read_manifest
from modelpm.store.blobs import SMALL
from modelpm.store.layout import Store
from tests.crash.power import MODES, Disk, Recorder
from tests.memory import Memory

LONG = bool(os.environ.get("MODELPM_TEST_LONG"))
POINTS = 10_000 if LONG else 6

PULL = """
import sys
from pathlib import Path
from modelpm.client import Client
from modelpm.store.layout import Store
from tests.crash.driver import Doomed

home, registry, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
files = Doomed(at)
with Client(home, default_registry=registry) as client:
    client.store = Store(home, files=files)
    client.pull("model")
print(files.count)
"""


def pull(home: Path, registry: str, at: int) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", PULL, str(home), registry, str(at)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def test_a_pull_killed_anywhere_is_run_again(tmp_path: Path, loopback: Registry) -> None:
    registry = f"{loopback.host}/library"
    first, second = (make() for make in list(build.LAYOUTS.values())[:2])
    loopback.content.add("library/other", "latest", first)
    loopback.content.add("library/model", "latest", first)
    with Client(tmp_path / "before", default_registry=registry) as client:
        client.pull("other")
        old = client.pull("model").digest
    loopback.content.add("library/model", "latest", second)
    shutil.copytree(tmp_path / "before", tmp_path / "whole")
    whole = pull(tmp_path / "whole", registry, 0)
    assert whole.returncode == 0, whole.stderr
    total = int(whole.stdout)
    assert total > 20
    points = range(1, total + 1, max(1, total // POINTS))
    for at in points:
        home = tmp_path / f"home-{at}"
        shutil.copytree(tmp_path / "before", home)
        killed = pull(home, registry, at)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        with Client(home, default_registry=registry) as client:
            assert client.store.check() == []
            assert {model.short_name for model in client.list()} == {"other:latest", "model:latest"}
            for model in client.list():
                assert model.path.exists()
            new = client.pull("model")
            assert new.digest != old
            assert client.get("other").digest == old
            assert client.store.check() == []
            client.prune(client.garbage())
            assert not client.garbage()
        shutil.rmtree(home)
    print(f"{len(points)} of {total} points of a pull through the client")


@pytest.mark.parametrize("killed", [False, True])
def test_what_a_pull_has_mended_outlives_a_loss_of_power(
    tmp_path: Path, loopback: Registry, killed: bool
) -> None:
    """The name is there already and stays: no new one makes the blob's own name durable."""
    loopback.content.add("library/model", "latest", next(iter(build.LAYOUTS.values()))())
    live = tmp_path / "live"
    with Client(live / "home", default_registry=f"{loopback.host}/library") as client:
        manifest = read_manifest(client.store, client.pull("model").descriptor)
        config = next(leaf for leaf in manifest.successors if leaf.size <= SMALL)
        content = client.store._blobs.path(config.digest).read_bytes()
        client.store._blobs.path(config.digest).unlink()
        shutil.copytree(live, tmp_path / "before")
        recorder = Recorder(live)
        client.store = Store(live / "home", files=recorder)
        if killed:  # with the blob's name given, but not synced
            memory = Memory()
            memory.content[config.digest] = content
            client.store.push(config, memory)
            client.store = Store(live / "home", files=recorder)
        client.pull("model")
    disk = Disk(tmp_path / "before")
    for change in recorder.log:
        disk.apply(change)
    for mode in MODES:
        disk.show(tmp_path / mode, mode, random.Random(1))
        assert Store(tmp_path / mode / "home").check() == [], mode
