"""What is remembered of registries: where each blob was seen, and which uploads were begun.

    notes/sha256-<hex>       a JSON list of [host, repository], newest first
    notes/upload-<hex>       what is uploaded and the session's URL, for its user's eyes only

None of these files matters: one that is lost, or cannot be read, costs a request, or bytes that are
sent again. So none is synced, none is locked, and no failure to write one is told.
"""

import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelpm.errors import InvalidManifestError, StoreError
from modelpm.oci.descriptor import Digest
from modelpm.oci.manifest import load_json
from modelpm.store.files import Files, listing, read_small
from modelpm.store.naming import digest_of, file_name

FOLDER = "notes"

KEPT_SECONDS = 7 * 24 * 3600
"""After which a begun upload is forgotten: registries forget theirs by then."""

_PLACES = 16
"""Repositories remembered of one blob."""

_MAX_BYTES = 2**16
_UPLOAD = re.compile(r"upload-[a-f0-9]{64}")


class StoreNotes:
    """The notes of one store. Threads and processes may share them.

    Nothing is written where the store has no folder for them yet.
    """

    def __init__(self, root: Path, files: Files) -> None:
        self._folder = root / FOLDER
        self._files = files
        self._lock = threading.Lock()

    def sisters(self, host: str, digest: Digest, /) -> Sequence[str]:
        """The repositories of a registry in which a blob was seen, newest first."""
        return [name for where, name in self._places(digest) if where == host]

    def saw(self, host: str, repository: str, digest: Digest, /) -> None:
        """A blob is in this repository."""
        with self._lock:
            known = self._places(digest)
            place = (host, repository)
            if known[:1] != [place]:
                places = [place, *(other for other in known if other != place)][:_PLACES]
                self._write(self._seen(digest), places)

    def forget(self, digest: Digest, /) -> None:
        """A blob is not here any more."""
        if self._seen(digest).exists():
            with contextlib.suppress(StoreError):
                self._files.remove(self._seen(digest))

    def upload(self, key: str, /) -> str | None:
        """The URL of the session of an upload that was begun and not ended."""
        noted = self._read(self._upload(key))
        if not isinstance(noted, list) or len(noted) != 2 or noted[0] != key:
            return None
        return noted[1] if isinstance(noted[1], str) else None

    def begin_upload(self, key: str, location: str, /) -> None:
        """An upload goes on at this URL."""
        self._write(self._upload(key), [key, location], private=True)

    def end_upload(self, key: str, /) -> None:
        """An upload is done, or given up."""
        if self._upload(key).exists():
            with contextlib.suppress(StoreError):
                self._files.remove(self._upload(key))

    def files(self) -> Iterator[tuple[Digest | None, Path, int]]:
        """The notes that are to be forgotten with a blob, or, without one, now; and their bytes.

        Raises StoreError where they cannot be listed.
        """
        for path, state in listing(self._folder):
            seen = digest_of(path.name)
            is_fresh = time.time() - state.st_mtime < KEPT_SECONDS
            if seen is not None or not (is_fresh and _UPLOAD.fullmatch(path.name)):
                yield seen, path, state.st_size

    def _places(self, digest: Digest) -> list[tuple[str, str]]:
        noted = self._read(self._seen(digest))
        return [
            (place[0], place[1])
            for place in (noted if isinstance(noted, list) else [])
            if isinstance(place, list)
            and len(place) == 2
            and all(isinstance(text, str) for text in place)
        ]

    def _seen(self, digest: Digest) -> Path:
        return self._folder / file_name(digest)

    def _upload(self, key: str) -> Path:
        return self._folder / f"upload-{hashlib.sha256(key.encode()).hexdigest()}"

    def _read(self, path: Path) -> object:
        try:
            return load_json(read_small(path, _MAX_BYTES))
        except (FileNotFoundError, NotADirectoryError, InvalidManifestError, StoreError):
            return None

    def _write(self, path: Path, value: object, *, private: bool = False) -> None:
        self._files.touch(path, json.dumps(value).encode(), private=private)
