"""Thousands of disks as a loss of power leaves them: no model is lost, and every verb goes on."""

import contextlib
import dataclasses
import errno
import hashlib
import os
import random
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelpm.content import Sink, read
from modelpm.errors import ModelPMError, StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import is_manifest
from modelpm.store.files import Files
from modelpm.store.layout import Store
from modelpm.transfer import copy
from tests.crash.driver import (
    TAR,
    Scenario,
    judge_success,
    names_of,
    nothing,
    prune,
    pull,
)
from tests.crash.power import MODES, Change, Died, Disk, Recorder
from tests.memory import Scattered
from tests.model.test_archive import entry, tar
from tests.store.drafts import OTHER_BOOT, draft_path, make_draft

STATES = int(os.environ.get("MODELPM_TEST_STATES", "2400"))
"""Disks to judge, of all scenarios together."""

SEED = 5
PIECE = 700
"""Bytes that come at a time, and after which there is a flush."""

DEATHS = 5
"""Random moments at which the first of two processes is killed, beside the worst ones."""

UNSYNCED = {"mkdir", "rename", "move"}
"""A kill right after one of these leaves an entry that no folder was synced for."""

A, B, C = "localhost/a:1", "localhost/b:1", "localhost/c:1"


class Counted(Scattered):
    """A source in one thread, in pieces without order, which counts the bytes it was asked for."""

    def __init__(self) -> None:
        super().__init__({}, PIECE, 1)
        self.asked: Counter[Digest] = Counter()

    def download(self, desc: Descriptor, sink: Sink) -> None:
        self.asked[desc.digest] += sum(stop - start for start, stop in sink.missing())
        super().download(desc, sink)


source = Counted()
_chance = random.Random(3)
SHARED, OLD_LAYER, NEW_LAYER = (_chance.randbytes(size) for size in (3_000, 900, 5_000))
OLD = source.image(SHARED, OLD_LAYER, b"")
NEW = source.image(SHARED, NEW_LAYER, b"little")
OTHER = source.image(NEW_LAYER, config=b"{ }")
TREE = source.index(OLD, source.index(OTHER))
PACKED = source.image(
    source.leaf(tar(entry("shared", SHARED), entry("layer", NEW_LAYER), entry("x", b"x")), TAR)
)


def fetch(store: Store, root: Descriptor, name: str) -> None:
    pull(store, root, name, 1, source)


def one_name(store: Store) -> None:
    fetch(store, OLD, A)


def two_names(store: Store) -> None:
    fetch(store, OLD, A)
    fetch(store, NEW, B)


def unnamed(store: Store) -> None:
    two_names(store)
    fetch(store, TREE, C)
    store.untag({B, C})
    draft = draft_path(store.root, Descriptor("", Digest.of(b"gone"), 4_000))
    make_draft(draft, bytes(4_000), (0, 1_000))


def whole_archive(store: Store) -> None:
    one_name(store)
    copy(source, store, PACKED, tag=lambda: store.tag(PACKED, B))


def half_arrived(store: Store) -> None:
    one_name(store)
    for desc in source.graph(NEW).values():
        if not store.exists(desc) and not is_manifest(desc):
            written, synced = (0, desc.size // 2), (desc.size // 4, desc.size // 3)
            content = source.content[desc.digest]
            make_draft(draft_path(store.root, desc), content, written, synced=(synced,))


SCENARIOS = {
    "first pull": Scenario({A: TREE}, nothing, lambda store, _: fetch(store, TREE, A)),
    "second pull": Scenario({A: OLD, B: NEW}, one_name, lambda store, _: fetch(store, NEW, B)),
    "moved name": Scenario({A: NEW}, one_name, lambda store, _: fetch(store, NEW, A)),
    "resumed pull": Scenario({A: OLD, B: NEW}, half_arrived, lambda store, _: fetch(store, NEW, B)),
    "rm": Scenario({A: OLD}, two_names, lambda store, _: store.untag({B})),
    "cp": Scenario({A: OLD, B: OLD}, two_names, lambda store, _: store.copy(A, B)),
    "prune": Scenario({A: OLD}, unnamed, lambda store, _: prune(store)),
    "unpack": Scenario({A: PACKED}, nothing, lambda store, _: fetch(store, PACKED, A)),
    "unpack whole": Scenario(
        {A: OLD, B: PACKED}, whole_archive, lambda store, _: fetch(store, PACKED, B)
    ),
}
SCENARIOS = {
    name: dataclasses.replace(scenario, small=2, flush=PIECE, source=source)
    for name, scenario in SCENARIOS.items()
}
AFTER_A_KILL: dict[str, tuple[str, Callable[[Store], None] | None]] = {
    "first pull taken over": ("first pull", None),
    "moved name taken over": ("moved name", None),
    "resumed pull taken over": ("resumed pull", None),
    "prune after a killed pull": ("moved name", prune),
    "prune after a killed rm": ("rm", prune),
    "prune after a killed cp": ("cp", prune),
    "prune after a killed prune": ("prune", prune),
    "unpack taken over": ("unpack whole", None),
    "prune after a killed unpack": ("unpack whole", prune),
    "pull after a killed prune": ("prune", lambda store: fetch(store, OLD, A)),
}
"""A verb that is killed at some moment, and what another process does before the power goes.

None is the same again.
"""


class Rebooted(Files):
    """The machine after the power came back."""

    def boot_id(self) -> bytes:
        return OTHER_BOOT

    @contextlib.contextmanager
    def reopen(self, path: Path, *, create: bool = False) -> Iterator[int]:
        """As for a user who is not root, who may open anything."""
        if path.is_file() and not path.stat().st_mode & stat.S_IWUSR:
            raise StoreError(f"opening {path}: {os.strerror(errno.EACCES)}")
        with super().reopen(path, create=create) as fd:
            yield fd


@dataclass
class Recording:
    """What happened to a store from a state on that was all on the disk."""

    scenario: Scenario
    template: Path
    log: list[Change]
    before: dict[str, Digest]
    whole: bool
    """Whether the verb came to its end, if need be at its second attempt."""


def record(
    folder: Path,
    scenario: Scenario,
    *,
    dies: int = -1,
    then: Callable[[Store], None] | None = None,
    kind: type[Recorder] = Recorder,
) -> Recording:
    """Run the verb; or run it up to its death, and then another verb."""
    template, live = folder / "template", folder / "live"
    for each in (template, live):
        shutil.rmtree(each, ignore_errors=True)
    template.mkdir()
    scenario.prepare(scenario.open(template / "store"))
    before = names_of(template / "store") if (template / "store").exists() else {}
    shutil.copytree(template, live)
    source.pause = 0.001  # so that the thread that flushes has its turn
    recorder = kind(live)
    recorder.dies_at = dies
    whole = True
    try:
        scenario.verb(scenario.open(live / "store", recorder), 1)
    except Died:
        # Right after the store's own folder was made, nobody else can know that it is not synced.
        whole = then is None and recorder.log[-1] != Change("mkdir", "store", ())
        recorder.dies_at = -1
        again = scenario.open(live / "store", recorder)
        if then is None:
            scenario.verb(again, 1)
        else:
            then(again)
    source.pause = 0.0
    disk = Disk(template)
    for change in recorder.log:
        disk.apply(change)
    disk.show(folder / "shown", "done", random.Random())
    assert bytes_below(folder / "shown") == bytes_below(live), "not everything was written down"
    shutil.rmtree(folder / "shown")
    return Recording(scenario, template, recorder.log, before, whole)


def blob_path(store: Store, desc: Descriptor) -> Path:
    return store.root / "blobs" / desc.digest.algorithm / desc.digest.hex


def bytes_below(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != "lock" and not path.name.startswith(".")
    }


def judge(recording: Recording, root: Path, *, done: bool) -> None:
    """No name leads to anything but a whole model, and the verb can be run again.

    A verb that was `done` has done so whatever happens to the power.
    """
    scenario = recording.scenario
    store = scenario.open(root, Rebooted())
    problems = store.check()
    assert problems == [], problems
    found = {entry.name: entry.descriptor.digest for entry in store.entries()}
    if done:
        assert found == {name: desc.digest for name, desc in scenario.names.items()}
    for name, digest in recording.before.items():
        after = scenario.names[name].digest if name in scenario.names else None
        assert found.get(name) in {digest, after}, name
    assert set(found) <= set(recording.before) | set(scenario.names)
    for named in store.entries():
        for desc in source.graph(named.descriptor).values():
            is_made = desc.media_type == TAR and not blob_path(store, desc).exists()
            content = read(store, desc, desc.size) if is_made else store.path(desc).read_bytes()
            assert hashlib.sha256(content).hexdigest() == desc.digest.hex
    source.asked.clear()
    scenario.verb(store, 1)
    for digest, asked in source.asked.items():
        assert asked <= len(source.content[digest]), "it believed what was not there"
    judge_success(scenario, store)


def judge_states(recording: Recording, folder: Path, count: int, chance: random.Random) -> None:
    disk = Disk(recording.template)
    applied = 0
    points = sorted(chance.randint(0, len(recording.log)) for _ in range(count))
    for number, point in enumerate(points):
        for change in recording.log[applied:point]:
            disk.apply(change)
        applied = point
        mode = MODES[number % len(MODES)] if number % 2 else "mixed"
        seed = chance.getrandbits(32)
        disk.show(folder / "state", mode, random.Random(seed))
        try:
            done = recording.whole and point == len(recording.log)
            judge(recording, folder / "state/store", done=done)
        except BaseException as error:
            last = recording.log[point - 1] if point else None
            error.add_note(f"{mode}, seed {seed}, after {point} of {len(recording.log)}: {last}")
            raise
        shutil.rmtree(folder / "state")


class NoSync(Recorder):
    """The order of the store, but the bytes of a file are not synced before its rename."""

    def sync(self, fd: int, path: Path) -> None:
        pass


class NoFolderSync(Recorder):
    def sync_folder(self, path: Path) -> None:
        pass


class EarlySync(Recorder):
    """The journal says that bytes are on the disk which are not."""

    def sync_data(self, fd: int, path: Path) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (NoSync, "first pull"),
        (NoSync, "moved name"),
        (NoSync, "cp"),
        (NoFolderSync, "first pull"),
        (NoFolderSync, "moved name"),
        (EarlySync, "second pull"),
        (NoSync, "unpack whole"),
        (NoFolderSync, "unpack whole"),
    ],
)
def test_an_order_that_is_wrong_is_found(name: str, kind: type[Recorder], tmp_path: Path) -> None:
    recording = record(tmp_path, SCENARIOS[name], kind=kind)
    with pytest.raises((AssertionError, ModelPMError)):
        judge_states(recording, tmp_path, 150, random.Random(SEED))


def weights() -> dict[str, int]:
    """How many states each scenario gets."""
    names = [*SCENARIOS, *AFTER_A_KILL]
    return {name: -(-STATES // len(names)) for name in names}


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_loss_of_power_during_a_verb_loses_a_model(name: str, tmp_path: Path) -> None:
    started = time.monotonic()
    recording = record(tmp_path, SCENARIOS[name])
    judge_states(recording, tmp_path, weights()[name], random.Random(SEED))
    seconds = time.monotonic() - started
    print(f"{name}: {weights()[name]} disks of {len(recording.log)} changes, {seconds:.1f} s")


@pytest.mark.parametrize("name", AFTER_A_KILL)
def test_no_loss_of_power_after_a_kill_loses_a_model(name: str, tmp_path: Path) -> None:
    """What a killed process had not synced yet, the next one must not take for granted."""
    started = time.monotonic()
    chance = random.Random(SEED)
    verb, then = AFTER_A_KILL[name]
    log = record(tmp_path, SCENARIOS[verb]).log
    deaths = {number for number, done in enumerate(log, 1) if done.operation in UNSYNCED}
    deaths |= {chance.randrange(len(log)) for _ in range(DEATHS)}
    each = -(-weights()[name] // len(deaths))
    for dies in sorted(deaths - {len(log)}):
        recording = record(tmp_path, SCENARIOS[verb], dies=dies, then=then)
        judge_states(recording, tmp_path, each, chance)
    seconds = time.monotonic() - started
    print(f"{name}: {each} disks after each of {len(deaths)} kills, {seconds:.1f} s")
