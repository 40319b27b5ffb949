"""`modelpm list`."""

import fnmatch

import click

from modelpm.cli import output
from modelpm.cli.clients import InstalledName, open_client
from modelpm.cli.network import host_name
from modelpm.cli.options import Settings, verb


def _host(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else host_name(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no host, as ghcr.io or localhost:5000 is") from None


@verb("list")
@click.argument("pattern", default="", type=InstalledName())
@click.option(
    "--remote",
    metavar="HOST",
    callback=_host,
    help="List the repositories of a registry instead.",
)
@click.pass_obj
def command(settings: Settings, pattern: str, remote: str | None) -> None:
    """List the models that are here.

    PATTERN is a glob (`*`, `?`, `[...]`) or the beginning of a name.
    """
    if remote is not None:
        _list_remote(settings, remote, pattern)
        return
    with open_client(settings) as client:
        models = client.list(pattern)
    if settings.json:
        output.document(
            [
                {
                    "name": model.name,
                    "short_name": model.short_name,
                    "digest": str(model.digest),
                    "size": model.size,
                    "modified": model.modified or None,
                }
                for model in models
            ]
        )
        return
    rows = [
        (model.short_name, model.digest.short, output.size(model.size), output.age(model.modified))
        for model in models
    ]
    output.table(("NAME", "ID", "SIZE", "MODIFIED"), rows)


def _list_remote(settings: Settings, host: str, pattern: str) -> None:
    """The repositories that the registry tells of; a pattern is of their names there."""
    from modelpm.cli.credentials import find_credentials  # noqa: PLC0415 - lazy: start-up time

    glob = pattern if any(mark in pattern for mark in "*?[") else f"{pattern}*"
    with open_client(settings, credentials=find_credentials(settings)) as client:
        names = [
            f"{host}/{name}" for name in client.catalog(host) if fnmatch.fnmatchcase(name, glob)
        ]
    if settings.json:
        output.document(names)
        return
    for name in names:
        output.say(name)
