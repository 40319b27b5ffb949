"""Drafts: what is believed of them, in which order bytes may come, and how their threads fail."""

import contextlib
import errno
import itertools
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Self

import pytest

from modelpm.content import Sink
from modelpm.errors import DigestMismatchError, RegistryError, StoreError
from modelpm.oci.descriptor import Descriptor
from modelpm.store.files import Files
from modelpm.store.ingest import KEPT_AHEAD, MAX_JOURNAL, Ingest, Ranges, journal_path
from modelpm.store.layout import Store
from modelpm.transfer import copy
from tests.memory import LAYER, Memory
from tests.store.damage import HARMS
from tests.store.drafts import OTHER_BOOT, boot_record, draft_path, journal, make_draft, record

CONTENT = random.Random(1).randbytes(5_000)
BLOB = Descriptor.of(CONTENT, LAYER)
SOON = 20.0
"""Seconds within which what has failed must have said so."""

RECORD = 24


@pytest.fixture
def store(root: Path) -> Store:
    """A store that keeps a journal of the smallest blob."""
    return small_store(root, Files())


def small_store(root: Path, files: Files, flush_bytes: int = 2**30) -> Store:
    store = Store(root, files=files)
    store.prepare()
    store._blobs.small = 0
    store._blobs.flush_bytes = flush_bytes
    return store


@pytest.fixture
def draft(store: Store) -> Path:
    return draft_path(store.root, BLOB)


@contextlib.contextmanager
def opened(
    draft: Path,
    desc: Descriptor = BLOB,
    files: Files | None = None,
    flush_bytes: int = 2**30,
    kind: type[Ingest] = Ingest,
) -> Iterator[Ingest]:
    files = files or Files()
    with (
        files.reopen(draft, create=True) as fd,
        files.reopen(journal_path(draft), create=True) as journal_fd,
        kind(fd, draft, journal_fd, desc, files, flush_bytes) as ingest,
    ):
        yield ingest


class Pieces:
    """A Downloader that writes what is missing in pieces, and counts what it was asked for."""

    def __init__(self, content: bytes = CONTENT, piece: int = 100) -> None:
        self.content = content
        self.piece = piece
        self.asked: list[tuple[int, int]] = []

    def fetch(
        self, desc: Descriptor, offset: int = 0
    ) -> contextlib.AbstractContextManager[BinaryIO]:
        raise AssertionError("it knows better")

    def download(self, desc: Descriptor, sink: Sink) -> None:
        for start, stop in sink.missing():
            self.asked.append((start, stop))
            for position in range(start, stop, self.piece):
                sink.write(position, self.content[position : min(stop, position + self.piece)])


def assert_in_place(store: Store, content: bytes = CONTENT) -> None:
    desc = Descriptor.of(content, LAYER)
    assert (store.root / "blobs/sha256" / desc.digest.hex).read_bytes() == content
    assert list((store.root / "ingest").iterdir()) == []
    assert_no_threads()


def assert_no_threads() -> None:
    assert not {thread.name for thread in threading.enumerate()} & {"hasher", "flusher"}


# The set of bytes.


@pytest.mark.parametrize("seed", range(40))
def test_ranges_are_a_set_of_bytes(seed: int) -> None:
    chance = random.Random(seed)
    size = chance.choice([1, 8, 40, 200])
    ranges, model = Ranges(), set[int]()
    for _ in range(chance.randrange(60)):
        start = chance.randint(0, size)
        stop = chance.randint(0, size)
        assert ranges.meets(start, stop) == bool(model & set(range(start, stop)))
        ranges.add(start, stop)
        model |= set(range(start, stop))
        listed = list(ranges)
        assert {byte for start, stop in listed for byte in range(start, stop)} == model
        edges = [edge for each in listed for edge in each]
        assert edges == sorted(set(edges)), "sorted, and apart from one another"
        missing = [byte for start, stop in ranges.missing(size) for byte in range(start, stop)]
        assert missing == [byte for byte in range(size) if byte not in model]
        position = chance.randint(0, size)
        end = position
        while end in model:
            end += 1
        assert ranges.end_from(position) == end


# What is believed.


def test_what_is_missing_is_asked_for_and_nothing_else(store: Store, draft: Path) -> None:
    make_draft(draft, CONTENT, (0, 10), (1_000, 1_500), (1_500, 2_000), (4_990, 5_000))
    source = Pieces()
    store.push(BLOB, source)
    assert source.asked == [(10, 1_000), (2_000, 4_990)]
    assert_in_place(store)


def test_a_plain_source_is_asked_for_one_range_after_the_other(store: Store, draft: Path) -> None:
    make_draft(draft, CONTENT, (0, 10), (1_000, 2_000))
    source = Memory()
    source.leaf(CONTENT)
    store.push(BLOB, source)
    assert [offset for _, offset in source.fetched] == [10, 2_000]
    assert_in_place(store)


def test_a_journal_torn_at_any_byte_is_believed_up_to_there(store: Store, draft: Path) -> None:
    content = journal((0, 100), (200, 300), synced=((400, 500),))
    assert len(content) == 4 * RECORD
    for length in range(len(content) + 1):
        make_draft(draft, CONTENT, (0, 100), (200, 300), synced=((400, 500),))
        journal_path(draft).write_bytes(content[:length])
        with opened(draft) as ingest:
            whole = length // RECORD
            ranges = [(0, 100), (200, 300), (400, 500)][: max(0, whole - 1)]
            assert list(ingest._written) == ranges
        expected = content[: whole * RECORD] or boot_record(Files().boot_id())
        assert journal_path(draft).read_bytes() == expected
        assert draft.stat().st_size == len(CONTENT)


def test_a_journal_with_any_byte_flipped_is_believed_up_to_there(store: Store, draft: Path) -> None:
    content = journal((0, 100), (200, 300), synced=((400, 500),))
    for position in range(len(content)):
        make_draft(draft, CONTENT, (0, 100), (200, 300), synced=((400, 500),))
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        journal_path(draft).write_bytes(flipped)
        with opened(draft) as ingest:
            ranges = [(0, 100), (200, 300), (400, 500)][: max(0, position // RECORD - 1)]
            assert list(ingest._written) == ranges


def test_after_the_machine_went_down_only_what_was_synced_counts(store: Store, draft: Path) -> None:
    make_draft(draft, CONTENT, (0, 3_000), synced=((500, 1_000),), boot=OTHER_BOOT)
    source = Pieces()
    with pytest.raises(RegistryError):
        store.push(BLOB, Cut(source, 700))
    assert source.asked == [(0, 500), (1_000, 5_000)]
    source.asked.clear()
    store.push(BLOB, source)  # in this start of the machine all counts that was written in it
    assert source.asked == [(1_200, 5_000)]
    assert_in_place(store)


class Cut(Pieces):
    """A source that is cut after so many bytes."""

    def __init__(self, source: Pieces, left: int) -> None:
        super().__init__(source.content, source.piece)
        self.asked = source.asked
        self.left = left

    def download(self, desc: Descriptor, sink: Sink) -> None:
        super().download(desc, _CutSink(self, sink))


class _CutSink:
    def __init__(self, cut: Cut, sink: Sink) -> None:
        self.cut, self.sink = cut, sink

    def missing(self) -> list[tuple[int, int]]:
        return self.sink.missing()

    def write(self, offset: int, chunk: bytes) -> None:
        if self.cut.left <= 0:
            raise RegistryError("cut")
        if offset >= 1_000 and self.cut.asked[-1][0] < 1_000:
            raise AssertionError("beyond what was asked for")
        self.cut.left -= len(chunk)
        self.sink.write(offset, chunk)


def test_where_starts_of_the_machine_have_no_name_only_what_was_synced_counts(root: Path) -> None:
    class Nameless(Files):
        def boot_id(self) -> bytes:
            return b""

    store = small_store(root, Nameless())
    make_draft(draft_path(root, BLOB), CONTENT, (0, 1_000), synced=((0, 10),), boot=b"")
    source = Pieces()
    store.push(BLOB, source)
    assert source.asked == [(10, 5_000)]


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\0" * 240,
        b"x" * 23,
        random.Random(2).randbytes(4_096),
        record(b"writ", 0, 100),  # of no start of the machine
        journal((0, 6_000)),
        journal((4_000, 2**64 - 1)),
        journal((300, 200)),
        boot_record(OTHER_BOOT),
    ],
)
def test_a_journal_that_says_nothing_means_all_is_fetched(
    store: Store, draft: Path, content: bytes | None
) -> None:
    draft.write_bytes(b"?" * len(CONTENT))
    if content is not None:
        journal_path(draft).write_bytes(content)
    source = Pieces()
    store.push(BLOB, source)
    assert source.asked == [(0, 5_000)]
    assert_in_place(store)


def test_an_endless_journal_is_read_up_to_a_limit(store: Store, draft: Path) -> None:
    make_draft(draft, CONTENT, (0, 100))
    with journal_path(draft).open("r+b") as stream:
        stream.truncate(2**40)
    started = time.monotonic()
    source = Pieces()
    store.push(BLOB, source)
    assert source.asked == [(100, 5_000)]
    assert time.monotonic() - started < SOON
    assert_in_place(store)
    make_draft(draft, CONTENT)
    count = MAX_JOURNAL // RECORD + 10
    content = boot_record(Files().boot_id()) + record(b"none", 0, 0) * (count - 2)
    journal_path(draft).write_bytes(content + record(b"writ", 0, 100))
    with opened(draft) as ingest:
        assert ingest.missing() == [(0, 5_000)]


@pytest.mark.parametrize("harm", ["link", "dangling link", "folder", "pipe", "device"])
def test_a_journal_that_is_no_file_is_refused_at_once_and_pruned(
    store: Store, draft: Path, harm: str
) -> None:
    if harm not in HARMS:
        pytest.skip("only root makes devices")
    outside = store.root.parent / "outside"
    outside.write_bytes(b"outside")
    make_draft(draft, CONTENT, (0, 100))
    HARMS[harm](journal_path(draft))
    source = Pieces()
    with pytest.raises(StoreError) as caught:
        store.push(BLOB, source)
    assert str(journal_path(draft)) in str(caught.value)
    assert source.asked == []
    elsewhere = [path.read_bytes() for path in store.root.parent.glob("elsewhere-*")]
    assert elsewhere in ([], [journal((0, 100))])
    store.sweep(store.garbage())
    assert list(draft.parent.iterdir()) == []
    store.push(BLOB, source)
    assert_in_place(store)
    assert outside.read_bytes() == b"outside"


@pytest.mark.parametrize("size", [0, 1, 4_999, 5_001])
def test_a_draft_of_another_length_is_begun_again(store: Store, draft: Path, size: int) -> None:
    make_draft(draft, CONTENT, synced=((0, 5_000),))
    os.truncate(draft, size)
    source = Pieces()
    store.push(BLOB, source)
    assert source.asked == [(0, 5_000)]
    assert_in_place(store)


@pytest.mark.parametrize("right", [True, False])
def test_synced_bytes_that_rotted_cost_one_whole_fetch(
    store: Store, draft: Path, right: bool
) -> None:
    make_draft(draft, b"?" + CONTENT[1:], (0, 5), synced=((0, 4_000),))
    source = Pieces(CONTENT if right else CONTENT[:-1] + b"?")
    if right:
        store.push(BLOB, source)
        assert_in_place(store)
    else:
        with pytest.raises(DigestMismatchError):
            store.push(BLOB, source)
        assert list(draft.parent.iterdir()) == []
        assert not store.exists(BLOB)
    assert source.asked == [(4_000, 5_000), (0, 5_000)]


def test_a_stream_of_small_pieces_does_not_fill_the_journal(store: Store, draft: Path) -> None:
    content = bytes(2**20)
    desc = Descriptor.of(content, LAYER)
    with opened(draft, desc) as ingest:
        for offset in range(0, 2**19, 512):
            ingest.write(offset, bytes(512))
        ingest.write(700_000, bytes(10))
        assert journal_path(draft).stat().st_size == 3 * RECORD
    with opened(draft, desc) as ingest:  # the end of an attempt leaves nothing unsaid
        assert ingest.missing() == [(2**19, 700_000), (700_010, 2**20)]


# The order of the bytes.


@pytest.mark.parametrize("seed", range(25))
def test_bytes_in_any_order_from_several_threads_are_hashed_in_theirs(
    draft: Path, seed: int
) -> None:
    chance = random.Random(seed)
    largest = chance.choice([700, 50_000, 3 * 2**20])
    content = chance.randbytes(chance.randint(largest, min(100 * largest, KEPT_AHEAD * 2)))
    desc = Memory().leaf(content, algorithm=chance.choice(["sha256", "sha512"]))
    edges = {0, len(content)}
    while len(edges) < 4 or max(b - a for a, b in pairs(edges)) > largest:
        edges |= {start + (stop - start) // 2 for start, stop in pairs(edges)}
        edges |= {chance.randint(0, len(content)) for _ in range(5)}
    todo = pairs(edges)
    if chance.random() < 0.8:
        chance.shuffle(todo)
    failures: list[BaseException] = []

    def work(ingest: Ingest) -> None:
        try:
            while todo:
                start, stop = todo.pop()
                ingest.write(start, content[start:stop])
        except IndexError:
            pass
        except StoreError as error:
            failures.append(error)

    cut = len(todo) // 3 if chance.random() < 0.5 else 0
    kept, todo = todo[:cut], todo[cut:]
    flush = chance.choice([1, 10_000, 2**30])
    for rest in (kept, []):
        with opened(draft, desc, flush_bytes=flush) as ingest:
            threads = [threading.Thread(target=work, args=(ingest,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failures
            assert sum(b - a for a, b in ingest.missing()) == sum(b - a for a, b in rest)
            if not rest:
                ingest.verify()
        if not rest:
            break
        todo = rest
    assert draft.read_bytes() == content


def pairs(edges: set[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(sorted(edges)))


def test_far_ahead_of_the_hasher_nothing_is_taken_for_what_is_there(draft: Path) -> None:
    """Small pieces at the start, and a kept one behind a hole that is still to come."""
    with opened(draft) as ingest:
        ingest.write(3_000, CONTENT[3_000:])
        for offset in range(0, 3_000, 10):
            ingest._kept.pop(offset, None)
            ingest.write(offset, CONTENT[offset : offset + 10])
            time.sleep(0 if offset % 500 else 0.002)
        ingest.verify()


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (99, 2), (50, 10), (0, 5_000), (199, 1)])
def test_no_byte_is_written_twice(draft: Path, offset: int, size: int) -> None:
    """What is in the file would not be what was hashed."""
    with opened(draft) as ingest:
        ingest.write(0, CONTENT[:100])
        ingest.write(150, CONTENT[150:200])
        with pytest.raises(StoreError, match="no bytes at"):
            ingest.write(offset, b"?" * size)
    assert b"?" * size not in draft.read_bytes()[:200] or size == 1


def test_no_byte_is_written_past_the_end(draft: Path) -> None:
    with opened(draft) as ingest:
        with pytest.raises(DigestMismatchError, match="more than 5000"):
            ingest.write(4_999, b"??")
        assert draft.stat().st_size == 5_000


class Lying(Pieces):
    """A Downloader that says it is done when it is not, or brings more than there is."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def download(self, desc: Descriptor, sink: Sink) -> None:
        self.asked += sink.missing()
        if self.what == "less":
            sink.write(10, self.content[10:])
        elif self.what == "more":
            sink.write(0, self.content + b"x")
        elif self.what == "twice":
            sink.write(0, self.content)
            sink.write(5, b"?")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nothing", "0 bytes arrived"),
        ("less", "4990 bytes arrived"),
        ("more", "more than 5000"),
        ("twice", "no bytes at 5"),
    ],
)
def test_a_downloader_that_breaks_its_word_is_found_out_at_once(
    store: Store, what: str, said: str
) -> None:
    source = Lying(what)
    started = time.monotonic()
    with pytest.raises((DigestMismatchError, StoreError), match=said):
        store.push(BLOB, source)
    assert time.monotonic() - started < SOON
    assert source.asked == [(0, 5_000)]
    assert not store.exists(BLOB)
    store.push(BLOB, Pieces())
    assert_in_place(store)


# Ends and failures of the threads.


class Dying(Ingest):
    """A draft whose hasher dies of anything."""

    error: BaseException = RuntimeError("a bug")

    def _await(self, position: int) -> tuple[bytes | None, int]:
        super()._await(position)
        raise self.error


class DyingSync(Files):
    """Files whose early flush dies of anything."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def sync_data(self, fd: int, path: Path) -> None:
        raise self.error


ERRORS = [StoreError("disk"), RuntimeError("a bug"), MemoryError(), OSError(5, "EIO"), SystemExit()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("who", ["hasher", "flusher"])
@pytest.mark.parametrize("asked", ["write", "missing", "verify"])
def test_whatever_ends_a_thread_is_heard_of(
    draft: Path, error: BaseException, who: str, asked: str
) -> None:
    Dying.error = error
    files = DyingSync(error) if who == "flusher" else Files()
    kind = Dying if who == "hasher" else Ingest
    started = time.monotonic()
    with opened(draft, BLOB, files, 1_000, kind) as ingest:
        ingest.write(0, CONTENT[:2_000])
        if asked == "verify":
            with contextlib.suppress(type(error)):
                ingest.write(2_000, CONTENT[2_000:])
            if who == "flusher":
                ingest._flusher.join(SOON)  # or the end comes before it has begun
            with pytest.raises(type(error)):
                ingest.verify()
        else:
            ask: dict[str, Callable[[], object]] = {
                "write": lambda: ingest.write(2_000, b""),
                "missing": ingest.missing,
            }
            with pytest.raises(type(error)):
                until_it_raises(ask[asked])
    assert time.monotonic() - started < SOON
    assert draft.exists() == (who == "hasher")
    assert_no_threads()


def until_it_raises(ask: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        ask()
        time.sleep(0.001)


class Recorded(Files):
    """Files whose flush waits for a signal and fails; what was done with the draft is noted."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        super().__init__(self.note)
        self.gate = gate
        self.flushing = threading.Event()
        self.failed = False
        self.after: list[str] = []

    def note(self, operation: str, path: Path) -> None:
        if self.failed:
            self.after.append(f"{operation} {path.parent.name}")

    def sync_data(self, fd: int, path: Path) -> None:
        self.flushing.set()
        if self.gate is not None:
            assert self.gate.wait(SOON)
            time.sleep(0.05)
        self.failed = True
        raise StoreError(f"syncing {path}: {os.strerror(errno.EIO)}")


class Signalling(Pieces):
    """A source that says when all is written, and a flush is under way."""

    def __init__(self, gate: threading.Event, flushing: threading.Event) -> None:
        super().__init__(piece=2_500)
        self.gate, self.flushing = gate, flushing

    def download(self, desc: Descriptor, sink: Sink) -> None:
        super().download(desc, sink)
        assert self.flushing.wait(SOON)
        self.gate.set()


@pytest.mark.parametrize("late", [False, True])
def test_a_failed_flush_fails_the_blob_and_nobody_goes_on_with_the_draft(
    root: Path, late: bool
) -> None:
    """Also where it fails when everything has been hashed, and only the name is missing."""
    gate = threading.Event()
    files = Recorded(gate if late else None)
    store = small_store(root, files, flush_bytes=1_000)
    with pytest.raises(StoreError, match="Input/output error"):
        store.push(BLOB, Signalling(gate, files.flushing))
    assert list((root / "ingest").iterdir()) == []
    assert set(files.after) <= {"remove ingest", "write ingest"}  # no sync, no name
    assert not store.exists(BLOB)
    assert_no_threads()
    source = Pieces()
    small_store(root, Files(), flush_bytes=1_000).push(BLOB, source)
    assert source.asked == [(0, 5_000)]
    assert_in_place(store)


def test_a_failed_last_sync_leaves_neither_draft_nor_journal(root: Path) -> None:
    class Failing(Recorded):
        def sync(self, fd: int, path: Path) -> None:
            if path.parent.name != "ingest":
                return super().sync(fd, path)
            self.failed = True
            raise StoreError(f"syncing {path}: {os.strerror(errno.EIO)}")

    files = Failing()
    store = small_store(root, files)
    with pytest.raises(StoreError, match="Input/output error"):
        store.push(BLOB, Pieces())
    assert list((root / "ingest").iterdir()) == []
    assert set(files.after) == {"remove ingest"}
    assert not store.exists(BLOB)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("what", ["draft", "journal"])
def test_a_full_disk_keeps_what_is_there_for_the_next_attempt(
    root: Path, code: int, what: str
) -> None:
    content = random.Random(3).randbytes(5 * 2**20)
    desc = Descriptor.of(content, LAYER)
    for at in range(1, 5):
        writes = 0

        def before(operation: str, path: Path, at: int = at) -> None:
            nonlocal writes
            kind = "journal" if path.suffix == ".journal" else "draft"
            if (operation, path.parent.name, kind) == ("write", "ingest", what):
                writes += 1
                if writes > at:
                    raise OSError(code, os.strerror(code))

        store = small_store(root / str(at), Files(before))
        with pytest.raises(StoreError, match="prune --dry-run"):
            store.push(desc, Pieces(content, 2**20))
        source = Pieces(content, 2**20)
        small_store(root / str(at), Files()).push(desc, source)
        arrived = at if what == "draft" else at - 1  # the journal begins with the machine's start
        assert source.asked == [(arrived * 2**20, 5 * 2**20)]
        assert_in_place(store, content)


def test_an_exception_ends_the_threads_and_keeps_what_is_there(draft: Path) -> None:
    for error in (KeyboardInterrupt, RuntimeError, RegistryError):
        started = time.monotonic()
        with contextlib.suppress(error), opened(draft) as ingest:
            if ingest.missing() == [(0, 5_000)]:
                ingest.write(100, CONTENT[100:200])
            raise error("enough")
        assert time.monotonic() - started < SOON
        assert_no_threads()
    with opened(draft) as ingest:
        assert ingest.missing() == [(0, 100), (200, 5_000)]


def test_a_stream_that_outlives_its_draft_writes_nowhere(draft: Path) -> None:
    """The descriptor may by then be that of another file."""
    with opened(draft) as ingest:
        pass
    with pytest.raises(StoreError, match="no bytes at"):
        ingest.write(0, CONTENT)


def test_a_draft_is_not_closed_below_a_write_on_its_way(draft: Path) -> None:
    class Slow(Files):
        entered, gate = threading.Event(), threading.Event()

        def write_at(self, fd: int, path: Path, content: bytes, offset: int) -> None:
            self.entered.set()
            assert self.gate.wait(SOON)
            super().write_at(fd, path, content, offset)

    files = Slow()
    with opened(draft, BLOB, files) as ingest:
        writer = threading.Thread(target=ingest.write, args=(0, CONTENT[:100]))
        writer.start()
        assert files.entered.wait(SOON)
        threading.Timer(0.1, files.gate.set).start()
    assert files.gate.is_set()
    writer.join()
    with opened(draft) as ingest:
        assert ingest.missing() == [(100, 5_000)]


def test_a_thread_that_the_system_refuses_leaves_none_behind(draft: Path) -> None:
    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    class Starved(Ingest):
        def __enter__(self) -> Self:
            self._flusher = Refused()
            return super().__enter__()

    with pytest.raises(RuntimeError, match="new thread"), opened(draft, kind=Starved):
        pass
    assert_no_threads()


def test_a_draft_that_is_cut_while_it_is_hashed_is_an_error(draft: Path) -> None:
    make_draft(draft, CONTENT, (0, 4_000))

    class Cutting(Ingest):
        def _await(self, position: int) -> tuple[bytes | None, int]:
            os.truncate(draft, 0)
            return super()._await(position)

    with opened(draft, kind=Cutting) as ingest:
        ingest._hasher.join(SOON)
        with pytest.raises(StoreError, match="made shorter"):
            ingest.verify()


def test_early_flushes_are_noted_and_outlive_the_machine(root: Path) -> None:
    store = small_store(root, Files(), flush_bytes=2_000)

    class Patient(Pieces):
        def download(self, desc: Descriptor, sink: Sink) -> None:
            sink.write(1_000, self.content[1_000:3_500])
            deadline = time.monotonic() + SOON
            while b"sync" not in journal_path(draft_path(root, BLOB)).read_bytes():
                assert time.monotonic() < deadline
                time.sleep(0.001)
            sink.write(4_000, self.content[4_000:])
            raise RegistryError("cut")

    with pytest.raises(RegistryError):
        store.push(BLOB, Patient())

    class Restarted(Files):
        def boot_id(self) -> bytes:
            return OTHER_BOOT

    source = Pieces()
    small_store(root, Restarted()).push(BLOB, source)
    assert source.asked == [(0, 1_000), (3_500, 5_000)]
    assert_in_place(store)


# Room.


class Cramped(Files):
    """A disk with so much room."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.asked = 0

    def free(self, path: Path) -> int:
        assert path.is_dir()
        self.asked += 1
        return self.room


def test_what_has_no_room_is_refused_before_the_first_byte(root: Path) -> None:
    source = Memory()
    model = source.image(b"a" * 3_000_000, b"b" * 1_000_000, b"a" * 3_000_000)
    store = Store(root, files=Cramped(4_050_000))
    with pytest.raises(StoreError) as caught:
        copy(source, store, model)
    assert caught.value.exit_code == 7
    for words in (str(root), "4,050,000 are free", "bytes are needed", "modelpm prune --dry-run"):
        assert words in str(caught.value)
    assert {digest for digest, _ in source.fetched} == {model.digest}
    assert list((root / "ingest").iterdir()) == list((root / "leases").iterdir()) == []
    copy(source, Store(root, files=Cramped(4_110_000)), model)
    full = Cramped(0)
    copy(source, Store(root, files=full), model)  # everything is here, so nobody asks the disk
    assert not full.asked


def test_a_draft_counts_as_far_as_it_takes_room(root: Path) -> None:
    source = Memory()
    content = b"a" * 4_000_000
    model = source.image(content)
    desc = Descriptor.of(content, LAYER)
    store = Store(root, files=Cramped(1_100_000))
    store.prepare()
    make_draft(draft_path(root, desc), content, (0, 1_000_000))
    with pytest.raises(StoreError, match="too little room"):
        copy(source, store, model)
    make_draft(draft_path(root, desc), content, (1_000_000, 4_000_000))
    copy(source, store, model)
    assert [offset for digest, offset in source.fetched if digest == desc.digest] == [0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"no mount: {done.stderr!r}")
    try:
        source = Memory()
        store = Store(mount / "store")
        model = source.image(bytes(2**21))
        with pytest.raises(StoreError, match="too little room"):
            copy(source, store, model, tag=lambda: store.tag(model, "localhost/a:b"))
        assert len(source.fetched) == 1
        with pytest.raises(StoreError, match="prune --dry-run"):
            store.push(Descriptor.of(bytes(2**21), LAYER), source)  # it has filled up since
        assert store.check() == []
        store.sweep(store.garbage())
        little = source.image(b"x" * 500_000)
        copy(source, store, little, tag=lambda: store.tag(little, "localhost/a:b"))
        assert store.check() == []
    finally:
        subprocess.run(["umount", str(mount)], check=True)
