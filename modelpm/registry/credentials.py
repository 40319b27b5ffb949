"""What a credential is, and what it means to know credentials. No `repr` shows a secret."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol, runtime_checkable

IDENTITY_USER = "<token>"
"""The name under which helpers keep an identity token (docker's helper protocol)."""


class Kind(Enum):
    """What a secret is, which decides how it is used."""

    PASSWORD = auto()
    IDENTITY_TOKEN = auto()
    REGISTRY_TOKEN = auto()


@dataclass(frozen=True, slots=True)
class Credential:
    """What we show to a registry. The secret stays out of `repr`.

    An identity token is traded for access tokens at the token service; a registry token is a
    ready access token.
    """

    username: str
    secret: str = field(repr=False)
    kind: Kind = Kind.PASSWORD

    @classmethod
    def of(cls, username: str, secret: str) -> "Credential":
        """What a pair of name and secret stands for: the name may say that it is a token."""
        kind = Kind.IDENTITY_TOKEN if username == IDENTITY_USER else Kind.PASSWORD
        return cls(username, secret, kind)


class CredentialSource(Protocol):
    """Knows credentials."""

    def find(self, host: str, repository: str, /) -> Credential | None:
        """What to show to this registry for this repository. None means anonymous.

        `host` is as a Reference has it. Raises AuthenticationError where the place that should
        know cannot be asked.
        """
        ...


@runtime_checkable
class Trusting(CredentialSource, Protocol):
    """A CredentialSource that also remembers where the user lets a registry's credentials go."""

    def trusted_realms(self, host: str, /) -> frozenset[str]:
        """Origins of token services that the user agreed to: `https://HOST`, or with a port that
        is not the scheme's own, in lower case. Raises as `find` does.
        """
        ...


@dataclass(frozen=True, slots=True)
class Whose:
    """Where a credential was found, in words: a file, a program, a variable.

    `gives_way` says that what a login keeps would be used instead of it.
    """

    where: str
    gives_way: bool = True


@runtime_checkable
class Telling(CredentialSource, Protocol):
    """A CredentialSource that can tell where it found a credential."""

    def whose(self, host: str, repository: str, /) -> Whose | None:
        """Where that is which `find` finds; None for nothing. Raises as `find` does."""
        ...


@runtime_checkable
class Rotating(CredentialSource, Protocol):
    """A CredentialSource that can keep the identity token which replaces another."""

    def reread(self) -> None:
        """Forget what was read: another process may have written."""
        ...

    def rotated(self, host: str, repository: str, old: Credential, new: Credential, /) -> None:
        """Put `new` where `find` found `old`, if `old` is still there.

        Raises AuthenticationError where that cannot be done.
        """
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """One registry's credential that somebody just said, and `where` he said it."""

    host: str
    credential: Credential
    where: str = "what was given"

    def place(self, _host: str, /) -> str:
        """Where it was said."""
        return self.where

    def find(self, host: str, _repository: str, /) -> Credential | None:
        """The credential, for its own registry."""
        return self.credential if host == self.host else None


class Anonymous:
    """Knows nothing."""

    def find(self, _host: str, _repository: str, /) -> Credential | None:
        """None."""
        return None


def is_header_safe(text: str) -> bool:
    """Whether a name or secret can be sent: without control characters, and all of it text.

    JSON and the environment may hold halves of characters, which have no bytes.
    """
    return not any(char < " " or char == "\x7f" or "\ud800" <= char <= "\udfff" for char in text)
