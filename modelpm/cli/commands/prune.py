"""`modelpm prune`."""

from pathlib import Path

import click

from modelpm.cli import output
from modelpm.cli.clients import open_client
from modelpm.cli.options import Settings, verb
from modelpm.store.gc import Garbage


@verb("prune")
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted.")
@click.pass_obj
def command(settings: Settings, dry_run: bool) -> None:
    """Delete what no name needs.

    These are blobs that nothing reaches, downloads that were left, and files that do not belong
    to the store. What a running pull needs is kept. With --dry-run exactly what would be deleted
    is listed.
    """
    with open_client(settings) as client:
        garbage = client.garbage()
        if not dry_run:
            garbage = client.prune(garbage)
        home = client.home
    if settings.json:
        output.document(
            {
                "dry_run": dry_run,
                "deleted": [
                    {"kind": kind, "item": item, "size": size}
                    for kind, item, size in _items(garbage, home)
                ],
                "size": garbage.size,
            }
        )
    elif dry_run or not settings.quiet:
        if garbage:
            shorts = {str(digest): digest.short for digest, _ in garbage.blobs}
            rows = [
                (kind, output.size(size), shorts.get(item, item))
                for kind, item, size in _items(garbage, home)
            ]
            output.table(("KIND", "SIZE", "ITEM"), rows)
        output.say(f"{'would free' if dry_run else 'freed'} {output.exact_size(garbage.size)}")


def _items(garbage: Garbage, home: Path) -> list[tuple[str, str, int]]:
    """Kind, digest or path in the store, and bytes of each thing."""
    return [
        *(("blob", str(digest), stored.size) for digest, stored in garbage.blobs),
        *(("download", _inside(stored.path, home), stored.size) for stored in garbage.drafts),
        *(("stray", _inside(stored.path, home), stored.size) for stored in garbage.strays),
    ]


def _inside(path: Path, home: Path) -> str:
    return str(path.relative_to(home)) if path.is_relative_to(home) else str(path)
