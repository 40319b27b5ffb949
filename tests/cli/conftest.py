"""The command line, called in this process with a home and an environment of its own."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelpm.cli.main import run
from modelpm.store.layout import Store
from tests.cli.models import Maker

_FOLDERS = (
    "HOME",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "DOCKER_CONFIG",
)
_CREDENTIALS = (
    "MODELPM_REGISTRY",
    "MODELPM_USERNAME",
    "MODELPM_PASSWORD",
    "MODELPM_AUTH_FILE",
    "DOCKER_AUTH_CONFIG",
    "REGISTRY_AUTH_FILE",
)


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    raw: bytes
    errors: str

    @property
    def output(self) -> str:
        return self.raw.decode()

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def records(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]


Cli = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store's folder. Nothing of the real user's folders and environment is seen."""
    for name in _FOLDERS:
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    for name in _CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODELPM_HOME", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def cli(
    home: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    """Run a command line in this process."""
    del home

    def call(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsysbinary.readouterr()
        code = run(arguments)
        captured = capsysbinary.readouterr()
        return Result(code, captured.out, captured.err.decode())

    return call


@pytest.fixture
def maker(home: Path) -> Maker:
    """Puts models into the store."""
    return Maker(Store(home))
