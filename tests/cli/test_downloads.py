"""How much a download may take, and who says so."""

import time
from pathlib import Path

import click
import pytest
from registry import Registry

from modelpm.cli import downloads
from modelpm.cli.downloads import parse_rate
from modelpm.registry.limits import Limits
from tests.cli.conftest import Cli
from tests.cli.test_terminal import add


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("0", 0),
        ("0k", 0),
        ("1000", 1000),
        ("500k", 500_000),
        ("500K", 500_000),
        ("500kB", 500_000),
        ("10M", 10_000_000),
        ("10 MB/s", 10_000_000),
        (" 10mb ", 10_000_000),
        ("1.5G", 1_500_000_000),
        ("2T", 2_000_000_000_000),
        ("10Ki", 10_240),
        ("10MiB", 10 * 2**20),
        ("1.5 GiB/s", 3 * 2**29),
        ("2048B", 2048),
    ],
)
def test_rates(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    ["", "k", "-1", "+1k", "1e6", "10X", "10iB", "1 2k", "0x10", "\u0661k", "nan", "9" * 16, "999"],
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_rate(text)


def test_the_options_are_the_limits_of_the_client() -> None:
    assert downloads.limits(3, 5000) == Limits(connections=3, rate=5000)
    assert downloads.limits(downloads.CONNECTIONS, 0) == Limits()


@pytest.mark.parametrize("command", ["pull", "run"])
@pytest.mark.parametrize(
    ("option", "value"),
    [("connections", "0"), ("connections", "65"), ("connections", "x"), ("limit-rate", "fast")],
)
def test_a_wrong_one_is_a_usage_error_wherever_it_comes_from(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    option: str,
    value: str,
) -> None:
    arguments = (command, "127.0.0.1:1/team/tiny", *(["hello"] if command == "run" else []))
    told = cli(*arguments, f"--{option}", value)
    assert told.code == 2
    assert f"'--{option}'" in told.errors
    settings = tmp_path / "settings.toml"
    is_number = value.isdigit()
    settings.write_text(f"[{command}]\n{option} = {value if is_number else repr(value)}\n")
    assert cli(*arguments, "--config", str(settings)).code == 2
    monkeypatch.setenv(f"MODELPM_{command}_{option}".upper().replace("-", "_"), value)
    assert cli(*arguments).code == 2


def test_a_rate_is_kept(cli: Cli, loopback: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    name = add(loopback, "team/tiny", 400_000)
    monkeypatch.setenv("MODELPM_PULL_LIMIT_RATE", "500k")
    begin = time.monotonic()
    assert cli("pull", name, "--connections", "2").code == 0
    assert time.monotonic() - begin > 0.7


def test_the_help_tells_of_them(cli: Cli) -> None:
    for command in ("pull", "run"):
        text = " ".join(cli(command, "--help").output.split())
        assert "--connections N At most so many connections at once. [default: 8; 1<=x<=64]" in text
        assert "--limit-rate RATE At most so many bytes a second, as `500k`" in text
