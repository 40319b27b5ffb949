"""What the tests of the registry's client share: short limits, and who waits and who knows."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields, replace
from typing import Any

import pytest
from registry import Registry, Rules, Sink, TokenServer

from modelpm.oci.descriptor import Digest
from modelpm.registry.client import RegistryClient
from modelpm.registry.credentials import Anonymous, Credential
from modelpm.registry.hosts import Hosts, HostSettings
from modelpm.registry.limits import Limits
from modelpm.registry.repository import Repository

NAME = "team/tiny"
QUICK = Limits(connect=5, no_progress=2, token=2, document=8, backoff=0.01, backoff_max=0.02)
"""Nothing that a test does takes longer, unless it is meant to."""

LAYERS = [("application/octet-stream", b"weights")]

_HOST_SETTINGS = {field.name for field in fields(HostSettings)}


class Always:
    """Knows one credential for everything."""

    def __init__(self, username: str = "alice", secret: str = "s3cret-of-alice") -> None:
        self.credential = Credential(username, secret)

    def find(self, host: str, repository: str) -> Credential | None:
        return self.credential


class Waits:
    """Hears of waits, and has them pass at once."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str]] = []
        self.slept: list[float] = []

    def tell(self, seconds: float, reason: str) -> None:
        self.told.append((seconds, reason))

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Bench:
    """Starts servers and clients, and stops them when the test ends."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.waits = Waits()

    def enter(self, server: Registry) -> Registry:
        return self._stack.enter_context(server)

    def start(self, sink: Sink) -> Sink:
        return self._stack.enter_context(sink)

    def registry(self, scenario: Rules = (), **options: Any) -> Registry:
        return self.enter(Registry(scenario, **options))

    def sink(self, *arguments: Any, **options: Any) -> Sink:
        return self.start(Sink(*arguments, **options))

    def tokens(self, *arguments: Any, **options: Any) -> TokenServer:
        return self._stack.enter_context(TokenServer(*arguments, **options))

    def client(self, host: str, **options: Any) -> RegistryClient:
        defaults: dict[str, Any] = {
            "credentials": Anonymous(),
            "limits": QUICK,
            "sleep": self.waits.sleep,
            "on_wait": self.waits.tell,
        }
        said = {key: options.pop(key) for key in _HOST_SETTINGS & options.keys()}
        if said:
            options["hosts"] = Hosts(HostSettings(**said))
        client = RegistryClient(host, **(defaults | options))
        self.closing(client)
        return client

    def closing(self, client: RegistryClient) -> None:
        self._stack.callback(client.close)

    def repository(self, registry: Registry, **options: Any) -> Repository:
        return Repository(self.client(registry.host, **options), NAME)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack)


def fill(registry: Registry, tag: str | None = "latest", **members: Any) -> Digest:
    return Digest.parse(registry.add_artifact(NAME, tag, LAYERS, **members))


def endless(bench: Bench) -> Registry:
    """A registry whose every page has another next one."""

    class Endless(Registry):
        def reply(self, request: Any) -> Any:
            number = len(self.log)
            answer = super().reply(request)
            link = f'</v2/{NAME}/{request.path.split("/")[4]}/list?page={number}>; rel="next"'
            return replace(answer, headers=(*answer.headers, ("Link", link)))

    registry = bench.enter(Endless())
    fill(registry, "v1")
    return registry
