"""Which blobs are hard links to files from outside, and how each file was when it was hashed.

Such a blob cannot be sealed: its times and permissions belong to another program's file as well.
A note says instead which file it was, and in what state: `adopted/<algorithm>-<hex>`. Whoever
changes the file changes its state, and then the note is not believed.
"""

import os
import time
from pathlib import Path

from modelpm.errors import StoreError
from modelpm.oci.descriptor import Digest
from modelpm.store.files import Files, read_small
from modelpm.store.naming import file_name

_MAX_BYTES = 256

FRESH = 2 * 10**9
"""Nanoseconds: a file that was changed so lately may change again at the same time, for the
coarsest of file systems, and nobody would see it."""


class Adopted:
    """The notes below one store's root."""

    def __init__(self, root: Path, files: Files) -> None:
        self._folder = root / "adopted"
        self._files = files

    def path(self, digest: Digest) -> Path:
        """Where the note on a blob lies, if there is one."""
        return self._folder / file_name(digest)

    def believes(self, digest: Digest, state: os.stat_result) -> bool:
        """Whether the blob was hashed and found right in just this state."""
        try:
            return read_small(self.path(digest), _MAX_BYTES) == _note(state)
        except (FileNotFoundError, StoreError):
            return False

    def note(self, digest: Digest, state: os.stat_result, began: int) -> None:
        """Remember that the blob is right in this state; it was read from `began` on.

        The time is in nanoseconds since the epoch. Nothing is noted of a file that may have been
        changed since without a trace.
        """
        if state.st_mtime_ns + FRESH < began:
            self._files.touch(self.path(digest), _note(state))

    def forget(self, digest: Digest) -> None:
        """Believe nothing about the blob any more."""
        if os.path.lexists(self.path(digest)):
            self._files.remove(self.path(digest))


def now() -> int:
    """The time in nanoseconds since the epoch, as files have it."""
    return time.time_ns()


def _note(state: os.stat_result) -> bytes:
    # The time of the last change of any kind is there as well: no program can set it.
    values = (
        state.st_dev,
        state.st_ino,
        state.st_size,
        state.st_mtime_ns,
        0 if os.name == "nt" else state.st_ctime_ns,
    )
    return " ".join(map(str, values)).encode()
