"""The order of places: the first that has an entry decides, and a broken one stops us."""

import json
from pathlib import Path

import pytest

from modelpm.errors import AuthenticationError
from modelpm.registry.authfile import AuthFile, AuthText
from modelpm.registry.credentials import Credential, Given, Kind, Whose
from modelpm.registry.keychain import Keychain
from modelpm.registry.secret_file import SecretFile
from tests.registry.keepers import Vault, encoded, install


class Desk:
    """A keychain on files of its own: `own.json`, `docker.json`, `podman.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def own(self) -> AuthFile:
        return self._file("own", private=True)

    @property
    def docker(self) -> AuthFile:
        return self._file("docker")

    def _file(self, name: str, *, private: bool = False) -> AuthFile:
        path = self.folder / f"{name}.json"
        return AuthFile(SecretFile(path, private=private), str(self.folder / "bin"))

    def write(self, name: str, content: object) -> None:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(content))
        path.chmod(0o600)

    def says(self, name: str, user: str, host: str = "reg.io", **more: object) -> None:
        self.write(name, {"auths": {host: {"auth": encoded(f"{user}:x")}}, **more})

    def read(self, name: str) -> object:
        content: object = json.loads((self.folder / f"{name}.json").read_bytes())
        return content

    @property
    def chain(self) -> Keychain:
        own, docker = self.own, self.docker
        return Keychain([own, docker, self._file("podman")], own, [docker])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def user(chain: Keychain, repository: str = "team/tiny") -> str | None:
    found = chain.find("reg.io", repository)
    return None if found is None else found.username


def test_nobody_knows(desk: Desk) -> None:
    assert user(desk.chain) is None
    assert desk.chain.where("reg.io") is None
    assert desk.chain.trusted_realms("reg.io") == frozenset()
    assert desk.chain.forget("reg.io") == ()


def test_the_first_that_has_an_entry_decides(desk: Desk) -> None:
    for name in ("podman", "docker", "own"):
        desk.says(name, name)
        assert user(desk.chain) == name
        assert desk.chain.where("reg.io") == str(desk.folder / f"{name}.json")
    text = AuthText("TEXT", json.dumps({"auths": {"reg.io": {"auth": encoded("text:x")}}}))
    given = Given("reg.io", Credential("given", "x"), "GIVEN")
    chain = Keychain([given, text, desk.own], desk.own, [])
    assert (user(chain), chain.where("reg.io")) == ("given", "GIVEN")
    chain = Keychain([text, desk.own], desk.own, [])
    assert (user(chain), chain.where("reg.io")) == ("text", "TEXT")


def test_entries_without_credentials_leave_it_to_the_next(desk: Desk) -> None:
    desk.write("own", {"auths": {"reg.io": {"trustedRealm": "https://a.io"}}})
    desk.write("docker", {"auths": {"reg.io": {}}})
    desk.says("podman", "podman")
    assert user(desk.chain) == "podman"
    assert desk.chain.trusted_realms("reg.io") == {"https://a.io"}


def test_a_repository_of_an_earlier_place_is_before_a_host(desk: Desk) -> None:
    desk.says("own", "own", "reg.io/team")
    desk.says("docker", "docker")
    assert user(desk.chain) == "own"
    assert user(desk.chain, "other/tiny") == "docker"


BROKEN = ["sys.exit(3)", "print('no')", "import os; os.kill(os.getpid(), 9)"]


@pytest.mark.parametrize("body", BROKEN)
def test_a_failing_helper_is_never_passed_over(desk: Desk, body: str) -> None:
    install(desk.folder / "bin", "x", body)
    desk.says("docker", "docker", credsStore="x")
    desk.says("podman", "podman")
    with pytest.raises(AuthenticationError, match="docker-credential-x"):
        user(desk.chain)
    with pytest.raises(AuthenticationError, match="docker-credential-x"):
        desk.chain.forget("reg.io")


def test_what_a_failing_helper_does_not_keep_is_kept_nowhere(desk: Desk) -> None:
    install(desk.folder / "bin", "x", "sys.exit(3)")
    desk.write("docker", {"credsStore": "x"})
    with pytest.raises(AuthenticationError, match=r"saving .*: docker-credential-x failed"):
        desk.chain.save("reg.io", Credential("alice", "pw"), None)
    assert not (desk.folder / "own.json").exists()


def test_a_broken_file_is_never_passed_over(desk: Desk) -> None:
    desk.write("own", [])
    desk.says("docker", "docker")
    with pytest.raises(AuthenticationError, match=r"own\.json is not"):
        user(desk.chain)


def test_a_helper_that_knows_nothing_leaves_it_to_the_next_place(desk: Desk) -> None:
    Vault(desk.folder / "bin")
    desk.says("docker", "docker", credsStore="vault")
    desk.says("podman", "podman")
    assert user(desk.chain) == "podman"


def test_without_a_helper_the_own_file_keeps(desk: Desk) -> None:
    chain = desk.chain
    desk.says("docker", "docker")
    assert user(chain) == "docker"
    own = str(desk.folder / "own.json")
    assert chain.save("reg.io", Credential("alice", "pw"), "https://a.io") == own
    assert user(chain) == "alice"
    assert chain.trusted_realms("reg.io") == {"https://a.io"}
    assert chain.forget("reg.io") == (own,)
    assert user(chain) == "docker"
    assert chain.where("reg.io") == str(desk.folder / "docker.json")


def test_a_configured_helper_keeps_and_the_own_file_only_the_realm(desk: Desk) -> None:
    vault = Vault(desk.folder / "bin")
    desk.says("own", "stale")
    desk.write("docker", {"credHelpers": {"reg.io": "vault"}})
    chain = desk.chain
    assert user(chain) == "stale"
    assert chain.save("reg.io", Credential("alice", "pw"), "https://a.io") == vault.program
    assert desk.read("own") == {"auths": {"reg.io": {"trustedRealm": "https://a.io"}}}
    assert user(chain) == "alice"
    assert chain.where("reg.io") == vault.program
    assert chain.trusted_realms("reg.io") == {"https://a.io"}
    assert chain.save("other.io", Credential("bob", "pw"), None) == str(desk.folder / "own.json")
    assert chain.forget("reg.io") == (str(desk.folder / "own.json"), vault.program)
    assert user(chain) is None
    assert vault.entries == {}


def test_whose_a_credential_is_and_whether_a_login_would_replace_it(desk: Desk) -> None:
    assert desk.chain.whose("reg.io", "team/tiny") is None
    vault = Vault(desk.folder / "bin")
    desk.write("docker", {"credHelpers": {"reg.io": "vault"}})
    desk.chain.save("reg.io", Credential("alice", "pw"), None)
    assert desk.chain.whose("reg.io", "team/tiny") == Whose(vault.program)
    desk.says("own", "alice")
    own = desk.own
    assert desk.chain.whose("reg.io", "a") == Whose(str(desk.folder / "own.json"))
    given = Given("reg.io", Credential("bob", "pw"), "GIVEN")
    told = Keychain([given, own], own, []).whose("reg.io", "a")
    assert told == Whose("GIVEN", gives_way=False)


def test_a_helper_of_the_own_file_is_before_that_of_docker(desk: Desk) -> None:
    vault = Vault(desk.folder / "bin")
    other = Vault(desk.folder / "bin", "other")
    desk.write("own", {"credsStore": "vault"})
    desk.write("docker", {"credsStore": "other"})
    assert desk.chain.save("reg.io", Credential("alice", "pw"), None) == vault.program
    assert desk.chain.where("reg.io") == vault.program
    assert list(vault.entries) == ["reg.io"]
    assert other.entries == {}


def test_a_rotated_token_goes_where_the_old_one_was(desk: Desk) -> None:
    entry = {"auth": encoded("a:"), "identitytoken": "one"}
    desk.write("docker", {"auths": {"reg.io": entry}})
    desk.write("podman", {"auths": {"reg.io": entry}})
    chain = desk.chain
    old = chain.find("reg.io", "a")
    assert old == Credential("a", "one", Kind.IDENTITY_TOKEN)
    new = Credential("a", "two", Kind.IDENTITY_TOKEN)
    chain.rotated("reg.io", "a", old, new)
    assert desk.read("docker") == {"auths": {"reg.io": {**entry, "identitytoken": "two"}}}
    assert desk.read("podman") == {"auths": {"reg.io": entry}}
    assert chain.find("reg.io", "a") == new
    chain.rotated("reg.io", "a", old, Credential("a", "three", Kind.IDENTITY_TOKEN))
    assert chain.find("reg.io", "a") == new
    chain.rotated("none.io", "a", old, new)
    given = Keychain([Given("reg.io", old), desk.docker], desk.own, [])
    given.rotated("reg.io", "a", old, new)
    assert given.find("reg.io", "a") == old


def test_what_others_wrote_is_read_on_request(desk: Desk) -> None:
    chain = desk.chain
    given = Given("reg.io", Credential("given", "x"))
    assert user(chain) is None
    desk.says("docker", "docker")
    assert user(chain) is None
    chain.reread()
    assert user(chain) == "docker"
    Keychain([given, desk.own], desk.own, []).reread()
