"""How LM Studio keeps models on disk: PUBLISHER/MODEL/ with their files.

A folder may hold a model in several quantizations, each a GGUF or a set of shards, with a
projector for all of them; or the files of a safetensors model. Source: LM Studio's documentation,
"Import Models".
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

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
from modelpm.model.shards import INDEX, MAX_INDEX, WeightSet
from modelpm.store.files import read_small

HOST = "localhost"
"""No registry has these names: they are this machine's."""

_QUANTIZATION = re.compile(r"(?:.*[-._])?((?:UD-)?(?:I?Q[0-9][0-9A-Z_]*|BF16|F16|F32|MXFP4.*))")


def is_place(root: Path) -> bool:
    """Whether this looks like LM Studio's folder of models."""
    return any(True for publisher in folders(root) for _ in folders(publisher))


def models(root: Path) -> Iterator[Found]:
    """Every model in every quantization, by name. Raises StoreError for what cannot be read."""
    count = 0
    for publisher in folders(root):
        for folder in folders(publisher):
            for found in _models(root, folder):
                count += 1
                if count > MAX_FOUND:
                    raise StoreError(f"{root} has more than {MAX_FOUND} models")
                yield found


def _models(root: Path, folder: Path) -> list[Found]:
    name = folder.relative_to(root).as_posix()
    try:
        files = tuple(
            Held(real, path.relative_to(folder).as_posix(), real.stat().st_size)
            for path, real in files_below(folder, root)
            if not path.name.startswith(".")
        )
        indexes = {f.name: _small(f.path) for f in files if f.name.endswith(INDEX)}
        sets = weights_of({file.name: role_of(file.name) for file in files}, indexes)
    except (ModelError, StoreError, OSError) as error:
        return [Found(name, full_name(f"{HOST}/{name}"), flaw=f"{name}: {error}")]
    tags = [_tag(each) for each in sets]
    return [
        _model(name, each, tag if tags.count(tag) == 1 else tag_of(_stem(each)), files)
        for each, tag in zip(sets, tags, strict=True)
    ]


def _model(name: str, weights: WeightSet, tag: str, files: tuple[Held, ...]) -> Found:
    """One of the models in a folder: its weights, and all that is not weights."""
    told = name if tag == "latest" else f"{name}:{tag}"
    reference = full_name(f"{HOST}/{name}:{tag}")
    own = {part.name for part in weights.parts}
    chosen = tuple(f for f in files if role_of(f.name) is not Role.WEIGHTS or f.name in own)
    aliases = (f"{name}/{weights.name}", f"{name}:{tag}")
    try:
        weights.check()
    except ModelError as error:
        return Found(told, reference, aliases=aliases, flaw=f"{told}: {error}")
    return Found(told, reference, chosen, aliases=aliases)


def _tag(weights: WeightSet) -> str:
    """The quantization where the file's name ends in one; what a folder holds alone is `latest`."""
    match = _QUANTIZATION.fullmatch(_stem(weights))
    return tag_of(match[1]) if match else "latest"


def _stem(weights: WeightSet) -> str:
    return PurePosixPath(weights.name).stem


def _small(path: Path) -> bytes:
    try:
        return read_small(path, MAX_INDEX)
    except FileNotFoundError as error:
        raise StoreError(f"reading {path}: it has just gone") from error
