"""Docker's config.json and its helpers: good ones are understood, bad ones named, none told."""

import base64
import json
import os
import stat
import sys
from pathlib import Path

import pytest

from modelpm.errors import AuthenticationError
from modelpm.registry.credentials import Anonymous, Credential, DockerConfig, Kind, ask_helper

SECRET = "s3cret-of-alice"
ALICE = Credential("alice", SECRET)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


AUTH = {"auth": encoded(f"alice:{SECRET}")}


def config(folder: Path, content: object, helper_path: str = "") -> DockerConfig:
    path = folder / "config.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(json.dumps(content))
    return DockerConfig(path, helper_path)


def refusal(source: DockerConfig, host: str = "reg.io") -> str:
    with pytest.raises(AuthenticationError) as caught:
        source.find(host, "team/tiny")
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in repr(error)
        assert SECRET not in repr(vars(error))
        error = error.__cause__ or error.__context__
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


def test_no_file_and_nobody_know_nothing(tmp_path: Path) -> None:
    assert DockerConfig(tmp_path / "none", "").find("reg.io", "a") is None
    assert DockerConfig(tmp_path / "none" / "deeper", "").find("reg.io", "a") is None
    assert Anonymous().find("reg.io", "a") is None


def test_a_folder_or_a_pipe_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    assert "is not a file" in refusal(DockerConfig(tmp_path, ""))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "is not a file" in refusal(DockerConfig(pipe, ""))


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "cannot be read" in refusal(DockerConfig(loop, ""))


def test_a_link_to_the_file_and_a_lax_mode_are_fine(tmp_path: Path) -> None:
    config(tmp_path, {"auths": {"reg.io": AUTH}})
    (tmp_path / "config.json").chmod(0o644)
    (tmp_path / "link").symlink_to(tmp_path / "config.json")
    assert DockerConfig(tmp_path / "link", "").find("reg.io", "a") == ALICE


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


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def install(folder: Path, name: str, body: str) -> Path:
    """A helper: Python that has its one argument in `word` and its standard input in `server`."""
    path = folder / f"docker-credential-{name}"
    head = (
        f"#!{sys.executable} -SE\nimport sys, time\nword, server = sys.argv[1], sys.stdin.read()\n"
    )
    path.write_text(head + body)
    path.chmod(0o755)
    return path


ECHO = """print('{"ServerURL": "x", "Username": "%s %s", "Secret": "s3"}' % (word, server))"""


def says(username: object, secret: object) -> str:
    return f"print({json.dumps({'Username': username, 'Secret': secret})!r})"


HELPERS = [
    ({"credHelpers": {"reg.io": "echo"}}, "reg.io", "get reg.io"),
    ({"credHelpers": {"https://reg.io/": "echo"}}, "reg.io", "get reg.io"),
    ({"credsStore": "echo"}, "reg.io:5000", "get reg.io:5000"),
    ({"credsStore": "echo"}, "docker.io", "get https://index.docker.io/v1/"),
    ({"credsStore": "absent", "credHelpers": {"reg.io": "echo"}}, "reg.io", "get reg.io"),
    ({"credsStore": "echo", "auths": {"reg.io": AUTH}}, "reg.io", "get reg.io"),
]


@pytest.mark.parametrize(("content", "host", "username"), HELPERS)
def test_a_helper_is_asked(
    tmp_path: Path, bin_folder: Path, content: object, host: str, username: str
) -> None:
    install(bin_folder, "echo", ECHO)
    source = config(tmp_path, content, str(bin_folder))
    assert source.find(host, "a/b") == Credential(username, "s3")


def test_an_empty_helper_leaves_the_file(tmp_path: Path) -> None:
    content = {"credsStore": "absent", "credHelpers": {"reg.io": ""}, "auths": {"reg.io": AUTH}}
    assert config(tmp_path, content).find("reg.io", "a") == ALICE


def test_a_helper_is_asked_once_for_a_server(tmp_path: Path, bin_folder: Path) -> None:
    path = install(bin_folder, "echo", ECHO)
    source = config(tmp_path, {"credsStore": "echo"}, str(bin_folder))
    first = source.find("reg.io", "a")
    path.unlink()
    assert source.find("reg.io", "b") == first


def test_a_helper_gives_identity_tokens(bin_folder: Path) -> None:
    install(bin_folder, "x", says("<token>", "id"))
    expected = Credential("<token>", "id", Kind.IDENTITY_TOKEN)
    assert ask_helper("x", "reg.io", str(bin_folder)) == expected


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_helper_that_knows_nothing_is_no_error(bin_folder: Path, stream: str) -> None:
    words = "credentials not found in native keychain"
    install(bin_folder, "x", f"print({words!r}, file=sys.{stream}); sys.exit(1)")
    assert ask_helper("x", "reg.io", str(bin_folder)) is None


BAD_HELPERS = [
    ("print('locked', file=sys.stderr); sys.exit(3)", "failed with status 3: locked (try:"),
    ("print('x' * 9999); sys.exit(1)", "x" * 200 + " (try:"),
    ("print('not JSON')", "did not answer with a name and a secret"),
    ("print('[]')", "did not answer"),
    (says("", SECRET), "did not answer"),
    (says("alice", None), "did not answer"),
    (says(7, SECRET), "did not answer"),
    (says("alice", "a" * 99_999), "did not answer"),
    (says("alice", f"a\n{SECRET}"), "control character"),
]


@pytest.mark.parametrize(("body", "why"), BAD_HELPERS)
def test_a_helper_that_fails_stops_us(
    tmp_path: Path, bin_folder: Path, body: str, why: str
) -> None:
    install(bin_folder, "x", body)
    content = {"credsStore": "x", "auths": {"reg.io": AUTH}}
    message = refusal(config(tmp_path, content, str(bin_folder)))
    assert why in message
    assert "docker-credential-x" in message


def test_a_helper_that_hangs_is_ended(bin_folder: Path) -> None:
    install(bin_folder, "x", f"print({SECRET!r}, flush=True); time.sleep(60)")
    with pytest.raises(AuthenticationError, match=r"more than 0\.3 s") as caught:
        ask_helper("x", "reg.io", str(bin_folder), 0.3)
    assert caught.value.__context__ is None


def test_a_helper_that_cannot_be_run_is_named(bin_folder: Path) -> None:
    path = bin_folder / "docker-credential-x"
    path.write_text("#!/nowhere/at/all\n")
    path.chmod(0o755)
    with pytest.raises(AuthenticationError, match="cannot be run"):
        ask_helper("x", "reg.io", str(bin_folder))


@pytest.mark.parametrize("name", ["../x", "a/b", "x;y", "x y", "", "x\n", "a" * 101])
def test_a_helper_has_a_plain_name(bin_folder: Path, name: str) -> None:
    install(bin_folder, "x", ECHO)
    with pytest.raises(AuthenticationError, match="not the name"):
        ask_helper(name, "reg.io", str(bin_folder))


def test_a_helper_that_anybody_can_write_is_refused(bin_folder: Path) -> None:
    path = install(bin_folder, "x", ECHO)
    path.chmod(path.stat().st_mode | stat.S_IWOTH)
    with pytest.raises(AuthenticationError, match="written by everybody"):
        ask_helper("x", "reg.io", str(bin_folder))


def test_helpers_are_looked_for_in_the_given_folders_only(bin_folder: Path) -> None:
    install(bin_folder, "x", ECHO)
    with pytest.raises(AuthenticationError, match="not installed"):
        ask_helper("x", "reg.io", str(bin_folder.parent))


def test_a_secret_is_not_in_the_repr() -> None:
    assert SECRET not in repr(ALICE)
