"""Which of several places is asked first for a credential, and which one keeps a new one.

The first place that has an entry decides. One that cannot be asked stops us: to go on would be to
show a registry something else than the user means.
"""

from collections.abc import Sequence
from typing import Protocol

from modelpm.registry.authfile import AuthFile
from modelpm.registry.credentials import Credential, CredentialSource, Rotating, Whose


class Place(CredentialSource, Protocol):
    """A CredentialSource that has a name, for people."""

    def place(self, host: str, /) -> str:
        """What keeps a host's credential, in words: a file, a program, a variable."""
        ...


class Keychain:
    """Places, in the order in which they are asked.

    `own` is modelpm's own file, one of them. A helper that it or one of `others` names for a host
    keeps this host's credential; else the file does. Methods raise AuthenticationError.
    """

    def __init__(self, places: Sequence[Place], own: AuthFile, others: Sequence[AuthFile]) -> None:
        self._places = tuple(places)
        self._own = own
        self._others = tuple(others)

    def find(self, host: str, repository: str, /) -> Credential | None:
        """As a CredentialSource says."""
        found = self._first(host, repository)
        return None if found is None else found[1]

    def where(self, host: str) -> str | None:
        """What keeps the credential that is used for a host; None if there is none."""
        found = self._first(host, "")
        return None if found is None else found[0].place(host)

    def whose(self, host: str, repository: str, /) -> Whose | None:
        """As Telling says."""
        found = self._first(host, repository)
        if found is None:
            return None
        before = self._places[: self._places.index(self._own)]
        return Whose(found[0].place(host), gives_way=found[0] not in before)

    def trusted_realms(self, host: str, /) -> frozenset[str]:
        """Where the user lets the credentials of a host go: what modelpm's own file says."""
        return self._own.trusted_realms(host)

    def reread(self) -> None:
        """As Rotating says."""
        for place in self._places:
            if isinstance(place, Rotating):
                place.reread()

    def rotated(self, host: str, repository: str, old: Credential, new: Credential, /) -> None:
        """As Rotating says."""
        found = self._first(host, repository)
        if found is not None and found[1] == old and isinstance(found[0], Rotating):
            found[0].rotated(host, repository, old, new)

    def save(self, host: str, credential: Credential, realm: str | None) -> str:
        """Keep a credential, and the origin that it may go to besides the registry; where it is."""
        programs = (file.store(host, credential) for file in (self._own, *self._others))
        program = next(filter(None, programs), None)
        # Where a helper has it, no old one may stay here: this file is asked before the others.
        self._own.put(host, None if program else credential, realm)
        return program or self._own.place(host)

    def forget(self, host: str) -> tuple[str, ...]:
        """Delete what `save` kept, wherever it may be; the places that had something."""
        gone = [self._own.place(host)] if self._own.remove(host) else []
        gone += filter(None, (file.erase(host) for file in (self._own, *self._others)))
        return tuple(dict.fromkeys(gone))

    def _first(self, host: str, repository: str) -> tuple[Place, Credential] | None:
        for place in self._places:
            credential = place.find(host, repository)
            if credential is not None:
                return place, credential
        return None
