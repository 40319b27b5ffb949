"""Networks of companies, before the real docker-registry: certificates, proxies, mirrors.

The command line is called in this process, with files and an environment as an administrator
would set them.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import build
import pytest
from certificates import Authority, Pair
from docker_registry import PASSWORD, USER, DockerRegistry, put
from networks import CompanyProxy
from registry import Registry
from urllib3.exceptions import InsecureRequestWarning

from modelpm.cli.main import run
from tests.conftest import require

pytestmark = pytest.mark.live

NAME = "acme.example"
MODEL = "team/tiny"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def mine(authority: Authority) -> Pair:
    """The certificate of a client."""
    return authority.issue("client.example")


Start = Callable[..., DockerRegistry]


@pytest.fixture(scope="module")
def start(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, mine: Pair
) -> Iterator[Any]:
    """Starts registries with a model in them, which is put there over loopback."""
    require("docker-registry")
    running: dict[str, DockerRegistry] = {}

    def begin(name: str = "127.0.0.1", *, days: int = 30, **options: Any) -> DockerRegistry:
        key = repr((name, days, sorted(options)))
        if key not in running:
            tls = authority.issue(name, days=days)
            folder = tmp_path_factory.mktemp("registry")
            running[key] = DockerRegistry(folder, tls=tls, **options).__enter__()
            pair = (str(mine.certificate), str(mine.key))
            # The certificate may be a wrong one on purpose.
            told: dict[str, Any] = {"verify": False, "cert": pair, "auth": (USER, PASSWORD)}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InsecureRequestWarning)
                put(running[key].url, MODEL, "latest", build.ollama(), **told)
        return running[key]

    yield begin
    for registry in running.values():
        registry.__exit__()


class Machine:
    """A computer of the company: its environment, its settings file, and what is typed there."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder, self.environment, self._capsys = folder, monkeypatch, capsys
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name in ("HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"):
            monkeypatch.setenv(name, str(folder / name.lower()))
        monkeypatch.setenv("MODELPM_HOME", str(folder / "store"))
        monkeypatch.setenv("MODELPM_CONFIG", str(folder / "config.toml"))
        self.settings("")

    def settings(self, text: str) -> None:
        (self.folder / "config.toml").write_text(text)

    def log_in(self, host: str) -> None:
        """What saved credentials look like."""
        self.environment.setenv(
            "DOCKER_AUTH_CONFIG", json.dumps({"auths": {host: {"auth": "YWxpY2U6czNjcmV0"}}})
        )

    def pull(self, host: str, *options: str, code: int = 0) -> str:
        """What a pull says; afterwards the store is in order."""
        self._capsys.readouterr()
        assert run(("pull", f"{host}/{MODEL}", "--debug", *options)) == code
        told = self._capsys.readouterr()
        assert PASSWORD not in told.err + told.out
        return told.err


@pytest.fixture
def machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Machine:
    return Machine(tmp_path, monkeypatch, capsys)


# Certificates


def test_an_authority_by_option_by_table_and_of_the_system(
    start: Start, machine: Machine, authority: Authority
) -> None:
    host = start().host
    told = machine.pull(host, code=6)
    assert f"the certificate of {host} is not trusted" in told
    assert "(try: --ca-file FILE)" in told
    machine.pull(host, "--ca-file", str(authority.certificate))
    machine.settings(f'[host."{host}"]\nca-file = "{authority.certificate}"\n')
    machine.pull(host)
    machine.settings("")
    machine.environment.setenv("SSL_CERT_FILE", str(authority.certificate))
    machine.pull(host)


WRONG = [
    ({"days": -1}, "certificate has expired", "its operator has to renew it"),
    ({"name": "other.example"}, "mismatch", "ask for it by a name that its certificate is for"),
]


@pytest.mark.parametrize(("flaw", "what", "advice"), WRONG)
def test_a_wrong_certificate_is_told_of(
    start: Start, machine: Machine, authority: Authority, flaw: Any, what: str, advice: str
) -> None:
    host = start(**flaw).host
    told = machine.pull(host, "--ca-file", str(authority.certificate), code=6)
    assert what in told
    assert advice in told
    assert "--ca-file FILE" in told


def test_a_registry_that_wants_certificates(
    start: Start, machine: Machine, authority: Authority, mine: Pair
) -> None:
    host = start(clients=authority.certificate).host
    trust = ("--ca-file", str(authority.certificate))
    told = machine.pull(host, *trust, code=6)
    assert f"{host} wants a certificate of yours" in told
    assert f"(try: --client-certificate {host}=FILE)" in told
    shown = ("--client-certificate", f"{host}={mine.certificate}", "--client-key")
    machine.pull(host, *trust, *shown, f"{host}={mine.key}")
    table = {"ca-file": authority.certificate, "client-certificate": mine.certificate}
    lines = [f'{key} = "{path}"' for key, path in (table | {"client-key": mine.key}).items()]
    machine.settings("\n".join([f'[host."{host}"]', *lines]))
    machine.pull(host)


# Proxies


@pytest.fixture
def proxied(start: Start, machine: Machine, authority: Authority) -> Iterator[CompanyProxy]:
    """The proxy that stands before a registry with a login, whose name only it knows."""
    registry = start(NAME, htpasswd=True)
    machine.log_in(NAME)
    machine.settings(f'[host."{NAME}"]\nca-file = "{authority.certificate}"\n')
    with CompanyProxy(registry.host, login="me:pr0xy-s3cret") as proxy:
        yield proxy


def test_a_registry_behind_a_proxy(
    proxied: CompanyProxy, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    machine.environment.setenv("HTTPS_PROXY", f"http://me:pr0xy-s3cret@{proxied.host}")
    machine.pull(NAME)
    assert {asked.target for asked in proxied.log} == {f"{NAME}:443"}
    assert not any("authorization" in asked.headers for asked in proxied.log)
    assert "pr0xy" not in caplog.text


def test_a_proxy_that_wants_a_login_is_told_of(proxied: CompanyProxy, machine: Machine) -> None:
    machine.environment.setenv("HTTPS_PROXY", f"http://me:pr0xy-wr0ng@{proxied.host}")
    told = machine.pull(NAME, code=6)
    assert "407 Proxy Authentication Required" in told
    assert "(try: HTTPS_PROXY=http://USER:PASSWORD@PROXY:PORT)" in told
    assert "pr0xy" not in told


def test_no_proxy_is_heeded(proxied: CompanyProxy, machine: Machine) -> None:
    machine.environment.setenv("https_proxy", f"http://{proxied.host}")
    machine.environment.setenv("NO_PROXY", "lan,example")
    assert f"there is no host {NAME}" in machine.pull(NAME, code=6)
    assert proxied.log == ()


# Mirrors


@pytest.fixture
def cache(docker_registry: DockerRegistry) -> DockerRegistry:
    """A second registry that has the model under a prefix."""
    put(docker_registry.url, f"proxy/{MODEL}", "latest", build.ollama())
    return docker_registry


def test_a_mirror_by_option_by_table_and_by_environment(
    cache: DockerRegistry, machine: Machine
) -> None:
    """The registry itself is not even there."""
    url = f"http://{cache.host}/proxy"
    machine.pull(NAME, "--mirror", f"{NAME}={url}")
    machine.settings(f'[host."{NAME}"]\nmirrors = ["http://127.0.0.1:1", "{url}"]\n')
    machine.pull(NAME)
    machine.settings("")
    machine.environment.setenv("MODELPM_MIRROR", f"{NAME}={url}")
    machine.pull(NAME)


def test_a_mirror_that_lies_is_passed_over(
    start: Start, machine: Machine, authority: Authority
) -> None:
    registry = start(htpasswd=True)
    machine.log_in(registry.host)
    with Registry([{"path": "/blobs/", "flip": 10}]) as liar:
        liar.add(MODEL, "latest", build.ollama())
        machine.settings(
            f'[host."{registry.host}"]\n'
            f'ca-file = "{authority.certificate}"\n'
            f'mirrors = ["http://{liar.host}"]\n'
        )
        machine.pull(registry.host)
        assert liar.requests(path="/blobs/")
        assert not any(request.has_secret for request in liar.log)
