"""How text reaches the reader: the one escape, tables, sizes and times in words, JSON, bars.

Text from outside (names, annotations, error bodies, what a model says) goes through `escape`: what
moves a cursor, rings, hides or reorders is shown as `\\x1b` or `\\u202e` and does nothing.
Results go to stdout, all else to stderr.
"""

import io
import json
import os
import re
import sys
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NoReturn, TextIO

BLOCK = "\n\t"
"""What a block of text may keep: a licence, a template."""

SPEECH = "\n\t\u200c\u200d"
"""What an answer may keep: the joiners too, which emoji and some scripts are written with."""

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
_WIDEST = 200
_SPARE = 3  # columns at the right that stay free: the terminal's `^C` must not break a line
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


def report(error: Exception) -> None:
    """Tell a person of a failure, and go on."""
    note(f"Error: {error}")


def _json(value: object, indent: int | None = None) -> str:
    # ASCII only, so nothing is left to escape but DEL, which JSON allows as it is.
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], margin: str = "") -> None:
    """Aligned columns, escaped; the last one is not padded."""
    lines = [head, *([escape(cell) for cell in row] for row in rows)]
    widths = [max(width(line[column]) for line in lines) for column in range(len(head))]
    widths[-1] = 0
    sys.stdout.write("".join(margin + _aligned(line, widths) + "\n" for line in lines))


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(cells, widths, strict=True)
    return "    ".join(cell + " " * (wide - width(cell)) for cell, wide in pairs).rstrip()


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


def terminal_size() -> os.terminal_size:
    """Columns and rows of the terminal behind stderr, now; 80 by 24 where it does not tell."""
    try:
        told = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        told = os.terminal_size((0, 0))
    return os.terminal_size((told.columns or 80, told.lines or 24))


class Bars:
    """Lines at the foot of the terminal, a bar in each, drawn again in place until `close`."""

    def __init__(self) -> None:
        from tqdm import tqdm  # noqa: PLC0415 - lazy: start-up time

        tqdm.monitor_interval = 0  # else a thread wakes up for nothing
        tqdm.set_lock(threading.RLock())  # else tqdm takes a semaphore of the whole machine
        self._tqdm = tqdm
        self._bars: dict[str, tqdm[NoReturn]] = {}
        self._lines: dict[str, tuple[str, int, int, Sequence[str]]] = {}
        self._columns = 0
        self._left, self._right, self._ascii = _brackets(sys.stderr.encoding)

    def draw(self, head: str, done: int, total: int, tail: Sequence[str]) -> None:
        """Show the line with this head. Of `tail` as many texts as there is room for."""
        self._lines[head] = (head, *((min(done, total), total) if total else (1, 1)), tail)
        columns = max(1, min(terminal_size().columns - _SPARE, _WIDEST))
        if columns == self._columns or not self._bars:
            self._columns = columns
            self._draw(*self._lines[head])
            return
        # A narrower terminal has broken the lines that were there: begin anew where they began.
        self._columns = columns
        sys.stderr.write("\r\x1b[J")
        for bar in self._bars.values():
            bar.sp = bar.status_printer(sys.stderr)  # forgets how long its line was
        for line in self._lines.values():
            self._draw(*line)

    def _draw(self, head: str, done: int, total: int, tail: Sequence[str]) -> None:
        room = self._columns - len(head) - len(": 100% ||") - _LEAST_BAR
        end = self._right
        for text in tail:
            room -= len(text) + 1
            end += f" {text}" if room >= 0 else ""
        form = f"{head}: {{percentage:3.0f}}% {self._left}{{bar}}{end}"
        bar = self._bars.get(head)
        if bar is not None:
            bar.n, bar.ncols, bar.bar_format = done, self._columns, form
            bar.refresh()
            return
        self._bars[head] = self._tqdm(
            total=total,
            initial=done,
            bar_format=form,
            ncols=self._columns,
            file=sys.stderr,
            position=len(self._bars),
            leave=True,
            ascii=self._ascii,
        )

    def note(self, text: str) -> None:
        """A line above the bars, escaped."""
        self._tqdm.write(escape(text), file=sys.stderr)

    def close(self) -> None:
        """Leave the lines as they are, with the cursor below them."""
        for bar in self._bars.values():
            bar.close()  # in the order of the lines: each ends its own and moves on to the next
        self._bars.clear()
        self._lines.clear()


def _brackets(encoding: str) -> tuple[str, str, bool]:
    """What a bar stands between, and whether it is drawn in ASCII."""
    try:
        "\u2595\u258f\u2588".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "|", "|", True
    return "\u2595", "\u258f", False
