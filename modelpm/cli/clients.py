"""How a command gets its client from its settings, and a shell the names to complete."""

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from modelpm.cli.network import hosts_of
from modelpm.cli.options import Settings, settings_of
from modelpm.client import Client
from modelpm.content import Observer, ignore
from modelpm.errors import ModelPMError
from modelpm.oci.reference import DEFAULT_REGISTRY

if TYPE_CHECKING:
    from modelpm.registry.credentials import CredentialSource
    from modelpm.registry.limits import Limits


def open_client(
    settings: Settings,
    observe: Observer = ignore,
    credentials: "CredentialSource | None" = None,
    limits: "Limits | None" = None,
) -> Client:
    """The client that the global options describe."""
    return Client(
        settings.home,
        default_registry=settings.default_registry or DEFAULT_REGISTRY,
        hosts=hosts_of(settings),
        credentials=credentials,
        limits=limits,
        keep_layers=settings.keep_layers,
        observe=observe,
    )


class InstalledName(click.types.StringParamType):
    """The name of a model that is here; a shell completes it."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The short names that begin so, and the full ones when no short one does."""
        del param
        try:
            with open_client(settings_of(ctx)) as client:
                models = client.list()
        except (ModelPMError, click.UsageError):
            return []
        short = [m.short_name for m in models if m.short_name.startswith(incomplete)]
        return [
            CompletionItem(name)
            for name in short or [m.name for m in models if m.name.startswith(incomplete)]
        ]
