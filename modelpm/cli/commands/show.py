"""`modelpm show`."""

import click

from modelpm.cli import output
from modelpm.cli.clients import InstalledName, open_client
from modelpm.cli.description import Description
from modelpm.cli.options import Settings, verb
from modelpm.client import Installed

PARTS = ("modelfile", "template", "system", "parameters", "license")


@verb("show")
@click.argument("name", type=InstalledName())
@click.option("--manifest", is_flag=True, help="The manifest's exact bytes.")
@click.option("--modelfile", is_flag=True, help="A Modelfile that makes the same model.")
@click.option("--template", is_flag=True, help="The chat template.")
@click.option("--system", is_flag=True, help="What the model is told before a conversation.")
@click.option("--parameters", is_flag=True, help="How answers are drawn.")
@click.option("--license", is_flag=True, help="The licences.")
@click.pass_obj
def command(settings: Settings, /, name: str, manifest: bool, **wanted: bool) -> None:
    """Show what a model is, or one thing about it.

    Reads the header of the weights; a flaw in one place is told, and the rest is shown.
    """
    parts = [part for part in PARTS if wanted[part]]
    if len(parts) + manifest > 1:
        raise click.UsageError("only one thing can be shown at a time")
    with open_client(settings) as client:
        model = client.get(name)
        if manifest:
            output.raw(model.manifest.raw)
        elif parts:
            _show_part(settings, model, parts[0])
        elif settings.json:
            output.document(Description(model).document())
        else:
            Description(model).show()


def _show_part(settings: Settings, model: Installed, part: str) -> None:
    text: str = getattr(Description(model), part)()
    if settings.json:
        output.document({part: text or None})
    elif text:
        output.say(text.removesuffix("\n"), output.BLOCK)
    elif not settings.quiet:
        output.note(f"{model.short_name} has no {part}")
