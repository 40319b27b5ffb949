"""The grammar of a Modelfile: text to commands and back.

    FROM ./model.gguf                 # a comment stands on a line of its own
    PARAMETER stop "<|im_end|>"
    SYSTEM \"\"\"You are
    brief.\"\"\"

Source: ollama's parser/parser.go. A value runs to the end of its line, or from a quote to the
quote that ends a line; inside quotes nothing is escaped.
"""

import codecs
import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from modelpm.errors import InvalidReferenceError, ModelError, NotFoundError, StoreError
from modelpm.model import parameters
from modelpm.model.message import ROLES, Message
from modelpm.model.model import Model

MAX_BYTES = 2**22

PARAMETER, MESSAGE = "PARAMETER", "MESSAGE"
_KEYED = frozenset({PARAMETER, MESSAGE})
_PLAIN = frozenset(
    ("FROM", "TEMPLATE", "SYSTEM", "LICENSE", "ADAPTER", "DRAFT", "RENDERER", "PARSER", "REQUIRES")
)
_QUOTES = ('"""', '"')
_SPACE = " \t"
_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_COMMAND = re.compile(r"[ \t]*([A-Za-z]+)[ \t](.*)", re.DOTALL)
_KEY = re.compile(r"[ \t]*([A-Za-z0-9_]+)[ \t](.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """One instruction. `key` is a parameter's name or a message's role, else "".

    `line` is where it stands, from 1 on; 0 for one that was not read from a text.
    """

    instruction: str
    value: str
    key: str = ""
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Modelfile:
    """The commands in their order."""

    commands: tuple[Command, ...]

    def values(self, instruction: str) -> tuple[str, ...]:
        """Every value that is given with this instruction."""
        return tuple(c.value for c in self.commands if c.instruction == instruction)

    def last(self, instruction: str) -> str | None:
        """The value that counts where only one can: the last."""
        return next(iter(reversed(self.values(instruction))), None)

    @property
    def sources(self) -> tuple[str, ...]:
        """What the model is made from: names, files or folders. At least one."""
        return self.values("FROM")

    @property
    def messages(self) -> tuple[Message, ...]:
        """The turns that stand before a conversation."""
        return tuple(Message(c.key, c.value) for c in self.commands if c.instruction == MESSAGE)

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters in their types; `stop` gathers all its strings.

        Raises ModelError for a value of the wrong type or out of range. What is `idle` is left out.
        """
        found: dict[str, object] = {}
        stops: list[str] = []
        for command in self.commands:
            if command.instruction != PARAMETER or _is_idle(command):
                continue
            with located(command):
                value = parameters.parsed(command.key, command.value)
            if isinstance(value, tuple):
                stops += value
            else:
                found[command.key] = value
        return parameters.checked({**found, parameters.STOP: stops} if stops else found)

    @property
    def idle(self) -> tuple[Command, ...]:
        """The parameters that change nothing: deprecated ones, and stop strings that are empty."""
        return tuple(c for c in self.commands if c.instruction == PARAMETER and _is_idle(c))


def parse(content: str | bytes) -> Modelfile:
    """Read a Modelfile; bytes are UTF-8, or UTF-16 with its mark.

    Raises ModelError, which tells the line.
    """
    text = _decoded(content) if isinstance(content, bytes) else content
    commands = tuple(_commands(text.removeprefix("\ufeff")))
    if not any(command.instruction == "FROM" for command in commands):
        raise ModelError("the Modelfile has no FROM line")
    return Modelfile(commands)


def render(modelfile: Modelfile) -> str:
    """The text that parses to this Modelfile.

    Raises ModelError for a value that the grammar cannot hold.
    """
    return "".join(f"{_line(command)}\n" for command in modelfile.commands)


def describe(model: Model, source: str) -> Modelfile:
    """The Modelfile that makes this model again, from `source`: its name.

    What the grammar cannot hold is left out: a model made from this one has it all the same.
    Raises ModelError and ContentError, as reading the model's texts does.
    """
    commands = [Command("TEMPLATE", text) for text in [model.template] if text is not None]
    commands += [Command("SYSTEM", text) for text in [model.system] if text is not None]
    for name, value in model.parameters.items():
        if parameters.known(name):
            values = value if isinstance(value, tuple) else (value,)
            commands += [Command(PARAMETER, _word(item), name) for item in values]
    commands += [Command("LICENSE", text) for text in model.licenses]
    turns = [Command(MESSAGE, turn.content, turn.role) for turn in model.messages]
    if all(map(_is_writable, turns)):
        commands += turns
    return Modelfile((Command("FROM", source), *filter(_is_writable, commands)))


def _is_idle(command: Command) -> bool:
    return command.key in parameters.DEPRECATED or (
        command.key == parameters.STOP and not command.value
    )


def _is_writable(command: Command) -> bool:
    """Whether the command, written down, would be read as it is."""
    if command.instruction != MESSAGE and (not command.value or "\ufffd" in command.value):
        return False  # nothing, or what stands for bytes that are no text
    try:
        return next(_commands(_line(command))) == command
    except ModelError:
        return False


@contextlib.contextmanager
def located(command: Command) -> Iterator[None]:
    """Tell the line with every error that what is done for this command raises."""
    try:
        yield
    except (ModelError, StoreError, NotFoundError, InvalidReferenceError) as error:
        if not command.line:
            raise
        raise type(error)(f"the Modelfile, line {command.line}: {error}") from error


def _decoded(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise ModelError(f"the Modelfile has more than {MAX_BYTES} bytes")
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if content.startswith(marks) else "utf-8"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ModelError(f"the Modelfile is not {encoding}: {error.reason}") from None


def _commands(text: str) -> Iterator[Command]:
    if len(text) > MAX_BYTES:
        raise ModelError(f"the Modelfile has more than {MAX_BYTES} characters")
    lines = _LINES.findall(text)
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if not line.strip() or line.lstrip(_SPACE).startswith("#"):
            continue
        instruction, key, first = _opened(line, number)
        more = _further(first, lines, number)
        if more is None:
            raise _flaw(number, f"the value of {instruction} has no closing quote")
        value = "".join((first, *lines[number : number + more]))
        yield Command(instruction, _unquoted(value) or "", key, number)
        number += more


def _further(first: str, lines: Sequence[str], start: int) -> int | None:
    """How many lines from `start` on belong to a value; None where no quote closes it."""
    if _unquoted(first) is not None:
        return 0
    quote = next(quote for quote in _QUOTES if first.lstrip().startswith(quote))
    for index in range(start, len(lines)):
        if lines[index].rstrip().endswith(quote):
            return index + 1 - start
    return None


def _opened(line: str, number: int) -> tuple[str, str, str]:
    """The instruction, the key and the beginning of the value."""
    match = _COMMAND.fullmatch(line)
    instruction = "" if match is None else match[1].upper()
    if match is None or instruction not in _PLAIN | _KEYED:
        names = ", ".join(sorted(_PLAIN | _KEYED))
        word = line.split(maxsplit=1)[0]
        found = "" if word.upper() in _PLAIN | _KEYED else f", not {word[:40]!r}"
        raise _flaw(
            number, f"an instruction and a value were expected{found}; the instructions are {names}"
        )
    if instruction in _PLAIN:
        return instruction, "", match[2]
    keyed = _KEY.fullmatch(match[2])
    if keyed is None:
        raise _flaw(number, f"{instruction} takes a name and a value")
    key = keyed[1]
    if instruction == PARAMETER and not parameters.known(key):
        raise _flaw(number, f"unknown parameter {key[:100]!r}")
    if instruction == MESSAGE and key not in ROLES[:3]:
        raise _flaw(number, 'the role of a message is "system", "user" or "assistant"')
    return instruction, key, keyed[2]


def _unquoted(value: str) -> str | None:
    """What a value says, or None while its closing quote has not come."""
    text = value.strip()
    for quote in _QUOTES:
        if text.startswith(quote):
            closed = len(text) >= 2 * len(quote) and text.endswith(quote)
            return text[len(quote) : -len(quote)] if closed else None
    return text


def _line(command: Command) -> str:
    head = " ".join(filter(None, (command.instruction, command.key)))
    return f"{head} {_quoted(command)}"


def _quoted(command: Command) -> str:
    """The value in the plainest form that reads back as it is."""
    value = command.value
    for form in (value, f'"{value}"', f'"""{value}"""'):
        lines = [line for line in _LINES.findall(form) if line]
        if lines and _unquoted(form) == value and _further(lines[0], lines, 1) == len(lines) - 1:
            return form
    raise ModelError(
        f"the {command.instruction} cannot be written in a Modelfile: a line of it ends in quotes"
    )


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flaw(number: int, what: str) -> ModelError:
    return ModelError(f"the Modelfile, line {number}: {what}")
