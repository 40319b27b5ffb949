"""What a URL from outside may be: its origin, where it may lead, and how it is shown.

Stricter than RFC 3986, so that no two parsers can read one URL as two hosts: no user information,
no backslash, space or control character, and an authority of plain ASCII.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

from modelpm.errors import RegistryError

MAX_LENGTH = 16_384

_SHOWN = frozenset(
    {"artifactType", "digest", "from", "last", "mount", "n", "ns", "scope", "service"}
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(
    r"""(https?) ://
        ( [A-Za-z0-9_] (?:[A-Za-z0-9_.-]{0,251} [A-Za-z0-9_.])? | \[ [0-9A-Fa-f:.]{2,45} \] )
        (?: : ([0-9]{1,5}) )?
        ( [/?\#] .* )?""",
    re.VERBOSE | re.IGNORECASE,
)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_BEYOND_ORIGIN = re.compile(r"[^/]*//[^/]*(/[^#]*)(?:#.*)?")
_SAFE = "!#$%&'()*+,/:;=?@[]~"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who answers: scheme, host and port. Secrets belong to one (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """The origin of an absolute http or https URL. Raises RegistryError for any other text."""
        match = None if len(url) > MAX_LENGTH or _FORBIDDEN.search(url) else _URL.fullmatch(url)
        scheme = match[1].lower() if match else ""
        port = int(match[3] or _DEFAULT_PORTS[scheme]) if match else 0
        if match is None or not 0 < port < 2**16:
            raise RegistryError(f"not a URL that modelpm goes to: {redacted(url)!r:.300}")
        return cls(scheme, match[2].lower(), port)

    @property
    def authority(self) -> str:
        """Host, and port where it is not the scheme's own."""
        default = self.port == _DEFAULT_PORTS[self.scheme]
        return self.host if default else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def redirected(url: str, location: str) -> str:
    """Where a redirect from `url` leads: an absolute http or https URL.

    Raises RegistryError for what is no such URL, and for a way from https to http.
    """
    if not location or location.startswith("//") or _FORBIDDEN.search(location):
        raise RegistryError(f"{Origin.of(url)} redirects to nowhere: {redacted(location)!r:.200}")
    target = _joined(url, location)
    origin = Origin.of(target)
    if origin.scheme == "http" and Origin.of(url).scheme == "https":
        raise RegistryError(f"{Origin.of(url)} redirects from https to {origin}; refused")
    return target


def next_page(url: str, link: str) -> str:
    """Where the next page of the list at `url` is.

    Of a link only path and query count: a list never leaves its registry. Raises RegistryError.
    """
    match = None if _FORBIDDEN.search(link) else _BEYOND_ORIGIN.fullmatch(_joined(url, link))
    page = f"{Origin.of(url)}{match[1] if match else ''}"
    if match is None or len(page) > MAX_LENGTH:
        raise RegistryError(f"{Origin.of(url)} has a next page nowhere: {redacted(link)!r:.200}")
    return page


def redacted(url: str) -> str:
    """The URL for messages and logs: of its query only harmless values, of its user nothing."""
    try:
        parts = urlsplit(url)
        query = [
            (key, value if key in _SHOWN else "REDACTED")
            for key, value in parse_qsl(parts.query, keep_blank_values=True, max_num_fields=100)
        ]
    except ValueError:
        return url.partition("?")[0].rpartition("@")[2]
    bare = parts._replace(
        netloc=parts.netloc.rpartition("@")[2], query=urlencode(query, safe=":/,*"), fragment=""
    )
    return bare.geturl()


def is_loopback(host: str) -> bool:
    """Whether a host, as it stands in a URL, is this machine."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def is_internal(host: str) -> bool:
    """Whether a host is written as an address that the internet does not route, or localhost."""
    address = _address(host)
    if address is None:
        return host.rstrip(".").rpartition(".")[2] == "localhost"
    return not address.is_global


def _joined(url: str, link: str) -> str:
    """The absolute URL of a link from a header, which http.client decodes as Latin-1."""
    try:
        return quote(urljoin(url, link).encode("latin-1", "replace"), safe=_SAFE)
    except ValueError:
        return ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a resolver would make of a literal, in all its spellings (127.1, 0x7f.1)."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
