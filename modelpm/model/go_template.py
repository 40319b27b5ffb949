"""Carrying out a Go template, within bounds: a stranger wrote it.

A template can run for MAX_STEPS steps and make MAX_OUTPUT characters; a step is a node, an operand,
or 256 characters that a function is given or gives.
"""

from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from datetime import UTC, date, datetime

from modelpm.errors import ModelError
from modelpm.model import go_syntax
from modelpm.model.go_functions import (
    MAX_TEXT,
    NAMES,
    Function,
    field,
    functions,
    is_list,
    text,
    truth,
)
from modelpm.model.go_syntax import (
    Action,
    Branch,
    Command,
    Constant,
    Jump,
    Node,
    Operand,
    Pipeline,
    Text,
)

MAX_STEPS = 1_000_000
MAX_OUTPUT = 2**20
_A_STEP = 256
_EARLY = frozenset({"and", "or"})


@dataclass(slots=True)
class Bounds:
    """What is left to one prompt, over all executions that share it."""

    steps: int = MAX_STEPS
    room: int = MAX_OUTPUT


@dataclass(frozen=True, slots=True)
class Template:
    """A template that has been read. Make one with `parse`."""

    nodes: tuple[Node, ...]

    @classmethod
    def parse(cls, source: str) -> "Template":
        """Read a template. Raises ModelError, which tells the line."""
        return cls(go_syntax.parse(source, NAMES))

    def mentions(self, name: str) -> bool:
        """Whether `.name` stands anywhere in it, in any case of letters."""
        paths = go_syntax.paths(self.nodes)
        return any(name.lower() == part.lower() for path in paths for part in path.fields)

    def cut_after(self, name: str) -> "Template":
        """What there is up to the first printed `.name`, and that; else the same."""
        return Template(go_syntax.cut_after(self.nodes, name)[0])

    def execute(
        self, data: Mapping[str, object], *, today: date | None = None, bounds: Bounds | None = None
    ) -> str:
        """The text that it makes of the data. Raises ModelError, also past the bounds.

        `today` is what `currentDate` says, by default the day in UTC.
        """
        known = functions(today or datetime.now(UTC).date())
        run = _Run(data, known, bounds or Bounds())
        run.body(self.nodes, data)
        return "".join(run.output)


class _Run:
    """One execution: its output, its variables from the outside in, and what it may still do."""

    def __init__(
        self, data: Mapping[str, object], known: Mapping[str, Function], bounds: Bounds
    ) -> None:
        self.output: list[str] = []
        self._functions = known
        self._scopes: list[dict[str, object]] = [{"$": data}]
        self._bounds = bounds
        self._line = 1

    def body(self, nodes: Sequence[Node], dot: object) -> str:
        """Carry out nodes; "break" or "continue" when a jump ended them, else ""."""
        for node in nodes:
            self._step(1)
            if isinstance(node, Text):
                self._print(node.text)
            elif isinstance(node, Action):
                value = self._pipeline(node.pipeline, dot)
                if not node.pipeline.names:
                    self._print(text(value))
            elif isinstance(node, Jump):
                return node.kind
            elif jump := self._branch(node, dot):
                return jump
        return ""

    def _branch(self, node: Branch, dot: object) -> str:
        self._scopes.append({})
        try:
            if node.kind == "range":
                return self._range(node, dot)
            value = self._pipeline(node.pipeline, dot)
            taken = node.body if truth(value) else node.otherwise
            inner = value if node.kind == "with" and taken is node.body else dot
            return self.body(taken, inner)
        finally:
            self._scopes.pop()

    def _range(self, node: Branch, dot: object) -> str:
        names = node.pipeline.names
        pairs = self._pairs(self._value(node.pipeline, dot))
        empty = True
        for key, item in pairs:
            empty = False
            self._step(1)
            self._scopes.append(dict(zip(reversed(names), (item, key), strict=False)))
            jump = self.body(node.body, item)
            self._scopes.pop()
            if jump == "break":
                return ""
        return self.body(node.otherwise, dot) if empty else ""

    def _pairs(self, value: object) -> Iterator[tuple[object, object]]:
        """Keys and items, in Go's order: by number, or by sorted key."""
        if value is None:
            return iter(())
        if isinstance(value, Mapping):
            self._step(len(value))
            return ((key, value[key]) for key in sorted(value))
        if is_list(value):
            return enumerate(value)
        if type(value) is int:
            return ((number, number) for number in range(value))
        raise self._flaw("range over something that has no items")

    def _pipeline(self, pipeline: Pipeline, dot: object) -> object:
        """The value, which the variables of the pipeline take."""
        value = self._value(pipeline, dot)
        for name in pipeline.names:
            if pipeline.declares:
                self._scopes[-1][name] = value
            else:
                self._scope_of(name)[name] = value
        return value

    def _value(self, pipeline: Pipeline, dot: object) -> object:
        self._line = pipeline.line
        value: object = None
        for number, command in enumerate(pipeline.commands):
            value = self._command(command, dot, (value,) if number else ())
        return value

    def _command(self, command: Command, dot: object, passed: tuple[object, ...]) -> object:
        if command.function in _EARLY:
            return self._early(command, dot, passed)
        operands = [self._operand(operand, dot) for operand in command.operands]
        if command.function:
            return self._call(command.function, (*operands, *passed))
        if passed:
            raise self._flaw("a value is passed on to something that takes none")
        return operands[0]

    def _early(self, command: Command, dot: object, passed: tuple[object, ...]) -> object:
        """`and` and `or`: operands are looked at until one decides."""
        if not command.operands and not passed:
            raise self._flaw(f"{command.function} does not take 0 operands")
        decides = command.function == "or"
        value: object = None
        for operand in command.operands:
            value = self._operand(operand, dot)
            if truth(value) is decides:
                return value
        return passed[0] if passed else value

    def _call(self, name: str, operands: tuple[object, ...]) -> object:
        function = self._functions[name]
        most = len(operands) if function.most is None else function.most
        if not function.least <= len(operands) <= most:
            raise self._flaw(f"{name} does not take {len(operands)} operands")
        given = sum(len(item) for item in operands if isinstance(item, Sized))
        if given > MAX_TEXT:
            raise self._flaw(f"{name} is given more than {MAX_TEXT} characters")
        self._step(given // _A_STEP)
        try:
            result = function.call(*operands)
        except ModelError as error:
            raise self._flaw(str(error)) from None
        if isinstance(result, str):
            self._step(len(result) // _A_STEP)
            if len(result) > MAX_TEXT:
                raise self._flaw(f"{name} gives more than {MAX_TEXT} characters")
        return result

    def _operand(self, operand: Operand, dot: object) -> object:
        self._step(1)
        if isinstance(operand, Constant):
            return operand.value
        if operand.root is None:
            value = dot
        elif isinstance(operand.root, Pipeline):
            value = self._pipeline(operand.root, dot)
        else:
            value = self._scope_of(operand.root)[operand.root]
        for name in operand.fields:
            try:
                value = field(value, name)
            except ModelError as error:
                raise self._flaw(str(error)) from None
        return value

    def _scope_of(self, name: str) -> dict[str, object]:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope
        raise self._flaw(f"the variable {name[:50]} is not known")

    def _step(self, count: int) -> None:
        self._bounds.steps -= count
        if self._bounds.steps < 0:
            raise self._flaw(f"more than {MAX_STEPS} steps")

    def _print(self, piece: str) -> None:
        self._bounds.room -= len(piece)
        if self._bounds.room < 0:
            raise self._flaw(f"more than {MAX_OUTPUT} characters")
        self.output.append(piece)

    def _flaw(self, what: str) -> ModelError:
        return ModelError(f"the template, line {self._line}: {what}")
