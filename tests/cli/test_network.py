"""What is said of hosts: by options, the environment and the settings file, and who goes first."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from modelpm.cli import clients, main, network
from modelpm.cli.options import Settings
from modelpm.client import Client
from modelpm.registry.hosts import Hosts, HostSettings, Proxies
from tests.cli.conftest import Cli

ACME = "registry.acme.example:5000"
PROXY_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

Told = Callable[..., Hosts]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXY_NAMES, "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def told(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """The hosts that a command line makes, with a settings file if there is a text for one."""
    caught: list[Hosts] = []
    real = Client

    def make(*arguments: Any, hosts: Hosts, **options: Any) -> Any:
        caught.append(hosts)
        return real(*arguments, hosts=hosts, **options)

    monkeypatch.setattr(clients, "Client", make)

    def call(*arguments: str, file: str = "") -> Hosts:
        path = tmp_path / "told.toml"
        path.write_text(file)
        result = cli("--config", str(path), *arguments)
        assert result.code == 0, result.errors
        return caught[-1]

    return call


FILE = """
ca-file = "everywhere.pem"
plain-http = ["b.lan:1"]
mirror = ["b.lan:1=https://m.lan"]
[host."Registry.Acme.example:5000"]
ca-file = "acme.pem"
client-certificate = "/me.pem"
client-key = "~nobody-has-this-name/me.key"
plain-http = false
insecure-login = true
mirrors = ["https://one.lan", " https://two.lan/v2/acme "]
trust-realm = ["https://Auth.acme.example"]
[host."docker.io"]
[list]
json = true
"""


def test_a_table_says_what_holds_for_one_host(told: Told, tmp_path: Path) -> None:
    hosts = told("list", file=FILE)
    everywhere = str(tmp_path / "everywhere.pem")
    assert hosts.default == HostSettings(ca_file=everywhere)
    assert hosts.of(ACME) == HostSettings(
        plain_http=False,
        insecure_login=True,
        ca_file=str(tmp_path / "acme.pem"),
        client_certificate="/me.pem",
        client_key=str(tmp_path / "~nobody-has-this-name" / "me.key"),
        mirrors=("https://one.lan", "https://two.lan/v2/acme"),
        trusted_realms=frozenset({"https://auth.acme.example"}),
    )
    assert hosts.of("docker.io") == hosts.default
    assert hosts.of("b.lan:1") == HostSettings(
        plain_http=True, ca_file=everywhere, mirrors=("https://m.lan",)
    )
    assert hosts.of("other.example") == hosts.default


def test_the_command_line_goes_before_the_table(told: Told) -> None:
    options = [
        ("--ca-file", "mine.pem"),
        ("--plain-http", ACME),
        ("--client-certificate", f"{ACME}=other=name.pem"),
        ("--mirror", f"{ACME}=http://three.lan,https://four.lan"),
        ("--insecure-login", "b.lan:1"),
        ("--client-key", "b.lan:1=b.key"),
    ]
    flat = [word for pair in options for word in pair]
    for hosts in (told("list", *flat, file=FILE), told(*flat, "list", file=FILE)):
        assert hosts.default == HostSettings(ca_file="mine.pem")
        assert hosts.of(ACME) == HostSettings(
            plain_http=True,
            insecure_login=True,
            ca_file="mine.pem",
            client_certificate="other=name.pem",
            mirrors=("http://three.lan", "https://four.lan"),
            trusted_realms=frozenset({"https://auth.acme.example"}),
        )
        other = hosts.of("b.lan:1")
        assert (other.insecure_login, other.client_key) == (True, "b.key")
    assert told("list", "--mirror", f"{ACME}=", file=FILE).of(ACME).mirrors == ()


def test_the_environment_goes_before_the_table(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELPM_CA_FILE", "environment.pem")
    monkeypatch.setenv(
        "MODELPM_MIRROR", f"{ACME}=https://a.lan,https://b.lan docker.io=https://c.lan"
    )
    hosts = told("list", file=FILE)
    assert hosts.of(ACME).ca_file == "environment.pem"
    assert hosts.of(ACME).mirrors == ("https://a.lan", "https://b.lan")
    assert hosts.of("docker.io").mirrors == ("https://c.lan",)
    assert told("list", "--ca-file", "x.pem", file=FILE).of(ACME).ca_file == "x.pem"


def test_a_table_may_come_with_a_file_that_is_named_after_the_command(
    told: Told, tmp_path: Path
) -> None:
    late = tmp_path / "late.toml"
    late.write_text('[host."a.lan:1"]\nplain-http = true\n')
    hosts = told("list", "--config", str(late), file=FILE)
    assert hosts.of("a.lan:1").plain_http
    assert ACME not in hosts.own


def test_names_of_docker_hub_are_one(told: Told) -> None:
    hosts = told("list", file='[host."index.docker.io"]\nplain-http = true\n')
    assert hosts.of("docker.io").plain_http


def test_paths_in_the_file_begin_at_its_folder(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, home = tmp_path / "here", tmp_path / "mine"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    lists = 'client-certificate = ["a.b=me.pem", "c.d=~/me=2.pem", "e.f="]\nclient-key = ["a.b=/k"]'
    hosts = told("list", file=f'{lists}\n[list]\nca-file = "sub/../ca.pem"\n')
    assert hosts.default.ca_file == str(tmp_path / "sub" / ".." / "ca.pem")
    assert hosts.of("a.b").client_certificate == str(tmp_path / "me.pem")
    assert hosts.of("a.b").client_key == "/k"
    assert hosts.of("c.d").client_certificate == str(home / "me=2.pem")
    assert hosts.of("e.f").client_certificate == ""
    assert told("list", "--ca-file", "x.pem", file=FILE).default.ca_file == "x.pem"


BAD_FILES = [
    ('ca-file = "none.pem"', "{file}: ca-file {folder}/none.pem: No such file"),
    ('[host."a.b"]\nca-file = "n.pem"', '{file}: host."a.b": ca-file {folder}/n.pem: No such'),
    ('client-certificate = ["a.b=n.pem"]', "{file}: client-certificate {folder}/n.pem: No such"),
    (
        '[host."a.b"]\nclient-certificate = "told.toml"',
        'unencrypted; a key in another file is for {file}: host."a.b": client-key to name',
    ),
    (
        '[host."a.b"]\nclient-key = "n.key"',
        'client-key {folder}/n.key is of no use without {file}: host."a.b": client-certificate ',
    ),
]


@pytest.mark.parametrize(("text", "why"), BAD_FILES)
def test_what_is_wrong_with_a_file_names_who_named_it(
    cli: Cli, tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "told.toml"
    path.write_text(text)
    result = cli("--config", str(path), "pull", "a.b/team/tiny")
    assert result.code == 6
    assert why.format(file=path, folder=tmp_path) in result.errors
    assert " --c" not in result.errors
    told = cli("--config", str(path), "pull", "a.b/team/tiny", "--ca-file", "a.pem").errors
    assert "--ca-file a.pem: No such" in told


def test_a_certificate_without_its_key_is_told_how_to_name_it(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "me.pem"
    path.write_text("nothing")
    errors = cli("pull", "a.b/team/tiny", "--client-certificate", f"a.b={path}").errors
    assert "a key in another file is for --client-key to name" in errors


WRONG_TABLES = [
    ("host = 1", "host is a table of tables"),
    ("[host]\nx = 1", 'host."x" is a table'),
    ('[host."ghcr"]', "'ghcr' is no host"),
    ('[host."a.b/c"]', "'a.b/c' is no host"),
    ('[host."https://a.b"]', "is no host"),
    ('[host."\\u001b[2J"]', "is no host"),
    ('[host."a.b"]\nca_file = "x"', "there is no key 'ca_file' in host.\"a.b\""),
    ('[host."a.b"]\ntls = true', "there is no key 'tls' in host.\"a.b\""),
    ('[host."a.b"]\nca-file = 1', 'host."a.b": ca-file is a string'),
    ('[host."a.b"]\nclient-key = ["x"]', "client-key is a string"),
    ('[host."a.b"]\nca-file = "\\u0000"', 'host."a.b": ca-file is a string, without NUL'),
    ('ca-file = "\\u0000"', "ca-file is a string, without NUL"),
    ('client-key = ["a.b=\\u0000"]', "client-key is a list of strings, without NUL"),
    ('[host."a.b"]\n[host."A.b"]', 'host."A.b": a.b has a table already'),
    ('[host."a.b"]\nplain-http = "yes"', "plain-http is true or false"),
    ('[host."a.b"]\ninsecure-login = 1', "insecure-login is true or false"),
    ('[host."a.b"]\nmirrors = "https://x.y"', "mirrors is a list of strings"),
    ('[host."a.b"]\nmirrors = [1]', "mirrors is a list of strings"),
    ('[host."a.b"]\nmirrors = ["ftp://x.y"]', "mirrors has a wrong URL: a mirror is https://HOST"),
    ('[host."a.b"]\ntrust-realm = "https://x.y"', "trust-realm is a list of strings"),
    ('[host."a.b"]\ntrust-realm = ["x.y"]', "trust-realm has a wrong URL: not a URL"),
]


@pytest.mark.parametrize(("text", "why"), WRONG_TABLES)
def test_a_wrong_table_is_a_usage_error(cli: Cli, tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    result = cli("list", "--config", str(path))
    assert result.code == 2
    assert str(path) in result.errors
    assert why in result.errors
    assert "\x1b" not in result.errors


WRONG_OPTIONS = [
    (("--mirror", "docker.io"), "--mirror: 'docker.io' is not HOST=URL"),
    (("--mirror", "https://me:s3cret@x.y"), "--mirror: 'x.y' is not HOST=URL"),
    (("--mirror", "docker.io=ftp://x.y"), "--mirror: a mirror is https://HOST"),
    (("--mirror", "docker.io=https://me:s3cret@x.y"), "--mirror: a mirror is https://HOST"),
    (("--mirror", "ghcr=https://x.y"), "--mirror: 'ghcr' is no host; HOST=URL is wanted"),
    (("--client-certificate", "me.pem"), "--client-certificate: 'me.pem' is not HOST=FILE"),
    (("--client-key", "=x"), "--client-key: '' is no host"),
    (("--plain-http", "a b"), "--plain-http: 'a b' is no host; HOST is wanted"),
    (("--insecure-login", "http://a.b"), "--insecure-login: 'http://a.b' is no host"),
]


@pytest.mark.parametrize(("option", "why"), WRONG_OPTIONS)
def test_a_wrong_option_is_a_usage_error(cli: Cli, option: tuple[str, str], why: str) -> None:
    for arguments in (("list", *option), (*option, "list")):
        result = cli(*arguments)
        assert result.code == 2
        assert why in result.errors
        assert "s3cret" not in result.errors


def test_a_shell_that_completes_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    context = click.Context(main.PROGRAM)
    monkeypatch.setattr(clients, "settings_of", lambda _context: replaced(mirror=("x",)))
    assert clients.InstalledName().shell_complete(context, click.Argument(["name"]), "") == []


def replaced(**values: Any) -> Settings:
    return Settings(None, None, (), None, quiet=False, debug=False, json=False, **values)


# Proxies


ENVIRONMENTS: list[tuple[dict[str, str], Proxies]] = [
    ({}, Proxies("", "", "")),
    ({"HTTPS_PROXY": "a", "HTTP_PROXY": "b", "NO_PROXY": "c"}, Proxies("a", "b", "c")),
    ({"https_proxy": "a", "http_proxy": "b", "no_proxy": "c"}, Proxies("a", "b", "c")),
    ({"https_proxy": "a", "HTTPS_PROXY": "x"}, Proxies("a", "", "")),
    ({"https_proxy": "", "HTTPS_PROXY": "x"}, Proxies("", "", "")),
    ({"ALL_PROXY": "a", "http_proxy": "b"}, Proxies("a", "b", "")),
    ({"REQUEST_METHOD": "GET", "HTTP_PROXY": "x", "HTTPS_PROXY": "a"}, Proxies("a", "", "")),
    ({"REQUEST_METHOD": "GET", "http_proxy": "b"}, Proxies("", "b", "")),
]


@pytest.mark.parametrize(("environment", "proxies"), ENVIRONMENTS)
def test_proxies_are_those_of_the_environment(
    environment: dict[str, str], proxies: Proxies, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert network.proxies() == proxies
    hosts = network.hosts_of(replaced())
    assert hosts == Hosts(proxies=proxies)
    assert {name: os.environ[name] for name in environment} == environment
