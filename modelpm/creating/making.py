"""How a planned model is written: files adopted, then the texts, the config, and the name last.

Weights are never written twice: a file enters the store by reflink or hard link where that can be
done, and the layers of a model that is here already are shared.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from modelpm.content import Observer, Step, ignore
from modelpm.creating.inherited import Inherited
from modelpm.creating.plan import Plan, marked
from modelpm.errors import ModelError
from modelpm.installed import Installed
from modelpm.intake import Intake
from modelpm.model.blueprint import Blueprint, Format
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
        intake = Intake(store, kept, observe)
        plan = Plan(modelfile, folder, lambda name: Inherited.read(store, find(name), kept))
        texts = plan.texts()
        blueprint = replace(plan.blueprint(texts), created=wish.created)
        _refuse_homeless(blueprint, wish)
        write(blueprint, wish.form)  # before a file is hashed: can it be written at all?
        taken = {
            marked(found).digest: intake.adopt(found.path, found.name, found.size)
            for found in plan.files
        }
        parts = [
            replace(part, descriptor=taken.get(part.descriptor.digest, part.descriptor))
            for part in blueprint.parts
        ]
        for content in texts.values():
            intake.put(content)
        _finish(intake, replace(blueprint, parts=tuple(parts)), wish.form, tag)


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
        _finish(Intake(store, kept, observe), blueprint, wish.form, tag)


def _finish(intake: Intake, blueprint: Blueprint, form: Format, tag: Tag) -> None:
    """Write config and manifest, and have them named."""
    written = write(blueprint, form)
    intake.keep(part.descriptor for part in blueprint.parts)
    intake.observe(Step("tagging"))
    intake.put(written.config)
    intake.put(written.manifest.raw, written.manifest.media_type)
    tag(written.manifest.descriptor)


def _refuse_homeless(blueprint: Blueprint, wish: Wish) -> None:
    left = homeless(blueprint, wish.form)
    if left and not wish.lossy:
        told = ", ".join(left[:_MAX_TOLD]) + (" ..." if len(left) > _MAX_TOLD else "")
        raise ModelError(
            f"the format {wish.format} has no place for {told} (leave it out with --lossy,"
            " or choose another --format)"
        )
