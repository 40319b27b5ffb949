"""How text reaches the reader: the one escape, tables, sizes and times in words, JSON, bars.

Text from outside (names, annotations, error bodies, what a model says) goes through `escape`: what
moves a cursor, rings, hides or reorders is shown as `\\x1b` or `\\u202e` and does nothing. Only a
text that was asked for by itself goes into a file or a pipe as it is.
Results go to stdout, all else to stderr.
"""

import io
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TextIO

BLOCK = "\n\t"
"""What a block of text may keep: a licence, a template."""

SPEECH = "\n\t\u200c\u200d"
"""What speech may keep, as answers and prompts: the joiners too, which emoji and some scripts are
written with."""

_HOSTILE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u3164\uffa0"  # drawn as nothing
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero-width, line ends, embeddings, isolates
    "\ufeff\ufff9-\ufffb"  # byte order mark, interlinear annotations
    "\ud800-\udfff"  # unpaired surrogates
    "\U000e0000-\U000e007f"  # tags
    "]"
)
_UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB")
_LEAST_BAR = 5
_LEAST_COLUMN = 12
"""A column is not made narrower: what a digest is told by has that width."""

_GAP, _LEFT_OUT = "    ", "..."
_WIDEST = 100  # what is shown does not get clearer, and a narrower terminal breaks less
_CLEAR_LINE = "\x1b[K"
_CLEAR_BLOCK = "\r\x1b[K\n\x1b[J\x1b[A"
"""From the cursor's line on. A terminal that is cleared from its first line on keeps the lines as
history, to be seen again: so the first one is cleared by itself."""
_CUT, _WRAP = "\x1b[?7l", "\x1b[?7h"
"""What becomes of a line that is too long. A terminal may be narrower than it says: some tell of a
new width only after a while. Cut off, such a line still is one line, and the way up is right."""
_AGES = (
    (365 * 86400, "year"),
    (30 * 86400, "month"),
    (7 * 86400, "week"),
    (86400, "day"),
    (3600, "hour"),
    (60, "minute"),
    (1, "second"),
)


def escape(text: str, keep: str = "") -> str:
    """The text with every character shown that would do something instead; `keep` may stay."""

    def shown(match: re.Match[str]) -> str:
        return match[0] if match[0] in keep else match[0].encode("unicode_escape").decode()

    return _HOSTILE.sub(shown, text)


def prepare_streams() -> None:
    """Make stdout and stderr take any text: what their encoding lacks is shown as an escape."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8"))
        stream: TextIO = getattr(sys, name)
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def say(text: str, keep: str = "") -> None:
    """A line of the result, on stdout, escaped."""
    sys.stdout.write(escape(text, keep) + "\n")


def stream(piece: str) -> None:
    """A piece of an answer, on stdout, escaped and at once."""
    sys.stdout.write(escape(piece, SPEECH))
    sys.stdout.flush()


def verbatim(text: str) -> None:
    """A text by itself, on stdout: to the last character where no terminal reads it, else escaped.

    Only a terminal obeys control characters; a file with escapes in it would be another text.
    """
    if sys.stdout.isatty():
        say(text.removesuffix("\n"), SPEECH)
    else:
        raw(text.encode("utf-8", "backslashreplace"))


def raw(content: bytes) -> None:
    """Bytes as they are, on stdout."""
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def note(text: str, keep: str = "") -> None:
    """A line for the reader, on stderr, escaped."""
    sys.stderr.write(escape(text, keep) + "\n")
    sys.stderr.flush()


def document(value: object) -> None:
    """The one JSON document of a command, on stdout."""
    sys.stdout.write(_json(value, indent=2) + "\n")


def record(value: object) -> None:
    """One of many JSON objects, on a line of stdout, at once."""
    sys.stdout.write(_json(value) + "\n")
    sys.stdout.flush()


def error_record(error: BaseException, message: str, code: int) -> dict[str, object]:
    """What `--json` tells of a failure. `code` is the exit code."""
    return {"error": {"class": type(error).__name__, "code": code, "message": message}}


def report(error: BaseException, message: str = "") -> None:
    """Tell a person of a failure, by its own message or this one, and what else it notes."""
    note("\n".join([f"Error: {escape(message or str(error))}", *_notes(error)]), BLOCK)


def _notes(error: BaseException) -> list[str]:
    return [escape(text) for text in getattr(error, "__notes__", ())]


def _json(value: object, indent: int | None = None) -> str:
    # ASCII only, so nothing is left to escape but DEL, which JSON allows as it is.
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], margin: str = "") -> None:
    """Aligned columns, escaped; the last one is not padded.

    On a terminal the widest ones are shortened in the middle, so that no line is broken in two.
    """
    lines = [head, *([escape(cell) for cell in row] for row in rows)]
    if sys.stdout.isatty():
        lines = _narrowed(lines, terminal_size(sys.stdout).columns - width(margin))
    widths = [max(width(line[column]) for line in lines) for column in range(len(head))]
    widths[-1] = 0
    sys.stdout.write("".join(margin + _aligned(line, widths) + "\n" for line in lines))


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(cells, widths, strict=True)
    return _GAP.join(cell + " " * (wide - width(cell)) for cell, wide in pairs).rstrip()


def _narrowed(lines: list[Sequence[str]], columns: int) -> list[Sequence[str]]:
    """The lines with their widest columns shortened until they fit, or tell too little."""
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > columns and max(widths) > _LEAST_COLUMN:
        widths[widths.index(max(widths))] -= 1
    return [
        [shorten(cell, wide) for cell, wide in zip(line, widths, strict=True)] for line in lines
    ]


def shorten(text: str, columns: int) -> str:
    """The text with its middle left out where it is too wide: names differ at either end."""
    if width(text) <= columns:
        return text
    room = columns - len(_LEFT_OUT)
    tail = clip(text[::-1], room // 2)[::-1]
    return clip(text, room - width(tail)) + _LEFT_OUT + tail


def width(text: str) -> int:
    """The columns of a terminal that the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def size(count: float) -> str:
    """Bytes in decimal units, as registries count them: `3.8 GB`, `18 GB`, `512 B`."""
    number, unit = float(count), 0
    while round(number) >= 1000 and unit < len(_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    digits = 1 if unit and round(number, 1) < 10 else 0
    return f"{number:.{digits}f} {_UNITS[unit]}"


def exact_size(count: int) -> str:
    """Bytes to the last one, and in words: `3,825,819,519 bytes (3.8 GB)`."""
    return f"{count:,} bytes" + (f" ({size(count)})" if count >= 1000 else "")


def duration(seconds: float) -> str:
    """A length of time for people: `12s`, `4m28s`, `1h02m`."""
    whole = round(seconds)
    if whole >= 360_000:
        return "long"
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 60}m{whole % 60:02}s" if whole >= 60 else f"{whole}s"


def age(time: str, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was: `2 minutes ago`; empty for what is no such time."""
    try:
        then = datetime.fromisoformat(time)
        passed = ((now or datetime.now(UTC)) - then).total_seconds()
    except (ValueError, TypeError):
        return ""
    for seconds, unit in _AGES:
        if passed >= seconds:
            count = int(passed // seconds)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def can_draw() -> bool:
    """Whether stderr is a terminal on which a line can be drawn again."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def terminal_size(stream: TextIO | None = None) -> os.terminal_size:
    """Columns and rows of the terminal behind a stream, now; 80 by 24 where it does not tell.

    It is stderr unless another is given.
    """
    try:
        told = os.get_terminal_size((stream or sys.stderr).fileno())
    except (OSError, ValueError):
        told = os.terminal_size((0, 0))
    return os.terminal_size((told.columns or 80, told.lines or 24))


@dataclass(frozen=True, slots=True)
class Bar:
    """A line that shows how much of a whole is done. Of `tail` as much as there is room for."""

    head: str
    done: int
    total: int
    tail: Sequence[str] = ()


class Block:
    """Lines at the foot of the terminal that are drawn again in place, until `close`.

    Between two drawings the cursor stands at the beginning of the first line: there it stays with
    its line whatever a terminal of another width does with the lines. What has not changed is not
    written, and one write makes one picture, so nothing flickers.
    """

    def __init__(self) -> None:
        from tqdm import tqdm  # noqa: PLC0415 - lazy: start-up time

        self._meter = tqdm.format_meter
        self._shown: list[str] = []
        self._size = terminal_size()
        self._left, self._right, self._ascii = _brackets(sys.stderr.encoding)

    def draw(self, lines: Sequence[Bar | str], above: Sequence[str] = ()) -> None:
        """Show these lines, as many of the last ones as there is room for.

        The texts of `above` stay above the block for good; they and texts are escaped.
        """
        size = terminal_size()
        columns = max(1, min(size.columns - 1, _WIDEST))
        texts = [self._text(line, columns) for line in lines][-max(1, size.lines - 1) :]
        parts: list[str] = []
        if above or size != self._size:
            self._shown, self._size = [], size
            parts = [_CLEAR_BLOCK, *(escape(text) + "\n" for text in above)]
        parts += self._changes(texts)
        if parts:
            sys.stderr.write("".join(parts))
            sys.stderr.flush()
        self._shown = texts

    def close(self) -> None:
        """Draw all once more, over what was typed meanwhile, and leave the cursor below."""
        lines = "".join(text + _CLEAR_LINE + "\n" for text in self._shown)
        sys.stderr.write(_CUT + "\r" + _CLEAR_LINE + lines + _WRAP)
        sys.stderr.flush()

    def _changes(self, texts: Sequence[str]) -> list[str]:
        """What makes these lines of those that are shown, from the first and back to it."""
        pairs = list(zip_longest(self._shown, texts))
        changed = [number for number, (old, new) in enumerate(pairs) if old != new]
        if not changed:
            return []
        rows = changed[-1] + 1
        parts = ["\r"]
        for old, new in pairs[:rows]:
            parts.append("\n" if old == new else (new or "") + _CLEAR_LINE + "\n")
        return [_CUT, *parts, _WRAP, f"\x1b[{rows}A"]

    def _text(self, line: Bar | str, columns: int) -> str:
        if isinstance(line, str):
            return clip(escape(line), columns)
        room = columns - len(line.head) - len(": 100% ||") - _LEAST_BAR
        if room < 0:
            percent = 100 * line.done // line.total if line.total else 100
            return clip(f"{line.head}: {percent}%", columns)
        end = self._right
        for text in line.tail:
            room -= len(text) + 1
            end += f" {text}" if room >= 0 else ""
        done, total = (min(line.done, line.total), line.total) if line.total else (1, 1)
        form = f"{line.head}: {{percentage:3.0f}}% {self._left}{{bar}}{end}"
        return self._meter(done, total, 0, columns, ascii=self._ascii, bar_format=form)


def clip(text: str, columns: int) -> str:
    """As much of the text as fits into so many columns of a terminal."""
    while (excess := width(text) - columns) > 0:
        text = text[: -((excess + 1) // 2)]  # no character takes more than two
    return text


def _brackets(encoding: str) -> tuple[str, str, bool]:
    """What a bar stands between, and whether it is drawn in ASCII."""
    try:
        "\u2595\u258f\u2588".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "|", "|", True
    return "\u2595", "\u258f", False
