"""`modelpm import`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from modelpm.cli import output
from modelpm.cli.clients import open_client
from modelpm.cli.options import Settings, settings_of, verb
from modelpm.cli.places import PROGRAMS, places
from modelpm.cli.progress import MAKE, watching
from modelpm.cli.transfers import each
from modelpm.client import Client
from modelpm.errors import ModelPMError, NotFoundError, StoreError

if TYPE_CHECKING:
    from modelpm.foreign.found import Found


class ForeignName(click.types.StringParamType):
    """The name of a model that another program keeps; a shell completes it."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin so."""
        del param
        program = ctx.params.get("program")
        try:
            with open_client(settings_of(ctx)) as client:
                found = _found(client, str(program), ctx.params.get("folder"))
        except (ModelPMError, KeyError):
            return []
        names = (each.name for each in found if not each.flaw)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@verb("import")
@click.argument("program", metavar="PROGRAM", type=click.Choice(PROGRAMS))
@click.argument("names", metavar="[NAME]...", nargs=-1, type=ForeignName())
@click.option(
    "--from", "folder", metavar="DIR", type=click.Path(), help="Where the program keeps them."
)
@click.option("--all", "everything", is_flag=True, help="Take in all of them.")
@click.option("--as", "new", metavar="NAME", help="Another name here, for one model.")
@click.pass_context
def command(
    context: click.Context,
    program: str,
    names: Sequence[str],
    folder: str | None,
    everything: bool,
    new: str | None,
) -> None:
    """Take in models that Ollama, Hugging Face or LM Studio keep here.

    PROGRAM is ollama, hf (the cache of Hugging Face) or lmstudio. Without a NAME the models are
    listed. A NAME is as in that list; REPO@REVISION means another revision of a Hugging Face
    repository.

    Files are taken in by reflink or hard link where that can be done, else they are copied; every
    byte is verified, and nothing of the other program is changed. A model of Ollama keeps its name
    and its digest. What is here already is skipped. When one cannot be taken in, the others still
    are, and the exit code is that of the first failure.
    """
    settings: Settings = context.obj
    if new is not None and (len(names) != 1 or everything):
        raise click.UsageError("--as is for one NAME")
    if names and everything:
        raise click.UsageError("give NAMEs or --all, not both")
    with open_client(settings) as client:
        found = _found(client, program, folder)
        if not names and not everything:
            _list(settings, client, found)
            return
    each(
        context,
        names or [one.name for one in found],
        lambda name: _take_in(settings, _wanted(found, name, program), new or ""),
        key="from",
        has_heads=False,
    )


def _found(client: Client, program: str, folder: str | None) -> "tuple[Found, ...]":
    """What the program keeps in its places, or in this one. Raises NotFoundError for none."""
    if folder is not None:
        return client.foreign(program, folder)
    found: list[Found] = []
    missing: list[NotFoundError] = []
    closed: list[StoreError] = []
    for place in places(program):
        try:
            found += client.foreign(program, place)
        except NotFoundError as error:
            missing.append(error)
        except StoreError as error:  # the place of a service may be that service's alone
            closed.append(error)
    if not found and (closed or missing):
        raise (*closed, *missing)[0]
    for failure in closed:
        output.note(f"Warning: {failure}")
    return tuple(found)


def _wanted(found: "Sequence[Found]", name: str, program: str) -> "Found":
    for one in found:
        if one.fits(name):
            return one
    raise NotFoundError(f"{name} is not there (try: modelpm import {program})")


def _take_in(settings: Settings, found: "Found", new: str) -> None:
    if not settings.quiet and not settings.json:
        output.note(f"{found.name}:")
    with watching(settings, MAKE) as observe, open_client(settings, observe) as client:
        before = {(each.name, each.digest) for each in client.list()}
        model = client.import_(found, new)
    is_present = (model.name, model.digest) in before
    if settings.json:
        told = {"name": model.name, "digest": str(model.digest), "size": model.size}
        output.record({"status": "success", "from": found.name, **told, "present": is_present})
    elif not settings.quiet:
        what = "already here:" if is_present else "imported"
        output.say(f"{what} {model.short_name}  {model.digest.short}  {output.size(model.size)}")


def _list(settings: Settings, client: Client, found: "Sequence[Found]") -> None:
    here = {model.name for model in client.list()}
    if settings.json:
        output.document(
            [
                {
                    "name": one.name,
                    "reference": one.reference or None,
                    "size": one.size,
                    "is_here": one.reference in here,
                    "flaw": one.flaw or None,
                    "files": [str(Path(file.path)) for file in one.files],
                }
                for one in found
            ]
        )
        return
    rows = [
        (one.name, output.size(one.size), "yes" if one.reference in here else "", one.flaw)
        for one in found
    ]
    output.table(("NAME", "SIZE", "HERE", "FLAW"), rows)
