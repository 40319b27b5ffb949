"""Whom a connection trusts, what it shows, and which proxy it takes, for each origin."""

import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
import truststore
from certificates import Authority, Pair
from cryptography.hazmat.primitives import serialization

from modelpm.errors import RegistryError
from modelpm.registry import routes
from modelpm.registry.hosts import Hosts, HostSettings, Proxies
from modelpm.registry.routes import Route, Routes, proxy_of, system_context
from modelpm.registry.url import Origin

PROXY = "http://me:s3cret@proxy.lan:3128"
NONE = Proxies()
BOTH = Proxies(https=PROXY, http="http.lan:80")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("client.example")


def routes_of(
    settings: HostSettings, own: dict[str, HostSettings] | None = None, proxies: Proxies = NONE
) -> Routes:
    hosts = Hosts(own={"reg.example": settings, **(own or {})}, proxies=proxies)
    return Routes(Origin.of("https://reg.example"), settings, hosts)


def authorities(route: Route) -> set[str]:
    """The names of the authorities that were read from files."""
    assert route.tls is not None
    assert route.tls.verify_mode is ssl.CERT_REQUIRED
    assert route.tls.check_hostname
    found: list[Any] = route.tls.get_ca_certs()
    names = [dict(pair[0] for pair in each["subject"]) for each in found]
    return {name["commonName"] for name in names if "commonName" in name}


# Proxies


PROXIED: list[tuple[str, str, str | None]] = [
    ("https://reg.io", "", PROXY),
    ("http://reg.io", "", "http://http.lan:80"),
    ("https://127.0.0.1:5000", "", None),
    ("https://127.1:5000", "", None),
    ("https://localhost", "", None),
    ("https://[::1]:5000", "", None),
    ("https://reg.io", "*", None),
    ("https://reg.io", "a.io, *", None),
    ("https://reg.io", "reg.io", None),
    ("https://reg.io", " REG.IO ,", None),
    ("https://reg.io", "a.io reg.io", None),
    ("https://reg.io", "reg.io:443", None),
    ("https://reg.io", "reg.io:5000", PROXY),
    ("https://reg.io:5000", "reg.io:5000", None),
    ("https://a.reg.io", "reg.io", None),
    ("https://a.reg.io", ".reg.io", None),
    ("https://a.reg.io", "*.reg.io", None),
    ("https://areg.io", "reg.io", PROXY),
    ("https://reg.io", "io", None),
    ("https://10.1.2.3:5000", "10.0.0.0/8", None),
    ("https://10.1.2.3:5000", "10.1.2.3", None),
    ("https://10.1.2.3:5000", "10.1.2.4/30", PROXY),
    ("https://11.1.2.3", "10.0.0.0/8,fd00::/8", PROXY),
    ("https://[fd00::1]", "10.0.0.0/8,fd00::/8", None),
    ("https://[fd00::1]", "[fd00::1]", None),
    ("https://reg.io", "10.0.0.0/8,,x/y", PROXY),
]


@pytest.mark.parametrize(("url", "excepted", "proxy"), PROXIED)
def test_each_origin_has_its_proxy_or_none(url: str, excepted: str, proxy: str | None) -> None:
    told = Proxies(BOTH.https, BOTH.http, excepted)
    assert proxy_of(Origin.of(url), told) == proxy


def test_without_proxies_there_is_none() -> None:
    assert proxy_of(Origin.of("https://reg.io"), Proxies()) is None
    assert proxy_of(Origin.of("http://reg.io"), Proxies(https=PROXY)) is None


@pytest.mark.parametrize(
    "url", ["socks5://me:s3cret@p.lan", "ftp://me:s3cret@p.lan", "http://", "http://[s3cret", "://"]
)
def test_what_is_no_proxy_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(RegistryError, match=r"\(try: HTTPS_PROXY=http://PROXY:PORT\)") as caught:
        proxy_of(Origin.of("https://reg.io"), Proxies(https=url))
    assert "s3cret" not in str(caught.value)


def test_a_proxys_password_is_not_shown() -> None:
    assert "s3cret" not in repr(Hosts(proxies=BOTH))
    assert "s3cret" not in repr(routes_of(HostSettings(), proxies=BOTH).to(Origin.of(ELSEWHERE)))


# Authorities and certificates

HERE, ELSEWHERE, FRIEND = "https://reg.example", "https://cdn.example", "https://friend.example"
NAME = "modelpm fixture authority"


def test_a_file_of_authorities_takes_the_systems_place_at_its_host_only(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = Authority(tmp_path, "the system's")
    monkeypatch.setenv("SSL_CERT_FILE", str(public.certificate))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    ways = routes_of(
        HostSettings(ca_file=str(authority.certificate)), {"friend.example": HostSettings()}
    )
    assert authorities(ways.to(Origin.of(HERE))) == {NAME}
    assert authorities(ways.to(Origin.of(ELSEWHERE))) == {NAME, "the system's"}
    assert authorities(ways.to(Origin.of(FRIEND))) == {"the system's"}


def test_a_clients_certificate_is_for_its_own_host(
    authority: Authority, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, str | None]] = []
    real = ssl.SSLContext.load_cert_chain

    def load(self: ssl.SSLContext, certificate: str, key: str | None, password: str) -> None:
        shown.append((certificate, key))
        real(self, certificate, key, password)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    told = HostSettings(client_certificate=str(pair.certificate), client_key=str(pair.key))
    other = authority.issue("other.example")
    friend = HostSettings(client_certificate=str(other.certificate), client_key=str(other.key))
    ways = routes_of(told, {"friend.example": friend})
    mine = (str(pair.certificate), str(pair.key))
    assert shown == [mine]
    contexts = [ways.to(Origin.of(url)).tls for url in (HERE, ELSEWHERE, FRIEND, HERE + ":8443")]
    assert shown == [mine, (str(other.certificate), str(other.key))]
    assert len(set(map(id, contexts))) == 3
    assert contexts[1] is contexts[3]
    assert ways.to(Origin.of(HERE)).tls is contexts[0]


def test_plain_http_needs_no_tls_but_a_proxy_may(authority: Authority) -> None:
    plain = Origin.of("http://cdn.example")
    assert routes_of(HostSettings()).to(plain) == Route(None)
    settings = HostSettings(ca_file=str(authority.certificate))
    ways = routes_of(settings, proxies=Proxies("https://p.lan", "https://p.lan"))
    way = ways.to(plain)
    assert way.proxy_tls is way.tls is not None
    assert NAME in authorities(way)
    assert ways.to(Origin.of(HERE)).proxy_tls is way.tls
    assert ways.to(Origin.of(HERE)).tls is not way.tls


def test_the_certificate_and_the_key_may_be_one_file(pair: Pair, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    routes_of(HostSettings(client_certificate=str(both)))


def test_bad_files_are_named(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_bytes(b"nothing")
    locked = tmp_path / "locked.pem"
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    words = serialization.BestAvailableEncryption(b"a password")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked.write_bytes(key.private_bytes(pem, pkcs8, words))
    mine, other = str(pair.certificate), str(authority.issue("other.example").key)
    bad: list[tuple[HostSettings, str]] = [
        (HostSettings(ca_file=str(junk)), "--ca-file .*junk.pem: not a PEM file"),
        (HostSettings(ca_file="/none"), "--ca-file /none: No such file"),
        (HostSettings(client_certificate="/none"), "--client-certificate /none: No such file"),
        (HostSettings(client_certificate=str(junk)), "junk.pem: not a PEM certificate"),
        (HostSettings(client_certificate=mine), "and its own key"),
        (HostSettings(client_certificate=mine, client_key=other), "--client-key .*own key"),
        (HostSettings(client_certificate=mine, client_key=str(locked)), "unencrypted"),
        (HostSettings(client_key=other), "of no use without --client-certificate FILE"),
    ]
    for settings, why in bad:
        with pytest.raises(RegistryError, match=why):
            routes_of(settings)


# The system's own


def test_where_openssl_finds_nothing_the_list_that_came_along_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    for folder in (tmp_path, tmp_path / "none"):
        monkeypatch.setenv("SSL_CERT_DIR", str(folder))
        assert len(system_context().get_ca_certs()) > 50
    (tmp_path / "0a0b0c0d.0").write_bytes(b"")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert system_context().get_ca_certs() == []


@pytest.mark.parametrize("platform", routes._WITH_STORES)
def test_elsewhere_the_system_is_asked(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    context = system_context()
    monkeypatch.undo()
    assert type(context) is truststore.SSLContext
    assert context.verify_mode is ssl.CERT_REQUIRED
