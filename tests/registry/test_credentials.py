"""The values: what a pair stands for, and that no repr shows a secret."""

from modelpm.registry.credentials import (
    Anonymous,
    Credential,
    Given,
    Kind,
    Rotating,
    Trusting,
    is_header_safe,
)
from tests.registry.keepers import SECRET

ALICE = Credential("alice", SECRET)


def test_a_secret_is_not_in_the_repr() -> None:
    assert SECRET not in repr(ALICE)
    assert SECRET not in repr(Given("reg.io", ALICE))


def test_a_name_may_say_that_the_secret_is_a_token() -> None:
    assert Credential.of("alice", SECRET) == ALICE
    assert Credential.of("<token>", "id") == Credential("<token>", "id", Kind.IDENTITY_TOKEN)


def test_what_is_given_is_for_one_registry() -> None:
    given = Given("reg.io", ALICE, "the variable")
    assert given.find("reg.io", "a/b") == given.find("reg.io", "") == ALICE
    assert given.find("sub.reg.io", "a/b") is None
    assert given.place("reg.io") == "the variable"


def test_nobody_knows_nothing() -> None:
    assert Anonymous().find("reg.io", "a") is None
    assert not isinstance(Anonymous(), Trusting)
    assert not isinstance(Anonymous(), Rotating)


def test_what_is_no_text_is_not_sent() -> None:
    assert is_header_safe("p\u00e4ss \U0001f511 word~")
    for char in "\0\r\n\x1f\x7f\ud800\udcff":
        assert not is_header_safe(f"a{char}b")
