"""Docker's credential helpers: what they are told and asked, and that a broken one stops us."""

import stat
from pathlib import Path

import pytest

from modelpm.errors import AuthenticationError
from modelpm.registry.credential_helper import Helper
from modelpm.registry.credentials import Credential, Kind
from tests.registry.keepers import ECHO, SECRET, Vault, assert_untold, install, says


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def test_a_helper_gives_identity_tokens(bin_folder: Path) -> None:
    install(bin_folder, "x", says("<token>", "id"))
    expected = Credential("<token>", "id", Kind.IDENTITY_TOKEN)
    assert Helper("x", str(bin_folder)).get("reg.io") == expected


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_helper_that_knows_nothing_is_no_error(bin_folder: Path, stream: str) -> None:
    words = "credentials not found in native keychain"
    install(bin_folder, "x", f"print({words!r}, file=sys.{stream}); sys.exit(1)")
    assert Helper("x", str(bin_folder)).get("reg.io") is None


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
    (says("alice", f"\ud83d{SECRET}"), "or no text"),
]


@pytest.mark.parametrize(("body", "why"), BAD_HELPERS)
def test_a_helper_that_fails_stops_us(bin_folder: Path, body: str, why: str) -> None:
    install(bin_folder, "x", body)
    with pytest.raises(AuthenticationError) as caught:
        Helper("x", str(bin_folder)).get("reg.io")
    assert_untold(caught.value, SECRET)
    assert why in str(caught.value)
    assert "docker-credential-x" in str(caught.value)


def test_a_helper_that_hangs_is_ended(bin_folder: Path) -> None:
    install(bin_folder, "x", f"print({SECRET!r}, flush=True); time.sleep(60)")
    with pytest.raises(AuthenticationError, match=r"more than 0\.3 s") as caught:
        Helper("x", str(bin_folder), 0.3).get("reg.io")
    assert caught.value.__context__ is None


def test_a_helper_that_cannot_be_run_is_named(bin_folder: Path) -> None:
    path = bin_folder / "docker-credential-x"
    path.write_text("#!/nowhere/at/all\n")
    path.chmod(0o755)
    with pytest.raises(AuthenticationError, match="cannot be run"):
        Helper("x", str(bin_folder)).get("reg.io")


@pytest.mark.parametrize("name", ["../x", "a/b", "x;y", "x y", "", "x\n", "a" * 101])
def test_a_helper_has_a_plain_name(bin_folder: Path, name: str) -> None:
    install(bin_folder, "x", ECHO)
    with pytest.raises(AuthenticationError, match="not the name"):
        Helper(name, str(bin_folder)).get("reg.io")


def test_a_helper_that_anybody_can_write_is_refused(bin_folder: Path) -> None:
    path = install(bin_folder, "x", ECHO)
    path.chmod(path.stat().st_mode | stat.S_IWOTH)
    with pytest.raises(AuthenticationError, match="written by everybody"):
        Helper("x", str(bin_folder)).get("reg.io")


def test_helpers_are_looked_for_in_the_given_folders_only(bin_folder: Path) -> None:
    install(bin_folder, "x", ECHO)
    with pytest.raises(AuthenticationError, match="not installed"):
        Helper("x", str(bin_folder.parent)).get("reg.io")


ALICE = Credential("alice", SECRET)
TOKEN = Credential("alice", "an-identity", Kind.IDENTITY_TOKEN)


def test_a_helper_stores_and_erases(bin_folder: Path) -> None:
    vault = Vault(bin_folder)
    helper = Helper("vault", vault.search_path)
    assert helper.program == vault.program
    assert helper.get("reg.io") is None
    assert not helper.erase("reg.io")
    helper.store("reg.io", ALICE)
    helper.store("other.io", TOKEN)
    assert vault.entries["reg.io"] == {
        "ServerURL": "reg.io",
        "Username": "alice",
        "Secret": SECRET,
    }
    assert helper.get("reg.io") == ALICE
    assert helper.get("other.io") == Credential("<token>", "an-identity", Kind.IDENTITY_TOKEN)
    assert helper.erase("reg.io")
    assert helper.get("reg.io") is None
    assert list(vault.entries) == ["other.io"]


def test_what_a_helper_repeats_of_a_secret_is_not_told(bin_folder: Path) -> None:
    install(bin_folder, "x", "print(server); sys.exit(1)")
    with pytest.raises(AuthenticationError, match="saving credentials for") as caught:
        Helper("x", str(bin_folder)).store("reg.io", ALICE)
    assert_untold(caught.value, SECRET)
