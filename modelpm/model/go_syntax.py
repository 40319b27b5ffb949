"""The grammar of Go's text/template, as far as chat templates use it: text to a tree.

    template   = { text | "{{" action "}}" }
    action     = pipeline | "if" pipeline | "range" | "with" | "else" | "end" | "break" | "continue"
    pipeline   = [ variable { "," variable } ( ":=" | "=" ) ] command { "|" command }
    command    = function { operand } | operand
    operand    = literal | [ "$name" | "(" pipeline ")" ] { ".Field" } | "."

Not here: `define`, `template`, `block`, methods, and functions that no chat template uses.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn

from modelpm.errors import ModelError
from modelpm.model.go_words import Inside, Token, constant, fail, pieces

MAX_LENGTH = 2**20
"""Characters of a template."""
MAX_NESTING = 64


@dataclass(frozen=True, slots=True)
class Constant:
    """A string, a number, true, false or nil."""

    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Path:
    """`.A.B`, `$x.A.B` or `(pipeline).A.B`; `root` is None for the dot."""

    root: "str | Pipeline | None"
    fields: tuple[str, ...]


Operand = Constant | Path


@dataclass(frozen=True, slots=True)
class Command:
    """A function with its operands, or one operand where `function` is ""."""

    function: str
    operands: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands that pass their value on; with `names`, variables that take the last one."""

    line: int
    names: tuple[str, ...]
    declares: bool
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """What stands between actions."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """`{{ pipeline }}`: printed, unless it sets variables."""

    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    """`{{ if }}`, `{{ range }}` or `{{ with }}`, up to its `{{ end }}`."""

    kind: Literal["if", "range", "with"]
    pipeline: Pipeline
    body: "tuple[Node, ...]"
    otherwise: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Jump:
    """`{{ break }}` or `{{ continue }}`."""

    kind: Literal["break", "continue"]


Node = Text | Action | Branch | Jump


def parse(text: str, functions: Container[str]) -> tuple[Node, ...]:
    """The tree of a template. Raises ModelError, which tells the line.

    `functions` are the names that may be called.
    """
    if len(text) > MAX_LENGTH:
        raise ModelError(f"the template has more than {MAX_LENGTH} characters")
    parser = _Parser(pieces(text), functions)
    nodes, stop = parser.body(0)
    if stop is not None:
        fail(stop.line, f"an unexpected {{{{ {stop.word} }}}}")
    return nodes


def paths(nodes: tuple[Node, ...]) -> Iterator[Path]:
    """Every path in a tree, in its order."""
    for node in nodes:
        if isinstance(node, Action | Branch):
            yield from _paths_of(node.pipeline)
        if isinstance(node, Branch):
            yield from paths(node.body)
            yield from paths(node.otherwise)


def _paths_of(pipeline: Pipeline) -> Iterator[Path]:
    for command in pipeline.commands:
        for operand in command.operands:
            if isinstance(operand, Path):
                yield operand
                if isinstance(operand.root, Pipeline):
                    yield from _paths_of(operand.root)


def cut_after(nodes: tuple[Node, ...], field: str) -> tuple[tuple[Node, ...], bool]:
    """The tree up to and with the first printed `.field`, and whether there is one."""
    kept: list[Node] = []
    for node in nodes:
        if isinstance(node, Action):
            kept.append(node)
            if any(field in path.fields for path in _paths_of(node.pipeline)):
                return tuple(kept), True
        elif isinstance(node, Branch):
            body, found = cut_after(node.body, field)
            otherwise: tuple[Node, ...] = ()
            if not found:
                otherwise, found = cut_after(node.otherwise, field)
            kept.append(Branch(node.kind, node.pipeline, body, otherwise))
            if found:
                return tuple(kept), True
        else:
            kept.append(node)
    return tuple(kept), False


_REFUSED = ("define", "template", "block")
_BRANCHES: dict[str, Literal["if", "range", "with"]] = {
    "if": "if",
    "range": "range",
    "with": "with",
}
_JUMPS: dict[str, Literal["break", "continue"]] = {"break": "break", "continue": "continue"}
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "nil": None}


class _Parser:
    """Takes pieces in their order and makes nodes of them."""

    def __init__(self, pieces: Iterator[str | Inside], functions: Container[str]) -> None:
        self._pieces = pieces
        self._functions = functions

    def body(self, depth: int, loops: int = 0) -> tuple[tuple[Node, ...], Inside | None]:
        """The nodes up to an `end` or `else`, and that; None at the end of the template."""
        nodes: list[Node] = []
        for piece in self._pieces:
            if isinstance(piece, str):
                if piece:
                    nodes.append(Text(piece))
            elif piece.word in ("end", "else"):
                return tuple(nodes), piece
            else:
                nodes.append(self._node(piece, depth, loops))
        return tuple(nodes), None

    def _node(self, piece: Inside, depth: int, loops: int) -> Node:
        if piece.word in _BRANCHES:
            return self._branch(piece, depth + 1, loops)
        if piece.word in _JUMPS and len(piece.tokens) == 1:
            if not loops:
                fail(piece.line, f"{{{{ {piece.word} }}}} outside of a range")
            return Jump(_JUMPS[piece.word])
        if piece.word in _REFUSED:
            fail(piece.line, f"modelpm does not know {{{{ {piece.word} }}}}")
        return Action(self._pipeline(piece))

    def _branch(self, piece: Inside, depth: int, loops: int) -> Branch:
        if depth > MAX_NESTING:
            fail(piece.line, f"nested more than {MAX_NESTING} deep")
        kind = _BRANCHES[piece.word]
        pipeline = self._pipeline(Inside(piece.line, piece.tokens[1:]))
        body, stop = self.body(depth, loops + (kind == "range"))
        otherwise: tuple[Node, ...] = ()
        if stop is not None and stop.word == "else":
            rest = Inside(stop.line, stop.tokens[1:])
            if rest.word in ("if", "with"):
                return Branch(kind, pipeline, body, (self._branch(rest, depth + 1, loops),))
            if rest.tokens:
                fail(stop.line, "something stands behind an else")
            otherwise, stop = self.body(depth, loops)
        if stop is None or stop.word != "end" or len(stop.tokens) != 1:
            fail(piece.line, f"{{{{ {kind} }}}} has no {{{{ end }}}}")
        return Branch(kind, pipeline, body, otherwise)

    def _pipeline(self, piece: Inside) -> Pipeline:
        sentence = _Sentence(piece, self._functions)
        pipeline = sentence.pipeline()
        sentence.finish()
        return pipeline


class _Sentence:
    """The words of one action, read from left to right."""

    def __init__(self, piece: Inside, functions: Container[str]) -> None:
        self._line = piece.line
        self._tokens = piece.tokens
        self._functions = functions
        self._at = 0
        self._depth = 0

    def pipeline(self) -> Pipeline:
        """Variables, if any, and commands split by bars."""
        names, declares = self._names()
        commands = [self._command()]
        while self._takes("|"):
            commands.append(self._command())
        return Pipeline(self._line, names, declares, tuple(commands))

    def finish(self) -> None:
        """Raise ModelError unless every word has been used."""
        if self._peek() is not None:
            self._fail_here()

    def _names(self) -> tuple[tuple[str, ...], bool]:
        """`$a :=`, `$a, $b :=` or `$a =` at the beginning; else nothing is used."""
        texts = [token.text for token in self._tokens[self._at : self._at + 4]]
        for count, commas in ((1, []), (3, [","])):
            names, mark = texts[0:count:2], texts[count : count + 1]
            variables = all(name.startswith("$") for name in names)
            if variables and mark in ([":="], ["="]) and texts[1:count:2] == commas:
                self._at += count + 1
                return tuple(names), mark == [":="]
        return (), False

    def _command(self) -> Command:
        token = self._peek()
        function = ""
        if token is not None and token.kind == "name" and token.text not in _WORDS:
            function = token.text
            if function not in self._functions:
                fail(self._line, f"the function {function[:50]!r} is not known")
            self._at += 1
        operands: list[Operand] = []
        while (operand := self._operand()) is not None:
            operands.append(operand)
        if not function and len(operands) != 1:
            self._fail_here()
        return Command(function, tuple(operands))

    def _operand(self) -> Operand | None:
        token = self._peek()
        if token is None:
            return None
        if token.kind in ("text", "number"):
            self._at += 1
            return Constant(constant(token, self._line))
        if token.kind == "name":
            return self._word(token)
        if token.kind == "variable":
            self._at += 1
            return Path(token.text, self._fields())
        if token.kind == "field":
            self._at += 1
            return Path(None, (token.text[1:], *self._fields()))
        return self._marked(token)

    def _word(self, token: Token) -> Operand:
        """A constant, or a function without operands."""
        self._at += 1
        if token.text in _WORDS:
            return Constant(_WORDS[token.text])
        if token.text not in self._functions:
            fail(self._line, f"the function {token.text[:50]!r} is not known")
        return Path(Pipeline(self._line, (), False, (Command(token.text, ()),)), self._fields())

    def _marked(self, token: Token) -> Operand | None:
        if self._takes("."):
            return Path(None, ())
        if token.text != "(":
            return None
        self._at += 1
        self._depth += 1
        if self._depth > MAX_NESTING:
            fail(self._line, f"nested more than {MAX_NESTING} deep")
        inner = self.pipeline()
        if not self._takes(")"):
            self._fail_here()
        self._depth -= 1
        return Path(inner, self._fields())

    def _fields(self) -> tuple[str, ...]:
        """Fields that stand right behind what came before."""
        fields = []
        while (token := self._peek()) and token.kind == "field" and token.glued:
            fields.append(token.text[1:])
            self._at += 1
        return tuple(fields)

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _takes(self, mark: str) -> bool:
        token = self._peek()
        found = token is not None and token.kind == "mark" and token.text == mark
        self._at += found
        return found

    def _fail_here(self) -> NoReturn:
        token = self._peek()
        what = "its end" if token is None else repr(token.text[:50])
        fail(self._line, f"an action does not make sense at {what}")
