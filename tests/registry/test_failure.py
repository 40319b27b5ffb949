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
    (
        ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert"),
        Failure(
            "reg.io wants a certificate of yours (try: --client-certificate reg.io=FILE)",
            may_pass=False,
        ),
    ),
    (
        ssl.SSLError(1, "SSLV3_ALERT_CERTIFICATE_EXPIRED"),
        Failure(
            "reg.io wants a certificate of yours that it trusts: certificate expired"
            " (try: --client-certificate reg.io=FILE)",
            may_pass=False,
        ),
    ),
    (
        ssl.SSLError(1, "TLSV1_ALERT_PROTOCOL_VERSION"),
        Failure("there is no TLS with reg.io: tlsv1 alert protocol version", may_pass=False),
    ),
    (ssl.SSLError(), Failure("there is no TLS with reg.io: ", may_pass=False)),
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
    assert refused == Failure(
        "the proxy wants another user and password: 407 Proxy Authentication Required"
        " (try: HTTPS_PROXY=http://USER:PASSWORD@PROXY:PORT)",
        may_pass=False,
    )
    kept = of_exception(tunnel("Tunnel connection failed: 403 No"), "reg.io:5000", Limits())
    assert kept == Failure(
        "the proxy does not let us to reg.io:5000: 403 No (try: NO_PROXY=reg.io, if it is near)",
        may_pass=False,
    )
    absent = of_exception(tunnel("anything else"), "reg.io", Limits())
    told = "the proxy cannot be reached (HTTPS_PROXY says where it is)"
    assert absent == Failure(told, quick=True)
    plain = OSError(urllib3.exceptions.ProxyError("no", ssl.SSLError(1, "WRONG_VERSION_NUMBER")))
    told = "there is no TLS with the proxy (try: HTTPS_PROXY=http://PROXY:PORT)"
    assert of_exception(plain, "reg.io", Limits()) == Failure(told, may_pass=False)


EXPIRED, OTHER_NAME = 10, 62


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (18, "(try: --ca-file FILE)"),
        (EXPIRED, "(its operator has to renew it, or the clock here is wrong; --ca-file FILE is"),
        (OTHER_NAME, "(ask for it by a name that its certificate is for; --ca-file FILE is"),
    ],
)
def test_a_certificates_flaw_has_its_own_advice(code: int, hint: str) -> None:
    error = bad_certificate()
    error.verify_code = code
    told = of_exception(wrapped(error), "reg.io", Limits())
    assert told.words.startswith("the certificate of reg.io is not trusted: self-signed")
    assert hint in told.words
    assert not told.may_pass


def test_a_proxy_that_is_asked_without_a_tunnel_refuses_with_an_answer() -> None:
    error = of_answer("pulling reg.io/a:b", "reg.io", 407, Refusal())
    assert type(error) is RegistryError
    assert "407 Proxy Authentication Required; the proxy wants another user" in str(error)
    assert "(try: HTTP_PROXY=http://USER:PASSWORD@PROXY:PORT)" in str(error)


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
