"""Text reaches the reader harmless, aligned and in words."""

import io
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from modelpm.cli import output
from tests.cli.models import HOSTILE, NEVER
from tests.cli.terminal import Screen


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\x07\x08b", "a\\x07\\x08b"),
        ("a\rb\nc\td", "a\\rb\\nc\\td"),
        ("\x7f\x80\x9b\x9f\xa0", "\\x7f\\x80\\x9b\\x9f\xa0"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\u200b\u200d\u200f\ufeff", "\\u200b\\u200d\\u200f\\ufeff"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800\udc80", "\\ud800\\udc80"),
        ("é 日本 👍 ▕█▏", "é 日本 👍 ▕█▏"),
        ("", ""),
    ],
)
def test_what_does_something_is_shown_instead(text: str, shown: str) -> None:
    assert output.escape(text) == shown


def test_what_may_stay_stays() -> None:
    assert output.escape("a\n\tb\r", output.BLOCK) == "a\n\tb\\r"
    assert output.escape("👩\u200d💻\n\x1b", output.SPEECH) == "👩\u200d💻\n\\x1b"
    assert output.escape("👩\u200d💻", output.BLOCK) == "👩\\u200d💻"


def test_no_character_of_a_hostile_text_gets_through() -> None:
    for keep in ("", output.BLOCK, output.SPEECH):
        assert not NEVER & set(output.escape(HOSTILE, keep))
    every = "".join(map(chr, (*range(0xD800), *range(0xD800, 0x110000))))
    assert not NEVER & set(output.escape(every))


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (9949, "9.9 KB"),
        (9960, "10 KB"),
        (999_499, "999 KB"),
        (999_600, "1.0 MB"),
        (3_825_819_519, "3.8 GB"),
        (18e9, "18 GB"),
        (2**63 - 1, "9.2 EB"),
    ],
)
def test_sizes_are_decimal(count: float, shown: str) -> None:
    assert output.size(count) == shown


def test_exact_sizes_tell_every_byte() -> None:
    assert output.exact_size(12) == "12 bytes"
    assert output.exact_size(3_825_819_519) == "3,825,819,519 bytes (3.8 GB)"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (268, "4m28s"), (3720, "1h02m"), (1e9, "long")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert output.duration(seconds) == shown


@pytest.mark.parametrize(
    ("passed", "shown"),
    [
        (timedelta(seconds=-60), "just now"),
        (timedelta(seconds=0.5), "just now"),
        (timedelta(seconds=1), "1 second ago"),
        (timedelta(minutes=2, seconds=30), "2 minutes ago"),
        (timedelta(hours=23), "23 hours ago"),
        (timedelta(days=3), "3 days ago"),
        (timedelta(days=14), "2 weeks ago"),
        (timedelta(days=70), "2 months ago"),
        (timedelta(days=800), "2 years ago"),
    ],
)
def test_ages(passed: timedelta, shown: str) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    assert output.age((now - passed).isoformat(), now) == shown


@pytest.mark.parametrize("time", ["", "yesterday", "2026-01-01T00:00:00", "\x1b[2J"])
def test_what_is_no_time_has_no_age(time: str) -> None:
    assert output.age(time) == ""


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("short", 5, "short"),
        ("application/vnd.cncf.model.weight.v1.raw", 20, "applicati...t.v1.raw"),
        ("\u6f22\u5b57" * 4, 12, "\u6f22\u5b57...\u6f22\u5b57"),
        ("abcdefghijklmnop", 12, "abcde...mnop"),
    ],
)
def test_what_is_too_wide_loses_its_middle(text: str, columns: int, shown: str) -> None:
    assert output.shorten(text, columns) == shown


def test_a_table_is_aligned_by_what_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a", "1", "x"), ("日本", "22", ""), ("e\u0301\x1b", "3", "y")]
    output.table(("NAME", "N", "LAST"), rows, margin="  ")
    assert capsys.readouterr().out.splitlines() == [
        "  NAME     N     LAST",
        "  a        1     x",
        "  日本     22",
        "  e\u0301\\x1b    3     y",
    ]


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [("abc", 3, "abc"), ("abcd", 3, "abc"), ("日本語", 5, "日本"), ("", 1, ""), ("a日", 2, "a")],
)
def test_a_line_is_clipped_by_what_is_seen(text: str, columns: int, shown: str) -> None:
    assert output.clip(text, columns) == shown


class Typewriter(io.TextIOWrapper):
    """A stream that keeps what it was told at each time."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.told: list[str] = []

    def write(self, text: str) -> int:
        self.told.append(text)
        return len(text)


def test_a_block_writes_what_has_changed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = Typewriter()
    monkeypatch.setattr(sys, "stderr", paper)
    block = output.Block()
    screen = Screen()
    pictures: list[tuple[list[output.Bar | str], list[str]]] = [
        (["a", "b"], []),
        (["a", "b"], []),
        (["a", "B"], []),
        (["a", "B", "\x1b[2J"], []),
        (["a"], ["said\x07"]),
        ([], []),
        ([output.Bar("x", 1, 2, ["tail"])], []),
    ]
    seen = []
    for lines, above in pictures:
        block.draw(lines, above)
        assert len(paper.told) <= 1
        seen.append(len("".join(paper.told)))
        screen.write("".join(paper.told).replace("\n", "\r\n"))  # as a terminal's driver does
        paper.told.clear()
    assert seen[1] == 0
    assert seen[2] < seen[0]
    block.close()
    screen.write("".join(paper.told).replace("\n", "\r\n"))
    assert screen.text[0] == "said\\x07"
    assert screen.text[1].startswith("x:  50% ▕█")
    assert screen.text[1].endswith("▏ tail")
    assert [line for line in screen.text[2:] if line] == []


def test_json_is_ascii_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    for write in (output.document, output.record):
        write({"text": HOSTILE})
        told = capsys.readouterr().out
        assert told.isascii()
        assert not NEVER & set(told)
        assert json.loads(told) == {"text": HOSTILE}


def test_streams_take_what_their_encoding_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, encoding="ascii"))
    output.prepare_streams()
    output.say("日本")
    output.stream("é")
    output.note("▕")
    assert written.getvalue() == rb"\u65e5\u672c" + b"\n" + rb"\xe9\u2595" + b"\n"


def test_closed_streams_swallow_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    output.prepare_streams()
    output.say("a")
    output.note("b")
    for stream in (sys.stdout, sys.stderr):
        stream.close()
