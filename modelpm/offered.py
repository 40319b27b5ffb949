"""A model at a registry, described from its manifest and small parts: no weight is fetched."""

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from modelpm.content import MAX_NESTING, Source, read_manifest
from modelpm.errors import DigestMismatchError, NotFoundError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import Manifest

if TYPE_CHECKING:
    from modelpm.model.model import Model, Part


class Offered:
    """What a descriptor at a source means: one model, or of an index the child that fits here.

    Making one reads the manifests that it takes to know which; the rest is read when asked for.
    Raises NotFoundError where an index has nothing for this machine, and what `fetch` raises.
    """

    modified = part = ""
    path = None
    """Its weights are not here."""

    def __init__(
        self, source: Source, told: Descriptor, name: str = "", short_name: str = ""
    ) -> None:
        self._source = source
        self.name = name
        """The full name."""
        self.short_name = short_name
        """The name as people type it."""
        self.descriptor, self.manifest = _select(source, told)
        self.selected_from = None if self.descriptor == told else told.digest

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return self.descriptor.digest

    @property
    def size(self) -> int:
        """Bytes of config and layers, each digest counted once."""
        return self.manifest.size

    @cached_property
    def model(self) -> "Model":
        """What the layers mean. Raises ModelError for what is no model."""
        from modelpm.model.model import Model  # noqa: PLC0415 - lazy: start-up time

        return Model.read(self.manifest, self._source)

    @contextlib.contextmanager
    def naming_damage(self) -> Iterator[None]:
        """Have wrong bytes told with the model's name, for who reads more of it than `model`."""
        with naming_damage("reading", self.name):
            yield

    @property
    def parts(self) -> "tuple[Part, ...]":
        """Every layer with its role and name."""
        return self.model.parts


@contextlib.contextmanager
def naming_damage(attempt: str, name: str) -> Iterator[None]:
    """Have wrong bytes that come from a registry told with the full name of what was read there."""
    try:
        yield
    except DigestMismatchError as error:
        if error.__cause__ is not None:  # they were the store's, and that is told already
            raise
        raise DigestMismatchError(
            f"{attempt} {name}: damaged at the registry or on the way: {error}"
        ) from error


def _select(source: Source, told: Descriptor) -> tuple[Descriptor, Manifest]:
    from modelpm.model.dialects import choose  # noqa: PLC0415 - lazy: start-up time

    chosen = told
    for _ in range(MAX_NESTING):
        manifest = read_manifest(source, chosen)
        if not manifest.is_index:
            return chosen, manifest
        chosen = choose(manifest)
    raise NotFoundError(f"{told.digest} holds no model within {MAX_NESTING} indexes")
