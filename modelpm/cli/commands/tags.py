"""`modelpm tags`."""

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

    REPO is a name without a tag, as `llama2` or `ghcr.io/acme/tiny`. The order is the registry's.
    """
    with open_client(settings, credentials=find_credentials(settings)) as client:
        tags = client.tags(repository, everything=everything)
    if settings.json:
        output.document(list(tags))
        return
    for tag in tags:
        output.say(tag)
