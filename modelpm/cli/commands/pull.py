"""`modelpm pull`."""

from collections.abc import Sequence

import click

from modelpm.cli import output
from modelpm.cli.clients import open_client
from modelpm.cli.credentials import docker_credentials
from modelpm.cli.downloads import bounded, limits
from modelpm.cli.options import Settings, verb
from modelpm.cli.progress import watching
from modelpm.client import Installed
from modelpm.content import Event, Moved
from modelpm.errors import (
    AuthenticationError,
    DigestMismatchError,
    ModelPMError,
    RegistryError,
    StoreError,
)

KEPT = "what has arrived is kept: run the same command again to go on"
INTERRUPTED = f"interrupted; {KEPT}"
DAMAGED = "nothing wrong was kept; if this happens again, tell whoever runs the registry"


@verb("pull")
@click.argument("names", metavar="REF...", nargs=-1, required=True)
@bounded
@click.pass_context
def command(
    context: click.Context, names: Sequence[str], connections: int, limit_rate: int
) -> None:
    """Bring models here, verified.

    What is here already is not fetched again, and an interrupted download goes on where it ended.
    A REF is a name like `llama2`, `ghcr.io/acme/tiny:7b` or `team/model@sha256:...`. When one
    cannot be pulled, the others still are, and the exit code is that of the first failure.
    """
    settings: Settings = context.obj
    failures = []
    for name in names:
        if len(names) > 1 and not settings.json and not settings.quiet:
            output.note(f"{name}:")
        try:
            pull(settings, name, connections, limit_rate)
        except ModelPMError as error:
            failures.append(error)
            _report(settings, name, error)
    if failures and settings.json:
        raise failures[0]
    if failures:
        context.exit(failures[0].exit_code)


def pull(settings: Settings, name: str, connections: int, limit_rate: int) -> Installed:
    """Pull one model, telling how it goes.

    A failure has a note of what to do next, where its message cannot know.
    """
    has_bytes = False
    try:
        with watching(settings) as tell:

            def observe(event: Event) -> None:
                nonlocal has_bytes
                has_bytes = has_bytes or (isinstance(event, Moved) and event.offset > 0)
                tell(event)

            bounds = limits(connections, limit_rate)
            with open_client(settings, observe, docker_credentials(), bounds) as client:
                model = client.pull(name)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(INTERRUPTED) from None
    except DigestMismatchError as error:
        error.add_note(DAMAGED)
        raise
    except (RegistryError, StoreError) as error:
        if has_bytes and not isinstance(error, AuthenticationError):
            error.add_note(KEPT)
        raise
    if settings.json:
        told = {"name": model.name, "digest": str(model.digest), "size": model.size}
        output.record({"status": "success", **told})
    return model


def _report(settings: Settings, name: str, error: ModelPMError) -> None:
    if settings.json:
        told = output.error_record(error, str(error), error.exit_code)
        output.record({"status": "failed", "name": name, **told})
    else:
        output.report(error)
