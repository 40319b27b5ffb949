"""How a blob gets into a registry: mounted from a sister, or sent, and sent on after a cut.

Source: OCI distribution spec 1.1, "Pushing Blobs" and "Mounting a blob from another repository".

Facts of servers. docker-registry (2.8.2, and so what is made of it, as Harbor and GitLab) signs the
offset of a session into its URL's `_state`. When a request is cut, what came of it is kept, but no
state for it is ever told, and the session answers 404 from then on: no PUT and no PATCH of any size
can be resumed there, and the blob is sent anew. Others keep what came of a cut request and tell it.
Others again keep whole PATCH requests only, so that small ones lose less.

So the blob goes in one PUT; what is known of a registry, and what happens, changes that.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any

from modelpm.content import Fetcher
from modelpm.errors import (
    AuthenticationError,
    DigestMismatchError,
    InvalidReferenceError,
    RegistryError,
)
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.registry.client import CROWDED, RETRIED, RegistryClient, is_success
from modelpm.registry.notes import NoNotes, Notes
from modelpm.registry.outgoing import MARKED, Outgoing
from modelpm.registry.quirks import quirks_of
from modelpm.registry.upload_session import UploadSession
from modelpm.registry.url import Origin

__all__ = ["NoNotes", "Notes", "Upload"]

_SISTERS = 3
"""Repositories to try a mount from."""

_LEAST_PIECE = 2**16
_FIRST_PIECE = 64 * 2**20
"""Bytes of the first PATCH after one PUT was too large."""

_FAILURES = 32
"""Failures since the registry had more of the blob than ever before."""

_SECONDS_A_BYTE = 1 / 2**25
"""What a registry gets to put a blob in its place: it may copy it, and hash it."""

_MANGLED = frozenset({"DIGEST_INVALID", "SIZE_INVALID", "BLOB_UPLOAD_INVALID"})
"""What a registry says of an upload that is not what was sent: the bytes were right."""

_PATIENCE = 3
"""Sessions lost with all they had before a registry of the docker kind gets pieces."""

_OCTETS = {"Content-Type": "application/octet-stream"}


class Upload:
    """One blob that a repository does not have, from `source`.

    `base` is the URL of the repository's API. `sisters` are repositories of the same registry that
    may have it. `exists` asks whether it is there. `shares` says that the source's connections are
    of the same budget, which then is not asked for more.
    """

    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        base: str,
        desc: Descriptor,
        source: Fetcher,
        *,
        notes: Notes,
        sisters: Iterable[str],
        exists: Callable[[], bool],
        shares: bool,
    ) -> None:
        self._client = client
        self._desc = desc
        self._sisters = tuple(dict.fromkeys(sisters))[:_SISTERS]
        self._exists = exists
        self._shares = shares
        self._session = UploadSession(client, repository, base, desc, notes)
        self._words = self._session.task.words
        self._out = Outgoing(desc, source, client.budget)
        self._attempts = client.attempts().about(desc.digest)
        self._quirks = quirks_of(client.host)
        self._takes_pieces = self._quirks.pieces
        self._piece: int | None = None
        self._best = self._failures = self._lost = 0
        self._was_resumed = self._was_mangled = False
        most = self._quirks.most_at_once
        if most is not None and desc.size > most:
            self._piece = self._fitting(_FIRST_PIECE)

    def run(self) -> None:
        """Raises DigestMismatchError where the source is wrong, RegistryError, and what it raises.

        After a failure that may pass the session is left, and the next run goes on with it.
        """
        try:
            self._was_resumed = self._session.resume()
            if self._was_resumed or not self._mount():
                with self._permit():
                    self._send()
        except DigestMismatchError:
            self._out.close()
            self._session.drop()
            raise
        finally:
            self._out.close()
        self._session.done()

    def _mount(self) -> bool:
        """Whether the registry took the blob over from a sister repository."""
        for sister in self._sisters if self._quirks.mount else ():
            if self._session.mount(sister) and self._exists():
                self._session.drop()
                return True
        return False

    # How it goes on.

    def _send(self) -> None:
        """Send until all is there. Bounded: each failure is counted, and so is each loss."""
        is_done = False
        while not is_done:
            if not self._session.url:
                self._session.begin()
            is_last = self._is_last
            try:
                response = self._request()
            except RegistryError as error:
                if self._out.failure is not None:
                    raise self._out.failure from None
                if isinstance(error, AuthenticationError):
                    raise
                why = str(error).removeprefix(f"{self._words}: ")
                is_done = self._recover(why, is_last=is_last)
                continue
            if not is_success(response):
                is_done = self._refused(response, is_last=is_last)
            elif is_last:
                self._finish(response)
                is_done = True
            else:
                self._advance(response)

    @property
    def _is_whole(self) -> bool:
        """Whether the whole blob goes in one PUT."""
        return self._session.offset == 0 and self._piece is None

    @property
    def _is_last(self) -> bool:
        """Whether the next request, if it works, is the end."""
        return self._is_whole or self._session.offset >= self._desc.size

    def _request(self) -> Any:
        """The next request of the upload; its answer, whatever it is."""
        session, size = self._session, self._desc.size
        start = session.offset
        if self._is_last:
            return self._ask("PUT", session.last_url, start, size, _OCTETS)
        piece = size if self._piece is None else max(self._piece, session.least)
        stop = min(size, start + piece)
        headers = {**_OCTETS, "Content-Range": f"{start}-{stop - 1}"}
        return self._ask("PATCH", session.url, start, stop, headers)

    def _ask(self, method: str, url: str, start: int, stop: int, headers: dict[str, str]) -> Any:
        self._out.position = start
        worked_on = self._desc.size if method == "PUT" else stop - start
        # To send once more what the registry had and lost gets nothing on: else two uploads that do
        # no more than that would each be the other's turn, for ever.
        is_more = method == "PUT" or stop - self._best >= self._notable
        answers: list[Any] = []
        with self._client.budget.flowing(lambda: is_more and any(map(is_success, answers))):
            answer = self._client.do_request(
                url,
                method,
                data=self._out.part(start, stop) if stop > start else b"",
                headers=headers,
                task=self._session.task,
                seconds=self._client.limits.document + worked_on * _SECONDS_A_BYTE,
                attempts=self._client.attempts(most=1),
            )
            answers.append(answer)
        return answer

    def _advance(self, response: Any) -> None:
        """Go on where the registry is after a PATCH that it took."""
        before = self._session.offset
        if self._session.advance(response, self._out.position):
            self._gain()
        elif self._session.offset <= before:
            self._lose("the registry takes a piece but does not keep it", pieces=False)
        else:
            self._lose("the registry is further in the blob than what was sent")

    def _refused(self, response: Any, *, is_last: bool) -> bool:
        """Find a way on after an answer that is no success, or raise; True if all is there."""
        status: int = response.status_code
        is_range = status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or (is_range and self._is_whole):
            self._shrink(response)
            self._session.ask()
        elif status in RETRIED:
            where = self._client.auth.scrub(Origin.of(response.url).authority)
            why = f"{where} answered {status}"
            told = response.headers.get("Retry-After")
            crowded = status in CROWDED
            return self._recover(why, told, is_last=is_last, crowded=crowded)
        elif is_range:
            self._fail("the registry is elsewhere in the blob")
            if not self._session.ask():
                self._session.drop()
        elif status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            self._lose("the upload is no longer known there")
        elif status == HTTPStatus.METHOD_NOT_ALLOWED and not is_last and self._takes_pieces:
            self._lose("the registry takes no pieces", pieces=False)
        elif status == HTTPStatus.BAD_REQUEST and is_last and self._was_resumed:
            self._was_resumed = False
            self._lose("what the registry had from before was not the beginning of this blob")
        elif is_last and not self._was_mangled and self._refusal(response) in _MANGLED:
            self._was_mangled = True
            self._lose("what the registry got is not what was sent: others may write there too")
        else:
            self._session.done()
            self._client.check(response, self._session.task)
        return False

    def _refusal(self, response: Any) -> str:
        return self._client.auth.read_refusal(response.content).code

    def _finish(self, response: Any) -> None:
        """Raises RegistryError where the registry has something else now, as far as it tells."""
        told = _digest(response.headers.get("Docker-Content-Digest", ""))
        is_told = told is not None and told.algorithm == self._desc.digest.algorithm
        if is_told and told != self._desc.digest:
            raise RegistryError(f"{self._words}: the registry has stored it as {told}")
        if (self._was_resumed or not is_told) and not self._exists():
            raise RegistryError(f"{self._words}: the registry took it, but it is not there")

    # How it goes wrong.

    def _recover(
        self, why: str, retry_after: str | None = None, *, is_last: bool, crowded: bool = True
    ) -> bool:
        """Wait, then see what the registry has; True if that is all of it."""
        sent_to, was_whole, was_signed = (
            self._out.position,
            self._is_whole,
            self._session.is_signed,
        )
        self._out.close()
        self._fail(why, retry_after, crowded=crowded)
        if is_last and sent_to >= self._desc.size and self._exists():
            return True
        if self._session.ask():
            self._was_resumed = True
            self._gain()
            return False
        self._session.drop()
        if was_whole and sent_to > MARKED:
            self._lost += 1
            if self._lost >= (_PATIENCE if was_signed else 1):
                self._piece = self._fitting(MARKED)
        return False

    def _fail(self, why: str, retry_after: str | None = None, *, crowded: bool = False) -> None:
        """Count a failure and wait, or raise."""
        self._failures += 1
        session, limits = self._session, self._client.limits
        if self._out.position - session.offset >= limits.progress:
            self._attempts.progressed()
        is_bounded = self._failures <= _FAILURES * (1 + self._attempts.turns)
        if not (is_bounded and self._attempts.again(why, retry_after, crowded=crowded)):
            raise RegistryError(
                f"{self._words}: {why}, again and again; the registry has {session.offset} of"
                f" {self._desc.size} bytes (try again later)"
            )

    def _lose(self, why: str, *, pieces: bool = True) -> None:
        """Begin anew: the session is of no use any more."""
        if not pieces:
            self._takes_pieces, self._piece = False, None
        self._session.drop()
        self._fail(why)

    def _shrink(self, response: Any) -> None:
        """Send less at once, or raise."""
        last = self._piece or min(self._desc.size, 2 * _FIRST_PIECE)
        piece = self._fitting(min(last // 2, _FIRST_PIECE))
        if piece is None or piece < max(_LEAST_PIECE, self._session.least):
            self._client.check(response, self._session.task)
        self._piece = piece

    def _fitting(self, piece: int) -> int | None:
        """So many bytes, or the most that this registry takes; None where it takes no pieces."""
        return min(piece, self._quirks.largest or piece) if self._takes_pieces else None

    def _gain(self) -> None:
        """Begin to count failures anew where the registry has notably more than ever."""
        if self._session.offset - self._best >= self._notable:
            self._best, self._failures = self._session.offset, 0
            self._attempts.progressed()

    @property
    def _notable(self) -> int:
        """Bytes that the registry has to have more than ever for that to count."""
        return min(self._client.limits.progress, self._desc.size - self._best)

    @contextlib.contextmanager
    def _permit(self) -> Iterator[None]:
        if self._shares:
            yield
            return
        self._client.budget.acquire()
        try:
            yield
        finally:
            self._client.budget.release()


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidReferenceError:
        return None
