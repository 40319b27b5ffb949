"""A terminal with the program in it: what is typed, every byte that comes out, and the screen."""

import contextlib
import fcntl
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

SECONDS = 30.0
_START = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # this terminal's Ctrl-C is for us
from modelpm.cli.main import main
main()
"""
_BAR = re.compile(r"\x1b\[A|\r\x1b\[J|\r(?!\n)")
"""What a bar needs: a line up, the rest of the screen cleared, the beginning of the line."""


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
        self._master, slave = os.openpty()
        self.resize(columns, rows)
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
        return screen(self.text)

    def resize(self, columns: int, rows: int) -> None:
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


def screen(text: str) -> list[str]:
    """The lines that a terminal shows after it got this text. Knows what bars and we write."""
    lines: list[list[str]] = [[]]
    row = column = 0
    for token in _tokens(text):
        if token == "\n":
            row += 1
            lines += [[] for _ in range(row + 1 - len(lines))]
        elif token == "\r":
            column = 0
        elif token == "\x1b[A":
            row = max(0, row - 1)
        elif token == "\x1b[J":
            del lines[row][column:], lines[row + 1 :]
        else:
            line = lines[row]
            line += " " * (column - len(line))
            line[column : column + 1] = token
            column += 1
    return ["".join(line).rstrip() for line in lines]


def _tokens(text: str) -> Iterator[str]:
    for match in re.finditer(r"\x1b\[[AJ]|.", text, re.DOTALL):
        yield match[0]


def assert_harmless(text: str) -> None:
    """Nothing came out that a terminal obeys, but line ends and what a bar needs."""
    left = _BAR.sub("", re.sub(r"\r+\n", "\n", text))
    assert not NEVER & set(left), sorted(NEVER & set(left))
