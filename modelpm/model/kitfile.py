"""What a Kitfile says of each layer of a ModelKit: where its files belong, and what they are.

Source: KitOps' artifact/kitfile.go and unpack/legacy.go. Since 0.5 an entry has the digest of its
layer, and the archive has whole paths; before, entries and layers are in the same order, and an
archive begins at the last name of the entry's path.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelpm.model.facts import at
from modelpm.model.names import relative
from modelpm.model.roles import Role
from modelpm.oci.descriptor import Descriptor

_TYPE = re.compile(r"application/vnd\.kitops\.modelkit\.(\w+)\.v1\.")
_SUBTYPE = "ml.kitops.modelkit.layer-subtype"
_SECTIONS = {
    "model": ("model",),
    "modelpart": ("model", "parts"),
    "code": ("code",),
    "dataset": ("datasets",),
    "docs": ("docs",),
    "prompt": ("prompts",),
}
"""Where the entries of layers of a type stand."""
_KINDS = (
    (re.compile(r"\b(q?lora|adapt[eo]r)"), Role.ADAPTER),
    (re.compile(r"mmproj|projector"), Role.PROJECTOR),
    (re.compile(r"\bdraft"), Role.DRAFT),
    (re.compile(r"tokenizer"), Role.TOKENIZER),
    (re.compile(r"template"), Role.TEMPLATE),
    (re.compile(r"licen[sc]e"), Role.LICENSE),
    (re.compile(r"config"), Role.CONFIG),
    (re.compile(r"weights|shard"), Role.WEIGHTS),
)
"""What the free text of a part's `type` means."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is said of one layer; "" where nothing is. `path` is that of a file or a folder, UNSAFE.

    `kind` is the writer's free text of what a part is.
    """

    path: str = ""
    kind: str = ""

    def place(self, member: str) -> str:
        """Where a file of the layer's archive belongs; the entry's own path for a nameless one."""
        if not self.path or member == self.path or member.startswith(f"{self.path}/"):
            return member
        folder, _, last = self.path.rpartition("/")
        if not member or member == last:
            return self.path
        return f"{folder}/{member}".lstrip("/") if member.startswith(f"{last}/") else member

    def role(self, own: Role) -> Role:
        """What a file is for that its name and its layer's type call `own`, where that is vague."""
        if own not in {Role.OTHER, Role.WEIGHTS}:
            return own
        kind = self.kind.lower()
        return next((role for words, role in _KINDS if words.search(kind)), own)


def entries(kitfile: object, layers: Sequence[Descriptor]) -> list[Entry]:
    """What a Kitfile, as JSON, says of each of these layers, in their order."""
    by_digest = _by_digest(kitfile)
    by_type = {name: _section(kitfile, keys) for name, keys in _SECTIONS.items()}
    found = []
    for layer in layers:
        own = by_digest.get(str(layer.digest), [])
        if own:  # several layers may have the same content, each with its entry
            found.append(own.pop(0) if len(own) > 1 else own[0])
        else:
            ways = (by_type[name] for name in _types(layer) if name in by_type)
            found.append(next((entry for way in ways for entry in way), Entry()))
    return found


def _types(layer: Descriptor) -> tuple[str, ...]:
    """The sections that a layer may have its entry in. A second model is one of its parts."""
    match = _TYPE.match(layer.media_type)
    kind = match[1] if match else ""
    if kind == "code" and layer.annotations.get(_SUBTYPE) == "prompt":
        return ("prompt",)
    return ("model", "modelpart") if kind == "model" else (kind,)


def _section(kitfile: object, keys: Sequence[str]) -> Iterator[Entry]:
    """The entries of a section that have a layer here, but do not say which."""
    told = at(kitfile, keys)
    for item in told if isinstance(told, list) else [told]:
        if isinstance(item, dict) and not _digest(item) and not item.get("remotePath"):
            yield _entry(item)


def _by_digest(kitfile: object) -> dict[str, list[Entry]]:
    """The entries that tell the digest of their layer, wherever they stand."""
    found: dict[str, list[Entry]] = {}
    level = [kitfile]
    while level:  # the depth of JSON is bounded by whoever parsed it
        objects = [item for item in level if isinstance(item, dict)]
        for item in objects:
            digest, entry = _digest(item), _entry(item)
            if digest and entry.path:
                found.setdefault(digest, []).append(entry)
        lists = [item for item in level if isinstance(item, list)]
        level = [value for item in objects for value in item.values()]
        level += [value for item in lists for value in item]
    return found


def _digest(item: object) -> str:
    """The digest of the layer of an entry, which stands in it, or in a `layerInfo` of its own."""
    told = [at(item, ("digest",)), at(item, ("layerInfo", "digest"))]
    return next((digest for digest in told if isinstance(digest, str)), "")


def _entry(item: object) -> Entry:
    path, kind = at(item, ("path",)), at(item, ("type",))
    return Entry(
        relative(path) if isinstance(path, str) else "", kind if isinstance(kind, str) else ""
    )
