"""The registries that one client talks to: each opened once, by the settings of its host."""

import contextlib
from typing import TYPE_CHECKING

from modelpm.content import Observer, Waiting
from modelpm.errors import InvalidReferenceError
from modelpm.oci.reference import Reference
from modelpm.registry.hosts import Hosts, Mirror

if TYPE_CHECKING:
    from modelpm.registry.client import RegistryClient
    from modelpm.registry.credentials import CredentialSource
    from modelpm.registry.limits import Limits
    from modelpm.registry.mirrored import MirrorClient, Mirrored
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
        self._mirrors: dict[tuple[Mirror, str], MirrorClient] = {}

    def repository(self, reference: Reference, notes: "Notes | None" = None) -> "Repository":
        """The repository that a reference is of; `notes` are for what is pushed to it."""
        from modelpm.registry.repository import Repository  # noqa: PLC0415 - lazy: start-up time

        return Repository(self.client(reference.registry), reference.repository, notes)

    def source(self, reference: Reference) -> "Repository | Mirrored":
        """Where to read what a reference is of: the repository, behind its mirrors if it has any.

        Raises RegistryError for a mirror whose URL is none.
        """
        repository = self.repository(reference)
        mirrors = [Mirror.parse(url) for url in self._hosts.of(reference.registry).mirrors]
        if not mirrors:
            return repository
        # lazy: start-up time
        from modelpm.registry.mirrored import Mirrored  # noqa: PLC0415
        from modelpm.registry.repository import Repository  # noqa: PLC0415

        opened = []
        for mirror in mirrors:
            client = self._mirror(mirror, reference.registry)
            # A mirror under another name may not have names that this registry has.
            with contextlib.suppress(InvalidReferenceError):
                name = mirror.repository(reference.repository)
                opened.append((client, Repository(client, name)))
        return Mirrored(repository, opened)

    def _mirror(self, mirror: Mirror, mirrored: str) -> "MirrorClient":
        # lazy: start-up time
        from modelpm.registry.credentials import Anonymous  # noqa: PLC0415
        from modelpm.registry.limits import Limits  # noqa: PLC0415
        from modelpm.registry.mirrored import MirrorClient  # noqa: PLC0415

        key = (mirror, mirrored)
        if key not in self._mirrors:
            self._mirrors[key] = MirrorClient(
                mirror,
                mirrored,
                hosts=self._hosts,
                credentials=self._credentials or Anonymous(),
                limits=self._limits or Limits(),
                on_wait=self._tell,
            )
        return self._mirrors[key]

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
                on_wait=self._tell,
            )
        return self._clients[host]

    def close(self) -> None:
        """End the connections that are kept for the next request."""
        for client in (*self._clients.values(), *self._mirrors.values()):
            client.close()
        self._clients.clear()
        self._mirrors.clear()

    def _tell(self, seconds: float, reason: str) -> None:
        self._observe(Waiting(seconds, reason))
