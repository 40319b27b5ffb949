"""Passwords, docker tokens and private certificates, against the real docker-registry."""

import base64
import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import build
import pytest
import requests
from certificates import Authority
from docker_registry import PASSWORD, USER, DockerRegistry, JwtServer, put
from requests.auth import AuthBase

from modelpm.client import Client
from modelpm.content import read, read_manifest
from modelpm.errors import AuthenticationError, RegistryError
from modelpm.registry.authfile import AuthFile
from modelpm.registry.client import RegistryClient
from modelpm.registry.credentials import Credential, Kind
from modelpm.registry.hosts import Hosts, HostSettings
from modelpm.registry.keychain import Keychain
from modelpm.registry.login import Prepared
from modelpm.registry.repository import Repository
from modelpm.registry.secret_file import SecretFile
from tests.conftest import require
from tests.live.conftest import Copy

pytestmark = pytest.mark.live

ALICE = Credential(USER, PASSWORD)
MALLORY = Credential(USER, "wr0ng")
IDENTITY = Credential("<token>", "an-identity-token", Kind.IDENTITY_TOKEN)


class Always:
    """Knows one credential for everything."""

    def __init__(self, credential: Credential | None) -> None:
        self._credential = credential

    def find(self, host: str, repository: str) -> Credential | None:
        return self._credential


class WithToken(AuthBase):
    """Shows a token of a token server for one repository."""

    def __init__(self, tokens: JwtServer, repository: str) -> None:
        query = {"service": "x", "scope": f"repository:{repository}:pull,push"}
        answer = requests.get(tokens.realm, query, auth=(USER, PASSWORD), timeout=10)
        self._token = answer.json()["token"]

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A registry with htpasswd, and team/tiny in it."""
    require("docker-registry")
    with DockerRegistry(tmp_path_factory.mktemp("htpasswd"), htpasswd=True) as registry:
        put(registry.url, "team/tiny", "latest", build.ollama(), auth=(USER, PASSWORD))
        yield registry


def pull(home: Path, name: str, credential: Credential | None, **options: Any) -> str:
    with Client(home, credentials=Always(credential), **options) as client:
        return str(client.pull(name).digest)


def test_a_password_opens_the_registry(locked: DockerRegistry, tmp_path: Path) -> None:
    assert pull(tmp_path, f"{locked.host}/team/tiny", ALICE) == build.ollama().digest


@pytest.mark.parametrize("credential", [None, MALLORY])
def test_nothing_else_does(
    locked: DockerRegistry, tmp_path: Path, credential: Credential | None
) -> None:
    with pytest.raises(AuthenticationError) as caught:
        pull(tmp_path / "home", f"{locked.host}/team/tiny", credential)
    assert MALLORY.secret not in str(caught.value)


def test_docker_config_holds_the_password(locked: DockerRegistry, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    path.write_text(json.dumps({"auths": {locked.host: {"auth": auth}}}))
    credentials = AuthFile(SecretFile(path, private=False), "")
    with Client(tmp_path / "home", credentials=credentials) as client:
        assert str(client.pull(f"{locked.host}/team/tiny").digest) == build.ollama().digest


@pytest.fixture(scope="module")
def tokens() -> Iterator[JwtServer]:
    """A token server whose tokens the registry takes."""
    with JwtServer({USER: PASSWORD}) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(
    tokens: JwtServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DockerRegistry]:
    """A registry with docker tokens, and two repositories in it."""
    require("docker-registry")
    with DockerRegistry(tmp_path_factory.mktemp("tokens"), tokens=tokens) as registry:
        for name in ("team/tiny", "team/other"):
            put(registry.url, name, "latest", build.ollama(), auth=WithToken(tokens, name))
        yield registry


def trusting(tokens: JwtServer, guarded: DockerRegistry, credential: Credential) -> RegistryClient:
    """A client that may show this credential to the token server."""
    return RegistryClient(
        guarded.host,
        credentials=Always(credential),
        hosts=Hosts(HostSettings(trusted_realms=frozenset([tokens.url]))),
    )


@pytest.mark.parametrize("credential", [ALICE, IDENTITY], ids=["password", "identity token"])
def test_a_token_opens_each_repository(
    guarded: DockerRegistry, tokens: JwtServer, credential: Credential
) -> None:
    tokens.refresh_tokens[IDENTITY.secret] = USER
    tokens.clear()
    with contextlib.closing(trusting(tokens, guarded, credential)) as client:
        for name in ("team/tiny", "team/other"):
            repository = Repository(client, name)
            manifest = read_manifest(repository, repository.resolve("latest"))
            assert [len(read(repository, layer)) for layer in manifest.layers] == [
                layer.size for layer in manifest.layers
            ]
    assert {request.status for request in tokens.log} == {200}
    assert len(tokens.log) == 2


def test_a_password_is_not_shown_to_a_realm_elsewhere(
    guarded: DockerRegistry, tokens: JwtServer, tmp_path: Path
) -> None:
    tokens.clear()
    with pytest.raises(AuthenticationError, match="another server"):
        pull(tmp_path, f"{guarded.host}/team/tiny", ALICE)
    assert tokens.log == ()


def test_an_anonymous_token_lets_pull(guarded: DockerRegistry, tmp_path: Path) -> None:
    assert pull(tmp_path, f"{guarded.host}/team/tiny", None) == build.ollama().digest


def test_a_wrong_password_gets_no_token(guarded: DockerRegistry, tokens: JwtServer) -> None:
    with contextlib.closing(trusting(tokens, guarded, MALLORY)) as client:
        with pytest.raises(AuthenticationError) as caught:
            Repository(client, "team/tiny").resolve("latest")
        assert MALLORY.secret not in str(caught.value)


def test_an_authority_of_ones_own_is_named(tmp_path: Path) -> None:
    require("docker-registry")
    authority = Authority(tmp_path)
    with DockerRegistry(tmp_path / "registry", tls=authority.issue()) as registry:
        put(registry.url, "team/tiny", "latest", build.ollama(), verify=str(authority.certificate))
        name = f"{registry.host}/team/tiny"
        with pytest.raises(RegistryError, match="certificate"):
            pull(tmp_path / "home", name, None)
        trust = Hosts(HostSettings(ca_file=str(authority.certificate)))
        digest = pull(tmp_path / "home", name, None, hosts=trust)
        assert digest == build.ollama().digest


def own(path: Path) -> Keychain:
    """The credentials that a user has who has nothing but modelpm's own file."""
    file = AuthFile(SecretFile(path, private=True), "")
    return Keychain([file], file, [])


def test_login_opens_a_registry_with_passwords(locked: DockerRegistry, tmp_path: Path) -> None:
    keychain = own(tmp_path / "auth.json")
    with Client(tmp_path / "home", credentials=keychain) as client:
        with pytest.raises(AuthenticationError, match=r"wrong name or password \(401"):
            client.login(locked.host, Prepared(USER, MALLORY.secret), keychain)
        assert not (tmp_path / "auth.json").exists()
        done = client.login(locked.host, Prepared(USER, PASSWORD), keychain)
        assert (done.username, done.place) == (USER, str(tmp_path / "auth.json"))
        assert str(client.pull(f"{locked.host}/team/tiny").digest) == build.ollama().digest
        assert client.logout(locked.host, keychain) == (done.place,)
    with (
        Client(tmp_path / "other", credentials=own(tmp_path / "auth.json")) as client,
        pytest.raises(AuthenticationError),
    ):
        client.pull(f"{locked.host}/team/tiny")


def test_login_opens_a_registry_with_tokens(
    guarded: DockerRegistry, tokens: JwtServer, tmp_path: Path
) -> None:
    keychain = own(tmp_path / "auth.json")
    with Client(tmp_path / "home", credentials=keychain) as client:
        person = Prepared(USER, PASSWORD, [tokens.url])
        assert client.login(guarded.host, person, keychain).kind is Kind.IDENTITY_TOKEN
    tokens.clear()
    with Client(tmp_path / "home", credentials=own(tmp_path / "auth.json")) as client:
        assert str(client.pull(f"{guarded.host}/team/tiny").digest) == build.ollama().digest
    assert {(request.method, request.status) for request in tokens.log} == {("POST", 200)}


def test_a_registry_that_lets_everybody_in_needs_no_login(
    docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    keychain = own(tmp_path / "auth.json")
    with Client(tmp_path / "home", credentials=keychain) as client:
        done = client.login(docker_registry.host, Prepared(USER, PASSWORD), keychain)
    assert done.place == ""
    assert not (tmp_path / "auth.json").exists()


def test_skopeo_and_modelpm_read_each_others_files(
    locked: DockerRegistry, run_skopeo: Copy, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    keychain = own(ours)
    with Client(tmp_path / "home", credentials=keychain) as client:
        client.login(locked.host, Prepared(USER, PASSWORD), keychain)
    source = f"docker://{locked.host}/team/tiny:latest"
    done = run_skopeo("inspect", "--raw", "--tls-verify=false", "--authfile", str(ours), source)
    assert hashlib.sha256(done.stdout).hexdigest() in build.ollama().digest
    account = ("--username", USER, "--password", PASSWORD)
    run_skopeo("login", "--tls-verify=false", "--authfile", str(theirs), *account, locked.host)
    read_by_us = AuthFile(SecretFile(theirs, private=False), "")
    assert read_by_us.find(locked.host, "team/tiny") == ALICE
    keychain.save("other.example", ALICE, "https://auth.example")
    run_skopeo("logout", "--authfile", str(ours), locked.host)
    assert own(ours).find(locked.host, "team/tiny") is None
    assert own(ours).find("other.example", "team/tiny") == ALICE


def test_a_token_that_ends_in_the_middle_is_fetched_anew(tmp_path: Path) -> None:
    require("docker-registry")
    with (
        JwtServer({USER: PASSWORD}, lifetime=2, told=60) as tokens,
        DockerRegistry(tmp_path / "registry", tokens=tokens) as registry,
    ):
        put(
            registry.url, "team/tiny", "latest", build.ollama(), auth=WithToken(tokens, "team/tiny")
        )
        tokens.clear()
        with contextlib.closing(trusting(tokens, registry, ALICE)) as client:
            repository = Repository(client, "team/tiny")
            manifest = read_manifest(repository, repository.resolve("latest"))
            time.sleep(3.1)  # times are rounded to seconds
            layer = manifest.layers[0]
            assert len(read(repository, layer)) == layer.size
        # A busy machine may need more than the two seconds of one for what is asked with it.
        assert {request.status for request in tokens.log} == {200}
        assert 2 <= len(tokens.log) <= 4


def test_a_mount_is_let_through_by_one_token_for_both_repositories(
    guarded: DockerRegistry, tokens: JwtServer, tmp_path: Path
) -> None:
    keychain = own(tmp_path / "auth.json")
    with Client(tmp_path / "home", credentials=keychain) as client:
        client.login(guarded.host, Prepared(USER, PASSWORD, [tokens.url]), keychain)
        client.pull(f"{guarded.host}/team/tiny")
        tokens.clear()
        client.push(f"{guarded.host}/team/tiny", f"{guarded.host}/team/mounted")
    scopes = [parse_qs(request.body.decode())["scope"][0] for request in tokens.log]
    wanted = {"repository:team/mounted:pull,push", "repository:team/tiny:pull"}
    assert wanted in [set(text.split()) for text in scopes]
    assert {request.status for request in tokens.log} == {200}
    with Client(tmp_path / "other", credentials=own(tmp_path / "auth.json")) as client:
        assert str(client.pull(f"{guarded.host}/team/mounted").digest) == build.ollama().digest


def test_a_push_goes_on_when_its_tokens_end(tmp_path: Path) -> None:
    require("docker-registry")
    keychain = own(tmp_path / "auth.json")
    with (
        JwtServer({USER: PASSWORD}, lifetime=2, told=60, rotates=True) as tokens,
        DockerRegistry(tmp_path / "registry", tokens=tokens) as registry,
        Client(tmp_path / "home", credentials=keychain) as client,
    ):
        pushing = WithToken(tokens, "team/tiny")
        put(registry.url, "team/tiny", "latest", build.ollama(), auth=pushing)
        client.login(registry.host, Prepared(USER, PASSWORD, [tokens.url]), keychain)
        client.pull(f"{registry.host}/team/tiny")
        client.push(f"{registry.host}/team/tiny", f"{registry.host}/team/first")
        time.sleep(3.1)
        client.push(f"{registry.host}/team/tiny", f"{registry.host}/team/first:again")
        credential = keychain.find(registry.host, "team/tiny")
        assert credential is not None
        assert credential.secret in tokens.refresh_tokens
