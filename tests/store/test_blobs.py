"""Bringing a blob in: resumed, restarted, cut short, in the way, and without room."""

import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest

from modelpm.content import ignore, read
from modelpm.errors import DigestMismatchError, NotFoundError, RegistryError, StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.store.blobs import SEAL, Blobs, _Reader
from modelpm.store.files import Files
from modelpm.store.layout import Store
from tests.memory import LAYER, Memory
from tests.store.damage import HARMS, rewrite
from tests.store.drafts import draft_path, make_draft

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CONTENT = bytes(range(256)) * 10_000  # between two and three chunks
BLOB = Descriptor.of(CONTENT, LAYER)


@pytest.fixture
def source(memory: Memory) -> Memory:
    memory.leaf(CONTENT)
    return memory


@pytest.fixture
def draft(store: Store) -> Path:
    store.prepare()
    return draft_path(store.root, BLOB)


def assert_in_place(store: Store) -> None:
    path = store.root / "blobs/sha256" / BLOB.digest.hex
    assert path.read_bytes() == CONTENT
    state = path.stat()
    assert state.st_mtime == SEAL
    assert state.st_mode & 0o777 == 0o444
    assert list((store.root / "ingest").iterdir()) == []
    assert not {thread.name for thread in threading.enumerate()} & {"hasher", "flusher"}


@pytest.mark.parametrize("size", [1, 2**20, len(CONTENT) - 1])
def test_a_draft_is_gone_on_with(store: Store, source: Memory, draft: Path, size: int) -> None:
    make_draft(draft, CONTENT, (0, size))
    store.push(BLOB, source)
    assert source.fetched == [(BLOB.digest, size)]
    assert_in_place(store)


def test_a_whole_draft_is_only_hashed(store: Store, source: Memory, draft: Path) -> None:
    make_draft(draft, CONTENT, (0, len(CONTENT)))
    store.push(BLOB, source)
    assert source.fetched == []
    assert_in_place(store)


@pytest.mark.parametrize("size", [1, 2**20, len(CONTENT)])
def test_a_draft_with_a_flipped_byte_means_one_clean_restart(
    store: Store, source: Memory, draft: Path, size: int
) -> None:
    content = bytearray(CONTENT)
    content[size // 2] ^= 1
    make_draft(draft, bytes(content), synced=((0, size),))
    store.push(BLOB, source)
    assert [offset for _, offset in source.fetched] == [size, 0][size == len(CONTENT) :]
    assert_in_place(store)


@pytest.mark.parametrize("more", [1, 5_000_000])
def test_a_draft_that_is_too_long_is_begun_again(
    store: Store, source: Memory, draft: Path, more: int
) -> None:
    make_draft(draft, CONTENT + b"x" * more, (0, len(CONTENT) + more))
    store.push(BLOB, source)
    assert source.fetched == [(BLOB.digest, 0)]
    assert_in_place(store)


@pytest.mark.parametrize("harm", ["link", "dangling link", "folder", "pipe", "device"])
def test_a_draft_that_is_no_file_is_refused_at_once_and_pruned(
    store: Store, source: Memory, draft: Path, harm: str
) -> None:
    if harm not in HARMS:
        pytest.skip("only root makes devices")
    outside = store.root.parent / "outside"
    outside.write_bytes(b"outside")
    draft.write_bytes(CONTENT[:10])
    HARMS[harm](draft)
    with pytest.raises(StoreError) as caught:
        store.push(BLOB, source)
    assert str(draft) in str(caught.value)
    assert source.fetched == []
    store.sweep(store.garbage())
    store.push(BLOB, source)
    assert_in_place(store)
    assert outside.read_bytes() == b"outside"


class Served:
    """Serves these bytes one after the other, whatever the offset, and then nothing."""

    def __init__(self, *bodies: bytes, error: Exception | None = None) -> None:
        self.bodies = list(bodies)
        self.error = error
        self.offsets: list[int] = []
        self.given = 0

    @contextlib.contextmanager
    def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        self.offsets.append(offset)
        yield _Counted(self, self.bodies.pop(0)[offset:])


class _Counted(io.BytesIO):
    def __init__(self, served: Served, body: bytes) -> None:
        super().__init__(body)
        self.served = served

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        self.served.given += len(chunk)
        if not chunk and self.served.error is not None:
            raise self.served.error
        return chunk


def test_wrong_bytes_after_a_good_draft_cost_one_restart_and_then_an_error(
    store: Store, draft: Path
) -> None:
    make_draft(draft, CONTENT, (0, 100))
    wrong = CONTENT[:-1] + b"?"
    source = Served(wrong, wrong, wrong)
    with pytest.raises(DigestMismatchError):
        store.push(BLOB, source)
    assert source.offsets == [100, 0]
    assert list(draft.parent.iterdir()) == []
    assert not store.exists(BLOB)


def test_too_many_bytes_end_one_past_the_size(store: Store, draft: Path) -> None:
    source = Served(CONTENT * 4)
    with pytest.raises(DigestMismatchError, match="more than"):
        store.push(BLOB, source)
    assert source.given == len(CONTENT) + 1
    assert list(draft.parent.iterdir()) == []


def test_a_cut_connection_leaves_what_arrived(store: Store, draft: Path, source: Memory) -> None:
    cut = Served(CONTENT[:2_000_000], error=RegistryError("the connection was cut"))
    with pytest.raises(RegistryError):
        store.push(BLOB, cut)
    assert draft.stat().st_size == len(CONTENT)
    store.push(BLOB, source)
    assert source.fetched == [(BLOB.digest, 2_000_000)]
    assert_in_place(store)


def test_an_empty_blob_is_asked_for_and_verified(store: Store, memory: Memory) -> None:
    desc = memory.leaf(b"")
    with pytest.raises(DigestMismatchError):
        store.push(desc, Served(b"x", b"x"))
    store.push(desc, memory)
    assert read(store, desc) == b""


def test_a_failed_sync_is_not_tried_again_on_the_same_file(root: Path, source: Memory) -> None:
    """What a failed fsync left in memory reads well and may be nothing on disk."""
    failing = True

    def before(operation: str, path: Path) -> None:
        if failing and operation == "fsync" and path.parent.name == "ingest":
            raise OSError(5, "Input/output error")

    store = Store(root, files=Files(before))
    with pytest.raises(StoreError, match="Input/output error"):
        store.push(BLOB, source)
    assert list((root / "ingest").iterdir()) == []
    failing = False
    store.push(BLOB, source)
    assert source.fetched == [(BLOB.digest, 0), (BLOB.digest, 0)]
    assert_in_place(store)


@pytest.mark.parametrize("operation", ["write", "truncate", "rename", "remove"])
def test_a_full_disk_is_an_error_with_advice(root: Path, source: Memory, operation: str) -> None:
    def before(what: str, path: Path) -> None:
        if what == operation and path.name.endswith(BLOB.digest.hex):
            raise OSError(28, "No space left on device")

    store = Store(root, files=Files(before))
    wrong = Served(b"x") if operation == "remove" else source
    with pytest.raises(StoreError, match="prune --dry-run"):
        store.push(BLOB, wrong)
    assert not store.exists(BLOB)


LIMITED = """
import resource, sys
from pathlib import Path
from modelpm.errors import StoreError
from modelpm.store.layout import Store
from modelpm.transfer import copy
from tests.memory import Memory
memory = Memory()
root = memory.image(*(bytes([number]) * 300_000 for number in range(12)))
store = Store(Path(sys.argv[1]))
resource.setrlimit(getattr(resource, sys.argv[2]), (int(sys.argv[3]),) * 2)
try:
    copy(memory, store, root, tag=lambda: store.tag(root, "localhost/a:b"))
except StoreError as error:
    print(error)
else:
    print("done")
"""


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("RLIMIT_FSIZE", 100_000, "File too large"),
        ("RLIMIT_NOFILE", 6, "Too many open files"),
        ("RLIMIT_NOFILE", 32, "done"),
    ],
)
def test_limits_of_the_system_are_errors_of_the_store(
    root: Path, limit: str, value: int, said: str
) -> None:
    words = [sys.executable, "-c", LIMITED, str(root), limit, str(value)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    store = Store(root)
    assert store.check() == []
    assert [entry.name for entry in store.entries()] == ["localhost/a:b"] * (said == "done")


def test_sha512_blobs_have_a_folder_of_their_own(store: Store, memory: Memory) -> None:
    desc = memory.leaf(b"content", algorithm="sha512")
    store.push(desc, memory)
    assert (store.root / "blobs/sha512" / desc.digest.hex).read_bytes() == b"content"
    assert [digest for digest, _ in store.garbage().blobs] == [desc.digest]
    store.sweep(store.garbage())
    assert not store.exists(desc)


def test_a_store_that_is_not_ours_to_write_gets_no_seal(store: Store, source: Memory) -> None:
    store.push(BLOB, source)
    path = store.root / "blobs/sha256" / BLOB.digest.hex
    os.utime(path)
    before = path.stat().st_mtime_ns
    assert Store(store.root).exists(BLOB)  # hashed, by one that has written nothing yet
    assert path.stat().st_mtime_ns == before


class _Touching(_Reader):
    """A blob that somebody touches while it is read."""

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        os.utime(self.fileno())
        return super().readinto(buffer)


class _Sealing(_Reader):
    """A blob that another process seals while it is read."""

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        os.utime(self.fileno(), (SEAL, SEAL))
        return super().readinto(buffer)


class _Touched(Blobs):
    reader: type[_Reader] = _Touching

    def _open(self, digest: Digest) -> _Reader:
        return self.reader(self.path(digest))


def test_a_blob_that_changes_while_it_is_read_is_not_sealed(store: Store, source: Memory) -> None:
    store.push(BLOB, source)
    blobs = _Touched(store.root, Files(), ignore)
    blobs.may_seal = True
    rewrite(blobs.path(BLOB.digest), CONTENT)
    assert blobs.is_right(BLOB)
    assert blobs.path(BLOB.digest).stat().st_mtime != SEAL
    assert store.exists(BLOB)
    assert blobs.path(BLOB.digest).stat().st_mtime == SEAL
    rewrite(blobs.path(BLOB.digest), CONTENT)
    blobs.reader = _Sealing
    assert blobs.is_right(BLOB)
    assert blobs.path(BLOB.digest).stat().st_mtime == SEAL


class Overtaken(Files):
    """Files on which another process is quicker: it acts once, between an open and a lock."""

    def __init__(self, act: Callable[[Path], object]) -> None:
        super().__init__()
        self.acts = [act]

    def try_lock(self, fd: int, path: Path, *, exclusive: bool) -> bool:
        if self.acts and path.parent.name == "ingest":
            self.acts.pop()(path)
        return super().try_lock(fd, path, exclusive=exclusive)


def test_a_draft_that_another_gave_up_meanwhile_is_not_written(root: Path, source: Memory) -> None:
    store = Store(root, files=Overtaken(lambda path: path.unlink()))
    store.push(BLOB, source)
    assert_in_place(store)


def test_a_draft_that_another_began_meanwhile_is_gone_on_with(root: Path, source: Memory) -> None:
    def act(path: Path) -> None:
        path.unlink()
        make_draft(path, CONTENT, (0, 1_000))

    store = Store(root, files=Overtaken(act))
    store.push(BLOB, source)
    assert source.fetched == [(BLOB.digest, 1_000)]
    assert_in_place(store)


def test_a_blob_that_another_brought_meanwhile_is_not_touched(root: Path, source: Memory) -> None:
    other = Store(root)
    store = Store(root, files=Overtaken(lambda _: other.push(BLOB, source)))
    store.push(BLOB, source)
    assert source.fetched == [(BLOB.digest, 0)]
    assert_in_place(store)


def test_a_draft_that_goes_while_it_is_swept_is_no_error(store: Store, draft: Path) -> None:
    draft.write_bytes(CONTENT[:10])
    assert store.garbage().drafts
    draft.unlink()
    assert not store._blobs.remove_draft(draft)
    draft.write_bytes(CONTENT[:10])
    blobs = Blobs(store.root, Overtaken(lambda path: path.rename(path.with_name("moved"))), ignore)
    assert not blobs.remove_draft(draft)


def test_what_is_missing_or_unreadable_says_so(store: Store, source: Memory) -> None:
    store.prepare()
    blobs = store._blobs
    with pytest.raises(NotFoundError, match=BLOB.digest.hex):
        blobs.verify(BLOB)
    assert not blobs.is_right(BLOB)
    assert blobs.size(BLOB.digest) is None
    (store.root / "blobs/sha256" / BLOB.digest.hex).mkdir()
    assert blobs.size(BLOB.digest) is None
    with pytest.raises(StoreError):
        blobs.verify(BLOB)


def test_a_read_that_fails_is_the_stores_error_wherever_it_happens(
    store: Store, source: Memory
) -> None:
    store.push(BLOB, source)
    with store.fetch(BLOB) as stream:
        os.close(stream.fileno())
        with pytest.raises(StoreError, match=BLOB.digest.hex):
            stream.read(10)
        buffer = bytearray(10)
        with pytest.raises(StoreError):
            cast("io.FileIO", stream).readinto(buffer)
        os.open(os.devnull, os.O_RDONLY)  # so that closing closes something


def test_an_error_of_the_reader_is_not_the_stores(store: Store, source: Memory) -> None:
    store.push(BLOB, source)
    with pytest.raises(ConnectionError), store.fetch(BLOB):
        raise ConnectionError("of the other end")


def test_names_that_are_no_digests_are_told_apart(store: Store) -> None:
    store.prepare()
    for name in ("A" * 64, "a" * 63, "g" * 64, "a" * 128, ".a"):
        (store.root / "blobs/sha256" / name).write_bytes(b"x")
    (store.root / "blobs/sha256" / ("a" * 64)).write_bytes(b"x")
    found = [digest for digest, _ in store._blobs.stored()]
    assert found.count(None) == 5
    assert Digest("sha256", "a" * 64) in found
    assert len(store.garbage().strays) == 5
