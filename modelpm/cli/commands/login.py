"""`modelpm login`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from modelpm.cli import output
from modelpm.cli.clients import open_client
from modelpm.cli.credentials import find_credentials
from modelpm.cli.network import host_name
from modelpm.cli.options import Settings, verb
from modelpm.errors import RegistryError
from modelpm.registry.credentials import Credential, Kind
from modelpm.registry.keychain import Keychain
from modelpm.registry.login import Login
from modelpm.registry.url import Origin

MAX_PASSWORD = 64 * 2**10
"""Bytes; identity tokens are long."""

_NO_TERMINAL = (
    "there is no terminal to ask for the password on:"
    " give --username NAME, and the password on standard input with --password-stdin"
)
_IN_SIGHT = (
    "a password on the command line is there for all to see:"
    " write it to standard input with --password-stdin, or be asked for it"
)


def host_of(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """The host of a registry as people type it, as a Reference has it."""
    bare = value.removeprefix("https://").rstrip("/")
    try:
        return host_name(bare)
    except ValueError:
        shown = value.rpartition("@")[2]  # before it stands what may be a password
        raise click.BadParameter(
            f"{shown!r} is no host, as ghcr.io or localhost:5000 is{_meant(shown)}"
        ) from None


def _meant(url: str) -> str:
    """The host in a URL, as a hint; nothing where there is none."""
    host = url.rpartition("://")[2].partition("/")[0]
    try:
        return f" (try: {host_name(host)})"
    except ValueError:
        return ""


def _origins(
    _context: click.Context, _parameter: click.Parameter, values: Sequence[str]
) -> frozenset[Origin]:
    try:
        return frozenset(map(Origin.of, values))
    except RegistryError as error:
        raise click.BadParameter(
            f"{error}; an origin is https://HOST or https://HOST:PORT"
        ) from None


def _refuse(_context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(_IN_SIGHT)


@verb("login")
@click.argument("host", callback=host_of)
@click.option("--username", "-u", metavar="NAME", help="Who logs in; asked for otherwise.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option(
    "--trust-realm",
    multiple=True,
    metavar="ORIGIN",
    callback=_origins,
    help="Let the password go to this token service without being asked (https://HOST).",
)
@click.option(
    "--password",
    "-p",
    hidden=True,
    expose_value=False,
    is_eager=True,
    allow_from_autoenv=False,
    callback=_refuse,
)
@click.pass_obj
def command(
    settings: Settings,
    host: str,
    username: str | None,
    password_stdin: bool,
    trust_realm: frozenset[Origin],
) -> None:
    """Log in to a registry.

    The password is tried at once and kept only if it is good: by the credential helper that
    docker's configuration names for the registry, or else in modelpm's own file, for you alone to
    read. Where the registry has a token service, an identity token may be kept in its place.
    """
    if password_stdin and not username:
        raise click.UsageError("--password-stdin needs --username")
    has_terminal = sys.stdin.isatty()
    if not password_stdin and not has_terminal:
        raise click.UsageError(_NO_TERMINAL)
    password = _line() if password_stdin else ""
    person = _Person(username or "", password, trust_realm, has_terminal, settings.quiet)
    keychain = find_credentials(settings)
    with open_client(settings, credentials=keychain) as client:
        try:
            done = client.login(host, person, keychain)
        except click.Abort:
            raise KeyboardInterrupt("interrupted; not logged in") from None
    _tell(settings, done, keychain)


@dataclass(frozen=True, slots=True)
class _Person:
    """Who sits at the terminal, or said all beforehand."""

    username: str
    password: str = field(repr=False)
    trusted: frozenset[Origin]
    has_terminal: bool
    is_quiet: bool

    def agrees(self, host: str, realm: str, /) -> bool:
        """As Person says."""
        is_trusted = Origin.of(realm) in self.trusted
        if not (is_trusted and self.is_quiet):
            output.note(f"credentials for {host} will go to {realm}")
        return is_trusted or (self.has_terminal and click.confirm("Is that right?", err=True))

    def credential(self, host: str, /) -> Credential:
        """As Person says."""
        username = self.username or click.prompt(f"Username for {host}", err=True)
        password = self.password or click.prompt("Password", hide_input=True, err=True)
        return Credential.of(username, password)


def _line() -> str:
    """The first line of standard input, without its end."""
    raw = sys.stdin.buffer.readline(MAX_PASSWORD + 1)
    try:
        line = raw.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        line = ""
    if not line or len(raw) > MAX_PASSWORD:
        raise click.UsageError("--password-stdin: no password on standard input, or no text")
    return line


def _tell(settings: Settings, done: Login, keychain: Keychain) -> None:
    what = "the identity token" if done.kind is Kind.IDENTITY_TOKEN else "the password"
    if settings.json:
        told = {"host": done.host, "logged_in": bool(done.place), "username": done.username}
        place = {"saved_in": done.place, "saved": what[4:], "realm": done.realm}
        output.document(told | (place if done.place else {}))
    elif not settings.quiet and done.place:
        by = f" by way of {done.realm}" if done.realm else ""
        output.say(
            f"logged in to {done.host} as {done.username}{by}; {what} is kept in {done.place}"
        )
    elif not settings.quiet:
        output.say(f"{done.host} lets everybody in: no login is needed, and nothing was saved")
    used = keychain.where(done.host) if done.place else None
    if used != (done.place or None):
        output.note(f"{used} has credentials for {done.host} too, and they are used instead")
