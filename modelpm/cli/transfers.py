"""How a command moves models: each by itself, told as it goes, and what is said when one fails."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import click

from modelpm.cli import output
from modelpm.cli.options import Settings
from modelpm.cli.progress import Telling, watching
from modelpm.client import Pushed
from modelpm.content import Event, Moved, Observer
from modelpm.errors import AuthenticationError, ModelPMError, RegistryError, StoreError


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


def each(context: click.Context, names: Sequence[str], move: Callable[[str], object]) -> None:
    """Do it with each name, whatever becomes of the others; fail as the first that failed."""
    settings: Settings = context.obj
    failures = []
    for name in names:
        if len(names) > 1 and not settings.json and not settings.quiet:
            output.note(f"{name}:")
        try:
            move(name)
        except ModelPMError as error:
            failures.append(error)
            _report(settings, name, error)
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


def _report(settings: Settings, name: str, error: ModelPMError) -> None:
    if settings.json:
        told = output.error_record(error, str(error), error.exit_code)
        output.record({"status": "failed", "name": name, **told})
    else:
        output.report(error)
