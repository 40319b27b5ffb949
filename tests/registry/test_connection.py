"""Connections that end while something is being said, and whether TLS is spoken at all."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
from certificates import Authority

from modelpm.registry.connection import hang_up, speaks_tls
from modelpm.registry.hosts import Hosts, HostSettings
from modelpm.registry.routes import Routes
from modelpm.registry.session import Session
from modelpm.registry.url import Origin

EARLY = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def answering(content: bytes, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that reads a little, says `content` and leaves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with suppress(OSError), connection:
                connection.settimeout(5)
                if tls is not None:
                    connection = tls.wrap_socket(connection, server_side=True)
                with connection:
                    connection.recv(100)
                    connection.sendall(content)
                    socket.socket.shutdown(connection, socket.SHUT_WR)
                    socket.socket.recv(connection, 1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize("by_tls", [True, False])
def test_an_answer_that_comes_before_all_is_said_is_heard(
    authority: Authority, by_tls: bool
) -> None:
    tls = authority.issue().server_context() if by_tls else None
    with answering(EARLY, tls) as port:
        origin = Origin("https" if by_tls else "http", "127.0.0.1", port)
        settings = HostSettings(ca_file=str(authority.certificate))
        session = Session(Routes(origin, settings, Hosts()).to)
        body = b"x" * 50_000_000
        request = requests.Request("PUT", f"{origin}/v2/", {}, data=body)
        response = session.ask(request, (5, 5))
        assert response.status_code == 413
        response.close()
        session.close()


class Response:
    """As urllib3 has one, that is being read or not."""

    def __init__(self, connected_by: object, *, closed: bool = False) -> None:
        self.connected_by = connected_by
        self.closed = closed


def test_who_is_hung_up_on_reads_no_more() -> None:
    here, there = socket.socketpair()
    with here, there:
        hang_up(Response(here, closed=True))
        there.sendall(b"x")
        assert here.recv(1) == b"x"
        hang_up(Response(here))
        assert here.recv(1) == b""
    hang_up(Response(here))
    hang_up(Response(None))


def test_whether_tls_is_spoken(authority: Authority, tmp_path: Path) -> None:
    for tls in (
        authority.issue().server_context(),
        authority.issue("other.example").server_context(),
    ):
        with answering(b"", tls) as port:
            assert speaks_tls("127.0.0.1", port, 5)
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert not speaks_tls("127.0.0.1", port, 5)
    with answering(b"") as port:
        assert not speaks_tls("127.0.0.1", port, 5)
