"""How a planned model is written: files adopted, then the texts, the config, and the name last.

Weights are never written twice: a file enters the store by reflink or hard link where that can be
done, and the layers of a model that is here already are shared.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from modelpm.content import Moved, Observer, Settled, Step, ignore
from modelpm.creating.inherited import Inherited
from modelpm.creating.plan import OCTETS, Plan, standin
from modelpm.errors import ModelError
from modelpm.installed import Installed
from modelpm.model.blueprint import Blueprint, Format
from modelpm.model.folder import Found
from modelpm.model.modelfile import Modelfile
from modelpm.model.writing import FORMATS, homeless, write
from modelpm.oci.descriptor import Descriptor
from modelpm.store.layout import Store

_MAX_TOLD = 10

Tag = Callable[[Descriptor], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """How the artifact is to be written.

    `format` is `modelpack`, `ollama` or `docker`. What the format has no place for is refused,
    or with `lossy` left out. `created` is the only time that gets into the artifact.
    """

    format: str = "modelpack"
    lossy: bool = False
    created: datetime | None = None

    @property
    def form(self) -> Format:
        """The row of the format. Raises ModelError for a name that is none."""
        if self.format not in FORMATS:
            raise ModelError(f"{self.format!r:.50} is no format; there are {', '.join(FORMATS)}")
        return FORMATS[self.format]


def create(
    store: Store,
    modelfile: Modelfile,
    folder: Path,
    wish: Wish,
    *,
    find: Callable[[str], Installed],
    tag: Tag,
    observe: Observer = ignore,
) -> None:
    """Make a model and hand its manifest to `tag`, while nothing of it can be collected.

    `find` gives the installed model of a name; relative paths begin at `folder`. Raises
    ModelError, NotFoundError and StoreError, with the line of the Modelfile where there is one.
    """
    with contextlib.ExitStack() as kept:
        bench = _Bench(store, kept, observe)
        plan = Plan(modelfile, folder, lambda name: Inherited.read(store, find(name), kept))
        texts = plan.texts()
        blueprint = replace(plan.blueprint(texts), created=wish.created)
        _refuse_homeless(blueprint, wish)
        write(blueprint, wish.form)  # before a file is hashed: can it be written at all?
        taken = {standin(found).digest: bench.adopt(found) for found in plan.files}
        parts = [
            replace(part, descriptor=taken.get(part.descriptor.digest, part.descriptor))
            for part in blueprint.parts
        ]
        for content in texts.values():
            bench.put(content, OCTETS)
        bench.finish(replace(blueprint, parts=tuple(parts)), wish.form, tag)


def convert(
    store: Store, model: Installed, wish: Wish, *, tag: Tag, observe: Observer = ignore
) -> None:
    """Write a model again in another format and hand its manifest to `tag`. No layer is copied."""
    with contextlib.ExitStack() as kept:
        inherited = Inherited.read(store, model, kept)
        blueprint = Blueprint(
            inherited.parts, inherited.about, inherited.words, created=wish.created
        )
        _refuse_homeless(blueprint, wish)
        _Bench(store, kept, observe).finish(blueprint, wish.form, tag)


@dataclass(frozen=True, slots=True)
class _Bench:
    """Where things enter the store; they are kept until the name is written."""

    store: Store
    kept: contextlib.ExitStack
    observe: Observer

    def adopt(self, found: Found) -> Descriptor:
        """Take in a file, telling how far its hashing is."""
        mark = standin(found)
        self.observe(Step("hashing", found.name, (mark,)))
        desc = self.store.adopt(
            found.path, OCTETS, self.kept, lambda count: self.observe(Moved(mark, count))
        )
        self.observe(Settled(mark, present=False))
        return desc

    def put(self, content: bytes, media_type: str) -> Descriptor:
        """Write a small blob."""
        desc = Descriptor.of(content, media_type)
        self.kept.enter_context(self.store.hold([desc]))
        self.store.push(desc, _Bytes(content))
        return desc

    def finish(self, blueprint: Blueprint, form: Format, tag: Tag) -> None:
        """Write config and manifest, and have them named."""
        written = write(blueprint, form)
        self.kept.enter_context(self.store.hold(part.descriptor for part in blueprint.parts))
        self.observe(Step("tagging"))
        self.put(written.config, OCTETS)
        self.put(written.manifest.raw, written.manifest.media_type)
        tag(written.manifest.descriptor)


@dataclass(frozen=True, slots=True)
class _Bytes:
    """A Fetcher of one content."""

    content: bytes = field(repr=False)

    @contextlib.contextmanager
    def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """Open it, whatever is asked for."""
        del desc
        with BytesIO(self.content[offset:]) as stream:
            yield stream


def _refuse_homeless(blueprint: Blueprint, wish: Wish) -> None:
    left = homeless(blueprint, wish.form)
    if left and not wish.lossy:
        told = ", ".join(left[:_MAX_TOLD]) + (" ..." if len(left) > _MAX_TOLD else "")
        raise ModelError(
            f"the format {wish.format} has no place for {told} (leave it out with --lossy,"
            " or choose another --format)"
        )
