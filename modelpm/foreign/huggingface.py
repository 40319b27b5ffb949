"""How huggingface_hub keeps repositories on disk.

    models--ORG--NAME/
        blobs/<etag>                    of a large file its sha256, of a small one git's id
        refs/<branch>                   a commit
        snapshots/<commit>/<path>       a link to ../../blobs/<etag>; or a file, without links

Source: huggingface_hub's file_download.py and the guide "Understand caching".
"""

import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from modelpm.errors import ModelError, StoreError
from modelpm.foreign.found import (
    MAX_FOUND,
    Found,
    Held,
    files_below,
    folders,
    full_name,
    tag_of,
    weights_of,
)
from modelpm.model.folder import role_of
from modelpm.model.roles import Role
from modelpm.model.shards import INDEX, MAX_INDEX
from modelpm.oci.descriptor import Digest
from modelpm.store.files import listing, read_small

HOST = "hf.co"
_SITE = "https://huggingface.co"
_FOLDER = re.compile(r"models--(.+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LFS = re.compile(r"[0-9a-f]{64}")
_MAX_REF = 256
_MAX_REFS = 1_000
_MAX_DEPTH = 4
_MAIN = "main"


def is_place(root: Path) -> bool:
    """Whether this looks like a cache of huggingface_hub."""
    return any(_FOLDER.fullmatch(folder.name) for folder in folders(root))


def models(root: Path) -> Iterator[Found]:
    """Every model of every revision, by name; what has no weights is none.

    Raises StoreError where a folder cannot be read.
    """
    count = 0
    for folder in folders(root):
        match = _FOLDER.fullmatch(folder.name)
        if match is None:
            continue
        repository = match[1].replace("--", "/")
        refs = _refs(folder / "refs")
        for snapshot in folders(folder / "snapshots"):
            count += 1
            if count > MAX_FOUND:
                raise StoreError(f"{root} has more than {MAX_FOUND} models")
            names = [ref for ref, commit in refs.items() if commit == snapshot.name]
            found = _model(folder, repository, snapshot, sorted(names))
            if found.flaw or any(role_of(file.name) is Role.WEIGHTS for file in found.files):
                yield found


def _model(folder: Path, repository: str, snapshot: Path, refs: list[str]) -> Found:
    """One revision. `main` is what a repository's bare name means, and `latest` here."""
    commit = snapshot.name
    told = _MAIN if _MAIN in refs else next(iter(refs), commit)
    name = repository if told == _MAIN else f"{repository}@{told}"
    aliases = (f"{repository}@{commit}", *(f"{repository}@{ref}" for ref in refs))
    reference = full_name(f"{HOST}/{repository}:{'latest' if told == _MAIN else tag_of(told)}")
    aliases = tuple(dict.fromkeys(alias for each in aliases for alias in (each, f"{HOST}/{each}")))
    aliases += (f"{HOST}/{repository}",) if told == _MAIN else ()
    origin = {"source": f"{_SITE}/{repository}"}
    origin |= {"revision": commit} if _COMMIT.fullmatch(commit) else {}
    try:
        paths = files_below(snapshot, folder)
        files = tuple(_held(snapshot, *pair) for pair in paths if pair[0].name[0] != ".")
        _check(files)
    except (ModelError, StoreError) as error:
        return Found(name, reference, origin=origin, aliases=aliases, flaw=f"{name}: {error}")
    return Found(name, reference, files, origin=origin, aliases=aliases)


def _held(snapshot: Path, path: Path, real: Path) -> Held:
    """A file; the name of its blob tells what its bytes are, if it has come whole."""
    etag = real.name if real.parent.name == "blobs" else ""
    digest = Digest("sha256", etag) if _LFS.fullmatch(etag) else None
    git = etag if _COMMIT.fullmatch(etag) else None
    name = path.relative_to(snapshot).as_posix()
    try:
        return Held(real, name, real.stat().st_size, digest, git)
    except OSError as error:
        raise StoreError(f"reading {real}: {error.strerror}") from error


def _check(files: tuple[Held, ...]) -> None:
    """Raises ModelError, which names what is missing, for weights that are not complete."""
    indexes = {
        file.name: _small(file.path, MAX_INDEX) for file in files if file.name.endswith(INDEX)
    }
    for each in weights_of({file.name: role_of(file.name) for file in files}, indexes):
        each.check()


def _small(path: Path, limit: int) -> bytes:
    try:
        return read_small(path, limit)
    except FileNotFoundError as error:
        raise StoreError(f"reading {path}: it has just gone") from error


def _refs(folder: Path, depth: int = 0) -> Mapping[str, str]:
    """The commits by the names that they have here; what is no ref is left out."""
    found: dict[str, str] = {}
    for path, state in listing(folder)[:_MAX_REFS]:
        if stat.S_ISDIR(state.st_mode):
            inner = _refs(path, depth + 1) if depth < _MAX_DEPTH else {}
            found |= {f"{path.name}/{name}": commit for name, commit in inner.items()}
            continue
        try:
            text = read_small(path, _MAX_REF).decode("ascii", "replace").strip()
        except (StoreError, FileNotFoundError):
            continue
        if _COMMIT.fullmatch(text):
            found[path.name] = text
    return found
