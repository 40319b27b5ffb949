"""fsck: what is wrong in a store, found by reading all of it and changing nothing."""

from collections.abc import Iterator
from dataclasses import dataclass

from modelpm.content import all_successors, walk
from modelpm.errors import ContentError, StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import is_manifest
from modelpm.store.blobs import Blobs
from modelpm.store.index import Entry


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: on which name or file, and what. `name` is empty for a file."""

    name: str
    what: str


def check(blobs: Blobs, entries: list[Entry]) -> Iterator[Problem]:
    """Every problem of the names, then of the files; every blob is hashed once.

    A clean store yields nothing. Leftovers of killed processes are no problems: prune takes them.
    """
    good: set[Digest] = set()
    for entry in entries:
        try:
            yield from _check_entry(blobs, entry, good)
        except (ContentError, StoreError) as error:
            yield Problem(entry.name or "", f"its manifest cannot be read: {error}")
    for digest, file in blobs.stored():
        if digest is None:
            yield Problem("", f"{file.path.name} is no blob")
        elif digest not in good:
            yield from _check_blob(blobs, "", Descriptor("", digest, file.size))


def _check_entry(blobs: Blobs, entry: Entry, good: set[Digest]) -> Iterator[Problem]:
    if not is_manifest(entry.descriptor):
        yield Problem(entry.name or "", f"it points at no manifest: {entry.descriptor.media_type}")
        return
    for desc, manifest in walk(blobs, entry.descriptor, all_successors):
        good.add(desc.digest)
        for leaf in manifest.successors:
            if leaf.digest in good or is_manifest(leaf):
                continue
            problems = list(_check_blob(blobs, entry.name or "", leaf))
            yield from problems
            good.add(leaf.digest)


def _check_blob(blobs: Blobs, name: str, desc: Descriptor) -> Iterator[Problem]:
    try:
        blobs.verify(desc)
    except (ContentError, StoreError) as error:
        yield Problem(name, str(error))
