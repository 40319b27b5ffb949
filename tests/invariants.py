"""The conditions that nothing was lost: taken before a fault, asserted after it.

N0  what was published is byte for byte as it was, and the store's own check is clean
N1  or else, where `drafts` may stay, a begun download is left to go on from
N2  every name points where it did
N3  no other origin was sent a secret
N4  nothing changed around the store
N5  it took no longer than it may, and no more memory
N6  the registry was only read from
"""

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from registry import Registry, Sink

from modelpm.store.layout import Store

SECONDS = 15.0
"""No fault takes longer, however long a registry would go on."""

MEMORY = 64 * 2**20
"""Bytes by which the peak of this process may grow: bodies are never held."""


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its bytes; folders have None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


class Unharmed:
    """The conditions for one store, in one folder, and the servers that it speaks to."""

    def __init__(
        self, home: Path, outside: Path, registry: Registry, sinks: Sequence[Sink] = ()
    ) -> None:
        self._home, self._outside = home, outside
        self._registry, self._sinks = registry, sinks
        self._published = self._of_store()
        self._around = self._of_outside()
        self._held = _of_registry(registry)
        self._asked = len(registry.log)
        self._peak = _peak()
        self._began = time.monotonic()

    def check(self, *, drafts: bool, published: bool = False) -> None:
        """After a failure; `drafts` says whether a begun download may stay.

        Whole blobs may have come in: `Store.check` says whether they are what they are called.
        With `published` it was a success, which may have made the index another.
        """
        assert time.monotonic() - self._began < SECONDS  # N5
        assert _peak() - self._peak < MEMORY
        now = self._of_store()
        kept = {name for name in self._published if not (published and name == "index.json")}
        assert {name: now.get(name) for name in kept} == {
            name: self._published[name] for name in kept
        }  # N0, N2
        assert self._of_outside() == self._around  # N4
        assert Store(self._home).check() == []
        if not drafts and (self._home / "ingest").exists():  # N1
            assert list((self._home / "ingest").iterdir()) == []
        for folder in ("leases", "trash"):
            if (self._home / folder).exists():
                assert list((self._home / folder).iterdir()) == []
        for sink in self._sinks:
            assert sink.secrets == ()  # N3
        assert _of_registry(self._registry) == self._held  # N6
        methods = {request.method for request in self._registry.log[self._asked :]}
        assert methods <= {"GET", "HEAD"}

    def _of_store(self) -> dict[str, bytes | None]:
        ours = ("index.json", "blobs/")
        found = contents(self._home) if self._home.exists() else {}
        return {
            name: content
            for name, content in found.items()
            if content is not None and name.startswith(ours)
        }

    def _of_outside(self) -> dict[str, bytes | None]:
        home = str(self._home.relative_to(self._outside))
        return {
            name: content
            for name, content in contents(self._outside).items()
            if not (name == home or name.startswith(f"{home}/"))
        }


def _of_registry(registry: Registry) -> tuple[object, ...]:
    content = registry.content
    tags = {repository: dict(tags) for repository, tags in content.tags.items()}
    return tags, set(content.manifests), set(content.blobs)


def _peak() -> int:
    """Bytes of memory that this process has had at most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
