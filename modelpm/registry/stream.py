"""How a blob's bytes arrive, however the connection behaves: one stream that reopens itself.

A broken, stalled or dripping connection is opened anew where it broke, by way of the registry, so
that a redirect whose signature has expired is given out again. Every answer is checked to be the
part that was asked for. The bytes themselves are not verified here.
"""

import contextlib
import io
import re
import threading
from http import HTTPStatus
from typing import Any

import urllib3

from modelpm.errors import DigestMismatchError, RegistryError
from modelpm.oci.descriptor import Descriptor
from modelpm.registry.client import RegistryClient
from modelpm.registry.connection import hang_up
from modelpm.registry.failure import of_exception
from modelpm.registry.limits import Pace
from modelpm.registry.task import Task

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})", re.IGNORECASE)
_LINK_EXPIRED = frozenset({400, 401, 403, 404, 410})


class BlobStream(io.RawIOBase):
    """The bytes of a blob from `start` on, and one more if the server sends more than there are.

    Opened at the first `read`. `read` gives what has come, at least one byte before the end, at
    the rate of the client's budget. It raises DigestMismatchError when the server tells another
    size, RegistryError when the attempts are used up, and what `RegistryClient.check` raises.

    Of a server that does not serve ranges what comes before `start` is read and dropped. With
    `stop` the bytes [start, stop) are asked for, and such a server is an error. A stream that is
    not `patient` does not ask again a server that refuses it now; one that is waits, if need be,
    until another has come to its end.
    """

    def __init__(
        self,
        client: RegistryClient,
        url: str,
        desc: Descriptor,
        start: int = 0,
        stop: int | None = None,
        *,
        patient: bool = True,
    ) -> None:
        super().__init__()
        self._client = client
        self._url = url
        self._words = Task.of(client.host, "GET", url).words
        self._desc = desc
        self._stop = desc.size if stop is None else stop
        self._must_range = stop is not None
        self._patient = patient
        self._asks_ranges = True
        self._position = self._failed_at = start
        self._skip = 0
        self._response: Any = None
        self._flowing = contextlib.ExitStack()
        self._pace = Pace(client.limits)
        self._aborted = threading.Event()
        most = None if patient else client.limits.attempts
        self._attempts = client.attempts(self._aborted, most=most).about(desc.digest)
        self._ended = start >= self._stop

    def readable(self) -> bool:
        """True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes as soon as there are any; none at the end."""
        if size < 0:
            return self.readall()
        while size and not self._ended:
            chunk, failure = self._receive(min(size, self._client.budget.piece))
            self._client.budget.spend(len(chunk))
            self._position += len(chunk)
            # Past the end only the fact counts that there is more, not how much, nor a failure.
            self._ended = self._position > self._stop or (not chunk and self._is_whole)
            if self._ended:
                self._flowing.close()  # whoever reads it may be long in closing it
            if chunk or self._ended:
                return chunk
            if failure:
                self._recover(failure)
        return b""

    def abort(self) -> None:
        """Make the read that waits for bytes, and each later one, fail soon. From any thread."""
        self._aborted.set()
        response = self._response
        if response is not None:
            hang_up(response.raw)

    def close(self) -> None:
        """Hang up, unless the connection can be used again."""
        self._hang_up()
        super().close()

    @property
    def _is_whole(self) -> bool:
        return self._position >= self._stop

    def _receive(self, size: int) -> tuple[bytes, str]:
        """What comes next, or nothing and why. Nothing without a reason: ask again."""
        if self._response is None:
            self._open()
        before = self._client.clock()
        try:
            chunk: bytes = self._response.raw.read1(min(size, self._skip or self._left))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return b"", of_exception(error, self._client.host, self._client.limits).words
        if not chunk:
            return b"", f"{self._client.host} closed the connection too early"
        if self._pace.is_lost(len(chunk), self._client.clock() - before):
            # What came is kept; the next read finds the connection gone.
            self._response.raw.close()
        if self._skip:
            self._skip -= len(chunk)
            return b"", ""
        return chunk, ""

    @property
    def _left(self) -> int:
        return self._stop + 1 - self._position

    def _recover(self, failure: str) -> None:
        self._hang_up()
        if self._was_useful():
            self._attempts.progressed()
        self._failed_at = self._position
        self._again(failure)

    def _again(self, failure: str, *, quick: bool = False) -> None:
        if not self._attempts.again(failure, quick=quick, crowded=not quick):
            raise RegistryError(
                f"{self._words}: {failure}, again and again; {self._position} of"
                f" {self._desc.size} bytes have come (try again later)"
            )

    def _open(self) -> None:
        while self._response is None:
            if self._aborted.is_set():
                raise RegistryError(f"{self._words}: ended by us")
            asks = self._asks_ranges and (self._position > 0 or self._stop < self._desc.size)
            end = "" if self._stop == self._desc.size else str(self._stop - 1)
            headers = {"Range": f"bytes={self._position}-{end}"} if asks else {}
            attempts = self._client.attempts(self._aborted, most=None if self._patient else 1)
            response = self._client.do_request(
                self._url,
                headers=headers,
                stream=True,
                attempts=attempts.about(self._desc.digest),
            )
            if response.status_code in _LINK_EXPIRED and not self._client.is_home(response):
                response.close()
                self._again("the link to the content has expired", quick=True)
                continue
            self._accept(response, asks)

    def _accept(self, response: Any, asked_range: bool) -> None:
        """Take the answer as the source of bytes, or settle how to ask next."""
        is_refused = response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        if not is_refused:
            self._client.check(response)
        before = None if is_refused else self._before(response)
        is_whole = response.status_code == HTTPStatus.OK
        if before is not None and not (is_whole and asked_range and self._must_range):
            self._response, self._skip = response, before
            self._flowing.enter_context(self._client.budget.flowing(self._was_useful))
            return
        response.close()
        if not asked_range or self._must_range:
            raise RegistryError(
                f"{self._words}: another part came than was asked for", status=response.status_code
            )
        self._asks_ranges = False

    def _before(self, response: Any) -> int | None:
        """How many bytes of this body come before ours; None if it is not what was asked for."""
        headers = response.headers
        length = _number(headers.get("Content-Length"))
        if response.status_code == HTTPStatus.OK:
            if length not in (None, self._desc.size) and "Transfer-Encoding" not in headers:
                response.close()
                raise DigestMismatchError(
                    f"{self._words}: it has {length} bytes instead of {self._desc.size}"
                )
            return self._position
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if response.status_code != HTTPStatus.PARTIAL_CONTENT or match is None:
            return None
        first, last, total = (int(number) for number in match.groups())
        is_ours = first == self._position and first <= last < self._stop
        is_sound = total == self._desc.size and length in (None, last + 1 - first)
        return 0 if is_ours and is_sound else None

    def _hang_up(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
        self._flowing.close()

    def _was_useful(self) -> bool:
        return self._is_whole or self._position - self._failed_at >= self._client.limits.progress


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None
