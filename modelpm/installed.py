"""A model in the store under one name, as the verbs hand it out."""

import contextlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from modelpm.content import all_successors, read_manifest, walk
from modelpm.errors import DigestMismatchError, ModelError, NotFoundError, StoreError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import Manifest
from modelpm.store import origin
from modelpm.store.index import Entry
from modelpm.store.layout import Store

if TYPE_CHECKING:
    from modelpm.model.model import Model, Part


class Installed:
    """A model in the store under one name. Owns no bytes: it reads them when asked."""

    def __init__(self, store: Store, entry: Entry, short_name: str, part: str = "") -> None:
        self._store = store
        self._entry = entry
        self.name = entry.name or str(entry.descriptor.digest)
        """The full name."""
        self.short_name = short_name
        """The name as people type it."""
        self.part = part
        """Which of several models in the artifact is meant; empty where it holds one."""

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return self._entry.descriptor.digest

    @property
    def descriptor(self) -> Descriptor:
        """Points at the manifest."""
        return self._entry.descriptor

    @property
    def modified(self) -> str:
        """When the name was pointed here, RFC 3339 in UTC; empty where that is not known."""
        return self._entry.modified

    @property
    def selected_from(self) -> Digest | None:
        """The index of which this manifest was taken when it was pulled."""
        return self._entry.selected_from

    @property
    def size(self) -> int:
        """Bytes of config and layers, each digest counted once."""
        noted = self._entry.size
        return self.manifest.size if noted is None else noted

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest, verified. Raises ContentError or StoreError."""
        with self.naming_damage():
            return read_manifest(self._store, self._entry.descriptor)

    @cached_property
    def model(self) -> "Model":
        """What the layers mean; of several models the chosen one. Raises ModelError for none."""
        from modelpm.model.model import Model  # noqa: PLC0415 - lazy: start-up time

        with self.naming_damage():
            model = Model.read(self.manifest, self._store, self._store.unpacked)
        return model.choosing(self.part) if self.part else model

    @property
    def parts(self) -> "tuple[Part, ...]":
        """Every layer with its role and name."""
        return self.model.parts

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep its files from being collected while they are used, whatever becomes of the name."""
        held = [self.descriptor]
        with self.naming_damage():
            for _, manifest in walk(self._store, self.descriptor, all_successors):
                held += manifest.successors
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(StoreError):  # a store that may only be read is used as it is
                stack.enter_context(self._store.hold(held))
            yield

    @contextlib.contextmanager
    def naming_damage(self) -> Iterator[None]:
        """Have wrong or missing bytes told with the model's name, and with what brings them back.

        For who reads content of it; `manifest`, `model` and `path` do it themselves.
        """
        try:
            yield
        except (DigestMismatchError, NotFoundError) as error:
            if error.__cause__ is not None:  # it is told already
                raise
            told = origin.damaged(self._store, self.name, self.short_name, self.descriptor, error)
            raise told from error

    @property
    def path(self) -> Path:
        """The weights' file, verified and read-only; of a set the first, where all are here.

        Raises ModelError where there is no one, and for safetensors that are cut off.
        """
        from modelpm.model import safetensors  # noqa: PLC0415 - lazy: start-up time

        weights, shards = self.model.weights, self.model.shards
        with self.naming_damage():
            first = self._store.path(weights.descriptor)
            for shard in shards:
                if shard.name.endswith(".safetensors"):
                    safetensors.check(self._store.path(shard.descriptor), shard.name)
        return first

    @property
    def file(self) -> Path:
        """The one file that is meant, verified: all the weights, or the shard that `part` names.

        Raises ModelError for a set of shards: a program that opens one of them looks for the
        others beside it, under names that the store does not have. And as `path`.
        """
        from modelpm.model.shards import one_of  # noqa: PLC0415 - lazy: start-up time

        shards = self.model.shards
        if len(shards) == 1:
            return self.path
        shard = one_of(shards, self.part)
        if shard is None:
            raise ModelError(
                f"{self.short_name}: the weights are {len(shards)} files, which belong in one"
                f" folder (try: modelpm export {self.short_name} DIR; one of them is"
                f" {self.short_name}#{shards[0].name})"
            )
        with self.naming_damage():
            return self._store.path(shard.descriptor)
