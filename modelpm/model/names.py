"""Which file names are safe to write, whatever a stranger called the file; names of shards.

A safe name is relative, stays inside its folder on Linux, macOS and Windows, and may have
subfolders, split by `/`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

MAX_BYTES = 255
"""UTF-8 bytes of a whole name, subfolders and all."""
MAX_FOLDERS = 8

_MARK = len("-100000")
_FORBIDDEN = re.compile(r'[<>:"|?*]')
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{device}{digit}" for device in ("com", "lpt") for digit in "0123456789¹²³"}
)
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.[A-Za-z0-9]+)")


def relative(path: str) -> str:
    """A path without a root, without `.` and without a `/` at its end. Still UNSAFE."""
    return "/".join(part for part in PurePosixPath(path.lstrip("/")).parts if part != ".")


def safe_name(text: str, instead: str = "file") -> str:
    """The name of a file that a stranger called `text`, made safe; `instead` if nothing is left.

    Folders above, roots and drives are dropped; characters that a file system or a terminal
    could take for a command become `_`.
    """
    folders = [_component(part) for part in re.split(r"[/\\]", text)]
    kept = [part for part in folders if part][-MAX_FOLDERS:]
    while len(kept) > 1 and len("/".join(kept).encode()) > MAX_BYTES:
        del kept[0]
    return "/".join(kept) or instead


def unique_names(names: Iterable[str]) -> list[str]:
    """The same names, in order, with `-2`, `-3`... in those that would fall on an earlier one.

    Names that differ in case only fall on one another, and so do a file and a folder.
    """
    files: set[str] = set()
    folders: set[str] = set()
    used: Counter[str] = Counter()
    result = []
    for name in names:
        free = name
        while _collides(free.casefold(), files, folders):
            stem, ending = _split(PurePosixPath(name).name, MAX_BYTES - _MARK)
            used[stem.casefold()] += 1  # not from 2 again: ten thousand may have one name
            free = f"{stem}-{used[stem.casefold()] + 1}{ending}"
        files.add(free.casefold())
        folders.update(_folders(free.casefold()))
        result.append(free)
    return result


def shard(name: str) -> tuple[str, int, int] | None:
    """What `model-00002-of-00003.gguf` says: the set's name, which shard, of how many."""
    match = _SHARD.fullmatch(name)
    if match is None or not 1 <= int(match[2]) <= int(match[3]):
        return None
    return match[1] + match[4], int(match[2]), int(match[3])


def shard_name(name: str, number: int, total: int) -> str:
    """The name of one shard of a set: `model-00002-of-00003.gguf` for `model.gguf`."""
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}-{number:05}-of-{total:05}{path.suffix}"))


def _component(text: str) -> str:
    """One folder or file name, or "" for one that means another place."""
    normal = unicodedata.normalize("NFC", text)
    visible = "".join("_" if unicodedata.category(c)[0] == "C" else c for c in normal)
    clean = _FORBIDDEN.sub("_", visible).strip(" ").rstrip(". ")
    if clean.partition(".")[0].rstrip(" ").casefold() in _DEVICES:
        clean = f"_{clean}"
    return _cut(clean)


def _cut(name: str) -> str:
    """At most MAX_BYTES, with the ending kept."""
    return "".join(_split(name, MAX_BYTES)).rstrip(". ")


def _split(name: str, limit: int) -> tuple[str, str]:
    """The stem and the ending of a file name, together at most `limit` bytes."""
    ending = PurePosixPath(name).suffix
    ending = ending if len(ending.encode()) <= limit // 4 else ""
    stem = name[: len(name) - len(ending)].encode()[: limit - len(ending.encode())]
    return stem.decode("utf-8", "ignore"), ending


def _collides(name: str, files: set[str], folders: set[str]) -> bool:
    return name in files or name in folders or any(part in files for part in _folders(name))


def _folders(name: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(name).parents][:-1]
