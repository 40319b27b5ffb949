"""The words of Go's text/template: where text ends and an action begins, and what is in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from modelpm.errors import ModelError

MAX_DIGITS = 20

_LEFT = re.compile(r"\{\{(?:-(?=[ \t\r\n]))?")
_COMMENT = re.compile(r"[ \t\r\n]*/\*.*?\*/(?P<trim>[ \t\r\n]+-)?\}\}", re.DOTALL)
_RIGHT = re.compile(r"[ \t\r\n]+-\}\}|[ \t\r\n]*\}\}")
_WORD = re.compile(
    r"""(?P<text>"(?:[^"\\\n]|\\.)*" | `[^`]*` | '(?:[^'\\\n]|\\.)+')
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+ | [0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?))
      | (?P<field>\.[A-Za-z_][A-Za-z0-9_]*)
      | (?P<variable>\$[A-Za-z0-9_]*)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>:= | [=|(),.])""",
    re.VERBOSE,
)
_SPACE = re.compile(r"[ \t\r\n]*")
_BLANK = " \t\r\n"
_ESCAPE = re.compile(r"\\([abfnrtv\\'\"]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3})")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True, slots=True)
class Token:
    """One word of an action; `glued` if no space stands before it."""

    kind: str
    text: str
    glued: bool


@dataclass(frozen=True, slots=True)
class Inside:
    """The words of one action."""

    line: int
    tokens: tuple[Token, ...]

    @property
    def word(self) -> str:
        """The first word, by which actions are told apart."""
        return self.tokens[0].text if self.tokens else ""


def pieces(text: str) -> Iterator[str | Inside]:
    """Text and actions in turn, with the spaces cut off that trim markers ask for."""
    at = 0
    line = 1
    trim = False
    while (left := _LEFT.search(text, at)) is not None:
        between = text[at : left.start()]
        line += between.count("\n")
        between = between.lstrip(_BLANK) if trim else between
        yield between.rstrip(_BLANK) if left[0].endswith("-") else between
        comment = _COMMENT.match(text, left.end())
        if comment is None:
            tokens, right = _tokens(text, left.end(), line)
            yield Inside(line, tokens)
        else:
            right = comment
        line += text.count("\n", left.start(), right.end())
        at = right.end()
        trim = right[0].endswith("-}}")
    yield text[at:].lstrip(_BLANK) if trim else text[at:]


def _tokens(text: str, at: int, line: int) -> tuple[tuple[Token, ...], re.Match[str]]:
    """The words up to the end of an action, and that end."""
    found: list[Token] = []
    start = at
    while (right := _RIGHT.match(text, at)) is None:
        space = _SPACE.match(text, at)
        begin = at if space is None else space.end()
        word = _WORD.match(text, begin)
        if word is None:
            here = line + text.count("\n", start, begin)
            rest = text[begin : begin + 20]
            fail(here, f"not understood: {rest!r}" if rest else "an action has no }} at its end")
        found.append(Token(word.lastgroup or "", word[0], begin == at))
        at = word.end()
    return tuple(found), right


def fail(line: int, what: str) -> NoReturn:
    raise ModelError(f"the template, line {line}: {what}")


def constant(token: Token, line: int) -> str | int | float:
    text = token.text
    if token.kind == "number":
        return _number(text, line)
    if text.startswith("`"):
        return text[1:-1]
    inner = text[1:-1]
    if "\\" in _ESCAPE.sub("", inner):
        fail(line, f"an unknown escape in {text[:50]}")
    value = _ESCAPE.sub(_unescaped, inner)
    return ord(value[0]) if text.startswith("'") else value


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "xuU":
        number = int(code[1:], 16)
        return chr(number) if number < 0x110000 else "\ufffd"
    return chr(int(code, 8)) if len(code) == 3 else _ESCAPES.get(code, code)


def _number(text: str, line: int) -> int | float:
    if len(text) > MAX_DIGITS:
        fail(line, f"the number {text[:50]} is too long")
    if "x" in text.lower():
        return int(text, 16)
    return float(text) if any(mark in text for mark in ".eE") else int(text)
