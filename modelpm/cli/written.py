"""What `create` and `convert` have in common: how the artifact is to be, and what is told of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from modelpm.cli import output
from modelpm.cli.options import Settings
from modelpm.client import Installed

if TYPE_CHECKING:
    from modelpm.creating import Wish

FORMATS = ("modelpack", "ollama", "docker")
TIMES = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d")
"""How a time may be written, always in UTC."""


def written(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --format, --lossy and --created."""
    for option in (
        click.option(
            "--created",
            metavar="TIME",
            type=click.DateTime(TIMES),
            help="When it was made, in UTC: the only time that gets in.",
        ),
        click.option("--lossy", is_flag=True, help="Leave out what the format has no place for."),
        click.option(
            "--format",
            type=click.Choice(FORMATS),
            default=FORMATS[0],
            show_default=True,
            help="Which programs it is for; most read modelpack.",
        ),
    ):
        command = option(command)
    return command


def wish_of(values: dict[str, Any]) -> "Wish":
    """What these options want."""
    from modelpm.creating import Wish  # noqa: PLC0415 - lazy: start-up time

    return Wish(**values)


def tell(settings: Settings, model: Installed, what: str) -> None:
    """The result: which name, which digest."""
    if settings.json:
        told = {"name": model.name, "digest": str(model.digest), "size": model.size}
        output.record({"status": "success", **told})
    elif not settings.quiet:
        output.say(f"{what} {model.short_name}  {model.digest.short}  {output.size(model.size)}")
