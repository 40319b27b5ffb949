"""What `create` takes for a file of weights, beside what it takes to hash the file once."""

import contextlib
import os
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import (
    MODELPM,
    Command,
    Figure,
    Missing,
    Place,
    Row,
    Run,
    compare,
    rounds,
    run,
)

LIMIT = 1.2
"""Of the time that one reading and hashing takes."""

_HASHLIB = """
import hashlib, sys
with open(sys.argv[1], "rb") as file:
    hashlib.file_digest(file, "sha256")
"""
_PIECE = 2**20
_LONG_AGO = 10**9


def create(place: Place) -> Iterator[Row]:
    """`create NAME FILE`: seconds, memory, and the bytes that it takes of the disk."""
    weights, home = place.folder / "weights.gguf", place.folder / "store"
    _write_weights(weights, place.size)
    taken: list[float] = []

    def once() -> Run:
        shutil.rmtree(home, ignore_errors=True)
        before = _used(place.folder)
        command: Command = [MODELPM, "--home", home, "--quiet", "create", "big", weights]
        try:
            return run(command)
        finally:
            taken.append(float(max(0, _used(place.folder) - before)))

    subjects = {
        "modelpm": once,
        "hashlib": lambda: run([sys.executable, "-c", _HASHLIB, weights]),
    }
    if (openssl := shutil.which("openssl")) is not None:
        subjects["openssl"] = lambda: run([openssl, "dgst", "-sha256", weights])
    case = f"create {place.mib}"
    yield from compare(rounds(case, subjects, place.rounds), {"hashlib": LIMIT, "openssl": LIMIT})
    if openssl is None:
        yield Missing(case, "openssl", "openssl is not installed")
    yield Figure(case, "modelpm disk", "B", tuple(taken[1:]), 2**20, is_worst=True)


def _used(folder: Path) -> int:
    """Bytes that the files below take on the disk, each file counted once."""
    found: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            state = path.lstat()
            found[state.st_dev, state.st_ino] = state.st_blocks * 512
    return sum(found.values())


def _write_weights(path: Path, size: int) -> None:
    """A GGUF of about so many bytes that passes the gate, on the disk, and not fresh."""

    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    rows = max(1, size // 4096)
    head = struct.pack("<4sIQQ", b"GGUF", 3, 1, 1)
    head += text(b"general.architecture") + struct.pack("<I", 8) + text(b"bench")
    head += text(b"noise.weight") + struct.pack("<IQQIQ", 2, 1024, rows, 0, 0)
    piece = os.urandom(_PIECE)
    with path.open("wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for start in range(0, rows * 4096, _PIECE):
            file.write(piece[: min(_PIECE, rows * 4096 - start)])
        file.flush()
        os.fsync(file.fileno())
    os.utime(path, (_LONG_AGO, _LONG_AGO))
