"""What is remembered of registries: where each blob was seen, and which uploads were begun.

Small files below the store. None of them matters: one that is lost or cannot be read costs a
request, or bytes that are sent again. Session URLs may hold signatures, so only the user reads
them.
"""

from collections.abc import Sequence
from pathlib import Path

from modelpm.oci.descriptor import Digest
from modelpm.store.files import Files


class StoreNotes:
    """The notes of one store. Threads and processes may share them."""

    def __init__(self, root: Path, files: Files) -> None:
        self._root = root
        self._files = files

    def sisters(self, host: str, digest: Digest) -> Sequence[str]:
        """The repositories of a registry in which a blob was seen, newest first."""
        return ()

    def saw(self, host: str, repository: str, digest: Digest) -> None:
        """A blob is in this repository."""

    def upload(self, key: str) -> str | None:
        """The URL of the session of an upload that was begun and not ended."""
        return None

    def begin_upload(self, key: str, location: str) -> None:
        """An upload goes on at this URL."""

    def end_upload(self, key: str) -> None:
        """An upload is done, or given up."""
