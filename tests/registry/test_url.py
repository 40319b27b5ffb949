"""URLs from outside: what is one host to every reader, what may be followed, what is shown."""

import pytest

from modelpm.errors import RegistryError
from modelpm.registry.url import (
    Origin,
    is_internal,
    is_loopback,
    next_page,
    redacted,
    redirected,
)

ORIGINS = [
    ("https://ghcr.io/v2/", Origin("https", "ghcr.io", 443)),
    ("HTTPS://GHCR.IO", Origin("https", "ghcr.io", 443)),
    ("http://ghcr.io:8080?x", Origin("http", "ghcr.io", 8080)),
    ("http://[::1]:5000/v2/", Origin("http", "[::1]", 5000)),
    ("https://my_host.internal/", Origin("https", "my_host.internal", 443)),
]
NO_ORIGINS = [
    "",
    "ghcr.io",
    "//ghcr.io/",
    "ftp://ghcr.io/",
    "file:///etc/passwd",
    "data:text/plain,x",
    "https://",
    "https:///path",
    "https://user@ghcr.io/",
    "https://user:secret@ghcr.io/",
    "https://ghcr.io\\@evil.example/",
    "https://ghcr.io:0/",
    "https://ghcr.io:65536/",
    "https://ghcr.io:x/",
    "https://ghcr.io:/",
    "https://gh cr.io/",
    "https://ghcr.io/\r\nX: y",
    "https://ghcr.io/\x00",
    "https://ghcr.\u0456o/",
    "https://[::1/",
    "https://-ghcr.io/",
    "https://ghcr.io/" + "a" * 20_000,
]


@pytest.mark.parametrize(("url", "origin"), ORIGINS)
def test_a_url_has_an_origin(url: str, origin: Origin) -> None:
    assert Origin.of(url) == origin


@pytest.mark.parametrize("url", NO_ORIGINS)
def test_other_text_has_none(url: str) -> None:
    with pytest.raises(RegistryError) as caught:
        Origin.of(url)
    assert "secret" not in str(caught.value)


def test_an_origin_is_written_without_its_default_port() -> None:
    assert str(Origin("https", "ghcr.io", 443)) == "https://ghcr.io"
    assert str(Origin("http", "ghcr.io", 443)) == "http://ghcr.io:443"


REDIRECTS = [
    ("http://a.example/x", "http://b.example/y?s=1", "http://b.example/y?s=1"),
    ("http://a.example/x", "https://b.example/y", "https://b.example/y"),
    ("https://a.example/x/y", "/z", "https://a.example/z"),
    ("https://a.example/x/y", "z?q", "https://a.example/x/z?q"),
    ("https://a.example/x", "https://b.example/a%2Fb?s=%2B", "https://b.example/a%2Fb?s=%2B"),
    ("https://a.example/x", "https://b.example/a|b\xc3\xa9", "https://b.example/a%7Cb%C3%A9"),
]
BAD_REDIRECTS = [
    "",
    "file:///etc/passwd",
    "ftp://b.example/x",
    "gopher://b.example/x",
    "data:text/plain,x",
    "javascript:x",
    "//b.example/x",
    "https://b.example/\r\nSet-Cookie: a=b",
    "https://b.example\\@c.example/",
    "https://b.example/a folded line",
    "https://user@b.example/",
    "https://[b.example/",
    "http://b.example/downgrade",
]


@pytest.mark.parametrize(("url", "location", "target"), REDIRECTS)
def test_a_redirect_leads_somewhere(url: str, location: str, target: str) -> None:
    assert redirected(url, location) == target


@pytest.mark.parametrize("location", BAD_REDIRECTS)
def test_a_hostile_redirect_is_refused(location: str) -> None:
    with pytest.raises(RegistryError):
        redirected("https://a.example/x", location)


PAGES = [
    ("/v2/r/tags/list?n=1&last=a", "/v2/r/tags/list?n=1&last=a"),
    ("https://evil.example/v2/r/tags/list?last=a", "/v2/r/tags/list?last=a"),
    ("http://evil.example/v2/r/tags/list?last=a#f", "/v2/r/tags/list?last=a"),
    ("//evil.example/v2/x", "/v2/x"),
    ("?last=b", "/v2/r/tags/list?last=b"),
]


@pytest.mark.parametrize(("link", "page"), PAGES)
def test_the_next_page_is_at_the_same_registry(link: str, page: str) -> None:
    assert next_page("https://a.example/v2/r/tags/list?n=1", link) == f"https://a.example{page}"


@pytest.mark.parametrize("link", ["/x\r\ny", "mailto:x", "https://[x", "/" + "a" * 20_000])
def test_a_link_without_a_page_is_refused(link: str) -> None:
    with pytest.raises(RegistryError):
        next_page("https://a.example/v2/", link)


REDACTED = [
    (
        "https://a.example/b?X-Amz-Signature=abc&n=1",
        "https://a.example/b?X-Amz-Signature=REDACTED&n=1",
    ),
    ("https://u:p@a.example/b#f", "https://a.example/b"),
    (
        "https://a.example/token?service=s&scope=repository:a/b:pull&account=me",
        "https://a.example/token?service=s&scope=repository:a/b:pull&account=REDACTED",
    ),
    ("https://[secret?token=x", "https://[secret"),
]


@pytest.mark.parametrize(("url", "shown"), REDACTED)
def test_only_harmless_values_are_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


LOOPBACK = ["localhost", "127.0.0.1", "127.8.9.1", "[::1]", "127.1", "0x7f000001", "2130706433"]
INTERNAL = [
    "10.0.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "0.0.0.0",
    "[fe80::1]",
    "[::ffff:10.0.0.1]",
]
INTERNAL += ["[::]", "100.64.0.1", "a.localhost", "localhost."]
PUBLIC = ["ghcr.io", "8.8.8.8", "[2606:4700::1111]", "localhost.example", "127.0.0.1.nip.io"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_has_many_names(host: str) -> None:
    assert is_loopback(host)
    assert is_internal(host)


@pytest.mark.parametrize("host", INTERNAL)
def test_internal_addresses_are_known(host: str) -> None:
    assert is_internal(host)
    assert not is_loopback(host)


@pytest.mark.parametrize("host", PUBLIC)
def test_all_else_is_outside(host: str) -> None:
    assert not is_internal(host)
    assert not is_loopback(host)
