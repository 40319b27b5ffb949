"""What a client stands on: one store with its names, and the registries that it is used with."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Self

from modelpm.content import Observer, ignore
from modelpm.errors import InvalidReferenceError, NotFoundError, StoreError
from modelpm.installed import Installed
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.reference import DEFAULT_REGISTRY, Reference
from modelpm.registry.hosts import Hosts
from modelpm.remotes import Remotes
from modelpm.store.index import Entry
from modelpm.store.layout import Store

if TYPE_CHECKING:
    from modelpm.registry.credentials import CredentialSource
    from modelpm.registry.limits import Limits


class Installation:
    """The models of one store by their names, and the way to registries.

    `home` is the store's folder, by default the platform's folder for user data. `hosts` says how
    registries are to be spoken to; `limits` are how long one is waited for, and how often it is
    asked again. With `keep_layers` a layer that is an archive stays beside the files in it, so that
    other programs find it in the folder.
    """

    def __init__(
        self,
        home: Path | str | None = None,
        *,
        default_registry: str = DEFAULT_REGISTRY,
        hosts: Hosts | None = None,
        credentials: "CredentialSource | None" = None,
        limits: "Limits | None" = None,
        keep_layers: bool = False,
        observe: Observer = ignore,
    ) -> None:
        self.home = Path(home) if home is not None else _default_home()
        self.default_registry = default_registry
        self.store = Store(self.home, observe=observe, keep_layers=keep_layers)
        self._observe = observe
        self._remotes = Remotes(hosts or Hosts(), credentials, limits, observe)

    def reference(self, name: str) -> Reference:
        """What a name means here. Raises InvalidReferenceError, also for a part of a model."""
        whole, mark, _ = name.partition("#")
        if mark:
            raise InvalidReferenceError(
                f"{name}: #PART chooses one of several models in an artifact, and here the whole"
                f" artifact is meant (try: {whole})"
            )
        return Reference.parse(name, self.default_registry)

    def get(self, name: str) -> Installed:
        """The model with this name; `NAME#PART` chooses where one artifact holds several.

        Raises NotFoundError and InvalidReferenceError.
        """
        whole, _, part = name.partition("#")
        return self._installed(self._entry(whole), part)

    def close(self) -> None:
        """End the connections that are kept for the next request."""
        self._remotes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _entry(self, name: str, hint: str = "") -> Entry:
        try:
            entry = self.store.find(self.reference(name).name) or self.store.find(name)
        except InvalidReferenceError:
            entry = self.store.find(name)  # another program may have written it
            if entry is None:
                raise
        if entry is None:
            raise NotFoundError(f"{name} is not installed (try: {hint or f'modelpm pull {name}'})")
        return entry

    def _is_here(self, name: str) -> bool:
        try:
            self.get(name)
        except NotFoundError:
            return False
        return True

    def _installed(self, entry: Entry, part: str = "") -> Installed:
        return Installed(self.store, entry, self._short(entry.name or ""), part)

    def _collect(self, root: Descriptor) -> None:
        """Delete what only `root` needed.

        A store in which something cannot be read keeps everything: `prune` will say so, while
        what was asked for here is done.
        """
        with contextlib.suppress(StoreError):
            garbage = self.store.garbage()
            if garbage:
                self.store.sweep(garbage.only(self.store.reach(root)))

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
