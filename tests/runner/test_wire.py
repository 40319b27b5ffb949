"""The lines between worker and child: what is said is heard, and nonsense is not believed."""

import json
from types import MappingProxyType

import pytest

from modelpm.errors import RunnerError
from modelpm.runner import wire
from modelpm.runner.engine import Evaluated, Event, Finished, Piece, Sampling


@pytest.mark.parametrize(
    "event",
    [
        Piece("日本\n\0\ud800"),
        Piece(""),
        Evaluated(0, 5),
        Finished("stop", 1, 2, 3, 0.5, 0.25),
        Finished("length", 1, 2, 3, 0, 2),
        Finished("stopped", 1, 2, 3, 0.0, 0.0),
    ],
)
def test_an_event_that_is_told_is_heard(event: Event) -> None:
    (message,) = wire.told(event)
    line = wire.encode(message)
    assert line.count(b"\n") == 1
    assert wire.event(wire.decode(line, wire.MAX_REPLY)) == event


def test_a_long_text_is_told_in_lines_that_are_short_enough() -> None:
    text = "😀\0" * 20_000
    lines = [wire.encode(message) for message in wire.told(Piece(text))]
    assert max(map(len, lines)) <= wire.MAX_REPLY
    assert "".join(wire.decode(line, wire.MAX_REPLY)["text"] for line in lines) == text


def test_values_become_objects() -> None:
    tensors = MappingProxyType({"x": "F32"})
    message = json.loads(wire.encode({"sampling": Sampling(stop=("a",)), "tensors": tensors}))
    assert message["sampling"]["stop"] == ["a"]
    assert message["tensors"] == {"x": "F32"}


def test_an_error_is_raised() -> None:
    for read in (wire.checked, wire.event):
        with pytest.raises(RunnerError, match="it broke"):
            read({"error": "it broke"})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"junk\n",
        b"[]\n",
        b"3\n",
        b'{"a": 1',
        b"\xff\n",
        b"[" * 60_000,
        b'{"text": "' + b"x" * wire.MAX_REPLY + b'"}\n',
    ],
)
def test_a_line_that_is_no_message_is_an_error(line: bytes) -> None:
    with pytest.raises((ValueError, TypeError, RecursionError)):
        wire.decode(line, wire.MAX_REPLY)


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"error": 3},
        {"text": None},
        {"evaluated": [1]},
        {"evaluated": [1, -1]},
        {"evaluated": ["1", 2]},
        {"evaluated": 3},
        {"finished": []},
        {"finished": ["done", 1, 2, 3, 0.5, 0.5]},
        {"finished": ["stop", 1, 2, 0.5, 0.5]},
        {"finished": ["stop", 1, 2, 3, 4, 0.5, 0.5]},
        {"finished": ["stop", 1, 2, 3.5, 0.5, 0.5]},
        {"finished": ["stop", 1, 2, 3, -1, 0.5]},
        {"finished": ["stop", 1, 2, 3, float("nan"), 0.5]},
        {"finished": ["stop", 1, 2, 3, float("inf"), 0.5]},
        {"finished": ["stop", 1, 2, 3, "1", 0.5]},
        {"finished": ["stop", 1, 2, 2**31, 0.5, 0.5]},
        {"finished": ["stop", True, None, [], 0.5, 0.5]},
    ],
)
def test_a_reply_that_is_no_event_is_an_error(reply: wire.Line) -> None:
    with pytest.raises(ValueError, match=r"no (event|count|duration)|unpack"):
        wire.event(reply)
