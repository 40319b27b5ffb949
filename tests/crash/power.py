"""Write down what a verb does to its files, and show the disk as a loss of power may leave it.

What counts as on the disk is as little as POSIX promises: the bytes of a file once the file was
synced, the entries of a folder once the folder was. All else may be there, be missing, be torn or
be there in another order than it was done. Model of a file system: no journal, no ordering.
"""

import contextlib
import itertools
import os
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelpm.store.files import Files

SECTOR = 512
FOLDER = -1
"""The value of an entry that is a folder."""

_DAMAGES = ("byte", "sectors", "zeros", "garbage")

MODES = ("synced", "done", "mixed", "names", "bytes")
"""Only what was synced; all that was done; anything; all names but not all bytes; the reverse."""


@dataclass(frozen=True, slots=True)
class Change:
    """One operation, on a path below the root."""

    operation: str
    path: str
    details: tuple[Any, ...]


class Died(BaseException):
    """The process is dead: whatever its Python still does changes nothing any more."""


class Recorder(Files):
    """Files whose every change is written down; they may die before one of them."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.log: list[Change] = []
        self.dies_at = -1
        self._root = root
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def change(self, operation: str, path: Path, *details: object) -> Iterator[None]:
        with self._lock:  # or the order would not be the one in which it was done
            if 0 <= self.dies_at <= len(self.log):
                raise Died
            is_folder = path.is_dir()
            with super().change(operation, path, *details):
                yield
            if operation == "fsync" and is_folder:
                operation = "fsync folder"
            relative = tuple(self._below(x) if isinstance(x, Path) else x for x in details)
            self.log.append(Change(operation, self._below(path), relative))

    def _below(self, path: Path) -> str:
        return str(path.relative_to(self._root))


@dataclass(slots=True)
class File:
    """The bytes of a file on the disk, and what was done to it since."""

    synced: bytes = b""
    mtime: int | None = None
    pending: list[tuple[str, Any, Any]] = field(default_factory=list)
    position: int = 0
    """Where the next write without an offset goes."""

    def _fates(self, mode: str, chance: random.Random) -> list[str]:
        """What becomes of each pending operation: in order up to some moment, or without any."""
        count = len(self.pending)
        if mode in {"done", "bytes"} or not count:
            return ["kept"] * count
        kept = 0 if mode == "synced" else chance.choice((0, count, chance.randrange(count), -1))
        if kept < 0:
            return chance.choices(("kept", "lost", *_DAMAGES), (2, 1, 1, 1, 1, 1), k=count)
        torn = [chance.choice(("lost", *_DAMAGES))] if mode != "synced" else []
        return (["kept"] * kept + torn + ["lost"] * count)[:count]

    # The operations, by their names.

    def fsync(self) -> None:
        self.synced, self.mtime, _ = self.show("done", random.Random())
        self.pending.clear()

    def write(self, offset: int | None, content: bytes) -> None:
        if offset is None:
            offset = self.position
            self.position += len(content)
        self.pending.append(("write", offset, content))

    def truncate(self, size: int) -> None:
        self.pending.append(("truncate", None, size))
        self.position = size

    def utime(self, mtime: int, sync: bool) -> None:
        if sync:
            self.fsync()
        self.pending.append(("utime", None, mtime))

    def chmod(self, permissions: int) -> None:
        self.pending.append(("chmod", None, permissions))

    def show(self, mode: str, chance: random.Random) -> tuple[bytes, int | None, int]:
        """Bytes, time of modification and permissions that a loss of power may leave."""
        content, mtime, permissions = bytearray(self.synced), self.mtime, 0o644
        for (what, where, value), fate in zip(self.pending, self._fates(mode, chance), strict=True):
            if fate == "lost":
                continue
            if what == "write":
                _write(content, where, _torn(value, fate, chance))
            elif what == "truncate":
                del content[value:]
                content.extend(bytes(value - len(content)))
            elif what == "utime":
                mtime = value
            else:
                permissions = value
        return bytes(content), mtime, permissions


def _torn(content: bytes, fate: str, chance: random.Random) -> dict[int, bytes]:
    """What of a write arrives, by the offset within it."""
    if fate == "byte":
        return {0: content[: chance.randint(0, len(content))]}
    if fate == "sectors":
        sectors = range(0, len(content), SECTOR)
        return {at: content[at : at + SECTOR] for at in sectors if chance.random() < 0.5}
    if fate == "zeros":
        return {0: bytes(len(content))}
    if fate == "garbage":
        return {0: chance.randbytes(len(content))}
    return {0: content}


def _write(content: bytearray, offset: int, pieces: dict[int, bytes]) -> None:
    for inner, piece in pieces.items():
        start = offset + inner
        content.extend(bytes(max(0, start - len(content))))
        content[start : start + len(piece)] = piece


class Disk:
    """Files and entries of folders, with what was done to them since they were synced."""

    def __init__(self, folder: Path) -> None:
        """A disk on which all that lies in a folder is synced."""
        self._files: dict[int, File] = {}
        self._entries: dict[str, list[int | None]] = {}
        """What a path led to when its folder was synced, and to what since: None is nothing."""
        self._numbers = itertools.count()
        for path in sorted(folder.rglob("*")):
            number = FOLDER
            if path.is_file():
                number = next(self._numbers)
                self._files[number] = File(path.read_bytes(), int(path.stat().st_mtime))
            self._entries[str(path.relative_to(folder))] = [number]

    def apply(self, change: Change) -> None:
        """Let one more operation happen."""
        path, details = change.path, change.details
        match change.operation:
            case "mkdir":
                self._set(path, FOLDER)
            case "fsync folder":
                for other, values in self._entries.items():
                    if str(Path(other).parent) == path:
                        del values[:-1]
            case "rename" | "move":
                self._set(details[0], self._get(path))
                self._set(path, None)
            case "remove":
                self._set(path, None)
            case "touch":
                self._set(path, self._new())
                self._file(path).write(0, details[0])
            case "create":
                if self._get(path) is None:
                    self._set(path, self._new())
                self._file(path).position = 0
            case operation:
                getattr(self._file(path), operation)(*details)

    def _new(self) -> int:
        number = next(self._numbers)
        self._files[number] = File()
        return number

    def _set(self, path: str, value: int | None) -> None:
        self._entries.setdefault(path, [None]).append(value)

    def _get(self, path: str) -> int | None:
        return self._entries.get(path, [None])[-1]

    def _file(self, path: str) -> File:
        number = self._get(path)
        assert number is not None, path
        return self._files[number]

    def show(self, folder: Path, mode: str, chance: random.Random) -> None:
        """Make a folder as the disk shows it after a loss of power now."""
        made: dict[int, Path] = {}
        folder.mkdir()
        for path, values in sorted(self._entries.items()):
            chosen = values[-1]
            if mode in {"synced", "bytes"}:
                chosen = values[0]
            elif mode == "mixed":
                chosen = chance.choice(values)
            target = folder / path
            if chosen is None or not target.parent.is_dir():
                continue
            if chosen == FOLDER:
                target.mkdir()
            elif chosen in made:
                os.link(made[chosen], target)
            else:
                made[chosen] = target
                content, mtime, permissions = self._files[chosen].show(mode, chance)
                target.write_bytes(content)
                target.chmod(permissions)
                if mtime is not None:
                    os.utime(target, (mtime, mtime))
