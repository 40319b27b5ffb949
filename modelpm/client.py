"""The verbs: what `modelpm VERB` does, as methods that print nothing.

    client = modelpm.Client(home=...)
    model = client.pull("llama2")
    model.path

A verb raises the errors of `modelpm.errors`; progress goes to `observe` as small events, from
several threads at once.
"""

import contextlib
import fnmatch
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from modelpm import publishing, transfer
from modelpm.content import Source, Step, read_manifest
from modelpm.errors import InvalidReferenceError
from modelpm.installation import Installation
from modelpm.installed import Installed
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.manifest import Manifest
from modelpm.oci.reference import Reference
from modelpm.offered import Offered, naming_damage
from modelpm.publishing import Pushed, Removal
from modelpm.registry.task import looking
from modelpm.store import origin
from modelpm.store.gc import Garbage
from modelpm.store.index import Entry

if TYPE_CHECKING:
    from modelpm.comparing import Difference
    from modelpm.creating import Wish
    from modelpm.exporting import Exported
    from modelpm.foreign.found import Found
    from modelpm.model.model import Model
    from modelpm.model.modelfile import Modelfile
    from modelpm.registry.login import Keeper, Login, Person
    from modelpm.session import Session

__all__ = ["Client", "Installed", "Offered", "Pushed", "Removal"]

_NONE: Mapping[str, object] = MappingProxyType({})


class Client(Installation):
    """The verbs on one store and any registries."""

    def pull(self, name: str) -> Installed:
        """Bring a model here, verified, and point its name at it.

        Of an index the one child that is a model for this machine is taken; of `NAME#PART` all
        parts come. What the name pointed at before, and nothing else needs, is deleted. Raises
        NotFoundError, ContentError, RegistryError, StoreError, and ModelError for what is no model
        or has no such part.
        """
        from modelpm import unpacking  # noqa: PLC0415 - lazy: start-up time

        whole, _, part = name.partition("#")
        reference = self.reference(whole)
        self._observe(Step("resolving", reference.name))
        source = self._remotes.source(reference)
        told = source.resolve(reference.target)
        old = self.store.find(reference.name)
        chosen = self._choose(source, told, old, f"{reference.name}#{part}")
        selected_from = None if chosen == told else told.digest

        def tag() -> None:
            unpacking.unpack(self.store, chosen, self._observe)
            model = self._installed(Entry(None, chosen))
            model.model.check_complete(reference.name)
            _require_part(model.model, part)
            if old is None or old.descriptor.digest != chosen.digest:
                self.store.tag(chosen, reference.name, selected_from=selected_from)
            else:
                self.store.settle()  # some of it may have been damaged, or gone

        unpacking.spare(source, self.store, chosen)
        with naming_damage("pulling", reference.name):
            transfer.copy(source, self.store, chosen, tag=tag, observe=self._observe)
        origin.note(self.store, reference, chosen)
        if old is not None and old.descriptor.digest != chosen.digest:
            self._observe(Step("pruning"))
            self._collect(old.descriptor)
        self._observe(Step("done", reference.name))
        return self.get(f"{reference.name}#{part}")

    def repository(self, name: str) -> Reference:
        """What the name of a repository means here, as a reference to its latest.

        Raises InvalidReferenceError, also for a name with a tag or a digest.
        """
        reference = self.reference(name)
        if _has_end(name):
            raise InvalidReferenceError(f"{name}: a repository's name has no tag and no digest")
        return reference

    def push(self, name: str, to: str = "") -> Pushed:
        """Bring a model that is here to a registry, its digest kept.

        Without `to` it goes where its name says; without a tag in `to` it keeps its own. Raises
        NotFoundError, DigestMismatchError where the store's copy is damaged, and RegistryError; no
        tag has changed then.
        """
        model = self._installed(self._entry(name))  # no part goes by itself
        reference = self._destination(to or model.name, model.name)
        target = self._remotes.repository(reference, self.store.notes)
        return publishing.push(model, self.store, target, reference, self._observe)

    def mirror(self, name: str, to: str, *, with_referrers: bool = True) -> Pushed:
        """Bring a model from one registry to another, unchanged; nothing is kept here.

        An index is taken with all that it holds, and so are signatures and other referrers.
        Without a tag in `to` it keeps its own. Raises NotFoundError, ContentError, RegistryError.
        """
        reference = self.reference(name)
        goal = self._destination(to, name)
        source = self._remotes.repository(reference)
        target = self._remotes.repository(goal, self.store.notes)
        return publishing.mirror(
            source, target, reference, goal, self._observe, with_referrers=with_referrers
        )

    def tags(self, repository: str, *, everything: bool = False) -> Sequence[str]:
        """The tags of a repository at its registry, in the registry's order.

        Those that stand for a digest's signatures and referrers only if `everything` is asked for.
        """
        tags = self._remotes.repository(self.repository(repository)).tags()
        return tags if everything else publishing.visible(tags)

    @looking()
    def inspect(self, name: str) -> Offered:
        """What a registry has under a name, without its weights; of an index what fits here."""
        reference = self.reference(name)
        source = self._remotes.repository(reference)
        short = reference.short(self.default_registry)
        return Offered(source, source.resolve(reference.target), reference.name, short)

    @looking()
    def inspect_manifest(self, name: str) -> Manifest:
        """The manifest or the index that a name means at its registry."""
        reference = self.reference(name)
        source = self._remotes.repository(reference)
        return read_manifest(source, source.resolve(reference.target))

    def catalog(self, host: str) -> Iterator[str]:
        """The names of a registry's repositories. Raises RegistryError where it tells none."""
        yield from self._remotes.client(Reference.parse(f"{host}/any").registry).catalog()

    @looking()
    def plan_removal(self, name: str, *, with_others: bool = False) -> Removal:
        """What `remove_remote` would delete at a registry. Raises NotFoundError.

        Of a tag it tells the other tags of its manifest `with_others`, which takes a request a tag.
        """
        reference = self.reference(name)
        repository = self._remotes.repository(reference)
        return publishing.plan_removal(repository, reference, with_others=with_others)

    @looking()
    def remove_remote(
        self, removal: Removal, *, also: Collection[str] = (), force: bool = False
    ) -> Removal:
        """Delete at a registry what was planned; what was deleted.

        Raises RegistryError where other tags would go with the one that was meant, but for those
        that may go `also`, unless `force` is set; and where the registry does not delete.
        """
        repository = self._remotes.repository(removal.reference)
        return publishing.remove(repository, removal, also=also, force=force)

    def login(self, host: str, person: "Person", keeper: "Keeper") -> "Login":
        """Log in to a registry and keep what opens it; what came of it.

        Raises AuthenticationError and RegistryError; nothing is kept then.
        """
        from modelpm.registry.login import login  # noqa: PLC0415 - lazy: start-up time

        return login(self._remotes.client(host), person, keeper)

    def logout(self, host: str, keeper: "Keeper") -> tuple[str, ...]:
        """Forget what login kept; the places that had something. Raises AuthenticationError."""
        return keeper.forget(host)

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

    def remove(self, names: Sequence[str]) -> tuple[Installed, ...]:
        """Delete names, all or none; the bytes stay until `prune`. Raises NotFoundError."""
        models = tuple(self._installed(self._entry(name, "modelpm list")) for name in names)
        self.store.untag({model.name for model in models})
        return models

    def copy(self, source: str, name: str) -> Installed:
        """Point a second name at a model. Raises NotFoundError and InvalidReferenceError."""
        reference = self.reference(name)
        if reference.digest is not None:
            raise InvalidReferenceError(f"{name}: a copy gets a tag, not a digest")
        entry = self._entry(source, "modelpm list")
        self.store.copy(self._installed(entry).name, reference.name)
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

    def missing_base(self, modelfile: "Modelfile", folder: Path | str = ".") -> str | None:
        """The name after FROM of a model that is not here: to be pulled before `create`.

        A path that exists is a path. None also for what is no name, which `create` will refuse.
        Raises ModelError where FROM names several models.
        """
        from modelpm import creating  # noqa: PLC0415 - lazy: start-up time

        base = creating.base(modelfile, Path(folder))
        with contextlib.suppress(InvalidReferenceError):
            if base is not None and not self._is_here(base):
                return base
        return None

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

        model = self.get(name)
        with model.naming_damage():
            return Session.open(model, parameters, system)

    def garbage(self, without: Collection[str] = ()) -> Garbage:
        """What `prune` would delete now, or would if these full names were gone.

        Raises StoreError where anything cannot be read, and then nothing is garbage.
        """
        return self.store.garbage(without)

    def prune(self, garbage: Garbage) -> Garbage:
        """Delete what was planned, as far as it is still garbage; what was deleted."""
        return self.store.sweep(garbage)

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

    def _choose(self, source: Source, told: Descriptor, old: Entry | None, name: str) -> Descriptor:
        """The manifest of one model: what was told, or the child of an index that fits here."""
        if old is not None and old.selected_from == told.digest:
            return old.descriptor
        whole, _, part = name.partition("#")
        offered = Offered(source, told, whole)
        if not self.store.exists(offered.descriptor):
            model = offered.model  # before a weight moves: is it a model at all, and a whole one?
            if not any(each.is_archive for each in model.parts):
                model.check_complete(offered.name)
                _require_part(model, part)
        return offered.descriptor

    def _destination(self, text: str, name: str) -> Reference:
        """Where a model is to go: with neither tag nor digest it keeps those of its name."""
        told = self.reference(text)
        if _has_end(text):
            return told
        kept = self.reference(name)
        return Reference(told.registry, told.repository, kept.tag, kept.digest)


def _require_part(model: "Model", part: str) -> None:
    """Raise ModelError, which tells the names, where a part is asked for that is not there."""
    if part:
        model.choosing(part)


def _has_end(name: str) -> bool:
    """Whether a name as people type it has a tag or a digest."""
    return "@" in name or ":" in name.rpartition("/")[2]
