"""Which files outside are a model: a lone file with its shards, or what of a folder engines need.

Hidden files of a folder are never taken, nor is anything that a link to outside would bring.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from modelpm.errors import ModelError
from modelpm.model.gguf import alien
from modelpm.model.magic import PEEK, Kind, kind_of
from modelpm.model.names import MAX_FOLDERS, safe_name, shard, shard_name, unique_names
from modelpm.model.roles import Role, by_name
from modelpm.model.shards import INDEX, MAX_INDEX

MAX_FILES = 10_000

_TOKENIZER = frozenset(
    {"merges.txt", "vocab.txt", "vocab.bpe", "spiece.vocab", "sentencepiece.vocab"}
)
_ENDINGS = (".gguf", ".safetensors", ".dduf", ".json", ".jinja", ".model", ".tiktoken")
_READABLE = ("readme", "license", "licence", "copying", "notice", "use_policy", "model_card")
_TEXTS = ("", ".md", ".txt", ".rst", ".pdf")
_CODE = ".py"
_TWIN = "consolidated"
_NEEDS_CODE = b'"auto_map"'
_MAX_CONFIG = 2**20


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a model to be: where it really is, what it will be called, what it is for."""

    path: Path
    name: str
    role: Role
    size: int


def collect(path: Path) -> tuple[Found, ...]:
    """What a path leads to: a folder's files, or a file and its shards. Raises ModelError."""
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise ModelError(f"reading {path}: {error.strerror or error}") from error
    return scan(path) if is_folder else found_file(path)


def scan(folder: Path) -> tuple[Found, ...]:
    """The model's files below a folder, by name. Raises ModelError.

    Code is taken only where `config.json` says that the model needs it. A link that leads out of
    the folder is refused if a file of its name would be taken.
    """
    try:
        root = folder.resolve(strict=True)
        names = _taken(root)
        real = [(root / name).resolve(strict=True) for name in names]
        sizes = [path.stat().st_size for path in real]
    except OSError as error:
        raise ModelError(f"reading {folder}: {error.strerror or error}") from error
    if not names:
        raise ModelError(f"{folder} has no file of a model (GGUF or safetensors and their company)")
    safe = unique_names(map(safe_name, names))
    return tuple(
        Found(path, name, role_of(name), size)
        for path, name, size in zip(real, safe, sizes, strict=True)
    )


def _taken(root: Path) -> list[str]:
    """The names of the files below a folder that are of the model, sorted."""
    paths = sorted(_walk(root, root, _needs_code(root), MAX_FOLDERS))
    return _without_twins([path.relative_to(root).as_posix() for path in paths])


def left_out(path: Path) -> tuple[str, ...]:
    """What `collect` does not take, by name: of a folder all that is not hidden, with a `/` for a
    folder that is too deep; of what is beside a lone file of safetensors, what engines need.

    At most MAX_FILES names; none where the folder cannot be read.
    """
    try:
        if path.is_dir():
            root = path.resolve(strict=True)
            taken = set(_taken(root))
            names = (name for name in _all_names(root, "", MAX_FOLDERS) if name not in taken)
            return tuple(sorted(islice(names, MAX_FILES)))
        if path.name.lower().endswith(".safetensors"):
            return tuple(name for name in sorted(_listed(path.parent)) if _is_company(name))
    except (OSError, ModelError):
        return ()
    return ()


def _all_names(folder: Path, prefix: str, depth: int) -> Iterator[str]:
    """Every file below a folder that is not hidden, nor in a hidden folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{prefix}{entry.name}"
            if not entry.is_dir(follow_symlinks=False):
                yield name
            elif depth > 1:
                yield from _all_names(Path(entry.path), f"{name}/", depth - 1)
            else:
                yield f"{name}/"


def _is_company(name: str) -> bool:
    """Whether a file beside weights says how they are used."""
    is_seen = not name.startswith(".") and _is_wanted(name, takes_code=False)
    return is_seen and role_of(name) in (Role.CONFIG, Role.TOKENIZER, Role.TEMPLATE)


def found_file(path: Path) -> tuple[Found, ...]:
    """A file of weights; of one that is a shard, the others beside it too. Raises ModelError."""
    told = shard(path.name)
    paths = [path]
    if told is not None:
        name, _, total = told
        there = set(_listed(path.parent))
        shards = (shard_name(name, number, total) for number in range(1, total + 1))
        paths = [path.with_name(each) for each in shards if each in there]
    return tuple(map(_weights, paths))


def _listed(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError as error:
        raise ModelError(f"reading {folder}: {error.strerror or error}") from error


def indexes(files: Iterable[Found]) -> dict[str, bytes]:
    """The contents of the safetensors indexes among these files, by name. Raises ModelError."""
    return {
        found.name: small(found.path, MAX_INDEX) for found in files if found.name.endswith(INDEX)
    }


def small(path: Path, limit: int) -> bytes:
    """A whole file of at most `limit` bytes. Raises ModelError."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ModelError(f"reading {path}: {error.strerror or error}") from error
    if len(content) > limit:
        raise ModelError(f"{path} has more than {limit} bytes")
    return content


def _weights(path: Path) -> Found:
    """A file that begins as weights do; its name gets the ending that it lacks."""
    try:
        real = path.resolve(strict=True)
        state = real.stat()
        if not stat.S_ISREG(state.st_mode):
            raise ModelError(f"{path} is not a regular file; refused")
        with real.open("rb") as file:
            begin = file.read(PEEK)
    except OSError as error:
        raise ModelError(f"reading {path}: {error.strerror or error}") from error
    kind = kind_of(begin, state.st_size)
    if kind not in (Kind.GGUF, Kind.SAFETENSORS):
        raise ModelError(f"{path} is neither GGUF nor safetensors: {alien(begin)}")
    name = safe_name(path.name)
    name = name if name.lower().endswith(f".{kind}") else f"{name}.{kind}"
    return Found(real, name, Role.WEIGHTS, state.st_size)


def _without_twins(names: list[str]) -> list[str]:
    """Without the weights that are there a second time, for another program: `consolidated`."""
    weights = [name for name in names if name.endswith(".safetensors")]
    twins = [name for name in weights if name.startswith(_TWIN)]
    return [name for name in names if name not in twins] if len(twins) < len(weights) else names


def role_of(name: str) -> Role:
    """What a file of this name is for."""
    base = name.lower().rpartition("/")[2]
    if base in _TOKENIZER or base.endswith(".tiktoken"):
        return Role.TOKENIZER
    if base.endswith(_CODE):
        return Role.OTHER
    return Role.DOCUMENT if base.startswith("notice") else by_name(name)


def _walk(root: Path, folder: Path, takes_code: bool, depth: int) -> Iterator[Path]:
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            count += 1
            if count > MAX_FILES:
                raise ModelError(f"{folder} has more than {MAX_FILES} files")
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if depth > 1:
                    yield from _walk(root, path, takes_code, depth - 1)
            elif _is_wanted(entry.name, takes_code):
                _check(root, path)
                yield path


def _is_wanted(name: str, takes_code: bool) -> bool:
    low = name.lower()
    if low in _TOKENIZER or low.endswith(_ENDINGS) or (takes_code and low.endswith(_CODE)):
        return True
    stem, dot, ending = low.rpartition(".")
    is_text = (dot + ending if stem else "") in _TEXTS or "." not in low
    return is_text and low.startswith(_READABLE)


def _check(root: Path, path: Path) -> None:
    try:
        real = path.resolve(strict=True)
    except FileNotFoundError:
        raise ModelError(f"{path} is a link that leads nowhere; refused") from None
    if not real.is_relative_to(root):
        raise ModelError(
            f"{path} is a link that leads out of {root}; refused (name the folder with the files)"
        )
    if not stat.S_ISREG(real.lstat().st_mode):
        raise ModelError(f"{path} is not a regular file; refused")


def _needs_code(root: Path) -> bool:
    config = root / "config.json"
    if not config.is_file() or not config.resolve().is_relative_to(root):
        return False
    with config.open("rb") as file:
        return _NEEDS_CODE in file.read(_MAX_CONFIG)
