"""The one door: redirects, retries, refusals, TLS, proxies; what is sent where, and how long."""

import base64
import logging
import socket
import threading
import time
from ast import literal_eval
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
from certificates import Authority
from registry import Basic, Bearer, Content, Registry

from modelpm.content import read_manifest
from modelpm.errors import AuthenticationError, ModelPMError, NotFoundError, RegistryError
from modelpm.registry.client import _Call
from modelpm.registry.credentials import Credential
from modelpm.registry.repository import Repository
from tests.registry.conftest import NAME, QUICK, Always, Bench

BLOB = bytes(range(256)) * 40


def fill(registry: Registry) -> None:
    registry.add_artifact(NAME, "latest", [("application/octet-stream", BLOB)])


def pull(repository: Repository) -> bytes:
    """The one layer of the model, through resolve and fetch."""
    manifest = read_manifest(repository, repository.resolve("latest"))
    with repository.fetch(manifest.layers[0]) as stream:
        return b"".join(iter(lambda: stream.read(2**16), b""))


def refusal(repository: Repository, kind: type[ModelPMError] = RegistryError) -> str:
    """What a pull that must fail says, at once and without a trace of what lies below."""
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        pull(repository)
    assert time.monotonic() - started < 5
    assert type(caught.value) is kind
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return str(caught.value)


# Retries


PASSING: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 502},
    {"status": 503, "headers": {"Retry-After": "7"}},
    {"status": 504},
    {"status": 429, "headers": {"Retry-After": "1"}},
    {"status": 408},
    {"status": 522},
    {"cut": 3},
    {"reset": 0},
    {"framing": "chunked", "cut": 10},
    {"stall": 0, "hold": 60},
    {"delay": 60},
]


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("path", ["/manifests/", "/blobs/"])
def test_what_passes_is_waited_for(bench: Bench, fault: dict[str, Any], path: str) -> None:
    registry = bench.registry([{"path": path, "times": 2, **fault}])
    fill(registry)
    assert pull(bench.repository(registry, limits=replace(QUICK, no_progress=1))) == BLOB
    assert len(bench.waits.slept) == 2
    assert all(registry.host in reason for _, reason in bench.waits.told)
    after = fault.get("headers", {}).get("Retry-After")
    assert after is None or bench.waits.slept == [float(after)] * 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_does_not_pass_is_given_up(bench: Bench, status: int) -> None:
    registry = bench.registry([{"path": "/manifests/", "status": status}])
    message = refusal(bench.repository(registry))
    assert f"pulling {registry.host}/{NAME}:latest: {status} FAULT: scripted {status}" in message
    assert len(registry.log) == QUICK.attempts


PERMANENT: list[tuple[int, type[ModelPMError]]] = [
    (400, RegistryError),
    (401, AuthenticationError),
    (403, AuthenticationError),
    (404, NotFoundError),
    (405, RegistryError),
    (410, RegistryError),
    (418, RegistryError),
    (451, RegistryError),
    (501, RegistryError),
    (505, RegistryError),
    (304, RegistryError),
]


@pytest.mark.parametrize(("status", "kind"), PERMANENT)
def test_a_refusal_comes_at_once(bench: Bench, status: int, kind: type[ModelPMError]) -> None:
    registry = bench.registry([{"path": "/manifests/", "status": status}])
    assert f" {status} " in refusal(bench.repository(registry), kind)
    assert len(registry.log) == 1
    assert bench.waits.slept == []


def test_who_is_not_logged_in_hears_of_that(bench: Bench) -> None:
    registry = bench.registry()
    anonymous = refusal(bench.repository(registry), NotFoundError)
    assert f"or not logged in (try: modelpm login {registry.host})" in anonymous
    known = refusal(bench.repository(registry, credentials=Always()), NotFoundError)
    assert "login" not in known


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_host_that_refuses_is_given_up_within_a_second(bench: Bench) -> None:
    client = bench.client(f"127.0.0.1:{closed_port()}", limits=replace(QUICK, backoff=0.25))
    assert "refuses connections" in refusal(Repository(client, NAME))
    assert len(bench.waits.slept) == 2
    assert sum(bench.waits.slept) < 0.5


def test_a_host_that_does_not_exist_is_named(bench: Bench) -> None:
    client = bench.client("no-such-host.invalid", limits=replace(QUICK, backoff=0.25))
    with pytest.raises(RegistryError, match=r"no-such-host\.invalid/team/tiny:latest: there is no"):
        Repository(client, NAME).resolve("latest")
    assert sum(bench.waits.slept) < 0.5


# Bodies that are read whole

ENDLESS: list[dict[str, Any]] = [
    {"endless": True},
    {"endless": True, "framing": "chunked"},
    {"append": 300 * 2**20},
    {"append": 4 * 2**20},
    {"length": 10**15},
]


@pytest.mark.parametrize("fault", ENDLESS)
def test_a_manifest_without_end_is_left(bench: Bench, fault: dict[str, Any]) -> None:
    registry = bench.registry([{"path": "/manifests/", **fault}])
    fill(registry)
    refusal(bench.repository(registry))


def test_an_error_without_end_is_read_in_part(bench: Bench) -> None:
    registry = bench.registry([{"status": 403, "body": "x" * 10**6, "endless": True}])
    message = refusal(bench.repository(registry), AuthenticationError)
    assert "x" * 500 in message
    assert "x" * 501 not in message


def test_a_manifest_that_drips_is_left(bench: Bench) -> None:
    registry = bench.registry([{"path": "/manifests/", "rate": 20}])
    fill(registry)
    limits = replace(QUICK, document=0.3)
    assert "does not come to its end" in refusal(bench.repository(registry, limits=limits))


def test_an_answer_in_a_content_coding_is_refused(bench: Bench) -> None:
    for path in ("/manifests/", "/blobs/"):
        registry = bench.registry([{"path": path, "gzip": True}])
        fill(registry)
        assert "encoded as gzip" in refusal(bench.repository(registry))
        assert all(request.headers["accept-encoding"] == "identity" for request in registry.log)


class Raw:
    """A server that sends the same bytes to whoever comes, `piece` bytes at a time."""

    def __init__(self, content: bytes, piece: int = 2**20, pause: float = 0) -> None:
        self._content, self._piece, self._pause = content, piece, pause
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.1)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run)]
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        self._server.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                continue
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            try:
                if self._content:
                    connection.recv(65536)
                for start in range(0, len(self._content), self._piece):
                    connection.sendall(self._content[start : start + self._piece])
                    if self._stop.wait(self._pause):
                        break
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError:
                return


OK = b"HTTP/1.1 200 OK\r\n"
NOT_HTTP = [
    b"SSH-2.0-OpenSSH_9.2p1\r\n",
    OK + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    OK + b"X: a\r\n" * 200 + b"\r\n",
    b"HTTP/1.1 99999999 x\r\n\r\n",
    OK + b"Content-Length: 5, 6\r\n\r\nabcde",
    OK + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\nabc",
]


@pytest.mark.parametrize("content", NOT_HTTP)
def test_an_answer_that_is_no_http_is_an_error(bench: Bench, content: bytes) -> None:
    with Raw(content) as server:
        message = refusal(Repository(bench.client(server.host, plain_http=True), NAME))
        assert f"pulling {server.host}/{NAME}:latest: " in message
        bench.client(server.host).close()


def test_a_head_that_drips_is_left(bench: Bench) -> None:
    limits = replace(QUICK, no_progress=0.2, attempts=2)
    with Raw(OK + b"X: " + b"a" * 60_000, piece=1, pause=0.05) as server:
        client = bench.client(server.host, plain_http=True, limits=limits)
        assert "within 0.2 s" in refusal(Repository(client, NAME))
        assert len(bench.waits.slept) == 1
        client.close()


# Redirects


def test_a_redirect_is_followed_and_nothing_secret_with_it(bench: Bench) -> None:
    content = Content()
    sink = bench.sink(content)
    registry = bench.registry(
        [{"path": "/blobs/", "redirect": f"{sink.url}/x/{{digest}}?X-Amz-Signature=sig"}],
        content=content,
        auth=Basic("alice", "s3cret-of-alice"),
    )
    fill(registry)
    repository = bench.repository(registry, credentials=Always())
    layer = read_manifest(repository, repository.resolve("latest")).layers[0]
    with repository.fetch(layer, 100) as stream:
        assert b"".join(iter(lambda: stream.read(2**16), b"")) == BLOB[100:]
    assert sink.secrets == ()
    assert sink.log[0].headers["range"] == "bytes=100-"
    assert sink.log[0].headers["accept-encoding"] == "identity"
    assert all(request.has_secret for request in registry.log[1:])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_five_redirects_are_followed_and_no_more(bench: Bench, status: int) -> None:
    rule = {"path": "/blobs/", "status": status, "redirect": "{path}"}
    registry = bench.registry([{**rule, "times": 5}])
    fill(registry)
    assert pull(bench.repository(registry)) == BLOB
    registry.scenario = [{**rule, "times": 6}]
    assert "more than 5 redirects" in refusal(bench.repository(registry))


def test_a_circle_of_redirects_ends_at_once(bench: Bench) -> None:
    registry = bench.registry([{"path": "/manifests/", "redirect": "{path}"}])
    refusal(bench.repository(registry))
    assert len(registry.log) == 6
    assert bench.waits.slept == []


HOSTILE = [
    "",
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "gopher://127.0.0.1/x",
    "data:text/plain,x",
    "//127.0.0.1/x",
    "http://127.0.0.1/x\r\n y",
    "http://user:s3cret@127.0.0.1/x",
    "http://127.0.0.1:99999/x",
    "x" * 30_000,
]


@pytest.mark.parametrize("location", HOSTILE)
def test_a_hostile_redirect_is_refused_at_once(bench: Bench, location: str) -> None:
    registry = bench.registry([{"path": "/blobs/", "redirect": location}])
    fill(registry)
    message = refusal(bench.repository(registry))
    assert message.startswith(f"pulling {registry.host}/{NAME}, blob ")
    assert "s3cret" not in message
    assert len(message) < 600
    assert bench.waits.slept == []


def test_a_redirect_without_location_is_refused(bench: Bench) -> None:
    registry = bench.registry([{"path": "/manifests/", "status": 307}])
    assert "redirects to nowhere" in refusal(bench.repository(registry))


def test_a_redirect_with_a_body_without_end_is_not_read(bench: Bench) -> None:
    rule = {"path": "/blobs/", "redirect": "{path}", "times": 1, "endless": True}
    registry = bench.registry([rule])
    fill(registry)
    assert pull(bench.repository(registry)) == BLOB


def test_a_foreign_401_is_not_answered(bench: Bench) -> None:
    sink = bench.sink(scenario=[{"challenge": 'Basic realm="give it to me"'}])
    registry = bench.registry(
        [{"path": "/manifests/", "redirect": f"{sink.url}/x"}],
        auth=Basic("alice", "s3cret-of-alice"),
    )
    fill(registry)
    message = refusal(bench.repository(registry, credentials=Always()))
    assert f"127.0.0.1:{sink.port}: 401" in message
    assert len(sink.log) >= 1
    assert sink.secrets == ()


def test_authorization_does_not_come_back_with_a_second_redirect(bench: Bench) -> None:
    sink = bench.sink()
    registry = bench.registry(auth=Basic("alice", "s3cret-of-alice"))
    fill(registry)
    registry.scenario = [
        {"path": "/manifests/latest$", "authorized": True, "redirect": f"{sink.url}/back"}
    ]
    sink.scenario = [{"redirect": f"{registry.url}/v2/{NAME}/manifests/other"}]
    refusal(bench.repository(registry, credentials=Always()))
    asked = [request for request in registry.log if request.path.endswith("/other")]
    assert [request.has_secret for request in asked] == [False]
    assert sink.secrets == ()


# Authentication


def test_basic_costs_one_extra_request(bench: Bench) -> None:
    registry = bench.registry(auth=Basic("alice", "s3cret-of-alice"))
    fill(registry)
    assert pull(bench.repository(registry, credentials=Always())) == BLOB
    assert [request.status for request in registry.log] == [401, 200, 200]


def test_a_wrong_password_is_told_at_once(bench: Bench) -> None:
    registry = bench.registry(auth=Basic("alice", "another"))
    message = refusal(bench.repository(registry, credentials=Always()), AuthenticationError)
    assert message == (
        f"pulling {registry.host}/{NAME}:latest: 401 UNAUTHORIZED: authentication required"
        f" (try: modelpm login {registry.host})"
    )
    assert len(registry.log) == 2


def test_an_anonymous_token_serves_all_requests(bench: Bench) -> None:
    tokens = bench.tokens()
    registry = bench.registry(auth=Bearer(tokens))
    fill(registry)
    assert pull(bench.repository(registry)) == BLOB
    assert [request.status for request in registry.log] == [401, 200, 200]
    assert len(tokens.log) == 1
    assert not tokens.log[0].has_secret


def test_credentials_do_not_go_to_another_port(bench: Bench) -> None:
    tokens = bench.tokens({"alice": "s3cret-of-alice"})
    registry = bench.registry(auth=Bearer(tokens))
    fill(registry)
    message = refusal(bench.repository(registry, credentials=Always()), AuthenticationError)
    assert "your credentials were not sent" in message
    assert not tokens.log
    trusting = bench.repository(registry, credentials=Always(), trusted_realms=[tokens.url])
    assert pull(trusting) == BLOB
    assert tokens.log[0].has_secret


def test_a_token_withdrawn_halfway_is_fetched_anew(bench: Bench) -> None:
    tokens = bench.tokens()
    registry = bench.registry(auth=Bearer(tokens))
    fill(registry)
    repository = bench.repository(registry)
    manifest = read_manifest(repository, repository.resolve("latest"))
    tokens.revoke()
    with repository.fetch(manifest.layers[0]) as stream:
        assert stream.read(1)
    assert len(tokens.log) == 2


def test_a_registry_that_is_never_content_is_left_after_two_rounds(bench: Bench) -> None:
    tokens = bench.tokens()
    challenge = f'Bearer realm="{tokens.realm}",service="x"'
    registry = bench.registry([{"challenge": challenge}])
    refusal(bench.repository(registry), AuthenticationError)
    assert len(registry.log) == 3
    assert len(tokens.log) == 2


def test_the_token_of_one_registry_is_not_shown_to_another(bench: Bench) -> None:
    tokens = bench.tokens()
    first, second = (bench.registry(auth=Bearer(tokens)) for _ in range(2))
    for registry in (first, second):
        fill(registry)
        pull(bench.repository(registry))
    seen = [
        {request.headers.get("authorization") for request in registry.log}
        for registry in (first, second)
    ]
    assert seen[0] & seen[1] == {None}


def test_threads_share_one_token(bench: Bench) -> None:
    tokens = bench.tokens()
    registry = bench.registry(auth=Bearer(tokens))
    fill(registry)
    repository = bench.repository(registry)
    pulled: list[bytes] = []
    threads = [threading.Thread(target=lambda: pulled.append(pull(repository))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert pulled == [BLOB] * 8
    assert len(tokens.log) == 1


BAD_TOKENS: list[dict[str, Any]] = [
    {"body": "x" * 10_000_000},
    {"endless": True},
    {"body": "<html>"},
    {"status": 204},
    {"status": 500},
    {"redirect": "file:///etc/passwd"},
    {"gzip": True},
    {"cut": 1},
    {"rate": 5},
]


@pytest.mark.parametrize("fault", BAD_TOKENS)
def test_a_bad_token_service_is_an_error(bench: Bench, fault: dict[str, Any]) -> None:
    tokens = bench.tokens(scenario=[fault])
    registry = bench.registry(auth=Bearer(tokens))
    limits = replace(QUICK, token=0.2, attempts=2)
    refusal(bench.repository(registry, limits=limits))


def test_a_token_service_that_is_busy_is_waited_for(bench: Bench) -> None:
    tokens = bench.tokens(scenario=[{"status": 503, "times": 2, "headers": {"Retry-After": "3"}}])
    registry = bench.registry(auth=Bearer(tokens))
    fill(registry)
    assert pull(bench.repository(registry)) == BLOB
    assert bench.waits.slept == [3, 3]


def test_netrc_is_not_read(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    registry = bench.registry()
    fill(registry)
    assert pull(bench.repository(registry)) == BLOB
    assert not any(request.has_secret for request in registry.log)


def test_cookies_are_not_kept(bench: Bench) -> None:
    registry = bench.registry([{"headers": {"Set-Cookie": "a=b; Path=/"}}])
    fill(registry)
    pull(bench.repository(registry))
    assert not any(request.has_secret for request in registry.log)


def test_no_secret_is_logged_or_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "modelpm")
    sink = bench.sink(scenario=[{"status": 403}])
    tokens = bench.tokens({"alice": "s3cret-of-alice"})
    registry = bench.registry(
        [
            {
                "path": "/blobs/",
                "authorized": True,
                "redirect": f"{sink.url}/x?X-Amz-Signature=sig9",
            },
        ],
        auth=Bearer(tokens),
    )
    fill(registry)
    repository = bench.repository(registry, credentials=Always(), trusted_realms=[tokens.url])
    message = refusal(repository)
    told = caplog.text + message + repr(bench.waits.told)
    assert "X-Amz-Signature=REDACTED" in caplog.text
    bearer = registry.log[1].headers["authorization"].split()[1]
    assert not any(secret in told for secret in ("s3cret-of-alice", "sig9", bearer))


def test_a_secret_that_a_server_repeats_is_scrubbed(bench: Bench) -> None:
    rule = {"status": 400, "authorized": True, "body": "you said: s3cret-of-alice"}
    registry = bench.registry([rule], auth=Basic("alice", "s3cret-of-alice"))
    message = refusal(bench.repository(registry, credentials=Always()))
    assert "you said: ***" in message


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def test_tls_with_an_authority_of_ones_own(bench: Bench, authority: Authority) -> None:
    registry = bench.registry(tls=authority.issue().server_context())
    fill(registry)
    ca_file = str(authority.certificate)
    assert pull(bench.repository(registry, ca_file=ca_file)) == BLOB
    assert pull(bench.repository(registry, ca_file=ca_file, plain_http=False)) == BLOB


CERTIFICATES = [("127.0.0.1", -1, "expired"), ("other.example", 30, "mismatch")]


@pytest.mark.parametrize(("name", "days", "why"), CERTIFICATES)
def test_a_bad_certificate_is_refused(
    bench: Bench, authority: Authority, name: str, days: int, why: str
) -> None:
    registry = bench.registry(tls=authority.issue(name, days=days).server_context())
    fill(registry)
    message = refusal(bench.repository(registry, ca_file=str(authority.certificate)))
    assert why in message
    assert "--ca-file FILE" in message
    assert registry.log == ()
    assert bench.waits.slept == []


def test_an_unknown_authority_is_never_plain_http(bench: Bench, authority: Authority) -> None:
    registry = bench.registry(tls=authority.issue().server_context())
    assert "is not trusted" in refusal(bench.repository(registry))
    assert registry.log == ()


def test_tls_cut_without_goodbye_is_a_broken_connection(bench: Bench, authority: Authority) -> None:
    rules = [{"path": "/blobs/", "times": 1, "framing": "close", "cut": 500}]
    rules += [{"path": "/blobs/", "times": 1, "reset": 700}]
    registry = bench.registry(rules, tls=authority.issue().server_context())
    fill(registry)
    assert pull(bench.repository(registry, ca_file=str(authority.certificate))) == BLOB


def test_https_is_not_redirected_to_http(bench: Bench, authority: Authority) -> None:
    sink = bench.sink()
    rule = {"path": "/blobs/", "redirect": f"{sink.url}/{{digest}}"}
    registry = bench.registry([rule], tls=authority.issue().server_context())
    fill(registry)
    message = refusal(bench.repository(registry, ca_file=str(authority.certificate)))
    assert "from https to http://127.0.0.1" in message
    assert sink.log == ()


def test_where_https_is_wanted_plain_http_is_refused(bench: Bench) -> None:
    registry = bench.registry()
    message = refusal(bench.repository(registry, plain_http=False))
    assert f"does not speak TLS (try: --plain-http {registry.host})" in message


def test_a_tls_server_is_not_spoken_to_plainly_unless_told(
    bench: Bench, authority: Authority
) -> None:
    registry = bench.registry(tls=authority.issue().server_context())
    refusal(bench.repository(registry, plain_http=True))
    assert registry.log == ()


CA_FILES = [(b"not a certificate", "not a PEM file"), (None, "No such file")]


@pytest.mark.parametrize(("content", "why"), CA_FILES)
def test_a_bad_ca_file_is_named(
    bench: Bench, tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RegistryError, match=f"--ca-file .*ca.pem: {why}"):
        bench.client("reg.io", ca_file=str(path))


ALERT = bytes.fromhex("15030300020228")
SCHEMES = [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "http"), (b"", "http"), (ALERT, "https")]


@pytest.mark.parametrize(("content", "scheme"), SCHEMES)
def test_this_machine_is_asked_what_it_speaks(bench: Bench, content: bytes, scheme: str) -> None:
    with Raw(content) as server:
        client = bench.client(server.host)
        assert client.prefix == scheme
    assert client.prefix == scheme


def test_silence_is_taken_for_tls(bench: Bench) -> None:
    with Raw(b"\x16", piece=1, pause=1) as server:
        assert bench.client(server.host, limits=replace(QUICK, connect=0.2)).prefix == "https"


def test_what_nobody_answered_is_asked_again(bench: Bench) -> None:
    port = closed_port()
    client = bench.client(f"127.0.0.1:{port}")
    assert client.prefix == "https"
    bench.registry(port=port)
    assert client.prefix == "http"


def test_elsewhere_it_is_https_unless_told(bench: Bench) -> None:
    assert bench.client("reg.io").prefix == "https"
    assert bench.client("reg.io", plain_http=True).prefix == "http"
    assert str(bench.client("docker.io").origin) == "https://registry-1.docker.io"
    assert str(bench.client("[::1]:5000", plain_http=True).origin) == "http://[::1]:5000"


# The rest of the door


class Stream:
    """A body that is read as it goes out."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[bytes]:
        yield b"x"


@pytest.mark.parametrize(("body", "sent"), [(b"x", QUICK.attempts), (Stream(), 1)])
def test_a_body_of_bytes_is_sent_again_and_a_stream_is_not(
    bench: Bench, body: object, sent: int
) -> None:
    registry = bench.registry([{"method": "POST", "status": 503}])
    client = bench.client(registry.host)
    url = f"{registry.url}/v2/{NAME}/blobs/uploads/"
    response = client.do_request(url, "POST", data=body)
    with pytest.raises(RegistryError, match=rf"pushing {registry.host}/{NAME}, blob uploads/: 503"):
        client.check(response)
    assert len(registry.log) == sent


def test_a_request_to_another_origin_carries_nothing(bench: Bench) -> None:
    sink = bench.sink(scenario=[{"challenge": 'Basic realm="x"'}])
    client = bench.client("reg.example", credentials=Always())
    assert client.do_request(f"{sink.url}/v2/").status_code == 401
    assert sink.secrets == ()


def test_other_urls_have_words_too(bench: Bench) -> None:
    registry = bench.registry([{"status": 400}])
    client = bench.client(registry.host)
    with pytest.raises(RegistryError, match=f"asking {registry.host}: 400"):
        client.check(client.do_request(f"{registry.url}/v2/"))


def test_the_client_says_who_it_is(bench: Bench) -> None:
    registry = bench.registry()
    fill(registry)
    pull(bench.repository(registry))
    agents = {request.headers["user-agent"] for request in registry.log}
    assert len(agents) == 1
    assert agents.pop().startswith("modelpm/")


def test_a_registry_that_serves_anybody_is_not_told_who_asks(bench: Bench) -> None:
    class Reluctant(Always):
        def find(self, host: str, repository: str) -> Credential | None:
            raise AuthenticationError("the helper is not to be asked")

    registry = bench.registry()
    fill(registry)
    assert pull(bench.repository(registry, credentials=Reluctant())) == BLOB


REPEATED = [
    {"redirect": "///{}"},
    {"redirect": "ftp://elsewhere/{}"},
    {"challenge": 'Bearer realm="gopher://elsewhere/{}"'},
    {"status": 200, "headers": {"Content-Encoding": "{}"}},
]


@pytest.mark.parametrize("rule", REPEATED, ids=str)
def test_a_secret_in_a_header_of_the_answer_is_scrubbed(bench: Bench, rule: dict[str, Any]) -> None:
    said = base64.b64encode(b"alice:s3cret-of-alice").decode()
    filled = literal_eval(repr(rule).replace("{}", said))
    registry = bench.registry([{"nth": 2, **filled}], auth=Basic("alice", "s3cret-of-alice"))
    fill(registry)
    message = refusal(
        bench.repository(registry, credentials=Always()),
        AuthenticationError if "challenge" in rule else RegistryError,
    )
    assert "***" in message
    assert said.rstrip("=") not in message


SHOWN = [
    {"redirect": "http://s3cret-of-alice.invalid/x"},
    {"status": 400, "body": "you said S3CRET%2Dof%2Dalice"},
    *(
        {
            "status": 200,
            "headers": {"Docker-Content-Digest": None, "Content-Type": kind},
            "body": '{"schemaVersion": 2, "mediaType": "application/x.s3cret-of-alice+json"}',
        }
        for kind in (
            "application/json",
            "application/s3cret-OF-alice+json",
            "application/vnd.czNjcmV0LW9mLWFsaWNl",
        )
    ),
]


@pytest.mark.parametrize("rule", SHOWN, ids=str)
def test_a_secret_is_not_told_in_whatever_form_it_comes_back(
    bench: Bench, rule: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    registry = bench.registry(
        [{"authorized": True, **rule}], auth=Basic("alice", "s3cret-of-alice")
    )
    fill(registry)
    message = refusal(bench.repository(registry, credentials=Always()))
    ours = [record.getMessage() for record in caplog.records if record.name == "modelpm.registry"]
    told = f"{message}{bench.waits.told}{ours}".lower()
    assert "***" in told
    for form in ("s3cret-of", "s3cret%2d", "cznjcmv0lw"):
        assert form not in told


def test_a_secret_in_the_link_to_the_next_page_is_not_told(bench: Bench) -> None:
    link = {"headers": {"Link": '<ftp://s3cret-of-alice:x:y/\x7f>; rel="next"'}}
    registry = bench.registry(
        [{"path": "/tags/", "authorized": True, **link}], auth=Basic("alice", "s3cret-of-alice")
    )
    fill(registry)
    with pytest.raises(RegistryError) as caught:
        bench.repository(registry, credentials=Always()).tags()
    assert "s3cret-of" not in str(caught.value)


def test_a_request_does_not_show_its_secrets() -> None:
    sent = {"Authorization": "Basic s3cret"}
    call = _Call("POST", "https://reg.io/token?sig=s3cret", sent, 1.0, {"refresh_token": "s3cret"})
    assert "POST" in repr(call)
    assert "s3cret" not in repr(call)
