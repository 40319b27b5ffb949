"""The lines that a worker and its child exchange, and how little they believe each other.

A request is one JSON line to the child, a reply one JSON line from it, both bounded:

    {"load": FACTS, "settings": SETTINGS}        {"loaded": TOKENS}
    {"count": PROMPT}                            {"count": TOKENS}
    {"generate": N, "prompt", "sampling"}        {"evaluated"}..., {"text"}..., {"finished"}
    {"stop": N}                                  none; answer N ends early
                                                 or, to all but stop, {"error": MESSAGE}
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from modelpm.errors import RunnerError
from modelpm.runner.engine import Evaluated, Event, Finished, Piece

MAX_REQUEST = 32 * 2**20
"""Bytes of a request: a prompt of 131,072 tokens has about one million."""

MAX_REPLY = 2**16
MAX_TEXT = 4096
"""Characters of text in one reply; twelve bytes each at most."""

Line = dict[str, Any]


def encode(message: Line) -> bytes:
    """A message as a line; the engine's values in it become objects."""
    return json.dumps(message, default=_plain).encode("ascii") + b"\n"


def _plain(value: Any) -> dict[str, Any]:
    """What JSON has no word for: another mapping, or a value with slots."""
    if isinstance(value, Mapping):
        return dict(value)
    return {name: getattr(value, name) for name in value.__slots__}


def decode(line: bytes, limit: int) -> Line:
    """Raises ValueError, TypeError or RecursionError for what is no message, or too long."""
    message = json.loads(line) if len(line) <= limit else None
    if not isinstance(message, dict):
        raise TypeError("no message")
    return message


def told(event: Event) -> Iterator[Line]:
    """An event as messages; `event` reads them."""
    if isinstance(event, Piece):
        starts = range(0, len(event.text) or 1, MAX_TEXT)
        yield from ({"text": event.text[start : start + MAX_TEXT]} for start in starts)
    elif isinstance(event, Evaluated):
        yield {"evaluated": [event.tokens, event.total]}
    else:
        yield {"finished": [getattr(event, name) for name in Finished.__slots__]}


def checked(reply: Line) -> Line:
    """Raises RunnerError when the reply is an error."""
    match reply:
        case {"error": str(message)}:
            raise RunnerError(message)
    return reply


def event(reply: Line) -> Event:
    """Raises RunnerError for an error, ValueError for nonsense."""
    match checked(reply):
        case {"text": str(text)}:
            return Piece(text)
        case {"evaluated": [tokens, total]}:
            return Evaluated(natural(tokens), natural(total))
        case {"finished": ["stop" | "length" | "stopped" as reason, *counts, reading, answering]}:
            prompt, reused, answer = map(natural, counts)
            return Finished(reason, prompt, reused, answer, _seconds(reading), _seconds(answering))
    raise ValueError("no event")


def natural(value: object) -> int:
    """Raises ValueError for what is no count."""
    if type(value) is int and 0 <= value < 2**31:
        return value
    raise ValueError("no count")


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and 0 <= value < 2**31:
        return float(value)
    raise ValueError("no duration")
