"""A terminal with the program in it: what is typed, every byte that comes out, and the screen."""

import contextlib
import fcntl
import itertools
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

from tests.cli.models import NEVER

SECONDS = 60.0
SOON = 7.0
"""Seconds that a busy machine may need for what a quiet one does in less than one."""
_START = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # this terminal's Ctrl-C is for us
from modelpm.cli.main import main
main()
"""
_ORDER = r"\x1b\[(?:\d*A|[JK]|\?7[lh])"
_BAR = re.compile(rf"{_ORDER}|\r(?!\n)")
"""What a bar needs: a line up, the rest of screen or line cleared, the beginning of the line, and
that a line which is too long is cut off, not broken."""

_FRAME = re.compile(r"\x1b\[\d+A")
"""What a drawing of bars ends with."""


class Terminal:
    """Runs one command line on a terminal of its own. Use it in a `with` block."""

    def __init__(
        self,
        *arguments: str,
        columns: int = 80,
        rows: int = 24,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.raw = b""
        self._waited = 0
        self._sizes: list[tuple[int, int]] = []
        self._master, slave = os.openpty()
        self.resize(columns, rows)
        self.modes_before = self.modes
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", **(environment or {})},
        )
        os.close(slave)

    @property
    def text(self) -> str:
        """All that came out."""
        return self.raw.decode()

    @property
    def screen(self) -> list[str]:
        """What a reader sees, scrolled lines included."""
        return self.replayed.text

    @property
    def pictures(self) -> Iterator[list[str]]:
        """What a reader has seen, after each time that bars were drawn again."""
        shown = Screen(self._sizes[0][1])
        begin = 0
        for frame in _FRAME.finditer(self.text):
            shown.write(self.text[begin : frame.end()])
            begin = frame.end()
            yield shown.text

    @property
    def replayed(self) -> "Screen":
        """A screen that got all that came out, and changed its width when this one did."""
        shown = Screen()
        offset = 0
        for (_, columns), (stop, _) in itertools.pairwise([*self._sizes, (len(self.raw), 0)]):
            shown.resize(columns)
            shown.write(self.raw[offset:stop].decode(errors="replace"))
            offset = stop
        return shown

    @property
    def frames(self) -> int:
        """How often bars were drawn again."""
        return len(_FRAME.findall(self.text))

    @property
    def modes(self) -> list[object]:
        """All that `stty -a` tells but the size."""
        return list(termios.tcgetattr(self._master))

    def resize(self, columns: int, rows: int) -> None:
        self._sizes.append((len(self.raw), columns))
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def press(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until this has come, after all that was waited for before."""
        deadline = time.monotonic() + SECONDS
        wanted = text.encode()
        while (found := self.raw.find(wanted, self._waited)) < 0:
            assert self._read(deadline), f"no {text!r} in {self.raw[self._waited :]!r}"
        self._waited = found + len(wanted)

    def press_until(self, key: str, text: str) -> None:
        """Press a key, again now and then, until this has come: nobody may be listening yet."""
        deadline = time.monotonic() + SECONDS
        while self.raw.find(text.encode(), self._waited) < 0:
            assert time.monotonic() < deadline, f"no {text!r} in {self.raw[self._waited :]!r}"
            self.press(key)
            self.read_for(1)
        self.wait_for(text)

    def read_for(self, seconds: float) -> None:
        """Read what comes in so much time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0] and not self._read(deadline):
                return

    def wait(self) -> int:
        """Read until the program ends; its exit code."""
        deadline = time.monotonic() + SECONDS
        while self._read(deadline):
            pass
        return self._process.wait(timeout=SECONDS)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise AssertionError(f"the program hangs after {self.raw[-500:]!r}")
        try:
            more = os.read(self._master, 2**16)
        except OSError:  # Linux tells so that the other side is closed
            return False
        self.raw += more
        return bool(more)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=SECONDS)
        os.close(self._master)


class Screen:
    """The lines that a terminal shows. Knows what bars and we write, and does not reflow lines."""

    def __init__(self, columns: int = 0) -> None:
        self._columns = columns
        self._lines: list[list[str]] = [[]]
        self._row = self._column = 0
        self._wraps = True
        self.too_long: list[str] = []
        """The lines that were longer than the terminal was wide."""

    @property
    def text(self) -> list[str]:
        return ["".join(line).rstrip() for line in self._lines]

    def resize(self, columns: int) -> None:
        self._columns = columns
        if columns:
            self._column = min(self._column, columns - 1)
            for line in self._lines:
                del line[columns:]

    def write(self, text: str) -> None:
        for match in re.finditer(rf"{_ORDER}|.", text, re.DOTALL):
            self._take(match[0])

    def _take(self, token: str) -> None:
        line = self._lines[self._row]
        if token == "\n":
            self._down()
        elif token == "\r":
            self._column = 0
        elif token.endswith("A") and len(token) > 1:
            self._row = max(0, self._row - int(token[2:-1] or 1))
        elif token == "\x1b[K":
            del line[self._column :]
        elif token == "\x1b[J":
            del line[self._column :], self._lines[self._row + 1 :]
        elif token in ("\x1b[?7l", "\x1b[?7h"):
            self._wraps = token.endswith("h")
        else:
            if self._columns and self._column >= self._columns:
                self.too_long.append("".join(line))
                self._column = self._columns - 1
                if self._wraps:
                    self._down()
                    self._column, line = 0, self._lines[self._row]
            line += " " * (self._column - len(line))
            line[self._column : self._column + 1] = token
            self._column += 1

    def _down(self) -> None:
        self._row += 1
        self._lines += [[] for _ in range(self._row + 1 - len(self._lines))]


def assert_harmless(text: str) -> None:
    """Nothing came out that a terminal obeys, but line ends and what a bar needs."""
    left = _BAR.sub("", re.sub(r"\r+\n", "\n", text))
    assert not NEVER & set(left), sorted(NEVER & set(left))
