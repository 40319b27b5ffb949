"""The parameters that a model may carry: their names, types and ranges.

Source: Ollama's options (api/types.go). A number outside its range is an error where a person
wrote it; that of a model that is there already is moved to the nearest end. A value of the wrong
type is an error; a name that is unknown here is kept and means nothing.
"""

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from modelpm.errors import ModelError

Parameter = bool | int | float | tuple[str, ...]

MAX_STOPS = 64
MAX_STOP = 1_000
"""Characters of a stop string."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one parameter may be: a type and, for a number, its range."""

    type: type[bool] | type[int] | type[float]
    low: float = 0
    high: float = 0


_LONG = 2**24
RULES: Mapping[str, Rule] = {
    "num_ctx": Rule(int, 1, _LONG),
    "num_batch": Rule(int, 1, 2**14),
    "num_gpu": Rule(int, -1, 2**10),
    "main_gpu": Rule(int, 0, 255),
    "use_mmap": Rule(bool),
    "num_thread": Rule(int, 0, 2**10),
    "draft_num_predict": Rule(int, 0, _LONG),
    "num_keep": Rule(int, -1, _LONG),
    "seed": Rule(int, -1, 2**32 - 1),
    "num_predict": Rule(int, -2, _LONG),
    "top_k": Rule(int, 0, 2**20),
    "top_p": Rule(float, 0, 1),
    "min_p": Rule(float, 0, 1),
    "typical_p": Rule(float, 0, 1),
    "repeat_last_n": Rule(int, -1, _LONG),
    "temperature": Rule(float, 0, 100),
    "repeat_penalty": Rule(float, 0, 100),
    "presence_penalty": Rule(float, -100, 100),
    "frequency_penalty": Rule(float, -100, 100),
}
_NUMBERS = {
    int: re.compile(r"[+-]?[0-9]{1,100}"),
    float: re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"),
}
"""How a number is written: as for Go's ParseInt and ParseFloat, in decimal and finite."""
_TRUE, _FALSE = frozenset({"true", "t", "1"}), frozenset({"false", "f", "0"})
STOP = "stop"
DEPRECATED = frozenset(
    {
        *("penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock"),
        *("mirostat", "mirostat_tau", "mirostat_eta"),
    }
)
"""Names that older models carry, and that mean nothing any more."""


def known(name: str) -> bool:
    """Whether a model may be given this parameter, be it deprecated."""
    return name in RULES or name == STOP or name in DEPRECATED


def checked(values: Mapping[str, object]) -> dict[str, object]:
    """The same with every known parameter in its type and range. Raises ModelError."""
    return {name: _checked(name, value) for name, value in values.items()}


def parsed(name: str, text: str) -> Parameter:
    """The value that a person wrote for a known parameter. Raises ModelError, also out of range.

    A stop string comes alone, in a tuple of one. What is no whole number has the precision that
    Ollama gives it, which is single, so that the same text becomes the same bytes.
    """
    rule = RULES.get(name)
    if rule is None:
        return _stops([text])
    if rule.type is bool:
        if text.lower() not in _TRUE | _FALSE:
            raise ModelError(f"the parameter {name} is true or false, not {text[:100]!r}")
        return text.lower() in _TRUE
    if not _NUMBERS[rule.type].fullmatch(text):
        kind = "a whole number" if rule.type is int else "a number"
        raise ModelError(f"the parameter {name} is {kind}, not {text[:100]!r}")
    value = rule.type(text)
    if not rule.low <= value <= rule.high:
        raise ModelError(
            f"the parameter {name} is a number from {rule.low} to {rule.high}, not {text[:100]!r}"
        )
    return single(value) if isinstance(value, float) else value


def _checked(name: str, value: object) -> object:
    if name == STOP:
        return _stops([value] if isinstance(value, str) else value)
    rule = RULES.get(name)
    if rule is None:
        return value
    if rule.type is bool:
        if not isinstance(value, bool):
            raise ModelError(f"the parameter {name} is true or false, not {value!r:.100}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"the parameter {name} is a number, not {value!r:.100}")
    return _number(name, rule, value)


def _number(name: str, rule: Rule, value: float) -> int | float:
    if math.isnan(value):
        raise ModelError(f"the parameter {name} is not a number")
    near = min(max(value, rule.low), rule.high)
    return int(near) if rule.type is int else float(near)


def single(value: float) -> float:
    """The number with the fewest digits that is the same in single precision."""
    wanted = struct.pack("<f", value)
    (near,) = struct.unpack("<f", wanted)
    texts = (f"{near:.{digits}g}" for digits in range(1, 10))
    return next(float(text) for text in texts if struct.pack("<f", float(text)) == wanted)


def _stops(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ModelError("the parameter stop is not a list of strings")
    if len(value) > MAX_STOPS or any(len(item) > MAX_STOP for item in value):
        raise ModelError(
            f"the parameter stop has more than {MAX_STOPS} strings, or one of more than "
            f"{MAX_STOP} characters"
        )
    return tuple(item for item in value if item)
