"""`modelpm tags`."""

import re

import click

from modelpm.cli import output
from modelpm.cli.clients import open_client
from modelpm.cli.credentials import find_credentials
from modelpm.cli.options import Settings, verb


@verb("tags")
@click.argument("repository", metavar="REPO")
@click.option("--all", "everything", is_flag=True, help="Also the tags of signatures and the like.")
@click.pass_obj
def command(settings: Settings, repository: str, everything: bool) -> None:
    """List the tags of a repository at its registry.

    REPO is a name without a tag, as `llama2` or `ghcr.io/acme/tiny`. They are sorted, numbers by
    their value: `v2` stands before `v10`.
    """
    with open_client(settings, credentials=find_credentials(settings)) as client:
        tags = sorted(client.tags(repository, everything=everything), key=_order)
    if settings.json:
        output.document(tags)
        return
    for tag in tags:
        output.say(tag)


def _order(tag: str) -> list[tuple[bool, int, str]]:
    """What a tag is sorted by: its numbers by value, and before words."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", tag)
    return [
        (False, int(piece), piece) if piece.isdecimal() else (True, 0, piece) for piece in pieces
    ]
