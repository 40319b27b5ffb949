"""`modelpm rm`."""

from collections.abc import Collection, Iterable, Sequence

import click

from modelpm.cli import output
from modelpm.cli.clients import InstalledName, open_client
from modelpm.cli.options import Settings, verb
from modelpm.client import Client, Installed
from modelpm.errors import ModelPMError


@verb("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=InstalledName())
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.pass_obj
def command(settings: Settings, names: Sequence[str], dry_run: bool) -> None:
    """Delete names, all of them or none.

    The bytes stay until `modelpm prune`.
    """
    with open_client(settings) as client:
        if dry_run:
            models = _unique(client.get(name) for name in names)
            freed = _garbage(client, {model.name for model in models})
        else:
            models = _unique(client.remove(names))
            freed = _garbage(client)
    if settings.json:
        gone = [model.name for model in models]
        output.document({"dry_run": dry_run, "deleted": gone, "prunable": freed})
    elif dry_run or not settings.quiet:
        for model in models:
            output.say(f"{'would delete' if dry_run else 'deleted'} {model.short_name}")
        if freed:
            output.note(
                f"modelpm prune {'would then free' if dry_run else 'frees'} {output.size(freed)}"
            )


def _unique(models: Iterable[Installed]) -> list[Installed]:
    return list({model.name: model for model in models}.values())


def _garbage(client: Client, without: Collection[str] = ()) -> int | None:
    """Bytes that a prune frees once these names are gone; None where that cannot be told."""
    try:
        return client.garbage(without).size
    except ModelPMError as error:
        output.note(f"prune cannot work yet: {error}")
        return None
