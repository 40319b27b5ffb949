"""How a model that another program keeps enters the store: adopted, verified, under its name.

What Ollama keeps stays the same artifact, to the byte. Files without a manifest become one of
ModelPack, the same on every machine. What is here already is not read again where the other
program tells its digest; nothing of the other program's is ever changed.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from modelpm.content import Observer, Step, ignore, read
from modelpm.errors import DigestMismatchError, ModelError, NotFoundError, StoreError
from modelpm.foreign import huggingface, lmstudio, ollama
from modelpm.foreign.found import Found, Held
from modelpm.intake import OCTETS, Intake
from modelpm.model import about
from modelpm.model.about import MAX_CONFIG, About
from modelpm.model.blueprint import Blueprint
from modelpm.model.folder import role_of
from modelpm.model.gguf import Header
from modelpm.model.go_json import encode
from modelpm.model.model import Model, Part, Role
from modelpm.model.names import safe_name, unique_names
from modelpm.model.shards import INDEX, MAX_INDEX, weight_sets
from modelpm.model.writing import FORMATS, write
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import Manifest, load_json
from modelpm.store.files import open_regular
from modelpm.store.layout import Store

_BELOW = (".", "models", "hub", "lm-studio/models")
_MAX_SMALL = 2**26
"""Bytes of a file whose git id is compared; git keeps no larger ones of a model."""

_ANNOTATIONS = {
    "source": "org.opencontainers.image.source",
    "revision": "org.opencontainers.image.revision",
}


@dataclass(frozen=True, slots=True)
class Program:
    """A program that keeps models, and how its place is recognised and read."""

    title: str
    is_place: Callable[[Path], bool]
    models: Callable[[Path], Iterator[Found]]


PROGRAMS: Mapping[str, Program] = {
    "ollama": Program("Ollama", ollama.is_place, ollama.models),
    "hf": Program("Hugging Face", huggingface.is_place, huggingface.models),
    "lmstudio": Program("LM Studio", lmstudio.is_place, lmstudio.models),
}


def find(program: str, folder: Path) -> tuple[Found, ...]:
    """What a program keeps in a folder, or below it where it is wont to, by name.

    Raises NotFoundError where there is nothing of the program, StoreError for what cannot be read.
    """
    known = PROGRAMS[program]
    for below in _BELOW:
        try:
            if known.is_place(folder / below):
                return tuple(sorted(known.models(folder / below), key=lambda found: found.name))
        except OSError as error:
            raise StoreError(f"reading {folder}: {error.strerror or error}") from error
    raise NotFoundError(f"{folder} holds no models of {known.title} (try: --from DIR)")


def take_in(store: Store, found: Found, name: str, observe: Observer = ignore) -> bool:
    """Bring a model in and give it this full name; whether there was anything to do.

    Raises ModelError for what is no whole model, DigestMismatchError for bytes that are not what
    the program noted, StoreError also where the name means another model. Then no name has changed.
    """
    if found.flaw:
        raise ModelError(found.flaw)
    with contextlib.ExitStack() as kept:
        arrival = _Arrival(store, Intake(store, kept, observe))
        root = arrival.manifest(found) if found.manifest is not None else arrival.files(found)
        old = store.find(name)
        if old is not None and old.descriptor.digest == root.digest:
            return False
        if old is not None:
            raise StoreError(
                f"{name} is here and is another model; nothing was changed"
                " (try: --as NAME, or modelpm rm first)"
            )
        observe(Step("tagging", name))
        store.tag(root, name)
    observe(Step("done", name))
    return True


@dataclass(frozen=True, slots=True)
class _Arrival:
    """How one model comes in."""

    store: Store
    intake: Intake

    def manifest(self, found: Found) -> Descriptor:
        """The model as it is: its manifest's bytes, and every blob under its digest."""
        manifest = Manifest.parse(found.manifest or b"")
        held = {file.digest: file for file in found.files}
        Model.read(manifest, _Outside(held))  # before a byte moves: is it a model at all?
        for desc in {desc.digest: desc for desc in manifest.successors}.values():
            self._take(held[desc.digest], desc.media_type)
        return self.intake.put(manifest.raw, manifest.media_type)

    def files(self, found: Found) -> Descriptor:
        """A ModelPack of the files, in the order of their names."""
        files = sorted(found.files, key=lambda file: file.name)
        names = unique_names(safe_name(file.name) for file in files)
        headers = {
            name: Header.read(file.path)
            for file, name in zip(files, names, strict=True)
            if name.lower().endswith(".gguf")
        }
        parts = tuple(
            Part(role_of(name), self._take(file, OCTETS), name)
            for file, name in zip(files, names, strict=True)
        )
        written = write(Blueprint(parts, self._about(parts, headers)), FORMATS["modelpack"])
        self.intake.put(written.config)
        manifest = _with_origin(written.manifest, found.origin or {})
        return self.intake.put(manifest.raw, manifest.media_type)

    def _take(self, file: Held, media_type: str) -> Descriptor:
        """Adopt a file, unless the bytes that it is said to have are here."""
        if file.digest is not None:
            told = Descriptor(media_type, file.digest, file.size)
            if self._keep(told):
                return told
        desc = self.intake.adopt(file.path, file.name, file.size, media_type)
        if file.digest is not None and (desc.digest, desc.size) != (file.digest, file.size):
            raise DigestMismatchError(f"{file.path} is damaged: its bytes have {desc.digest}")
        if file.git is not None and desc.size <= _MAX_SMALL:
            hasher = hashlib.sha1(b"blob %d\0" % desc.size, usedforsecurity=False)
            hasher.update(read(self.store, desc, _MAX_SMALL))
            if hasher.hexdigest() != file.git:
                raise DigestMismatchError(f"{file.path} is damaged: its bytes are of another id")
        return desc

    def _keep(self, desc: Descriptor) -> bool:
        """Whether the blob is here, and stays."""
        if not self.store.exists(desc):
            return False
        self.intake.keep([desc])
        return self.store.exists(desc)

    def _about(self, parts: Sequence[Part], headers: Mapping[str, Header]) -> About:
        """What the weights say; of several models in one what they have in common."""
        indexes = {
            part.name: read(self.store, part.descriptor, MAX_INDEX)
            for part in parts
            if part.name.endswith(INDEX)
        }
        sets = weight_sets([part for part in parts if part.role is Role.WEIGHTS], indexes)
        for each in sets:
            each.check()
        ggufs = [each for each in sets if all(part.name in headers for part in each.parts)]
        if ggufs:
            told = [about.of_ggufs([headers[part.name] for part in s.parts]) for s in ggufs]
            same = len({each.quantization for each in told}) == 1
            return told[0] if same else replace(told[0], quantization="")
        configs = [part.descriptor for part in parts if part.name == "config.json"]
        config = read(self.store, configs[0], MAX_CONFIG) if configs else None
        files = [self.store.path(part.descriptor) for each in sets[:1] for part in each.parts]
        return about.of_safetensors(files, config)


def _with_origin(manifest: Manifest, origin: Mapping[str, str]) -> Manifest:
    """The manifest, saying where its files come from."""
    document = load_json(manifest.raw)
    told = {_ANNOTATIONS[key]: text for key, text in origin.items()}
    if not told or not isinstance(document, dict):
        return manifest
    raw = encode({**document, "annotations": told}, sort_keys=False, newline=False)
    return Manifest.parse(raw, manifest.media_type)


@dataclass(frozen=True, slots=True)
class _Outside:
    """A Fetcher of what lies in another program's place."""

    held: Mapping[Digest | None, Held]

    @contextlib.contextmanager
    def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """Open it. Unverified."""
        try:
            fd = open_regular(self.held[desc.digest].path)
        except (KeyError, FileNotFoundError):
            raise NotFoundError(f"{desc.digest} is not there") from None
        with os.fdopen(fd, "rb") as stream:
            stream.seek(offset)
            yield stream
