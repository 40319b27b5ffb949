"""How each registry is to be spoken to: what the user says of a host, and of all of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from modelpm.errors import InvalidReferenceError, RegistryError
from modelpm.oci.reference import Reference

_MIRROR = re.compile(
    r"(?:(https?)://)?([^/@]{1,300})(?:/v2(?=/|$))?((?:/[^/@]{1,255})*)/?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Named:
    """What the user calls the settings that name files: an option, or a file and a key in it."""

    ca_file: str = "--ca-file"
    client_certificate: str = "--client-certificate"
    client_key: str = "--client-key"


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What holds for one registry. Paths are of PEM files."""

    plain_http: bool | None = None
    """Speak without TLS. None is False, except that loopback hosts are tried both ways."""
    insecure_login: bool = False
    """Send credentials also where there is no TLS."""
    ca_file: str | None = None
    """Authorities to trust instead of the system's."""
    client_certificate: str | None = None
    """Shown to this host alone, if it asks for one."""
    client_key: str | None = None
    """The key of the client's certificate, if it is not in the same file."""
    mirrors: tuple[str, ...] = ()
    """URLs to try first for what is read, in this order: `https://HOST[/PREFIX]`. One with http is
    the consent to read from there without TLS, and without credentials."""
    trusted_realms: frozenset[str] = frozenset()
    """Origins of token services that may be sent this registry's credentials."""
    named: Named = field(default=Named(), compare=False)
    """By which names messages are to speak of the files."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where a mirror is: its host, as a Reference has one, and what comes before repositories."""

    host: str
    plain_http: bool = False
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> "Mirror":
        """Read `[https://]HOST[:PORT][/v2][/PREFIX]` or `http://...`. Raises RegistryError."""
        match = _MIRROR.fullmatch(url)
        scheme, host, path = match.groups() if match else ("", "", "")
        is_plain = (scheme or "").lower() == "http"
        if not any(mark in host for mark in ".:") and host.lower() != "localhost":
            host += ":80" if is_plain else ":443"  # else a reference would take it for a name
        prefix = path.strip("/")
        try:
            parsed = Reference.parse(f"{host}/{prefix}/x" if prefix else f"{host}/x")
        except InvalidReferenceError:
            # Not repeated: whoever writes a user and a password there wrote a secret.
            why = "a mirror is https://HOST[:PORT][/PREFIX], or http:// for one without TLS"
            raise RegistryError(why) from None
        return cls(parsed.registry, is_plain, prefix)

    def repository(self, name: str) -> str:
        """What a repository of the mirrored registry is called there."""
        return f"{self.prefix}/{name}" if self.prefix else name


@dataclass(frozen=True, slots=True)
class Proxies:
    """By way of which proxies requests go out. A URL may hold a user and a password."""

    https: str | None = field(default=None, repr=False)
    http: str | None = field(default=None, repr=False)
    excepted: str = ""
    """Whom to reach directly, as NO_PROXY lists them: hosts, `.domains`, networks, `*`, commas."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """The settings of all hosts: a host's own, or else the default."""

    default: HostSettings = HostSettings()
    own: Mapping[str, HostSettings] = field(default_factory=dict)
    proxies: Proxies = Proxies()

    def of(self, host: str) -> HostSettings:
        """What holds for this host, as a Reference has its name."""
        return self.own.get(host.lower(), self.default)
