"""What enters the store for a model to be, and how long it stays there without a name."""

import contextlib
from pathlib import Path

import pytest

from modelpm.content import Event, Moved, Settled, Step, ignore, read
from modelpm.errors import NotFoundError
from modelpm.intake import OCTETS, Intake, standin
from modelpm.store.layout import Store


def test_what_comes_in_stays_until_the_end(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "store"), tmp_path / "a.bin"
    path.write_bytes(b"a" * 1000)
    with contextlib.ExitStack() as kept:
        intake = Intake(store, kept, ignore)
        descs = [intake.adopt(path, "a", 1000), intake.put(b"text", "text/plain")]
        store.sweep(store.garbage())
        assert [read(store, desc) for desc in descs] == [b"a" * 1000, b"text"]
        assert [desc.media_type for desc in descs] == [OCTETS, "text/plain"]
    store.sweep(store.garbage())
    assert not any(map(store.exists, descs))
    assert path.read_bytes() == b"a" * 1000


def test_what_is_here_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with contextlib.ExitStack() as first:
        desc = Intake(store, first, ignore).put(b"text")
        second = contextlib.ExitStack()
        Intake(store, second, ignore).keep([desc])
    store.sweep(store.garbage())
    assert store.exists(desc)
    second.close()
    store.sweep(store.garbage())
    assert not store.exists(desc)


def test_a_file_is_told_of_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"a" * 1000)
    events: list[Event] = []
    with contextlib.ExitStack() as kept:
        Intake(Store(tmp_path / "store"), kept, events.append).adopt(path, "a", 1000, "x/y")
    mark = standin(path, 1000, "x/y")
    assert events == [Step("hashing", "a", (mark,)), Moved(mark, 1000), Settled(mark, False)]


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with contextlib.ExitStack() as kept, pytest.raises(NotFoundError):
        Intake(Store(tmp_path / "store"), kept, ignore).adopt(tmp_path / "gone", "gone", 1)
