"""`modelpm list`."""

import click

from modelpm.cli import output
from modelpm.cli.clients import InstalledName, open_client
from modelpm.cli.options import Settings, verb


@verb("list")
@click.argument("pattern", default="", type=InstalledName())
@click.pass_obj
def command(settings: Settings, pattern: str) -> None:
    """List the models that are here.

    PATTERN is a glob (`*`, `?`, `[...]`) or the beginning of a name.
    """
    with open_client(settings) as client:
        models = client.list(pattern)
    if settings.json:
        output.document(
            [
                {
                    "name": model.name,
                    "short_name": model.short_name,
                    "digest": str(model.digest),
                    "size": model.size,
                    "modified": model.modified or None,
                }
                for model in models
            ]
        )
        return
    rows = [
        (model.short_name, model.digest.short, output.size(model.size), output.age(model.modified))
        for model in models
    ]
    output.table(("NAME", "ID", "SIZE", "MODIFIED"), rows)
