"""How docker's token servers issue and withdraw tokens (distribution spec, token and OAuth 2).

GET with Basic or without credentials, and POST with `refresh_token` or `password` grants. Tokens
are opaque; each is good for the repositories and actions that it was asked for and allowed.
"""

import base64
import binascii
import json
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from faults import Scripted, error_answer
from loopback import Answer, Request

Scopes = frozenset[tuple[str, str]]
"""Pairs of a repository and an action."""


@dataclass(frozen=True, slots=True)
class _Grant:
    scopes: Scopes
    expires: float


class TokenServer(Scripted):
    """Issues tokens at `url` + "/token". Its own log and scenario, like any origin.

    Users may do everything; anonymous clients may pull, unless `anonymous` is false. A token
    lives `lifetime` seconds, and is told to live `told` of them. `refresh_tokens` maps identity
    tokens to users; one is issued to whoever asks for `offline_token`, and with `rotates` a used
    one is replaced. Without `posts` they are taken as passwords, and only GET is answered.
    """

    def __init__(
        self,
        users: dict[str, str] | None = None,
        *,
        anonymous: bool = True,
        lifetime: float = 60,
        rotates: bool = False,
        posts: bool = True,
        told: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.users = users or {}
        self.anonymous = anonymous
        self.lifetime = lifetime
        self.rotates = rotates
        self.posts = posts
        self.told = told
        self.refresh_tokens: dict[str, str] = {}
        self._grants: dict[str, _Grant] = {}
        self._grants_lock = threading.Lock()

    @property
    def realm(self) -> str:
        """Where a challenge sends its clients."""
        return f"{self.url}/token"

    def allows(self, token: str, repository: str, action: str) -> bool:
        """Whether this token was issued for that, and lives. An empty repository asks for any."""
        with self._grants_lock:
            grant = self._grants.get(token)
        if grant is None or grant.expires < time.monotonic():
            return False
        return not repository or (repository, action) in grant.scopes

    def revoke(self) -> None:
        """From now on no token issued so far is good."""
        with self._grants_lock:
            self._grants.clear()

    def mint(self, user: str, scopes: Scopes) -> str:  # noqa: ARG002 - a kind of token may tell
        """A new token's text."""
        return secrets.token_urlsafe(24)

    def reply(self, request: Request) -> Answer:
        """A token, or 401."""
        url = urlsplit(request.path)
        if url.path != "/token":
            return error_answer(404, "NOT_FOUND", url.path)
        is_form = request.method == "POST"
        if is_form and not self.posts:
            return error_answer(405, "UNSUPPORTED", "GET is meant")
        form = parse_qs(request.body.decode("latin-1") if is_form else url.query)
        user = self._user_of_form(form) if is_form else self._user_of_header(request)
        if user is None:
            return error_answer(401, "UNAUTHORIZED", "wrong credentials")
        scopes = frozenset(
            (repository, action)
            for text in " ".join(form.get("scope", [])).split()
            for repository, action in _parse_scope(text)
            if user or action == "pull"
        )
        return self._issue(scopes, user, form)

    def _issue(self, scopes: Scopes, user: str, form: dict[str, list[str]]) -> Answer:
        token = self.mint(user, scopes)
        with self._grants_lock:
            self._grants[token] = _Grant(scopes, time.monotonic() + self.lifetime)
        document: dict[str, object] = {
            "token": token,
            "access_token": token,
            "expires_in": int(self.lifetime if self.told is None else self.told),
        }
        used = form.get("refresh_token", [""])[0]
        wants_refresh = form.get("offline_token") == ["true"] or form.get("access_type") == [
            "offline"
        ]
        if user and (wants_refresh or (used and self.rotates)):
            document["refresh_token"] = fresh = secrets.token_urlsafe(24)
            self.refresh_tokens.pop(used, None)
            self.refresh_tokens[fresh] = user
        body = json.dumps(document).encode()
        return Answer(200, (("Content-Type", "application/json"),), body)

    def _user_of_header(self, request: Request) -> str | None:
        """The user, "" for an anonymous client, or None for one who may have nothing."""
        given = request.headers.get("authorization")
        if given is None:
            return "" if self.anonymous else None
        user, password = parse_basic(given)
        if not self.posts and password in self.refresh_tokens:
            return self.refresh_tokens[password]
        return user if user and self.users.get(user) == password else None

    def _user_of_form(self, form: dict[str, list[str]]) -> str | None:
        if form.get("grant_type") == ["refresh_token"]:
            return self.refresh_tokens.get(form.get("refresh_token", [""])[0])
        if form.get("grant_type") == ["password"]:
            user = form.get("username", [""])[0]
            return user if user and self.users.get(user) == form.get("password", [""])[0] else None
        return None


def parse_basic(header: str) -> tuple[str, str]:
    """User and password of an `Authorization: Basic` value; two empty strings if it is none."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


def _parse_scope(text: str) -> list[tuple[str, str]]:
    kind, _, rest = text.partition(":")
    repository, _, actions = rest.rpartition(":")
    return [(repository, action) for action in actions.split(",")] if kind == "repository" else []
