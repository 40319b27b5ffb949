"""Which files can be seen of layers that lie on one another, as those of a container image do.

Source: the OCI image specification, layer.md, "Whiteouts", and what a file system does with a
file in the place of a folder.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

WHITEOUT = ".wh."
"""How a file's name begins that says that another one of the layers below is gone."""
OPAQUE = ".wh..wh..opq"
"""The file that says so of all that the layers below have in its folder."""

_RESERVED = ".wh..wh."


def seen(layers: Sequence[Sequence[str]]) -> list[frozenset[str]]:
    """The paths of each layer that no layer above it hides, without those that only hide others.

    The first layer is the lowest. Paths are relative, their folders are split by `/`, and none
    begins or ends with one. What a layer says is gone is gone from the layers below it only.
    """
    above = _Above()
    found = []
    for paths in reversed(layers):
        files = [path for path in paths if not _base(path).startswith(WHITEOUT)]
        found.append(frozenset(path for path in files if not above.hides(path)))
        above.add_files(files)
        above.add_whiteouts(path for path in paths if _base(path).startswith(WHITEOUT))
    return found[::-1]


@dataclass(slots=True)
class _Above:
    """What the layers so far have put over those below. The path "" is the folder of all."""

    gone: set[str] = field(default_factory=set)
    """Paths that are hidden with all that is below them."""
    opaque: set[str] = field(default_factory=set)
    """Folders whose contents are hidden."""
    folders: set[str] = field(default_factory=set)
    """Folders that files lie in, where no file can be."""

    def hides(self, path: str) -> bool:
        folders = _folders(path)
        return (
            path in self.gone
            or path in self.folders
            or any(folder in self.gone or folder in self.opaque for folder in folders)
        )

    def add_files(self, paths: Iterable[str]) -> None:
        for path in paths:
            self.gone.add(path)
            self.folders.update(_folders(path))

    def add_whiteouts(self, paths: Iterable[str]) -> None:
        for path in paths:
            folder, _, base = path.rpartition("/")
            if base == OPAQUE:
                self.opaque.add(folder)
            elif not base.startswith(_RESERVED) and base != WHITEOUT:
                self.gone.add(f"{folder}/{base.removeprefix(WHITEOUT)}".lstrip("/"))


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _folders(path: str) -> list[str]:
    """The folders that a path lies in, up to the folder of all."""
    names = path.split("/")[:-1]
    return ["/".join(names[:count]) for count in range(len(names) + 1)]
