"""The chat: what is typed after `>>> `, the commands that begin with a slash, and the history."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from platformdirs import user_state_path

from modelpm.cli import output
from modelpm.cli.answers import Session, answer, set_parameter, timings
from modelpm.cli.description import Description, parameter_lines
from modelpm.errors import ModelPMError

if sys.platform != "win32":
    import readline

MAX_HISTORY = 1000
"""Lines of the history file."""

HELP = """\
/show                         what the model is
/show system, template, parameters, license or modelfile
/set system TEXT              tell the model this before the conversation
/set parameter NAME VALUE     how answers are drawn
/clear                        forget the conversation
/bye                          leave; Ctrl-D does too
/?                            this help

\"\"\" begins and ends a text of several lines. Ctrl-C stops an answer."""

_QUOTES = '"""'
_COMMAND = re.compile(r"/(\?|[a-z]+)(?:\s+(.*))?", re.DOTALL)
_SHOWN = ("system", "template", "parameters", "license", "modelfile")

Open = Callable[[dict[str, object], str | None], Session]
"""Loads the model with these parameters and, unless it is None, this system text."""


class Chat:
    """A chat on the terminal. Making it loads the model; whoever made it closes it."""

    def __init__(
        self,
        open_session: Open,
        parameters: dict[str, object],
        system: str | None,
        *,
        verbose: bool,
    ) -> None:
        self._open = open_session
        self._parameters = parameters
        self._system = system
        self._verbose = verbose
        self._session: Session | None = None
        self._model = self._ready().model
        self._commands: dict[str, Callable[[str], None]] = {
            "?": self._help,
            "help": self._help,
            "show": self._show,
            "set": self._set,
            "clear": self._clear,
        }

    def run(self) -> None:
        """Talk until the reader leaves."""
        if sys.platform != "win32" and "libedit" not in (readline.__doc__ or ""):
            # Several lines that are pasted are one question.
            readline.parse_and_bind("set enable-bracketed-paste on")
        output.note(f"{self._model.short_name} is ready (/? for help)")
        for text in self._typed():
            try:
                self._react(text)
            except (ModelPMError, click.UsageError) as error:
                output.report(error)
            except KeyboardInterrupt:
                self.close()  # the engine does not stop: the next question gets another one
                output.note("\nGiven up. The conversation starts anew.", output.BLOCK)

    def close(self) -> None:
        """End the session."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _typed(self) -> Iterator[str]:
        """What is typed, until Ctrl-D or /bye."""
        while True:
            try:
                text = read_text(input)
            except EOFError:
                output.say("")
                return
            except KeyboardInterrupt:
                output.say("\nUse Ctrl-D or /bye to leave.", output.BLOCK)
                continue
            if text.strip() in ("/bye", "/exit"):
                return
            if text.strip():
                yield text

    def _react(self, text: str) -> None:
        command = _COMMAND.fullmatch(text.strip())
        if command is None:
            self._answer(text)
        elif command[1] in self._commands:
            self._commands[command[1]]((command[2] or "").strip())
        else:
            raise click.UsageError(f"there is no command /{command[1]} (try: /?)")

    def _ready(self) -> Session:
        if self._session is None:
            self._session = self._open(self._parameters, self._system)
        return self._session

    def _answer(self, text: str) -> None:
        session = self._ready()
        try:
            answer(session, text, output.stream)
        finally:
            output.stream("\n\n")
        if self._verbose:
            timings(session)

    def _help(self, _: str) -> None:
        output.say(HELP, output.BLOCK)

    def _clear(self, _: str) -> None:
        self._ready().reset()
        output.say("The conversation is forgotten.")

    def _show(self, what: str) -> None:
        described = Description(self._model)
        if what in ("", "info"):
            described.show()
        elif what == "system" and self._system is not None:
            output.say(self._system, output.BLOCK)
        elif what in _SHOWN:
            text: str = getattr(described, what)()
            output.say(text.removesuffix("\n") or f"The model has no {what}.", output.BLOCK)
        else:
            raise click.UsageError(f"/show shows {', '.join(_SHOWN)}")
        if what == "parameters" and self._parameters:
            lines = ["", "Set here:", *parameter_lines(self._parameters)]
            output.say("\n".join(lines), output.BLOCK)

    def _set(self, text: str) -> None:
        what, _, rest = text.partition(" ")
        name, _, value = rest.strip().partition(" ")
        if what == "system":
            self._system = rest.strip()
        elif what == "parameter" and name and value.strip():
            set_parameter(self._parameters, name, value.strip())
        else:
            raise click.UsageError("it is: /set system TEXT, or /set parameter NAME VALUE")
        # The engine is given these when it loads the model: at the next question.
        self.close()
        output.say(f"Set {what}. The conversation starts anew.")


def read_text(read_line: Callable[[str], str]) -> str:
    """A line, or all lines from \"\"\" to \"\"\", after a command or alone. Raises EOFError."""
    line = read_line(">>> ")
    head, quotes, rest = line.partition(_QUOTES)
    if not quotes or (head.strip() and not head.startswith("/set ")):
        return line
    lines = [rest]
    while _QUOTES not in lines[-1]:
        lines.append(read_line("... "))
    lines[-1] = lines[-1].partition(_QUOTES)[0]
    return head + "\n".join(lines).strip("\n")


@contextlib.contextmanager
def history(path: Path) -> Iterator[None]:
    """Keep what is typed in this file, for its owner only; what cannot be kept is not."""
    if sys.platform == "win32":
        yield
        return
    readline.set_history_length(MAX_HISTORY)
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
            readline.write_history_file(path)
            path.chmod(0o600)


def history_path() -> Path:
    """Where the history lies."""
    return user_state_path("modelpm", appauthor=False) / "history"
