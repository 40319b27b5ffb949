"""Challenges and tokens: what to say to a registry that asks who is there, and to whom not to.

Source: distribution's token and OAuth 2 specifications. Credentials go to the registry, and to
token services on its own origin, of a short table, or trusted by the user; a token to its registry.
"""

import base64
import contextlib
import logging
import re
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from urllib.parse import urlencode

from modelpm.errors import AuthenticationError, InvalidManifestError, RegistryError
from modelpm.oci.manifest import load_json
from modelpm.registry.challenge import parse_challenges
from modelpm.registry.credentials import (
    Credential,
    CredentialSource,
    Kind,
    Rotating,
    Telling,
    Trusting,
    Whose,
)
from modelpm.registry.failure import Refusal, of_answer, read_refusal
from modelpm.registry.scrubbing import Scrubber
from modelpm.registry.task import Scope, demanded
from modelpm.registry.url import Origin, is_internal, is_loopback

_REALMS = {
    "docker.io": "https://auth.docker.io",
    "registry.gitlab.com": "https://gitlab.com",
    "nvcr.io": "https://authn.nvidia.com",
}
"""Registries whose token service, run by the same people, stands elsewhere."""

_CLIENT_ID = "modelpm"
_DEFAULT_LIFETIME = 60.0
_MAX_LIFETIME = 86_400.0
_RENEW_AFTER = 0.8
_NO_LONGER = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED)
"""What token services say to an identity token that another one has replaced."""

_LOG = logging.getLogger("modelpm.registry")

_ACCESS_TOKEN = re.compile(r"[\x21-\x7e]{1,32768}")


@dataclass(frozen=True, slots=True)
class Reply:
    """A token service's answer."""

    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Demand:
    """What is asked of a token service: who issues the token, for which registry, for what."""

    realm: str
    service: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    renew_at: float


Send = Callable[[str, str, Mapping[str, str], Mapping[str, str] | None], Reply]
"""(method, URL, headers, form): ask a token service. Retries, is bounded, raises RegistryError."""


class Auth:
    """What is known about getting into one registry. Threads may share it.

    Tokens are fetched one at a time, so that many threads need but one. Times are of `clock`.
    """

    def __init__(
        self,
        host: str,
        credentials: CredentialSource,
        send: Send,
        clock: Callable[[], float],
        trusted_realms: Collection[str] = (),
        *,
        insecure_login: bool = False,
    ) -> None:
        self._host = host
        self._source: CredentialSource | None = credentials
        self._insecure_login = insecure_login
        self._send = send
        self._clock = clock
        trusted = (*trusted_realms, *(_REALMS[name] for name in _REALMS if name == host))
        self._trusted = frozenset(map(Origin.of, trusted))
        self._lock = threading.RLock()
        self._scrubber = Scrubber()
        self.use(credentials)

    def use(self, source: CredentialSource | None, *, offline: bool = False) -> None:
        """Show what this source knows from now on, and forget all that was found before.

        Without a source nothing is said at all, to hear what is asked for. With `offline` a token
        service is also asked for an identity token, to keep in the place of a password.
        """
        with self._lock:
            self._source = source
            self._offline = offline
            self._found: dict[str, Credential | None] = {}
            self._has_basic = False
            self._last: _Demand | None = None
            self._demands: dict[Scope, _Demand] = {}
            self._tokens: dict[tuple[_Demand, Credential | None], _Token] = {}
            self._rotated: dict[str, str] = {}
            self.identity_token = ""

    @property
    def source(self) -> CredentialSource | None:
        """What knows the credentials that are shown."""
        return self._source

    def needs_trust(self, origin: Origin, realm: str) -> bool:
        """Whether the user has to agree before his credentials go to this realm.

        Raises AuthenticationError for one that they never go to.
        """
        target = self._target(origin, realm)
        if target == origin or target in self._trusted:
            return False
        kept = self._source.trusted_realms(self._host) if isinstance(self._source, Trusting) else ()
        return str(target) not in kept

    def require_tls(self, origin: Origin) -> None:
        """Raises AuthenticationError where all could read what is sent to this origin."""
        is_plain = origin.scheme == "http" and not is_loopback(origin.host)
        if is_plain and not self._insecure_login:
            raise AuthenticationError(
                f"signing in to {self._host}: {origin} is without TLS; your credentials were not"
                f" sent (try: --insecure-login {self._host})"
            )

    def is_anonymous(self, scope: Scope) -> bool:
        """Whether nobody has logged in for this, as far as can be told."""
        try:
            return self._credential(scope.repository) is None
        except AuthenticationError:
            return True

    def whose(self, repository: str, said: object) -> Whose | None:
        """Where that lies of which something was said, as far as can be told."""
        if said and isinstance(self._source, Telling):
            with contextlib.suppress(AuthenticationError):
                return self._source.whose(self._host, repository)
        return None

    def preempt(self, origin: Origin, scope: Scope) -> str | None:
        """What to say before being asked: what was asked for the last time, if anything."""
        with self._lock:
            demand = self._demands.get(scope)
            if demand is None and self._last is not None:
                demand = replace(self._last, scopes=demanded(scope, ""))
            if demand is None and not self._has_basic:
                # Not asked for yet: most registries serve anybody, and helpers are slow.
                return None
            credential = self._shown(origin, scope.repository)
            if demand is not None:
                return self._bearer(origin, demand, credential, scope, None)
            return None if credential is None else _basic(credential)

    def answer(self, origin: Origin, header: str, scope: Scope, refused: str | None) -> str | None:
        """What to say to a WWW-Authenticate header; None if there is nothing new to say.

        `refused` is what was said before. Raises AuthenticationError, RegistryError.
        """
        challenges = {challenge.scheme: challenge for challenge in parse_challenges(header)}
        bearer = challenges.get("bearer")
        with self._lock:
            if self._source is None:
                return None
            credential = self._shown(origin, scope.repository)
            value = None
            if bearer is not None and bearer.parameters.get("realm"):
                demand = _Demand(
                    bearer.parameters["realm"],
                    bearer.parameters.get("service", ""),
                    demanded(scope, bearer.parameters.get("scope", "")),
                )
                value = self._bearer(origin, demand, credential, scope, refused)
                self._last = self._demands[scope] = demand
            elif "basic" in challenges and credential is not None:
                self._has_basic = True
                value = _basic(credential)
        return None if value == refused else value

    def scrub(self, text: str) -> str:
        """The text without the secrets known here: servers repeat what they were sent.

        Also those that were known: what was sent before may be answered last.
        """
        return self._scrubber.scrub(text)

    def scrubbing(self) -> AbstractContextManager[None]:
        """The same of the errors that are raised meanwhile."""
        return self._scrubber.errors()

    def read_refusal(self, body: bytes) -> Refusal:
        """What a server says about why not, without the secrets known here."""
        refusal = read_refusal(body)
        return Refusal(self.scrub(refusal.code), self.scrub(refusal.message))

    def _credential(self, repository: str) -> Credential | None:
        with self._lock:
            if self._source is not None and repository not in self._found:
                found = self._source.find(self._host, repository)
                if found is not None:
                    self._learn(found)
                self._found[repository] = found
            return self._found.get(repository)

    def _learn(self, credential: Credential) -> None:
        """Show it nowhere, in none of the forms in which it is sent."""
        shown = _basic(credential).partition(" ")[2]
        for secret in (credential.secret, shown, shown.rstrip("=")):
            self._scrubber.learn(secret)

    def _shown(self, origin: Origin, repository: str) -> Credential | None:
        """What may be shown at this origin, where that can be done unseen."""
        credential = self._credential(repository)
        if credential is not None:
            self.require_tls(origin)
        return credential

    def _bearer(
        self,
        origin: Origin,
        demand: _Demand,
        credential: Credential | None,
        scope: Scope,
        refused: str | None,
    ) -> str:
        if credential is not None and credential.kind is Kind.REGISTRY_TOKEN:
            return f"Bearer {credential.secret}"
        token = self._tokens.get((demand, credential))
        if token is None or token.renew_at <= self._clock() or f"Bearer {token.value}" == refused:
            self._check_realm(origin, demand.realm, credential)
            token = self._fetch(demand, credential, scope.repository)
            self._scrubber.learn(token.value)
            self._tokens[demand, credential] = token
        return f"Bearer {token.value}"

    def _check_realm(self, origin: Origin, realm: str, credential: Credential | None) -> None:
        """Raises AuthenticationError unless the realm may be sent what we have."""
        asks = f"signing in to {self._host}: it sends its users to"
        target = self._target(origin, realm)
        is_trusted = not self.needs_trust(origin, realm)
        if credential is not None:
            if not is_trusted:
                raise AuthenticationError(
                    f"{asks} {target}, which is another server; your credentials were not sent"
                    f" (try: modelpm login {self._host} --trust-realm {target})"
                )
            self.require_tls(target)
        if target.host != origin.host and not is_trusted and is_internal(target.host):
            raise AuthenticationError(f"{asks} {target}, an internal address; refused")

    def _target(self, origin: Origin, realm: str) -> Origin:
        """Who answers at a realm. Raises AuthenticationError for what no one is sent to."""
        asks = f"signing in to {self._host}: it sends its users to"
        try:
            target = Origin.of(realm)
        except RegistryError as error:
            raise AuthenticationError(f"{asks} a strange place: {error}") from None
        if target.scheme == "http" and origin.scheme == "https":
            raise AuthenticationError(f"{asks} {target} without TLS; refused")
        return target

    def _fetch(self, demand: _Demand, credential: Credential | None, repository: str) -> _Token:
        asked_at = self._clock()
        reply = self._exchange(demand, credential)
        if credential and reply.status in _NO_LONGER and self._has_newer(repository, credential):
            reply = self._exchange(demand, credential)
        if reply.status != HTTPStatus.OK:
            raise self._denied(demand, reply, credential, repository)
        document = _document(reply.body)
        value = document.get("token") or document.get("access_token")
        if not isinstance(value, str) or _ACCESS_TOKEN.fullmatch(value) is None:
            raise RegistryError(
                f"signing in to {self._host}: {Origin.of(demand.realm)} gave no token"
            )
        fresh = document.get("refresh_token")
        if isinstance(fresh, str) and credential and _ACCESS_TOKEN.fullmatch(fresh):
            self._keep(repository, credential, fresh)
        return _Token(value, asked_at + _RENEW_AFTER * _lifetime(document.get("expires_in")))

    def _has_newer(self, repository: str, credential: Credential) -> bool:
        """Whether another process has put a newer identity token in the place of this one."""
        if credential.kind is not Kind.IDENTITY_TOKEN or not isinstance(self._source, Rotating):
            return False
        self._source.reread()
        found = self._source.find(self._host, repository)
        if found is None or found.kind is not credential.kind or found == self._current(credential):
            return False
        self._learn(found)
        self._rotated[credential.secret] = found.secret
        return True

    def _keep(self, repository: str, credential: Credential, fresh: str) -> None:
        """Keep an identity token that came in the place of a password, or of another one."""
        self._learn(replace(credential, secret=fresh))
        if self._offline:
            self.identity_token = fresh
        if credential.kind is Kind.PASSWORD:
            return
        old, new = self._current(credential), replace(credential, secret=fresh)
        self._rotated[credential.secret] = fresh
        if old != new and isinstance(self._source, Rotating):
            try:
                self._source.rotated(self._host, repository, old, new)
            except AuthenticationError as error:
                # What was asked for can still be done, and often the old one stays good.
                _LOG.info("the new identity token of %s is not saved: %s", self._host, error)

    def _exchange(self, demand: _Demand, credential: Credential | None) -> Reply:
        realm = demand.realm.partition("#")[0]
        if credential is not None and credential.kind is Kind.IDENTITY_TOKEN:
            form = {
                "grant_type": "refresh_token",
                "service": demand.service,
                "client_id": _CLIENT_ID,
                "scope": " ".join(demand.scopes),
                "refresh_token": self._current(credential).secret,
            }
            reply = self._send("POST", realm, {}, form)
            if reply.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
                return reply
        query = [("service", demand.service)] if demand.service else []
        query += [("scope", scope) for scope in demand.scopes]
        if self._offline:
            query += [("offline_token", "true"), ("client_id", _CLIENT_ID)]
        url = realm + ("&" if "?" in realm else "?") * bool(query) + urlencode(query)
        basic = None if credential is None else _basic(self._current(credential))
        return self._send("GET", url, attach({}, url, Origin.of(realm), basic), None)

    def _current(self, credential: Credential) -> Credential:
        """The credential, or what came in its place."""
        secret = self._rotated.get(credential.secret, credential.secret)
        return replace(credential, secret=secret)

    def _denied(
        self, demand: _Demand, reply: Reply, credential: Credential | None, repository: str
    ) -> Exception:
        """400 is what OAuth 2 services say to an identity token that is no longer good."""
        refusal, status = self.read_refusal(reply.body), reply.status
        if status == HTTPStatus.BAD_REQUEST and credential:
            status = HTTPStatus.UNAUTHORIZED
        task = f"signing in to {self._host} at {Origin.of(demand.realm)}"
        elsewhere = "the token service" if status == HTTPStatus.NOT_FOUND else ""
        whose = self.whose(repository, credential)
        return of_answer(task, self._host, status, refusal, elsewhere=elsewhere, whose=whose)


def attach(
    headers: Mapping[str, str], url: str, origin: Origin, value: str | None
) -> dict[str, str]:
    """The headers with this Authorization: the one place that adds it.

    `origin` is whom it belongs to. Raises RegistryError for a URL of any other.
    """
    if value is None:
        return dict(headers)
    if Origin.of(url) != origin:
        raise RegistryError(f"refused to send what belongs to {origin} to {Origin.of(url)}")
    return {**headers, "Authorization": value}


def _basic(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.secret}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _document(body: bytes) -> dict[str, object]:
    try:
        document = load_json(body)
    except InvalidManifestError:
        return {}
    return document if isinstance(document, dict) else {}


def _lifetime(expires_in: object) -> float:
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float):
        return _DEFAULT_LIFETIME
    return float(min(expires_in, _MAX_LIFETIME)) if expires_in > 0 else _DEFAULT_LIFETIME
