"""`modelpm run`."""

import contextlib
import sys
from collections.abc import Sequence
from typing import TextIO

import click

from modelpm.cli import output
from modelpm.cli.answers import MAX_PROMPT, Session, answer, counts, parse_parameters, timings
from modelpm.cli.clients import InstalledName, open_client
from modelpm.cli.commands.pull import pull
from modelpm.cli.downloads import bounded
from modelpm.cli.options import Settings, verb
from modelpm.client import Client
from modelpm.errors import NotFoundError


@verb("run")
@click.argument("name", type=InstalledName())
@click.argument("prompt", nargs=-1)
@click.option("--system", metavar="TEXT", help="Tell the model this first, not its own text.")
@click.option(
    "--parameter",
    "-p",
    metavar="NAME=VALUE",
    multiple=True,
    help="How answers are drawn, as `temperature=0`. May be given several times.",
)
@click.option("--verbose", is_flag=True, help="Tell how long an answer took.")
@click.option("--nohistory", is_flag=True, help="Do not keep what is typed in a chat.")
@bounded
@click.pass_obj
def command(
    settings: Settings,
    name: str,
    prompt: Sequence[str],
    system: str | None,
    parameter: Sequence[str],
    verbose: bool,
    nohistory: bool,
    connections: int,
    limit_rate: int,
) -> None:
    """Ask a model once, or chat with it.

    The question is PROMPT, after what comes on stdin. Without either, on a terminal, it is a chat:
    Ctrl-C stops an answer, Ctrl-D leaves. A model that is not here is pulled first.
    """
    parameters = parse_parameters(parameter)
    question = _question(prompt)
    if not question and not (_is_terminal(sys.stdin) and _is_terminal(sys.stdout)):
        raise click.UsageError("there is no question: give a PROMPT, or write it to stdin")
    if not question and settings.json:
        raise click.UsageError("a chat cannot be written as JSON: give a PROMPT")
    with open_client(settings) as client:
        if not _is_installed(client, name):
            if not settings.quiet:
                output.note(f"{name} is not installed; pulling it")
            pull(settings, name, connections, limit_rate)
        if question:
            with client.open(name, parameters=parameters, system=system) as session:
                _answer_once(session, question, settings, verbose=verbose)
            return
        _chat(client, name, parameters, system, verbose=verbose, keep_history=not nohistory)


def _chat(
    client: Client,
    name: str,
    parameters: dict[str, object],
    system: str | None,
    *,
    verbose: bool,
    keep_history: bool,
) -> None:
    from modelpm.cli import repl  # noqa: PLC0415 - lazy: start-up time

    def open_session(parameters: dict[str, object], system: str | None) -> Session:
        return client.open(name, parameters=parameters, system=system)

    with contextlib.ExitStack() as stack:
        chat = repl.Chat(open_session, parameters, system, verbose=verbose)
        stack.callback(chat.close)
        if keep_history:
            stack.enter_context(repl.history(repl.history_path()))
        chat.run()


def _question(words: Sequence[str]) -> str:
    """What is asked: stdin, where something is piped in, then the words. Raises UsageError."""
    typed = _is_terminal(sys.stdin)
    told = "" if typed and (words or _is_terminal(sys.stdout)) else _stdin()
    return "\n".join(text for text in (told.strip("\n"), " ".join(words)) if text.strip())


def _stdin() -> str:
    if sys.stdin is None:  # closed by whoever started us
        return ""
    content = sys.stdin.buffer.read(MAX_PROMPT + 1)
    if len(content) > MAX_PROMPT:
        raise click.UsageError(f"the question on stdin has more than {MAX_PROMPT} bytes")
    return content.decode("utf-8", "replace")


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _is_installed(client: Client, name: str) -> bool:
    try:
        client.get(name)
    except NotFoundError:
        return False
    return True


def _answer_once(session: Session, question: str, settings: Settings, *, verbose: bool) -> None:
    """Stream one answer. Raises KeyboardInterrupt where it was stopped."""
    last = ""

    def show(piece: str) -> None:
        nonlocal last
        last = piece
        if settings.json:
            output.record({"response": piece, "done": False})
        else:
            output.stream(piece)

    whole = answer(session, question, show)
    if settings.json:
        output.record({"response": "", "done": True, **counts(session)})
    elif not last.endswith("\n"):
        output.stream("\n")
    if verbose:
        timings(session)
    if not whole:
        raise KeyboardInterrupt
