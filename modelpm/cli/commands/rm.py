"""`modelpm rm`."""

from collections.abc import Iterable, Sequence

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
            freed: int | None = _alone(client, models)
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


def _alone(client: Client, models: Sequence[Installed]) -> int:
    """Bytes of config and layers that only these names need."""
    names = {model.name for model in models}
    kept = {
        desc.digest
        for model in client.list()
        if model.name not in names
        for desc in model.manifest.successors
    }
    sizes = {desc.digest: desc.size for model in models for desc in model.manifest.successors}
    return sum(count for digest, count in sizes.items() if digest not in kept)


def _garbage(client: Client) -> int | None:
    """Bytes that a prune frees now; None where that cannot be told. The names are gone anyway."""
    try:
        return client.garbage().size
    except ModelPMError as error:
        output.note(f"prune cannot work yet: {error}")
        return None
