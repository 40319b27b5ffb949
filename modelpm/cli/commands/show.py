"""`modelpm show`."""

import contextlib
from collections.abc import Iterator

import click

from modelpm.cli import output
from modelpm.cli.clients import InstalledName, open_client
from modelpm.cli.description import Described, Description
from modelpm.cli.options import Settings, verb
from modelpm.client import Client
from modelpm.registry.task import looking

PARTS = ("modelfile", "template", "system", "parameters", "license")


@verb("show")
@click.argument("name", type=InstalledName())
@click.option("--remote", is_flag=True, help="What its registry has now, without fetching weights.")
@click.option("--manifest", is_flag=True, help="The manifest's exact bytes.")
@click.option("--modelfile", is_flag=True, help="A Modelfile that makes the same model.")
@click.option("--template", is_flag=True, help="The chat template.")
@click.option("--system", is_flag=True, help="What the model is told before a conversation.")
@click.option("--parameters", is_flag=True, help="How answers are drawn.")
@click.option("--license", is_flag=True, help="The licences.")
@click.pass_obj
def command(settings: Settings, /, name: str, remote: bool, manifest: bool, **wanted: bool) -> None:
    """Show what a model is, or one thing about it.

    Reads the header of the weights; a flaw in one place is told, and the rest is shown. With
    --remote it is what a pull would bring: the manifest and the small parts are read. A text goes
    into a file or a pipe as it is; a terminal gets no control character of it.
    """
    parts = [part for part in PARTS if wanted[part]]
    if len(parts) + manifest > 1:
        raise click.UsageError("only one thing can be shown at a time")
    with _client(settings, remote=remote) as client:
        if manifest:
            found = client.inspect_manifest(name) if remote else client.get(name).manifest
            output.raw(found.raw)
            return
        model = client.inspect(name) if remote else client.get(name)
        if parts:
            _show_part(settings, model, parts[0])
        elif settings.json:
            output.document(Description(model).document())
        else:
            Description(model).show()


@contextlib.contextmanager
def _client(settings: Settings, *, remote: bool) -> Iterator[Client]:
    if not remote:
        with open_client(settings) as client:
            yield client
        return
    from modelpm.cli.credentials import find_credentials  # noqa: PLC0415 - lazy: start-up time

    credentials = find_credentials(settings)
    with looking(), open_client(settings, credentials=credentials) as client:
        yield client


def _show_part(settings: Settings, model: Described, part: str) -> None:
    with model.naming_damage():
        text: str = getattr(Description(model), part)()
    if settings.json:
        output.document({part: text or None})
    elif text and part == "parameters":
        output.say(text, output.BLOCK)
    elif text:
        output.verbatim(text)
    elif not settings.quiet:
        output.note(f"{model.short_name} has no {part}")
