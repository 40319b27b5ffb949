"""What a person is told about a model: its facts from weights and config, its texts, its parts.

A flaw in one place leaves the others readable: it is told instead of what it hides.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from modelpm.cli import output
from modelpm.errors import ModelPMError
from modelpm.model import knowledge, modelfile
from modelpm.model.gguf import Header
from modelpm.model.model import Facts, Model, Part
from modelpm.oci.descriptor import Digest

FIRST_LINES = 4
"""Lines of a licence or a system prompt in the overview."""

_COMPRESSED = ("+gzip", ".gzip", "+zstd")

_Read = TypeVar("_Read")
_Else = TypeVar("_Else")


class Described(Protocol):
    """A model that can be described: one that is here, or one at a registry."""

    name: str
    short_name: str
    part: str
    """Which of several models in the artifact was asked for, if that was said."""

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        ...

    @property
    def modified(self) -> str:
        """When the name was pointed here; empty where that is not known."""
        ...

    @property
    def size(self) -> int:
        """Bytes of config and layers."""
        ...

    @property
    def model(self) -> Model:
        """What the layers mean."""
        ...

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every layer with its role and name."""
        ...

    @property
    def selected_from(self) -> Digest | None:
        """The index that it was chosen from, where that is known."""
        ...

    @property
    def path(self) -> Path | None:
        """The weights' file; None where it is not on this machine."""
        ...

    def naming_damage(self) -> AbstractContextManager[None]:
        """Have wrong bytes told with the model's name."""
        ...


@dataclass(slots=True)
class Description:
    """A model, described when asked. `flaws` are the messages of what could not be read."""

    model: Described
    flaws: list[str] = field(default_factory=list)

    _header: list[Header | None] = field(default_factory=list)

    def header(self) -> Header | None:
        """What the weights say of themselves, through the gate; None of what is no GGUF."""
        if not self._header:  # a flaw in it is told once
            self._header.append(self._try(self._read_header, None))
        return self._header[0]

    def template(self) -> str:
        """The chat template: the artifact's own, else the one in the weights."""
        told = self.model.model.template or self.model.model.chat_template
        header = None if told else self.header()
        return told or (header.chat_template if header else None) or ""

    def system(self) -> str:
        """What the model is told before a conversation."""
        return self.model.model.system or ""

    def license(self) -> str:
        """All licences."""
        return "\n\n".join(self.model.model.licenses)

    def parameters(self) -> str:
        """A line a parameter."""
        return "\n".join(parameter_lines(self.model.model.parameters))

    def modelfile(self) -> str:
        """The model as a Modelfile."""
        part = f"#{self.model.part}" if self.model.part else ""
        source = f"{self.model.short_name}{part}"
        return modelfile.render(modelfile.describe(self.model.model, source))

    def facts(self) -> dict[str, object]:
        """What is known of the model itself, the weights' word before the config's."""
        nothing: dict[str, object] = {}
        described = self._try(lambda: knowledge.transformers_facts(self.model.model), nothing)
        return knowledge.facts(self._told(), self.header(), described)

    def capabilities(self) -> list[str]:
        """What the model can do, as far as that can be told."""
        template = self._try(self.template, "")
        content = self.model.model
        return list(knowledge.capabilities(content, self._told(), self.header(), template))

    def provenance(self) -> dict[str, str]:
        """Where the model comes from, as it says, and how it was chosen when it was pulled."""
        told = knowledge.provenance(self.model.model)
        index = self.model.selected_from
        return told | ({"selected_from": str(index)} if index else {})

    def document(self) -> dict[str, object]:
        """All of it as JSON values."""
        model, content = self.model, self.model.model
        nothing: dict[str, object] = {}
        described: dict[str, object] = {
            "name": model.name,
            "short_name": model.short_name,
            "digest": str(model.digest),
            "size": model.size,
            "modified": model.modified or None,
            **self._try(content.summary, nothing),
            "path": self._try(lambda: None if model.path is None else str(model.path), None),
            "model": self.facts(),
            "capabilities": self.capabilities(),
            "provenance": self.provenance(),
            "properties": knowledge.properties(content),
            "template": self._try(lambda: content.template, None),
            "chat_template": self._try(lambda: content.chat_template, None),
            "system": self._try(lambda: content.system, None),
            "parameters": self._try(lambda: dict(content.parameters), {}),
            "licenses": self._try(lambda: list(content.licenses), []),
            "messages": [
                {"role": message.role, "content": message.content}
                for message in self._try(lambda: content.messages, ())
            ],
        }
        return described | {"flaws": list(dict.fromkeys(self.flaws))}

    def show(self) -> None:
        """Print the overview."""
        facts = self.facts()
        facts.pop("parameter_count", None)  # in words it is there as well
        facts["capabilities"] = ", ".join(self.capabilities())
        _facts("Model", facts)
        dialect = self.model.model.dialect.name
        _facts("Origin", {"name": self.model.name, "dialect": dialect, **self.provenance()})
        _facts("Properties", knowledge.properties(self.model.model))
        for title, read in (
            ("Parameters", self.parameters),
            ("System", self.system),
            ("License", self.license),
        ):
            lines = self._try(read, "").splitlines()
            _section(title, lines if title == "Parameters" else _first(lines))
        self._show_parts()
        for flaw in dict.fromkeys(self.flaws):
            output.note(f"Flaw: {flaw}")

    def _show_parts(self) -> None:
        parts = self.model.parts
        head = ["ROLE", "NAME", "SIZE", "DIGEST", "TYPE"]
        is_packed = any(part.packed_in for part in parts)
        rows = []
        for part in parts:
            desc = part.descriptor
            packed = part.packed_in
            row = [part.role.value, part.name, output.size(desc.size), desc.digest.short]
            row += [packed.digest.short if packed else ""] if is_packed else []
            rows.append([*row, (packed or desc).media_type])
        if is_packed:
            head.insert(4, "IN LAYER")
        output.say("  Parts")
        output.table(head, rows, margin="    ")
        if any(
            part.packed_in and part.packed_in.media_type.endswith(_COMPRESSED) for part in parts
        ):
            output.say("    Files of compressed layers are kept beside them.")

    def _read_header(self) -> Header | None:
        path = self.model.path
        return None if path is None else knowledge.read_header(self.model.model, lambda: path)

    def _told(self) -> Facts:
        return self._try(lambda: self.model.model.facts, Facts())

    def _try(self, read: Callable[[], _Read], otherwise: _Else) -> _Read | _Else:
        try:
            with self.model.naming_damage():
                return read()
        except ModelPMError as error:
            self.flaws.append(str(error))
            return otherwise


def parameter_lines(parameters: Mapping[str, object]) -> list[str]:
    """A line a value: a stop string is one, in quotes."""
    rows = []
    for name, value in parameters.items():
        values = value if isinstance(value, list | tuple) else (value,)
        rows += [(name, json.dumps(each, ensure_ascii=False)) for each in values]
    return _aligned(rows)


def _aligned(rows: list[tuple[str, str]]) -> list[str]:
    wide = max((output.width(name) for name, _ in rows), default=0)
    return [name + " " * (wide - output.width(name)) + "    " + value for name, value in rows]


def _first(lines: list[str]) -> list[str]:
    told = [line for line in lines if line.strip()]
    return told if len(told) <= FIRST_LINES else [*told[: FIRST_LINES - 1], "..."]


def _facts(title: str, facts: Mapping[str, object]) -> None:
    rows = [(key.replace("_", " "), str(value)) for key, value in facts.items() if value]
    _section(title, [output.escape(line) for line in _aligned(rows)])


def _section(title: str, lines: list[str]) -> None:
    if not lines:
        return
    output.say(f"  {title}")
    for line in lines:
        output.say(f"    {line}", output.SPEECH)
    output.say("")
