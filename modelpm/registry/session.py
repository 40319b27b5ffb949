"""How a single request goes out: nothing of the user's is sent with it but what it says itself.

No cookie is kept, no netrc read, no redirect looked at. Proxies and authorities are those of the
environment, looked up once for each origin.
"""

from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from modelpm import __version__
from modelpm.registry.connection import POOLS
from modelpm.registry.url import Origin, is_loopback

_BLOCK = 2**20
_MAX_ORIGINS = 100
_HEADERS = {"User-Agent": f"modelpm/{__version__}", "Accept": "*/*"}


class _Adapter(HTTPAdapter):
    """Many connections, written in large blocks, each answer's head on time."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, blocksize=_BLOCK, **options)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> urllib3.ProxyManager:
        manager: urllib3.ProxyManager = super().proxy_manager_for(
            proxy, blocksize=_BLOCK, **options
        )
        manager.pool_classes_by_scheme = POOLS
        return manager


class Session(requests.Session):
    """Connections, kept for the next request. Threads may share it."""

    def __init__(self) -> None:
        super().__init__()
        adapter = _Adapter(pool_connections=16, pool_maxsize=64)
        self.mount("https://", adapter)
        self.mount("http://", adapter)
        self._settings: dict[Origin, Any] = {}

    def ask(
        self, request: requests.Request, timeout: tuple[float, float], verify: bool | str
    ) -> requests.Response:
        """Send a request; the answer's body is left to be read. Raises what requests does.

        `timeout` is for connecting, and for each read after that. What requests would do besides
        (cookies, netrc, redirects) takes as long as the rest of it, and is not wanted.
        """
        url = str(request.url)
        request.headers = {**_HEADERS, **request.headers}
        settings = self._settings_for(url, verify)
        adapter = self.get_adapter(url)
        return adapter.send(request.prepare(), timeout=timeout, **settings)

    def _settings_for(self, url: str, verify: bool | str) -> Any:
        origin = Origin.of(url)
        settings = self._settings.get(origin)
        if settings is None:
            # What is on this machine is not asked for through another one.
            own = {"no_proxy": origin.host.strip("[]")} if is_loopback(origin.host) else {}
            settings = self.merge_environment_settings(url, own, True, verify, None)
            if len(self._settings) >= _MAX_ORIGINS:
                self._settings.clear()
            self._settings[origin] = settings
        return settings
