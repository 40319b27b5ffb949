"""`modelpm export`."""

import contextlib

import click

from modelpm.cli import output
from modelpm.cli.clients import InstalledName, open_client
from modelpm.cli.options import Settings, verb
from modelpm.cli.progress import Telling, watching
from modelpm.cli.tracks import COPYING
from modelpm.content import ignore
from modelpm.errors import DigestMismatchError

_TELLING = Telling({}, {"copying": COPYING})

DAMAGED = "a file of the store is damaged: nothing was exported (try: modelpm pull, then again)"


@verb("export")
@click.argument("name", type=InstalledName())
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--link", is_flag=True, help="Hard links to the weights in the store, not copies.")
@click.option("--symlink", is_flag=True, help="Symbolic links to the weights in the store.")
@click.option("--force", is_flag=True, help="Delete what is in DIR.")
@click.pass_obj
def command(
    settings: Settings, name: str, folder: str, link: bool, symlink: bool, force: bool
) -> None:
    """Write the files of a model into a folder.

    The folder has the names that llama.cpp, vLLM and transformers look for; a model with texts
    that only Ollama knows gets a Modelfile too. DIR must be empty or not there yet.

    The files are the folder's own: they share their blocks with the store where the file system
    can (reflink), else they are copied. With --link the weights are hard links: read-only, and
    who writes into them all the same damages the store. With --symlink they are symbolic links,
    good until the model is removed and pruned.
    """
    if link and symlink:
        raise click.UsageError("--link and --symlink exclude one another")
    way = "link" if link else "symlink" if symlink else "copy"
    # As JSON there is one document, of what was done.
    told = contextlib.nullcontext(ignore) if settings.json else watching(settings, _TELLING)
    with told as observe, open_client(settings, observe) as client:
        try:
            files = client.export(name, folder, way=way, replace=force)
        except DigestMismatchError as error:
            error.add_note(DAMAGED)
            raise
        model = client.get(name)
    if settings.json:
        documents = [
            {
                "name": file.name,
                "size": file.size,
                "made": file.made,
                "role": file.part.role.value if file.part else None,
                "digest": str(file.part.descriptor.digest) if file.part else None,
            }
            for file in files
        ]
        output.document(
            {"name": model.name, "digest": str(model.digest), "folder": folder, "files": documents}
        )
    elif not settings.quiet:
        rows = [(file.name, output.size(file.size), file.made) for file in files]
        output.table(("FILE", "SIZE", "AS"), rows)
        output.say(f"exported {model.short_name} to {folder}")
