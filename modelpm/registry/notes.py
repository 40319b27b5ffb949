"""What a push would like to be remembered for the next one, and by whom: nobody, or a store."""

from collections.abc import Sequence
from typing import Protocol

from modelpm.oci.descriptor import Digest


class Notes(Protocol):
    """What is remembered of registries from one push to the next. Losing any of it is fine."""

    def sisters(self, host: str, digest: Digest, /) -> Sequence[str]:
        """The repositories of a registry in which a blob was seen, newest first."""
        ...

    def saw(self, host: str, repository: str, digest: Digest, /) -> None:
        """A blob is in this repository: it was pulled from there, found there or pushed there."""
        ...

    def upload(self, key: str, /) -> str | None:
        """The URL of the session of an upload that was begun and not ended."""
        ...

    def begin_upload(self, key: str, location: str, /) -> None:
        """An upload goes on at this URL, which may hold a secret."""
        ...

    def end_upload(self, key: str, /) -> None:
        """An upload is done, or given up."""
        ...


class NoNotes:
    """Remembers nothing."""

    def sisters(self, _host: str, _digest: Digest, /) -> Sequence[str]:
        """None."""
        return ()

    def saw(self, _host: str, _repository: str, _digest: Digest, /) -> None:
        """Forgotten at once."""

    def upload(self, _key: str, /) -> str | None:
        """None."""
        return None

    def begin_upload(self, _key: str, _location: str, /) -> None:
        """Forgotten at once."""

    def end_upload(self, _key: str, /) -> None:
        """Nothing to do."""
