"""Reading by way of mirrors: who is asked first, and what makes another one be asked.

A tag is resolved by the first mirror that knows it, as containerd and podman do it; what a digest
names may come from anybody, for its bytes prove it. A mirror that fails costs a moment, never the
pull: the registry itself is asked in the end. One that has not a manifest may have blobs of it, as
caches have; how many of them are asked for in vain is bounded.
"""

import io
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlencode

from modelpm.content import Sink, read
from modelpm.errors import AuthenticationError, ContentError, NotFoundError, RegistryError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import MAX_BYTES, is_manifest
from modelpm.registry.client import RegistryClient
from modelpm.registry.credentials import Anonymous, CredentialSource
from modelpm.registry.gaps import Gaps
from modelpm.registry.hosts import Hosts, Mirror
from modelpm.registry.limits import Limits
from modelpm.registry.repository import Repository
from modelpm.registry.task import Task

REST = 60.0
"""Seconds for which a mirror that could not be reached is left alone."""
MISSES = 3
"""Blobs that a mirror without the manifest may lack before it is asked for no other one."""

_NO_REPOSITORY = "NAME_UNKNOWN"
_FAILURES = (ContentError, RegistryError)
_LOG = logging.getLogger("modelpm.registry")
_Answer = TypeVar("_Answer")


def patience(limits: Limits) -> Limits:
    """How long a mirror is waited for: there is always somebody else to ask."""
    return replace(
        limits,
        connect=min(limits.connect, 3.0),
        no_progress=min(limits.no_progress, 10.0),
        token=min(limits.token, 10.0),
        document=min(limits.document, 10.0),
        attempts=min(limits.attempts, 2),
        retry_after_max=min(limits.retry_after_max, 1.0),
        slow_rate=max(limits.slow_rate, 16 * 2**10),
        slow_window=min(limits.slow_window, 10.0),
    )


class MirrorClient(RegistryClient):
    """HTTP to a mirror. It is told whose content is wanted, as containerd does: `?ns=HOST`.

    P2P proxies and caches that stand for several registries go by that; others ignore it. Without
    TLS nothing secret is sent, not even on this machine, unless the mirror's own settings say so.
    """

    def __init__(
        self,
        mirror: Mirror,
        mirrored: str,
        *,
        hosts: Hosts,
        credentials: CredentialSource,
        limits: Limits,
        **options: Any,
    ) -> None:
        settings = replace(hosts.of(mirror.host), plain_http=mirror.plain_http)
        may_login = not mirror.plain_http or settings.insecure_login
        super().__init__(
            mirror.host,
            hosts=replace(hosts, own={**hosts.own, mirror.host: settings}),
            credentials=credentials if may_login else Anonymous(),
            limits=patience(limits),
            **options,
        )
        self._mirrored = urlencode({"ns": mirrored})
        self._rests_until = 0.0
        self.gaps = Gaps(self.clock)

    @property
    def rests(self) -> bool:
        """Whether it could not be reached a short while ago."""
        return self.clock() < self._rests_until

    def rest(self) -> None:
        """Leave it alone for a while."""
        self._rests_until = self.clock() + REST

    def do_request(self, url: str, *arguments: Any, **options: Any) -> Any:
        """As for any registry."""
        mark = "&" if "?" in url else "?"
        told = url if self._mirrored in url else f"{url}{mark}{self._mirrored}"
        return super().do_request(told, *arguments, **options)

    def check(self, response: Any, task: Task | None = None) -> None:
        """As for any registry; that it has not a repository is kept in mind."""
        is_missing = response.status_code == HTTPStatus.NOT_FOUND and self.is_home(response)
        if is_missing and self.auth.read_refusal(response.content).code == _NO_REPOSITORY:
            asked = response.history[0] if response.history else response
            self.gaps.note(Task.of(self.host, "GET", asked.url).scope.repository)
        super().check(response, task)


class _Place:
    """One mirror's copy of the repository, and what it gave once and is not asked for again."""

    def __init__(self, client: MirrorClient, repository: Repository) -> None:
        self.client = client
        self.repository = repository
        self.spent: set[Digest] = set()
        self._probing = threading.Lock()
        self._gave = False
        self._is_doubted = False
        self._misses = 0

    def lacks(self, reference: str) -> bool:
        """Whether it has said that it has not this tag or digest, or nothing of the repository."""
        return self.client.gaps.has(self.repository.name, reference)

    def gave(self) -> None:
        """Take note that it has something of the repository."""
        self._gave = True

    def failed(self, error: Exception, reference: str, *, as_manifest: bool = False) -> None:
        """Take note that it did not do, and for what."""
        _leave(self, error)
        if isinstance(error, NotFoundError):
            self.client.gaps.note(self.repository.name, reference)
            self._is_doubted |= as_manifest

    def offers(self, desc: Descriptor) -> bool:
        """Whether a blob is to be asked for: where the manifest was not, it is looked for first.

        One blob after the other, so that the word on the first ones holds for all.
        """
        with self._probing:
            if self._gave or not self._is_doubted:
                return True
            if self.lacks(str(desc.digest)):
                return False
            try:
                self._gave = self.repository.exists(desc)
            except _FAILURES:
                return True  # what is wrong there will show when it is asked for the content
            if not self._gave:
                self._misses += 1
                whole = self._misses >= MISSES
                self.client.gaps.note(self.repository.name, "" if whole else str(desc.digest))
            return self._gave


class Mirrored:
    """A repository that is read by way of mirrors, in their order. For one pull.

    What is raised is what the repository itself raises; why a mirror did not do is logged only.
    """

    def __init__(
        self, repository: Repository, mirrors: Sequence[tuple[MirrorClient, Repository]]
    ) -> None:
        self._repository = repository
        self._places = [_Place(*mirror) for mirror in mirrors]

    def resolve(self, reference: str) -> Descriptor:
        """What a tag or a digest points at."""
        return self._ask(lambda repository: repository.resolve(reference), reference, None)

    def fetch(self, desc: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """Open content.

        Nobody asks twice for what turns out wrong here, so that a mirror's bytes are verified
        before they are given, and what is too large for that comes from the registry.
        """
        if desc.size > MAX_BYTES:
            return self._repository.fetch(desc, offset)

        def ask(repository: Repository) -> AbstractContextManager[BinaryIO]:
            if repository is self._repository:
                return repository.fetch(desc, offset)
            return io.BytesIO(read(repository, desc)[offset:])

        return self._ask(ask, str(desc.digest), None if is_manifest(desc) else desc)

    def download(self, desc: Descriptor, sink: Sink) -> None:
        """Bring a blob. UNVERIFIED.

        Each mirror has one chance: whoever asks for a blob again had wrong bytes. What one mirror
        began another one goes on with.
        """
        for place in self._awake():
            if desc.digest in place.spent or place.lacks(str(desc.digest)):
                continue
            place.spent.add(desc.digest)
            if not place.offers(desc):
                continue
            try:
                place.repository.download(desc, sink)
            except _FAILURES as error:
                place.failed(error, str(desc.digest))
            else:
                place.gave()
                return
        self._repository.download(desc, sink)

    def referrers(self, subject: Descriptor) -> Iterable[Descriptor]:
        """What the registry lists; what mirrors list only if it cannot be asked.

        A mirror has what it was asked for, so that its list leaves things out.
        """
        try:
            return list(self._repository.referrers(subject))
        except RegistryError as error:
            for place in self._awake():
                try:
                    return list(place.repository.referrers(subject))
                except _FAILURES as other:
                    _leave(place, other)
            raise error from None

    def _ask(
        self, ask: Callable[[Repository], _Answer], reference: str, blob: Descriptor | None
    ) -> _Answer:
        """The first answer to what is asked for a manifest, or for this blob."""
        for place in self._awake():
            if place.lacks(reference) or (blob is not None and not place.offers(blob)):
                continue
            try:
                answer = ask(place.repository)
            except _FAILURES as error:
                place.failed(error, reference, as_manifest=blob is None)
            else:
                place.gave()
                return answer
        return ask(self._repository)

    def _awake(self) -> Iterable[_Place]:
        return (place for place in self._places if not place.client.rests)


def _leave(place: _Place, error: Exception) -> None:
    """Take note that a mirror did not do."""
    _LOG.debug("mirror %s: %s", place.client.host, error)
    if isinstance(error, RegistryError) and not isinstance(error, AuthenticationError):
        is_busy = error.status == HTTPStatus.TOO_MANY_REQUESTS
        if error.status in (0, HTTPStatus.OK) or error.status >= 500 or is_busy:
            place.client.rest()
