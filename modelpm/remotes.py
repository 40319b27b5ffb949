"""The registries that one client talks to: each opened once, by the settings of its host."""

from typing import TYPE_CHECKING

from modelpm.content import Observer, Waiting
from modelpm.oci.reference import Reference
from modelpm.registry.hosts import Hosts

if TYPE_CHECKING:
    from modelpm.registry.client import RegistryClient
    from modelpm.registry.credentials import CredentialSource
    from modelpm.registry.limits import Limits
    from modelpm.registry.repository import Repository
    from modelpm.registry.upload import Notes


class Remotes:
    """Repositories by reference. Importing HTTP takes time, so it waits for the first of them."""

    def __init__(
        self,
        hosts: Hosts,
        credentials: "CredentialSource | None",
        limits: "Limits | None",
        observe: Observer,
    ) -> None:
        self._hosts = hosts
        self._credentials = credentials
        self._limits = limits
        self._observe = observe
        self._clients: dict[str, RegistryClient] = {}

    def repository(self, reference: Reference, notes: "Notes | None" = None) -> "Repository":
        """The repository that a reference is of; `notes` are for what is pushed to it."""
        from modelpm.registry.repository import Repository  # noqa: PLC0415 - lazy: start-up time

        return Repository(self.client(reference.registry), reference.repository, notes)

    def client(self, host: str) -> "RegistryClient":
        """The connection to one registry."""
        # lazy: start-up time; what stays on this machine needs no HTTP
        from modelpm.registry.client import RegistryClient  # noqa: PLC0415
        from modelpm.registry.credentials import Anonymous  # noqa: PLC0415
        from modelpm.registry.limits import Limits  # noqa: PLC0415

        if host not in self._clients:
            self._clients[host] = RegistryClient(
                host,
                hosts=self._hosts,
                credentials=self._credentials or Anonymous(),
                limits=self._limits or Limits(),
                on_wait=lambda seconds, reason: self._observe(Waiting(seconds, reason)),
            )
        return self._clients[host]

    def close(self) -> None:
        """End the connections that are kept for the next request."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()
