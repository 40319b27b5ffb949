"""The table of commands, help, exit codes, and how failures are told."""

import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import modelpm
from modelpm import errors
from modelpm.cli import commands, main
from modelpm.cli.options import GLOBAL
from tests.cli.conftest import Cli
from tests.cli.models import HOSTILE, NEVER, Maker

PROGRAM = (sys.executable, "-c", "from modelpm.cli.main import main; main()")


def test_the_table_tells_of_every_command_what_it_tells_of_itself() -> None:
    modules = {module.name.rstrip("_") for module in pkgutil.iter_modules(commands.__path__)}
    assert modules == set(main.COMMANDS)
    context = click.Context(main.PROGRAM)
    for name, told in main.COMMANDS.items():
        command = main.PROGRAM.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert (command.help or "").splitlines()[0] == told


def test_every_command_takes_the_global_options() -> None:
    for name in main.COMMANDS:
        command = main.PROGRAM.get_command(click.Context(main.PROGRAM), name)
        assert command is not None
        assert set(GLOBAL) <= set(command.params)
        short = [opt for param in command.params for opt in param.opts]
        assert len(short) == len(set(short))


def test_version_and_help(cli: Cli) -> None:
    for option in ("--version", "-V"):
        assert cli(option).output == f"modelpm {modelpm.__version__}\n"
    told = cli("--help").output
    assert cli("-h").output == told
    assert all(f"  {name}" in told and text in told for name, text in main.COMMANDS.items())
    assert "list (ls)" in told
    assert "cp (tag)" in told


@pytest.mark.parametrize("name", [*main.COMMANDS, *main.ALIASES])
def test_each_command_has_help(cli: Cli, name: str) -> None:
    result = cli(name, "--help")
    assert result.code == 0
    assert result.output.startswith(f"Usage: modelpm {main.ALIASES.get(name, name)} ")
    assert "Global options:" in result.output
    assert result.output.count("--help") == 1
    assert cli(name, "-h").output == result.output


def test_nothing_asked_is_help_and_a_usage_error(cli: Cli) -> None:
    result = cli()
    assert result.code == 2
    assert result.output == ""
    assert result.errors == cli("--help").output


@pytest.mark.parametrize(
    "arguments",
    [
        ("lst",),
        ("list", "--nope"),
        ("list", "a", "b"),
        ("rm",),
        ("show",),
        ("show", "-rf"),
        ("cp", "a"),
        ("--home",),
        ("completion", "tcsh"),
        ("show", "a", "--system", "--template"),
        ("run", "a", "-p", "nope=1", "hello"),
        ("run", "a", "-p", "temperature", "hello"),
        ("run", "a", "-p", "temperature=warm", "hello"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert result.output == ""
    assert "Usage: modelpm" in result.errors
    assert "Error: " in result.errors
    assert "Traceback" not in result.errors
    told = cli("--json", *arguments)
    assert told.code == 2
    assert told.records[-1]["error"]["code"] == 2


@pytest.mark.parametrize("name", ["--help", "-rf", "@file:x", "../x", "a b", "A", ""])
def test_a_name_is_never_an_option_or_a_file(cli: Cli, maker: Maker, name: str) -> None:
    maker.put("tiny")
    for command in ("show", "path", "rm", "pull"):
        result = cli(command, "--", name)
        assert result.code == 2
        assert "is not a " in result.errors
    assert cli("list").lines[1].startswith("tiny:latest")


FAILURES = [
    (errors.NotFoundError("gone"), 3),
    (errors.AuthenticationError("who"), 4),
    (errors.DigestMismatchError("bytes"), 5),
    (errors.RegistryError("net", status=500, code="X"), 6),
    (errors.StoreError("disk"), 7),
    (errors.ModelError("model"), 9),
    (errors.RunnerError("engine"), 9),
    (errors.InvalidReferenceError("name"), 2),
    (KeyboardInterrupt(), 130),
    (TypeError("a bug"), 1),
    (SystemExit(3), 1),
    (click.UsageError("usage"), 2),
]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make a command `fail` that raises."""

    def make(error: BaseException) -> None:
        @main.PROGRAM.command("fail")
        def fail() -> None:
            raise error

    def get_command(context: click.Context, name: str) -> click.Command | None:
        return main.PROGRAM.commands.get(name)

    monkeypatch.setattr(main.PROGRAM, "get_command", get_command)
    return make


@pytest.mark.parametrize(("error", "code"), FAILURES, ids=lambda value: type(value).__name__)
def test_every_failure_has_its_exit_code_and_one_line(
    cli: Cli,
    failing: Callable[[BaseException], None],
    error: BaseException,
    code: int,
) -> None:
    failing(error)
    result = cli("fail")
    assert result.code == code
    assert result.output == ""
    assert "Traceback" not in result.errors
    told = result.errors.splitlines()[-1]
    assert told == "interrupted" if code == 130 else told.startswith("Error: ")
    if code == 1:
        assert "unexpected error" in told
        assert "--debug" in told


def test_debug_shows_where_it_comes_from(
    cli: Cli, failing: Callable[[BaseException], None]
) -> None:
    failing(TypeError("a bug"))
    told = cli("--debug", "fail")
    assert "Traceback" in told.errors
    assert told.errors.splitlines()[-1] == "Error: unexpected error: TypeError: a bug"
    failing(click.UsageError("usage"))
    assert "Traceback" not in cli("--debug", "fail").errors


def test_a_failure_as_json_is_the_last_line(cli: Cli, maker: Maker) -> None:
    maker.put("tiny")
    for arguments in (("--json", "show", "none"), ("show", "none", "--json")):
        result = cli(*arguments)
        assert result.code == 3
        assert result.errors == ""
        assert result.records == [
            {
                "error": {
                    "class": "NotFoundError",
                    "code": 3,
                    "message": "none is not installed (try: modelpm pull none)",
                }
            }
        ]


def test_a_hostile_message_is_shown_on_one_line(
    cli: Cli, failing: Callable[[BaseException], None]
) -> None:
    failing(errors.RegistryError(f"the registry says {HOSTILE}\nsuccess"))
    for option in ((), ("--debug",), ("--json",)):
        result = cli(*option, "fail")
        assert not NEVER & set(result.errors + result.output)
    assert len(cli("fail").errors.splitlines()) == 1


def run(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output="stdout" not in options, timeout=60, **options
    )


def test_a_reader_that_leaves_is_no_error(maker: Maker) -> None:
    for number in range(3):
        maker.put(f"tiny{number}")
    reading, writing = os.pipe()
    os.close(reading)
    for arguments in (("list",), ("show", "tiny0"), ("--help",), ("show", "tiny0", "--manifest")):
        done = run(*arguments, stdout=writing, stderr=subprocess.PIPE)
        assert done.stderr == b""
        assert done.returncode == main.BROKEN_PIPE
    os.close(writing)


def test_a_full_disk_is_told(maker: Maker) -> None:
    maker.put("tiny")
    with Path("/dev/full").open("wb") as full:
        done = run("list", stdout=full, stderr=subprocess.PIPE)
    assert done.stderr == b"Error: reading or writing failed: No space left on device\n"
    assert done.returncode == 1


def test_closed_streams_do_no_harm(maker: Maker) -> None:
    maker.put("tiny")
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *PROGRAM]
    assert subprocess.run([*command, "list"], timeout=60).returncode == 0
    assert subprocess.run([*command, "show", "none"], timeout=60).returncode == 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_locale_takes_any_text(maker: Maker, encoding: str) -> None:
    maker.put("tiny", system="日本 é \udcff".encode("utf-8", "replace").decode(), license="©")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    for arguments in (("show", "tiny"), ("show", "tiny", "--system"), ("rm", "\udcffx")):
        done = run(*arguments, env=environment)
        assert b"UnicodeEncodeError" not in done.stderr
        assert done.returncode == (2 if "rm" in arguments else 0)


def test_the_settings_of_a_line_that_never_began_are_its_words(cli: Cli) -> None:
    result = cli("--json", "--nope")
    assert result.records[0]["error"]["class"] == "NoSuchOption"
    assert result.errors == ""


def test_json_from_the_environment_is_for_usage_errors_too(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELPM_JSON", "1")
    assert cli("list", "--nope").records[0]["error"]["code"] == 2


def test_a_failure_that_nobody_hears_of_keeps_its_exit_code(maker: Maker) -> None:
    maker.put("tiny")
    reading, writing = os.pipe()
    os.close(reading)
    for option in ((), ("--json",), ("--debug",)):
        assert run("show", "none", *option, stdout=writing, stderr=writing).returncode == 3
    os.close(writing)


@pytest.mark.parametrize(
    ("arguments", "usage", "sentence"),
    [
        (("pul", "x"), "modelpm [OPTIONS]", "No such command 'pul'.\nDid you mean pull?"),
        (("lits",), "modelpm [OPTIONS]", "No such command 'lits'.\nDid you mean list or ls?"),
        (("frobnicate",), "modelpm [OPTIONS]", "No such command 'frobnicate'."),
        (("--frobnicate", "list"), "modelpm [OPTIONS]", "No such option"),
        (("list", "--remote"), "modelpm list", "Option '--remote' requires an argument."),
        (("rm", "x", "--frobnicate"), "modelpm rm", "No such option"),
        (
            ("import",),
            "modelpm import",
            "Missing argument 'PROGRAM'. Choose from: ollama, hf, lmstudio",
        ),
        (("completion", "tcsh"), "modelpm completion", "Invalid value for 'SHELL': 'tcsh' is not"),
    ],
)
def test_wrong_use_is_told_below_the_usage(
    cli: Cli, arguments: tuple[str, ...], usage: str, sentence: str
) -> None:
    result = cli(*arguments)
    assert result.code == 2
    lines = result.errors.splitlines()
    assert lines[0].startswith(f"Usage: {usage}")
    assert lines[1].startswith("Try 'modelpm ")
    assert lines[2] == ""
    assert "\n".join(lines[3:]).startswith(f"Error: {sentence}")
    assert len(lines) == 4 + sentence.count("\n")
