"""Which options every command has, where their values come from, and what a command is given.

An option's value comes from the first of these that has one: the command line after the command,
the command line before it, the environment (`MODELPM_` and the option's name), the settings file,
the default.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from modelpm.cli.helping import Context

if TYPE_CHECKING:
    from modelpm.registry.hosts import HostSettings

_HOSTS, _FILE = "modelpm.hosts", "modelpm.file"
_STRONG = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of the global options."""

    home: str | None
    default_registry: str | None
    plain_http: tuple[str, ...]
    ca_file: str | None
    quiet: bool
    debug: bool
    json: bool
    auth_file: str | None = None
    insecure_login: tuple[str, ...] = ()
    client_certificate: tuple[str, ...] = ()
    client_key: tuple[str, ...] = ()
    mirror: tuple[str, ...] = ()
    keep_layers: bool = False
    hosts: "Mapping[str, HostSettings]" = field(default_factory=dict)
    """The tables `[host."..."]` of the settings file."""
    file: str = ""
    """The settings file that was read, if any."""
    told: frozenset[str] = frozenset()
    """The options that the command line or the environment gave a value."""


def _read_settings_file(context: click.Context, option: click.Parameter, value: object) -> None:
    """Make the settings file click's default map, for this command line."""
    told = context.get_parameter_source(option.name or "")
    if context.parent is not None and told is not ParameterSource.COMMANDLINE:
        return  # the group has read it
    path = Path(value) if isinstance(value, str) else default_path()
    if value is None and not path.is_file():
        return
    from modelpm.cli import settings  # noqa: PLC0415 - lazy: start-up time

    root = context.find_root()
    found = settings.load(path, root)
    root.default_map = found.defaults
    root.meta[_HOSTS], root.meta[_FILE] = found.hosts, str(path)
    if context.parent is not None:
        context.default_map = found.defaults[context.info_name or ""]


def default_path() -> Path:
    """Where the settings file lies when nobody says."""
    return Path(click.get_app_dir("modelpm", roaming=False)) / "config.toml"


_PLACE = click.Path(readable=False)  # whoever opens it tells what is wrong with it

GLOBAL: tuple[click.Option, ...] = (
    click.Option(["--home"], type=_PLACE, metavar="DIR", help="The folder of the models."),
    click.Option(
        ["--default-registry"],
        metavar="HOST/NAMESPACE",
        help="What a name without a host means.  [default: registry.ollama.ai/library]",
    ),
    click.Option(
        ["--plain-http"],
        multiple=True,
        metavar="HOST",
        help="Speak to this host without TLS. May be given several times.",
    ),
    click.Option(
        ["--insecure-login"],
        multiple=True,
        metavar="HOST",
        help="Send credentials to this host also without TLS.",
    ),
    click.Option(
        ["--ca-file"],
        type=_PLACE,
        metavar="FILE",
        help="Trust these authorities (PEM), not the system's.",
    ),
    click.Option(
        ["--client-certificate"],
        multiple=True,
        metavar="HOST=FILE",
        help="Show this certificate (PEM) to this host.",
    ),
    click.Option(
        ["--client-key"],
        multiple=True,
        metavar="HOST=FILE",
        help="Its key, if it is in another file.",
    ),
    click.Option(
        ["--mirror"],
        multiple=True,
        metavar="HOST=URL[,URL]",
        help="Pull what this host has from these places first.",
    ),
    click.Option(
        ["--keep-layers"],
        is_flag=True,
        help="Keep pulled archives beside the files in them, for other programs.",
    ),
    click.Option(
        ["--auth-file"],
        type=_PLACE,
        metavar="FILE",
        help="Where login keeps passwords.  [default: auth.json beside the settings]",
    ),
    click.Option(
        ["--config"],
        type=_PLACE,
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_read_settings_file,
        help="The settings file (TOML).",
    ),
    click.Option(["--quiet", "-q"], is_flag=True, help="Say nothing but results and errors."),
    click.Option(["--debug"], is_flag=True, help="Show where an error comes from."),
    click.Option(["--json"], is_flag=True, help="Write JSON: one document, or one object a line."),
)


class Command(click.Command):
    """A command that also takes the global options, and gets them as `Settings`."""

    context_class = Context

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(GLOBAL)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; what is wrong is told with this command's usage, whatever it is."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, with its Settings as the context's object."""
        ctx.obj = ctx.find_root().obj = settings_of(ctx)
        for option in GLOBAL:
            ctx.params.pop(option.name or "", None)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options, then the global ones."""
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        own = [option for option in options if option not in GLOBAL]
        for title, listed in (("Options", own), ("Global options", GLOBAL)):
            with formatter.section(title):
                formatter.write_dl(
                    [record for option in listed if (record := option.get_help_record(ctx))]
                )


def verb(name: str) -> Callable[[Callable[..., None]], Command]:
    """Make a function the command of this name; its docstring is the help."""
    return click.command(name, cls=Command)


def settings_of(context: click.Context) -> Settings:
    """The values that the global options have for this command."""
    options = [option.name for option in GLOBAL if option.expose_value and option.name]
    values = {name: _strongest(context, name) for name in options}
    told = frozenset(name for name in options if _is_told(context, name))
    hosts, file = context.meta.get(_HOSTS, {}), context.meta.get(_FILE, "")
    return Settings(**values, hosts=hosts, file=file, told=told)


def _is_told(context: click.Context, name: str) -> bool:
    places = (context, context.parent or context)
    return any(place.get_parameter_source(name) in _STRONG for place in places)


def _strongest(context: click.Context, name: str) -> Any:
    """The value after the command, else the one before it or in the environment, else the file."""
    before = context.parent
    if before is None or context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
        return context.params[name]
    is_told = before.get_parameter_source(name) in _STRONG
    return before.params[name] if is_told else context.params[name]
