"""`modelpm mirror`."""

import click

from modelpm.cli.downloads import bounded, limits
from modelpm.cli.options import Settings, verb
from modelpm.cli.progress import MIRROR
from modelpm.cli.transfers import each, one_client, tell_pushed
from modelpm.client import Client
from modelpm.errors import NotFoundError

KEPT = "what the registry has is kept: run the same command again to go on"


@verb("mirror")
@click.argument("source", metavar="SRC")
@click.argument("goal", metavar="DST")
@click.option("--all-tags", is_flag=True, help="Copy every tag of the repository SRC.")
@click.option(
    "--no-referrers", is_flag=True, help="Leave signatures and all else that refers to it."
)
@bounded
@click.pass_context
def command(
    context: click.Context,
    source: str,
    goal: str,
    all_tags: bool,
    no_referrers: bool,
    connections: int,
    limit_rate: int,
) -> None:
    """Copy a model from one registry to another.

    Nothing is kept on this machine, and no digest changes: an index goes with all that it holds,
    and signatures and other referrers go along. DST without a tag gets the tag of SRC. What DST
    has is not copied again. Prints `HOST/REPOSITORY@DIGEST` of what is there now.
    """
    settings: Settings = context.obj
    bounds = limits(connections, limit_rate)
    with one_client(settings, MIRROR, KEPT, bounds) as (client, told):

        def mirror(name: str) -> None:
            with told():
                pushed = client.mirror(name, goal, with_referrers=not no_referrers)
            tell_pushed(settings, pushed, referrers=pushed.referrers)

        each(context, _tags(client, source, goal) if all_tags else [source], mirror)


def _tags(client: Client, source: str, goal: str) -> list[str]:
    """All models of a repository, by their tags."""
    client.repository(goal)
    tags = client.tags(source)
    if not tags:
        raise NotFoundError(f"{source} has no tags")
    return [f"{source}:{tag}" for tag in tags]
