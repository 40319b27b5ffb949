"""What goes through a proxy and what does not, and who is shown which certificate: on the wire."""

import base64
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from certificates import Authority, Pair
from networks import CompanyProxy
from registry import Basic, Registry, Sink

from modelpm.errors import ModelPMError, RegistryError
from modelpm.registry.hosts import Hosts, HostSettings, Proxies
from modelpm.registry.repository import Repository
from modelpm.registry.session import _MAX_ORIGINS, Session
from modelpm.registry.url import Origin
from tests.registry.conftest import NAME, Always, Bench
from tests.registry.test_client import BLOB, closed_port, fill, pull, refusal

HOST = "registry.acme.example:5000"
"""Not on this machine by its name: that is for a proxy to know."""
LOGIN = "me:pr0xy-s3cret"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def named(authority: Authority) -> Pair:
    return authority.issue("registry.acme.example")


class Office:
    """A registry that is reached through a proxy only, by TLS unless `plain`."""

    def __init__(self, bench: Bench, stack: ExitStack, authority: Authority, named: Pair) -> None:
        self.bench, self._stack, self._authority, self._named = bench, stack, authority, named

    def open(
        self, scenario: Any = (), *, plain: bool = False, **proxy: Any
    ) -> tuple[Registry, CompanyProxy]:
        tls = {} if plain else {"tls": self._named.server_context()}
        registry = self.bench.registry(scenario, auth=Basic("alice", "s3cret-of-alice"), **tls)
        fill(registry)
        return registry, self._stack.enter_context(CompanyProxy(registry.host, **proxy))

    def repository(
        self, proxy: str, *, plain: bool | None = None, excepted: str = "", **said: Any
    ) -> Repository:
        settings = HostSettings(
            ca_file=str(self._authority.certificate),
            plain_http=plain,
            insecure_login=bool(plain),
            **said,
        )
        hosts = Hosts(own={HOST: settings}, proxies=Proxies(proxy, proxy, excepted))
        return Repository(self.bench.client(HOST, hosts=hosts, credentials=Always()), NAME)


@pytest.fixture
def office(bench: Bench, authority: Authority, named: Pair) -> Iterator[Office]:
    with ExitStack() as stack:
        yield Office(bench, stack, authority, named)


# Proxies


@pytest.mark.parametrize("plain", [False, True])
def test_a_proxy_gets_its_own_secret_and_the_registry_its_own(
    office: Office, plain: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    registry, proxy = office.open(plain=plain, login=LOGIN)
    assert pull(office.repository(f"http://{LOGIN}@{proxy.host}", plain=plain)) == BLOB
    assert any(asked.headers.get("proxy-authorization") for asked in proxy.log)
    assert not any("proxy-authorization" in asked.headers for asked in registry.log)
    assert any("authorization" in asked.headers for asked in registry.log)
    if plain:
        assert {asked.target.partition("/v2/")[0] for asked in proxy.log} == {f"http://{HOST}"}
    else:
        assert {(asked.method, asked.target) for asked in proxy.log} == {("CONNECT", HOST)}
        assert not any("authorization" in asked.headers for asked in proxy.log)
    told = caplog.text + repr(caplog.records)
    assert "s3cret" not in told


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("m%D0%B6:p%40ss%2F", "m\u0436:p@ss/".encode()),
        ("m\u0436:\u0436", "m\u0436:\u0436".encode()),
        ("m%E9:x", b"m\xe9:x"),
        ("me:a:b", b"me:a:b"),
        ("me", b"me:"),
    ],
)
def test_a_proxys_user_and_password_may_be_of_any_letters(
    office: Office, plain: bool, written: str, meant: bytes
) -> None:
    _, proxy = office.open(plain=plain)
    pull(office.repository(f"http://{written}@{proxy.host}", plain=plain))
    told = {asked.headers["proxy-authorization"] for asked in proxy.log}
    assert told == {f"Basic {base64.b64encode(meant).decode()}"}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("login", ["", "me:pr0xy-wr0ng@"])
def test_a_proxy_that_wants_a_login(office: Office, plain: bool, login: str) -> None:
    registry, proxy = office.open(plain=plain, login=LOGIN)
    message = refusal(office.repository(f"http://{login}{proxy.host}", plain=plain))
    name = "HTTP_PROXY" if plain else "HTTPS_PROXY"
    assert "407 Proxy Authentication Required" in message
    assert "the proxy wants another user and password" in message
    assert f"(try: {name}=http://USER:PASSWORD@PROXY:PORT)" in message
    assert "pr0xy" not in message
    assert len(proxy.log) == 1
    assert registry.log == ()
    assert office.bench.waits.slept == []


def test_a_proxy_that_does_not_connect(office: Office) -> None:
    registry, proxy = office.open(refuses=True)
    message = refusal(office.repository(f"http://{proxy.host}"))
    assert f"the proxy does not let us to {HOST}: 403 Forbidden" in message
    assert "(try: NO_PROXY=registry.acme.example" in message
    assert (len(proxy.log), registry.log) == (1, ())


def test_a_proxy_that_is_not_there(office: Office) -> None:
    message = refusal(office.repository(f"http://{LOGIN}@127.0.0.1:{closed_port()}"))
    assert "the proxy cannot be reached (HTTPS_PROXY says where it is)" in message
    assert "s3cret" not in message


def test_a_proxy_by_tls(office: Office, authority: Authority) -> None:
    tls = authority.issue().server_context()
    registry, proxy = office.open(tls=tls, login=LOGIN)
    assert pull(office.repository(f"https://{LOGIN}@{proxy.host}")) == BLOB
    assert registry.log


def test_a_proxy_without_the_tls_that_is_asked_of_it(office: Office) -> None:
    _, proxy = office.open()
    message = refusal(office.repository(f"https://{proxy.host}"))
    assert "there is no TLS with the proxy (try: HTTPS_PROXY=http://PROXY:PORT)" in message


def test_who_is_excepted_is_reached_directly(office: Office) -> None:
    _, proxy = office.open()
    message = refusal(office.repository(f"http://{proxy.host}", excepted=".acme.example"))
    assert f"there is no host {HOST}" in message
    assert proxy.log == ()


def test_what_is_on_this_machine_is_not_asked_for_elsewhere(bench: Bench) -> None:
    registry = bench.registry()
    fill(registry)
    proxies = Proxies(*[f"http://{LOGIN}@127.0.0.1:{closed_port()}"] * 2)
    assert pull(bench.repository(registry, hosts=Hosts(proxies=proxies))) == BLOB
    assert not any(request.has_secret for request in registry.log)


def test_the_environment_is_not_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    message = refusal(Repository(bench.client("reg.example"), NAME))
    assert "there is no host reg.example" in message


# Authorities and certificates


def test_a_registrys_authority_holds_for_where_it_redirects(
    bench: Bench, authority: Authority
) -> None:
    pair = authority.issue()
    registry = bench.registry(tls=pair.server_context())
    fill(registry)
    cdn = bench.start(Sink(registry.content, tls=pair.server_context()))
    registry.scenario = [{"path": "/blobs/", "redirect": f"{cdn.url}/{{digest}}"}]
    assert pull(bench.repository(registry, ca_file=str(authority.certificate))) == BLOB
    assert cdn.log
    own = {
        cdn.host: HostSettings(),
        registry.host: HostSettings(ca_file=str(authority.certificate)),
    }
    strict = bench.repository(registry, hosts=Hosts(own=own))
    assert f"the certificate of {cdn.host} is not trusted" in refusal(strict)


def test_a_certificate_is_shown_to_its_own_host_alone(bench: Bench, authority: Authority) -> None:
    pair, mine = authority.issue(), authority.issue("client.example")
    wanting = pair.server_context(authority.certificate)
    registry = bench.registry(tls=wanting)
    fill(registry)
    said: dict[str, Any] = {
        "ca_file": str(authority.certificate),
        "client_certificate": str(mine.certificate),
        "client_key": str(mine.key),
    }
    assert pull(bench.repository(registry, **said)) == BLOB
    cdn = bench.start(Sink(registry.content, tls=pair.server_context(authority.certificate)))
    registry.scenario = [{"path": "/blobs/", "redirect": f"{cdn.url}/{{digest}}"}]
    message = refusal(bench.repository(registry, **said))
    assert f"{cdn.host} wants a certificate" in message
    assert cdn.log == ()
    own = {host: HostSettings(**said) for host in (registry.host, cdn.host)}
    assert pull(bench.repository(registry, hosts=Hosts(own=own))) == BLOB


def test_a_certificate_that_is_missing_or_not_good(
    bench: Bench, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    registry = bench.registry(tls=authority.issue().server_context(authority.certificate))
    fill(registry)
    trust = {"ca_file": str(authority.certificate)}
    hint = f"(try: --client-certificate {registry.host}=FILE)"
    message = refusal(bench.repository(registry, **trust))
    assert f"{registry.host} wants a certificate of yours {hint}" in message
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "stranger").issue("client.example")
    expired = authority.issue("client.example", days=-1)
    for bad in (stranger, expired):
        said = {"client_certificate": str(bad.certificate), "client_key": str(bad.key)}
        message = refusal(bench.repository(registry, **trust, **said))
        assert f"{registry.host} wants a certificate of yours that it trusts" in message
        assert hint in message
    assert registry.log == ()


def test_a_servers_own_certificate_will_do_as_its_authority(
    bench: Bench, authority: Authority
) -> None:
    pair = authority.issue()
    registry = bench.registry(tls=pair.server_context())
    fill(registry)
    assert pull(bench.repository(registry, ca_file=str(pair.certificate))) == BLOB


# Connections


def test_connections_to_very_many_origins_are_not_all_kept(bench: Bench) -> None:
    client = bench.client("reg.example")
    session = client.session
    assert isinstance(session, Session)
    for number in range(_MAX_ORIGINS):
        session._adapter(Origin.of(f"http://{number}.example"))
    assert len(session._adapters) == _MAX_ORIGINS
    session._adapter(Origin.of("http://0.example"))
    assert len(session._adapters) == _MAX_ORIGINS
    session._adapter(Origin.of("http://another.example"))
    assert len(session._adapters) == 1


def test_a_way_that_is_no_way_is_an_error_of_ours(bench: Bench) -> None:
    hosts = Hosts(proxies=Proxies("socks5://me:s3cret@p.lan"))
    client = bench.client("reg.example", hosts=hosts)
    with pytest.raises(ModelPMError) as caught:
        client.do_request("https://reg.example/v2/")
    assert type(caught.value) is RegistryError
    assert "s3cret" not in str(caught.value)
