"""The README is true: its commands run, its table is the program's help, its paths exist."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import build
import click
import pytest
from docker_registry import PASSWORD, USER, DockerRegistry
from ollama_artifacts import llama2
from registry import Registry

from modelpm.cli.main import ALIASES, COMMANDS, Program
from modelpm.cli.options import GLOBAL
from tests.conftest import require

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MODELPM = [sys.executable, "-m", "modelpm"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands(block: str) -> list[list[str]]:
    """Each `$ …` line of a console block, without its comment."""
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in block.splitlines()]


@pytest.fixture
def registry(loopback: Registry) -> Registry:
    for tag, artifact in llama2(Path(build.__file__).parent / "llama2").items():
        loopback.content.add("library/llama2", tag, artifact)
    return loopback


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(registry: Registry, tmp_path: Path) -> Run:
    """Runs a command of the tour to its good end."""
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "MODELPM_HOME": str(tmp_path / "home"),
        "MODELPM_AUTH_FILE": str(tmp_path / "auth.json"),
        "MODELPM_DEFAULT_REGISTRY": f"{registry.host}/library",
        "MODELPM_CONFIG": str(tmp_path / "none.toml"),
    }
    (tmp_path / "none.toml").touch()

    def once(*words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*MODELPM, *words],
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
        )
        assert done.returncode == 0, (words, done.stderr)
        return done

    return once


def test_the_tour_runs_as_it_is_written(run: Run, tmp_path: Path) -> None:
    (tour,) = (block for block in blocks("console") if "modelpm prune" in block)
    lines = commands(tour)
    assert len(lines) > 8
    for words in lines:
        if words[1] == "run" and len(words) == 3:
            continue  # a chat, which wants a terminal
        done = run(*words[1:])
        if words[1] == "run":
            assert "modelpm prune" in done.stdout
    assert list((tmp_path / "home" / "blobs" / "sha256").iterdir()) == []


def test_the_tour_of_a_private_registry_runs_as_it_is_written(run: Run, tmp_path: Path) -> None:
    """With what else is typed at a terminal: name, password, and a yes."""
    require("docker-registry")
    (tour,) = (block for block in blocks("console") if "modelpm login" in block)
    told = []
    with DockerRegistry(tmp_path / "registry", htpasswd=True) as private:
        for words in commands(tour.replace("registry.lan:5000", private.host)):
            if words[1] == "login":
                run(*words[1:], "--username", USER, "--password-stdin", stdin=f"{PASSWORD}\n")
            elif words[1] == "rm":
                run(*words[1:], "--yes")
            else:
                told.append((words[1], run(*words[1:]).stdout))
    results = dict(told)
    digest = re.escape(f"{private.host}/team/llama2@sha256:") + "[0-9a-f]{64}\n"
    assert re.fullmatch(digest, results["push"])
    assert re.fullmatch(digest, results["mirror"])
    assert results["tags"] == "latest\n"
    assert results["list"] == f"{private.host}/team/llama2\n"


def test_the_python_example_runs(registry: Registry, tmp_path: Path) -> None:
    (example,) = blocks("python")
    home = f"modelpm.Client({str(tmp_path / 'home')!r}, default_registry='{registry.host}/library')"
    code = example.replace("modelpm.Client()", home)
    assert code != example
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "weights" in done.stdout


def test_the_settings_example_is_accepted(tmp_path: Path) -> None:
    (example,) = blocks("toml")
    (tmp_path / "config.toml").write_text(example)
    options = ["--config", str(tmp_path / "config.toml"), "--home", str(tmp_path / "home")]
    done = subprocess.run([*MODELPM, *options, "list"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_is_in_the_table_with_its_options() -> None:
    rows = dict(re.findall(r"^\| `([a-z]+)[^|]*\| (.*) \|$", README, re.MULTILINE))
    assert set(COMMANDS) == set(rows)
    for alias, name in ALIASES.items():
        assert re.search(rf"`{name}[^|]*\(`{alias}`\)", README)
    program = Program("modelpm")
    for name, told in rows.items():
        command = program.get_command(click.Context(program), name)
        assert command is not None
        own = {option for parameter in command.params for option in parameter.opts}
        row = next(line for line in README.splitlines() if line.startswith(f"| `{name}"))
        for option in re.findall(r"--[a-z-]+", row):
            assert option in own, (name, option)
        assert told


def test_every_global_option_is_named() -> None:
    names = {
        option
        for parameter in GLOBAL
        for option in parameter.opts
        if option.startswith("--") and option not in ("--help", "--version")
    }
    for name in names:
        assert name in README, name


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:`|\$ )make ([a-z]+)", README))))
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_paths_in_the_design_exist() -> None:
    for path in ("modelpm/errors.py", "registry-fixtures", "modelpm/content.py", ".ci/run"):
        assert (ROOT / path).exists()
