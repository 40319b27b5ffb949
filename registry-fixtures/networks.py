"""What lies between a client and a registry on loopback: a wide network, or a bad one.

`WideNetwork` is nginx: each connection gets so many bytes a second, and there may be many. Blobs
come straight from docker-registry's files, everything else through docker-registry itself.

`BadNetwork` is a proxy in a process of its own: it delays requests, cuts connections after a told
number of bytes, and counts what was sent.

`CompanyProxy` is what HTTPS_PROXY names: it takes CONNECT and requests by whole URLs, may want a
login, may refuse, and writes down what it was sent.
"""

import argparse
import base64
import contextlib
import getpass
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

STARTING_SECONDS = 20
ENDING_SECONDS = 10
IDLE_SECONDS = 600
"""After which silence the proxy gives a connection up."""

PIECE = 256 * 2**10

# asm-generic/socket.h; Python does not name it.
_SO_MAX_PACING_RATE = 47
_RESET = struct.pack("ii", 1, 0)
_TLS = b"\x16\x03"
"""How a client that wants TLS begins."""


class WideNetwork:
    """nginx before a docker-registry, up inside its `with` block; reads only.

    `rate` is in bytes a second and holds for a connection. On Linux the kernel keeps it, whatever
    is asked for on the connection; elsewhere nginx does, whose `limit_rate` begins anew with every
    request and lets the first few megabytes of each pass: many small requests are faster there.
    """

    def __init__(self, folder: Path, upstream: str, storage: Path, *, rate: int) -> None:
        self._folder = folder
        self._upstream = upstream
        self._storage = storage
        self._rate = rate
        self._process: subprocess.Popen[bytes] | None = None
        self.host = ""
        """`127.0.0.1:PORT`; known inside the `with` block."""

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        # nginx takes sockets over from a predecessor: so the port is a free one without a race,
        # and the connections inherit the socket's pace.
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            is_paced = sys.platform == "linux"
            if is_paced:
                listener.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, self._rate)
            self.host = f"127.0.0.1:{listener.getsockname()[1]}"
            config = self._folder / "nginx.conf"
            config.write_text(self._config(0 if is_paced else self._rate))
            with (self._folder / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    ["nginx", "-e", "stderr", "-p", str(self._folder), "-c", str(config)],
                    env={**os.environ, "NGINX": f"{listener.fileno()};"},
                    pass_fds=[listener.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            _end(self._process)

    def _wait(self) -> None:
        """Return when it answers. The socket listens already, so a question may be early."""
        address = ("127.0.0.1", int(self.host.rpartition(":")[2]))
        with (
            contextlib.suppress(OSError),
            socket.create_connection(address, STARTING_SECONDS) as probe,
        ):
            probe.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
            if probe.recv(1):
                return
        log = (self._folder / "log").read_text()
        raise RuntimeError(f"nginx did not start: {log[-2000:]}")

    def _config(self, limit_rate: int) -> str:
        blobs = self._storage / "docker/registry/v2/blobs/sha256"
        return rf"""
            daemon off;
            worker_processes 1;
            user {getpass.getuser()};
            pid "{self._folder}/pid";
            error_log stderr warn;
            events {{ worker_connections 512; }}
            http {{
                access_log off;
                sendfile on;
                limit_rate {limit_rate};
                default_type application/octet-stream;
                client_body_temp_path "{self._folder}/body";
                proxy_temp_path "{self._folder}/proxy";
                fastcgi_temp_path "{self._folder}/fastcgi";
                uwsgi_temp_path "{self._folder}/uwsgi";
                scgi_temp_path "{self._folder}/scgi";
                server {{
                    listen {self.host};
                    location = /ready {{ return 204; }}
                    location ~ ^/v2/.+/blobs/sha256:(?<two>\w\w)(?<more>\w+)$ {{
                        alias "{blobs}/$two/$two$more/data";
                    }}
                    location / {{
                        proxy_pass http://{self._upstream};
                        proxy_set_header Host $http_host;
                    }}
                }}
            }}
        """


@dataclass(frozen=True, slots=True)
class Traffic:
    """What has passed a proxy: bytes sent to its clients and received from them, heads too."""

    sent: int = 0
    received: int = 0
    connections: int = 0
    cuts: int = 0


class BadNetwork:
    """A proxy before `upstream` (`127.0.0.1:PORT`), in a process of its own inside `with`.

    `latency` is the seconds by which every connection and every request is late.
    """

    def __init__(self, upstream: str, *, latency: float = 0) -> None:
        self._command = [sys.executable, __file__, upstream, "--latency", str(latency)]
        self._process: subprocess.Popen[str] | None = None
        self.host = ""
        """`127.0.0.1:PORT`; known inside the `with` block."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.host = str(self._answer()["host"])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        _end(self._process)

    def begin(
        self, cuts: Sequence[int] = (), *, breaks_all: bool = False, upward: bool = False
    ) -> None:
        """Count from zero, and cut whenever so many bytes have been sent since now.

        With `upward` those count that were received from the clients. A cut ends the connection
        that reaches it, or all that are open; each second one is a reset. It comes at most a
        piece of 256 KiB late.
        """
        self._ask({"cuts": sorted(cuts), "breaks_all": breaks_all, "upward": upward})

    @property
    def traffic(self) -> Traffic:
        """What has passed since `begin`."""
        return Traffic(**self._ask({}))

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the proxy has not been started")
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the proxy has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What a proxy was asked: `CONNECT` and `HOST:PORT`, or another method and a whole URL.

    `headers` have lower-case names.
    """

    method: str
    target: str
    headers: Mapping[str, str]


class CompanyProxy:
    """An HTTP proxy on loopback, up inside its `with` block. Every host leads to `upstream`.

    `login` is `USER:PASSWORD`, if one is wanted; `refuses` makes it answer 403 to whoever may
    enter; `tls` is for one that is itself spoken to by TLS.
    """

    def __init__(
        self,
        upstream: str,
        *,
        login: str = "",
        refuses: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._wanted = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
        self._refuses = refuses
        self._tls = tls
        self._lock = threading.Lock()
        self._log: list[Forwarded] = []
        self._open: dict[threading.Thread, list[socket.socket]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        """`127.0.0.1:PORT`."""

    @property
    def log(self) -> tuple[Forwarded, ...]:
        """All that it was asked so far."""
        with self._lock:
            return tuple(self._log)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(ENDING_SECONDS)
        self._listener.close()
        with self._lock:
            left = dict(self._open)
        for thread, sockets in left.items():
            for each in sockets:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)
            thread.join(ENDING_SECONDS)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                with self._lock:
                    self._open[thread] = [client]
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(OSError))
            stack.callback(lambda: self._open.pop(threading.current_thread(), None))
            stack.enter_context(client)
            client.settimeout(IDLE_SECONDS)
            if self._tls is not None:
                client = stack.enter_context(self._tls.wrap_socket(client, server_side=True))
            asked, head, rest = self._head(client)
            with self._lock:
                self._log.append(asked)
            refusal = self._refusal(asked)
            if refusal:
                client.sendall(refusal)
                return
            server = stack.enter_context(socket.create_connection(self._upstream, IDLE_SECONDS))
            with self._lock:
                self._open[threading.current_thread()].append(server)
            if asked.method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                server.sendall(head + rest)
            self._join(client, server)

    def _refusal(self, asked: Forwarded) -> bytes:
        if self._wanted and asked.headers.get("proxy-authorization", "") != self._wanted:
            status = b"407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x"
        elif self._refuses:
            status = b"403 Forbidden"
        else:
            return b""
        return b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    @staticmethod
    def _head(client: socket.socket) -> tuple[Forwarded, bytes, bytes]:
        """What is asked, and the head and the first bytes of the body as they are sent on."""
        content = b""
        while b"\r\n\r\n" not in content and len(content) < PIECE:
            piece = client.recv(PIECE)
            if not piece:
                raise ConnectionError("no request came")
            content += piece
            if content.startswith(_TLS):
                client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                raise ConnectionError("TLS where there is none")
        head, _, rest = content.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        path = "/" + target.partition("://")[2].partition("/")[2]
        kept = [
            f"{n}: {v}" for n, v in pairs if n.lower() not in ("proxy-authorization", "connection")
        ]
        sent = "\r\n".join([f"{method} {path} {version}", *kept, "Connection: close", "", ""])
        return Forwarded(method, target, headers), sent.encode("latin-1"), rest

    @staticmethod
    def _join(client: socket.socket, server: socket.socket) -> None:
        """Carry bytes both ways until one side has ended."""

        def carry(source: socket.socket, goal: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while piece := source.recv(PIECE):
                    goal.sendall(piece)
            for each in (source, goal):
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)

        upward = threading.Thread(target=carry, args=(client, server), daemon=True)
        upward.start()
        carry(server, client)
        upward.join()


def _end(process: "subprocess.Popen[Any]") -> None:
    process.terminate()
    try:
        process.wait(ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(ENDING_SECONDS)


# The process of the proxy


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """The two connections that the proxy joins, until one of them ends."""

    client: socket.socket
    server: socket.socket

    def end(self, *, with_reset: bool = False) -> None:
        """Wake whoever waits for a connection; the closing is theirs."""
        if with_reset:
            with contextlib.suppress(OSError):
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        for connection in (self.client, self.server):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@dataclass
class _Plan:
    """Where to cut, and what has passed."""

    cuts: list[int] = field(default_factory=list)
    breaks_all: bool = False
    upward: bool = False
    traffic: Traffic = field(default_factory=Traffic)


class _Proxy:
    def __init__(self, upstream: str, latency: float) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._latency = latency
        self._lock = threading.Lock()
        self._plan = _Plan()
        self._lines: set[_Line] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        # What waits in a large buffer would count as sent, though nobody may ever take it.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def begin(self, cuts: Sequence[int], *, breaks_all: bool, upward: bool) -> None:
        with self._lock:
            self._plan = _Plan(list(cuts), breaks_all, upward)

    @property
    def traffic(self) -> Traffic:
        with self._lock:
            return self._plan.traffic

    def serve(self) -> None:
        """Take connections, for ever."""
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(IDLE_SECONDS)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            time.sleep(self._latency)
            with socket.create_connection(self._upstream, IDLE_SECONDS) as server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                line = _Line(client, server)
                with self._lock:
                    self._lines.add(line)
                    traffic = self._plan.traffic
                    self._plan.traffic = replace(traffic, connections=traffic.connections + 1)
                upward = threading.Thread(target=self._carry_requests, args=(line,), daemon=True)
                upward.start()
                try:
                    self._carry_answers(line)
                finally:
                    with self._lock:
                        self._lines.discard(line)
                    line.end()
                    upward.join()

    def _carry_requests(self, line: _Line) -> None:
        with contextlib.suppress(OSError):
            while piece := line.client.recv(PIECE):
                time.sleep(self._latency)
                line.server.sendall(piece)
                self._count(line, received=len(piece))
        line.end()

    def _carry_answers(self, line: _Line) -> None:
        buffer = memoryview(bytearray(PIECE))
        while size := line.server.recv_into(buffer):
            sent = 0
            while sent < size:
                count = line.client.send(buffer[sent:size])
                sent += count
                self._count(line, sent=count)

    def _count(self, line: _Line, *, sent: int = 0, received: int = 0) -> None:
        with self._lock:
            plan = self._plan
            sent, received = plan.traffic.sent + sent, plan.traffic.received + received
            plan.traffic = replace(plan.traffic, sent=sent, received=received)
            if not plan.cuts or (received if plan.upward else sent) < plan.cuts[0]:
                return
            del plan.cuts[0]
            plan.traffic = replace(plan.traffic, cuts=plan.traffic.cuts + 1)
            with_reset = plan.traffic.cuts % 2 == 0
            for each in list(self._lines) if plan.breaks_all else [line]:
                each.end(with_reset=with_reset)


def main(arguments: Sequence[str] | None = None) -> None:
    """Be the proxy until the input ends: an order a line, and the traffic as the answer."""
    parser = argparse.ArgumentParser(description="A proxy on loopback that delays, cuts, counts.")
    parser.add_argument("upstream", metavar="127.0.0.1:PORT")
    parser.add_argument("--latency", type=float, default=0, help="seconds")
    options = parser.parse_args(arguments)
    proxy = _Proxy(options.upstream, options.latency)
    threading.Thread(target=proxy.serve, daemon=True).start()
    print(json.dumps({"host": proxy.host}), flush=True)
    for order in map(json.loads, sys.stdin):
        if order:
            proxy.begin(**order)
        print(json.dumps(asdict(proxy.traffic)), flush=True)


if __name__ == "__main__":
    main()
