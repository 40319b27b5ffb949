"""How a command moves models: each by itself, told as it goes, and what is said when one fails."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import click

from modelpm.cli import output
from modelpm.cli.clients import open_client
from modelpm.cli.credentials import find_credentials
from modelpm.cli.options import Settings
from modelpm.cli.progress import Telling, watching
from modelpm.client import Client, Pushed
from modelpm.content import Event, Moved, Observer, ignore
from modelpm.errors import AuthenticationError, ModelPMError, RegistryError, StoreError

if TYPE_CHECKING:
    from modelpm.registry.limits import Limits


@contextlib.contextmanager
def one_client(
    settings: Settings, telling: Telling, kept: str, limits: "Limits"
) -> Iterator[tuple[Client, Callable[[], AbstractContextManager[None]]]]:
    """The client for all transfers of a command, and what tells of each of them as `moving`."""
    listener: Observer = ignore

    def observe(event: Event) -> None:
        listener(event)

    @contextlib.contextmanager
    def told() -> Iterator[None]:
        nonlocal listener
        with moving(settings, telling, kept) as observer:
            listener = observer
            try:
                yield
            finally:
                listener = ignore

    with open_client(settings, observe, find_credentials(settings), limits) as client:
        yield client, told


@contextlib.contextmanager
def moving(settings: Settings, telling: Telling, kept: str) -> Iterator[Observer]:
    """Tell of one transfer. `kept` is what the user is to know of one that broke off.

    A failure gets it as a note where bytes had moved, an interrupt as its message.
    """
    has_bytes = False
    try:
        with watching(settings, telling) as tell:

            def observe(event: Event) -> None:
                nonlocal has_bytes
                has_bytes = has_bytes or (isinstance(event, Moved) and event.offset > 0)
                tell(event)

            yield observe
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {kept}") from None
    except (RegistryError, StoreError) as error:
        if has_bytes and not isinstance(error, AuthenticationError):
            error.add_note(kept)
        raise


def each(
    context: click.Context,
    names: Sequence[str],
    move: Callable[[str], object],
    *,
    key: str = "name",
    has_heads: bool = True,
) -> None:
    """Do it with each name, whatever becomes of the others; fail as the first that failed.

    As JSON a failure has the name under `key`; with `has_heads` one of several names stands above
    what is told of it.
    """
    settings: Settings = context.obj
    failures = []
    for name in names:
        if has_heads and len(names) > 1 and not settings.json and not settings.quiet:
            output.note(f"{name}:")
        try:
            move(name)
        except ModelPMError as error:
            failures.append(error)
            _report(settings, {key: name}, error)
    if failures and settings.json:
        raise failures[0]
    if failures:
        context.exit(failures[0].exit_code)


def tell_pushed(settings: Settings, pushed: Pushed, **more: object) -> None:
    """The result of a push or a mirror."""
    if settings.json:
        output.record(
            {
                "status": "success",
                "name": pushed.reference.name,
                "digest": str(pushed.digest),
                "size": pushed.size,
                "uploaded": pushed.uploaded,
                "present": pushed.present,
                "mounted": pushed.mounted,
                **more,
            }
        )
    else:
        output.say(pushed.pinned)


def _report(settings: Settings, what: dict[str, str], error: ModelPMError) -> None:
    if settings.json:
        told = output.error_record(error, str(error), error.exit_code)
        output.record({"status": "failed", **what, **told})
    else:
        output.report(error)
