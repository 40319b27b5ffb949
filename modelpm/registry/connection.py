"""Connections: which TLS they speak, and that an answer's whole head comes in time.

A socket's timeout begins anew with each byte, so that a server which sends its headers one byte
at a time would never run into it.
"""

import contextlib
import errno
import heapq
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

_NO_TLS = ("PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "WRONG_VERSION_NUMBER")
"""OpenSSL's words for an answer in another protocol."""

_HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""What versions of Python make of a server that hangs up instead of answering."""


class _Alarms:
    """Calls whoever is late, from one thread for all: a thread each would cost more than a request.

    The thread ends once no alarm is left to wait for.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._set: list[tuple[float, int, threading.Event, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._runs = False

    def set(self, seconds: float, call: Callable[[], None]) -> threading.Event:
        """Have `call` called in so many seconds, unless the event that is returned is set."""
        off = threading.Event()
        with self._changed:
            entry = (time.monotonic() + seconds, next(self._numbers), off, call)
            heapq.heappush(self._set, entry)
            if not self._runs:
                threading.Thread(target=self._run, name="alarms", daemon=True).start()
                self._runs = True
            elif self._set[0] is entry:
                self._changed.notify()
        return off

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._set and self._set[0][2].is_set():
                    heapq.heappop(self._set)
                if not self._set:
                    self._runs = False
                    return
                due, _, _, call = self._set[0]
                left = due - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                heapq.heappop(self._set)
            call()


_ALARMS = _Alarms()


class _PunctualConnection(HTTPConnection):
    def getresponse(self) -> Any:
        is_late = False
        connected_by = self.sock  # which is no longer here when the server is to close it

        def hang_up() -> None:
            nonlocal is_late
            is_late = True
            _shut_down(connected_by)

        off = _ALARMS.set(self.timeout or threading.TIMEOUT_MAX, hang_up)
        try:
            response: Any = super().getresponse()
        except (OSError, HTTPException, ValueError):
            if not is_late:
                raise
        finally:
            off.set()
        if is_late:
            # What there is of a head may well look like a whole one.
            raise TimeoutError("the head of the answer is late")
        response.connected_by = connected_by
        return response


class _PunctualTLSConnection(_PunctualConnection, HTTPSConnection):
    def send(self, data: Any) -> None:
        try:
            super().send(data)
        except ssl.SSLEOFError:
            # What the server said before it hung up is there to be read, by who knows this error:
            # an answer, or an alert that tells which certificate it does not like.
            raise BrokenPipeError(errno.EPIPE, "the server takes no more") from None


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PunctualConnection


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PunctualTLSConnection


POOLS: dict[str, type[urllib3.HTTPConnectionPool]] = {"http": _Pool, "https": _TLSPool}
"""For a pool manager's `pool_classes_by_scheme`."""


def hang_up(response: Any) -> None:
    """Wake who reads a response's body in another thread: the connection has ended for it."""
    if not response.closed:  # else others may use the connection already
        _shut_down(getattr(response, "connected_by", None))


def _shut_down(connected_by: Any) -> None:
    # Below TLS, which would want to say good-bye.
    with contextlib.suppress(OSError, TypeError):
        socket.socket.shutdown(connected_by, socket.SHUT_RDWR)


def speaks_tls(host: str, port: int, seconds: float) -> bool:
    """Whether a server speaks TLS, whatever its certificate. Raises OSError if none is there.

    Only an answer that is no TLS at all says no: neither silence nor an alert turns TLS off.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    name = host.strip("[]")
    with socket.create_connection((name, port), seconds) as connection:
        try:
            context.wrap_socket(connection, server_hostname=name).close()
        except TimeoutError:
            return True
        except ssl.SSLError as error:
            return not isinstance(error, _HUNG_UP) and error.reason not in _NO_TLS
        except OSError:
            return False
    return True
