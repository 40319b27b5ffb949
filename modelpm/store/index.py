"""Names: `index.json`, in which one entry points one name at one manifest.

Source: OCI image spec 1.1, image-layout.md, "index.json file". The name is the annotation
`org.opencontainers.image.ref.name`. Entries of other programs are kept as they are, byte for byte
where JSON allows it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelpm.errors import InvalidManifestError, InvalidReferenceError, StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import OCI_INDEX
from modelpm.store.files import Files, read_small
from modelpm.store.reserve import Reserve

REF_NAME = "org.opencontainers.image.ref.name"
MODIFIED = "dev.modelpm.modified"
SIZE = "dev.modelpm.size"
SELECTED_FROM = "dev.modelpm.selected-from"

_MAX_BYTES = 256 * 2**20
_EMPTY = {"schemaVersion": 2, "mediaType": OCI_INDEX}
_SIZE = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: the name, or None for content that is kept without a name, and its manifest."""

    name: str | None
    descriptor: Descriptor

    @property
    def modified(self) -> str:
        """When the name was pointed here, RFC 3339 in UTC; empty where another program did it."""
        return self.descriptor.annotations.get(MODIFIED, "")

    @property
    def size(self) -> int | None:
        """Bytes of config and layers, where they were noted."""
        text = self.descriptor.annotations.get(SIZE, "")
        return int(text) if _SIZE.fullmatch(text) else None

    @property
    def selected_from(self) -> Digest | None:
        """The index from which this manifest was chosen when it was pulled."""
        try:
            return Digest.parse(self.descriptor.annotations.get(SELECTED_FROM, ""))
        except InvalidReferenceError:
            return None


class Index:
    """The names of one store. Reading needs no lock; whoever writes holds the store's lock."""

    def __init__(self, root: Path, files: Files) -> None:
        self._path = root / "index.json"
        self._files = files
        self._reserve = Reserve(root, files)

    def entries(self) -> list[Entry]:
        """Every entry, in the file's order. Raises StoreError where the file cannot be read."""
        entries = []
        for value in self._load()[1]:
            try:
                descriptor = Descriptor.from_json(value)
            except InvalidManifestError as error:
                raise StoreError(f"{self._path} has a broken entry: {error}") from error
            entries.append(Entry(descriptor.annotations.get(REF_NAME), descriptor))
        return entries

    def find(self, name: str) -> Entry | None:
        """The entry of a name."""
        return next((entry for entry in self.entries() if entry.name == name), None)

    def put(self, name: str, descriptor: Descriptor, notes: Mapping[str, str]) -> None:
        """Point a name at a manifest, in place of what it pointed at."""
        value = descriptor.to_json()
        value["annotations"] = {REF_NAME: name, **notes}
        self._reserve.keep(self._replace({name}, value))

    def drop(self, names: set[str]) -> None:
        """Delete the entries of these names, also where the disk is full."""
        try:
            self._replace(names)
        except StoreError as error:
            if not self._reserve.give_up(error):
                raise
            self._replace(names)

    def _replace(self, names: set[str], *values: object) -> int:
        """Put these entries in the place of those of the names; all else stays. Its bytes now."""
        document, manifests = self._load()
        kept = [value for value in manifests if not _is_named(value, names)]
        document = {**_EMPTY, **document, "manifests": [*kept, *values]}
        content = json.dumps(document, separators=(",", ":")).encode()
        self._files.replace(self._path, content)
        return len(content)

    def _load(self) -> tuple[dict[str, object], list[object]]:
        """The whole document, and its list of entries."""
        try:
            document = json.loads(read_small(self._path, _MAX_BYTES))
        except FileNotFoundError:
            return {}, []
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{self._path} is no index of an OCI layout: {error!r:.200}") from None
        manifests = document.get("manifests") if isinstance(document, dict) else None
        if not isinstance(manifests, list):
            raise StoreError(f"{self._path} is no index of an OCI layout: no list of manifests")
        return document, manifests


def _is_named(value: object, names: set[str]) -> bool:
    annotations = value.get("annotations") if isinstance(value, dict) else None
    return isinstance(annotations, dict) and annotations.get(REF_NAME) in names
