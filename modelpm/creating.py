"""How a model is made here: from a Modelfile, from files, or from another model.

Weights are never written twice: a file enters the store by reflink or hard link where that can be
done, and the layers of a model that is here already are shared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from modelpm.content import Observer, ignore
from modelpm.installed import Installed
from modelpm.model.modelfile import Modelfile
from modelpm.oci.descriptor import Descriptor
from modelpm.store.layout import Store

MODELPACK, OLLAMA, DOCKER = "modelpack", "ollama", "docker"


@dataclass(frozen=True, slots=True)
class Wish:
    """How the artifact is to be written.

    `format` is `modelpack`, `ollama` or `docker`. What the format has no place for is refused,
    or with `lossy` left out. `created` is the only time that gets into the artifact.
    """

    format: str = MODELPACK
    lossy: bool = False
    created: datetime | None = None


def create(
    store: Store,
    modelfile: Modelfile,
    folder: Path,
    wish: Wish,
    *,
    find: Callable[[str], Installed],
    tag: Callable[[Descriptor], None],
    observe: Observer = ignore,
) -> None:
    """Make a model and hand its manifest to `tag`."""
    raise NotImplementedError


def convert(
    store: Store,
    model: Installed,
    wish: Wish,
    *,
    tag: Callable[[Descriptor], None],
    observe: Observer = ignore,
) -> None:
    """Write a model again in another format and hand its manifest to `tag`."""
    raise NotImplementedError
