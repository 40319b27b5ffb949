"""How failures are told: every message says what, where and what to do, and nothing secret."""

import http.client
import json
import socket
import ssl

import pytest
import urllib3

from modelpm.errors import AuthenticationError, ModelPMError, NotFoundError, RegistryError
from modelpm.registry.failure import Failure, Refusal, of_answer, of_exception, read_refusal
from modelpm.registry.limits import Limits

LOGIN = "(try: modelpm login reg.io)"
POOL = urllib3.HTTPConnectionPool("reg.io")
SECRET_URL = "/b?X-Amz-Signature=s3cret"


def wrapped(error: BaseException) -> BaseException:
    """As urllib3 and requests wrap it."""
    inner = urllib3.exceptions.ProtocolError(f"Connection aborted. {SECRET_URL}", error)
    return OSError(urllib3.exceptions.MaxRetryError(POOL, SECRET_URL, inner))


def tunnel(words: str) -> BaseException:
    return OSError(urllib3.exceptions.ProxyError("Cannot connect to proxy.", OSError(words)))


def bad_certificate() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


FAILURES: list[tuple[BaseException, Failure]] = [
    (ConnectionRefusedError(111, "x"), Failure("reg.io refuses connections", quick=True)),
    (socket.gaierror(-2, "x"), Failure("there is no host reg.io, or no network", quick=True)),
    (ConnectionResetError(104, "x"), Failure("the connection to reg.io broke")),
    (http.client.RemoteDisconnected("x"), Failure("the connection to reg.io broke")),
    (http.client.IncompleteRead(b"", 5), Failure("the connection to reg.io broke")),
    (ssl.SSLEOFError(8, "EOF"), Failure("the connection to reg.io broke")),
    (TimeoutError("timed out"), Failure("nothing came from reg.io within 30 s")),
    (OSError(113, "no route"), Failure("the connection to reg.io failed")),
    (
        urllib3.exceptions.ConnectTimeoutError(POOL, "x"),
        Failure("reg.io cannot be reached within 15 s"),
    ),
    (
        bad_certificate(),
        Failure(
            "the certificate of reg.io is not trusted: self-signed certificate"
            " (try: --ca-file FILE)",
            may_pass=False,
        ),
    ),
    (
        ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"),
        Failure("reg.io does not speak TLS (try: --plain-http reg.io)", may_pass=False),
    ),
    (http.client.LineTooLong("header"), Failure("reg.io does not answer in HTTP", may_pass=False)),
    (ValueError("bad header"), Failure("reg.io does not answer in HTTP", may_pass=False)),
    (RuntimeError("x"), Failure("the connection to reg.io failed")),
]


@pytest.mark.parametrize(("error", "failure"), FAILURES)
def test_an_exception_is_put_into_words(error: BaseException, failure: Failure) -> None:
    told = of_exception(wrapped(error), "reg.io", Limits())
    assert told == failure
    assert "s3cret" not in told.words


def test_a_proxy_is_told_apart() -> None:
    words = "Tunnel connection failed: 407 Proxy Authentication Required"
    refused = of_exception(tunnel(words), "reg.io", Limits())
    assert refused == Failure(f"the proxy refuses: {words}", may_pass=False)
    absent = of_exception(tunnel("anything else"), "reg.io", Limits())
    assert absent == Failure("the proxy cannot be reached", quick=True)


def test_what_nobody_foresaw_does_not_pass_and_a_circle_of_causes_ends() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    told = of_exception(first, "reg.io", Limits())
    assert told == Failure("reg.io cannot be asked for this", may_pass=False)


def oci(code: object, message: object) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


REFUSALS = [
    (oci("DENIED", "no \x1b[31mway"), Refusal("DENIED", "no \x1b[31mway")),
    (oci("X" * 99, "m" * 999), Refusal("X" * 50, "m" * 500)),
    (oci(7, ["x"]), Refusal()),
    (b'{"errors": ["x"], "message": "m"}', Refusal("", "m")),
    (b'{"errors": []}', Refusal()),
    (b'{"error": "invalid_grant", "error_description": "expired"}', Refusal("", "expired")),
    (b'{"details": "bad creds"}', Refusal("", "bad creds")),
    (b"[1]", Refusal()),
    (b"[" * 100_000, Refusal("", "[" * 500)),
    (b"", Refusal()),
    (b"  upstream is busy\n", Refusal("", "upstream is busy")),
    (b"<html>502</html>", Refusal()),
    (b"\xff\xfe", Refusal("", "\ufffd\ufffd")),
]


@pytest.mark.parametrize(("body", "refusal"), REFUSALS)
def test_a_refusal_is_read_whatever_it_is(body: bytes, refusal: Refusal) -> None:
    assert read_refusal(body) == refusal


ANSWERS: list[tuple[int, Refusal, dict[str, object], type[ModelPMError], str]] = [
    (
        403,
        Refusal("DENIED", "words"),
        {},
        AuthenticationError,
        f"pulling reg.io/a: 403 DENIED: words {LOGIN}",
    ),
    (
        404,
        Refusal("NAME_UNKNOWN"),
        {"anonymous": True},
        NotFoundError,
        f"pulling reg.io/a: 404 NAME_UNKNOWN; it does not exist, or not logged in {LOGIN}",
    ),
    (404, Refusal(), {}, NotFoundError, "pulling reg.io/a: 404 Not Found"),
    (
        500,
        Refusal(message="x"),
        {},
        RegistryError,
        "pulling reg.io/a: 500 Internal Server Error: x",
    ),
    (599, Refusal(), {}, RegistryError, "pulling reg.io/a: 599"),
    (
        404,
        Refusal(),
        {"elsewhere": "cdn.io"},
        RegistryError,
        "pulling reg.io/a: cdn.io: 404 Not Found",
    ),
    (
        401,
        Refusal(),
        {"elsewhere": "cdn.io"},
        RegistryError,
        "pulling reg.io/a: cdn.io: 401 Unauthorized",
    ),
]


@pytest.mark.parametrize(("status", "refusal", "options", "kind", "message"), ANSWERS)
def test_an_answer_is_put_into_words(
    status: int,
    refusal: Refusal,
    options: dict[str, bool | str],
    kind: type[ModelPMError],
    message: str,
) -> None:
    anonymous, elsewhere = bool(options.get("anonymous")), str(options.get("elsewhere", ""))
    error = of_answer(
        "pulling reg.io/a", "reg.io", status, refusal, anonymous=anonymous, elsewhere=elsewhere
    )
    assert type(error) is kind
    assert str(error) == message
    if isinstance(error, RegistryError):
        assert (error.status, error.code) == (status, refusal.code)
