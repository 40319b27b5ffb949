"""`modelpm path`."""

import os
import sys

import click

from modelpm.cli import output
from modelpm.cli.clients import InstalledName, open_client
from modelpm.cli.options import Settings, verb


@verb("path")
@click.argument("name", type=InstalledName())
@click.pass_obj
def command(settings: Settings, name: str) -> None:
    """Print the path of a model's weights, verified.

    The file is read-only, and stays as long as a name needs it. Of weights in several files NAME
    must say which one is meant, as NAME#FILE: `export` writes all of them into a folder.
    """
    with open_client(settings) as client:
        model = client.get(name)
        path = model.file
    if settings.json:
        output.document({"name": model.name, "path": str(path)})
    elif sys.stdout.isatty():
        output.say(str(path))
    else:
        output.raw(os.fsencode(path) + b"\n")
