"""`modelpm pull`."""

from collections.abc import Sequence

import click

from modelpm.cli import output
from modelpm.cli.clients import open_client
from modelpm.cli.credentials import find_credentials
from modelpm.cli.downloads import bounded, limits
from modelpm.cli.options import Settings, verb
from modelpm.cli.progress import PULL
from modelpm.cli.transfers import each, moving
from modelpm.client import Installed
from modelpm.errors import DigestMismatchError

KEPT = "what has arrived is kept: run the same command again to go on"
DAMAGED = "nothing wrong was kept; if this happens again, tell whoever runs the registry"


@verb("pull")
@click.argument("names", metavar="REF...", nargs=-1, required=True)
@bounded
@click.pass_context
def command(
    context: click.Context, names: Sequence[str], connections: int, limit_rate: int
) -> None:
    """Bring models here, verified.

    What is here already is not fetched again, and an interrupted download goes on where it ended.
    A REF is a name like `llama2`, `ghcr.io/acme/tiny:7b` or `team/model@sha256:...`. When one
    cannot be pulled, the others still are, and the exit code is that of the first failure.
    """
    each(context, names, lambda name: pull(context.obj, name, connections, limit_rate))


def pull(settings: Settings, name: str, connections: int, limit_rate: int) -> Installed:
    """Pull one model, telling how it goes and, as JSON, what came of it. Raises as `bring`."""
    model = bring(settings, name, connections, limit_rate)
    if settings.json:
        told = {"name": model.name, "digest": str(model.digest), "size": model.size}
        output.record({"status": "success", **told})
    return model


def bring(settings: Settings, name: str, connections: int, limit_rate: int) -> Installed:
    """Pull one model, telling how it goes.

    A failure has a note of what to do next, where its message cannot know.
    """
    bounds = limits(connections, limit_rate)
    try:
        with (
            moving(settings, PULL, KEPT) as observe,
            open_client(settings, observe, find_credentials(settings), bounds) as client,
        ):
            return client.pull(name)
    except DigestMismatchError as error:
        error.add_note(DAMAGED)
        raise
