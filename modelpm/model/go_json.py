"""How Go writes JSON, byte for byte: what Ollama's layers are made of, and so their digests.

Source: encoding/json of Go's library. No spaces; the keys of maps sorted; `<`, `>`, `&` and two
line separators escaped; numbers in their shortest form; an Encoder puts a newline at the end.
"""

import json
import math
from collections.abc import Iterator, Mapping

from modelpm.errors import ModelError

MAX_DEPTH = 32

_ESCAPED = str.maketrans(
    {character: f"\\u{ord(character):04x}" for character in ("<", ">", "&", "\u2028", "\u2029")}
)


def encode(value: object, *, sort_keys: bool = True, newline: bool = True) -> bytes:
    """The bytes. The fields of a Go struct are not sorted: they come in the mapping's order.

    Raises ModelError for what JSON cannot hold.
    """
    text = "".join(_pieces(value, sort_keys, 0)) + "\n" * newline
    # A half of a surrogate pair is no character: Go puts U+FFFD in its place.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _pieces(value: object, sort_keys: bool, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise ModelError(f"JSON nested more than {MAX_DEPTH} deep cannot be written")
    if isinstance(value, Mapping):
        items = sorted(value.items()) if sort_keys else list(value.items())
        yield "{"
        for number, (key, item) in enumerate(items):
            yield f"{',' * (number > 0)}{_string(str(key))}:"
            yield from _pieces(item, sort_keys, depth + 1)
        yield "}"
    elif isinstance(value, list | tuple):
        yield "["
        for number, item in enumerate(value):
            yield "," * (number > 0)
            yield from _pieces(item, sort_keys, depth + 1)
        yield "]"
    elif isinstance(value, str):
        yield _string(value)
    elif isinstance(value, float):
        yield _float(value)
    elif value is None or isinstance(value, bool | int):
        yield json.dumps(value)
    else:
        raise ModelError(f"{type(value).__name__} cannot be written as JSON")


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).translate(_ESCAPED)


def _float(value: float) -> str:
    """The shortest form that reads back as it is; with an exponent only below 1e-6 and from 1e21.

    A whole number has no point, and an exponent no leading zero.
    """
    if not math.isfinite(value):
        raise ModelError(f"{value} cannot be written as JSON")
    if value and not 1e-6 <= abs(value) < 1e21:
        digits, _, exponent = repr(value).partition("e")
        return f"{digits}e{int(exponent):+d}"
    text = repr(value)
    if "e" in text:
        text = _plain(text)
    return text.removesuffix(".0")


def _plain(text: str) -> str:
    """`1e-05` and `1.5e+16` without their exponents."""
    mantissa, _, exponent = text.partition("e")
    sign = "-" * mantissa.startswith("-")
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    shift = int(exponent)
    if shift < 0:
        return f"{sign}0.{'0' * (-shift - len(whole))}{whole}{fraction}"
    return f"{sign}{whole}{fraction.ljust(shift, '0')}"
