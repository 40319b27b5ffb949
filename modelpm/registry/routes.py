"""How each origin is reached: whose word it needs, what it is shown, and by way of which proxy.

A registry refers to others: where its blobs lie, who gives tokens. One that has settings of its
own is reached by those. Of the registry's settings the others get its authorities, beside the
system's; a client's certificate goes to the host that it is for and nowhere else.
"""

import contextlib
import ipaddress
import ssl
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import certifi
import urllib3

from modelpm.errors import RegistryError
from modelpm.registry.hosts import Hosts, HostSettings, Named, Proxies
from modelpm.registry.url import Origin, is_loopback

_WITH_STORES = ("darwin", "win32")
"""Where the system's authorities are not files that OpenSSL reads."""

_CLIENT = ssl.PROTOCOL_TLS_CLIENT


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one origin. A proxy's URL may hold a password, so that it is never shown."""

    tls: ssl.SSLContext | None
    proxy: str | None = field(default=None, repr=False)
    proxy_tls: ssl.SSLContext | None = None
    """For a proxy that is itself spoken to by TLS."""


@dataclass(frozen=True, slots=True)
class _Needs:
    """What a context is made of: files of authorities, and what is shown to whoever asks."""

    authorities: str | None
    with_system: bool
    certificate: str | None = None
    key: str | None = None
    named: Named = field(default=Named(), compare=False)

    @classmethod
    def of(cls, settings: HostSettings) -> "_Needs":
        """What a host's own settings say."""
        told = settings.ca_file
        certificate, key = settings.client_certificate, settings.client_key
        return cls(told, told is None, certificate, key, settings.named)

    def context(self) -> ssl.SSLContext:
        """Raises RegistryError for files that are no good."""
        context = system_context() if self.with_system else ssl.SSLContext(_CLIENT)
        if self.authorities is not None:
            _trust(context, self.authorities, self.named.ca_file)
        if self.certificate is not None or self.key is not None:
            _show(context, self.certificate, self.key, self.named)
        return context


class Routes:
    """The ways to one registry and to all that it refers to. Threads may share it.

    Files of certificates are read at once: raises RegistryError for those that are no good.
    """

    def __init__(self, registry: Origin, settings: HostSettings, hosts: Hosts) -> None:
        self._registry = registry.authority
        self._own = _Needs.of(settings)
        self._others = _Needs(settings.ca_file, with_system=True, named=settings.named)
        self._hosts = hosts
        self._lock = threading.Lock()
        self._contexts: dict[_Needs, ssl.SSLContext] = {}
        if self._own != _Needs(None, with_system=True):
            self._tls(self._own)

    def to(self, origin: Origin) -> Route:
        """The way to this origin. Raises RegistryError for settings that are no good."""
        proxy = proxy_of(origin, self._hosts.proxies)
        by_tls = proxy is not None and proxy.startswith("https:")
        proxy_tls = self._tls(self._others) if by_tls else None
        # To one without TLS, a proxy that speaks it is what the connection is to.
        tls = self._tls(self._needs_of(origin)) if origin.scheme == "https" else proxy_tls
        return Route(tls, proxy, proxy_tls)

    def _needs_of(self, origin: Origin) -> _Needs:
        if origin.authority == self._registry:
            return self._own
        told = self._hosts.own.get(origin.authority)
        return self._others if told is None else _Needs.of(told)

    def _tls(self, needs: _Needs) -> ssl.SSLContext:
        with self._lock:
            if needs not in self._contexts:
                self._contexts[needs] = needs.context()
            return self._contexts[needs]


def system_context() -> ssl.SSLContext:
    """TLS with those whom the system trusts.

    On Linux SSL_CERT_FILE and SSL_CERT_DIR say where else they are, as for all that uses OpenSSL.
    """
    if sys.platform in _WITH_STORES:
        import truststore  # noqa: PLC0415 - lazy: it is for those systems only

        return truststore.SSLContext(_CLIENT)
    context = ssl.SSLContext(_CLIENT)
    context.load_default_certs()
    places = ssl.get_default_verify_paths()
    if not places.cafile and not _holds_files(places.capath):
        # A bare container, or a Python that was built elsewhere.
        context.load_verify_locations(certifi.where())
    return context


def _holds_files(folder: str | None) -> bool:
    with contextlib.suppress(OSError):
        return folder is not None and any(Path(folder).iterdir())
    return False


def _trust(context: ssl.SSLContext, path: str, name: str) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise RegistryError(f"{name} {path}: not a PEM file of certificates") from None
    except OSError as error:
        raise RegistryError(f"{name} {path}: {error.strerror}") from None
    # A file with the server's own certificate, or with one between, says enough.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _show(context: ssl.SSLContext, certificate: str | None, key: str | None, named: Named) -> None:
    if certificate is None:
        missing = f"{named.client_certificate} FILE"
        raise RegistryError(f"{named.client_key} {key} is of no use without {missing}")
    told = f"{named.client_certificate} {certificate}"
    told += f", {named.client_key} {key}" if key else ""
    try:
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError:
        why = "not a PEM certificate and its own key, unencrypted"
        why += "" if key else f"; a key in another file is for {named.client_key} to name"
        raise RegistryError(f"{told}: {why}") from None
    except OSError as error:
        raise RegistryError(f"{told}: {error.strerror}") from None


def proxy_of(origin: Origin, proxies: Proxies) -> str | None:
    """The URL of the proxy for an origin, or None. This machine is never asked for elsewhere.

    Raises RegistryError for what is no URL of a proxy.
    """
    told = proxies.https if origin.scheme == "https" else proxies.http
    if not told or is_loopback(origin.host) or _is_excepted(origin, proxies.excepted):
        return None
    url = told if "://" in told else f"http://{told}"
    name = f"{origin.scheme.upper()}_PROXY"
    try:
        parts = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.host:
        raise RegistryError(f"{name} is not the URL of a proxy (try: {name}=http://PROXY:PORT)")
    return url


def _is_excepted(origin: Origin, excepted: str) -> bool:
    """Whether NO_PROXY names it: by name or a domain above it, with a port or not, or a network."""
    names = (origin.host, f"{origin.host}:{origin.port}")
    for word in excepted.lower().replace(",", " ").split():
        told = word.removeprefix("*").lstrip(".")
        if not told or any(name == told or name.endswith(f".{told}") for name in names):
            return True
        with contextlib.suppress(ValueError):
            network = ipaddress.ip_network(told.strip("[]"), strict=False)
            if ipaddress.ip_address(origin.host.strip("[]")) in network:
                return True
    return False
