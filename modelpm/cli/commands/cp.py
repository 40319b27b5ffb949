"""`modelpm cp`."""

import click

from modelpm.cli import output
from modelpm.cli.clients import InstalledName, open_client
from modelpm.cli.options import Settings, verb


@verb("cp")
@click.argument("source", metavar="SRC", type=InstalledName())
@click.argument("name", metavar="DST")
@click.pass_obj
def command(settings: Settings, source: str, name: str) -> None:
    """Give a model a second name.

    DST then means what SRC means now; no bytes are copied.
    """
    with open_client(settings) as client:
        model = client.copy(source, name)
    if settings.json:
        output.document({"name": model.name, "digest": str(model.digest)})
    elif not settings.quiet:
        output.say(f"copied {source} to {model.short_name}")
