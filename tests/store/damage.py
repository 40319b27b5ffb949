"""Ways in which a file of the store can go wrong, by name; and reading a whole folder."""

import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

Harm = Callable[[Path], None]


def rewrite(path: Path, content: bytes, *, keep_time: bool = False) -> None:
    """Write into the very file, as a careless program or a bad disk does."""
    state = path.stat()
    path.chmod(0o644)
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def flipped(path: Path) -> bytes:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    return bytes(content)


def as_link(path: Path) -> None:
    """The right bytes, but elsewhere."""
    store = next((each for each in path.parents if (each / "blobs").is_dir()), path.parent)
    elsewhere = store.parent / f"elsewhere-{path.name[:8]}"
    shutil.copyfile(path, elsewhere)
    path.unlink()
    path.symlink_to(elsewhere)


def as_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_bytes(b"x")


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_device(path: Path) -> None:
    path.unlink()
    os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 5))  # /dev/zero: it never ends


HARMS: dict[str, Harm] = {
    "gone": lambda path: path.unlink(),
    "cut": lambda path: rewrite(path, path.read_bytes()[:-1]),
    "grown": lambda path: rewrite(path, path.read_bytes() + b"x"),
    "empty": lambda path: rewrite(path, b""),
    "flipped": lambda path: rewrite(path, flipped(path)),
    "link": as_link,
    "dangling link": as_dangling_link,
    "folder": as_folder,
    "pipe": as_pipe,
}
if os.geteuid() == 0:
    HARMS["device"] = as_device


def snapshot(folder: Path) -> dict[str, tuple[str, int, str]]:
    """Kind, time and content of everything below a folder, links not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else ""
        if stat.S_ISREG(state.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        when = 0 if stat.S_ISDIR(state.st_mode) else state.st_mtime_ns
        found[str(path.relative_to(folder))] = (stat.filemode(state.st_mode), when, content)
    return found
