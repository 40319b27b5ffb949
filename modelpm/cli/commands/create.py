"""`modelpm create`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelpm.cli import output
from modelpm.cli.clients import open_client
from modelpm.cli.commands.pull import bring
from modelpm.cli.downloads import bounded
from modelpm.cli.options import Settings, verb
from modelpm.cli.progress import MAKE, watching
from modelpm.cli.written import tell, wish_of, written
from modelpm.errors import ContentError, NotFoundError, RegistryError

if TYPE_CHECKING:
    from modelpm.model.modelfile import Modelfile

DEFAULT = "Modelfile"
STDIN = "-"


@verb("create")
@click.argument("name")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@click.option(
    "--file", "-f", metavar="FILE", type=click.Path(), help="A Modelfile; - is standard input."
)
@written
@bounded
@click.pass_obj
def command(
    settings: Settings,
    /,
    name: str,
    paths: tuple[str, ...],
    file: str | None,
    connections: int,
    limit_rate: int,
    **wish: Any,
) -> None:
    """Make a model of a Modelfile, or of files.

    A PATH is a GGUF file, one shard of a set, or a folder with safetensors or a GGUF; without it
    and without --file, the file Modelfile of this folder is read. Files are taken in by reflink or
    hard link where that can be done, and never changed. What of a folder is left out is told, but
    for hidden files, which never get in. The same input makes the same digest on every machine: no
    time gets in but that of --created.

    FROM in a Modelfile may also name a model; one that is not here is pulled first.
    """
    if paths and file is not None:
        raise click.UsageError("give a Modelfile or PATHs, not both")
    modelfile, folder = _from_paths(paths) if paths else _from_file(file or DEFAULT)
    base = _missing_base(settings, name, modelfile, folder)
    if base is not None:
        _bring(settings, base, folder, connections, limit_rate)
    with watching(settings, MAKE) as observe, open_client(settings, observe) as client:
        model = client.create(name, modelfile, folder, wish_of(wish))
    if not settings.quiet:
        _remark(modelfile, folder)
    tell(settings, model, "created")


def _remark(modelfile: "Modelfile", folder: Path) -> None:
    from modelpm.creating import remarks  # noqa: PLC0415 - lazy: start-up time

    for text in remarks(modelfile, folder):
        output.note(text)


def _missing_base(
    settings: Settings, name: str, modelfile: "Modelfile", folder: Path
) -> str | None:
    """The model that is to be pulled, after whatever costs nothing to refuse was refused."""
    with open_client(settings) as client:
        client.reference(name)
        return client.missing_base(modelfile, folder)


def _bring(settings: Settings, base: str, folder: Path, connections: int, limit_rate: int) -> None:
    if not settings.quiet:
        output.note(f"{base} is not installed; pulling it")
    try:
        bring(settings, base, connections, limit_rate)
    except (ContentError, RegistryError) as error:
        error.add_note(
            f"FROM {base}: there is no such file in {folder.resolve()}, nor is such a model"
            " installed, so it was to be pulled"
        )
        raise


def _from_paths(paths: tuple[str, ...]) -> "tuple[Modelfile, Path]":
    from modelpm.model.modelfile import Command, Modelfile  # noqa: PLC0415 - lazy: start-up time

    return Modelfile(tuple(Command("FROM", str(Path(path).absolute())) for path in paths)), Path()


def _from_file(file: str) -> "tuple[Modelfile, Path]":
    """The Modelfile and the folder in which its relative paths begin."""
    from modelpm.model import modelfile  # noqa: PLC0415 - lazy: start-up time

    if file == STDIN:
        return modelfile.parse(sys.stdin.buffer.read(modelfile.MAX_BYTES + 1)), Path()
    try:
        with Path(file).open("rb") as stream:
            content = stream.read(modelfile.MAX_BYTES + 1)
    except OSError as error:
        raise NotFoundError(
            f"reading the Modelfile {file}: {error.strerror or error}"
            " (name another with --file, or give the PATH of a model)"
        ) from error
    return modelfile.parse(content), Path(file).parent
