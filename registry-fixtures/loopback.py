"""How a fixture server lives on loopback: its threads, its log, and how it sends, stalls and cuts.

`Origin` is one server on 127.0.0.1. It asks its subclass for an `Answer` to each `Request`, writes
the request down, and sends the answer as its `Pace` says. Nothing outlives the `with` block: every
connection is shut down and every thread joined.
"""

import contextlib
import re
import select
import socket
import socketserver
import ssl
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

MAX_BODY = 256 * 2**20
"""Bytes after which a body without end does end."""

LINGER = 20.0
"""Seconds within which a client sends what it began to send, or hangs up."""

MAX_REQUEST_BODY = 64 * 2**20
MAX_KEPT_BODY = 64 * 2**10
PIECE = 64 * 2**10

Headers = tuple[tuple[str, str], ...]

_RESET = struct.pack("ii", 1, 0)
_SECRETS = ("authorization", "cookie", "proxy-authorization")


@dataclass(frozen=True, slots=True)
class Request:
    """What a server was sent, and the status that it answered.

    `path` has its query; `headers` have lower-case names; `body` is the first 64 KiB. `content` is
    all of it, while the request is being answered.
    """

    origin_port: int
    method: str
    path: str
    headers: Mapping[str, str]
    body_length: int = 0
    body: bytes = b""
    status: int = 0
    content: bytes = field(default=b"", repr=False, compare=False)

    @property
    def has_secret(self) -> bool:
        """Whether a header carried a credential."""
        return any(name in self.headers for name in _SECRETS)


@dataclass(frozen=True, slots=True)
class Intake:
    """How the body of a request is received: all of it, or `take` bytes of it.

    `after` those the connection is closed (`cut`), gets a TCP reset (`reset`), or the answer is
    sent though more is to come (`answer`). `rate` is in bytes a second.
    """

    take: int | None = None
    after: Literal["cut", "reset", "answer"] = "cut"
    rate: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """How an answer is sent: `delay` before the head, `rate` bytes of body a second, and an end.

    `total` is a rate too, of all answers together that have one. After so many bytes of body: `cut`
    closes the connection, `reset` sends a TCP reset, `stall` sends nothing for `hold` seconds and
    then closes. The smallest of them happens.
    """

    delay: float = 0
    rate: int = 0
    total: int = 0
    cut: int | None = None
    reset: int | None = None
    stall: int | None = None
    hold: float = 60

    @property
    def end(self) -> int | None:
        """After how many bytes of body the sending ends early."""
        return min(
            (at for at in (self.cut, self.reset, self.stall) if at is not None), default=None
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. After `body` come `filler` bytes of zeros, at most MAX_BODY of them sent.

    `claimed` is a Content-Length other than the true one; `framing` may leave it out.
    """

    status: int = 200
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)
    filler: int = 0
    framing: Literal["length", "chunked", "close"] = "length"
    claimed: int | None = None
    pace: Pace = field(default_factory=Pace)

    @property
    def length(self) -> int:
        """Bytes of body, by the answer's own honest count."""
        return len(self.body) + self.filler

    @property
    def persistent(self) -> bool:
        """Whether the connection is in order after this answer."""
        honest = self.claimed in (None, self.length) and self.filler <= MAX_BODY
        return honest and self.framing != "close"

    def head(self) -> bytes:
        """Status line and header lines; values go out as they are, line breaks too."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {self.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.framing == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif self.framing == "close":
            lines.append("Connection: close")
        elif self.status not in (204, 304):
            lines.append(f"Content-Length: {self.length if self.claimed is None else self.claimed}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def pieces(self, size: int) -> Iterator[bytes]:
        """The body in pieces of at most `size` bytes."""
        view = memoryview(self.body)
        for start in range(0, len(view), size):
            yield bytes(view[start : start + size])
        zeros = bytes(size)
        for start in range(0, min(self.filler, MAX_BODY), size):
            yield zeros[: self.filler - start]


class Origin(ABC):
    """One server on 127.0.0.1 and a port of its own, up inside its `with` block.

    `tls` makes it speak https. `port` 0 takes a free one.
    """

    def __init__(self, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._wanted_port = port
        self._tls = tls
        self._log: list[Request] = []
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._due = 0.0
        self.connections = 0
        """Connections that are open now."""
        self.peak = 0
        """The most connections that were open at once."""
        self.accepted = 0
        """Connections so far."""
        self._answering: set[socket.socket] = set()
        self.sent = 0
        """Bytes of bodies so far, as they were handed to the kernel."""
        self.received = 0
        """Bytes of the requests' bodies so far."""

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """What to say. Called from many threads."""

    def intake(self, _request: Request) -> Intake:
        """How to receive the body of a request, whose head has come. Called from many threads."""
        return Intake()

    def broken(self, request: Request) -> None:
        """A request broke off; its `content` is what came. It gets no answer, but is logged."""
        self.record(replace(request, content=b"", body_length=len(request.content)))

    def __enter__(self) -> Self:
        self._server = _Server(self._wanted_port, self, self._tls)
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.stop()

    @property
    def port(self) -> int:
        """The port; known inside the `with` block and after it."""
        if self._server is None:
            raise RuntimeError("the server has not been started")
        return self._server.server_port

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, or https."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    @property
    def log(self) -> tuple[Request, ...]:
        """All requests so far. One is here before the first byte of its answer is sent."""
        with self._lock:
            return tuple(self._log)

    def requests(
        self, method: str | None = None, path: str = "", *, status: int | None = None
    ) -> tuple[Request, ...]:
        """The requests of a method, whose path holds the regular expression `path`."""
        return tuple(
            request
            for request in self.log
            if method in (None, request.method)
            and re.search(path, request.path)
            and status in (None, request.status)
        )

    def clear(self) -> None:
        """Forget the requests and all that was counted so far."""
        with self._lock:
            self._log.clear()
            self.accepted, self.peak = self.connections, self.connections
            self.sent = self.received = 0

    @property
    def answering(self) -> int:
        """Requests that are being answered now: not those whose client has hung up.

        The thread that answers such a one may hear of that much later than the client's next
        request comes.
        """
        with self._lock:
            return sum(not _is_left(connection) for connection in self._answering)

    def begin(self, connection: socket.socket) -> None:
        """The answering of a request begins."""
        with self._lock:
            self._answering.add(connection)

    def end(self, connection: socket.socket) -> None:
        """It is over; this may be told more than once."""
        with self._lock:
            self._answering.discard(connection)

    def count(self, *, connections: int = 0, sent: int = 0, received: int = 0) -> None:
        """Take note of what begins (1), ends (-1) or was sent."""
        with self._lock:
            self.connections += connections
            self.accepted += max(0, connections)
            self.peak = max(self.peak, self.connections)
            self.sent += sent
            self.received += received

    def share(self, count: int, rate: int) -> float:
        """Seconds to wait after so many bytes, where all answers together have a rate."""
        with self._lock:
            now = time.monotonic()
            self._due = max(self._due, now) + count / rate
            return self._due - now

    def record(self, request: Request) -> None:
        """Write a request down."""
        with self._lock:
            self._log.append(request)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, origin: Origin, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.origin = origin
        self.stopping = threading.Event()
        self._tls = tls
        self._live: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()
        self._acceptor = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def server_bind(self) -> None:
        # HTTPServer's own asks the name service for our name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]

    def start(self) -> None:
        self._acceptor.start()

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self._acceptor.join()
        with self._lock:
            live = dict(self._live)
        for connection in live.values():
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in live:
            thread.join(5)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        with self._lock:
            self._live[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        connection = request
        self.origin.count(connections=1)
        # The client may leave, or fail to shake hands, whenever it likes.
        with contextlib.suppress(OSError):
            try:
                if self._tls is not None:
                    request.settimeout(10)
                    connection = self._tls.wrap_socket(request, server_side=True)
                    with self._lock:
                        self._live[threading.current_thread()] = connection
                _Handler(connection, client_address, self)
            finally:
                with self._lock:
                    del self._live[threading.current_thread()]
                self.origin.count(connections=-1)
                self.shutdown_request(connection)

    def shutdown_request(self, request: Any) -> None:
        with contextlib.suppress(OSError):
            if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) != _RESET:
                request.shutdown(socket.SHUT_WR)
        self.close_request(request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Nagle and delayed acknowledgement together cost 40 ms an answer.
    disable_nagle_algorithm = True
    server: _Server

    def __getattr__(self, name: str) -> Any:
        # http.server looks for do_METHOD; every method is ours.
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        """Say nothing: the log is the origin's."""

    def _serve(self) -> None:
        length = min(int(self.headers.get("Content-Length") or 0), MAX_REQUEST_BODY)
        headers = {name.lower(): value for name, value in self.headers.items()}
        head = Request(self.server.server_port, self.command, self.path, headers, length)
        origin = self.server.origin
        origin.begin(self.connection)
        try:
            intake = origin.intake(head)
            content = self._receive(length, intake)
            origin.count(received=len(content))
            is_whole = len(content) == length
            request = replace(head, body=content[:MAX_KEPT_BODY], content=content)
            if not is_whole and (intake.take != len(content) or intake.after != "answer"):
                origin.broken(request)
                self.close_connection = True
                if intake.take == len(content) and intake.after == "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                return
            answer = origin.answer(request)
            origin.record(replace(request, content=b"", status=answer.status))
            sent_whole = self._send(answer)
        finally:
            origin.end(self.connection)
        in_order = sent_whole and answer.persistent and is_whole
        if not is_whole:
            self._linger(length - len(content))
        if not in_order or "transfer-encoding" in headers:
            self.close_connection = True

    def _receive(self, length: int, intake: Intake) -> bytes:
        """What comes of a body, up to where it is no longer wanted."""
        wanted = length if intake.take is None else min(length, intake.take)
        piece = max(1, intake.rate // 20) if intake.rate else 2**18
        body = bytearray()
        with contextlib.suppress(OSError):
            while len(body) < wanted and (part := self.rfile.read1(min(piece, wanted - len(body)))):
                body += part
                if intake.rate and self.server.stopping.wait(len(part) / intake.rate):
                    break
        return bytes(body)

    def _linger(self, left: int) -> None:
        """Take what is still to be sent, so that the answer is not lost in a reset."""
        self.connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + LINGER
        self.connection.settimeout(LINGER)
        with contextlib.suppress(OSError):
            while left and time.monotonic() < deadline and (part := self.rfile.read1(2**18)):
                left -= min(left, len(part))

    def _send(self, answer: Answer) -> bool:
        """Send it all, and say whether nothing ended it early."""
        pace = answer.pace
        if not self._pause(pace.delay):
            return False
        self.connection.sendall(answer.head())
        if self.command == "HEAD":
            return True
        chunked = answer.framing == "chunked"
        left = answer.length if pace.end is None else pace.end
        slowest = min(pace.rate or pace.total, pace.total or pace.rate)
        piece_size = min(PIECE, max(1, slowest // 20)) if slowest else PIECE
        pieces = answer.pieces(piece_size)
        following = next(pieces, None)
        while (piece := following) is not None:
            following = next(pieces, None)
            part = piece[:left]
            left -= len(part)
            if following is None:
                self.server.origin.end(self.connection)  # before the client can know
            if part:
                self.connection.sendall(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
                self.server.origin.count(sent=len(part))
            if len(part) < len(piece) or (left == 0 and pace.end is not None):
                return self._end(pace)
            if pace.rate and not self._pause(len(part) / pace.rate):
                return False
            shared = self.server.origin.share(len(part), pace.total) if pace.total else 0
            if shared and not self._pause(shared):
                return False
        if pace.end == 0:
            return self._end(pace)
        if chunked:
            self.connection.sendall(b"0\r\n\r\n")
        return True

    def _end(self, pace: Pace) -> bool:
        if pace.end == pace.stall:
            self._pause(pace.hold)
        elif pace.end == pace.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return False

    def _pause(self, seconds: float) -> bool:
        """Wait, unless the server stops or the client leaves; says whether the time passed."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self.server.stopping.wait(min(left, 0.05)) or self._is_alone():
                return False
        return True

    def _is_alone(self) -> bool:
        if isinstance(self.connection, ssl.SSLSocket):
            return bool(select.select([self.connection], [], [], 0)[0])
        return _is_left(self.connection)


def _is_left(connection: socket.socket) -> bool:
    """Whether the other side has hung up; with TLS nobody can look.

    Nothing is read, not even to look at it: the thread that answers may take it just then.
    """
    if isinstance(connection, ssl.SSLSocket):
        return False
    looking = select.poll()
    try:
        looking.register(connection, getattr(select, "POLLRDHUP", 0))  # it is Linux's
        return bool(looking.poll(0))
    except (OSError, ValueError):  # it is closed here
        return True
