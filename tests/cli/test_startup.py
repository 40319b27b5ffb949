"""What starting costs: which modules a command does not import."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.models import Maker

HEAVY = {"requests", "oras", "tqdm", "ctransformers", "urllib3", "cryptography", "numpy"}
SCRIPT = """
import json, sys
from modelpm.cli.main import run
code = run(sys.argv[1:])
sys.stdout.flush()
sys.stderr.write("\\n" + json.dumps([code, sorted(sys.modules)]))
"""


def imported(*arguments: str) -> set[str]:
    """The modules that are there when the command is done."""
    # Not measured: what measures imports things too.
    environment = {key: text for key, text in os.environ.items() if not key.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True,
        timeout=60,
        env=environment,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("show", "tiny"),
        ("show", "tiny", "--manifest"),
        ("path", "tiny"),
        ("cp", "tiny", "other"),
        ("rm", "tiny"),
        ("prune",),
        ("diff", "tiny", "tiny"),
        ("export", "tiny", "tiny-folder"),
    ],
)
def test_what_stays_on_this_machine_loads_nothing_heavy(
    maker: Maker, arguments: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    maker.put("tiny", license="free")
    loaded = imported(*arguments)
    assert not loaded & (HEAVY | {"platformdirs", "tomllib", "readline", "subprocess"})
    assert "modelpm.registry.client" not in loaded
    if arguments[0] not in ("show", "diff", "export"):
        assert "modelpm.model.gguf" not in loaded


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("-h",)])
def test_version_and_help_load_no_command(maker: Maker, arguments: Sequence[str]) -> None:
    loaded = imported(*arguments)
    assert not loaded & (HEAVY | {"platformdirs", "modelpm.client", "modelpm.oci.descriptor"})
    assert not [name for name in loaded if name.startswith("modelpm.cli.commands.")]
