"""What Go's text/template makes of a value: its truth, its text, its order; and the functions.

Values are JSON's: str, int, float, bool, None, sequences and mappings with string keys. Three
things differ from Go, for the good of prompts: what is missing has no fields and no length, and is
printed as nothing instead of `<no value>`; values of two kinds are unequal instead of an error;
lists and mappings are printed as JSON.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeGuard

from modelpm.errors import ModelError

Value = object

MAX_TEXT = 2**20
"""Characters that one function may give."""
MAX_WIDTH = 100
"""Characters to which printf fills a field up."""

_VERB = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>\d*)(?:\.(?P<precision>\d*))?(?P<verb>.)", re.DOTALL
)
_MISSING = object()
_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_HTML_LETTERS = re.compile("[<>&\u2028\u2029]")
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Function:
    """A function and how many operands it takes; `most` of None is any number."""

    call: Callable[..., Value]
    least: int
    most: int | None


def truth(value: Value) -> bool:
    """Whether `if` takes it: not false, 0, nil or empty."""
    return bool(value)


def is_list(value: Value) -> TypeGuard[Sequence[Value]]:
    """Whether it has items by number."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def field(value: Value, name: str) -> Value:
    """`.Name` of a mapping, also under its JSON name (`tool_calls` for `ToolCalls`), else None."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ModelError(f".{name[:50]} of something that has no fields")
    if name in value:
        return value[name]
    return value.get(_WORD_START.sub("_", name).lower())


def text(value: Value) -> str:
    """The value as an action prints it; what has parts is printed as JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 10**21 else repr(value)
    return str(value) if isinstance(value, str | int) else as_json(value)


def as_json(value: Value) -> str:
    """JSON as Go encodes it: no spaces, and `<`, `>` and `&` escaped."""
    try:
        plain = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_part)
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"json: {error!s:.100}") from None
    return _HTML_LETTERS.sub(lambda match: _HTML[match[0]], plain)


def functions(today: date) -> Mapping[str, Function]:
    """The functions by name, on this day; all of NAMES but those that the executor does itself."""
    yesterday = today - timedelta(days=1)
    return {
        **_FUNCTIONS,
        "currentDate": Function(today.isoformat, 0, 0),
        "yesterdayDate": Function(yesterday.isoformat, 0, 0),
    }


def _part(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is not JSON")


def _equal(first: Value, *others: Value) -> bool:
    return any(_kind(first) is _kind(other) and first == other for other in others)


def _kind(value: Value) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _is_number(value: Value) -> TypeGuard[int | float]:
    return _kind(value) is float


def _less(first: Value, second: Value) -> bool:
    if isinstance(first, str) and isinstance(second, str):
        return first < second
    if _is_number(first) and _is_number(second):
        return first < second
    raise ModelError("lt, le, gt and ge compare two numbers or two strings")


def _length(value: Value) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if value is None:
        return 0
    if isinstance(value, Mapping | Sequence):
        return len(value)
    raise ModelError("len of something that has no length")


def _index(value: Value, *keys: Value) -> Value:
    for key in keys:
        if isinstance(value, Mapping) and isinstance(key, str):
            value = value.get(key)
        elif is_list(value) and type(key) is int and 0 <= key < len(value):
            value = value[key]
        else:
            raise ModelError(f"index: there is no item {text(key)[:50]!r}")
    return value


def _slice(value: Value, *ends: Value) -> Value:
    raw = value.encode("utf-8", "replace") if isinstance(value, str) else value
    if not isinstance(raw, Sequence):
        raise ModelError("slice of something that has no items")
    start, stop = (*ends, *(0, len(raw))[len(ends) :])[:2]
    if type(start) is not int or type(stop) is not int or not 0 <= start <= stop <= len(raw):
        raise ModelError("slice: the ends are outside of what is sliced")
    part = raw[start:stop]
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else part


def _printf(form: Value, *values: Value) -> str:
    if not isinstance(form, str):
        raise ModelError("printf: the format is not a string")
    left = iter(values)
    room = MAX_TEXT

    def formatted(match: re.Match[str]) -> str:
        nonlocal room
        if match["verb"] == "%":
            return "%"
        value = next(left, _MISSING)
        if value is _MISSING:
            return f"%!{match['verb']}(MISSING)"
        result = _padded(_verb(match, value), match)
        room -= len(result)
        if room < 0:
            raise ModelError(f"printf: more than {MAX_TEXT} characters")
        return result

    return _VERB.sub(formatted, form)


def _verb(match: re.Match[str], value: Value) -> str:
    verb = match["verb"]
    precision = int(match["precision"] or 0) if match["precision"] is not None else None
    if precision is not None and precision > MAX_WIDTH:
        raise ModelError(f"printf: a precision of more than {MAX_WIDTH}")
    if verb in "sv":
        return text(value)[:precision]
    if verb == "q":
        return json.dumps(text(value), ensure_ascii=False)
    if verb == "t" and isinstance(value, bool):
        return text(value)
    if isinstance(value, int) and not isinstance(value, bool) and verb in "dxX":
        return f"{value:{'+' if '+' in match['flags'] else ''}{verb}}"
    if isinstance(value, float) and verb in "feg":
        return f"{value:.{6 if precision is None else precision}{verb}}"
    return f"%!{verb}({text(value)})"


def _padded(value: str, match: re.Match[str]) -> str:
    width = int(match["width"][:9] or 0)
    if width > MAX_WIDTH:
        raise ModelError(f"printf: a width of more than {MAX_WIDTH}")
    if "-" in match["flags"]:
        return value.ljust(width)
    return value.zfill(width) if "0" in match["flags"] else value.rjust(width)


_TYPESCRIPT = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def _typescript(schema: Value) -> str:
    """A JSON schema as the type that a TypeScript programmer would write."""
    if not isinstance(schema, Mapping):
        return "any"
    kinds = schema.get("type")
    names = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, Sequence) else []
    return " | ".join(_TYPESCRIPT.get(name, "any") for name in map(str, names)) or "any"


_FUNCTIONS: Mapping[str, Function] = {
    "eq": Function(_equal, 2, None),
    "ne": Function(lambda first, second: not _equal(first, second), 2, 2),
    "lt": Function(_less, 2, 2),
    "le": Function(lambda first, second: not _less(second, first), 2, 2),
    "gt": Function(lambda first, second: _less(second, first), 2, 2),
    "ge": Function(lambda first, second: not _less(first, second), 2, 2),
    "not": Function(lambda value: not truth(value), 1, 1),
    "len": Function(_length, 1, 1),
    "index": Function(_index, 1, None),
    "slice": Function(_slice, 1, 3),
    "json": Function(as_json, 1, 1),
    "printf": Function(_printf, 1, None),
    "toTypeScriptType": Function(_typescript, 1, 1),
}

NAMES = frozenset(_FUNCTIONS) | {"and", "or", "currentDate", "yesterdayDate"}
"""The functions that a template may call."""
