"""How a single request goes out: nothing of the user's is sent with it but what it says itself.

No cookie is kept, no netrc read, no redirect looked at, and of the environment nothing: the way to
each origin is what `Routes` says.
"""

import base64
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import requests
import urllib3
from requests.adapters import HTTPAdapter

from modelpm import __version__
from modelpm.registry.connection import POOLS
from modelpm.registry.routes import Route
from modelpm.registry.url import Origin

_BLOCK = 2**20
_MAX_ORIGINS = 100
_HEADERS = {"User-Agent": f"modelpm/{__version__}", "Accept": "*/*"}


class _Adapter(HTTPAdapter):
    """One origin: many connections, written in large blocks, each answer's head on time."""

    def __init__(self, origin: Origin, route: Route) -> None:
        self._options: dict[str, Any] = {"blocksize": _BLOCK, "ssl_context": route.tls}
        self._proxy_options: dict[str, Any] = {"proxy_ssl_context": route.proxy_tls}
        self._proxies = {} if route.proxy is None else {origin.scheme: route.proxy}
        super().__init__(pool_connections=1, pool_maxsize=64)

    def ask(self, request: requests.Request, timeout: tuple[float, float]) -> requests.Response:
        """The answer, whose body is left to be read."""
        return self.send(request.prepare(), stream=True, timeout=timeout, proxies=self._proxies)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        options |= self._options
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> urllib3.ProxyManager:
        options |= self._options | self._proxy_options
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """What a proxy is told of its user: the very bytes that its URL says, as curl does.

        requests knows only those of Latin-1, and no user without a password.
        """
        said = urllib3.util.parse_url(proxy).auth
        if said is None:
            return {}
        pair = unquote_to_bytes(said if ":" in said else f"{said}:")
        return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """Nothing: the context says it all; requests would add authorities of its own."""


class Session:
    """Connections, kept for the next request. Threads may share it."""

    def __init__(self, route_to: Callable[[Origin], Route]) -> None:
        self._route_to = route_to
        self._lock = threading.Lock()
        self._adapters: dict[Origin, _Adapter] = {}

    def ask(self, request: requests.Request, timeout: tuple[float, float]) -> requests.Response:
        """Send a request; the answer's body is left to be read. Raises what requests does.

        `timeout` is for connecting, and for each read after that. What requests would do besides
        (cookies, netrc, redirects) takes as long as the rest of it, and is not wanted. Raises
        RegistryError where there is no way to the origin.
        """
        request.headers = {**_HEADERS, **request.headers}
        return self._adapter(Origin.of(str(request.url))).ask(request, timeout)

    def close(self) -> None:
        """Close all connections that nobody uses."""
        with self._lock:
            for adapter in self._adapters.values():
                adapter.close()
            self._adapters.clear()

    def _adapter(self, origin: Origin) -> _Adapter:
        with self._lock:
            adapter = self._adapters.get(origin)
        if adapter is not None:
            return adapter
        if len(self._adapters) >= _MAX_ORIGINS:
            self.close()
        made = _Adapter(origin, self._route_to(origin))
        with self._lock:
            return self._adapters.setdefault(origin, made)
