"""`modelpm push`."""

from collections.abc import Sequence

import click

from modelpm.cli.clients import InstalledName
from modelpm.cli.downloads import bounded, limits
from modelpm.cli.options import Settings, verb
from modelpm.cli.progress import PUSH
from modelpm.cli.transfers import each, one_client, tell_pushed
from modelpm.client import Client
from modelpm.errors import NotFoundError

KEPT = "what the registry has is kept: run the same command again to go on"


@verb("push")
@click.argument("names", metavar="NAME [REF]", nargs=-1, required=True, type=InstalledName())
@click.option("--to", metavar="REF", help="Where to; the same as REF.")
@click.option("--all-tags", is_flag=True, help="Push all tags of the repository NAME.")
@bounded
@click.pass_context
def command(
    context: click.Context,
    names: Sequence[str],
    to: str | None,
    all_tags: bool,
    connections: int,
    limit_rate: int,
) -> None:
    """Bring a model that is here to a registry.

    REF is where to, as `ghcr.io/acme/tiny:7b`; without it the name itself says so, and without a
    tag it gets the tag of NAME. Of three names and more each goes where it says. What the registry
    has is not sent again, its digest does not change, and what was interrupted goes on where it
    ended. Prints `HOST/REPOSITORY@DIGEST`, the name that means these bytes for ever.
    """
    settings: Settings = context.obj
    bounds = limits(connections, limit_rate)
    with one_client(settings, PUSH, KEPT, bounds) as (client, told):
        names, to = _split(client, names, to)
        if all_tags:
            names = _all_tags(client, names, to)

        def push(name: str) -> None:
            with told():
                pushed = client.push(name, to or "")
            tell_pushed(settings, pushed)

        each(context, names, push)


def _split(
    client: Client, names: Sequence[str], to: str | None
) -> tuple[Sequence[str], str | None]:
    """What is pushed, and where to. Raises UsageError where two words may mean two things."""
    if to is not None and len(names) > 1:
        raise click.UsageError("only one model can be pushed to one place")
    if to is not None or len(names) != 2:
        return names, to
    digests = [_digest(client, name) for name in names]
    if None not in digests and digests[0] != digests[1]:
        raise click.UsageError(
            f"{names[1]} is another model that is here: to push {names[0]} in its place,"
            f" say --to {names[1]}; to push both, push each by itself"
        )
    return names[:1], names[1]


def _digest(client: Client, name: str) -> str | None:
    try:
        return str(client.get(name).digest)
    except NotFoundError:
        return None


def _all_tags(client: Client, names: Sequence[str], to: str | None) -> list[str]:
    """The tags that are here of these repositories, as names."""
    if to is not None:
        client.repository(to)
    found: list[str] = []
    for name in names:
        wanted = client.repository(name)
        start = f"{wanted.registry}/{wanted.repository}:"
        tags = [model.short_name for model in client.list() if model.name.startswith(start)]
        if not tags:
            raise NotFoundError(f"no tag of {name} is installed (try: modelpm list)")
        found += tags
    return found
