"""Completion: the scripts, and what bash gets from them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.models import Maker

_ASK = """
modelpm() {{ {python} -c 'from modelpm.cli.main import main; main()' "$@"; }}
export -f modelpm
eval "$(modelpm completion bash)"
COMP_LINE={line!r}
COMP_POINT=${{#COMP_LINE}}
COMPREPLY=()
_modelpm_completion modelpm "" "" 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(cli: Cli, shell: str) -> None:
    result = cli("completion", shell)
    assert result.code == 0
    assert f"_MODELPM_COMPLETE={shell}_complete" in result.output
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=result.raw, check=True, timeout=30)


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("modelpm pru", ["prune"]),
        ("modelpm show al", ["alpha:latest"]),
        ("modelpm show beta:", ["1", "2"]),
        ("modelpm show beta:1", ["1"]),
        ("modelpm show registry.ollama.ai/library/al", ["registry.ollama.ai/library/alpha:latest"]),
        ("modelpm show none", [""]),
        ("modelpm rm beta:1 al", ["alpha:latest"]),
        ("modelpm show --man", ["--manifest"]),
        ("modelpm completion ", ["bash", "zsh", "fish"]),
        ("modelpm pus", ["push"]),
        ("modelpm mir", ["mirror"]),
        ("modelpm ta", ["tags"]),
        ("modelpm push al", ["alpha:latest"]),
        ("modelpm mirror --no", ["--no-referrers"]),
        ("modelpm rm --rem", ["--remote"]),
    ],
)
def test_bash_completes_commands_options_and_names(
    maker: Maker, tmp_path: Path, line: str, replies: list[str]
) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    for name in ("alpha", "beta:1", "beta:2"):
        maker.put(name)
    script = _ASK.format(python=sys.executable, line=line)
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == replies, done.stderr


def test_a_store_that_cannot_be_read_completes_to_nothing(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    (home / "index.json").write_text("[]")
    monkeypatch.setenv("_MODELPM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_LINE", "modelpm show ")
    result = cli()
    assert (result.output.strip(), result.errors) == ("", "")
    monkeypatch.setenv("_MODELPM_COMPLETE", "nonsense")
    assert cli().code == 1
