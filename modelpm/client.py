"""The verbs: what `modelpm VERB` does, as methods that print nothing.

    client = modelpm.Client(home=...)
    model = client.pull("llama2")
    model.path

A verb raises the errors of `modelpm.errors`; progress goes to `observe` as small events, from
several threads at once.
"""

import contextlib
import fnmatch
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from modelpm import transfer
from modelpm.content import (
    MAX_NESTING,
    Observer,
    Source,
    Step,
    ignore,
    read_manifest,
)
from modelpm.errors import InvalidReferenceError, NotFoundError, StoreError
from modelpm.installed import Installed
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.reference import DEFAULT_REGISTRY, Reference
from modelpm.registry.hosts import Hosts
from modelpm.remotes import Remotes
from modelpm.store.gc import Garbage
from modelpm.store.index import Entry
from modelpm.store.layout import Store

if TYPE_CHECKING:
    from modelpm.comparing import Difference
    from modelpm.creating import Wish
    from modelpm.exporting import Exported
    from modelpm.foreign.found import Found
    from modelpm.model.modelfile import Modelfile
    from modelpm.registry.credentials import CredentialSource
    from modelpm.registry.limits import Limits
    from modelpm.session import Session

__all__ = ["Client", "Installed"]

_NONE: Mapping[str, object] = MappingProxyType({})


class Client:
    """The verbs on one store and any registries.

    `home` is the store's folder, by default the platform's folder for user data. `hosts`
    says how registries are to be spoken to; `limits` are how long one is waited for, and how often
    it is asked again.
    """

    def __init__(
        self,
        home: Path | str | None = None,
        *,
        default_registry: str = DEFAULT_REGISTRY,
        hosts: Hosts | None = None,
        credentials: "CredentialSource | None" = None,
        limits: "Limits | None" = None,
        observe: Observer = ignore,
    ) -> None:
        self.home = Path(home) if home is not None else _default_home()
        self.default_registry = default_registry
        self.store = Store(self.home, observe=observe)
        self._observe = observe
        self._remotes = Remotes(hosts or Hosts(), credentials, limits, observe)

    def reference(self, name: str) -> Reference:
        """What a name means here. Raises InvalidReferenceError."""
        return Reference.parse(name, self.default_registry)

    def pull(self, name: str) -> Installed:
        """Bring a model here, verified, and point its name at it.

        Of an index the one child that is a model for this machine is taken; of `NAME#PART` all
        parts come. What the name pointed at before, and nothing else needs, is deleted. Raises
        NotFoundError, ContentError, RegistryError, StoreError, and ModelError for what is no model.
        """
        from modelpm import unpacking  # noqa: PLC0415 - lazy: start-up time

        whole, _, part = name.partition("#")
        reference = self.reference(whole)
        self._observe(Step("resolving", reference.name))
        source = self._remotes.repository(reference)
        told = source.resolve(reference.target)
        old = self.store.find(reference.name)
        chosen = self._choose(source, told, old)
        selected_from = None if chosen == told else told.digest

        def tag() -> None:
            unpacking.unpack(self.store, chosen, self._observe)
            if old is None or old.descriptor.digest != chosen.digest:
                self.store.tag(chosen, reference.name, selected_from=selected_from)

        unpacking.spare(source, self.store, chosen)
        transfer.copy(source, self.store, chosen, tag=tag, observe=self._observe)
        if old is not None and old.descriptor.digest != chosen.digest:
            self._observe(Step("pruning"))
            self._collect(old.descriptor)
        self._observe(Step("done", reference.name))
        return self.get(f"{reference.name}#{part}")

    def list(self, pattern: str = "") -> tuple[Installed, ...]:
        """The models here by name; with a pattern, those whose short or full name it fits.

        A pattern is a glob, or without `*`, `?` and `[` the beginning of a name.
        """
        if not any(mark in pattern for mark in "*?["):
            pattern += "*"
        found = [self._installed(entry) for entry in self.store.entries() if entry.name is not None]
        fits = (
            model
            for model in found
            if any(fnmatch.fnmatchcase(name, pattern) for name in (model.short_name, model.name))
        )
        return tuple(sorted(fits, key=lambda model: model.name))

    def get(self, name: str) -> Installed:
        """The model with this name; `NAME#PART` chooses where one artifact holds several.

        Raises NotFoundError and InvalidReferenceError.
        """
        whole, _, part = name.partition("#")
        return self._installed(self._entry(whole), part)

    def remove(self, names: Sequence[str]) -> tuple[Installed, ...]:
        """Delete names, all or none; the bytes stay until `prune`. Raises NotFoundError."""
        models = tuple(self._installed(self._entry(name)) for name in names)
        self.store.untag({model.name for model in models})
        return models

    def copy(self, source: str, name: str) -> Installed:
        """Point a second name at a model. Raises NotFoundError and InvalidReferenceError."""
        reference = self.reference(name)
        if reference.digest is not None:
            raise InvalidReferenceError(f"{name}: a copy gets a tag, not a digest")
        self.store.copy(self._installed(self._entry(source)).name, reference.name)
        return self.get(reference.name)

    def create(
        self,
        name: str,
        modelfile: "Modelfile",
        folder: Path | str = ".",
        wish: "Wish | None" = None,
    ) -> Installed:
        """Make a model from a Modelfile; relative paths in it begin at `folder`.

        Files are taken in by reflink or hard link where that can be done, never changed. The same
        input has the same digest everywhere. Raises ModelError for what is no model or has no
        place in the format, NotFoundError, StoreError and InvalidReferenceError.
        """
        from modelpm import creating  # noqa: PLC0415 - lazy: start-up time

        return self._make(
            name,
            lambda tag: creating.create(
                self.store,
                modelfile,
                Path(folder),
                wish or creating.Wish(),
                find=self.get,
                tag=tag,
                observe=self._observe,
            ),
        )

    def convert(self, name: str, new: str, wish: "Wish | None" = None) -> Installed:
        """Write a model in another format, under a second name; no weights are copied.

        Raises as `create`.
        """
        from modelpm import creating  # noqa: PLC0415 - lazy: start-up time

        model, wished = self.get(name), wish or creating.Wish()
        return self._make(
            new,
            lambda tag: creating.convert(self.store, model, wished, tag=tag, observe=self._observe),
        )

    def export(
        self, name: str, folder: Path | str, *, way: str = "copy", replace: bool = False
    ) -> "tuple[Exported, ...]":
        """Write a model's files into a folder that is not there yet, or is empty.

        `way` is `copy` (a reflink where that can be), `link` or `symlink`; with `replace` what is
        in the folder is deleted. Raises NotFoundError, ModelError, ContentError and StoreError;
        then the folder is as it was.
        """
        from modelpm import exporting  # noqa: PLC0415 - lazy: start-up time

        how = exporting.Way(way)
        return exporting.export(
            self.store, self.get(name), Path(folder), how, replace=replace, observe=self._observe
        )

    def foreign(self, program: str, folder: Path | str) -> "tuple[Found, ...]":
        """The models that another program keeps in a folder, by name; nothing is read of weights.

        `program` is `ollama`, `hf` (the cache of huggingface_hub) or `lmstudio`. Raises
        NotFoundError where the folder holds none of it, and StoreError.
        """
        from modelpm import importing  # noqa: PLC0415 - lazy: start-up time

        return importing.find(program, Path(folder))

    def import_(self, found: "Found", name: str = "") -> Installed:
        """Take in a model that another program keeps, by reflink or hard link where that can be.

        Its name here is `found.reference` unless another is given. Nothing of the other program's
        is changed. Raises ModelError for what is no whole model, DigestMismatchError for damage,
        InvalidReferenceError where it needs a name, StoreError where the name is taken.
        """
        from modelpm import importing  # noqa: PLC0415 - lazy: start-up time

        wanted = name or found.reference
        if not wanted:
            raise InvalidReferenceError(f"{found.name!r} is no name here (try: --as NAME)")
        reference = self.reference(wanted)
        if reference.digest is not None:
            raise InvalidReferenceError(f"{name}: an imported model gets a tag, not a digest")
        importing.take_in(self.store, found, reference.name, self._observe)
        return self.get(reference.name)

    def diff(self, before: str, after: str) -> "Difference":
        """What two models share and what not. Raises NotFoundError, and ModelError for no model."""
        from modelpm import comparing  # noqa: PLC0415 - lazy: start-up time

        return comparing.compare(self.get(before), self.get(after))

    def open(
        self, name: str, *, parameters: Mapping[str, object] = _NONE, system: str | None = None
    ) -> "Session":
        """Load a model that is here into an engine, to talk with it.

        `parameters` (Ollama's names) and `system` go before the model's own. Raises NotFoundError,
        ModelError for a file that is no sound model, and RunnerError for what cannot be run.
        """
        from modelpm.session import Session  # noqa: PLC0415 - lazy: start-up time

        return Session.open(self.get(name), parameters, system)

    def garbage(self, without: Collection[str] = ()) -> Garbage:
        """What `prune` would delete now, or would if these full names were gone.

        Raises StoreError where anything cannot be read, and then nothing is garbage.
        """
        return self.store.garbage(without)

    def prune(self, garbage: Garbage) -> Garbage:
        """Delete what was planned, as far as it is still garbage; what was deleted."""
        return self.store.sweep(garbage)

    def close(self) -> None:
        """End the connections that are kept for the next request."""
        self._remotes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self, name: str, make: Callable[[Callable[[Descriptor], None]], None]) -> Installed:
        """Have a manifest made, and point a name at it; what only the old one needed is deleted."""
        reference = self.reference(name)
        if reference.digest is not None:
            raise InvalidReferenceError(f"{name}: a new model gets a tag, not a digest")
        old = self.store.find(reference.name)
        make(lambda desc: self.store.tag(desc, reference.name))
        model = self.get(reference.name)
        if old is not None and old.descriptor.digest != model.digest:
            self._observe(Step("pruning"))
            self._collect(old.descriptor)
        self._observe(Step("done", reference.name))
        return model

    def _choose(self, source: Source, told: Descriptor, old: Entry | None) -> Descriptor:
        """The manifest of one model: what was told, or the child of an index that fits here."""
        # lazy: start-up time
        from modelpm.model.dialects import choose  # noqa: PLC0415
        from modelpm.model.model import Model  # noqa: PLC0415

        if old is not None and old.selected_from == told.digest:
            return old.descriptor
        chosen = told
        for _ in range(MAX_NESTING):
            manifest = read_manifest(source, chosen)
            if not manifest.is_index:
                if not self.store.exists(chosen):
                    Model.read(manifest, source)  # before a weight moves: is it a model at all?
                return chosen
            chosen = choose(manifest)
        raise NotFoundError(f"{told.digest} holds no model within {MAX_NESTING} indexes")

    def _collect(self, root: Descriptor) -> None:
        """Delete what only `root` needed.

        A store in which something cannot be read keeps everything: `prune` will say so, while
        what was asked for here is done.
        """
        with contextlib.suppress(StoreError):
            garbage = self.store.garbage()
            if garbage:
                self.store.sweep(garbage.only(self.store.reach(root)))

    def _entry(self, name: str) -> Entry:
        full = self.reference(name).name
        entry = self.store.find(full) or self.store.find(name)
        if entry is None:
            raise NotFoundError(f"{name} is not installed (try: modelpm pull {name})")
        return entry

    def _installed(self, entry: Entry, part: str = "") -> Installed:
        return Installed(self.store, entry, self._short(entry.name or ""), part)

    def _short(self, name: str) -> str:
        """The short form of a listed name; a name that another program chose stays as it is."""
        try:
            reference = Reference.parse(name, self.default_registry)
        except InvalidReferenceError:
            return name
        return reference.short(self.default_registry) if reference.name == name else name


def _default_home() -> Path:
    from platformdirs import user_data_path  # noqa: PLC0415 - lazy: start-up time

    return user_data_path("modelpm", appauthor=False)
