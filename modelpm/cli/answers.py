"""How a model is asked on a terminal: the answer streams, and Ctrl-C ends it, not the program."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Protocol

import click

from modelpm.cli import output
from modelpm.client import Installed
from modelpm.errors import ModelError
from modelpm.model import parameters
from modelpm.runner.engine import Finished

MAX_PROMPT = 2**20
"""Bytes of a prompt on stdin."""

PATIENCE = 2.0
"""Seconds that a model has to stop before the next Ctrl-C gives it up."""


class Session(Protocol):
    """What is needed of a session (`modelpm.session`)."""

    @property
    def model(self) -> Installed:
        """Whom it is with."""
        ...

    @property
    def finished(self) -> Finished | None:
        """How the last answer ended."""
        ...

    def ask(self, text: str) -> Iterator[str]:
        """The answer in pieces."""
        ...

    def stop(self) -> None:
        """End the answer under way; from a signal handler too."""
        ...

    def reset(self) -> None:
        """Forget the talk."""
        ...

    def close(self) -> None:
        """End the engine."""
        ...


def answer(session: Session, question: str, show: Callable[[str], None]) -> bool:
    """Ask, and show the answer as it comes; whether it came to its own end.

    Ctrl-C stops the answer, and what was said is kept. Raises KeyboardInterrupt at another one
    where the model has not stopped for a while.
    """
    with _stopped_by_interrupt(session) as interrupts:
        for piece in session.ask(question):
            show(piece)
    return not interrupts


@contextlib.contextmanager
def _stopped_by_interrupt(session: Session) -> Iterator[list[float]]:
    interrupts: list[float] = []

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        interrupts.append(time.monotonic())
        if interrupts[-1] - interrupts[0] > PATIENCE:
            raise KeyboardInterrupt
        session.stop()

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


def parse_parameters(texts: Sequence[str]) -> dict[str, object]:
    """Read `NAME=VALUE` texts; several `stop` are collected. Raises UsageError."""
    values: dict[str, object] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            raise click.UsageError(f"{text!r} is not NAME=VALUE")
        set_parameter(values, name.strip(), value)
    return values


def set_parameter(values: dict[str, object], name: str, text: str) -> None:
    """Add one parameter as a person wrote it. Raises UsageError."""
    if not parameters.known(name):
        raise click.UsageError(f"there is no parameter {name!r}")
    try:
        value = parameters.parsed(name, text)
    except ModelError as error:
        raise click.UsageError(str(error)) from None
    before = values.get(name)
    if isinstance(value, tuple) and isinstance(before, tuple):
        value = (*before, *value)
    values[name] = value


def timings(session: Session) -> None:
    """Tell how long the last answer took, on stderr."""
    done = session.finished
    if done is None:
        return
    for what, tokens, seconds in (
        ("prompt", done.prompt_tokens - done.reused_tokens, done.prompt_seconds),
        ("answer", done.answer_tokens, done.answer_seconds),
    ):
        rate = f", {tokens / seconds:.1f} tokens/s" if seconds > 0 else ""
        output.note(f"{what}: {tokens} tokens in {seconds:.2f} s{rate}")
    if done.reused_tokens:
        output.note(f"reused: {done.reused_tokens} tokens of the prompt")


def counts(session: Session) -> dict[str, object]:
    """How the last answer ended, as JSON values."""
    done = session.finished
    return (
        {"done_reason": None}
        if done is None
        else {
            "done_reason": done.reason,
            "prompt_tokens": done.prompt_tokens,
            "reused_tokens": done.reused_tokens,
            "answer_tokens": done.answer_tokens,
            "prompt_seconds": done.prompt_seconds,
            "answer_seconds": done.answer_seconds,
        }
    )
