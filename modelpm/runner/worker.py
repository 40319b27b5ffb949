"""How an engine is kept in a child process, so that whatever it does to itself is an error here.

The child (`child`) has a session of its own, so that a terminal's Ctrl-C reaches the parent only,
and sees no environment but what it is given. What the engine writes to its standard error is kept,
the end of it, for error messages. The parent believes nothing: a model may have taken the child
over.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from modelpm.errors import RunnerError
from modelpm.runner import wire
from modelpm.runner.engine import Event, Facts, Sampling, Settings

LAST_WORDS = 2048
"""Bytes kept of what the engine wrote to its standard error."""

_BOOT = """\
import sys
sys.path[:] = sys.argv[2:]
from modelpm.runner.child import main
main(sys.argv[1])
"""


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds without a word from the child mean that it hangs."""

    load: float = 120.0
    step: float = 300.0
    """For one chunk of a prompt, or one token."""
    stop: float = 5.0
    """To end an answer that was given up."""
    close: float = 1.0
    """To leave by itself."""


class Worker:
    """An engine in a child process. Whatever it does to itself is a RunnerError here.

    `start` costs a millisecond, and the child gets ready while the caller reads the model's
    header. Every `load` after the first has a new child.

    `engine` names a module with a function `create`; `python` is the interpreter. `environment` is
    all that the child sees of the environment: nothing is needed on Linux and macOS.
    """

    def __init__(
        self,
        engine: str = "modelpm.runner.ctransformers",
        *,
        environment: Mapping[str, str] | None = None,
        patience: Patience | None = None,
        python: str = sys.executable,
    ) -> None:
        self._command = _command(python, engine)
        self._environment = dict(environment or {})
        self._patience = patience or Patience()
        self._child: _Child | None = None
        self._used = False
        self._context_length = 0
        self._name = "the model"
        self._answer = 0  # the number of the answer under way, or of the last one
        self._stopped = 0  # the number of the last answer that was asked to end
        self._answering = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together; 0 while nothing is loaded."""
        return self._context_length

    @property
    def pid(self) -> int | None:
        """The child's process id, if there is a child."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start the child, unless it runs. Raises RunnerError where no process can be made."""
        if self._child is None:
            self._child, self._used = _Child(self._command, self._environment), False

    def load(self, facts: Facts, settings: Settings) -> None:
        """Make the model ready. Raises RunnerError when the engine refuses it, or dies of it."""
        if self._used:
            self.close()
        self.start()
        self._used, self._name = True, facts.name
        request = {"load": facts, "settings": settings}
        self._context_length = self._ask(request, "loaded", self._patience.load, "loading")

    def count(self, prompt: str) -> int:
        """How many tokens the prompt has."""
        return self._ask({"count": prompt}, "count", self._patience.step, "reading a prompt for")

    def generate(self, prompt: str, sampling: Sampling) -> Generator[Event, None, None]:
        """Answer a rendered prompt, see `Engine.generate`.

        A KeyboardInterrupt stops the answer; in one that was asked to stop it ends the child.
        """
        self._answer += 1
        self._send({"generate": self._answer, "prompt": prompt, "sampling": sampling})
        over, self._answering = False, True
        try:
            while not over:
                reply = self._receive(self._patience.step, "running")
                over = "finished" in reply or "error" in reply
                with self._wary():
                    event = wire.event(reply)
                yield event
        except KeyboardInterrupt:
            if self._stopped == self._answer:
                self._abandon()  # asked before, and now in earnest
            raise
        finally:
            self._answering = False
            if not over:
                self.stop()
                self._skip("finished")

    def stop(self) -> None:
        """End the answer under way. From any thread or signal handler; never waits."""
        self._stopped = self._answer
        if child := self._child:
            child.send(wire.encode({"stop": self._answer}))

    def kill(self) -> None:
        """End the child at once, in the middle of whatever it does. From anywhere, as `stop`."""
        if child := self._child:
            child.kill()

    def close(self) -> None:
        """End the child and wait for its end. May be called twice."""
        child, self._child, self._context_length = self._child, None, 0
        if child:
            child.close(self._patience.close)

    def _ask(self, request: wire.Line, key: str, seconds: float, doing: str) -> int:
        """Send a request whose reply is a number."""
        try:
            self._send(request)
            reply = self._receive(seconds, doing)
        except KeyboardInterrupt:
            if self._context_length:
                self._skip(key)
            else:
                self._abandon()
            raise
        with self._wary():
            return wire.natural(wire.checked(reply)[key])

    def _send(self, request: wire.Line) -> None:
        if self._child is None:
            raise RunnerError("no engine runs: load a model first")
        if self._answering:
            raise RunnerError("the engine is in the middle of an answer")
        line = wire.encode(request)
        if len(line) > wire.MAX_REQUEST:
            raise RunnerError(
                f"the prompt is too long: {len(line)} bytes, at most {wire.MAX_REQUEST}"
            )
        self._child.send(line)

    def _receive(self, seconds: float, doing: str) -> wire.Line:
        if self._child is None:
            raise RunnerError(f"the engine was closed while {doing} {self._name}")
        try:
            line = self._child.replies.get(timeout=seconds)
        except queue.Empty:
            self._abandon()
            raise RunnerError(
                f"the engine hung while {doing} {self._name}: not a word for {seconds:g} s"
            ) from None
        if line is None:
            raise self._death(self._child, doing)
        with self._wary():
            return wire.decode(line, wire.MAX_REPLY)

    @contextmanager
    def _wary(self) -> Iterator[None]:
        """Whatever is wrong with the child's words ends the child."""
        try:
            yield
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            self._abandon()
            raise RunnerError(f"the engine answered nonsense while running {self._name}") from error

    def _skip(self, last: str) -> None:
        """Leave out all replies up to the last one of a request that was given up."""
        deadline = time.monotonic() + self._patience.stop
        try:
            while self._child:
                left = max(0.0, deadline - time.monotonic())
                if {last, "error"} & self._receive(left, "stopping").keys():
                    return
        except RunnerError:
            return  # the child is gone
        except KeyboardInterrupt:
            self._abandon()
            raise

    def _abandon(self) -> None:
        self.kill()
        self.close()

    def _death(self, child: "_Child", doing: str) -> RunnerError:
        """Bury the child; what it died of."""
        self.close()
        message = f"the engine {child.fate} while {doing} {self._name}"
        if not child.killed:
            message += ": the file is damaged, or more than the engine or the memory here can take"
        if said := child.last_words.strip():
            message += f" (it said: {said})"
        return RunnerError(message)


class _Child:
    """The process and its pipes. A thread serves each pipe, so that nobody waits unbounded."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.killed = False
        self.replies: queue.Queue[bytes | None] = queue.Queue(256)
        """Lines as they came, None at the end."""
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()  # put: reentrant
        self._said = b""
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise RunnerError(f"cannot start a process for the engine: {error}") from error
        self.pid = self._process.pid
        pumps = {
            self._pump_requests: self._process.stdin,
            self._pump_replies: self._process.stdout,
            self._pump_words: self._process.stderr,
        }
        self._threads = [
            threading.Thread(target=pump, args=(pipe,), daemon=True) for pump, pipe in pumps.items()
        ]
        for thread in self._threads:
            thread.start()

    @property
    def last_words(self) -> str:
        """The end of what it wrote to its standard error."""
        return self._said.decode("utf-8", "replace")

    @property
    def fate(self) -> str:
        """How it ended."""
        code = self._process.returncode
        if self.killed:
            return "was ended"
        if code >= 0:
            return f"left with status {code}"
        names = {each.value: each.name for each in signal.Signals}
        return f"died with {names.get(-code, f'signal {-code}')}"

    def send(self, line: bytes) -> None:
        self._requests.put(line)

    def kill(self) -> None:
        if self._process.poll() is None:
            self.killed = True
            self._process.kill()

    def close(self, patience: float) -> None:
        """End it, gently for so many seconds, and free the pipes."""
        self._requests.put(None)
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        deadline = time.monotonic() + patience
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < deadline:
            with suppress(queue.Empty):
                self.replies.get(timeout=0.01)  # a full queue would keep its thread

    def _pump_requests(self, pipe: IO[bytes]) -> None:
        with suppress(OSError), pipe:  # it died: the end of its replies tells
            while line := self._requests.get():
                pipe.write(line)
                pipe.flush()

    def _pump_replies(self, pipe: IO[bytes]) -> None:
        with pipe:
            while line := pipe.readline(wire.MAX_REPLY + 1):
                self.replies.put(line)
        self.replies.put(None)

    def _pump_words(self, pipe: IO[bytes]) -> None:
        with pipe:
            while words := os.read(pipe.fileno(), LAST_WORDS):
                self._said = (self._said + words)[-LAST_WORDS:]


def _command(python: str, engine: str) -> list[str]:
    """A Python without user settings or site hooks that finds what this one finds."""
    folders = [folder for folder in sys.path if Path(folder).is_absolute()]
    folders.append(str(Path(__file__).parents[2]))
    options = ("-I", "-S", "-B", "-X", "utf8")
    return [python, *options, "-c", _BOOT, engine, *dict.fromkeys(folders)]
