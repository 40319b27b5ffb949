"""Let a verb die, or fail, at each of its file operations, and judge what is left.

    python -m tests.crash.driver SCENARIO kill|fail|EIO|ENOSPC|EDQUOT [JOBS] [STEP]

`fail` takes one of the three errors after the other.

Prints one JSON object: how many points there were, and which operations. Ends with an error at the
first point after which anything is wrong.

Each attempt runs in a fork of this one process instead of a fresh interpreter. What is proved is
the same: a killed process leaves what its system calls have done, and its locks go with its
descriptors. The fork has no file of the store open and no thread running when it begins, and the
judge is another fork, which shares nothing with the killed one but the folder. Only the work of
importing is saved, a thousand times.

Where the tests run as root the forks become somebody else, because root may open any file.
"""

import errno
import gzip
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelpm import unpacking
from modelpm.errors import StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import is_manifest
from modelpm.store.blobs import SEAL, SMALL
from modelpm.store.files import Files
from modelpm.store.ingest import FLUSH_BYTES
from modelpm.store.layout import Store
from modelpm.transfer import copy
from modelpm.unpacking import is_packed
from tests.memory import Memory, Scattered
from tests.model.test_archive import entry, tar
from tests.store.drafts import OTHER_BOOT, draft_path, make_draft

A, B, C = "localhost/a:1", "localhost/b:1", "localhost/c:1"
NOBODY = 65534
MOST_POINTS = 2_000
ENOUGH = 3
"""Attempts in a row that never reach their point: threads do not always do as much."""

CODES = {
    "kill": (0,),
    "fail": (errno.EIO, errno.ENOSPC, errno.EDQUOT),
    "EIO": (errno.EIO,),
    "ENOSPC": (errno.ENOSPC,),
    "EDQUOT": (errno.EDQUOT,),
}
HARMLESS = {"touch", "utime", "chmod"}
"""Operations whose failure is no failure: what they write may be lost."""

FULL = {errno.ENOSPC, errno.EDQUOT}

source = Memory()
SHARED = b"shared " * 200_000  # more than one chunk, and worth a note of its use
OLD = source.image(SHARED, b"old layer", b"")
NEW = source.image(SHARED, b"new layer " * 150_000, b"another", b"")
TREE = source.index(OLD, source.index(source.image(b"deep", config=b"{ }"), NEW))
TAR, GZIP = (
    "application/vnd.cncf.model.weight.v1.tar",
    "application/vnd.cncf.model.weight.v1.tar+gzip",
)
INSIDE = b"inside " * 30_000
PACKED = source.image(
    source.leaf(tar(entry("shared", SHARED), entry("inside", INSIDE), entry("little", b"x")), TAR),
    source.leaf(
        gzip.compress(tar(entry("inside", INSIDE), entry("more", b"more")), 1, mtime=0), GZIP
    ),
)
REPACKED = source.image(source.leaf(tar(entry("other/shared", SHARED), entry("new", b"new")), TAR))
"""Archives that are kept as their files, some of which are shared with other models."""


@dataclass(frozen=True)
class Scenario:
    """A store, a verb on it, and the names afterwards."""

    names: dict[str, Descriptor]
    prepare: Callable[[Store], None]
    verb: Callable[[Store, int], None]
    small: int = SMALL
    """Up to how many bytes a blob has no journal."""
    flush: int = FLUSH_BYTES
    """After how many a flush begins."""
    source: Memory = source

    def open(self, root: Path, files: Files | None = None) -> Store:
        store = Store(root, files=files)
        store._blobs.small, store._blobs.flush_bytes = self.small, self.flush
        return store


def pull(store: Store, root: Descriptor, name: str, jobs: int = 1, source: Memory = source) -> None:
    """What the client does: copy, name, and collect what only the old one needed."""
    old = store.find(name)

    def tag() -> None:
        unpacking.unpack(store, root)
        store.tag(root, name)

    copy(source, store, root, tag=tag, jobs=jobs)
    if old is not None and old.descriptor.digest != root.digest:
        store.sweep(store.garbage().only(store.reach(old.descriptor)))


def prune(store: Store) -> None:
    store.sweep(store.garbage())


def nothing(_store: Store) -> None:
    pass


def two_names(store: Store) -> None:
    pull(store, OLD, A)
    pull(store, NEW, B)


def half_arrived(store: Store) -> None:
    """Both layers of the new one were cut; one of them has gone bad since."""
    two_names(store)
    store.untag({B})
    prune(store)
    for number, desc in enumerate(source.graph(NEW).values()):
        if not store.exists(desc) and not is_manifest(desc):
            content, half = source.content[desc.digest], desc.size // 2
            content = content[: half - 1] + b"?" + content[half:] if number % 2 else content
            make_draft(draft_path(store.root, desc), content, (0, half))


def rebooted(store: Store) -> None:
    """Both layers were cut when the machine went down; some of it had been synced."""
    two_names(store)
    store.untag({B})
    prune(store)
    for desc in source.graph(NEW).values():
        if not store.exists(desc) and not is_manifest(desc):
            make_draft(
                draft_path(store.root, desc),
                source.content[desc.digest],
                (0, desc.size // 2),
                synced=((desc.size // 4, desc.size // 3),),
                boot=OTHER_BOOT,
            )


def damaged(store: Store) -> None:
    """A layer became a folder, another lost its end, a third its seal and its bytes."""
    pull(store, NEW, B)
    folder, cut, changed = (
        store.root / "blobs/sha256" / desc.digest.hex
        for desc in source.graph(NEW).values()
        if not is_manifest(desc) and desc.size > 2
    )
    folder.unlink()
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/file").write_bytes(b"x")
    for path, content in ((cut, b"cut"), (changed, b"ANOTHER")):
        path.chmod(0o644)
        path.write_bytes(content)


def whole(store: Store) -> None:
    """An archive came in by a program that did not look into it, and its name is there."""
    copy(source, store, PACKED, tag=lambda: store.tag(PACKED, A))


def unnamed_archives(store: Store) -> None:
    """Nobody needs the archives any more; a file in them is another model's layer."""
    pull(store, OLD, A)
    pull(store, PACKED, B)
    store.untag({B})


def littered(store: Store) -> None:
    """All that a prune takes: unnamed blobs, drafts, trash, dead leases, notes, foreign files."""
    two_names(store)
    pull(store, TREE, C)
    store.untag({B, C})
    root = store.root
    (root / "ingest" / f"sha256-{Digest.of(b'gone').hex}").write_bytes(b"half")
    (root / "ingest/foreign").write_bytes(b"x")
    (root / "leases/0123456789abcdef.json").write_text(f'["{NEW.digest}"]')
    (root / "trash/0123456789abcdef").write_bytes(b"x" * 100)
    (root / "trash/folder/inner").mkdir(parents=True)
    (root / "trash/folder/inner/file").write_bytes(b"x")
    (root / "blobs/sha256/foreign").write_bytes(b"x")
    (root / "used" / f"sha256-{Digest.of(b'gone').hex}").write_bytes(b"note")
    (root / "used/.sha256-note.0123456789abcdef").write_bytes(b"note")
    (root / ".index.json.0123456789abcdef").write_bytes(b"{}")


streams = Scattered(source.content, 100_000, 3)
SCENARIOS = {
    "first pull": Scenario({A: TREE}, nothing, lambda store, jobs: pull(store, TREE, A, jobs)),
    "pull": Scenario({A: NEW}, lambda s: pull(s, OLD, A), lambda s, jobs: pull(s, NEW, A, jobs)),
    "resume": Scenario(
        {A: OLD, B: NEW}, half_arrived, lambda store, jobs: pull(store, NEW, B, jobs)
    ),
    "download": Scenario(
        {A: NEW},
        nothing,
        lambda store, jobs: pull(store, NEW, A, jobs, streams),
        small=3,
        flush=100_000,
    ),
    "download on": Scenario(
        {A: OLD, B: NEW},
        rebooted,
        lambda store, jobs: pull(store, NEW, B, jobs, streams),
        flush=100_000,
    ),
    "heal": Scenario({B: NEW}, damaged, lambda store, jobs: pull(store, NEW, B, jobs)),
    "rm": Scenario({A: OLD}, two_names, lambda store, _: store.untag({B})),
    "cp": Scenario({A: OLD, B: OLD}, two_names, lambda store, _: store.copy(A, B)),
    "prune": Scenario({A: OLD}, littered, lambda store, _: prune(store)),
    "unpack": Scenario({A: PACKED}, nothing, lambda s, jobs: pull(s, PACKED, A, jobs)),
    "unpack whole": Scenario({A: PACKED}, whole, lambda s, jobs: pull(s, PACKED, A, jobs)),
    "unpack another": Scenario(
        {A: REPACKED}, lambda s: pull(s, PACKED, A), lambda s, jobs: pull(s, REPACKED, A, jobs)
    ),
    "prune archives": Scenario({A: OLD}, unnamed_archives, lambda store, _: prune(store)),
}


class Doomed(Files):
    """Files that die, or fail with `code`, before the k-th operation."""

    def __init__(self, at: int, code: int = 0) -> None:
        super().__init__(self.step)
        self.at = at
        self.code = code
        self.count = 0
        self.operation = ""
        self.path = Path()
        self.lock = threading.Lock()

    def step(self, operation: str, path: Path) -> None:
        with self.lock:
            self.count += 1
            if self.count != self.at:
                return
            self.operation, self.path = operation, path
            print(f"{operation} {path.name}", file=sys.stderr, flush=True)
        if self.code:
            raise OSError(self.code, os.strerror(self.code))
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()  # the signal is on its way

    @property
    def was_harmless(self) -> bool:
        """Whether a verb may get through all the same: names are deleted on a full disk too."""
        of_names = self.path.name.startswith(".index.json.") or self.path.name == "store"
        deletes = self.code in FULL and of_names
        return deletes or self.operation in HARMLESS or self.path.name == "reserve"


def attempt(scenario: Scenario, root: Path, at: int, code: int, jobs: int) -> bool:
    """Run the verb once; whether it got through without reaching the point."""
    files = Doomed(at, code)
    failure = None
    try:
        scenario.verb(scenario.open(root, files), jobs)
    except StoreError as error:
        failure = str(error)
    done = not files.operation
    if failure is not None:
        assert not done, f"it failed by itself: {failure}"
        assert os.strerror(code) in failure, failure
        return False
    assert done or files.was_harmless, f"a failed {files.operation} passed for success"
    return done


def judge(scenario: Scenario, root: Path, before: dict[str, Digest], damaged: bool) -> None:
    """What must hold after a death or a failure, and after the same verb once more."""
    store = scenario.open(root)
    problems = store.check()
    assert damaged or problems == [], problems
    for name, digest in before.items():
        found = store.find(name)
        if name in scenario.names:
            assert found is not None
            assert found.descriptor.digest in {digest, scenario.names[name].digest}
        else:
            assert found is None or found.descriptor.digest == digest
    scenario.verb(store, 1)
    judge_success(scenario, store)


def judge_success(scenario: Scenario, store: Store) -> None:
    names = {name: desc.digest for name, desc in scenario.names.items()}
    assert {e.name: e.descriptor.digest for e in store.entries()} == names
    problems = store.check()
    assert problems == [], problems
    graphs = [scenario.source.graph(desc) for desc in scenario.names.values()]
    needed = {digest for graph in graphs for digest in graph}
    archives = {
        layer.digest: layer for graph in graphs for layer in graph.values() if is_packed(layer)
    }
    for layer in archives.values():
        files = store.unpacked(layer)
        assert files is not None
        needed |= {file.descriptor.digest for file in files}
    needed -= {layer.digest for layer in archives.values() if layer.media_type == TAR}
    stored = {digest for digest, _ in store._blobs.stored()}
    assert needed <= stored
    prune(store)
    assert not store.garbage()
    left = {str(p.relative_to(store.root)) for p in store.root.rglob("*") if not p.is_dir()}
    blobs = {f"blobs/{d.algorithm}/{d.hex}" for d in needed}
    notes = {f"used/{d.algorithm}-{d.hex}" for d in needed | archives.keys()}
    recipes = {f"recipes/{d.algorithm}-{d.hex}" for d in archives}
    left -= notes | {"reserve"}
    assert left == blobs | recipes | {"index.json", "oci-layout", "modelpm.json", "lock"}
    for blob in blobs:
        state = (store.root / blob).stat()
        assert int(state.st_mtime) == SEAL, blob
        assert state.st_size == 0 or not state.st_mode & 0o022, blob


def fork(work: Callable[[], object]) -> int:
    """Do this in a fork; 0, 1 for an exception, or minus the signal that ended it."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        end = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            end = 2 if work() else 0
        finally:
            if end == 1:
                traceback.print_exc()
                sys.stderr.flush()
            os._exit(end)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def names_of(root: Path) -> dict[str, Digest]:
    return {entry.name or "": entry.descriptor.digest for entry in Store(root).entries()}


def run(name: str, how: str, jobs: int, step: int, folder: Path) -> Counter[str]:
    """Every point of one scenario; how often each operation was the point."""
    scenario = SCENARIOS[name]
    template, root = folder / "template", folder / "store"
    assert fork(lambda: scenario.prepare(Store(template))) == 0
    before = names_of(template) if template.exists() else {}
    operations: Counter[str] = Counter()
    log = folder / "log"
    finished = 0
    for at in itertools.count(1, step):
        assert at < MOST_POINTS, "it never ends"
        code = CODES[how][at % len(CODES[how])]

        def doomed(at: int = at, code: int = code) -> bool:
            if template.exists():
                shutil.copytree(template, root)
            sys.stderr = log.open("w")
            return attempt(scenario, root, at, code, jobs)

        def judged() -> None:
            judge(scenario, root, before, damaged=name in {"heal", "prune"})
            shutil.rmtree(root)

        end = fork(doomed)
        told = log.read_text()
        assert end in (0, 2, -signal.SIGKILL), f"point {at}: {end}: {told}"
        assert (end == 2) == (not told), told
        assert fork(judged) == 0, f"after point {at}: {told}"
        if end == 2:
            finished += 1
            if finished == ENOUGH:
                return operations
            continue
        finished = 0
        operations[told.split()[0]] += 1
    raise AssertionError("not reached")


def main(name: str, how: str = "kill", jobs: str = "1", step: str = "1") -> None:
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        operations = run(name, how, int(jobs), int(step), folder)
        print(json.dumps({"points": operations.total(), "operations": operations}))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
