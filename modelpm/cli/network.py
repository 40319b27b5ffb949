"""What options, settings file and environment say of hosts, made into one: `Hosts`.

The command line and `MODELPM_...` go before a host's table in the settings file, and that goes
before what the file says of all hosts.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from modelpm.errors import InvalidReferenceError, RegistryError
from modelpm.oci.reference import Reference
from modelpm.registry.hosts import Hosts, HostSettings, Mirror, Named, Proxies

if TYPE_CHECKING:
    from modelpm.cli.options import Settings


def hosts_of(settings: "Settings") -> Hosts:
    """All that is known of hosts. Raises UsageError."""
    shared = _named(settings)
    default = HostSettings(ca_file=settings.ca_file, named=shared)
    plain = _hosts("--plain-http", settings.plain_http)
    insecure = _hosts("--insecure-login", settings.insecure_login)
    certificates = _pairs("--client-certificate", settings.client_certificate, "FILE")
    keys = _pairs("--client-key", settings.client_key, "FILE")
    mirrors = _mirrors(_pairs("--mirror", settings.mirror, "URL"))
    own = {}
    for host in {*settings.hosts, *plain, *insecure, *certificates, *keys, *mirrors}:
        said = settings.hosts.get(host, default)
        by_default = "ca_file" in settings.told or not said.ca_file
        own[host] = replace(
            said,
            ca_file=default.ca_file if by_default else said.ca_file,
            named=Named(
                (shared if by_default else said.named).ca_file,
                (shared if host in certificates else said.named).client_certificate,
                (shared if host in keys or host in certificates else said.named).client_key,
            ),
            plain_http=True if host in plain else said.plain_http,
            insecure_login=host in insecure or said.insecure_login,
            client_certificate=certificates.get(host, said.client_certificate),
            # A key belongs to the certificate that was told in the same place.
            client_key=keys.get(host, None if host in certificates else said.client_key),
            mirrors=mirrors.get(host, said.mirrors),
        )
    return Hosts(default, own, proxies())


def _named(settings: "Settings") -> Named:
    """What the settings are called that are no host's own: options, or keys of the file."""
    fields = ("ca_file", "client_certificate", "client_key")
    said = {name for name in fields if getattr(settings, name)} - settings.told
    keys = {name: f"{settings.file}: {name.replace('_', '-')}" for name in said}
    return replace(Named(), **keys) if settings.file else Named()


def proxies() -> Proxies:
    """The proxies of the environment, as curl and all others find them there."""
    everywhere = _told("all_proxy")
    return Proxies(
        https=_told("https_proxy") or everywhere,
        http=_told("http_proxy") or everywhere,
        excepted=_told("no_proxy"),
    )


def _told(name: str) -> str:
    """The lower-case name goes first. Of a CGI program the other one is what a client sent."""
    is_forged = name == "http_proxy" and "REQUEST_METHOD" in os.environ
    other = "" if is_forged else os.environ.get(name.upper(), "")
    return os.environ.get(name, other)


def host_name(text: str) -> str:
    """A host as a Reference has it. Raises ValueError for what is none."""
    try:
        host = Reference.parse(f"{text}/any").registry
    except InvalidReferenceError:
        raise ValueError(text) from None
    if "/" in text or not (text.lower() == "localhost" or {".", ":"} & set(text)):
        raise ValueError(text)
    return host


def checked_mirrors(urls: Iterable[str]) -> tuple[str, ...]:
    """The URLs that are not empty. Raises RegistryError."""
    found = tuple(url.strip() for url in urls if url.strip())
    for url in found:
        Mirror.parse(url)
    return found


def _mirrors(told: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    try:
        return {host: checked_mirrors(urls.split(",")) for host, urls in told.items()}
    except RegistryError as error:
        raise click.UsageError(f"--mirror: {error}") from None


def _hosts(option: str, texts: Iterable[str]) -> frozenset[str]:
    return frozenset(_host(option, text, "HOST") for text in texts)


def _pairs(option: str, texts: Iterable[str], what: str) -> dict[str, str]:
    """`HOST=VALUE` as host and value."""
    pairs = {}
    for text in texts:
        host, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"{option}: {_bare(text)!r} is not HOST={what}")
        pairs[_host(option, host, f"HOST={what}")] = value
    return pairs


def _host(option: str, text: str, form: str) -> str:
    try:
        return host_name(text)
    except ValueError:
        why = f"{_bare(text)!r} is no host; {form} is wanted, with a host like ghcr.io or lan:5000"
        raise click.UsageError(f"{option}: {why}") from None


def _bare(text: str) -> str:
    """Without what may be a password in a URL."""
    return text.rpartition("@")[2]
