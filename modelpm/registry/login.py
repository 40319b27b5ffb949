"""How one logs in to a registry: hear what it asks for, agree where secrets go, try, and keep.

Nothing is sent before the user agreed to where it goes, and nothing is kept that was not good.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from modelpm.errors import AuthenticationError, RegistryError
from modelpm.registry.challenge import parse_challenges
from modelpm.registry.client import RegistryClient, is_success
from modelpm.registry.credentials import Credential, Kind, is_header_safe
from modelpm.registry.url import Origin

_NOT_OF_IT = (HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, HTTPStatus.TOO_MANY_REQUESTS)
"""What does not tell whether a registry is there: a proxy's word, and a wish to be left alone."""


class Person(Protocol):
    """Who logs in."""

    def agrees(self, host: str, realm: str, /) -> bool:
        """Whether the credential for `host` may go to the token service at this origin."""
        ...

    def credential(self, host: str, /) -> Credential:
        """The name and the password; asked for once, when they can be of use."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A person who has said all beforehand."""

    username: str
    password: str = field(repr=False)
    trusted_realms: Collection[str] = ()

    def agrees(self, _host: str, realm: str, /) -> bool:
        """Whether this origin is one of the trusted."""
        return Origin.of(realm) in map(Origin.of, self.trusted_realms)

    def credential(self, _host: str, /) -> Credential:
        """The credential."""
        return Credential.of(self.username, self.password)


class Keeper(Protocol):
    """Keeps credentials."""

    def save(self, host: str, credential: Credential, realm: str | None, /) -> str:
        """Keep a credential, and an origin that it may go to; the place, in words."""
        ...

    def forget(self, host: str, /) -> tuple[str, ...]:
        """Delete what `save` kept; the places that had something."""
        ...


@dataclass(frozen=True, slots=True)
class Login:
    """What came of it."""

    host: str
    username: str = ""
    """Empty where the registry lets everybody in: then nothing was asked for, nor kept."""
    realm: str = ""
    """The origin of the token service that saw the password, if it is not the registry itself."""
    place: str = ""
    """Where the secret is kept."""
    kind: Kind = Kind.PASSWORD
    """What is kept."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """What is shown to a registry to see whether it is good."""

    credential: Credential
    realm: str

    def find(self, _host: str, _repository: str, /) -> Credential | None:
        return self.credential

    def trusted_realms(self, _host: str, /) -> frozenset[str]:
        return frozenset({self.realm})


def login(client: RegistryClient, person: Person, keeper: Keeper) -> Login:
    """Log in to the client's registry; the client then knows what its source of credentials does.

    Raises AuthenticationError where the person does not agree or the registry does not accept what
    he says, and RegistryError. Then nothing is kept.
    """
    host, source = client.host, client.auth.source
    try:
        client.auth.use(None)
        realm = _realm(client)
        if realm is None:
            return Login(host)
        client.auth.use(source)
        _agree(client, person, realm)
        credential = person.credential(host)
        _check(host, credential)
        client.auth.use(_Trial(credential, str(realm)), offline=True)
        _try(client, credential)
        fresh = credential
        if client.auth.identity_token:
            fresh = Credential(credential.username, client.auth.identity_token, Kind.IDENTITY_TOKEN)
    finally:
        client.auth.use(source)
    elsewhere = str(realm) if realm != client.origin else ""
    place = keeper.save(host, fresh, elsewhere or None)
    return Login(host, credential.username, elsewhere, place, fresh.kind)


def _realm(client: RegistryClient) -> Origin | None:
    """Who wants to see a password; None if nobody does."""
    response = client.do_request(_door(client))
    status = response.status_code
    challenges = parse_challenges(response.headers.get("WWW-Authenticate", ""))
    realms = {item.scheme: item.parameters.get("realm", "") for item in challenges}
    task = f"logging in to {client.host}"
    if not client.is_home(response):
        raise RegistryError(f"{task}: it sends us to {Origin.of(response.url)}; no registry does")
    if is_success(response):
        return None
    if status in _NOT_OF_IT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        client.check(response)
    if status != HTTPStatus.UNAUTHORIZED:
        raise RegistryError(f"{task}: it answers {status}, as no registry does", status=status)
    if realms.get("bearer"):
        client.auth.needs_trust(client.origin, realms["bearer"])
        return Origin.of(realms["bearer"])
    if "basic" in realms:
        return client.origin
    schemes = ", ".join(realms) or "nothing"
    raise AuthenticationError(f"{task}: it asks for {schemes:.100}, and we know Basic and Bearer")


def _agree(client: RegistryClient, person: Person, realm: Origin) -> None:
    """Raises AuthenticationError unless the user lets the password go there, and by this way."""
    host = client.host
    for origin in (client.origin, realm):
        client.auth.require_tls(origin)
    if client.auth.needs_trust(client.origin, str(realm)) and not person.agrees(host, str(realm)):
        raise AuthenticationError(
            f"logging in to {host}: your credentials would go to {realm}, which is another server;"
            f" nothing was sent (try: --trust-realm {realm})"
        )


def _check(host: str, credential: Credential) -> None:
    """Raises AuthenticationError for what cannot be sent (RFC 7617, 2)."""
    name, secret = credential.username, credential.secret
    if not name or ":" in name or not secret or not is_header_safe(name + secret):
        raise AuthenticationError(
            f"logging in to {host}: a name and a password are needed, without control characters,"
            " and no colon in the name"
        )


def _try(client: RegistryClient, credential: Credential) -> None:
    """Raises AuthenticationError unless the registry lets us in with it."""
    try:
        client.check(client.do_request(_door(client)))
        return
    except AuthenticationError as error:
        if error.status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, 400):
            raise
        status, code = error.status, error.code
    raise AuthenticationError(
        f"logging in to {client.host} as {credential.username}: wrong name or password"
        f" ({status}{code and ' '}{code}); nothing was saved",
        status=status,
        code=code,
    )


def _door(client: RegistryClient) -> str:
    """Where a registry lets in (distribution spec, "Determining Support")."""
    return f"{client.origin}/v2/"
