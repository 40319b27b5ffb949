"""`modelpm rm`."""

import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import click

from modelpm.cli import output
from modelpm.cli.clients import InstalledName, open_client
from modelpm.cli.options import Settings, verb
from modelpm.client import Client, Installed, Removal
from modelpm.errors import ModelPMError, NotFoundError


@verb("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=InstalledName())
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--remote", is_flag=True, help="Delete at the registry, not here.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before deleting at a registry.")
@click.option(
    "--force", is_flag=True, help="Delete there even if other tags go with it.", default=False
)
@click.pass_obj
def command(
    settings: Settings, names: Sequence[str], dry_run: bool, remote: bool, yes: bool, force: bool
) -> None:
    """Delete names, all of them or none.

    The bytes stay until `modelpm prune`. With --remote the names are deleted at their registries,
    for everybody: a tag, or by its digest a manifest with all of its tags.
    """
    if remote:
        _remove_remote(settings, names, dry_run=dry_run, yes=yes, force=force)
        return
    if yes or force:
        raise click.UsageError(
            "--yes and --force are for --remote: names that go here cost nothing"
        )
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


def _remove_remote(
    settings: Settings, names: Sequence[str], *, dry_run: bool, yes: bool, force: bool
) -> None:
    from modelpm.cli.credentials import find_credentials  # noqa: PLC0415 - lazy: start-up time

    with open_client(settings, credentials=find_credentials(settings)) as client:
        is_told_of = force and (dry_run or not yes)
        removals = [
            client.plan_removal(name, with_others=is_told_of) for name in dict.fromkeys(names)
        ]
        if not dry_run:
            if not yes:
                _ask(removals, force=force)
            removals = _removed(client, removals, force=force)
    if settings.json:
        deleted = [_document(each) for each in removals]
        output.document({"dry_run": dry_run, "deleted": deleted})
    elif dry_run or not settings.quiet:
        for removal in removals:
            may_go = _may_go(removal) if dry_run and force else ""
            output.say(f"{'would delete' if dry_run else 'deleted'} {_told(removal)}{may_go}")


def _document(removal: Removal) -> dict[str, object]:
    told: dict[str, object] = {
        "name": removal.reference.name,
        "digest": str(removal.digest),
        "tags": list(removal.tags),
    }
    return told if removal.others is None else {**told, "may_go_too": list(removal.others)}


def _removed(client: Client, removals: Sequence[Removal], *, force: bool) -> list[Removal]:
    """What is deleted, one after the other, each manifest at most once.

    A name may have gone with one of the same manifest that was deleted before it; manifests that
    are named by digest go first. A failure notes what was deleted before it.
    """
    named: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for removal in removals:
        named[_place(removal)].update(removal.tags)
    begun: set[tuple[str, str, str]] = set()
    gone: set[tuple[str, str, str]] = set()
    done: list[Removal] = []
    for removal in sorted(removals, key=lambda each: each.reference.digest is None):
        place, digest = _place(removal), str(removal.digest)
        if (*place, removal.reference.target) in gone:
            continue
        try:
            done.append(client.remove_remote(removal, also=named[place], force=force))
        except ModelPMError as error:
            if isinstance(error, NotFoundError) and (*place, digest) in begun:
                continue  # some registries delete the manifest too, and say nothing of it
            if done:
                error.add_note(f"deleted before that: {'; '.join(map(_told, done))}")
            raise
        begun.add((*place, digest))
        gone.update((*place, tag) for tag in done[-1].tags)
    return done


def _place(removal: Removal) -> tuple[str, str]:
    return removal.reference.registry, removal.reference.repository


def _ask(removals: Sequence[Removal], *, force: bool) -> None:
    """Let a person decide. Raises UsageError where there is none, KeyboardInterrupt at a no."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("deleting at a registry is for everybody: say --yes to do it")
    for removal in removals:
        may_go = _may_go(removal) if force else ""
        output.note(f"to be deleted, for everybody: {_told(removal)}{may_go}")
    try:
        is_wanted = click.confirm("Delete?", err=True)
    except click.Abort:  # Ctrl-C, or the end of the input
        is_wanted = False
    if not is_wanted:
        raise KeyboardInterrupt("nothing was deleted")


def _told(removal: Removal) -> str:
    """What goes, in words."""
    reference = removal.reference
    if reference.digest is None:
        others = ", ".join(tag for tag in removal.tags if tag != reference.tag)
        more = f", and with it its tags {others}" if others else ""
        return f"{reference.name} ({removal.digest.short}{more})"
    tags = ", ".join(removal.tags)
    return f"{reference.name} ({f'with its tags {tags}' if tags else 'which has no tag'})"


def _may_go(removal: Removal) -> str:
    """What else may go, by force: only the deletion itself shows what a registry can do."""
    if removal.reference.digest is not None or removal.others == ():
        return ""
    others = ", ".join(removal.others) if removal.others else "all other tags of this manifest"
    return f"; where the registry deletes no tag by itself, also {others}"


def _unique(models: Iterable[Installed]) -> list[Installed]:
    return list({model.name: model for model in models}.values())


def _garbage(client: Client, without: Collection[str] = ()) -> int | None:
    """Bytes that a prune frees once these names are gone; None where that cannot be told."""
    try:
        return client.garbage(without).size
    except ModelPMError as error:
        output.note(f"prune cannot work yet: {error}")
        return None
