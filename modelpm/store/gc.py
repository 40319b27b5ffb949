"""What is garbage: all that no name, no live lease and no referrer of a live manifest reaches.

Planning is one call, deleting another: a plan that is not executed is a dry run. A plan is made
only if every name, every lease and every live manifest can be read; otherwise nothing is garbage,
because what cannot be read may need anything.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from modelpm.content import all_successors, walk
from modelpm.errors import ContentError, StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import Manifest, is_manifest
from modelpm.store.archives import Contents
from modelpm.store.blobs import Stored
from modelpm.store.index import Entry
from modelpm.store.leases import Leases


@dataclass(frozen=True, slots=True)
class Garbage:
    """What a sweep would delete now."""

    blobs: tuple[tuple[Digest, Stored], ...]
    """Blobs, and recipes under the digests of their layers."""

    drafts: tuple[Stored, ...]
    """Downloads that were begun and left."""

    strays: tuple[Stored, ...]
    """What else killed processes left, notes on blobs that are gone, and foreign files."""

    @property
    def size(self) -> int:
        """Bytes that the sweep frees."""
        parts = (*(stored for _, stored in self.blobs), *self.drafts, *self.strays)
        return sum(stored.size for stored in parts)

    def __bool__(self) -> bool:
        return bool(self.blobs or self.drafts or self.strays)

    def still(self, later: "Garbage") -> "Garbage":
        """The part of this plan that is in a later one as well."""
        # A draft by its path alone: what the disk gives it shows with some delay.
        drafts = {file.path for file in later.drafts}
        blobs, strays = set(later.blobs), set(later.strays)
        return Garbage(
            tuple(pair for pair in self.blobs if pair in blobs),
            tuple(file for file in self.drafts if file.path in drafts),
            tuple(file for file in self.strays if file in strays),
        )

    def only(self, digests: Iterable[Digest]) -> "Garbage":
        """The part of the plan that concerns these blobs."""
        wanted = set(digests)
        return Garbage(tuple(pair for pair in self.blobs if pair[0] in wanted), (), ())


def plan(
    blobs: Contents,
    entries: Iterable[Entry],
    leases: Leases,
    notes: Iterable[tuple[Digest | None, Stored]] = (),
) -> Garbage:
    """Find the garbage. The caller holds the store's exclusive lock.

    `notes` are small files about one blob each, or with None about none: they go with the blob.
    Raises StoreError when anything that must be read cannot be.
    """
    leased = set(leases.live())
    live = leased | _reachable(blobs, entries)
    live |= blobs.needed(live)
    found = [*blobs.stored(), *blobs.stored_recipes()]
    return Garbage(
        blobs=tuple((digest, file) for digest, file in found if digest and digest not in live),
        drafts=tuple(file for digest, file in blobs.drafts() if digest not in leased),
        strays=(
            *(file for digest, file in found if digest is None),
            *blobs.trash(),
            *(Stored(path, _size(path)) for path in leases.dead()),
            *(file for digest, file in notes if digest not in live),
        ),
    )


def reach(blobs: Contents, root: Descriptor) -> Iterator[Digest]:
    """Every digest that a manifest needs, its own among them. Raises StoreError.

    The files of layers that are archives are needed, too.
    """
    found = set()
    for digest, manifest in _manifests(blobs, root):
        found |= {digest, *(desc.digest for desc in manifest.successors)}
    yield from found | blobs.needed(found)


def _manifests(blobs: Contents, root: Descriptor) -> Iterator[tuple[Digest, Manifest]]:
    if not is_manifest(root):
        raise StoreError(f"{root.digest} is named but is no manifest ({root.media_type})")
    try:
        for desc, manifest in walk(blobs, root, all_successors):
            yield desc.digest, manifest
    except ContentError as error:
        raise StoreError(
            f"the manifest {root.digest} cannot be read, so nothing was deleted: {error}"
        ) from error


def _reachable(blobs: Contents, entries: Iterable[Entry]) -> set[Digest]:
    """What the names reach, then, as long as it grows, what refers to something live.

    An entry without a name whose manifest has a subject is a referrer: it lives as its subject.
    """
    live: set[Digest] = set()
    read: set[Digest] = set()
    referrers: list[tuple[Digest, set[Digest]]] = []
    for entry in entries:
        root = entry.descriptor
        if root.digest in read:
            continue
        graph = dict(_manifests(blobs, root))
        needed = set(graph).union(*((d.digest for d in m.successors) for m in graph.values()))
        subject = graph[root.digest].subject
        if entry.name is None and subject is not None:
            referrers.append((subject.digest, needed))
        else:
            read.add(root.digest)
            live |= needed
    grown = True
    while grown:
        grown = False
        for subject_digest, needed in referrers:
            if subject_digest in live and not needed <= live:
                live |= needed
                grown = True
    return live


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
