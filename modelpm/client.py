"""The verbs: what `modelpm VERB` does, as methods that print nothing.

    client = modelpm.Client(home=...)
    model = client.pull("llama2")
    model.path

A verb raises the errors of `modelpm.errors`; progress goes to `observe` as small events, from
several threads at once.
"""

import contextlib
import fnmatch
from collections.abc import Collection, Mapping, Sequence
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

        Of an index the one child that is a model for this machine is taken. What the name pointed
        at before, and nothing else needs, is deleted. Raises NotFoundError, ContentError,
        RegistryError, StoreError, and ModelError for what is no model.
        """
        reference = self.reference(name)
        self._observe(Step("resolving", reference.name))
        source = self._remotes.repository(reference)
        told = source.resolve(reference.target)
        old = self.store.find(reference.name)
        chosen = self._choose(source, told, old)
        selected_from = None if chosen == told else told.digest

        def tag() -> None:
            if old is None or old.descriptor.digest != chosen.digest:
                self.store.tag(chosen, reference.name, selected_from=selected_from)

        transfer.copy(source, self.store, chosen, tag=tag, observe=self._observe)
        if old is not None and old.descriptor.digest != chosen.digest:
            self._observe(Step("pruning"))
            self._collect(old.descriptor)
        self._observe(Step("done", reference.name))
        return self.get(reference.name)

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
        """The model with this name. Raises NotFoundError and InvalidReferenceError."""
        return self._installed(self._entry(name))

    def remove(self, names: Sequence[str]) -> tuple[Installed, ...]:
        """Delete names, all or none; the bytes stay until `prune`. Raises NotFoundError."""
        models = tuple(map(self.get, names))
        self.store.untag({model.name for model in models})
        return models

    def copy(self, source: str, name: str) -> Installed:
        """Point a second name at a model. Raises NotFoundError and InvalidReferenceError."""
        reference = self.reference(name)
        if reference.digest is not None:
            raise InvalidReferenceError(f"{name}: a copy gets a tag, not a digest")
        self.store.copy(self.get(source).name, reference.name)
        return self.get(reference.name)

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
            if manifest.config is not None:
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

    def _installed(self, entry: Entry) -> Installed:
        return Installed(self.store, entry, self._short(entry.name or ""))

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
