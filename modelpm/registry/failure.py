"""How what went wrong is told: exceptions and refusals, in words, and whether they may pass."""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

import urllib3

from modelpm.errors import AuthenticationError, ModelPMError, NotFoundError, RegistryError
from modelpm.registry.credentials import Whose
from modelpm.registry.limits import Limits

MAX_SHOWN = 500
"""Characters of a server's own words in a message."""

_MAX_CHAIN = 32

_NO_TLS = ("PACKET_LENGTH", "RECORD_LAYER_FAILURE", "WRONG_VERSION_NUMBER", "HTTP_REQUEST")
"""OpenSSL's words for an answer in another protocol."""

_NO_CERTIFICATE = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
"""What a server says to a client that shows none. The second may mean something else."""

_PROXY_LOGIN = "_PROXY=http://USER:PASSWORD@PROXY:PORT)"

_Kinds = tuple[type[BaseException], ...]

_MEANINGS: tuple[tuple[_Kinds, str, bool, bool], ...] = (
    ((socket.gaierror,), "there is no host {host}, or no network", True, True),
    ((ConnectionRefusedError,), "{host} refuses connections", True, True),
    (
        (urllib3.exceptions.ConnectTimeoutError,),
        "{host} cannot be reached within {connect:g} s",
        True,
        False,
    ),
    (
        (TimeoutError, urllib3.exceptions.TimeoutError),
        "nothing came from {host} within {idle:g} s",
        True,
        False,
    ),
    (
        (ssl.SSLEOFError, ConnectionError, http.client.IncompleteRead),
        "the connection to {host} broke",
        True,
        False,
    ),
    ((http.client.HTTPException, ValueError), "{host} does not answer in HTTP", False, False),
    (
        (urllib3.exceptions.ProtocolError, OSError),
        "the connection to {host} failed",
        True,
        False,
    ),
)
"""What exceptions mean, whether that may pass, and whether only soon. The first row counts."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without a usable answer, in words that hold no URL and no secret."""

    words: str
    may_pass: bool = True
    """Whether another attempt makes sense."""
    quick: bool = False
    """Whether it makes sense only at once."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a server says about why not: its code and its words, as they came."""

    code: str = ""
    message: str = ""


def of_exception(error: BaseException, host: str, limits: Limits) -> Failure:
    """What an exception of the network, or of the libraries above it, means."""
    chain = tuple(_chain(error))
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError):
            return Failure(_untrusted(link, host), may_pass=False)
        if isinstance(link, urllib3.exceptions.ProxyError):
            return _proxy(chain, host)
        if isinstance(link, ssl.SSLError) and not isinstance(link, ssl.SSLEOFError):
            return Failure(_no_tls(link, host), may_pass=False)
    for kinds, words, may_pass, quick in _MEANINGS:
        if any(isinstance(link, kinds) for link in chain):
            told = words.format(host=host, connect=limits.connect, idle=limits.no_progress)
            return Failure(told, may_pass, quick)
    return Failure(f"{host} cannot be asked for this", may_pass=False)


def of_answer(
    task: str,
    host: str,
    status: int,
    refusal: Refusal,
    *,
    anonymous: bool = False,
    elsewhere: str = "",
    whose: Whose | None = None,
) -> ModelPMError:
    """The error that an answer means.

    `task` says what was attempted, `host` who was asked; `elsewhere` is the host that answered, if
    it was another one: what that host says is about a link, not about the model or the user.
    `whose` is where the credentials were found that were shown.
    """
    what = " ".join(part for part in (f"{status}", refusal.code or _phrase(status)) if part)
    told = ": ".join(part for part in (what, refusal.message) if part)
    if elsewhere:
        return RegistryError(f"{task}: {elsewhere}: {told}", status=status, code=refusal.code)
    login = f" (try: modelpm login {host})"
    if status == HTTPStatus.NOT_FOUND:
        why = f"; it does not exist, or not logged in{login}" if anonymous else ""
        return NotFoundError(f"{task}: {told}{why}")
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        told += f"; the proxy wants another user and password (try: HTTP{_PROXY_LOGIN}"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        hint = login if whose is None else _refused(whose, login)
        return AuthenticationError(f"{task}: {told}{hint}", status=status, code=refusal.code)
    return RegistryError(f"{task}: {told}", status=status, code=refusal.code)


def _refused(whose: Whose, login: str) -> str:
    """What to do about credentials that did not suffice."""
    told = f"; it was shown the credentials of {whose.where}"
    if whose.gives_way:
        return f"{told}{login}"
    return f"{told}, which go before those of a login (try: other ones there, or unset it)"


def read_refusal(body: bytes) -> Refusal:
    """What an error's body says (distribution spec, "Error Codes"), or another JSON, or text."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
        return Refusal(message="" if text.startswith("<") else text[:MAX_SHOWN])
    if not isinstance(document, dict):
        return Refusal()
    errors = document.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else document
    if not isinstance(first, dict):
        first = document
    message = next(filter(None, (_text(first, key) for key in _MESSAGE_KEYS)), "")
    return Refusal(_text(first, "code")[:50], message[:MAX_SHOWN])


_MESSAGE_KEYS = ("message", "error_description", "error", "details", "detail")


def _text(document: dict[str, object], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _untrusted(error: ssl.SSLCertVerificationError, host: str) -> str:
    """Of OpenSSL's reasons (x509_vfy.h) those that no authority in a file would help with."""
    why = getattr(error, "verify_message", "") or "the certificate is not valid"
    told = f"the certificate of {host} is not trusted: {why:.200}"
    code = getattr(error, "verify_code", 0)
    other = "; --ca-file FILE is for another authority"
    if code in _OUT_OF_TIME:
        return f"{told} (its operator has to renew it, or the clock here is wrong{other})"
    if code in _OTHER_NAME:
        return f"{told} (ask for it by a name that its certificate is for{other})"
    return f"{told} (try: --ca-file FILE)"


_OUT_OF_TIME = frozenset({9, 10})
_OTHER_NAME = frozenset({62, 64})


def _no_tls(error: ssl.SSLError, host: str) -> str:
    """What an alert means, or an answer that is no TLS. OpenSSL names the reason in brackets."""
    told = getattr(error, "reason", "") or " ".join(map(str, error.args[-1:]))
    why = told.upper()
    if any(mark in why for mark in _NO_TLS):
        return f"{host} does not speak TLS (try: --plain-http {host})"
    option = f"(try: --client-certificate {host}=FILE)"
    if any(mark in why for mark in _NO_CERTIFICATE):
        return f"{host} wants a certificate of yours {option}"
    if "ALERT" in why and ("CERTIFICATE" in why or "UNKNOWN_CA" in why):
        words = why.partition("ALERT_")[2].replace("_", " ").lower()
        return f"{host} wants a certificate of yours that it trusts: {words:.100} {option}"
    return f"there is no TLS with {host}: {why.replace('_', ' ').lower():.200}"


def _proxy(chain: tuple[BaseException, ...], host: str) -> Failure:
    """A proxy's refusal, whose words http.client makes: `Tunnel connection failed: 407 ...`."""
    for link in chain:
        text = str(link.args[0]) if type(link) is OSError and link.args else ""
        words = text.removeprefix("Tunnel connection failed: ")
        if words != text:
            is_login = words.startswith(str(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED.value))
            what = "wants another user and password" if is_login else f"does not let us to {host}"
            name = host.rpartition(":")[0] or host
            hint = (
                f"(try: HTTPS{_PROXY_LOGIN}"
                if is_login
                else f"(try: NO_PROXY={name}, if it is near)"
            )
            return Failure(f"the proxy {what}: {words[:MAX_SHOWN]} {hint}", may_pass=False)
    if any(isinstance(link, ssl.SSLError) for link in chain):
        return Failure(
            "there is no TLS with the proxy (try: HTTPS_PROXY=http://PROXY:PORT)", may_pass=False
        )
    return Failure("the proxy cannot be reached (HTTPS_PROXY says where it is)", quick=True)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that it wraps: libraries put causes in four places."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MAX_CHAIN:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = (link.__cause__, link.__context__, getattr(link, "reason", None), *link.args)
        waiting.extend(item for item in inner if isinstance(item, BaseException))
