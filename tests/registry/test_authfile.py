"""Files in docker's form: good ones are understood, bad ones named, none told, all kept whole."""

import base64
import json
import os
from pathlib import Path

import pytest

from modelpm.errors import AuthenticationError
from modelpm.registry.authfile import AuthFile
from modelpm.registry.credentials import Credential, Kind
from modelpm.registry.secret_file import SecretFile
from tests.registry.keepers import AUTH, ECHO, SECRET, assert_untold, encoded, install

ALICE = Credential("alice", SECRET)


def docker(path: Path, helper_path: str = "") -> AuthFile:
    return AuthFile(SecretFile(path, private=False), helper_path)


def config(folder: Path, content: object, helper_path: str = "") -> AuthFile:
    path = folder / "config.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(json.dumps(content))
    return docker(path, helper_path)


def refusal(source: AuthFile, host: str = "reg.io") -> str:
    with pytest.raises(AuthenticationError) as caught:
        source.find(host, "team/tiny")
    assert_untold(caught.value, SECRET)
    return str(caught.value)


ENTRIES: list[tuple[dict[str, object], Credential | None]] = [
    (dict(AUTH), ALICE),
    ({"auth": encoded("alice:a:b:c")}, Credential("alice", "a:b:c")),
    ({"auth": encoded("alice:pw\0\0")}, Credential("alice", "pw")),
    ({"auth": encoded("alice:")}, Credential("alice", "")),
    ({"auth": encoded("älice:pässword")}, Credential("älice", "pässword")),
    ({"username": "alice", "password": SECRET}, ALICE),
    ({"username": "bob", "password": "x", **AUTH}, ALICE),
    (
        {"auth": encoded("alice:"), "identitytoken": "id"},
        Credential("alice", "id", Kind.IDENTITY_TOKEN),
    ),
    ({"identitytoken": "id"}, Credential("", "id", Kind.IDENTITY_TOKEN)),
    ({"registrytoken": "rt"}, Credential("", "rt", Kind.REGISTRY_TOKEN)),
    ({"auth": encoded("<token>:id")}, Credential("<token>", "id", Kind.IDENTITY_TOKEN)),
    ({}, None),
    ({"auth": "", "email": "a@b"}, None),
    ({"auth": None}, None),
]


@pytest.mark.parametrize(("entry", "expected"), ENTRIES)
def test_an_entry_is_read(
    tmp_path: Path, entry: dict[str, object], expected: Credential | None
) -> None:
    assert config(tmp_path, {"auths": {"reg.io": entry}}).find("reg.io", "a/b") == expected


BAD_ENTRIES: list[tuple[dict[str, object], str]] = [
    ({"auth": "!" + SECRET}, "not base64"),
    ({"auth": base64.b64encode(b"\xff\xfe:" + SECRET.encode()).decode()}, "not base64"),
    ({"auth": encoded(SECRET)}, "no colon"),
    ({"auth": encoded(f":{SECRET}")}, "name is empty"),
    ({"auth": encoded(f"alice:a\0{SECRET}")}, "control character"),
    ({"auth": encoded(f"alice\r\nX: {SECRET}:x")}, "control character"),
    ({"auth": 7}, "not a string"),
    ({"username": ["alice"], "password": SECRET}, "not a string"),
    ({"password": SECRET}, "name is empty"),
]


@pytest.mark.parametrize(("entry", "why"), BAD_ENTRIES)
def test_a_bad_entry_is_named_but_not_shown(
    tmp_path: Path, entry: dict[str, object], why: str
) -> None:
    source = config(tmp_path, {"auths": {"reg.io": entry}})
    message = refusal(source)
    assert why in message
    assert "reg.io" in message
    assert source.find("other.io", "a") is None


FILES: list[tuple[object, str]] = [
    (b"{" + SECRET.encode(), "not a JSON object"),
    (b"\xff\xfe", "not a JSON object"),
    (b"[" * 100_000, "not a JSON object"),
    ([SECRET], "not a JSON object"),
    ({"auths": [SECRET]}, "auths is not a JSON object"),
    ({"auths": {"reg.io": SECRET}}, "an entry of auths is not"),
    ({"credHelpers": SECRET}, "credHelpers is not"),
    ({"credHelpers": {"reg.io": 7}}, "helper's name is not a string"),
    ({"credsStore": ["x"]}, "helper's name is not a string"),
    (b" " * (2**20 + 1), "more than"),
]


@pytest.mark.parametrize(("content", "why"), FILES)
def test_a_bad_file_is_named(tmp_path: Path, content: object, why: str) -> None:
    message = refusal(config(tmp_path, content))
    assert why in message
    assert "config.json" in message


@pytest.mark.parametrize("content", [b"", b"  \n", {}, {"auths": None}, {"auths": {}}])
def test_an_empty_file_knows_nothing(tmp_path: Path, content: object) -> None:
    assert config(tmp_path, content).find("reg.io", "a") is None


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    document = json.dumps({"auths": {"reg.io": AUTH}}).encode()
    assert config(tmp_path, document.ljust(2**20)).find("reg.io", "a") == ALICE


def test_no_file_knows_nothing(tmp_path: Path) -> None:
    assert docker(tmp_path / "none").find("reg.io", "a") is None
    assert docker(tmp_path / "none" / "deeper").find("reg.io", "a") is None


def test_a_folder_or_a_pipe_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    assert "is not a file" in refusal(docker(tmp_path))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "is not a file" in refusal(docker(pipe))


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "cannot be read" in refusal(docker(loop))


def test_a_link_to_the_file_and_a_lax_mode_are_fine(tmp_path: Path) -> None:
    config(tmp_path, {"auths": {"reg.io": AUTH}})
    (tmp_path / "config.json").chmod(0o644)
    (tmp_path / "link").symlink_to(tmp_path / "config.json")
    assert docker(tmp_path / "link").find("reg.io", "a") == ALICE


def test_the_file_is_read_once(tmp_path: Path) -> None:
    source = config(tmp_path, {"auths": {"reg.io": AUTH}})
    assert source.find("other.io", "a") is None
    (tmp_path / "config.json").unlink()
    assert source.find("reg.io", "a") == ALICE


KEYS = [
    ("reg.io", "reg.io", True),
    ("REG.io", "reg.io", True),
    ("https://reg.io", "reg.io", True),
    ("https://reg.io/v2/", "reg.io", True),
    ("http://reg.io/v1/", "reg.io", True),
    ("reg.io/v1/", "reg.io", True),
    ("https://reg.io/any/path", "reg.io", True),
    ("reg.io:5000", "reg.io:5000", True),
    ("reg.io:5000", "reg.io", False),
    ("reg.io", "reg.io:5000", False),
    ("reg.io", "sub.reg.io", False),
    ("https://index.docker.io/v1/", "docker.io", True),
    ("index.docker.io", "docker.io", True),
    ("registry-1.docker.io", "docker.io", True),
    ("docker.io", "docker.io", True),
    ("[::1]:5000", "[::1]:5000", True),
    ("", "reg.io", False),
]


@pytest.mark.parametrize(("key", "host", "found"), KEYS)
def test_keys_have_many_forms(tmp_path: Path, key: str, host: str, found: bool) -> None:
    source = config(tmp_path, {"auths": {key: AUTH}})
    assert source.find(host, "team/tiny") == (ALICE if found else None)


def test_a_plain_key_stands_above_a_url(tmp_path: Path) -> None:
    bob = {"auth": encoded("bob:x")}
    for auths in ({"https://reg.io": bob, "reg.io": AUTH}, {"reg.io": AUTH, "https://reg.io": bob}):
        assert config(tmp_path, {"auths": auths}).find("reg.io", "a") == ALICE


def test_the_longest_repository_key_wins(tmp_path: Path) -> None:
    users = {"reg.io": "host", "reg.io/team": "team", "reg.io/team/tiny": "tiny"}
    auths = {key: {"auth": encoded(f"{user}:x")} for key, user in users.items()}
    source = config(tmp_path, {"auths": auths, "credsStore": "absent"})
    for repository, user in {
        "team/tiny": "tiny",
        "team/tiny/x": "tiny",
        "team/big": "team",
    }.items():
        assert source.find("reg.io", repository) == Credential(user, "x")
    with pytest.raises(AuthenticationError, match="not installed"):
        source.find("reg.io", "teams/tiny")


HELPERS: list[tuple[object, str, str]] = [
    ({"credHelpers": {"reg.io": "echo"}}, "reg.io", "get reg.io"),
    ({"credHelpers": {"https://reg.io/": "echo"}}, "reg.io", "get reg.io"),
    ({"credsStore": "echo"}, "reg.io:5000", "get reg.io:5000"),
    ({"credsStore": "echo"}, "docker.io", "get https://index.docker.io/v1/"),
    ({"credsStore": "absent", "credHelpers": {"reg.io": "echo"}}, "reg.io", "get reg.io"),
    ({"credsStore": "echo", "auths": {"reg.io": AUTH}}, "reg.io", "get reg.io"),
]


@pytest.mark.parametrize(("content", "host", "username"), HELPERS)
def test_a_helper_is_asked(tmp_path: Path, content: object, host: str, username: str) -> None:
    install(tmp_path / "bin", "echo", ECHO)
    source = config(tmp_path, content, str(tmp_path / "bin"))
    assert source.find(host, "a/b") == Credential(username, "s3")


def test_an_empty_helper_leaves_the_file(tmp_path: Path) -> None:
    content = {"credsStore": "absent", "credHelpers": {"reg.io": ""}, "auths": {"reg.io": AUTH}}
    assert config(tmp_path, content).find("reg.io", "a") == ALICE


def test_a_helper_is_asked_once_for_a_server(tmp_path: Path) -> None:
    path = install(tmp_path / "bin", "echo", ECHO)
    source = config(tmp_path, {"credsStore": "echo"}, str(tmp_path / "bin"))
    first = source.find("reg.io", "a")
    path.unlink()
    assert source.find("reg.io", "b") == first
