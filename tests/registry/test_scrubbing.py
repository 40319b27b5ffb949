"""Secrets in what servers say: in every form that one gives them, and nothing else."""

import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest

from modelpm.errors import NotFoundError, RegistryError
from modelpm.registry.scrubbing import LONGEST_TEXT, Scrubber

LONG = ".".join(str(number * number) for number in range(1000))
SECRETS = ["s3cret-of-alice", "Pa55 w/rd+%41~", "sch\u00f6n&gut", "q\"uo\\te'd", "abcd", LONG]


def knowing(*secrets: str) -> Scrubber:
    scrubber = Scrubber()
    for secret in secrets:
        scrubber.learn(secret)
    return scrubber


def every(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


FORMS: dict[str, Callable[[str], str]] = {
    "itself": str,
    "lower": lambda s: s if not s.isascii() else s.lower(),
    "upper": lambda s: s if not s.isascii() else s.upper(),
    "percent": lambda s: quote(s, safe=""),
    "percent, lower": lambda s: quote(s, safe="").lower(),
    "form": lambda s: quote(s, safe="").replace("%20", "+"),
    "twice": lambda s: quote(quote(s, safe=""), safe=""),
    "every byte": every,
    "every byte, twice": lambda s: every(s).replace("%", "%25"),
    "quoted": lambda s: repr(s)[1:-1],
    "json": lambda s: json.dumps(s, ensure_ascii=False)[1:-1],
    "header": lambda s: s.encode().decode("latin-1"),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 for URLs": lambda s: base64.urlsafe_b64encode(s.encode()).decode().rstrip("="),
    "base64, percent": lambda s: quote(base64.b64encode(s.encode()).decode(), safe=""),
    "base64, lower": lambda s: base64.b64encode(s.encode()).decode().lower(),
    "hex": lambda s: s.encode().hex(),
    "HEX": lambda s: s.encode().hex().upper(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
def test_a_secret_is_found_in_every_form(form: Callable[[str], str], secret: str) -> None:
    told = form(secret)
    shown = knowing("another-one", secret).scrub(f"pulling x: \u20ac <{told}> and {told}.")
    assert shown == "pulling x: \u20ac <***> and ***."


@pytest.mark.parametrize("before", ["", "a", "al", "ali", "alic", "alice"])
@pytest.mark.parametrize("after", ["", "!", "!!", "!!!"])
def test_it_is_found_within_what_is_in_base64(before: str, after: str) -> None:
    secret = "s3cret-of-alice"
    whole = f"{before}:{secret}{after}".encode()
    shown = knowing(secret).scrub(f"({base64.b64encode(whole).decode()})")
    assert "***" in shown
    left = shown.partition("***")
    for text in (left[0].strip("("), left[2].strip(")=")):
        kept = base64.b64decode(text[: len(text) // 4 * 4])
        assert len(kept) <= len(before) + 1 + len(after)


@pytest.mark.parametrize("count", [9, 11, 14])
@pytest.mark.parametrize("form", ["itself", "percent", "every byte", "base64"])
def test_it_is_found_where_the_text_was_cut(form: str, count: int) -> None:
    secret = "s3cret-of-alice-and-bob"
    told = FORMS[form](secret)
    cut = told[: count * len(told) // len(secret)]
    for end in (cut, cut[:-1] if form == "every byte" else cut):
        assert knowing(secret).scrub(f"redirects to 'ftp://{end}") == "redirects to 'ftp://***"


INNOCENT = [
    "",
    "pulling ghcr.io/acme/tiny: 403 DENIED",
    "100 % of it; 50%25; \\ %zz \ud800",
    "s3cret-of-alic",
    "s3cret-of",
    "3cret-of-alice",
    "czNjcmV0",
]


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_none_stays(text: str) -> None:
    assert knowing("s3cret-of-alice-and-bob").scrub(text + ".") == text + "."
    assert Scrubber().scrub(text) == text


def test_the_short_is_no_secret() -> None:
    assert knowing("", "a", "abc").scrub("a abc banana") == "a abc banana"


def test_secrets_that_overlap_go_together() -> None:
    scrubber = knowing("alice-and-bob", "bob-and-carol", "bob-")
    assert scrubber.scrub("<alice-and-bob-and-carol> bob-bob-") == "<***> ***"


def test_the_last_ones_are_known_and_no_text_is_too_long() -> None:
    scrubber = knowing(*(f"secret-number-{number}." for number in range(1000)))
    assert scrubber.scrub("secret-number-999.") == "***"
    assert scrubber.scrub("secret-number-0.") == "secret-number-0."
    assert len(scrubber.scrub("x%41" * LONGEST_TEXT)) <= LONGEST_TEXT


def test_errors_are_scrubbed_and_stay_what_they_are() -> None:
    scrubber = knowing("s3cret-of-alice")
    with pytest.raises(NotFoundError, match=r"^no \*\*\* here$"), scrubber.errors():
        raise NotFoundError("no S3CRET-of-alice here")
    with pytest.raises(RegistryError) as caught, scrubber.errors():
        raise RegistryError("no s3cret-of-alice", status=503, code="X")
    assert (caught.value.status, caught.value.code) == (503, "X")
    with pytest.raises(ValueError, match="s3cret-of-alice"), scrubber.errors():
        raise ValueError("s3cret-of-alice")  # a bug is not caught
