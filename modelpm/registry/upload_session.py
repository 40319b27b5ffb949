"""Where an upload goes on and at which byte: what a registry says of it, and how far to trust that.

A Location may lead anywhere: the one to another https origin gets no Authorization (the client sees
to that), and nothing is sent where others could read it.
"""

import contextlib
import re
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from modelpm.errors import AuthenticationError, RegistryError
from modelpm.oci.descriptor import Descriptor
from modelpm.registry.client import RegistryClient, is_success
from modelpm.registry.notes import Notes
from modelpm.registry.quirks import quirks_of
from modelpm.registry.task import Scope, Task
from modelpm.registry.url import Origin, redirected

_STATE = re.compile(r"[?&]_state=")
_RANGE = re.compile(r"(?:bytes[= ])?0-([0-9]{1,18})")
_LENGTH = re.compile(r"[0-9]{1,15}")


class UploadSession:
    """The session of one blob's upload, which may end and be begun anew. Not for several threads.

    `base` is the URL of the repository's API.
    """

    def __init__(
        self, client: RegistryClient, repository: str, base: str, desc: Descriptor, notes: Notes
    ) -> None:
        self._client = client
        self._base = base
        self._desc = desc
        self._notes = notes
        self._key = f"{client.host}/{repository}@{desc.digest}"
        self._repository = repository
        words = f"pushing {client.host}/{repository}, blob {desc.digest.short}"
        self.task = Task(words, Scope(repository, "pull,push"))
        """What the requests of this upload are for."""
        self.url = ""
        """Where the upload goes on; empty while there is no session."""
        self.offset = 0
        """Bytes that the registry is known to have."""
        self.least = 0
        """Bytes that a PATCH must have, except the last."""

    @property
    def is_signed(self) -> bool:
        """Whether the offset is part of the URL: such a session does not outlive a cut."""
        return _STATE.search(self.url) is not None

    @property
    def last_url(self) -> str:
        """Where the last request goes. The query that is there stays as it is."""
        return f"{self.url}{'&' if '?' in self.url else '?'}digest={self._desc.digest}"

    def resume(self) -> bool:
        """Take up the session that was noted, if the registry still has some of the blob."""
        noted = self._notes.upload(self._key)
        if noted is None:
            return False
        try:
            self._check(noted)
        except RegistryError:
            noted = ""
        self.url = noted
        if noted and self.ask():
            return True
        # Left alone: where it is not gone, another process may be about to fill it.
        self.url = ""
        self._forget()
        return False

    def mount(self, sister: str) -> bool:
        """Ask for the blob of another repository; whether the registry says that it is here now.

        One that does not has mostly begun a session instead, which is taken.
        """
        query = f"mount={self._desc.digest}&from={quote(sister, safe='/')}"
        url = f"{self._base}/blobs/uploads/?{query}"
        task = Task(self.task.words, Scope(self._repository, "pull,push", (sister,)))
        try:
            response = self._request("POST", url, data=b"", task=task)
        except AuthenticationError:  # not ours to read; what counts is what the upload says
            return False
        if response.status_code == HTTPStatus.ACCEPTED:
            self.drop()
            self._take(url, response)
        return bool(response.status_code == HTTPStatus.CREATED)

    def begin(self) -> None:
        """Start a new session. Raises as `RegistryClient.check`."""
        url = f"{self._base}/blobs/uploads/"
        response = self._request("POST", url, data=b"")
        advice = quirks_of(self._client.host).advice
        if response.status_code == HTTPStatus.NOT_FOUND and advice:
            raise RegistryError(f"{self.task.words}: there is no such repository ({advice})")
        self._client.check(response, self.task)
        self._take(url, response)

    def ask(self) -> bool:
        """Learn how much the registry has; False where it has nothing of use, or does not tell."""
        response = self._request("GET", self.url)
        if not is_success(response):
            return False
        self._move(response)
        told = told_offset(response)
        # A single byte looks like none at all.
        if told is None or not 1 < told <= self._desc.size:
            return False
        self.offset = told
        self._notes.begin_upload(self._key, self.url)
        return True

    def advance(self, response: Any, sent_to: int) -> bool:
        """Take note of a PATCH that went well up to `sent_to`; whether that makes sense.

        The registry may be behind what was sent, never ahead of it: there would be a hole.
        """
        before = self.offset
        told = told_offset(response)
        self._move(response)
        if told is None and not self.ask():
            told = sent_to  # it never tells; the digest will
        self.offset = self.offset if told is None else told
        self._notes.begin_upload(self._key, self.url)
        return before < self.offset <= sent_to

    def drop(self) -> None:
        """Have the registry forget the session, as far as it does that, and forget it too."""
        url, self.url, self.offset = self.url, "", 0
        self._forget()
        if url:
            with contextlib.suppress(RegistryError):
                self._request("DELETE", url, attempts=self._client.attempts(most=1))

    def done(self) -> None:
        """The upload is at its end."""
        self.url = ""
        self._forget()

    def _take(self, url: str, response: Any) -> None:
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        self.least = int(least) if _LENGTH.fullmatch(least) else 0
        self.url, self.offset = url, 0
        self._move(response, required=True)
        self._notes.begin_upload(self._key, self.url)

    def _move(self, response: Any, *, required: bool = False) -> None:
        location = response.headers.get("Location", "")
        if not (location or required):
            return
        try:
            url = redirected(self.url, location).partition("#")[0]
            self._check(url)
        except RegistryError as error:
            self.url = ""
            why = self._client.auth.scrub(str(error))
            raise RegistryError(f"{self.task.words}: {why}") from None
        self.url = url

    def _check(self, url: str) -> None:
        origin = Origin.of(url)
        if origin.scheme == "http" and origin != self._client.origin:
            raise RegistryError(
                f"it is to be sent to {origin}, without TLS; refused (a registry behind a proxy"
                " has to know its own address: X-Forwarded-Proto)"
            )

    def _forget(self) -> None:
        self._notes.end_upload(self._key)

    def _request(self, method: str, url: str, **options: Any) -> Any:
        return self._client.do_request(url, method, **({"task": self.task} | options))


def told_offset(response: Any) -> int | None:
    """The number of bytes that an answer's Range says are there."""
    match = _RANGE.fullmatch(response.headers.get("Range", "").strip())
    return int(match[1]) + 1 if match else None
