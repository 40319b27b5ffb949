"""What a settings file may say: a TOML document that becomes click's default map.

default-registry = "ghcr.io/acme"       a global option, by its long name
[run]                                   an option of one command
verbose = true
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

MAX_BYTES = 2**20


def load(path: Path, root: click.Context) -> dict[str, Any]:
    """The default map of this file. Raises UsageError, which names the file and the key."""
    program = root.command
    if not isinstance(program, click.Group):
        raise TypeError(program)
    document = _read(path)
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    plain = {key: value for key, value in document.items() if key not in tables}
    shared = _values(path, "", plain, program.params)
    names = program.list_commands(root)
    for name in tables:
        if name not in names:
            raise click.UsageError(f"{path}: {name!r} is no command")
    result: dict[str, Any] = dict(shared)
    for name in names:
        command = program.get_command(root, name) if name in tables else None
        own = _values(path, f"{name}.", tables[name], command.params) if command else {}
        result[name] = shared | own
    return result


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise click.UsageError(f"{path} has more than {MAX_BYTES} bytes")
        return tomllib.loads(content.decode())
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # the decoder's and tomllib's
        raise click.UsageError(f"{path} is not TOML: {error}") from None


def _values(
    path: Path, where: str, table: Mapping[str, object], params: Iterable[click.Parameter]
) -> dict[str, object]:
    """A table's values by the names that click uses."""
    options = {
        name.removeprefix("--"): option
        for option in params
        if isinstance(option, click.Option) and option.expose_value
        for name in option.opts
        if name.startswith("--")
    }
    values: dict[str, object] = {}
    for key, value in table.items():
        option = options.get(key)
        if option is None or option.name is None:
            raise click.UsageError(f"{path}: there is no option {where + key!r}")
        flaw = _flaw(option, value)
        if flaw:
            raise click.UsageError(f"{path}: {where}{key} {flaw}")
        is_path = isinstance(option.type, click.Path) and isinstance(value, str)
        values[option.name] = str(_at_home(Path(str(value)))) if is_path else value
    return values


def _at_home(path: Path) -> Path:
    """The path with a leading `~` as a shell means it, where there is such a user."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _flaw(option: click.Option, value: object) -> str:
    """What is wrong with a value, or nothing."""
    if option.is_flag:
        return "" if isinstance(value, bool) else "is true or false"
    if isinstance(option.type, click.IntRange):
        # Whether the number will do is for click to tell.
        return "" if type(value) is int else "is a whole number"
    if option.multiple:
        is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return "" if is_list else "is a list of strings"
    return "" if isinstance(value, str) else "is a string"
