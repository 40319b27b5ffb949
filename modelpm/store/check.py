"""fsck: what is wrong in a store, found by reading all of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from modelpm.content import all_successors, walk
from modelpm.errors import ContentError, NotFoundError, StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import is_manifest
from modelpm.store.blobs import Blobs
from modelpm.store.index import Entry


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: on which name or file, and what. `name` is empty for a file."""

    name: str
    what: str


def check(blobs: Blobs, entries: Callable[[], list[Entry]]) -> Iterator[Problem]:
    """Every problem of the names, then of the files; every blob is hashed once.

    A layer that is kept as its files is made again, and so these are hashed as parts of it, too.
    A clean store yields nothing. Leftovers of killed processes are no problems: prune takes them.
    Nor is what another process removes while this one reads: `entries` is asked again at the end.
    """
    verified = _Verified(blobs)
    broken = [(entry, problem) for entry in entries() for problem in _check_entry(verified, entry)]
    still = entries() if broken else []
    yield from (problem for entry, problem in broken if entry in still)
    seen = {digest for digest, _ in verified.outcomes}
    for digest, file in blobs.stored():
        if digest is None:
            yield Problem("", f"{file.path.name} is no blob")
        elif digest not in seen:
            try:
                blobs.verify(Descriptor("", digest, file.size))
            except NotFoundError:
                continue  # collected meanwhile
            except (ContentError, StoreError) as error:
                yield Problem("", str(error))


@dataclass(slots=True)
class _Verified:
    """What was wrong with each blob, or empty; read at the first question about it."""

    blobs: Blobs
    outcomes: dict[tuple[Digest, int], str] = field(default_factory=dict)

    def problem(self, desc: Descriptor) -> str:
        key = desc.digest, desc.size
        if key not in self.outcomes:
            try:
                self.blobs.verify(desc)
                self.outcomes[key] = ""
            except (ContentError, StoreError) as error:
                self.outcomes[key] = str(error)
        return self.outcomes[key]


def _check_entry(verified: _Verified, entry: Entry) -> Iterator[Problem]:
    name, root = entry.name or "", entry.descriptor
    if not is_manifest(root):
        yield Problem(name, f"it points at no manifest: {root.media_type}")
        return
    try:
        for desc, manifest in walk(verified.blobs, root, all_successors):
            for blob in (desc, *manifest.successors):
                if problem := verified.problem(blob):
                    yield Problem(name, problem)
    except (ContentError, StoreError) as error:
        yield Problem(name, f"its manifest cannot be read: {error}")
