"""Who is using what: a lease is a file of digests, and the lock that its holder keeps on it.

A holder that dies loses its lock with its life, so a lease is never stale: it is live or a file to
be swept. Leases are written and read under the store's lock, shared and exclusive.
"""

import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from modelpm.errors import InvalidManifestError, InvalidReferenceError, StoreError
from modelpm.oci.descriptor import Digest
from modelpm.oci.manifest import load_json
from modelpm.store.files import Files, listing, read_small

_MAX_BYTES = 64 * 2**20


class Leases:
    """The leases below one store's root."""

    def __init__(self, root: Path, files: Files) -> None:
        self._folder = root / "leases"
        self._lock = root / "lock"
        self._files = files

    @contextlib.contextmanager
    def hold(self, digests: Iterable[Digest]) -> Iterator[None]:
        """Keep these digests from being collected until the context ends, or its process."""
        path = self._folder / f"{secrets.token_hex(8)}.json"
        content = json.dumps(sorted({str(digest) for digest in digests})).encode()
        with contextlib.ExitStack() as stack:
            with self._files.locked(self._lock, exclusive=False):
                fd = stack.enter_context(self._files.create(path))
                stack.callback(self._files.remove, path)  # before the lock on it goes
                self._files.try_lock(fd, path, exclusive=True)
                self._files.write(fd, path, content)
            yield

    def live(self) -> Iterator[Digest]:
        """What living holders need. Raises StoreError for a live lease that cannot be read."""
        for path in self._paths():
            if self._is_live(path):
                yield from _read(path)

    def dead(self) -> Iterator[Path]:
        """The leases that killed processes left."""
        return (path for path in self._paths() if not self._is_live(path))

    def _paths(self) -> list[Path]:
        return [path for path, _ in listing(self._folder) if path.suffix == ".json"]

    def _is_live(self, path: Path) -> bool:
        try:
            with self._files.reopen(path) as fd:
                return not self._files.try_lock(fd, path, exclusive=True)
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return False
            raise


def _read(path: Path) -> Iterator[Digest]:
    try:
        texts = load_json(read_small(path, _MAX_BYTES))
        if not isinstance(texts, list):
            raise InvalidManifestError("a lease is not a list")
        yield from (Digest.parse(str(text)) for text in texts)
    except FileNotFoundError:
        return
    except (InvalidManifestError, InvalidReferenceError) as error:
        raise StoreError(f"the lease {path} cannot be read: {error}") from error
