"""The program: which commands there are, and how every failure becomes a message and an exit code.

A command's module is imported when it is called, so that none pays for another. What a command
raises ends here, and only here the program exits.
"""

import atexit
import contextlib
import gc
import importlib
import keyword
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NoReturn

import click

from modelpm import __version__
from modelpm.cli import output
from modelpm.cli.helping import Context
from modelpm.cli.options import GLOBAL, Settings
from modelpm.errors import ModelPMError

COMMANDS = {
    "pull": "Bring models here, verified.",
    "push": "Bring a model that is here to a registry.",
    "list": "List the models that are here.",
    "show": "Show what a model is, or one thing about it.",
    "create": "Make a model of a Modelfile, or of files.",
    "convert": "Write a model in another format.",
    "run": "Ask a model once, or chat with it.",
    "rm": "Delete names, all of them or none.",
    "cp": "Give a model a second name.",
    "prune": "Delete what no name needs.",
    "export": "Write the files of a model into a folder.",
    "import": "Take in models that Ollama, Hugging Face or LM Studio keep here.",
    "diff": "Tell what two models share, and what not.",
    "path": "Print the path of a model's weights, verified.",
    "tags": "List the tags of a repository at its registry.",
    "mirror": "Copy a model from one registry to another.",
    "login": "Log in to a registry.",
    "logout": "Forget the password for a registry.",
    "completion": "Print the completion script for a shell.",
}
"""Each is a module of this name in `commands`, whose `command` it is; `import_` for `import`."""

ALIASES = {"ls": "list", "tag": "cp"}

INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell tells of a program that SIGPIPE ended, which is what happens to others."""

_PACKAGE = "modelpm.cli.commands"
_UNKNOWN = Settings(None, None, (), None, quiet=False, debug=False, json=False)
_OBJECTS_BETWEEN_COLLECTIONS = 100_000


class Program(click.Group):
    """The group of all commands."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name or alias, imported now."""
        del ctx
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"{_PACKAGE}.{name}{'_' * keyword.iskeyword(name)}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but a command has its own name whatever it was called by.

        Raises UsageError, which notes what may have been meant.
        """
        try:
            _, command, rest = super().resolve_command(ctx, args)
        except click.UsageError as error:
            if near := _near(args[0]):
                error.add_note(f"Did you mean {near}?")
            raise
        return (command.name if command else None), command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, from the table alone."""
        del ctx
        others = {name: f" ({alias})" for alias, name in ALIASES.items()}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name + others.get(name, ""), text) for name, text in COMMANDS.items()]
            )


def _near(word: str) -> str:
    """The commands that are called nearly so."""
    from difflib import get_close_matches  # noqa: PLC0415 - lazy: start-up time

    return " or ".join(get_close_matches(word[:100], [*COMMANDS, *ALIASES]))


def _help() -> None:
    """What a bare `modelpm` does."""
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        output.note(context.get_help(), output.BLOCK)
        context.exit(click.UsageError.exit_code)


PROGRAM = Program(
    "modelpm",
    callback=lambda **_: _help(),
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    params=list(GLOBAL),
    help="The package manager for AI models. Global options may also stand after the command.",
    context_settings={
        "auto_envvar_prefix": "MODELPM",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
PROGRAM = click.version_option(__version__, "-V", "--version", message="modelpm %(version)s")(
    PROGRAM
)


def main() -> NoReturn:
    """The console's entry."""
    # Cycles are few in what runs so shortly: nearly nothing is found by looking often, or at the
    # end, and it would take a tenth of a command's time.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    atexit.register(gc.freeze)
    try:
        code = run(sys.argv[1:])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is over
    except KeyboardInterrupt:  # again, before the first one was told of
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = INTERRUPTED
    if code == INTERRUPTED and threading.active_count() > 1:
        # The threads of a broken-off transfer may sit in a system call for a while, and python
        # waits for some of them. All is told, and the store can bear to be left at any moment.
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code. Every failure has been told."""
    output.prepare_streams()
    context: click.Context | None = None
    try:
        if (instruction := os.environ.get("_MODELPM_COMPLETE")) is not None:
            return _reply(instruction)
        context = PROGRAM.make_context("modelpm", list(arguments))
        with context:
            PROGRAM.invoke(context)
        code = 0
    except click.exceptions.Exit as error:
        code = error.exit_code
    except BaseException as error:  # noqa: BLE001 - no traceback reaches a user
        with _deaf():  # who presses Ctrl-C again must not break off what is told of the first
            code = _fail(error, _settings(context, arguments))
    return _flush(code)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Not to be interrupted for a moment."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _reply(instruction: str) -> int:
    """Answer a shell that completes a command line."""
    completion = importlib.import_module(f"{_PACKAGE}.completion")
    code: int = completion.reply(PROGRAM, instruction)
    return code


def _settings(context: click.Context | None, arguments: Sequence[str]) -> Settings:
    """The settings of the command that failed; from the bare words where it never began."""
    if context is not None and isinstance(context.obj, Settings):
        return context.obj
    before = context.params if context is not None else {}
    debug, json = (before.get(name) or f"--{name}" in arguments for name in ("debug", "json"))
    return replace(_UNKNOWN, debug=debug, json=json)


def _fail(error: BaseException, settings: Settings) -> int:
    """Tell of a failure; its exit code."""
    match error:
        case BrokenPipeError():
            return BROKEN_PIPE
        case KeyboardInterrupt():
            code, message = INTERRUPTED, str(error) or "interrupted"
        case click.ClickException():
            # click has a line for each choice.
            code, message = error.exit_code, re.sub(r"\n\t", " ", error.format_message())
        case ModelPMError():
            code, message = error.exit_code, str(error)
        case OSError():  # the store's own are StoreErrors: this is stdin or stdout
            code, message = 1, f"reading or writing failed: {error.strerror or error}"
        case _:
            hint = "" if settings.debug else " (run again with --debug to see where)"
            code, message = 1, f"unexpected error: {type(error).__name__}: {error}{hint}"
    with contextlib.suppress(OSError):  # nobody may be there to hear it
        _tell(error, message, code, settings)
    return code


def _tell(error: BaseException, message: str, code: int, settings: Settings) -> None:
    if settings.debug and not isinstance(error, click.ClickException):
        output.note("".join(traceback.format_exception(error)).rstrip(), output.BLOCK)
    if settings.json:
        output.record(output.error_record(error, message, code))
    elif isinstance(error, KeyboardInterrupt):
        # The terminal has written `^C` into a line.
        output.note("\n" * sys.stderr.isatty() + message, output.BLOCK)
    else:
        if isinstance(error, click.UsageError):
            output.note(_usage(error), output.BLOCK)
        output.report(error, message)


def _usage(error: click.UsageError) -> str:
    """The lines that click puts before what is wrong with a command line."""
    context = error.ctx or click.Context(PROGRAM, info_name="modelpm")
    return f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n"


def _flush(code: int) -> int:
    """Write out what is left; a reader that has gone is no failure to tell of."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            # The interpreter would try again at its end, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            code = code or _fail(error, _UNKNOWN)
    return code
