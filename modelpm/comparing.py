"""What two models share and what not: files by bytes, facts by name, texts by lines."""

import difflib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from modelpm.errors import ModelPMError
from modelpm.installed import Installed
from modelpm.model import knowledge
from modelpm.model.facts import Facts
from modelpm.model.model import Model, Part, Role

if TYPE_CHECKING:
    from modelpm.model.gguf import Header

_Read = TypeVar("_Read")
_Else = TypeVar("_Else")

MAX_LINES = 5_000
"""Of a text: more are not compared line by line, which takes the square of their number."""


class Change(StrEnum):
    """What has become of a file on the way from the first model to the second."""

    SAME = "same"
    CHANGED = "changed"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class PartChange:
    """A file: as it is in the first model, and in the second; never None in both.

    SAME means the same bytes, whatever the file is called and whatever it came in; CHANGED means
    other bytes with the same role and name, or in the same only role.
    """

    change: Change
    before: Part | None
    after: Part | None

    @property
    def part(self) -> Part:
        """The file as it is after, or was before."""
        part = self.after or self.before
        if part is None:
            raise TypeError("a change of no part")
        return part


@dataclass(frozen=True, slots=True)
class FactChange:
    """What the two models say differently under one name; None where one says nothing."""

    name: str
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class TextChange:
    """A text that differs."""

    name: str
    before: str
    after: str

    def lines(self) -> list[str] | None:
        """A unified diff without its two headings; None for texts that are too long to compare."""
        before, after = self.before.splitlines(), self.after.splitlines()
        if max(len(before), len(after)) > MAX_LINES:
            return None
        return list(difflib.unified_diff(before, after, lineterm="", n=2))[2:]


@dataclass(frozen=True, slots=True)
class Difference:
    """The whole of it. `flaws` tell what could not be read, and so was not compared."""

    parts: tuple[PartChange, ...]
    facts: tuple[FactChange, ...]
    texts: tuple[TextChange, ...]
    flaws: tuple[str, ...] = ()

    @property
    def is_none(self) -> bool:
        """Whether the two are the same artifact, or say the same in every way."""
        is_same = all(part.change is Change.SAME for part in self.parts)
        return is_same and not (self.facts or self.texts or self.flaws)

    @property
    def shared(self) -> int:
        """Bytes of the files that both have."""
        same = (part.part.descriptor for part in self.parts if part.change is Change.SAME)
        return sum({desc.digest: desc.size for desc in same}.values())


def compare(before: Installed, after: Installed) -> Difference:
    """How the second model differs from the first. Raises ModelError for what is no model.

    A text or a header that cannot be read is a flaw, and the rest is compared.
    """
    flaws: list[str] = []
    parts = _parts(before.parts, after.parts)
    is_same = {part.change for part in parts if part.part.role is Role.WEIGHTS} == {Change.SAME}
    old, new = (_facts(model, flaws, gate=not is_same) for model in (before, after))
    old_texts, new_texts = (_texts(model.model, flaws) for model in (before, after))
    return Difference(
        tuple(parts),
        tuple(
            FactChange(name, old.get(name), new.get(name))
            for name in dict.fromkeys([*old, *new])
            if old.get(name) != new.get(name)
        ),
        tuple(
            TextChange(name, old_texts[name], new_texts[name])
            for name in old_texts
            if old_texts[name] != new_texts[name]
        ),
        tuple(dict.fromkeys(flaws)),
    )


def _parts(before: Sequence[Part], after: Sequence[Part]) -> list[PartChange]:
    """The files in the first model's order, then those that only the second has."""
    found: dict[int, PartChange] = {}
    ours, theirs = dict(enumerate(before)), dict(enumerate(after))
    for key, change in _KEYS:
        groups = _grouped(theirs, key)
        for value, mine in _grouped(ours, key).items():
            others = groups.get(value, [])
            if key is _by_role and (len(mine), len(others)) != (1, 1):
                continue
            for index, other in zip(mine, others, strict=False):
                found[index] = PartChange(change, ours.pop(index), theirs.pop(other))
    found |= {index: PartChange(Change.REMOVED, part, None) for index, part in ours.items()}
    added = [PartChange(Change.ADDED, None, part) for part in theirs.values()]
    return [*(found[index] for index in range(len(before))), *added]


Key = Callable[[Part], Hashable]


def _grouped(parts: Mapping[int, Part], key: Key) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for index, part in parts.items():
        groups.setdefault(key(part), []).append(index)
    return groups


def _by_role(part: Part) -> Hashable:
    return part.role


_KEYS: tuple[tuple[Key, Change], ...] = (
    (lambda part: (part.descriptor.digest, part.role, part.name), Change.SAME),
    (lambda part: part.descriptor.digest, Change.SAME),
    (lambda part: (part.role, part.name), Change.CHANGED),
    (_by_role, Change.CHANGED),
)
"""By what a file is found again in the other model, the surest first."""


def _facts(installed: Installed, flaws: list[str], *, gate: bool) -> dict[str, object]:
    """All that the model says under a name; with `gate` its weights are asked as well."""
    model = installed.model
    told = _try(lambda: model.facts, Facts(), flaws)
    described = knowledge.transformers_facts(model)
    header: Header | None = None
    if gate:
        header = _try(lambda: knowledge.read_header(model, lambda: installed.path), None, flaws)
    known = knowledge.facts(told, header, described)
    found: dict[str, object] = {
        "digest": str(installed.digest),
        "dialect": model.dialect.name,
        "media_type": model.manifest.media_type,
        "artifact_type": model.manifest.artifact_type,
        **known,
    }
    nothing: dict[str, object] = {}
    parameters = _try(lambda: dict(model.parameters), nothing, flaws)
    for title, facts in (
        ("parameter", parameters),
        ("origin", knowledge.provenance(model)),
        ("property", knowledge.properties(model)),
        ("annotation", model.manifest.annotations),
    ):
        found |= {f"{title} {name}": value for name, value in facts.items()}
    return found


def _texts(model: Model, flaws: list[str]) -> dict[str, str]:
    turns = _try(lambda: model.messages, (), flaws)
    return {
        "template": _try(lambda: model.template, None, flaws) or "",
        "chat template": _try(lambda: model.chat_template, None, flaws) or "",
        "system": _try(lambda: model.system, None, flaws) or "",
        "messages": "\n".join(f"{turn.role}: {turn.content}" for turn in turns),
        "license": "\n\n".join(_try(lambda: model.licenses, (), flaws)),
    }


def _try(read: Callable[[], _Read], otherwise: _Else, flaws: list[str]) -> _Read | _Else:
    try:
        return read()
    except ModelPMError as error:
        flaws.append(str(error))
        return otherwise
