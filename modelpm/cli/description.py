"""What a person is told about a model: its facts from weights and config, its texts, its parts.

A flaw in one place leaves the others readable: it is told instead of what it hides.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from modelpm.cli import output
from modelpm.errors import ModelPMError
from modelpm.model import modelfile
from modelpm.model.gguf import Header
from modelpm.model.model import Facts, Model, Part
from modelpm.oci.descriptor import Digest

FIRST_LINES = 4
"""Lines of a licence or a system prompt in the overview."""

_Read = TypeVar("_Read")
_Else = TypeVar("_Else")


class Described(Protocol):
    """A model that can be described: one that is here, or one at a registry."""

    name: str
    short_name: str

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
    def path(self) -> Path | None:
        """The weights' file; None where it is not on this machine."""
        ...


@dataclass(slots=True)
class Description:
    """A model, described when asked. `flaws` are the messages of what could not be read."""

    model: Described
    flaws: list[str] = field(default_factory=list)

    def header(self) -> Header | None:
        """What the weights say of themselves, through the gate."""
        path = self._try(lambda: self.model.path, None)
        return None if path is None else self._try(lambda: Header.read(path), None)

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
        return modelfile.render(modelfile.describe(self.model.model, self.model.short_name))

    def facts(self) -> dict[str, object]:
        """What is known of the model itself, the weights' word before the config's."""
        told = self._try(lambda: self.model.model.facts, Facts())
        header = self.header()
        if header is None:
            return {
                "architecture": told.family,
                "parameters": told.parameter_size,
                "quantization": told.quantization,
                "context_length": told.context_length,
            }
        return {
            "architecture": header.architecture or told.family,
            "name": header.name,
            "parameters": header.parameter_size,
            "parameter_count": header.parameter_count,
            "quantization": header.quantization or told.quantization,
            "context_length": header.context_length or told.context_length,
            "embedding_length": header.embedding_length,
            "block_count": header.block_count,
            "vocabulary": header.vocabulary,
            "vocabulary_size": header.vocabulary_size or None,
        }

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
        rows = [(key.replace("_", " "), str(value)) for key, value in facts.items() if value]
        _section("Model", [output.escape(line) for line in _aligned(rows)])
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
        output.say("  Parts")
        rows = [
            (
                part.role.value,
                part.name,
                output.size(part.descriptor.size),
                part.descriptor.digest.short,
            )
            for part in self.model.parts
        ]
        output.table(("ROLE", "NAME", "SIZE", "DIGEST"), rows, margin="    ")

    def _try(self, read: Callable[[], _Read], otherwise: _Else) -> _Read | _Else:
        try:
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


def _section(title: str, lines: list[str]) -> None:
    if not lines:
        return
    output.say(f"  {title}")
    for line in lines:
        output.say(f"    {line}", "\t")
    output.say("")
