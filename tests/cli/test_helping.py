"""Help fits the terminal."""

import pytest

from modelpm.cli.main import COMMANDS
from tests.cli.conftest import Cli


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_help_is_no_wider_than_the_terminal(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in (["--help"], *([name, "--help"] for name in COMMANDS)):
        result = cli(*command)
        assert result.code == 0
        wide = [line for line in result.lines if len(line) > min(columns, 100)]
        assert [line for line in wide if "completion bash" not in line] == [], command


def test_on_a_narrow_terminal_a_meaning_stands_below_its_option(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = cli("rm", "--help").lines
    assert lines[lines.index("  --dry-run") + 1] == "          Only say what would be"
    monkeypatch.setenv("COLUMNS", "80")
    assert "  --dry-run   Only say what would be deleted." in cli("rm", "--help").lines
    monkeypatch.setenv("COLUMNS", "7")
    assert max(map(len, cli("prune", "--help").lines)) <= 40
