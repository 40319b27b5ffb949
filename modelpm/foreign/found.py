"""What a model of another program is, before anything of it has been read: `Found`.

Whatever stands in another program's folder may be damaged, incomplete or hostile. A place that is
none of a model's is never read: links are followed only where they stay inside.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelpm.errors import InvalidReferenceError, ModelError, StoreError
from modelpm.model.parts import Part
from modelpm.model.roles import Role
from modelpm.model.shards import WeightSet, weight_sets
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.reference import Reference
from modelpm.store.files import listing

MAX_FOUND = 100_000
"""Models in one place."""
MAX_FILES = 10_000
"""Files of one model."""
MAX_DEPTH = 16

_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_TAG = 128


@dataclass(frozen=True, slots=True)
class Held:
    """A file that another program keeps: where it really is, and what the model calls it (UNSAFE).

    `digest` is what the program says that its sha256 is, `git` that its id as a blob of git is.
    """

    path: Path
    name: str
    size: int
    digest: Digest | None = None
    git: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A model that another program keeps.

    `name` is what the program calls it, `reference` its full name here, or "" where it cannot be
    one. With a `manifest` these bytes are the model; else its files are. `flaw` is a sentence of
    why it cannot be brought in, or "".
    """

    name: str
    reference: str
    files: tuple[Held, ...] = ()
    manifest: bytes | None = None
    origin: Mapping[str, str] | None = None
    aliases: tuple[str, ...] = ()
    flaw: str = ""

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum({file.path: file.size for file in self.files}.values())

    def fits(self, wanted: str) -> bool:
        """Whether a person who writes `wanted` means this model."""
        names = (self.name, *self.aliases)
        return wanted.casefold() in {name.casefold() for name in names}


def full_name(text: str) -> str:
    """The full name that a text is here, in lower case where only that is one; "" for none."""
    host, slash, rest = text.partition("/")
    path, colon, tag = rest.rpartition(":")
    for form in (text, f"{host}{slash}{path.lower()}{colon}{tag}"):
        try:
            return Reference.parse(form).name
        except InvalidReferenceError:
            continue
    return ""


def tag_of(text: str) -> str:
    """A text as a tag: what tags do not have becomes a dash."""
    return _NOT_IN_TAGS.sub("-", text).lstrip(".-")[:_MAX_TAG] or "latest"


def folders(path: Path) -> Iterator[Path]:
    """The folders in a folder, by name; links are none."""
    return (inner for inner, state in listing(path) if stat.S_ISDIR(state.st_mode))


def files_below(root: Path, inside: Path) -> Iterator[tuple[Path, Path]]:
    """Every file below a folder, by name: its path there, and its real path.

    Raises ModelError, a sentence, for a link that leads out of `inside` or nowhere, for what is
    neither file nor folder, and for too many of them; StoreError where it cannot be read.
    """
    inside = inside.resolve()
    count = 0

    def walk(folder: Path, depth: int) -> Iterator[tuple[Path, Path]]:
        nonlocal count
        for path, state in listing(folder):
            count += 1
            if count > MAX_FILES or depth > MAX_DEPTH:
                raise ModelError(f"{root} has more than {MAX_FILES} files, or too deep ones")
            if stat.S_ISDIR(state.st_mode):
                yield from walk(path, depth + 1)
            else:
                yield path, _real(path, inside)

    return walk(root, 1)


def _real(path: Path, inside: Path) -> Path:
    try:
        real = path.resolve(strict=True)
        mode = real.lstat().st_mode
    except FileNotFoundError:
        raise ModelError(f"{path.name} is not there: its download was not finished") from None
    except (OSError, RuntimeError) as error:
        raise StoreError(f"reading {path}: {error}") from error
    if not real.is_relative_to(inside):
        raise ModelError(f"{path} is a link that leads out of {inside}; refused")
    if not stat.S_ISREG(mode):
        raise ModelError(f"{path} is no regular file; refused")
    return real


def weights_of(files: Mapping[str, Role], indexes: Mapping[str, bytes]) -> Sequence[WeightSet]:
    """The models that files of these names and roles are. Raises ModelError for a broken index."""
    parts = [
        Part(role, Descriptor("application/octet-stream", Digest.of(os.fsencode(name)), 0), name)
        for name, role in files.items()
        if role is Role.WEIGHTS
    ]
    return weight_sets(parts, indexes)
