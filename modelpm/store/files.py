"""How a file becomes durable, and how processes keep out of each other's way.

This is the only code that writes inside a store. Every change of the file system happens within
`Files.change`, which first calls `before(operation, path)`: tests make that call die or fail at
the k-th operation, or write down every change, and so prove what a crash leaves behind.

The order that makes a file durable: write under a name of one's own, fsync the file, rename,
fsync the folder. A failed fsync is a failure: it is never tried again on the same file.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from modelpm.errors import StoreError

if sys.platform != "win32":
    import fcntl

LOCK_WAIT = 60.0
"""Seconds to wait for a lock that is only ever held for a moment."""

_OPEN = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_NON_BLOCKING = getattr(os, "O_NONBLOCK", 0)

_WRITE = 2**17
"""Bytes to write at a time: for more Linux takes larger, and so colder, pieces of memory."""

_FICLONE = 0x40049409
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Before = Callable[[str, Path], None]


def _nothing(_operation: str, _path: Path) -> None:
    pass


class _Shared:
    """One act for all threads that ask for it before it begins."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._begun = self._ended = 0
        self._failed, self._failure = 0, BaseException()

    def run(self, act: Callable[[], None]) -> None:
        """Act, unless another thread does that begins from now on. Raises what it raised."""
        with self._changed:
            mine = self._begun + 1
            self._changed.wait_for(lambda: self._ended >= mine or self._ended == self._begun)
            if self._ended >= mine:
                if self._failed >= mine:
                    raise self._failure
                return
            self._begun = mine
        try:
            act()
        except BaseException as error:
            self._failed, self._failure = mine, error
            raise
        finally:
            with self._changed:
                self._ended = mine
                self._changed.notify_all()


class Files:
    """Durable changes to files. Every OSError comes out as a StoreError that names the path."""

    def __init__(self, before: Before = _nothing) -> None:
        self._before = before
        self._folder_syncs: dict[Path, _Shared] = {}
        self.lock_wait = LOCK_WAIT

    @contextlib.contextmanager
    def change(self, operation: str, path: Path, *_details: object) -> Iterator[None]:
        """What every change happens within.

        The details are what it takes to do it again: the offset (None: where the descriptor is)
        and the content of a write, the size of a truncate, the target of a rename, and so on.
        """
        self._before(operation, path)
        yield

    def make_folder(self, path: Path) -> None:
        """Create a folder and its parents, durably; one that is there is fine, a link is not."""
        with store_errors("creating the folder", path):
            if path.is_symlink():
                raise StoreError(f"{path} is a symbolic link inside the store; refused")
            if path.is_dir():
                return
            if not path.parent.is_dir():
                self.make_folder(path.parent)
            with self.change("mkdir", path):
                path.mkdir(exist_ok=True)
            self.sync_folder(path.parent)

    def replace(self, path: Path, content: bytes) -> None:
        """Put a whole new file in the place of `path`, durably, all or nothing."""
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with self.create(draft) as fd:
                self.write(fd, draft, content)
                self.sync(fd, draft)
                self.publish(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    @contextlib.contextmanager
    def create(self, path: Path) -> Iterator[int]:
        """A new file to write, which must not exist yet; the descriptor closes at the end."""
        with store_errors("creating", path), self.change("create", path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o644)
        with _closing(fd, path):
            yield fd

    @contextlib.contextmanager
    def reopen(self, path: Path, *, create: bool = False) -> Iterator[int]:
        """A regular file to go on writing, from its start; made where asked and not there."""
        how = os.O_RDWR | (os.O_CREAT if create else 0)
        creating = self.change("create", path) if create else contextlib.nullcontext()
        with store_errors("opening", path), creating:
            fd = os.open(path, how | _NON_BLOCKING | _OPEN, 0o644)
        with _closing(fd, path):
            _require_regular(fd, path)
            yield fd

    def write(self, fd: int, path: Path, content: bytes) -> None:
        """Append all of `content` at the descriptor's position."""
        with store_errors("writing", path), self.change("write", path, None, content):
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]

    def write_at(self, fd: int, path: Path, content: bytes, offset: int) -> None:
        """Write all of `content` at an offset, wherever the descriptor is; for several threads."""
        with store_errors("writing", path), self.change("write", path, offset, content):
            view = memoryview(content)
            while view:
                count = os.pwrite(fd, view[:_WRITE], offset)
                view, offset = view[count:], offset + count

    def truncate(self, fd: int, path: Path, size: int) -> None:
        """Cut or grow the file to `size` bytes and go to that position."""
        with store_errors("truncating", path), self.change("truncate", path, size):
            os.ftruncate(fd, size)
            os.lseek(fd, size, os.SEEK_SET)

    def sync(self, fd: int, path: Path) -> None:
        """Bring a file to the disk. After a failure it reads well and may be nothing there."""
        with store_errors("syncing", path), self.change("fsync", path):
            os.fsync(fd)

    def sync_data(self, fd: int, path: Path) -> None:
        """Bring its bytes to the disk, while more may be written."""
        with store_errors("syncing", path), self.change("fsync", path):
            getattr(os, "fdatasync", os.fsync)(fd)

    def publish(self, draft: Path, path: Path) -> None:
        """Give a synced draft its final name, durably."""
        with store_errors("committing", path):
            with self.change("rename", draft, path):
                draft.replace(path)
            self.sync_folder(path.parent)

    def move(self, source: Path, target: Path) -> bool:
        """Rename within the store; durable only after `sync_folder`. False if it was gone."""
        with store_errors("moving", source):
            try:
                with self.change("move", source, target):
                    source.replace(target)
            except FileNotFoundError:
                return False
        return True

    def link(self, source: Path, path: Path) -> bool:
        """Give a file from outside a name in the store; False where that cannot be done."""
        with contextlib.suppress(OSError), self.change("link", path, str(source)):
            os.link(source, path, follow_symlinks=False)
            return True
        return False

    def clone(self, fd: int, path: Path, source: int) -> bool:
        """Let an empty open file share another's bytes; False where that cannot be done."""
        with contextlib.suppress(OSError), self.change("clone", path):
            if sys.platform == "linux":
                fcntl.ioctl(fd, _FICLONE, source)
                return True
        return False

    def remove(self, path: Path) -> bool:
        """Delete a file, or a whole folder of files. False if it was gone."""
        with store_errors("deleting", path):
            try:
                inner = sorted(path.iterdir()) if _is_folder(path) else None
                for child in inner or ():
                    self.remove(child)
                with self.change("remove", path):
                    if inner is None:
                        path.unlink()
                    else:
                        path.rmdir()
            except FileNotFoundError:
                return False
        return True

    def set_mtime(self, fd: int, path: Path, mtime: int, *, sync: bool) -> None:
        """Mark an open file (in seconds); one that is not ours to mark stays as it is.

        With `sync` its bytes come first: the mark must not outlive what it speaks of.
        """
        with contextlib.suppress(OSError), self.change("utime", path, mtime, sync):
            if sync:
                os.fsync(fd)
            os.utime(fd, (mtime, mtime))

    def permit(self, fd: int, path: Path, permissions: int) -> None:
        """Protect an open file from careless programs, or no more, where that can be done."""
        with contextlib.suppress(OSError), self.change("chmod", path, permissions):
            os.fchmod(fd, permissions)

    def touch(self, path: Path, content: bytes, *, private: bool = False) -> None:
        """Write a small note whose loss does not matter: not durable, no lock needed.

        A `private` one only its user may read.
        """
        with contextlib.suppress(OSError), self.change("touch", path, content):
            draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
            how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN
            with os.fdopen(os.open(draft, how, 0o600 if private else 0o644), "wb") as file:
                file.write(content)
            draft.replace(path)

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable, at once for all threads that wait for it."""
        if sys.platform == "win32":
            return
        shared = self._folder_syncs.setdefault(path, _Shared())
        shared.run(lambda: self._sync_folder(path))

    def _sync_folder(self, path: Path) -> None:
        with store_errors("syncing", path), self.change("fsync", path):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def locked(self, path: Path, *, exclusive: bool) -> Iterator[None]:
        """Hold a lock that others hold for a moment only.

        Raises StoreError when it is not to be had within `lock_wait` seconds.
        """
        with store_errors("opening the lock", path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | _OPEN, 0o644)
        with _closing(fd, path):
            deadline = time.monotonic() + self.lock_wait
            pause = 0.001
            while not self.try_lock(fd, path, exclusive=exclusive):
                if time.monotonic() > deadline:
                    raise StoreError(f"{path} is locked by another modelpm; try again later")
                time.sleep(pause)
                pause = min(pause * 2, 0.05)
            yield

    def try_lock(self, fd: int, path: Path, *, exclusive: bool) -> bool:
        """Lock an open file until it is closed; False where another holds it. Never waits."""
        if sys.platform == "win32":
            return True
        with store_errors("locking", path):
            try:
                fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def locks_work(self, path: Path) -> bool:
        """Whether this file system keeps two holders of an exclusive lock apart.

        On some network file systems every lock succeeds. Then nothing may be decided by locks.
        Never waits: who is kept out right now need not try further.
        """
        with self.reopen(path) as one, self.reopen(path) as other:
            is_free = self.try_lock(one, path, exclusive=False)
            return not is_free or not self.try_lock(other, path, exclusive=True)

    def free(self, path: Path) -> int:
        """Bytes that may still be written to the file system of `path`."""
        with store_errors("measuring", path):
            usage = shutil.disk_usage(path)
        return usage.free if usage.total else sys.maxsize  # some network file systems cannot tell

    def boot_id(self) -> bytes:
        """What this start of the machine is called; empty where that is not known."""
        try:
            return _BOOT_ID.read_bytes().strip()
        except OSError:
            return b""


def listing(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """What lies in a folder, by name, with the state of each; links are not followed.

    Nothing where the folder is not there; what vanishes meanwhile is left out. Raises StoreError.
    """
    found = []
    with store_errors("listing", folder):
        try:
            with os.scandir(folder) as entries:
                names = sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        for entry in names:
            with contextlib.suppress(FileNotFoundError):
                found.append((folder / entry.name, entry.stat(follow_symlinks=False)))
    return found


@contextlib.contextmanager
def store_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError that says what was attempted and what to do next."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "")
        raise StoreError(f"{doing} {path}: {error.strerror or error}{advice}") from error


_ADVICE = {
    errno.ENOSPC: " (free some space: modelpm prune --dry-run, or modelpm rm NAME before)",
    errno.EDQUOT: " (the quota is used up: modelpm prune --dry-run, or modelpm rm NAME before)",
    errno.EACCES: " (is the store yours? see --home)",
    errno.EPERM: " (is the store yours? see --home)",
    errno.EROFS: " (the store is on a read-only file system; see --home)",
    errno.ENOLCK: " (this file system has no locks; choose another with --home)",
}


def open_regular(path: Path) -> int:
    """A read-only descriptor of a regular file. Never follows a link, never blocks on a pipe.

    Raises FileNotFoundError, or StoreError for what is no regular file or cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDONLY | _NON_BLOCKING | _OPEN)
    except FileNotFoundError:
        raise
    except OSError as error:
        why = "a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise StoreError(f"opening {path}: {why}") from error
    try:
        _require_regular(fd, path)
    except StoreError:
        os.close(fd)
        raise
    return fd


def read_small(path: Path, limit: int) -> bytes:
    """The whole of a regular file of at most `limit` bytes.

    Raises FileNotFoundError, or StoreError where it cannot be read or is larger.
    """
    fd = open_regular(path)
    with store_errors("reading", path), os.fdopen(fd, "rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise StoreError(f"{path} is larger than {limit} bytes")
    return content


@contextlib.contextmanager
def _closing(fd: int, path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with store_errors("closing", path):
            os.close(fd)


def _require_regular(fd: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise StoreError(f"{path} is not a regular file; refused")


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)
