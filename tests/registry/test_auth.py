"""Who is told what: challenges of every form, tokens, and realms that get nothing."""

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from modelpm.errors import AuthenticationError, RegistryError
from modelpm.registry.auth import Auth, Reply, attach
from modelpm.registry.challenge import parse_challenges
from modelpm.registry.credentials import Anonymous, Credential, CredentialSource, Kind, Whose
from modelpm.registry.failure import Refusal
from modelpm.registry.task import Scope
from modelpm.registry.url import Origin
from tests.registry.conftest import Always

HOST = "reg.example"
HOME = Origin("https", HOST, 443)
REALM = f"https://{HOST}/token"
PULL = Scope("team/tiny", "pull")

CHALLENGES = [
    ('Basic realm="x"', [("basic", {"realm": "x"})]),
    ("BASIC REALM=x", [("basic", {"realm": "x"})]),
    (
        'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
        [("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"})],
    ),
    (
        "Bearer realm = https://a/t , service=s",
        [("bearer", {"realm": "https://a/t", "service": "s"})],
    ),
    (
        r'Bearer realm="a\"b\\c, Basic realm=\"no\"", service=""',
        [("bearer", {"realm": 'a"b\\c, Basic realm="no"', "service": ""})],
    ),
    (
        'Basic realm="b", Bearer realm="t",service=s',
        [("basic", {"realm": "b"}), ("bearer", {"realm": "t", "service": "s"})],
    ),
    (
        'Negotiate, NTLM dG9rZW4=, Basic realm="b"',
        [("negotiate", {}), ("ntlm", {}), ("basic", {"realm": "b"})],
    ),
    ("Bearer", [("bearer", {})]),
    (' ,, Bearer realm="a",, ,service="b"', [("bearer", {"realm": "a", "service": "b"})]),
    ('Basic realm="one", Basic realm="two"', [("basic", {"realm": "one"})]),
    ('Bearer realm="one",realm="two"', [("bearer", {"realm": "one"})]),
    ("", []),
    ("=,=;", []),
    ('"Bearer realm=x"', []),
    ('Bearer realm="unclosed', [("bearer", {})]),
    ("Bearer \x00", [("bearer", {})]),
]


@pytest.mark.parametrize(("header", "expected"), CHALLENGES)
def test_challenges_are_read_in_every_form(
    header: str, expected: list[tuple[str, dict[str, str]]]
) -> None:
    found = parse_challenges(header)
    assert [(challenge.scheme, challenge.parameters) for challenge in found] == expected


HUGE = ['Bearer realm="' + "a" * 10**6, "Bearer " + 'a="b",' * 10**5, "a, " * 10**5, '\\"' * 10**5]


@pytest.mark.parametrize("header", HUGE)
def test_a_huge_header_costs_little(header: str) -> None:
    assert len(parse_challenges(header)) <= 16


class Service:
    """A token service: answers from a list, the last one for ever, and notes what it was sent."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = replies or (token("t-1"),)
        self.asked: list[tuple[str, str, Mapping[str, str], Mapping[str, str] | None]] = []

    def send(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> Reply:
        self.asked.append((method, url, headers, form))
        return self._replies[min(len(self.asked), len(self._replies)) - 1]


def token(value: str, **members: object) -> Reply:
    return Reply(200, json.dumps({"token": value, **members}).encode())


class Clock:
    """Shows the time that it is set to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(
    service: Service | None = None,
    credentials: CredentialSource | None = None,
    *,
    host: str = HOST,
    clock: Clock | None = None,
    trusted: tuple[str, ...] = (),
) -> Auth:
    send = (service or Service()).send
    return Auth(host, credentials or Anonymous(), send, clock or Clock(), trusted)


def bearer(realm: str = REALM, **parameters: str) -> str:
    rest = "".join(f',{name}="{value}"' for name, value in parameters.items())
    return f'Bearer realm="{realm}"{rest}'


def query(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query, keep_blank_values=True)


def basic(user: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


def test_a_password_answers_basic_and_is_then_shown_unasked() -> None:
    auth = make(credentials=Always("ann", "a:b"))
    assert auth.preempt(HOME, PULL) is None
    said = auth.answer(HOME, 'Basic realm="x"', PULL, None)
    assert said == basic("ann", "a:b")
    assert auth.preempt(HOME, Scope("other")) == said
    assert auth.answer(HOME, 'Basic realm="x"', PULL, said) is None


@pytest.mark.parametrize(
    "header", ["", "Negotiate", "Bearer", 'Bearer service="s"', 'Basic realm="x"']
)
def test_there_is_nothing_to_say(header: str) -> None:
    assert make().answer(HOME, header, PULL, None) is None


def test_without_a_realm_basic_is_left() -> None:
    auth = make(credentials=Always("ann", "pw"))
    assert auth.answer(HOME, 'Bearer service="s", Basic realm="x"', PULL, None) == basic(
        "ann", "pw"
    )


def test_bearer_is_preferred_and_asked_for_as_the_registry_says() -> None:
    service = Service()
    auth = make(service, Always("ann", "pw"))
    header = (
        f'Basic realm="x", {bearer(service="reg", scope="repository:team/tiny:pull other:x:y")}'
    )
    assert auth.answer(HOME, header, PULL, None) == "Bearer t-1"
    method, url, headers, form = service.asked[0]
    assert (method, headers, form) == ("GET", {"Authorization": basic("ann", "pw")}, None)
    assert query(url) == {
        "service": ["reg"],
        "scope": ["repository:team/tiny:pull", "other:x:y"],
    }


def test_anonymous_tokens_are_asked_for_without_authorization() -> None:
    service = Service()
    make(service).answer(HOME, bearer(f"{REALM}?a=1#f"), PULL, None)
    _, url, headers, _ = service.asked[0]
    assert headers == {}
    assert url.startswith(f"{REALM}?a=1&")
    assert query(url) == {"a": ["1"], "scope": ["repository:team/tiny:pull"]}


def test_a_realm_without_anything_to_ask_is_asked_plainly() -> None:
    service = Service()
    make(service).answer(HOME, bearer(), Scope(), None)
    assert service.asked[0][1] == REALM


def test_one_token_serves_until_four_fifths_of_its_life() -> None:
    service, clock = Service(token("t-1", expires_in=100), token("t-2", expires_in=100)), Clock()
    auth = make(service, clock=clock)
    auth.answer(HOME, bearer(), PULL, None)
    clock.now += 79
    assert auth.preempt(HOME, PULL) == "Bearer t-1"
    clock.now += 1
    assert auth.preempt(HOME, PULL) == "Bearer t-2"
    assert len(service.asked) == 2


LIFETIMES: list[tuple[dict[str, object], float]] = [
    ({}, 60),
    ({"expires_in": 0}, 60),
    ({"expires_in": -5}, 60),
    ({"expires_in": "90"}, 60),
    ({"expires_in": True}, 60),
    ({"expires_in": 10**30}, 86_400),
    ({"expires_in": 10**400}, 86_400),
    ({"expires_in": 90.5}, 90.5),
]


@pytest.mark.parametrize(("members", "lifetime"), LIFETIMES)
def test_a_lifetime_has_a_default_and_a_bound(members: dict[str, object], lifetime: float) -> None:
    service, clock = Service(token("t-1", **members), token("t-2")), Clock()
    auth = make(service, clock=clock)
    auth.answer(HOME, bearer(), PULL, None)
    clock.now += lifetime * 0.8 - 0.001
    assert auth.preempt(HOME, PULL) == "Bearer t-1"
    clock.now += 0.002
    assert auth.preempt(HOME, PULL) == "Bearer t-2"


def test_another_repository_needs_another_token_of_the_same_service() -> None:
    service = Service(token("t-1"), token("t-2"))
    auth = make(service)
    auth.answer(HOME, bearer(service="s", scope="repository:team/tiny:pull"), PULL, None)
    assert auth.preempt(HOME, Scope("other")) == "Bearer t-2"
    assert query(service.asked[1][1]) == {"service": ["s"], "scope": ["repository:other:pull"]}
    assert auth.preempt(HOME, PULL) == "Bearer t-1"


def test_a_refused_token_is_fetched_anew_and_the_same_again_is_no_answer() -> None:
    service = Service(token("t-1"), token("t-2"))
    auth = make(service)
    said = auth.answer(HOME, bearer(), PULL, None)
    assert auth.answer(HOME, bearer(), PULL, said) == "Bearer t-2"
    assert auth.answer(HOME, bearer(), PULL, said) == "Bearer t-2"
    assert len(service.asked) == 2
    assert auth.answer(HOME, bearer(), PULL, "Bearer t-2") is None


def test_a_registry_token_is_used_as_it_is() -> None:
    service = Service()
    source = Always()
    source.credential = Credential("", "ready-token", Kind.REGISTRY_TOKEN)
    auth = make(service, source)
    assert auth.answer(HOME, bearer("https://evil.example/t"), PULL, None) == "Bearer ready-token"
    assert auth.answer(HOME, bearer(), PULL, "Bearer ready-token") is None
    assert service.asked == []


def identity(*replies: Reply) -> tuple[Auth, Service]:
    service = Service(*replies)
    source = Always()
    source.credential = Credential("<token>", "identity-token", Kind.IDENTITY_TOKEN)
    return make(service, source), service


def test_an_identity_token_is_traded_and_replaced() -> None:
    auth, service = identity(token("t-1", refresh_token="identity-2"), token("t-2"))
    auth.answer(HOME, bearer(service="s"), PULL, None)
    auth.preempt(HOME, Scope("other"))
    assert [(method, headers) for method, _, headers, _ in service.asked] == [("POST", {})] * 2
    forms = [form for *_, form in service.asked]
    assert forms[0] == {
        "grant_type": "refresh_token",
        "service": "s",
        "client_id": "modelpm",
        "scope": "repository:team/tiny:pull",
        "refresh_token": "identity-token",
    }
    assert forms[1] is not None
    assert forms[1]["refresh_token"] == "identity-2"
    assert auth.scrub("identity-token identity-2 t-1") == "*** *** t-1"


@pytest.mark.parametrize("status", [404, 405])
def test_a_service_without_post_is_asked_with_get(status: int) -> None:
    auth, service = identity(Reply(status, b""), token("t-1"))
    assert auth.answer(HOME, bearer(), PULL, None) == "Bearer t-1"
    assert [method for method, *_ in service.asked] == ["POST", "GET"]
    assert service.asked[1][2] == {"Authorization": basic("<token>", "identity-token")}


REALMS_FOR_CREDENTIALS = [
    ("https://reg.example/other", HOST, (), True),
    ("https://REG.example:443/t", HOST, (), True),
    ("https://reg.example:8443/t", HOST, (), False),
    ("https://auth.reg.example/t", HOST, (), False),
    ("https://evil.example/t", HOST, (), False),
    ("https://evil.example/t", HOST, ("https://evil.example",), True),
    ("https://evil.example:444/t", HOST, ("https://evil.example",), False),
    ("http://reg.example/t", HOST, (), False),
    ("http://evil.example/t", HOST, ("http://evil.example",), False),
    ("https://auth.docker.io/token", "docker.io", (), True),
    ("https://auth.docker.io/token", HOST, (), False),
    ("https://gitlab.com/jwt/auth", "registry.gitlab.com", (), True),
    ("https://authn.nvidia.com/token", "nvcr.io", (), True),
    ("ftp://reg.example/t", HOST, (), False),
    ("/token", HOST, (), False),
    ("https://reg.example@evil.example/t", HOST, (), False),
]


@pytest.mark.parametrize(("realm", "host", "trusted", "allowed"), REALMS_FOR_CREDENTIALS)
def test_credentials_go_to_known_realms_only(
    realm: str, host: str, trusted: tuple[str, ...], allowed: bool
) -> None:
    service = Service()
    auth = make(service, Always("ann", "s3cret"), host=host, trusted=trusted)
    if allowed:
        assert auth.answer(HOME, bearer(realm), PULL, None) == "Bearer t-1"
        return
    with pytest.raises(AuthenticationError) as caught:
        auth.answer(HOME, bearer(realm), PULL, None)
    assert service.asked == []
    assert "s3cret" not in str(caught.value)
    assert auth.preempt(HOME, PULL) is None


def test_the_refusal_of_a_realm_names_it() -> None:
    with pytest.raises(AuthenticationError, match=r"https://evil\.example, .*were not sent"):
        make(credentials=Always()).answer(HOME, bearer("https://evil.example/t"), PULL, None)


PLAIN = Origin("http", "127.0.0.1", 5000)
REALMS_FOR_NOBODY = [
    ("https://auth.elsewhere.example/t", HOME, True),
    ("http://auth.elsewhere.example/t", HOME, False),
    ("http://auth.elsewhere.example/t", PLAIN, True),
    ("http://127.0.0.1:6000/t", PLAIN, True),
    ("https://127.0.0.1/t", HOME, False),
    ("https://127.1/t", HOME, False),
    ("https://[::1]/t", HOME, False),
    ("https://10.0.0.1/t", HOME, False),
    ("https://169.254.169.254/latest", HOME, False),
    ("https://0.0.0.0/t", HOME, False),
    ("https://localhost/t", HOME, False),
    ("http://10.0.0.1/t", PLAIN, False),
    ("https://8.8.8.8/t", HOME, True),
]


@pytest.mark.parametrize(("realm", "origin", "allowed"), REALMS_FOR_NOBODY)
def test_without_credentials_any_outside_realm_is_asked(
    realm: str, origin: Origin, allowed: bool
) -> None:
    service = Service()
    auth = make(service)
    if allowed:
        assert auth.answer(origin, bearer(realm), PULL, None) == "Bearer t-1"
        return
    with pytest.raises(AuthenticationError, match="refused"):
        auth.answer(origin, bearer(realm), PULL, None)
    assert service.asked == []


BAD_REPLIES: list[tuple[Reply, type[RegistryError], str]] = [
    (Reply(200, b"<html>"), RegistryError, "gave no token"),
    (Reply(200, b"[]"), RegistryError, "gave no token"),
    (Reply(200, b"{}"), RegistryError, "gave no token"),
    (Reply(200, b"[" * 60_000), RegistryError, "gave no token"),
    (token(""), RegistryError, "gave no token"),
    (token("a b"), RegistryError, "gave no token"),
    (token("a\r\nX: y"), RegistryError, "gave no token"),
    (token("a" * 40_000), RegistryError, "gave no token"),
    (Reply(200, b'{"token": 7}'), RegistryError, "gave no token"),
    (Reply(204, b""), RegistryError, "204"),
    (Reply(302, b""), RegistryError, "302"),
    (Reply(404, b""), RegistryError, "the token service: 404"),
    (Reply(500, b"oops"), RegistryError, "500 Internal Server Error: oops"),
    (Reply(401, b'{"details": "bad s3cret-of-alice"}'), AuthenticationError, r"bad \*\*\* \(try"),
    (Reply(400, b'{"error": "invalid_grant"}'), AuthenticationError, "invalid_grant"),
    (Reply(403, b""), AuthenticationError, f"try: modelpm login {HOST}"),
]


@pytest.mark.parametrize(("reply", "kind", "words"), BAD_REPLIES)
def test_a_bad_reply_is_an_error(reply: Reply, kind: type[RegistryError], words: str) -> None:
    auth = make(Service(reply), Always())
    with pytest.raises(kind, match=words) as caught:
        auth.answer(HOME, bearer(), PULL, None)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"signing in to {HOST}")


class Teller(Always):
    """Knows where its credential lies, or cannot tell."""

    def __init__(self, told: Whose | None) -> None:
        super().__init__()
        self.told = told

    def whose(self, _host: str, _repository: str) -> Whose | None:
        if self.told is None:
            raise AuthenticationError("the helper is gone")
        return self.told


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Whose("/a.json"), f"it was shown the credentials of /a.json (try: modelpm login {HOST})"),
        (Whose("VARIABLE", gives_way=False), "VARIABLE, which go before those of a login"),
        (None, f"401 Unauthorized (try: modelpm login {HOST})"),
    ],
)
def test_what_a_token_service_refused_is_told_by_its_place(told: Whose | None, words: str) -> None:
    auth = make(Service(Reply(401, b"")), Teller(told))
    with pytest.raises(AuthenticationError) as caught:
        auth.answer(HOME, bearer(), PULL, None)
    assert words in str(caught.value)


def test_access_token_is_another_name_for_token() -> None:
    service = Service(Reply(200, b'{"access_token": "t-9"}'))
    assert make(service).answer(HOME, bearer(), PULL, None) == "Bearer t-9"


def test_the_secrets_in_use_are_scrubbed() -> None:
    auth = make(Service(token("tok-123")), Always("ann", "pass-word"))
    auth.answer(HOME, bearer(), PULL, None)
    encoded = basic("ann", "pass-word").split()[1]
    assert auth.scrub(f"x pass-word {encoded} tok-123 ann") == "x *** *** *** ann"


def test_two_users_of_one_registry_have_two_tokens() -> None:
    class TwoUsers:
        def find(self, host: str, repository: str) -> Credential | None:
            return Credential(repository, "pw")

    service = Service(token("t-1"), token("t-2"))
    auth = make(service, TwoUsers())
    header = bearer(scope="registry:catalog:*")
    assert auth.answer(HOME, header, Scope("ann"), None) == "Bearer t-1"
    assert auth.answer(HOME, header, Scope("bob"), None) == "Bearer t-2"
    shown = [headers["Authorization"] for _, _, headers, _ in service.asked]
    assert shown == [basic("ann", "pw"), basic("bob", "pw")]


def test_a_secret_is_scrubbed_however_it_is_written() -> None:
    auth = make(credentials=Always("ann", "pass-word"))
    auth.answer(HOME, "Basic", PULL, None)
    body = rb'{"errors": [{"code": "pass-word", "message": "p\u0061ss-word"}]}'
    assert auth.read_refusal(body) == Refusal("***", "***")


def test_a_short_secret_does_not_eat_the_message() -> None:
    auth = make(credentials=Always("ann", "a"))
    auth.answer(HOME, "Basic", PULL, None)
    assert auth.scrub("a banana") == "a banana"


def test_credentials_are_looked_up_once_for_each_repository() -> None:
    class Counting(Always):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[tuple[str, str]] = []

        def find(self, host: str, repository: str) -> Credential | None:
            self.asked.append((host, repository))
            return super().find(host, repository)

    source = Counting()
    auth = make(credentials=source)
    assert auth.preempt(HOME, Scope("a")) is None
    assert source.asked == []
    assert [auth.is_anonymous(Scope(name)) for name in ("a", "a", "b")] == [False] * 3
    assert source.asked == [(HOST, "a"), (HOST, "b")]


def test_who_cannot_be_told_is_anonymous() -> None:
    class Broken:
        def find(self, host: str, repository: str) -> Credential | None:
            raise AuthenticationError("the helper is broken")

    auth = make(credentials=Broken())
    assert auth.is_anonymous(PULL)
    assert make().is_anonymous(PULL)
    with pytest.raises(AuthenticationError, match="broken"):
        auth.answer(HOME, "Basic", PULL, None)


ELSEWHERE = ["https://reg.example:444/", "http://reg.example/", "https://a.reg.example/"]


@pytest.mark.parametrize("url", ELSEWHERE)
def test_authorization_is_attached_for_its_own_origin_only(url: str) -> None:
    headers: dict[str, Any] = {"Accept": "x"}
    assert attach(headers, f"https://{HOST}/v2/", HOME, "Basic x") == {
        "Accept": "x",
        "Authorization": "Basic x",
    }
    assert attach(headers, url, HOME, None) == headers == {"Accept": "x"}
    with pytest.raises(RegistryError) as caught:
        attach(headers, url, HOME, "Basic s3cret")
    assert "s3cret" not in str(caught.value)


class Kept:
    """A place that keeps identity tokens, and remembers what the user agreed to."""

    def __init__(self, *credentials: Credential, realms: tuple[str, ...] = ()) -> None:
        self._versions = list(credentials)
        self._realms = frozenset(realms)
        self.saved: list[tuple[str, str, str, str]] = []
        self.broken = False

    def find(self, host: str, repository: str, /) -> Credential | None:
        return self._versions[0]

    def reread(self) -> None:
        self._versions = self._versions[1:] or self._versions

    def trusted_realms(self, host: str, /) -> frozenset[str]:
        return self._realms if host == HOST else frozenset()

    def rotated(self, host: str, repository: str, old: Credential, new: Credential, /) -> None:
        if self.broken:
            raise AuthenticationError("the disk is full")
        self.saved.append((host, repository, old.secret, new.secret))


def token_of(secret: str) -> Credential:
    return Credential("ann", secret, Kind.IDENTITY_TOKEN)


def shown_tokens(service: Service) -> list[str]:
    return [form["refresh_token"] for *_, form in service.asked if form is not None]


@pytest.mark.parametrize("broken", [False, True])
def test_a_rotated_identity_token_is_saved(broken: bool) -> None:
    replies = [token(f"t-{n}", refresh_token=f"identity-{n + 1}") for n in (1, 2)]
    service, kept = Service(*replies, token("t-3")), Kept(token_of("identity-1"))
    kept.broken = broken
    auth = make(service, kept)
    auth.answer(HOME, bearer(), PULL, None)
    auth.preempt(HOME, Scope("other"))
    auth.preempt(HOME, Scope("third"))
    assert shown_tokens(service) == ["identity-1", "identity-2", "identity-3"]
    saved = [
        (HOST, "team/tiny", "identity-1", "identity-2"),
        (HOST, "other", "identity-2", "identity-3"),
    ]
    assert kept.saved == ([] if broken else saved)


def test_an_identity_token_that_stays_is_not_saved() -> None:
    service, kept = Service(token("t-1", refresh_token="identity-1")), Kept(token_of("identity-1"))
    make(service, kept).answer(HOME, bearer(), PULL, None)
    assert kept.saved == []


@pytest.mark.parametrize("status", [400, 401])
def test_the_newer_token_of_another_process_is_taken(status: int) -> None:
    service = Service(Reply(status, b""), token("t-1"))
    auth = make(service, Kept(token_of("identity-1"), token_of("identity-2")))
    assert auth.answer(HOME, bearer(), PULL, None) == "Bearer t-1"
    assert shown_tokens(service) == ["identity-1", "identity-2"]
    assert auth.scrub("identity-1 identity-2") == "*** ***"


def test_without_a_newer_token_a_refusal_is_one() -> None:
    for kept in (Kept(token_of("one")), Kept(token_of("one"), Credential("ann", "pw"))):
        service = Service(Reply(400, b""))
        with pytest.raises(AuthenticationError):
            make(service, kept).answer(HOME, bearer(), PULL, None)
        assert len(service.asked) == 1


def test_a_password_is_not_rotated() -> None:
    service, kept = Service(token("t-1", refresh_token="new")), Kept(Credential("ann", "pw"))
    auth = make(service, kept)
    auth.answer(HOME, bearer(), PULL, None)
    assert (kept.saved, auth.identity_token) == ([], "")


@pytest.mark.parametrize("status", [404, 405])
def test_get_shows_the_newest_token_too(status: int) -> None:
    service = Service(token("t-1", refresh_token="identity-2"), Reply(status, b""), token("t-2"))
    auth = make(service, Kept(token_of("identity-1")))
    auth.answer(HOME, bearer(), PULL, None)
    assert auth.preempt(HOME, Scope("other")) == "Bearer t-2"
    assert service.asked[2][2] == {"Authorization": basic("ann", "identity-2")}


def test_what_the_user_agreed_to_is_trusted_for_its_registry() -> None:
    kept = Kept(Credential("ann", "pw"), realms=("https://auth.example",))
    header = bearer("https://auth.example/t")
    auth = make(credentials=kept)
    assert auth.answer(HOME, header, PULL, None) == "Bearer t-1"
    assert not auth.needs_trust(HOME, "https://auth.example/t")
    assert auth.needs_trust(HOME, "https://auth.example:8443/t")
    with pytest.raises(AuthenticationError, match="--trust-realm https://auth"):
        make(credentials=kept, host="other.example").answer(HOME, header, PULL, None)


def test_what_a_login_asks_for_comes_to_be_known() -> None:
    service = Service(token("t-1", refresh_token="an-identity"))
    auth = make(service)
    auth.use(None)
    assert auth.answer(HOME, bearer(), Scope(), None) is None
    assert auth.answer(HOME, "Basic", Scope(), None) is None
    assert auth.preempt(HOME, Scope()) is None
    assert auth.is_anonymous(PULL)
    source = Always("ann", "pw")
    auth.use(source, offline=True)
    assert auth.source is source
    assert auth.answer(HOME, bearer(service="s"), Scope(), None) == "Bearer t-1"
    assert query(service.asked[0][1]) == {
        "service": ["s"],
        "offline_token": ["true"],
        "client_id": ["modelpm"],
    }
    assert auth.identity_token == "an-identity"
    assert auth.scrub("an-identity") == "***"
    auth.use(source)
    assert auth.identity_token == ""
    assert auth.preempt(HOME, Scope()) is None


IN_CLEAR = Origin("http", "reg.example", 80)


@pytest.mark.parametrize("header", ["Basic", bearer("http://reg.example/token")])
def test_nothing_is_shown_where_all_can_read_it(header: str) -> None:
    for secret in (Credential("ann", "s3cret"), Credential("", "s3cret", Kind.REGISTRY_TOKEN)):
        service = Service()
        auth = make(service, Kept(secret))
        with pytest.raises(AuthenticationError, match=f"without TLS.*--insecure-login {HOST}"):
            auth.answer(IN_CLEAR, header, PULL, None)
        assert service.asked == []
    assert make(service).answer(IN_CLEAR, bearer("http://reg.example/t"), PULL, None)


def test_nothing_is_shown_unasked_where_all_can_read_it() -> None:
    auth = make(credentials=Always())
    auth.answer(HOME, "Basic", PULL, None)
    with pytest.raises(AuthenticationError, match="without TLS"):
        auth.preempt(IN_CLEAR, PULL)
    auth.preempt(PLAIN, PULL)


def test_a_realm_without_tls_needs_consent_too() -> None:
    kept = Kept(Credential("ann", "pw"), realms=("http://auth.example",))
    header = bearer("http://auth.example/t")
    with pytest.raises(AuthenticationError, match=r"http://auth.* is without TLS"):
        make(credentials=kept).answer(PLAIN, header, PULL, None)
    auth = Auth(HOST, kept, Service().send, Clock(), insecure_login=True)
    assert auth.answer(PLAIN, header, PULL, None) == "Bearer t-1"
    assert auth.answer(IN_CLEAR, "Basic", PULL, None) == basic("ann", "pw")


MOUNTS: list[tuple[str, tuple[str, ...], list[str]]] = [
    ("", ("b",), ["repository:a:pull,push", "repository:b:pull"]),
    ("", ("b", "c"), ["repository:a:pull,push", "repository:b:pull", "repository:c:pull"]),
    ("", ("a",), ["repository:a:pull,push"]),
    ("repository:a:push,pull", ("b",), ["repository:a:push,pull", "repository:b:pull"]),
    (
        "repository:b:pull repository:a:pull,push",
        ("b",),
        ["repository:b:pull", "repository:a:pull,push"],
    ),
    ("repository:b:push", ("b",), ["repository:b:push", "repository:b:pull"]),
]


@pytest.mark.parametrize(("asked", "sources", "scopes"), MOUNTS)
def test_a_mount_is_asked_for_with_all_its_scopes(
    asked: str, sources: tuple[str, ...], scopes: list[str]
) -> None:
    service = Service(token("t-1"), token("t-2"), token("t-3"))
    auth = make(service, Always())
    auth.answer(HOME, bearer(scope="repository:a:pull,push"), Scope("a", "pull,push"), None)
    mount = Scope("a", "pull,push", sources)
    said = auth.preempt(HOME, mount)
    header = bearer(scope=asked) if asked else bearer()
    assert auth.answer(HOME, header, mount, said) is not None
    assert query(service.asked[-1][1])["scope"] == scopes


def test_what_is_passed_around_shows_no_secret() -> None:
    auth = make(Service(token("tok-123")), Always("ann", "pass-word"))
    auth.answer(HOME, bearer(), PULL, None)
    shown = repr([auth._tokens, auth._found, token("tok-123")])
    assert "renew_at" in shown
    assert "tok-123" not in shown
    assert "pass-word" not in shown
