"""Where the value of an option comes from."""

from pathlib import Path

import platformdirs
import pytest

from modelpm.cli import options
from modelpm.store.layout import Store
from tests.cli.conftest import Cli
from tests.cli.models import Maker


def homes(folder: Path, *names: str) -> dict[str, str]:
    """Stores, each with one model of the store's name."""
    for name in names:
        Maker(Store(folder / name)).put(name)
    return {name: str(folder / name) for name in names}


def listed(cli: Cli, *arguments: str) -> str:
    result = cli(*arguments, "--json")
    assert result.code == 0, result.errors
    return str(result.json[0]["short_name"].partition(":")[0])


def test_the_strongest_source_wins(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = homes(tmp_path, "after", "before", "environment", "file")
    settings = tmp_path / "settings.toml"
    settings.write_text(f'home = "{store["file"]}"\n')
    monkeypatch.setenv("MODELPM_CONFIG", str(settings))
    monkeypatch.setenv("MODELPM_HOME", store["environment"])
    before, after = ("--home", store["before"]), ("--home", store["after"])
    assert listed(cli, *before, "list", *after) == "after"
    assert listed(cli, *before, "list") == "before"
    assert listed(cli, "list", *after) == "after"
    assert listed(cli, "list") == "environment"
    monkeypatch.delenv("MODELPM_HOME")
    assert listed(cli, "list") == "file"
    assert listed(cli, "ls") == "file"
    assert listed(cli, *before, "list") == "before"


def test_the_settings_file_may_be_named_before_and_after(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = homes(tmp_path, "one", "two")
    for name, folder in store.items():
        (tmp_path / f"{name}.toml").write_text(f'home = "{folder}"\n')
    one, two = (("--config", str(tmp_path / f"{name}.toml")) for name in store)
    monkeypatch.delenv("MODELPM_HOME")
    assert listed(cli, *one, "list") == "one"
    assert listed(cli, "list", *two) == "two"
    assert listed(cli, *one, "list", *two) == "two"
    monkeypatch.setenv("MODELPM_HOME", store["one"])
    assert listed(cli, "list", *two) == "one"


def test_the_default_settings_file_is_read_where_the_platform_keeps_settings(
    cli: Cli, maker: Maker, home: Path
) -> None:
    maker.put("tiny")
    assert options.default_path().parent == platformdirs.user_config_path("modelpm", False)
    assert cli("list").code == 0
    options.default_path().parent.mkdir(parents=True)
    options.default_path().write_text("json = true\n")
    assert cli("list").json[0]["short_name"] == "tiny:latest"
    options.default_path().write_text("[list]\njson = true\n")
    assert cli("ls").json[0]["short_name"] == "tiny:latest"
    assert "NAME" not in cli("path", "tiny").output


def test_a_default_registry_and_plain_hosts_from_the_environment(
    cli: Cli, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.put("ghcr.io/acme/tiny")
    monkeypatch.setenv("MODELPM_DEFAULT_REGISTRY", "ghcr.io/acme")
    monkeypatch.setenv("MODELPM_PLAIN_HTTP", "a.lan:1 b.lan:2")
    assert cli("list").lines[1].startswith("tiny:latest ")


def test_a_tilde_in_the_file_is_the_users_folder(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes(tmp_path, "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MODELPM_HOME")
    settings = tmp_path / "settings.toml"
    settings.write_text('home = "~/mine"')
    assert listed(cli, "list", "--config", str(settings)) == "mine"
    settings.write_text('home = "~nobody-has-this-name/mine"')
    assert cli("list", "--config", str(settings), "--json").json == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nope = 1", "there is no option 'nope'"),
        ("config = 'x'", "there is no option 'config'"),
        ("version = true", "there is no option 'version'"),
        ("help = true", "there is no option 'help'"),
        ("default_registry = 'x'", "there is no option 'default_registry'"),
        ("home = 1", "home is a string"),
        ("json = 'yes'", "json is true or false"),
        ("plain-http = 'a'", "plain-http is a list of strings"),
        ("plain-http = [1]", "plain-http is a list of strings"),
        ("[nope]\nx = 1", "'nope' is no command"),
        ("[ls]\njson = true", "'ls' is no command"),
        ("[run]\nnope = 1", "there is no option 'run.nope'"),
        ("[run]\nverbose = 1", "run.verbose is true or false"),
        ("[run]\nparameter = 'a=b'", "run.parameter is a list of strings"),
        ("[run]\nprompt = ['hello']", "there is no option 'run.prompt'"),
        ("[pull]\nconnections = '4'", "pull.connections is a whole number"),
        ("[pull]\nconnections = true", "pull.connections is a whole number"),
        ("[pull]\nlimit-rate = 4", "pull.limit-rate is a string"),
        ("a = ", "is not TOML"),
        ("a = " + "[" * 100_000, "is not TOML"),
        ("home = '\udcff'", "is not TOML"),
        ("'\\u001b[2J' = 1", "there is no option"),
        ("#" * 2**20 + "#", "has more than 1048576 bytes"),
    ],
)
def test_a_wrong_settings_file_is_a_usage_error(
    cli: Cli, tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text, errors="surrogateescape")
    for arguments in (("--config", str(path), "list"), ("list", "--config", str(path))):
        result = cli(*arguments)
        assert result.code == 2
        assert str(path) in result.errors
        assert told in result.errors
        assert "\x1b" not in result.errors
    assert cli("list", "--config", str(path), "--json").json["error"]["code"] == 2


def test_a_settings_file_that_was_named_must_be_there(cli: Cli, tmp_path: Path) -> None:
    result = cli("list", "--config", str(tmp_path / "none.toml"))
    assert result.code == 2
    assert f"{tmp_path / 'none.toml'} cannot be read: No such file or directory" in result.errors
    assert cli("--config", str(tmp_path), "list").code == 2
