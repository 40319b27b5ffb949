"""Which files of weights are one model, whether all of them are there, and how one is chosen.

llama.cpp and transformers number the files of a set in their names (`-00001-of-00003`); for
safetensors an index, `model.safetensors.index.json`, names the file of each tensor.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from modelpm.errors import InvalidManifestError, ModelError
from modelpm.model.facts import at
from modelpm.model.names import safe_name, shard, shard_name
from modelpm.model.parts import Part
from modelpm.oci.manifest import load_json

MAX_INDEX = 2**24
"""Bytes of an index of safetensors; 10 MiB are known, of a model with 90,000 tensors."""
MAX_VALUES = 2**18
"""Values in an index, counted before it is parsed: what they take in memory is bounded so."""
INDEX = ".safetensors.index.json"

_MAX_TOLD = 300
_TOLD = 5


@dataclass(frozen=True, slots=True)
class WeightSet:
    """The weights of one model: its name, its files in order, and the files that are not there."""

    name: str
    parts: tuple[Part, ...]
    missing: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise ModelError, which names what is missing, unless the set is complete."""
        if self.missing:
            told = ", ".join(self.missing[:_TOLD])
            more = f" and {len(self.missing) - _TOLD} more" if len(self.missing) > _TOLD else ""
            verb = "are" if len(self.missing) > 1 else "is"
            raise ModelError(f"the weights are not complete: {told}{more} {verb} missing")


def weight_sets(
    weights: Sequence[Part], indexes: Mapping[str, bytes], tensor_type: str = ""
) -> tuple[WeightSet, ...]:
    """The sets that these weights are, in the order of their names.

    `indexes` are the contents of safetensors indexes by their names. Layers of `tensor_type` are
    one tensor each, and one set. Raises ModelError for an index that is none.
    """
    left = {part.name: part for part in weights}
    found = []
    for name, content in sorted(indexes.items()):
        told = _indexed(name, content)
        missing = tuple(file for file in told if file not in left)
        parts = tuple(left.pop(file) for file in told if file in left)
        if parts:
            found.append(WeightSet(f"{name.removesuffix(INDEX)}.safetensors", parts, missing))
    tensors = [part for part in left.values() if part.descriptor.media_type == tensor_type]
    if tensors:
        found.append(WeightSet("tensors", tuple(tensors)))
    files = (part for part in left.values() if part.descriptor.media_type != tensor_type)
    found += _numbered(_once(files))
    return tuple(sorted(found, key=lambda each: each.name))


def chosen(sets: Sequence[WeightSet], choice: str) -> WeightSet:
    """The set that a person means: by its name or one of its files, whole, without folders, or
    without the ending. Raises ModelError, which says what there is to choose from.
    """
    for key in _KEYS:
        fits = [each for each in sets if key(choice) in {key(name) for name in _names(each)}]
        if len(fits) == 1:
            return fits[0]
    what = "means several of" if any(fits) else "is none of"
    raise ModelError(f"{choice[:100]!r} {what} the models in this artifact: {listed(sets)}")


def one_of(parts: Sequence[Part], choice: str) -> Part | None:
    """The file that a choice is the name of, as for `chosen`; None for any other choice."""
    for key in _KEYS:
        fits = [part for part in parts if key(part.name) == key(choice)]
        if len(fits) == 1:
            return fits[0]
    return None


def listed(sets: Iterable[WeightSet]) -> str:
    """The names of sets, for a message."""
    return ", ".join(each.name for each in sets)[:_MAX_TOLD]


def _names(each: WeightSet) -> list[str]:
    return [each.name, *(part.name for part in each.parts)]


def _whole(name: str) -> str:
    return name.casefold()


def _base(name: str) -> str:
    return PurePosixPath(name.casefold()).name


def _stem(name: str) -> str:
    return PurePosixPath(name.casefold()).stem


_KEYS: tuple[Callable[[str], str], ...] = (_whole, _base, _stem)
"""What of a name is compared, the strictest first."""


def _once(weights: Iterable[Part]) -> list[Part]:
    """The parts, but of one file under several names the last; shards stay, whatever they hold."""
    files = {part.name if shard(part.name) else part.descriptor.digest: part for part in weights}
    return list(files.values())


def _indexed(name: str, content: bytes) -> list[str]:
    """The names of the files that an index lists, in order."""
    if content.count(b",") > MAX_VALUES:
        raise ModelError(f"{name} has more than {MAX_VALUES} values")
    try:
        files = at(load_json(content), ("weight_map",))
    except InvalidManifestError as error:
        raise ModelError(f"{name}: {error}") from None
    values = list(files.values()) if isinstance(files, dict) else [None]
    if not all(isinstance(value, str) for value in values):
        raise ModelError(f"{name} is no index of safetensors: its weight_map names no files")
    folder = PurePosixPath(name).parent
    return [safe_name(str(folder / file)) for file in sorted(set(map(str, values)))]


def _numbered(weights: Iterable[Part]) -> list[WeightSet]:
    """Sets by the numbers in the names; a file without a number is a set of its own."""
    sets: dict[tuple[str, int], dict[int, Part]] = {}
    for part in weights:
        name, number, total = shard(part.name) or (part.name, 1, 0)
        sets.setdefault((name, total), {})[number] = part
    return [
        WeightSet(
            name,
            tuple(found[number] for number in sorted(found)),
            tuple(shard_name(name, n, total) for n in range(1, total + 1) if n not in found),
        )
        for (name, total), found in sets.items()
    ]
