"""What is said of a model that was made: what of the input is not in it, or means nothing."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from modelpm.creating.plan import path_of
from modelpm.model.folder import left_out
from modelpm.model.modelfile import Modelfile

_MAX_TOLD = 5
_MODELFILE = "Modelfile"


def remarks(modelfile: Modelfile, folder: Path) -> tuple[str, ...]:
    """A sentence for each thing, in the order of the Modelfile, for one that `create` has taken.

    Relative paths begin at `folder`.
    """
    return tuple(_remarks(modelfile, folder))


def _remarks(modelfile: Modelfile, folder: Path) -> Iterator[str]:
    idle = [f"{command.key} (line {command.line})" for command in modelfile.idle]
    if idle:
        yield f"the Modelfile: parameters that change nothing were left out: {_some(idle)}"
    for value in dict.fromkeys(modelfile.sources):
        path = path_of(folder, value)
        names = [name for name in left_out(path) if name != _MODELFILE]
        if names and path.is_dir():
            yield (
                f"{path}: left out {_some(names)}"
                " (taken are GGUF, safetensors, and what engines and people read beside them)"
            )
        elif names:
            yield (
                f"{path}: taken without what is beside it, {_some(names)}"
                " (give the folder instead, to have them too)"
            )


def _some(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(names) - _MAX_TOLD
    return ", ".join(names[:_MAX_TOLD]) + (f" and {more} more" if more > 0 else "")
