"""How layers become parts: files with a role, a safe and unique name, and where their bytes are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelpm.content import Fetcher, read
from modelpm.errors import InvalidManifestError, ModelError
from modelpm.model import overlay
from modelpm.model.archive import packing
from modelpm.model.dialects import IMAGE, ORAS, TITLE, Dialect
from modelpm.model.facts import at
from modelpm.model.kitfile import Entry, entries
from modelpm.model.magic import WEIGHTS, Kind, head, kind_of
from modelpm.model.names import relative, safe_name, shard_name, unique_names
from modelpm.model.roles import Role
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.manifest import Manifest, load_json

if TYPE_CHECKING:
    from modelpm.content import Packed

MAX_PEEKS = 16
"""Layers whose first bytes are looked at where nothing else tells what they are."""
MAX_PARTS = 100_000
"""Files of one model, those in archives among them."""

_LEAST_WEIGHTS = 24
_TOLD_BY_BYTES = frozenset({Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFT})
"""What an engine loads. That such a layer is no archive is believed if it begins as weights."""
_PATHS = ("org.cncf.model.filepath", "org.cnai.model.filepath")
_METADATA = ("org.cncf.model.file.metadata+json", "org.cnai.model.file.metadata+json")
_IN_LAYER = "olot.layer.content.inlayerpath"
_HINTS = (TITLE, "olot.layer.content.name")
_ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.zst")
_NAMES = {
    Role.WEIGHTS: "model.gguf",
    Role.PROJECTOR: "mmproj.gguf",
    Role.ADAPTER: "adapter.gguf",
    Role.DRAFT: "draft.gguf",
    Role.PARAMETERS: "params.json",
    Role.MESSAGES: "messages.json",
    Role.CONFIG: "config.json",
    Role.LICENSE: "LICENSE",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One file: what it is for, where its bytes are, and a safe, unique name.

    `packed_in` is the layer that the file came in, where that is an archive; `descriptor` is then
    the file's own. Of an archive that nobody has unpacked yet both are the layer.
    """

    role: Role
    descriptor: Descriptor
    name: str
    packed_in: Descriptor | None = None

    @property
    def is_archive(self) -> bool:
        """Whether the file is still inside an archive that nobody has unpacked."""
        return self.packed_in is not None and self.packed_in.digest == self.descriptor.digest

    def document(self) -> dict[str, object]:
        """It as JSON values."""
        return {
            "role": self.role.value,
            "name": self.name,
            "mediaType": self.descriptor.media_type,
            "digest": str(self.descriptor.digest),
            "size": self.descriptor.size,
            "packedIn": None if self.packed_in is None else str(self.packed_in.digest),
        }


_Inside = tuple["Packed", ...] | None
Unpacked = Callable[[Descriptor], _Inside]
"""What a layer that is an archive holds, in the archive's order; empty for one without files, and
None for one that is none, and where nobody knows yet."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file on its way to a part: its name is UNSAFE, or "" where nobody told one."""

    layer: Descriptor
    descriptor: Descriptor
    name: str
    role: Role
    packed_in: Descriptor | None = None

    @property
    def is_archive(self) -> bool:
        return self.packed_in is self.descriptor


def parts_of(
    manifest: Manifest, dialect: Dialect, fetcher: Fetcher, unpacked: Unpacked | None
) -> tuple[Part, ...]:
    """The files of a model in the manifest's order, those of an archive in the archive's.

    Without `unpacked` nobody has looked into any archive. Raises ModelError for what holds no
    model, ContentError where names or first bytes are to be read and cannot.
    """
    named = _names_by_layer(manifest, dialect)
    told = [Entry()] * len(named)
    if dialect.has_kitfile:
        told = _entries(manifest, fetcher)
    packed = _looked_into(manifest, unpacked)
    if dialect is IMAGE:
        packed = _topmost(packed)
    files: list[_File] = []
    for layer, own, entry, inside in zip(manifest.layers, named, told, packed, strict=True):
        files += _files(layer, own, entry, dialect, inside)
    if dialect is IMAGE and not all(file.is_archive for file in files):
        files = [file for file in files if not file.is_archive]  # nothing could be taken out
    files = [_unless_config(file, manifest.config) for file in files]
    files = _by_magic(files, dialect, fetcher, local=unpacked is not None)
    if dialect is ORAS and not any(_may_be_model(file) for file in files):
        raise ModelError(
            f"{manifest.digest} holds no model: no layer is a GGUF or safetensors file"
        )
    names = unique_names(map(safe_name, _all_names(dialect, files)))
    return tuple(
        Part(file.role, file.descriptor, name, file.packed_in)
        for file, name in zip(files, names, strict=True)
    )


def _unless_config(file: _File, config: Descriptor | None) -> _File:
    """The file, as what it is: omlmd pushes the config as a layer too, of the weights' type."""
    is_config = config is not None and file.descriptor.digest == config.digest
    return replace(file, role=Role.CONFIG) if is_config and file.role is Role.WEIGHTS else file


def _may_be_model(file: _File) -> bool:
    return file.role is Role.WEIGHTS or file.packed_in is not None


def _looked_into(manifest: Manifest, unpacked: Unpacked | None) -> list[_Inside]:
    """What is in each layer, in order. Raises ModelError for too many files."""
    found: list[_Inside] = []
    count = 0
    for layer in manifest.layers:
        found.append(unpacked(layer) if unpacked is not None else None)
        count += len(found[-1] or (layer,))
        if count > MAX_PARTS:
            raise ModelError(f"{manifest.digest} has more than {MAX_PARTS} files")
    return found


def _topmost(layers: Sequence[_Inside]) -> list[_Inside]:
    """The same layers of an image, with those of their files that no layer above hides."""
    visible = overlay.seen([[relative(file.name) for file in files or ()] for files in layers])
    return [
        files and tuple(file for file in files if relative(file.name) in paths)
        for files, paths in zip(layers, visible, strict=True)
    ]


def _files(
    layer: Descriptor, own: str, entry: Entry, dialect: Dialect, packed: _Inside
) -> Iterator[_File]:
    """The files of one layer. `own` is what the manifest calls its file, `entry` the config."""
    inside = [
        (file, path) for file in packed or () if (path := _path(file.name, dialect)) is not None
    ]
    alone = len(inside) == 1
    for file, path in inside:
        name = _member_name(layer, own, entry.place(path), alone=alone)
        role = entry.role(dialect.role(layer, name, alone=alone))
        yield _File(layer, file.descriptor, name, role, layer)
    if packed is None:
        name = own or entry.path or _hint(layer, dialect)
        role = entry.role(dialect.role(layer, name))
        yield _File(layer, layer, name, role, layer if dialect.is_packed(layer) else None)


def _path(member: str, dialect: Dialect) -> str | None:
    """A member's path within the model, "" for a nameless one; None for one not of the model."""
    text = relative(member)
    return text.removeprefix(dialect.root) if text.startswith(dialect.root) else None


def _hint(layer: Descriptor, dialect: Dialect) -> str:
    """What a layer is called by those who do not say what its file is called."""
    path = layer.annotations.get(_IN_LAYER, "").lstrip("/").removeprefix(dialect.root)
    names = [path, *(layer.annotations.get(key, "") for key in _HINTS)]
    return next((name for name in names if name), "")


def _member_name(layer: Descriptor, own: str, path: str, *, alone: bool) -> str:
    """What a file of an archive is called.

    The writer's own name goes first where it is that of a file, and not of the archive. A title
    only decides how much of the path is meant: olot packs `models/a.gguf` and calls it `a.gguf`.
    """
    is_file = not own.lower().endswith(_ARCHIVES) and not path.startswith(f"{own.strip('/')}/")
    if alone and own and (is_file or not path):
        return own
    title = layer.annotations.get(TITLE, "")
    return title if title and path.endswith(f"/{title}") else path or _hint(layer, IMAGE)


def _names_by_layer(manifest: Manifest, dialect: Dialect) -> list[str]:
    """What the writer calls the file of each layer, UNSAFE, or ""."""
    listed = _listed_names(manifest, dialect)
    return [
        _annotated_name(layer) or name for layer, name in zip(manifest.layers, listed, strict=True)
    ]


def _annotated_name(layer: Descriptor) -> str:
    told = layer.annotations
    names = [told.get(key) for key in _PATHS]
    names += [_metadata_name(told.get(key)) for key in _METADATA]
    return next((name for name in names if name), "")


def _metadata_name(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        document = load_json(text.encode())
    except (InvalidManifestError, UnicodeEncodeError):
        return None
    name = at(document, ("name",))
    return name if isinstance(name, str) else None


def _listed_names(manifest: Manifest, dialect: Dialect) -> list[str]:
    """The names that stand beside the layers' digests, as Ollama writes those of tensors."""
    nothing = [""] * len(manifest.layers)
    if not dialect.layer_name:
        return nothing
    layers = at(load_json(manifest.raw), ("layers",))
    if not isinstance(layers, list):
        return nothing
    names = [at(each, (dialect.layer_name,)) for each in layers]
    return [name if isinstance(name, str) else "" for name in names]


def _entries(manifest: Manifest, fetcher: Fetcher) -> list[Entry]:
    """What the Kitfile says of each layer; nothing where it is not JSON."""
    try:
        document = load_json(read(fetcher, manifest.config)) if manifest.config else None
    except InvalidManifestError:
        document = None
    return entries(document, manifest.layers)


def _by_magic(
    files: Sequence[_File], dialect: Dialect, fetcher: Fetcher, *, local: bool
) -> list[_File]:
    """The files, with those put right that begin as weights do, or as no archive does.

    Looked at are layers that are said to be archives and were here to be unpacked, but were not;
    and, where nothing is known to be the weights, those of which nobody says what they are.
    """
    result = list(files)
    unclear = [i for i, file in enumerate(files) if local and file.is_archive]
    if dialect.by_name and not any(file.role is Role.WEIGHTS for file in files):
        unclear += [i for i, file in enumerate(files) if _is_unclear(file)]
    for index in unclear[:MAX_PEEKS]:
        file = files[index]
        begin = head(file.descriptor, fetcher)
        kind = kind_of(begin, file.descriptor.size)
        if file.is_archive and file.role not in _TOLD_BY_BYTES and _is_plain(begin):
            result[index] = replace(file, packed_in=None)
        if kind in WEIGHTS:
            role = Role.WEIGHTS if file.role in (Role.OTHER, Role.DOCUMENT) else file.role
            name = file.name or _weights_name(kind)
            result[index] = replace(file, role=role, name=name, packed_in=None)
    return result


def _is_plain(begin: bytes) -> bool:
    """Whether what begins so is no archive; zeros are one without files."""
    return packing(begin) is None and begin.strip(b"\0") != b""


def _is_unclear(file: _File) -> bool:
    is_large = file.descriptor.size >= _LEAST_WEIGHTS
    return is_large and not file.is_archive and file.role in (Role.OTHER, Role.DOCUMENT)


def _all_names(dialect: Dialect, files: Sequence[_File]) -> list[str]:
    """The files' names; those that nobody told are made up from roles and order."""
    names = [file.name or _given_name(file) for file in files]
    weights = [i for i, file in enumerate(files) if file.role is Role.WEIGHTS]
    if dialect.unnamed_shards and len(weights) > 1:
        for number, index in enumerate(weights, 1):
            if not files[index].name:
                names[index] = shard_name(names[index], number, len(weights))
    return names


def _weights_name(kind: Kind | None) -> str:
    return "model.safetensors" if kind is Kind.SAFETENSORS else "model.gguf"


def _given_name(file: _File) -> str:
    kind = file.layer.media_type
    if file.role is Role.WEIGHTS and "safetensors" in kind:
        return "model.safetensors"
    if file.role is Role.WEIGHTS and kind.endswith(".dduf"):
        return "model.dduf"
    if file.role is Role.TEMPLATE and kind.endswith("jinja"):
        return "chat_template.jinja"
    return _NAMES.get(file.role, file.role.value)
