"""How a file with secrets is read and replaced: whose it may be, who may see it, all or nothing.

A new version is written beside the old one under a name of its own, brought to the disk, and
renamed: whoever reads, and whatever dies, finds one whole version. Writers wait for each other.
"""

import contextlib
import glob
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from modelpm.errors import AuthenticationError

if sys.platform != "win32":
    import fcntl

MAX_BYTES = 2**20
LOCK_SECONDS = 60.0
"""To wait for a lock that is only ever held for a moment."""

_DRAFT_SECONDS = 60.0
"""After which a draft is no longer being written: who wrote it is dead."""

_OPEN = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _OPEN
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN
_READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class SecretFile:
    """A file at `path`, which need not exist. Every failure is an AuthenticationError.

    One that is `private` is modelpm's own: it has to belong to the user (or to root) and nobody
    else may write it, and it is written with mode 0600 whatever the umask says. Another program's
    keeps the owner and the mode that it has. A link is followed, a foreign user's is not.
    """

    def __init__(self, path: Path, *, private: bool) -> None:
        self.path = path
        self.is_open_to_others = False
        """Whether others could read what was read here last. Nobody knows that on Windows."""
        self._is_private = private

    def read(self) -> bytes:
        """All of it; nothing if there is no file."""
        with _telling(self.path, "cannot be read"):
            try:
                fd = os.open(self._target(), _READ)
            except FileNotFoundError:
                return b""
            try:
                status = os.fstat(fd)
                self._check(status)  # a folder cannot even be made a file object
                is_open = status.st_mode & _READABLE_BY_OTHERS
                self.is_open_to_others = os.name == "posix" and bool(is_open)
                with os.fdopen(fd, "rb", closefd=False) as file:
                    raw = file.read(MAX_BYTES + 1)
            finally:
                os.close(fd)
        if len(raw) > MAX_BYTES:
            raise AuthenticationError(f"{self.path} has more than {MAX_BYTES} bytes")
        return raw

    def edit(self, change: Callable[[bytes], bytes | None]) -> None:
        """Replace what is there by what `change` makes of it; None leaves it as it is.

        Changes of several processes happen one after the other.
        """
        with _telling(self.path, "cannot be written"):
            target = self._target()
            _make_folder(target.parent)
            with _locked(target.with_name(f".{target.name}.lock")):
                content = change(self.read())
                if content is not None and len(content) > MAX_BYTES:
                    raise AuthenticationError(f"{self.path} would get more than {MAX_BYTES} bytes")
                if content is not None:
                    _sweep(target)
                    self._replace(target, content)

    def _target(self) -> Path:
        """The file that links lead to."""
        if self._is_private and self.path.is_symlink():
            self._check_owner(self.path.lstat())
        return Path(os.path.realpath(self.path))

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise AuthenticationError(f"{self.path} is not a file")
        if self._is_private and os.name == "posix":
            self._check_owner(status)
            if status.st_mode & _WRITABLE_BY_OTHERS:
                raise AuthenticationError(
                    f"{self.path} can be written by others (try: chmod 600 {self.path})"
                )

    def _check_owner(self, status: os.stat_result) -> None:
        if os.name == "posix" and status.st_uid not in (os.geteuid(), 0):
            raise AuthenticationError(f"{self.path} belongs to another user; refused")

    def _replace(self, target: Path, content: bytes) -> None:
        draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}.new")
        try:
            fd = os.open(draft, _NEW, 0o600)
            with os.fdopen(fd, "wb") as file:
                self._prepare(fd, target)
                file.write(content)
                file.flush()
                os.fsync(fd)
            draft.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        _sync_folder(target.parent)

    def _prepare(self, fd: int, target: Path) -> None:
        """Give a draft the owner and mode that the file is to have."""
        if os.name != "posix":
            return
        old = target.stat() if target.exists() and not self._is_private else None
        if old is not None and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(fd, old.st_uid, old.st_gid)
        os.fchmod(fd, 0o600 if old is None else stat.S_IMODE(old.st_mode))


@contextlib.contextmanager
def _telling(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AuthenticationError(f"{path} {what}: {error.strerror or error}") from None


def _make_folder(folder: Path) -> None:
    """Have a folder; a new one is for the user alone."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)  # whatever the umask takes away
        _sync_folder(folder.parent)
    mode = folder.stat().st_mode
    if os.name == "posix" and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise AuthenticationError(f"everybody can write in {folder}: no place for secrets")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | _OPEN, 0o600)
    try:
        if os.name == "posix" and not os.fstat(fd).st_mode & stat.S_IRUSR:
            os.fchmod(fd, 0o600)  # the umask took it away
        deadline = time.monotonic() + LOCK_SECONDS
        while not _try_lock(fd):
            if time.monotonic() > deadline:
                raise AuthenticationError(f"{path} is locked by another modelpm; try again later")
            time.sleep(0.005)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sweep(target: Path) -> None:
    """Delete the drafts of writers that died: there are secrets in them."""
    for draft in target.parent.glob(f".{glob.escape(target.name)}.*.new"):
        with contextlib.suppress(OSError):
            if draft.lstat().st_mtime < time.time() - _DRAFT_SECONDS:
                draft.unlink()


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
