"""What a settings file may say: a TOML document that becomes click's default map, and hosts.

default-registry = "ghcr.io/acme"       a global option, by its long name
[run]                                   an option of one command
verbose = true
[host."registry.acme.example:5000"]     what holds for one registry
ca-file = "~/acme.pem"

Relative paths of the global options and of hosts begin at the file's own folder.
"""

import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from modelpm.cli.network import checked_mirrors, host_name
from modelpm.errors import RegistryError
from modelpm.registry.hosts import HostSettings, Named

MAX_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Found:
    """What a file says: click's default map, and the hosts that have a table."""

    defaults: dict[str, Any]
    hosts: dict[str, HostSettings]


def load(path: Path, root: click.Context) -> Found:
    """What this file says. Raises UsageError, which names the file and the key."""
    program = root.command
    if not isinstance(program, click.Group):
        raise TypeError(program)
    document = _read(path)
    hosts = _hosts(path, document.pop("host", {}))
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    plain = {key: value for key, value in document.items() if key not in tables}
    shared = _values(path, "", plain, program.params, program.params)
    names = program.list_commands(root)
    for name in tables:
        if name not in names:
            raise click.UsageError(f"{path}: {name!r} is no command")
    result: dict[str, Any] = dict(shared)
    for name in names:
        command = program.get_command(root, name) if name in tables else None
        own = (
            _values(path, f"{name}.", tables[name], command.params, program.params)
            if command
            else {}
        )
        result[name] = shared | own
    return Found(result, hosts)


def _hosts(path: Path, tables: object) -> dict[str, HostSettings]:
    if not isinstance(tables, dict):
        raise click.UsageError(f'{path}: host is a table of tables: [host."ghcr.io"]')
    found = {}
    for name, table in tables.items():
        where = f'host."{name}"'
        if not isinstance(table, dict):
            raise click.UsageError(f"{path}: {where} is a table")
        try:
            host = host_name(name)
        except ValueError:
            raise click.UsageError(
                f"{path}: {where}: {name!r} is no host, as ghcr.io or localhost:5000 is"
            ) from None
        if host in found:
            raise click.UsageError(f"{path}: {where}: {host} has a table already")
        found[host] = _host(path, where, table)
    return found


def _host(path: Path, where: str, table: Mapping[str, object]) -> HostSettings:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _HOST_KEYS:
            raise click.UsageError(f"{path}: there is no key {key!r} in {where}")
        field, read = _HOST_KEYS[key]
        try:
            values[field] = read(value)
        except click.UsageError as error:
            raise click.UsageError(f"{path}: {where}: {key} {error}") from None
        except RegistryError as error:
            raise click.UsageError(f"{path}: {where}: {key} has a wrong URL: {error}") from None
    for field in _FILES & values.keys():
        values[field] = _placed(path, values[field])
    names = {field: f"{path}: {where}: {field.replace('_', '-')}" for field in _FILES}
    return HostSettings(**values, named=Named(**names))


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise click.UsageError("is true or false")
    return value


def _file(value: object) -> str:
    if not _is_string(value):
        raise click.UsageError("is a string, without NUL")
    return str(value)


def _strings(value: object) -> list[str]:
    if not (isinstance(value, list) and all(map(_is_string, value))):
        raise click.UsageError("is a list of strings, without NUL")
    return value


def _is_string(value: object) -> bool:
    """Whether a value is what a command line could say: there is no NUL in it."""
    return isinstance(value, str) and "\0" not in value


def _origins(value: object) -> frozenset[str]:
    from modelpm.registry.url import Origin  # noqa: PLC0415 - lazy: start-up time

    return frozenset(str(Origin.of(text)) for text in _strings(value))


_FILES = frozenset({"ca_file", "client_certificate", "client_key"})
"""The fields of HostSettings that name files."""

_HOST_KEYS: Mapping[str, tuple[str, Callable[[object], object]]] = {
    "ca-file": ("ca_file", _file),
    "client-certificate": ("client_certificate", _file),
    "client-key": ("client_key", _file),
    "plain-http": ("plain_http", _flag),
    "insecure-login": ("insecure_login", _flag),
    "mirrors": ("mirrors", lambda value: checked_mirrors(_strings(value))),
    "trust-realm": ("trusted_realms", _origins),
}
"""The keys of a host's table: the field of HostSettings, and who reads the value."""


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
    path: Path,
    where: str,
    table: Mapping[str, object],
    params: Iterable[click.Parameter],
    shared: Collection[click.Parameter],
) -> dict[str, object]:
    """A table's values by the names that click uses; `shared` are the options of all commands."""
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
        values[option.name] = _located(path, option, value, is_shared=option in shared)
    return values


def _located(path: Path, option: click.Option, value: object, *, is_shared: bool) -> object:
    """The value, with `~` and the beginning of relative paths in it put in."""
    if isinstance(option.type, click.Path) and isinstance(value, str):
        return _placed(path, value) if is_shared else str(_at_home(Path(value)))
    if option.metavar == "HOST=FILE" and isinstance(value, list):
        parts = [text.partition("=") for text in value]
        return [
            f"{host}={_placed(path, file)}" if file else host + sign for host, sign, file in parts
        ]
    return value


def _placed(path: Path, text: str) -> str:
    """A path that this settings file names."""
    return str(path.absolute().parent / _at_home(Path(text)))


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
        is_list = isinstance(value, list) and all(map(_is_string, value))
        return "" if is_list else "is a list of strings, without NUL"
    return "" if _is_string(value) else "is a string, without NUL"
