"""Room kept for deleting: on a full disk a name is deleted by writing the shorter list of names."""

import contextlib
import errno
import secrets
from pathlib import Path

from modelpm.errors import StoreError
from modelpm.store.files import Files

LEAST = 2**12
"""Bytes: what any file takes of most disks."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Reserve:
    """A file without meaning, which goes when its room is needed."""

    def __init__(self, root: Path, files: Files) -> None:
        self._path = root / "reserve"
        self._files = files

    def keep(self, size: int) -> None:
        """Have room for a file of so many bytes set aside; where there is none, do without."""
        size = max(LEAST, 2 * size)
        kept = 0
        with contextlib.suppress(OSError):
            kept = self._path.lstat().st_size
        if kept >= size:
            return
        with contextlib.suppress(StoreError), self._files.reopen(self._path, create=True) as fd:
            # Zeros would take no room where the file system compresses.
            self._files.write(fd, self._path, secrets.token_bytes(size))

    def give_up(self, failure: StoreError) -> bool:
        """Whether that failure was a full disk, and there is more room now."""
        cause = failure.__cause__
        is_full = isinstance(cause, OSError) and cause.errno in _FULL
        return is_full and self._files.remove(self._path)
