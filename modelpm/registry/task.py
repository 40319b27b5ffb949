"""What a request is for, read off its method and URL (distribution spec, "Endpoints")."""

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

PULLS = frozenset({"GET", "HEAD"})

_ROUTE = re.compile(
    r"https?://[^/]+/v2/(?P<repository>.+)/(?P<kind>manifests|blobs|tags|referrers)/(?P<item>[^?]+)"
)
_DIGEST_SHOWN = 12
_getting = ContextVar("getting", default="pulling")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a request wants to do: `action` (`pull`) on a repository; without one, to be let in.

    `sources` are other repositories that it reads from: a mount's.
    """

    repository: str = ""
    action: str = "pull"
    sources: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"repository:{self.repository}:{self.action}" if self.repository else ""


@dataclass(frozen=True, slots=True)
class Task:
    """What is attempted, in the words that begin a message, and the scope that it needs."""

    words: str
    scope: Scope

    @classmethod
    def of(cls, host: str, method: str, url: str) -> "Task":
        """The task of a request to the registry that people call `host`."""
        match = _ROUTE.match(url)
        if match is None:
            return cls(f"asking {host}", Scope())
        action = "pull" if method in PULLS else "pull,push"
        verb = {"GET": _getting.get(), "HEAD": "looking for"}.get(method, "pushing")
        repository, kind, item = match["repository"], match["kind"], match["item"]
        if kind == "manifests":
            words = f"{verb} {host}/{repository}{'@' if ':' in item else ':'}{item}"
        elif kind == "blobs":
            digest = item.partition(":")[2][:_DIGEST_SHOWN] or item
            words = f"{verb} {host}/{repository}, blob {digest}"
        else:
            words = f"listing {kind} of {host}/{repository}"
        return cls(words, Scope(repository, action))


def demanded(scope: Scope, asked: str) -> tuple[str, ...]:
    """The scopes that the registry asks for, else our own; and to read what a mount reads from."""
    told = asked.split() or ([str(scope)] if scope.repository else [])
    read = [f"repository:{name}:pull" for name in scope.sources]
    missing = [text for text in read if not any(_covers(other, text) for other in told)]
    return tuple(dict.fromkeys([*told, *missing]))


def _covers(scope: str, other: str) -> bool:
    """Whether a scope allows all that another of the same resource does."""
    resource, _, actions = scope.rpartition(":")
    wanted, _, needed = other.rpartition(":")
    return resource == wanted and set(needed.split(",")) <= set(actions.split(","))


@contextlib.contextmanager
def looking() -> Iterator[None]:
    """What this thread gets meanwhile is only looked at: the words say `reading`."""
    before = _getting.set("reading")
    try:
        yield
    finally:
        _getting.reset(before)
