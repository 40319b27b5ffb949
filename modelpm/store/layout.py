"""The store as a whole: one folder that is a valid OCI image layout 1.1, and a `Target`.

    oci-layout  index.json  blobs/sha256/<hex>      what skopeo, oras and crane read in place
    ingest/  leases/  used/  adopted/  trash/  notes/  lock   beside it, modelpm's own
    recipes/                                        archives that are kept as the files in them
    modelpm.json                                    the version of this arrangement

Commit order: blobs, manifests, names last. Delete order: names first. The lock is held only while
a name or a recipe is written, a lease is taken, or garbage is set aside: never while bytes move.
"""

import contextlib
import dataclasses
import json
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from modelpm.content import (
    Fetcher,
    Observer,
    Packed,
    all_successors,
    ignore,
    read_manifest,
    walk,
)
from modelpm.errors import ContentError, InvalidManifestError, NotFoundError, StoreError
from modelpm.oci.descriptor import HEX_LENGTH, Descriptor, Digest
from modelpm.oci.manifest import is_manifest, load_json
from modelpm.store import gc
from modelpm.store.adopt import Adoption
from modelpm.store.archives import Archives, Contents
from modelpm.store.blobs import Stored
from modelpm.store.check import Problem, check
from modelpm.store.files import Files, listing, read_small, store_errors
from modelpm.store.gc import Garbage
from modelpm.store.index import MODIFIED, SELECTED_FROM, SIZE, Entry, Index
from modelpm.store.leases import Leases
from modelpm.store.naming import files_in
from modelpm.store.notes import FOLDER as NOTES
from modelpm.store.notes import StoreNotes
from modelpm.store.used import WORTH_A_NOTE, Used

VERSION = 1
_BESIDE = ("ingest", "leases", "used", "adopted", "recipes", "trash", NOTES)
_OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_FOLDERS = ("blobs", *(f"blobs/{name}" for name in HEX_LENGTH), *_BESIDE)
_OURS = frozenset(("blobs", *_BESIDE, "lock", "reserve", "oci-layout", "modelpm.json"))
_DRAFT = re.compile(r"\.(?:oci-layout|modelpm\.json|index\.json)\.[a-f0-9]{16}")


class Store:
    """The models on this machine. Several processes may use one store at once.

    A store that does not exist yet reads as empty and is made by the first write. Archives are kept
    as the files in them, so programs that read the folder do not find their layers; `archives.py`
    tells what `keep_layers` does about that.
    """

    def __init__(
        self,
        root: Path,
        *,
        files: Files | None = None,
        observe: Observer = ignore,
        keep_layers: bool = False,
    ) -> None:
        self.root = root
        self._files = files or Files()
        self._blobs = Contents(root, self._files, observe)
        self.archives = Archives(self._blobs, self._files, root, keep_layers=keep_layers)
        self._index = Index(root, self._files)
        self._leases = Leases(root, self._files)
        self.notes = StoreNotes(root, self._files)
        """What is remembered of registries."""
        self._used = Used(root, self._files)
        self._lock = root / "lock"
        self._prepared = False

    # Reading: the Source.

    def entries(self) -> list[Entry]:
        """Every name and what it points at. Raises StoreError."""
        self._version()
        return self._index.entries()

    def find(self, name: str) -> Entry | None:
        """The entry of a full name. Raises StoreError."""
        self._version()
        return self._index.find(name)

    def resolve(self, reference: str) -> Descriptor:
        """The manifest of a name or of a digest. Raises NotFoundError."""
        for entry in self.entries():
            if reference in (entry.name, str(entry.descriptor.digest)):
                return entry.descriptor
        raise NotFoundError(f"{reference} is not in the store (try: modelpm pull {reference})")

    def fetch(self, desc: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """Open a blob. Unverified."""
        return self._blobs.fetch(desc, offset)

    def exists(self, desc: Descriptor) -> bool:
        """Whether the blob is here and right; a manifest, or what was touched since, is hashed."""
        return self._blobs.is_right(desc) if is_manifest(desc) else self._blobs.exists(desc)

    def referrers(self, subject: Descriptor) -> Iterable[Descriptor]:
        """The manifests here that have this subject."""
        for entry in self.entries():
            if is_manifest(entry.descriptor):
                manifest = read_manifest(self, entry.descriptor)
                if manifest.subject is not None and manifest.subject.digest == subject.digest:
                    yield entry.descriptor

    def path(self, desc: Descriptor) -> Path:
        """The blob's file, verified: hashed at the first use after a start of the machine.

        Also notes the time of use, where this store is ours to write. Raises DigestMismatchError,
        NotFoundError or StoreError.
        """
        self._prepare_if_ours()
        self._blobs.require_file(desc.digest)
        path = self._blobs.path(desc.digest)
        if not (self._used.is_trusted(desc.digest) and self._blobs.exists(desc)):
            self._blobs.verify(desc)
        if self._prepared:
            self._used.note(desc.digest)
        return path

    def unpacked(self, desc: Descriptor) -> tuple[Packed, ...] | None:
        """The files of a layer that is an archive; None where it is none, or was not looked into.

        The files are here as blobs of their own.
        """
        return self._blobs.unpacked(desc)

    def verify(self, desc: Descriptor) -> None:
        """Hash a blob, whatever is believed of it; a wrong one is brought anew by the next pull.

        Raises DigestMismatchError, NotFoundError or StoreError.
        """
        self._prepare_if_ours()
        self._blobs.verify(desc)

    # Writing: the Target.

    def push(self, desc: Descriptor, source: Fetcher) -> None:
        """Bring a blob in, verified. Idempotent; resumes.

        It is durable once a manifest got a name after it, or it was settled.
        """
        self.prepare()
        if not self.exists(desc):
            self._blobs.take(desc, source)
            if desc.size >= WORTH_A_NOTE:
                self._used.note(desc.digest)

    def adopt(
        self,
        path: Path,
        media_type: str,
        kept: contextlib.ExitStack,
        told: Callable[[int], None] = lambda _hashed: None,
    ) -> Descriptor:
        """Take in a file from outside, verified and durable, by reflink, hard link or copy.

        The file is read once and never changed; `told` hears how many of its bytes have been
        hashed. The blob is kept from being collected until `kept` ends: give it a name before.
        Raises NotFoundError, and StoreError for what is no regular file or changes meanwhile.
        """
        self.prepare()
        adoption = Adoption(self.root, self._files, self._blobs, self._leases)
        desc = adoption.take(path, media_type, kept, told)
        if desc.size >= WORTH_A_NOTE:
            self._used.note(desc.digest)
        return desc

    def tag(self, desc: Descriptor, reference: str, *, selected_from: Digest | None = None) -> None:
        """Point a name at a manifest, durably. The last step of every pull.

        All that the manifest needs must be here: raises StoreError where it is not, and
        the name is then what it was. `selected_from` notes the index the manifest is a child of.
        """
        self.prepare()
        notes = {MODIFIED: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        if selected_from is not None:
            notes[SELECTED_FROM] = str(selected_from)
        with self._files.locked(self._lock, exclusive=True):
            notes[SIZE] = str(self._complete_size(desc))
            self.settle()
            self._index.put(reference, desc, notes)

    def settle(self) -> None:
        """Make durable what has come in, also what another process has brought just now.

        For who brings again what a name needs already; a new name does it by itself.
        """
        for algorithm in HEX_LENGTH:
            self._files.sync_folder(self.root / "blobs" / algorithm)

    @contextlib.contextmanager
    def hold(self, descs: Iterable[Descriptor]) -> Iterator[None]:
        """Keep these from being collected until the context ends.

        Raises StoreError where the disk has no room for those of them that are not here yet.
        """
        self.prepare()
        descs = list(descs)
        with self._leases.hold(desc.digest for desc in descs):
            self._blobs.require_room(descs)
            yield

    def untag(self, names: set[str]) -> None:
        """Delete names, durably. What they pointed at stays until it is swept."""
        self.prepare()
        with self._files.locked(self._lock, exclusive=True):
            self._index.drop(names)

    def copy(self, source: str, name: str) -> None:
        """Point a second name at what `source` points at. Raises NotFoundError."""
        entry = self.find(source)
        if entry is None:
            raise NotFoundError(f"{source} is not in the store (try: modelpm list)")
        self.tag(entry.descriptor, name, selected_from=entry.selected_from)

    # Collecting and checking.

    def garbage(self, without: Collection[str] = ()) -> Garbage:
        """What a sweep would delete now, or would if these names were gone.

        Raises StoreError where anything cannot be read.
        """
        if self._version() is None and not self._has("index.json"):
            return Garbage((), (), ())
        self.prepare()
        with self._files.locked(self._lock, exclusive=True):
            return self._plan(without)

    def sweep(self, garbage: Garbage) -> Garbage:
        """Delete what was planned, as far as it is still garbage; what was deleted.

        Blobs are set aside under the lock and deleted after it. Raises StoreError.
        """
        if not garbage:
            return garbage
        self.prepare()
        with self._files.locked(self._lock, exclusive=True):
            swept = garbage.still(self._plan())
            # The names that were read: whoever wrote them may have been killed before this.
            self._files.sync_folder(self.root)
            aside = [self._set_aside(file.path) for _, file in swept.blobs]
            drafts = tuple(file for file in swept.drafts if self._blobs.remove_draft(file.path))
            for folder in {file.path.parent for _, file in swept.blobs}:
                self._files.sync_folder(folder)
        for path in (*aside, *(file.path for file in swept.strays)):
            self._files.remove(path)
        for digest, _ in swept.blobs:
            self._used.forget(digest)
            self._blobs.adopted.forget(digest)
            self.notes.forget(digest)
        return Garbage(swept.blobs, drafts, swept.strays)

    def reach(self, desc: Descriptor) -> set[Digest]:
        """Every digest that a manifest needs, with its own. Raises StoreError."""
        return set(gc.reach(self._blobs, desc))

    def check(self) -> list[Problem]:
        """Read and hash everything; what is wrong. Changes nothing but seals.

        Raises StoreError where the index cannot be read.
        """
        self._prepare_if_ours()
        return list(check(self._blobs, self.entries))

    # The folder itself.

    def prepare(self) -> None:
        """Make the layout where it is not there. Raises StoreError where it may not be written."""
        if self._prepared:
            return
        if self._version() not in (None, VERSION):
            raise StoreError(
                f"{self.root} is a store of version {self._version()!r:.20}; this modelpm writes"
                f" version {VERSION} only (try: pip install --upgrade modelpm)"
            )
        self._refuse_foreign()
        if not self.root.is_dir():  # the root itself may be a link; what lies in it may not
            self._files.make_folder(self.root)
        for folder in _FOLDERS:
            self._files.make_folder(self.root / folder)
        if not all(map(self._has, ("lock", "oci-layout", "modelpm.json", "index.json"))):
            self._make_files()
        # Whoever made them may have been killed before this.
        self._files.sync_folder(self.root)
        self._files.sync_folder(self.root / "blobs")
        self._blobs.trust_locks = self._files.locks_work(self._lock)
        self._blobs.may_seal = True
        self._prepared = True

    def _make_files(self) -> None:
        version = json.dumps({"version": VERSION}).encode()
        with self._files.locked(self._lock, exclusive=True):
            for name, content in (("oci-layout", _OCI_LAYOUT), ("modelpm.json", version)):
                if not self._has(name):
                    self._files.replace(self.root / name, content)
            if not self._has("index.json"):
                self._index.drop(set())

    def _prepare_if_ours(self) -> None:
        """For verbs that read, and leave marks where they may."""
        if self._version() == VERSION:
            with contextlib.suppress(StoreError):  # perhaps read-only; then it is only read
                self.prepare()

    def _refuse_foreign(self) -> None:
        names = {path.name for path, _ in listing(self.root)}
        if "index.json" in names:
            return
        if any(name not in _OURS and not _DRAFT.fullmatch(name) for name in names):
            raise StoreError(f"{self.root} is neither empty nor a store; choose another --home")
        # The blobs first: who brings one has made the index before.
        if any(self._blobs.stored()) and not self._has("index.json"):
            raise StoreError(
                f"{self.root} has blobs but no index.json, so their names are lost"
                " (put the file back, or choose another --home)"
            )

    def _has(self, name: str) -> bool:
        with store_errors("reading", self.root):
            return (self.root / name).exists()

    def _version(self) -> object:
        """The version of this arrangement; None where another program made it, or nobody."""
        path = self.root / "modelpm.json"
        try:
            document = load_json(read_small(path, 2**16))
        except FileNotFoundError:
            return None
        except InvalidManifestError:
            document = None
        if not isinstance(document, dict) or document.get("version") is None:
            raise StoreError(f"{path} cannot be read; is {self.root} a store?")
        return document["version"]

    def _plan(self, without: Collection[str] = ()) -> Garbage:
        if not self._blobs.trust_locks:
            raise StoreError(
                f"the file system of {self.root} has no locks that work, so nothing was deleted:"
                " another program may need it (choose another with --home)"
            )
        entries = [entry for entry in self._index.entries() if entry.name not in without]
        garbage = gc.plan(self._blobs, entries, self._leases, self._notes())
        drafts = (
            Stored(path, state.st_size)
            for path, state in listing(self.root)
            if _DRAFT.fullmatch(path.name)  # dead: they are only written under the lock
        )
        return dataclasses.replace(garbage, strays=(*garbage.strays, *drafts))

    def _complete_size(self, root: Descriptor) -> int:
        """Bytes of all that a manifest names. Raises StoreError where some of it is missing."""
        if not is_manifest(root):
            raise StoreError(f"{root.digest} cannot get a name: it is no manifest")
        sizes: dict[Digest, int] = {}
        try:
            for _, manifest in walk(self, root, all_successors):
                leaves = (desc for desc in manifest.successors if not is_manifest(desc))
                sizes.update({leaf.digest: leaf.size for leaf in leaves})
        except ContentError as error:
            raise StoreError(f"{root.digest} cannot get a name: {error}") from error
        for digest, size in sizes.items():
            if self._blobs.size(digest) != size:
                raise StoreError(f"{root.digest} cannot get a name: {digest} is not here")
        return sum(sizes.values())

    def _notes(self) -> Iterator[tuple[Digest | None, Stored]]:
        for folder in ("used", "adopted"):
            for digest, path, size in files_in(self.root / folder):
                yield digest, Stored(path, size)
        for digest, path, size in self.notes.files():
            yield digest, Stored(path, size)

    def _set_aside(self, path: Path) -> Path:
        aside = self.root / "trash" / secrets.token_hex(8)
        self._files.move(path, aside)
        return aside
