"""Connections: which TLS they speak, and that an answer's whole head comes in time.

A socket's timeout begins anew with each byte, so that a server which sends its headers one byte
at a time would never run into it.
"""

import contextlib
import socket
import ssl
import threading
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from modelpm.errors import RegistryError


class _PunctualConnection(HTTPConnection):
    def getresponse(self) -> Any:
        timer = threading.Timer(self.timeout or threading.TIMEOUT_MAX, self._hang_up)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()

    def _hang_up(self) -> None:
        """Wake the reader, which then finds the connection ended."""
        with contextlib.suppress(OSError, TypeError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


class _PunctualTLSConnection(_PunctualConnection, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PunctualConnection


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PunctualTLSConnection


POOLS: dict[str, type[urllib3.HTTPConnectionPool]] = {"http": _Pool, "https": _TLSPool}
"""For a pool manager's `pool_classes_by_scheme`."""


def speaks_tls(host: str, port: int, seconds: float) -> bool:
    """Whether a TLS handshake succeeds there, whatever the certificate. Raises OSError.

    One that nobody answers counts as TLS, so that silence never turns it off.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((host.strip("[]"), port), seconds) as connection:
        try:
            context.wrap_socket(connection).close()
        except TimeoutError:
            return True
        except OSError:
            return False
    return True


def checked_ca(path: str) -> str:
    """The path of a PEM file of authorities, if TLS can use it. Raises RegistryError."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise RegistryError(f"--ca-file {path}: not a PEM file of certificates") from None
    except OSError as error:
        raise RegistryError(f"--ca-file {path}: {error.strerror}") from None
    return path
