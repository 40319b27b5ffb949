"""`modelpm convert`."""

from typing import Any

import click

from modelpm.cli.clients import InstalledName, open_client
from modelpm.cli.options import Settings, verb
from modelpm.cli.written import tell, wish_of, written


@verb("convert")
@click.argument("name", type=InstalledName())
@click.argument("new", metavar="NEW")
@written
@click.pass_obj
def command(settings: Settings, /, name: str, new: str, **wish: Any) -> None:
    """Write a model in another format.

    No layer is copied: the new manifest names the bytes that are here. What the format has no
    place for is an error, or with --lossy left out. Chat templates are never translated.
    """
    with open_client(settings) as client:
        model = client.convert(name, new, wish_of(wish))
    tell(settings, model, "converted to")
