"""When each blob was last used, and in which start of the machine it was hashed."""

import time
from pathlib import Path

from modelpm.errors import StoreError
from modelpm.oci.descriptor import Digest
from modelpm.store.files import Files, read_small
from modelpm.store.naming import file_name

WORTH_A_NOTE = 2**20
"""Bytes: a blob below this is hashed at each use."""

_TRUST_SECONDS = 24 * 3600


class Used:
    """Small notes in `used/`: the time of each is that of the blob's last use."""

    def __init__(self, root: Path, files: Files) -> None:
        self._folder = root / "used"
        self._files = files

    def note(self, digest: Digest) -> None:
        """The blob is used now, and has been hashed since the machine started."""
        self._files.touch(self._path(digest), self._files.boot_id())

    def is_trusted(self, digest: Digest) -> bool:
        """Whether the blob was hashed since the machine started; where that is unknown, today."""
        note, boot = self._path(digest), self._files.boot_id()
        try:
            found = read_small(note, 256)
            recent = time.time() - note.stat().st_mtime < _TRUST_SECONDS
        except (OSError, StoreError):
            return False
        return found == boot if boot else recent

    def forget(self, digest: Digest) -> None:
        """The blob is gone."""
        self._files.remove(self._path(digest))

    def _path(self, digest: Digest) -> Path:
        return self._folder / file_name(digest)
