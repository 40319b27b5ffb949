"""Logging in: what is asked, of whom, in how many requests, and that only what is good is kept."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field

import pytest
from registry import Basic, Bearer

from modelpm.errors import AuthenticationError, ModelPMError, RegistryError
from modelpm.registry import auth
from modelpm.registry.client import RegistryClient
from modelpm.registry.credentials import Credential, Kind
from modelpm.registry.hosts import Hosts, HostSettings
from modelpm.registry.login import Login, Prepared, login
from tests.registry.conftest import Bench
from tests.registry.keepers import SECRET, assert_untold

ALICE = Credential("alice", SECRET)


class Shelf:
    """Keeps credentials in memory, and is a source of them too."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[Credential, str | None]] = {}

    def save(self, host: str, credential: Credential, realm: str | None, /) -> str:
        self.kept[host] = (credential, realm)
        return "the shelf"

    def forget(self, host: str, /) -> tuple[str, ...]:
        return ("the shelf",) if self.kept.pop(host, None) else ()

    def find(self, host: str, repository: str, /) -> Credential | None:
        return self.kept[host][0] if host in self.kept else None

    def trusted_realms(self, host: str, /) -> frozenset[str]:
        realm = self.kept[host][1] if host in self.kept else None
        return frozenset({realm} if realm else ())


@dataclass
class Witness:
    """A person who says what he is told to, and remembers what he was asked."""

    said: Credential = ALICE
    agreeing: bool = False
    realms: list[tuple[str, str]] = field(default_factory=list)
    asked: int = 0

    def agrees(self, host: str, realm: str, /) -> bool:
        self.realms.append((host, realm))
        return self.agreeing

    def credential(self, host: str, /) -> Credential:
        self.asked += 1
        return self.said


def refusal(
    client: RegistryClient,
    person: Witness | Prepared,
    kind: type[ModelPMError] = AuthenticationError,
    *,
    hint: bool = False,
) -> str:
    """What is said when nobody is let in: nothing is kept, and quickly."""
    shelf = Shelf()
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        login(client, person, shelf)
    assert time.monotonic() - started < 5
    assert type(caught.value) is kind
    assert shelf.kept == {}
    assert_untold(caught.value, SECRET)
    message = str(caught.value)
    assert ("try: modelpm login" in message) is hint
    return message


def test_a_password_is_tried_and_kept(bench: Bench) -> None:
    registry = bench.registry(auth=Basic("alice", SECRET))
    shelf, person = Shelf(), Witness()
    done = login(bench.client(registry.host), person, shelf)
    assert done == Login(registry.host, "alice", "", "the shelf", Kind.PASSWORD)
    assert shelf.kept == {registry.host: (ALICE, None)}
    assert (person.realms, person.asked) == ([], 1)
    assert [request.status for request in registry.log] == [401, 401, 200]
    assert {request.path for request in registry.log} == {"/v2/"}


def test_a_wrong_password_is_told_at_once(bench: Bench) -> None:
    registry = bench.registry(auth=Basic("alice", "another"))
    message = refusal(bench.client(registry.host), Witness())
    assert message == (
        f"logging in to {registry.host} as alice: wrong name or password (401 UNAUTHORIZED);"
        " nothing was saved"
    )
    assert len(registry.log) <= 6


def test_a_registry_that_lets_everybody_in_needs_nothing(bench: Bench) -> None:
    registry = bench.registry()
    shelf, person = Shelf(), Witness()
    assert login(bench.client(registry.host), person, shelf) == Login(registry.host)
    assert (shelf.kept, person.asked, len(registry.log)) == ({}, 0, 1)


def test_a_token_service_elsewhere_needs_consent_before_anything_is_sent(bench: Bench) -> None:
    tokens = bench.tokens({"alice": SECRET})
    registry = bench.registry(auth=Bearer(tokens))
    person = Witness()
    message = refusal(bench.client(registry.host), person)
    assert f"would go to {tokens.url}, which is another server" in message
    assert f"--trust-realm {tokens.url}" in message
    assert person.realms == [(registry.host, tokens.url)]
    assert person.asked == 0
    assert tokens.log == ()
    assert not any(request.has_secret for request in registry.log)


def test_consent_is_kept_with_an_identity_token(bench: Bench) -> None:
    tokens = bench.tokens({"alice": SECRET})
    registry = bench.registry(auth=Bearer(tokens))
    shelf = Shelf()
    client = bench.client(registry.host, credentials=shelf)
    done = login(client, Witness(agreeing=True), shelf)
    assert done == Login(registry.host, "alice", tokens.url, "the shelf", Kind.IDENTITY_TOKEN)
    identity, realm = shelf.kept[registry.host]
    assert realm == tokens.url
    assert identity.kind is Kind.IDENTITY_TOKEN
    assert identity.username == "alice"
    assert tokens.refresh_tokens == {identity.secret: "alice"}
    assert len(registry.log) + len(tokens.log) <= 6
    # The client is logged in now, without a word of the user.
    assert client.do_request(f"{registry.url}/v2/").status_code == 200
    assert tokens.log[-1].method == "POST"
    person = Witness()
    login(client, person, shelf)
    assert person.realms == []


def test_a_password_is_kept_where_no_identity_token_is_issued(bench: Bench) -> None:
    tokens = bench.tokens({"alice": SECRET})
    tokens.scenario = [{"body": '{"token": "t-1"}'}]
    registry = bench.registry([{"authorized": True, "status": 200}], auth=Bearer(tokens))
    shelf = Shelf()
    done = login(bench.client(registry.host), Witness(agreeing=True), shelf)
    assert done.kind is Kind.PASSWORD
    assert shelf.kept == {registry.host: (ALICE, tokens.url)}


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_token_service_that_says_no(bench: Bench, status: int) -> None:
    tokens = bench.tokens({"alice": "another"})
    tokens.scenario = [{"status": status, "body": f'{{"message": "bad {SECRET}"}}'}]
    registry = bench.registry(auth=Bearer(tokens))
    message = refusal(bench.client(registry.host), Witness(agreeing=True))
    assert message.startswith(f"logging in to {registry.host} as alice: wrong name or password")
    assert len(registry.log) + len(tokens.log) <= 6


def test_a_registry_that_is_never_content(bench: Bench) -> None:
    tokens = bench.tokens({"alice": SECRET})
    challenge = f'Bearer realm="{tokens.realm}",service="x"'
    registry = bench.registry([{"challenge": challenge}])
    refusal(bench.client(registry.host), Witness(agreeing=True))
    assert len(registry.log) + len(tokens.log) <= 6


@pytest.mark.parametrize("body", ["<html>", "{}", '{"token": "a b"}'])
def test_a_token_service_that_talks_nonsense(bench: Bench, body: str) -> None:
    tokens = bench.tokens({"alice": SECRET})
    tokens.scenario = [{"body": body}]
    registry = bench.registry(auth=Bearer(tokens))
    message = refusal(bench.client(registry.host), Witness(agreeing=True), RegistryError)
    assert "gave no token" in message


STRANGE: list[tuple[dict[str, object], type[ModelPMError], str]] = [
    ({"status": 404}, RegistryError, "it answers 404, as no registry does"),
    ({"status": 403}, RegistryError, "it answers 403"),
    ({"status": 501}, RegistryError, ": 501 "),
    ({"status": 503}, RegistryError, ": 503 "),
    ({"status": 429}, RegistryError, ": 429 "),
    ({"status": 407}, RegistryError, "(try: HTTP_PROXY=http://USER:PASSWORD@PROXY:PORT)"),
    ({"challenge": "Negotiate, NTLM"}, AuthenticationError, "it asks for negotiate, ntlm, and we"),
    ({"status": 401}, AuthenticationError, "it asks for nothing, and we"),
    ({"challenge": "Bearer service=x"}, AuthenticationError, "it asks for bearer, and we"),
    ({"challenge": 'Bearer realm="file:///etc"'}, AuthenticationError, "a strange place"),
]


@pytest.mark.parametrize(("rule", "kind", "words"), STRANGE)
def test_what_is_no_registry_is_asked_for_nothing(
    bench: Bench, rule: dict[str, object], kind: type[ModelPMError], words: str
) -> None:
    registry = bench.registry([rule])
    person = Witness(agreeing=True)
    assert words in refusal(bench.client(registry.host), person, kind)
    assert (person.realms, person.asked) == ([], 0)


def test_a_registry_that_sends_us_elsewhere_gets_nothing(bench: Bench) -> None:
    sink = bench.sink()
    sink.scenario = [{"challenge": "Basic"}]
    registry = bench.registry([{"redirect": f"{sink.url}/v2/"}])
    person = Witness(agreeing=True)
    message = refusal(bench.client(registry.host), person, RegistryError)
    assert f"it sends us to {sink.url}" in message
    assert person.asked == 0
    assert sink.secrets == ()


BAD = [
    Credential("", "x"),
    Credential("alice", ""),
    Credential("al:ice", "x"),
    Credential("alice\n", "x"),
    Credential("alice", "x\r\nX: y"),
]


@pytest.mark.parametrize("said", BAD)
def test_what_cannot_be_sent_is_not(bench: Bench, said: Credential) -> None:
    registry = bench.registry(auth=Basic("alice", SECRET))
    assert "a name and a password" in refusal(bench.client(registry.host), Witness(said))
    assert not any(request.has_secret for request in registry.log)


@pytest.mark.parametrize("consent", [False, True])
def test_without_tls_it_takes_a_consent_of_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, consent: bool
) -> None:
    monkeypatch.setattr(auth, "is_loopback", lambda host: False)
    registry = bench.registry(auth=Basic("alice", SECRET))
    hosts = Hosts(HostSettings(plain_http=True, insecure_login=consent))
    client, person = bench.client(registry.host, hosts=hosts), Witness()
    if consent:
        assert login(client, person, Shelf()).place
        return
    message = refusal(client, person)
    assert f"--insecure-login {registry.host}" in message
    assert person.asked == 0
    assert not any(request.has_secret for request in registry.log)


def test_after_a_refusal_the_client_is_as_before(bench: Bench) -> None:
    registry = bench.registry(auth=Basic("alice", SECRET))
    shelf = Shelf()
    shelf.kept[registry.host] = (ALICE, None)
    client = bench.client(registry.host, credentials=shelf)
    refusal(client, Witness(Credential("alice", "wrong")))
    assert client.do_request(f"{registry.url}/v2/").status_code == 200


AGREED: list[tuple[Collection[str], bool]] = [
    ((), False),
    (["https://auth.example"], True),
    (["https://AUTH.example:443/"], True),
    (["http://auth.example", "https://auth.example:444"], False),
]


@pytest.mark.parametrize(("trusted", "agreed"), AGREED)
def test_a_person_may_have_said_all_beforehand(trusted: Collection[str], agreed: bool) -> None:
    person = Prepared("alice", SECRET, trusted)
    assert person.agrees("reg.io", "https://auth.example") is agreed
    assert person.credential("reg.io") == ALICE
    assert SECRET not in repr(person)


def test_a_token_service_that_may_not_be_asked_is_told_as_it_is(bench: Bench) -> None:
    registry = bench.registry(
        [
            {"times": 1, "challenge": 'Bearer realm="https://auth.example/t"'},
            {"challenge": 'Bearer realm="https://evil.example/t"'},
        ]
    )
    message = refusal(bench.client(registry.host), Witness(agreeing=True), hint=True)
    assert "https://evil.example, which is another server; your credentials were not" in message


def test_an_identity_token_may_be_logged_in_with_and_is_kept_as_it_was_replaced(
    bench: Bench,
) -> None:
    tokens = bench.tokens({}, anonymous=False, rotates=True)
    tokens.refresh_tokens["identity-1"] = "alice"
    registry = bench.registry(auth=Bearer(tokens))
    shelf = Shelf()
    person = Prepared("<token>", "identity-1", [tokens.url])
    assert login(bench.client(registry.host), person, shelf).kind is Kind.IDENTITY_TOKEN
    kept, _ = shelf.kept[registry.host]
    assert list(tokens.refresh_tokens) == [kept.secret] != ["identity-1"]
