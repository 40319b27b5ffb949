"""`modelpm login` and `logout`, and where every command looks for credentials."""

import base64
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import build
import pytest
from registry import Answer, Basic, Bearer, Registry, Request, TokenServer

from tests.cli.conftest import Cli
from tests.cli.terminal import Terminal, assert_harmless
from tests.registry.keepers import SECRET, Vault, encoded, install

NAME = "team/tiny"
STDIN = ("--username", "alice", "--password-stdin")


@pytest.fixture
def locked() -> Iterator[Registry]:
    """A registry that only alice gets into, with a model in it."""
    with Registry(auth=Basic("alice", SECRET)) as registry:
        registry.content.add(NAME, "latest", build.ollama())
        yield registry


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    """A token service that knows alice, and rotates her identity tokens."""
    with TokenServer({"alice": SECRET}, anonymous=False, rotates=True) as server:
        yield server


@pytest.fixture
def guarded(tokens: TokenServer) -> Iterator[Registry]:
    """A registry that sends its users to the token service, with a model in it."""
    with Registry(auth=Bearer(tokens)) as registry:
        registry.content.add(NAME, "latest", build.ollama())
        yield registry


@pytest.fixture
def auth_file(home: Path) -> Path:
    """Where login keeps passwords when nobody says."""
    return home.parent / "xdg_config_home" / "modelpm" / "auth.json"


def login(cli: Cli, host: str, *more: str, password: str = SECRET) -> Any:
    return cli("login", host, *STDIN, *more, stdin=f"{password}\n".encode())


def write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    path.chmod(0o600)


def account(host: str, user: str = "alice", secret: str = SECRET) -> dict[str, object]:
    return {"auths": {host: {"auth": encoded(f"{user}:{secret}")}}}


def test_login_opens_a_registry_until_logout(cli: Cli, locked: Registry, auth_file: Path) -> None:
    name = f"{locked.host}/{NAME}"
    assert cli("pull", name).code == 4
    done = login(cli, locked.host)
    assert (done.code, done.errors) == (0, "")
    assert done.lines == [
        f"logged in to {locked.host} as alice; the password is kept in {auth_file}"
    ]
    assert json.loads(auth_file.read_bytes()) == account(locked.host)
    assert stat.S_IMODE(auth_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(auth_file.parent.stat().st_mode) == 0o700
    assert cli("pull", name).code == 0
    done = cli("logout", locked.host)
    assert done.lines == [f"logged out of {locked.host}: deleted from {auth_file}"]
    assert (done.code, done.errors) == (0, "")
    assert cli("pull", name).code == 4


def test_logout_twice_is_no_failure(cli: Cli) -> None:
    done = cli("logout", "reg.io")
    assert (done.code, done.lines) == (0, [])
    assert done.errors == "modelpm is not logged in to reg.io\n"
    assert cli("logout", "reg.io", "--json").json == {
        "host": "reg.io",
        "deleted_from": [],
        "left_in": None,
    }


def test_a_wrong_password_is_not_kept(cli: Cli, locked: Registry, auth_file: Path) -> None:
    done = login(cli, locked.host, password="wrong")
    assert done.code == 4
    assert "wrong name or password" in done.errors
    assert not auth_file.exists()
    assert len(locked.log) <= 6


def test_json_and_quiet(cli: Cli, locked: Registry, auth_file: Path) -> None:
    assert login(cli, locked.host, "--json").json == {
        "host": locked.host,
        "logged_in": True,
        "username": "alice",
        "saved": "password",
        "saved_in": str(auth_file),
        "realm": "",
    }
    done = login(cli, locked.host, "--quiet")
    assert (done.code, done.output, done.errors) == (0, "", "")
    done = cli("logout", locked.host, "--json")
    assert done.json == {"host": locked.host, "deleted_from": [str(auth_file)], "left_in": None}


def test_an_open_registry_needs_no_login(cli: Cli, loopback: Registry, auth_file: Path) -> None:
    done = login(cli, loopback.host)
    assert done.code == 0
    assert done.lines == [
        f"{loopback.host} lets everybody in: no login is needed, and nothing was saved"
    ]
    assert login(cli, loopback.host, "--json").json["logged_in"] is False
    assert login(cli, loopback.host, "--quiet").output == ""
    assert not auth_file.exists()


PASSWORDS = [
    (b"s3cret-of-alice", True),
    (b"s3cret-of-alice\n", True),
    (b"s3cret-of-alice\r\n", True),
    (b"s3cret-of-alice\nmore\n", True),
    (b"s3cret-of-alice \n", False),
    (b" s3cret-of-alice\n", False),
]


@pytest.mark.parametrize(("stdin", "right"), PASSWORDS)
def test_one_line_without_its_end_is_the_password(
    cli: Cli, locked: Registry, stdin: bytes, right: bool
) -> None:
    assert cli("login", locked.host, *STDIN, stdin=stdin).code == (0 if right else 4)


@pytest.mark.parametrize("stdin", [b"", b"\n", b"\xff\xfe\n", b"x" * (2**16 + 1)])
def test_no_line_is_no_password(cli: Cli, locked: Registry, stdin: bytes) -> None:
    done = cli("login", locked.host, *STDIN, stdin=stdin)
    assert done.code == 2
    assert "no password on standard input" in done.errors
    assert locked.log == ()


USAGE = [
    (("reg.io",), "there is no terminal"),
    (("reg.io", "--username", "alice"), "--password-stdin"),
    (("reg.io", "--password-stdin"), "needs --username"),
    (("reg.io", "-u", "alice", "-p", SECRET), "for all to see: write it to standard input"),
    (("reg.io", "-u", "alice", "--password", SECRET), "--password-stdin"),
    (("reg.io", f"--password={SECRET}"), "--password-stdin"),
    (("reg.io", *STDIN, "--trust-realm", "auth.io"), "an origin is https://HOST"),
    (("reg", *STDIN), "'reg' is no host"),
    (("reg.io/team", *STDIN), "is no host"),
    (("reg io", *STDIN), "is no host"),
    ((f"https://alice:{SECRET}@reg.io", *STDIN), "'reg.io' is no host"),
    (("http://reg.io", *STDIN), "(try: reg.io)"),
    (("https://reg.io:1/v2/", *STDIN), "(try: reg.io:1)"),
    (("", *STDIN), "is no host"),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE)
def test_a_bad_command_line_says_what_to_do(
    cli: Cli, arguments: tuple[str, ...], words: str
) -> None:
    done = cli("login", *arguments, stdin=SECRET.encode())
    assert done.code == 2
    assert words in done.errors
    assert SECRET not in done.errors


@pytest.mark.parametrize("form", ["https://{}", "https://{}/", "{}/"])
def test_a_host_may_be_pasted_as_a_url(
    cli: Cli, locked: Registry, auth_file: Path, form: str
) -> None:
    assert login(cli, form.format(locked.host)).code == 0
    assert list(json.loads(auth_file.read_bytes())["auths"]) == [locked.host]


def test_a_token_service_elsewhere_is_named_and_refused(
    cli: Cli, guarded: Registry, tokens: TokenServer, auth_file: Path
) -> None:
    done = login(cli, guarded.host)
    assert done.code == 4
    assert f"credentials for {guarded.host} will go to {tokens.url}\n" in done.errors
    assert f"(try: --trust-realm {tokens.url})" in done.errors
    assert tokens.log == ()
    assert not auth_file.exists()


def test_a_trusted_token_service_is_recorded_and_its_tokens_rotate(
    cli: Cli, guarded: Registry, tokens: TokenServer, auth_file: Path
) -> None:
    done = login(cli, guarded.host, "--trust-realm", tokens.url)
    assert done.code == 0
    assert f"the identity token is kept in {auth_file}" in done.output
    entry = json.loads(auth_file.read_bytes())["auths"][guarded.host]
    assert entry == {
        "auth": encoded("alice:"),
        "identitytoken": next(iter(tokens.refresh_tokens)),
        "trustedRealm": tokens.url,
    }
    seen = {entry["identitytoken"]}
    for _ in range(3):
        assert cli("pull", f"{guarded.host}/{NAME}").code == 0
        entry = json.loads(auth_file.read_bytes())["auths"][guarded.host]
        assert list(tokens.refresh_tokens) == [entry["identitytoken"]]
        assert entry["trustedRealm"] == tokens.url
        seen.add(entry["identitytoken"])
    assert len(seen) == 4
    assert SECRET not in auth_file.read_text()


@pytest.fixture
def vault(home: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    """A credential helper that docker's configuration names for all registries."""
    vault = Vault(home.parent / "bin")
    monkeypatch.setenv("PATH", f"{vault.search_path}:{os.environ['PATH']}")
    write(home.parent / "docker_config" / "config.json", {"credsStore": "vault"})
    return vault


def test_dockers_helper_keeps_the_secret(
    cli: Cli, guarded: Registry, tokens: TokenServer, vault: Vault, auth_file: Path
) -> None:
    done = login(cli, guarded.host, "--trust-realm", tokens.url)
    assert f"is kept in {vault.program}" in done.output
    assert vault.entries[guarded.host]["Username"] == "<token>"
    first = vault.entries[guarded.host]["Secret"]
    assert json.loads(auth_file.read_bytes()) == {
        "auths": {guarded.host: {"trustedRealm": tokens.url}}
    }
    assert cli("pull", f"{guarded.host}/{NAME}").code == 0
    assert vault.entries[guarded.host]["Secret"] != first
    done = cli("logout", guarded.host)
    assert done.lines == [
        f"logged out of {guarded.host}: deleted from {place}"
        for place in (auth_file, vault.program)
    ]
    assert vault.entries == {}


def test_a_failing_helper_stops_everything(
    cli: Cli, home: Path, locked: Registry, vault: Vault, auth_file: Path
) -> None:
    install(Path(vault.search_path), "vault", "print(server); sys.exit(9)")
    write(home.parent / "xdg_config_home" / "containers" / "auth.json", account(locked.host))
    for done in (login(cli, locked.host), cli("pull", f"{locked.host}/{NAME}")):
        assert done.code == 4
        assert f"{vault.program} failed with status 9" in done.errors
        assert SECRET not in done.errors
    assert not auth_file.exists()


@pytest.mark.parametrize(
    "where", ["docker_config/config.json", "xdg_runtime_dir/containers/auth.json"]
)
def test_logout_says_what_others_still_have(
    cli: Cli, home: Path, locked: Registry, where: str
) -> None:
    path = home.parent / where
    write(path, account(locked.host))
    login(cli, locked.host)
    done = cli("logout", locked.host)
    assert done.code == 0
    assert done.errors == f"{path} still has credentials for {locked.host}, and they are used\n"
    assert cli("logout", locked.host, "--json").json["left_in"] == str(path)


def test_login_says_what_stands_before_it(
    cli: Cli, locked: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps(account(locked.host, "bob", "x")))
    done = login(cli, locked.host)
    assert done.code == 0
    words = f"DOCKER_AUTH_CONFIG has credentials for {locked.host} too, and they are used instead"
    assert done.errors == words + "\n"


def test_the_file_may_lie_elsewhere(
    cli: Cli, locked: Registry, tmp_path: Path, auth_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine" / "secrets.json"
    login(cli, locked.host, "--auth-file", str(path))
    assert path.exists()
    assert not auth_file.exists()
    name = f"{locked.host}/{NAME}"
    assert cli("pull", name).code == 4
    assert cli("pull", "--auth-file", str(path), name).code == 0
    monkeypatch.setenv("MODELPM_AUTH_FILE", str(path))
    assert cli("pull", name).code == 0


def places(home: Path) -> list[tuple[str, Path]]:
    """Every place that is asked, the last first: a variable or nothing, and a file."""
    folder = home.parent
    return [
        ("", folder / "xdg_config_home" / "containers" / "auth.json"),
        ("", folder / "xdg_runtime_dir" / "containers" / "auth.json"),
        ("", folder / "docker_config" / "config.json"),
        ("REGISTRY_AUTH_FILE", folder / "registry-auth.json"),
        ("", folder / "xdg_config_home" / "modelpm" / "auth.json"),
    ]


def shown(registry: Registry) -> str:
    """The user whose name the registry was last told."""
    told = [request.headers["authorization"] for request in registry.log if request.has_secret]
    return base64.b64decode(told[-1].split()[1]).decode().partition(":")[0]


def test_the_first_place_that_has_an_entry_decides(
    cli: Cli, home: Path, locked: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{locked.host}/{NAME}"
    for number, (variable, path) in enumerate(places(home)):
        write(path, account(locked.host, f"user{number}"))
        if variable:
            monkeypatch.setenv(variable, str(path))
        assert cli("pull", name).code == 4
        assert shown(locked) == f"user{number}"
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps(account(locked.host, "text")))
    cli("pull", name)
    assert shown(locked) == "text"
    monkeypatch.setenv("MODELPM_REGISTRY", locked.host)
    monkeypatch.setenv("MODELPM_USERNAME", "alice")
    monkeypatch.setenv("MODELPM_PASSWORD", SECRET)
    assert cli("pull", name).code == 0
    assert shown(locked) == "alice"
    monkeypatch.setenv("MODELPM_REGISTRY", "other.io")
    cli("pull", name)
    assert shown(locked) == "text"


def test_refused_credentials_are_told_by_their_place(
    cli: Cli, locked: Registry, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, bad = f"{locked.host}/{NAME}", "s3cret-that-is-bad"
    login = f"(try: modelpm login {locked.host})"
    refused = "401 UNAUTHORIZED: authentication required"
    assert f"{refused} {login}" in cli("pull", name).errors
    for variable, path in places(home):
        write(path, account(locked.host, "mallory"))
        if variable:
            monkeypatch.setenv(variable, str(path))
        errors = cli("pull", name).errors
        assert f"{refused}; it was shown the credentials of {path} {login}" in errors
    told = "which go before those of a login (try: other ones there, or unset it)"
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps(account(locked.host, "text")))
    assert f"the credentials of DOCKER_AUTH_CONFIG, {told}" in cli("pull", name).errors
    monkeypatch.setenv("MODELPM_REGISTRY", locked.host)
    monkeypatch.setenv("MODELPM_USERNAME", "alice")
    monkeypatch.setenv("MODELPM_PASSWORD", bad)
    done = cli("pull", name)
    assert done.code == 4
    assert f"the credentials of MODELPM_PASSWORD, {told}" in done.errors
    assert "modelpm login" not in done.errors
    assert bad not in done.errors


@pytest.mark.parametrize("name", ["MODELPM_USERNAME", "MODELPM_PASSWORD"])
def test_half_an_account_is_a_mistake(
    cli: Cli, locked: Registry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, SECRET)
    done = cli("pull", f"{locked.host}/{NAME}")
    assert done.code == 2
    assert "all of them are needed, or none" in done.errors
    assert SECRET not in done.errors
    assert locked.log == ()


@pytest.mark.parametrize("end", ["\n", "\r", "\udcff"])
def test_an_account_that_cannot_be_sent_is_a_mistake(
    cli: Cli, locked: Registry, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELPM_REGISTRY", locked.host)
    monkeypatch.setenv("MODELPM_USERNAME", "alice")
    monkeypatch.setenv("MODELPM_PASSWORD", SECRET + end)
    done = cli("pull", f"{locked.host}/{NAME}")
    assert done.code == 2
    assert "MODELPM_USERNAME, MODELPM_PASSWORD: there is a control character" in done.errors
    assert SECRET not in done.errors
    assert locked.log == ()


def test_netrc_is_not_read(
    cli: Cli, locked: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "home" / ".netrc"
    netrc.parent.mkdir(exist_ok=True)
    netrc.write_text(f"machine 127.0.0.1 login alice password {SECRET}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert cli("pull", f"{locked.host}/{NAME}").code == 4
    assert not any(request.has_secret for request in locked.log)


def test_no_secret_is_told_even_for_debugging(
    cli: Cli, home: Path, locked: Registry, guarded: Registry, tokens: TokenServer, auth_file: Path
) -> None:
    outputs = []
    for debug in ((), ("--debug",), ("--debug", "--json")):
        for password in (SECRET, "wr0ng-secret"):
            for registry in (locked, guarded):
                more = (*debug, "--trust-realm", tokens.url)
                outputs.append(login(cli, registry.host, *more, password=password))
                outputs.append(cli("pull", f"{registry.host}/{NAME}", *debug))
        for status in (400, 401, 501):
            body = json.dumps({"message": f"no {SECRET} and {encoded(f'alice:{SECRET}')}"})
            locked.scenario = [{"authorized": True, "status": status, "body": body}]
            outputs.append(cli("pull", f"{locked.host}/{NAME}", *debug))
            outputs.append(login(cli, locked.host, *debug))
        locked.scenario = []
        outputs.append(cli("logout", locked.host, *debug))
        outputs.append(cli("logout", guarded.host, *debug))
        write(home.parent / "docker_config" / "config.json", {"auths": {locked.host: SECRET}})
        outputs.append(cli("pull", f"{locked.host}/{NAME}", *debug))
        write(home.parent / "docker_config" / "config.json", {})
    secrets = {SECRET, "wr0ng-secret", encoded(f"alice:{SECRET}"), encoded("alice:wr0ng-secret")}
    answers = [request for request in tokens.log if request.method == "POST"]
    for request in answers:
        secrets |= set(re.findall(r"refresh_token=([\w-]{20,})", request.body.decode()))
    secrets |= {
        request.headers["authorization"].partition(" ")[2]
        for request in (*locked.log, *guarded.log, *tokens.log)
        if request.has_secret
    }
    assert len(secrets) > 8
    told = "".join(done.output + done.errors for done in outputs)
    assert "Traceback" in told
    assert [secret for secret in secrets if secret in told] == []


@pytest.fixture
def terminal_environment(home: Path) -> dict[str, str]:
    """What a program on a terminal is given: as here, and no way out of the test's folder."""
    return {"MODELPM_HOME": str(home), "HOME": str(home.parent / "home")}


def test_a_terminal_is_asked_without_an_echo(
    locked: Registry, auth_file: Path, terminal_environment: dict[str, str]
) -> None:
    with Terminal("login", locked.host, environment=terminal_environment) as terminal:
        terminal.wait_for(f"Username for {locked.host}:")
        terminal.press("alice\n")
        terminal.wait_for("Password:")
        terminal.press(f"{SECRET}\n")
        assert terminal.wait() == 0
    assert SECRET not in terminal.text
    assert "logged in to" in terminal.text
    assert json.loads(auth_file.read_bytes()) == account(locked.host)
    assert_harmless(terminal.text)


@pytest.mark.parametrize(("word", "code"), [("y", 0), ("n", 4), ("", 4)])
def test_a_terminal_is_asked_for_consent(
    guarded: Registry,
    tokens: TokenServer,
    terminal_environment: dict[str, str],
    word: str,
    code: int,
) -> None:
    arguments = ("login", guarded.host, "--username", "alice")
    with Terminal(*arguments, environment=terminal_environment) as terminal:
        terminal.wait_for(f"credentials for {guarded.host} will go to {tokens.url}")
        terminal.wait_for("[y/N]")
        assert tokens.log == ()
        terminal.press(f"{word}\n")
        if code == 0:
            terminal.wait_for("Password:")
            terminal.press(f"{SECRET}\n")
        assert terminal.wait() == code
    assert bool(tokens.log) is (code == 0)


def test_an_open_registry_asks_a_terminal_for_nothing(
    loopback: Registry, terminal_environment: dict[str, str]
) -> None:
    with Terminal("login", loopback.host, environment=terminal_environment) as terminal:
        assert terminal.wait() == 0
    assert "no login is needed" in terminal.text


def test_ctrl_c_at_the_password_keeps_nothing(
    locked: Registry, auth_file: Path, terminal_environment: dict[str, str]
) -> None:
    with Terminal(
        "login", locked.host, "-u", "alice", environment=terminal_environment
    ) as terminal:
        terminal.wait_for("Password:")
        terminal.press("\x03")
        assert terminal.wait() == 130
        assert terminal.modes == terminal.modes_before
    assert "interrupted; not logged in" in terminal.text
    assert not auth_file.exists()


def test_two_registries_are_never_mixed_up(cli: Cli, locked: Registry) -> None:
    with Registry(auth=Basic("bob", "pw-of-bob")) as other:
        other.content.add(NAME, "latest", build.ollama())
        done = cli("login", other.host, "-u", "bob", "--password-stdin", stdin=b"pw-of-bob")
        assert done.code == 0
        assert login(cli, locked.host).code == 0
        names = [f"{registry.host}/{NAME}" for registry in (locked, other)]
        assert cli("pull", *names).code == 0
        assert shown(locked) == "alice"
        assert shown(other) == "bob"


class Overtaking(TokenServer):
    """Before it first takes an identity token, another process has had it replaced."""

    auth_file: Path | None = None

    def answer(self, request: Request) -> Answer:
        if request.method == "POST" and self.auth_file is not None:
            text = self.auth_file.read_text()
            ((old, user),) = self.refresh_tokens.items()
            self.auth_file.write_text(text.replace(old, "fresher"))
            self.refresh_tokens = {"fresher": user}
            self.auth_file = None
        return super().answer(request)


def test_processes_that_share_a_rotating_token_do_not_fail(cli: Cli, auth_file: Path) -> None:
    with (
        Overtaking({"alice": SECRET}, anonymous=False, rotates=True) as tokens,
        Registry(auth=Bearer(tokens)) as registry,
    ):
        registry.content.add(NAME, "latest", build.ollama())
        assert login(cli, registry.host, "--trust-realm", tokens.url).code == 0
        tokens.auth_file = auth_file
        assert cli("pull", f"{registry.host}/{NAME}").code == 0
        statuses = [request.status for request in tokens.requests("POST")]
        assert statuses == [401, 200]


def test_consent_given_beforehand_is_told_unless_all_is_to_be_quiet(
    cli: Cli, guarded: Registry, tokens: TokenServer
) -> None:
    trust = ("--trust-realm", tokens.url)
    done = login(cli, guarded.host, *trust)
    assert done.errors == f"credentials for {guarded.host} will go to {tokens.url}\n"
    assert f"as alice by way of {tokens.url}; the identity token" in done.output
    assert cli("logout", guarded.host, "--quiet").output == ""
    done = login(cli, guarded.host, *trust, "--quiet")
    assert (done.code, done.output, done.errors) == (0, "", "")
    done = login(cli, guarded.host)
    assert (done.code, done.errors) == (0, "")


@pytest.mark.skipif(os.name != "posix", reason="modes mean nothing there")
@pytest.mark.parametrize("which", range(3))
def test_a_file_of_secrets_that_others_can_read_is_named_once(
    cli: Cli,
    locked: Registry,
    auth_file: Path,
    home: Path,
    which: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"{locked.host}/{NAME}"
    podman = home.parent / "xdg_runtime_dir" / "containers" / "auth.json"
    path = (auth_file, home.parent / "docker_config" / "config.json", podman)[which]
    write(path, account(locked.host))
    path.chmod(0o640)
    if path == podman:  # found in two ways
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    told = f"{path} can be read by others, and there are secrets in it (try: chmod 600 {path})"
    for command in (("tags", name), ("pull", name), ("show", "--remote", name, "--json")):
        done = cli(*command)
        assert (done.code, done.errors.count(told)) == (0, 1)
        assert SECRET not in done.errors
    assert cli("--quiet", "tags", name).errors == ""
    path.chmod(0o600)
    assert cli("tags", name).errors == ""


def test_docker_and_podman_have_their_usual_places(
    cli: Cli, home: Path, locked: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name)
    user = home.parent / "home"
    name = f"{locked.host}/{NAME}"
    write(user / ".config" / "containers" / "auth.json", account(locked.host, "podman"))
    cli("pull", name)
    assert shown(locked) == "podman"
    write(user / ".docker" / "config.json", account(locked.host))
    assert cli("pull", name).code == 0
