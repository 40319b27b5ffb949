"""Files in docker's form: good ones are understood, bad ones named, none told, all kept whole."""

import base64
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelpm.errors import AuthenticationError
from modelpm.registry.authfile import AuthFile, AuthText
from modelpm.registry.credentials import Credential, Kind
from modelpm.registry.secret_file import SecretFile
from tests.registry.keepers import AUTH, ECHO, SECRET, Vault, assert_untold, encoded, install

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
    ({"username": "alice", "password": f"\ud83d{SECRET}"}, "or no text"),
    ({"identitytoken": f"\ud83d{SECRET}"}, "or no text"),
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


SECRET_ENTRIES: list[tuple[object, bool]] = [
    ({"auths": {"reg.io": {"auth": AUTH}}}, True),
    ({"auths": {"a.io": {}, "reg.io": {"identitytoken": "t"}}}, True),
    ({"auths": {"reg.io": {"registrytoken": "t"}}}, True),
    ({"auths": {"reg.io": {"username": "u", "password": "p"}}}, True),
    ({"auths": {"reg.io": {}}, "credsStore": "none"}, False),
    ({"auths": {"reg.io": {"trustedRealm": "https://x.io"}}}, False),
    ({}, False),
]


@pytest.mark.skipif(os.name != "posix", reason="modes mean nothing there")
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o611, 0o640, 0o604, 0o644])
@pytest.mark.parametrize(("content", "is_secret"), SECRET_ENTRIES)
@pytest.mark.parametrize("is_own", [True, False])
def test_of_secrets_that_others_can_read_a_word_is_said(
    tmp_path: Path, content: object, is_secret: bool, mode: int, is_own: bool
) -> None:
    path = tmp_path / "co nfig.json"
    path.write_text(json.dumps(content))
    path.chmod(mode)
    told: list[str] = []
    file = AuthFile(SecretFile(path, private=is_own), "", warn=told.append)
    for _ in range(3):
        file.helper("reg.io")
    is_open = bool(mode & 0o044)
    assert len(told) == (is_secret and is_open)
    assert all(f"(try: chmod 600 '{path}')" in words for words in told)
    assert all(words.startswith(f"{path} can be read by others") for words in told)


@pytest.mark.skipif(os.name != "posix", reason="modes mean nothing there")
def test_ones_own_file_is_closed_at_the_next_writing_and_nothing_more_is_said(
    tmp_path: Path,
) -> None:
    path = tmp_path / "auth.json"
    told: list[str] = []
    path.write_text(json.dumps({"auths": {"reg.io": {"auth": AUTH}}}))
    path.chmod(0o644)
    file = AuthFile(SecretFile(path, private=True), "", warn=told.append)
    file.put("other.io", Credential("u", "p"), None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert file.find("other.io", "") == Credential("u", "p")
    assert len(told) == 1


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
    ("https://index.docker.io/v1/access-token", "docker.io", False),
    ("https://index.docker.io/v1/refresh-token", "docker.io", False),
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


def private(path: Path, helper_path: str = "") -> AuthFile:
    return AuthFile(SecretFile(path, private=True), helper_path)


def test_what_is_put_is_found_by_us_and_by_docker(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    file = private(path)
    assert file.find("reg.io", "a") is None
    file.put("reg.io", ALICE, None)
    file.put("docker.io", Credential("bob", "an-identity", Kind.IDENTITY_TOKEN), None)
    assert json.loads(path.read_bytes()) == {
        "auths": {
            "reg.io": AUTH,
            "https://index.docker.io/v1/": {
                "auth": encoded("bob:"),
                "identitytoken": "an-identity",
            },
        }
    }
    assert file.find("reg.io", "a") == private(path).find("reg.io", "a") == ALICE
    assert file.place("reg.io") == str(path)
    found = file.find("docker.io", "library/a")
    assert found == Credential("bob", "an-identity", Kind.IDENTITY_TOKEN)


def test_putting_keeps_all_that_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    other = {"auth": encoded("bob:x"), "email": "b@x", "more": {"deep": [1, 2.5, None]}}
    path.write_text(
        json.dumps(
            {
                "HttpHeaders": {"X": "1"},
                "auths": {
                    "other.io": other,
                    "https://reg.io/v2/": {"auth": "old", "identitytoken": "old", "email": "a@x"},
                },
                "future": [True],
            }
        )
    )
    path.chmod(0o600)
    private(path).put("reg.io", ALICE, "https://auth.io")
    assert json.loads(path.read_bytes()) == {
        "HttpHeaders": {"X": "1"},
        "auths": {
            "other.io": other,
            "reg.io": {"email": "a@x", **AUTH, "trustedRealm": "https://auth.io"},
        },
        "future": [True],
    }


def test_a_realm_is_kept_beside_the_credential(tmp_path: Path) -> None:
    file = private(tmp_path / "auth.json")
    file.put("reg.io", ALICE, "https://auth.io")
    assert file.trusted_realms("reg.io") == {"https://auth.io"}
    assert file.trusted_realms("other.io") == frozenset()
    file.put("reg.io", None, "https://new.io")
    assert file.find("reg.io", "a") is None
    assert file.trusted_realms("reg.io") == {"https://new.io"}
    file.put("reg.io", None, None)
    assert json.loads((tmp_path / "auth.json").read_bytes()) == {"auths": {}}


def test_putting_nothing_where_nothing_is_writes_nothing(tmp_path: Path) -> None:
    private(tmp_path / "auth.json").put("reg.io", None, None)
    assert list(tmp_path.iterdir()) == []


def test_a_host_is_forgotten_under_all_its_names(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    auths = {"reg.io": AUTH, "https://reg.io/v1/": AUTH, "reg.io/team": AUTH, "other.io": AUTH}
    path.write_text(json.dumps({"auths": auths, "x": 1}))
    file = docker(path)
    assert file.remove("reg.io")
    assert not file.remove("reg.io")
    left = {"reg.io/team": AUTH, "other.io": AUTH}
    assert json.loads(path.read_bytes()) == {"auths": left, "x": 1}
    assert file.find("reg.io", "a") is None


@pytest.mark.parametrize("content", [b"{" + SECRET.encode(), b'{"auths": []}', b"[]"])
def test_a_broken_file_is_not_written_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(AuthenticationError) as caught:
        docker(path).put("reg.io", ALICE, None)
    assert_untold(caught.value, SECRET)
    assert path.read_bytes() == content


OLD = Credential("", "identity-1", Kind.IDENTITY_TOKEN)
NEW = Credential("", "identity-2", Kind.IDENTITY_TOKEN)
ROTATED = {"auth": encoded(":"), "identitytoken": "identity-2"}


def test_a_rotated_token_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    document = {"auths": {"reg.io": {"identitytoken": "identity-1", "email": "x"}}, "psFormat": "y"}
    path.write_text(json.dumps(document))
    path.chmod(0o644)
    file = docker(path)
    assert file.find("reg.io", "a/b") == OLD
    file.rotated("reg.io", "a/b", OLD, NEW)
    expected = {"auths": {"reg.io": {**ROTATED, "email": "x"}}, "psFormat": "y"}
    assert json.loads(path.read_bytes()) == expected
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert file.find("reg.io", "a/b") == NEW


def test_only_the_token_that_was_shown_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    auths = {"reg.io": {"identitytoken": "another"}, "other.io": {"identitytoken": "identity-1"}}
    path.write_text(json.dumps({"auths": auths}))
    before = path.stat()
    docker(path).rotated("reg.io", "a", OLD, NEW)
    assert json.loads(path.read_bytes()) == {"auths": auths}
    assert path.stat().st_ino == before.st_ino


def test_a_rotated_token_goes_back_to_the_helper(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "bin")
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"credsStore": "vault", "auths": {"reg.io": {}}}))
    file = docker(path, vault.search_path)
    file.store("reg.io", Credential("alice", "identity-1", Kind.IDENTITY_TOKEN))
    old = file.find("reg.io", "a")
    assert old == Credential("<token>", "identity-1", Kind.IDENTITY_TOKEN)
    file.rotated("reg.io", "a", old, Credential("<token>", "identity-2", Kind.IDENTITY_TOKEN))
    assert vault.entries["reg.io"]["Secret"] == "identity-2"
    assert vault.entries["reg.io"]["Username"] == "<token>"


def test_a_helper_keeps_and_forgets_for_a_file(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "bin")
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"credHelpers": {"reg.io": "vault", "docker.io": "vault"}}))
    file = docker(path, vault.search_path)
    assert file.erase("reg.io") is None
    assert file.find("reg.io", "a") is None
    assert file.store("reg.io", ALICE) == vault.program == file.place("reg.io")
    assert file.find("reg.io", "a") == ALICE
    assert file.store("docker.io", ALICE) == vault.program
    assert sorted(vault.entries) == ["https://index.docker.io/v1/", "reg.io"]
    assert file.store("other.io", ALICE) is None
    assert file.erase("other.io") is None
    assert file.erase("reg.io") == vault.program
    assert file.find("reg.io", "a") is None


def test_a_file_is_read_anew_on_request(tmp_path: Path) -> None:
    file = config(tmp_path, {"auths": {"reg.io": AUTH}})
    assert file.find("reg.io", "a") == ALICE
    (tmp_path / "config.json").write_text("{}")
    assert file.find("reg.io", "a") == ALICE
    file.reread()
    assert file.find("reg.io", "a") is None


TEXTS: list[tuple[object, str]] = [
    ({"auths": {"reg.io": {**AUTH, "identitytoken": "id"}}}, "only auth may be"),
    ({"auths": {"reg.io": {"username": "alice", "password": SECRET}}}, "only auth may be"),
    ({"auths": {"reg.io": AUTH}, "credsStore": "x"}, "only auths may be"),
    ({"auths": {"reg.io": {"auth": "!" + SECRET}}}, "not base64"),
    ([SECRET], "not a JSON object"),
]


@pytest.mark.parametrize(("content", "why"), TEXTS)
def test_a_text_has_auths_only(content: object, why: str) -> None:
    source = AuthText("DOCKER_AUTH_CONFIG", json.dumps(content))
    with pytest.raises(AuthenticationError, match=f"^DOCKER_AUTH_CONFIG.*{why}") as caught:
        source.find("reg.io", "a")
    assert_untold(caught.value, SECRET)


def test_a_text_is_a_source() -> None:
    bob = {"auth": encoded("bob:x")}
    source = AuthText("X", json.dumps({"auths": {"https://reg.io/v2/": AUTH, "reg.io/team": bob}}))
    assert source.find("reg.io", "a") == source.find("reg.io", "") == ALICE
    assert source.find("reg.io", "team/tiny") == Credential("bob", "x")
    assert source.find("other.io", "a") is None
    assert source.place("reg.io") == "X"


LOGIN = """
import sys
from pathlib import Path
from modelpm.registry.authfile import AuthFile
from modelpm.registry.credentials import Credential
from modelpm.registry.secret_file import SecretFile

path, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + count):
    file = AuthFile(SecretFile(path, private=True), "")
    file.put(f"host-{number}.io", Credential("alice", f"password-{number}"), f"https://a{number}.io")
"""


def start(path: Path, first: int, count: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", LOGIN, str(path), str(first), str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    return process


def go(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdin.write(b"go\n")
    process.stdin.flush()


def end(process: "subprocess.Popen[bytes]") -> int:
    process.communicate(timeout=60)
    return process.returncode


UNKNOWN = {"future": {"a": [1]}, "psFormat": "x"}


def prepare(folder: Path) -> Path:
    path = folder / "auth.json"
    path.write_text(json.dumps({**UNKNOWN, "auths": {"kept.io": {**AUTH, "note": "mine"}}}))
    path.chmod(0o600)
    return path


def test_fifty_logins_at_once_are_all_kept(tmp_path: Path) -> None:
    path = prepare(tmp_path)
    processes = [start(path, number, 1) for number in range(50)]
    for process in processes:
        go(process)
    assert [end(process) for process in processes] == [0] * 50
    document = json.loads(path.read_bytes())
    assert {name: document[name] for name in UNKNOWN} == UNKNOWN
    assert document["auths"].pop("kept.io") == {**AUTH, "note": "mine"}
    assert document["auths"] == {
        f"host-{number}.io": {
            "auth": encoded(f"alice:password-{number}"),
            "trustedRealm": f"https://a{number}.io",
        }
        for number in range(50)
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(item.name for item in tmp_path.iterdir()) == [".auth.json.lock", "auth.json"]


def test_a_login_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    path = prepare(tmp_path)
    chance = random.Random(4)
    known = 1
    for turn in range(20):
        process = start(path, 1000 * turn, 1000)
        inode = path.stat().st_ino
        go(process)
        deadline = time.monotonic() + 20
        while path.stat().st_ino == inode:  # the first login of this turn
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        time.sleep(chance.uniform(0.001, 0.06))
        process.kill()
        assert end(process) == -signal.SIGKILL
        document = json.loads(path.read_bytes())
        assert {name: document[name] for name in UNKNOWN} == UNKNOWN
        assert document["auths"]["kept.io"] == {**AUTH, "note": "mine"}
        assert len(document["auths"]) > known
        known = len(document["auths"])
    assert known > 20
    for draft in tmp_path.glob(".auth.json.*.new"):
        os.utime(draft, (0, 0))
    docker(path).put("last.io", ALICE, None)
    assert sorted(item.name for item in tmp_path.iterdir()) == [".auth.json.lock", "auth.json"]


DYING = """
import os, signal, sys
from pathlib import Path
from modelpm.registry.authfile import AuthFile
from modelpm.registry.credentials import Credential
from modelpm.registry.secret_file import SecretFile

left = int(sys.argv[2])

def die(event, arguments):
    global left
    if event.startswith(("open", "os.", "fcntl.")) and event != "os.kill":
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

file = AuthFile(SecretFile(Path(sys.argv[1]), private=True), "")
sys.addaudithook(die)
file.put("new.io", Credential("alice", "new"), None)
"""


def test_a_login_that_dies_at_any_step_leaves_a_whole_file(tmp_path: Path) -> None:
    """The interpreter tells of each act on a file before it happens, and it is the last."""
    path = prepare(tmp_path)
    before = json.loads(path.read_bytes())
    after = {**before, "auths": {**before["auths"], "new.io": {"auth": encoded("alice:new")}}}
    seen = []
    for steps in range(60):
        path.write_text(json.dumps(before))
        command = [sys.executable, "-c", DYING, str(path), str(steps)]
        died = subprocess.run(command, timeout=60).returncode == -signal.SIGKILL
        document = json.loads(path.read_bytes())
        assert document in ((before, after) if died else (after,))
        seen.append(document == after)
        if not died:
            break
    else:
        raise AssertionError("it never came to its end")
    assert len(seen) > 6
    assert seen == sorted(seen)
