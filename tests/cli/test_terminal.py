"""Pulling on a terminal: bars that end as whole lines, Ctrl-C, odd terminals, hostile servers."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gguf_writer import tiny_llama
from registry import Registry

from tests.cli.models import HOSTILE
from tests.cli.terminal import Terminal, assert_harmless, screen

GGUF = "application/vnd.docker.ai.gguf.v3"
LICENSE = "application/vnd.docker.ai.license"
CONFIG = "application/vnd.docker.ai.model.config.v0.1+json"
SLOW = {"path": "/blobs/", "rate": 1_500_000}


def add(registry: Registry, name: str, *sizes: int) -> str:
    """A model with licences of these sizes; its full name."""
    blob = b'{"config": {"format": "gguf"}}'
    config = {"mediaType": CONFIG, "digest": registry.add_blob(blob), "size": len(blob)}
    layers = [(GGUF, tiny_llama())]
    layers += [(LICENSE, bytes([number]) * size) for number, size in enumerate(sizes)]
    registry.add_artifact(name, "latest", layers, config=config)
    return f"{registry.host}/{name}"


@pytest.fixture
def slow(home: Path) -> Iterator[Registry]:
    """A registry that gives each connection 1.5 MB a second."""
    with Registry(scenario=[SLOW]) as registry:
        yield registry


def test_a_line_a_layer_ends_whole_and_in_its_place(slow: Registry) -> None:
    with Terminal("pull", add(slow, "team/tiny", 1_000_000, 10, 0), columns=80) as terminal:
        assert terminal.wait() == 0
    lines = terminal.screen
    assert lines[0] == "pulling manifest"
    assert lines[6:] == ["verifying sha256 digest", "writing manifest", "success", ""]
    bar = re.compile(r"pulling [0-9a-f]{12}: 100% ▕█+▏ +([\d.]+ [KM]?B)")
    sizes = [match[1] for line in lines[1:6] if (match := bar.fullmatch(line))]
    assert sorted(sizes) == ["0 B", "1.0 MB", "10 B", "30 B", "51 KB"]
    assert len({len(line) for line in lines[1:6]}) == 1
    assert max(map(len, lines)) <= 80
    moving = re.search(r" \d\d% ▕[^▏]+ *▏ +\d+ KB/ 1\.0 MB +1\.\d MB/s +\ds", terminal.text)
    assert moving, terminal.text
    assert_harmless(terminal.text)


def test_what_is_here_already_is_a_whole_bar_at_once(loopback: Registry, home: Path) -> None:
    name = add(loopback, "team/tiny", 10)
    for _ in range(2):
        with Terminal("pull", name) as terminal:
            assert terminal.wait() == 0
        bars = [line for line in terminal.screen if "100%" in line]
        assert len(bars) == 3
        assert terminal.screen[-2:] == ["success", ""]
    assert len(loopback.requests("GET", "/blobs/")) == 3


def test_many_layers_share_a_line(loopback: Registry, home: Path) -> None:
    name = add(loopback, "team/many", *range(1, 16))
    with Terminal("pull", name) as terminal:
        assert terminal.wait() == 0
    bars = [line for line in terminal.screen if "▕" in line]
    assert len(bars) == 1
    assert re.fullmatch(r"pulling 17 layers: 100% ▕█+▏   51 KB", bars[0])


def test_so_do_more_layers_than_the_terminal_has_rows(loopback: Registry, home: Path) -> None:
    name = add(loopback, "team/tiny", *range(1, 6))
    with Terminal("pull", name, rows=8) as terminal:
        assert terminal.wait() == 0
    assert "pulling 7 layers: 100%" in terminal.text


@pytest.mark.parametrize("columns", [1, 20, 40, 80, 200, 400, 0])
def test_any_width_will_do(slow: Registry, columns: int) -> None:
    with Terminal("pull", add(slow, "team/tiny", 300_000), columns=columns) as terminal:
        assert terminal.wait() == 0
    assert "Error" not in terminal.text
    assert terminal.screen[-2] == "success"
    bars = [line for line in terminal.screen if line.startswith("pulling ") and "%" in line]
    if columns in (1, 20):  # no room for more than a name
        assert not bars
    else:
        assert len(bars) == 3
    if columns >= 40:
        assert all(len(bar) <= min(columns, 200) for bar in bars)


def test_a_terminal_that_changes_its_width(slow: Registry) -> None:
    with Terminal("pull", add(slow, "team/tiny", 1_500_000), columns=100) as terminal:
        terminal.wait_for("MB/s")
        for columns in (50, 120, 60):
            terminal.resize(columns, 24)
            time.sleep(0.15)
        assert terminal.wait() == 0
    bars = terminal.screen[-7:-4]
    assert all(len(bar) <= 60 and "100%" in bar for bar in bars), bars
    assert_harmless(terminal.text)


def test_interrupted_it_leaves_a_clean_terminal_within_a_second(slow: Registry) -> None:
    name = add(slow, "team/tiny", 30_000_000)
    with Terminal("pull", name) as terminal:
        terminal.wait_for("MB/s")
        begin = time.monotonic()
        terminal.press("\x03")
        assert terminal.wait() == 130
        assert time.monotonic() - begin < 1.5
    assert terminal.screen[-2:] == ["interrupted; run the same command again to go on", ""]
    assert "Traceback" not in terminal.text
    assert_harmless(terminal.text.replace("^C", ""))


@pytest.mark.parametrize("presses", [2, 5])
def test_impatience_does_no_harm(slow: Registry, presses: int) -> None:
    with Terminal("pull", add(slow, "team/tiny", 30_000_000)) as terminal:
        terminal.wait_for("MB/s")
        for _ in range(presses):
            terminal.press("\x03")
            time.sleep(0.05)
        assert terminal.wait() == 130
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize(
    "environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}, {"LC_ALL": "C"}, {"COLUMNS": "x"}]
)
def test_odd_terminals(loopback: Registry, home: Path, environment: dict[str, str]) -> None:
    name = add(loopback, "team/tiny", 10)
    with Terminal("pull", name, environment=environment) as terminal:
        assert terminal.wait() == 0
    assert terminal.screen[-2] == "success"
    assert ("\x1b" in terminal.text) == (environment.get("TERM") != "dumb")


def test_a_terminal_without_block_characters_gets_others(loopback: Registry, home: Path) -> None:
    name = add(loopback, "team/tiny", 10)
    with Terminal("pull", name, environment={"PYTHONIOENCODING": "ascii"}) as terminal:
        assert terminal.wait() == 0
    assert re.search(r"100% \|#+\|    10 B", terminal.text)
    assert terminal.text.isascii()


def test_waiting_is_told_above_the_bars(loopback: Registry, home: Path) -> None:
    name = add(loopback, "team/tiny", 200_000)
    busy = {"path": "/blobs/", "times": 1, "status": 503, "headers": {"Retry-After": "1"}}
    loopback.scenario = [busy]
    with Terminal("pull", name) as terminal:
        assert terminal.wait() == 0
    assert any(line.startswith("waiting 1s: ") for line in terminal.screen)
    assert terminal.screen[-2] == "success"
    assert_harmless(terminal.text)


def test_a_hostile_server_reaches_no_terminal(loopback: Registry, home: Path) -> None:
    message = "".join(f"\\u{ord(char):04x}" for char in HOSTILE if ord(char) < 0x10000)
    body = f'{{"errors":[{{"code":"DENIED\\u001b[2J","message":"{message}"}}]}}'
    loopback.scenario = [{"status": 403, "body": body, "headers": {"X-Evil": "\\x1b[2J"}}]
    with Terminal("pull", f"{loopback.host}/team/tiny") as terminal:
        assert terminal.wait() in (4, 6)
    assert "\\x1b[2J" in terminal.text
    assert_harmless(terminal.text)


def test_interrupted_before_anything_came(loopback: Registry, home: Path) -> None:
    name = add(loopback, "team/tiny")
    loopback.scenario = [{"path": "/manifests/", "delay": 8}]
    with Terminal("pull", name) as terminal:
        terminal.wait_for("pulling manifest")
        time.sleep(0.3)
        begin = time.monotonic()
        terminal.press("\x03")
        assert terminal.wait() == 130
        assert time.monotonic() - begin < 2
    assert terminal.screen[-2] == "interrupted; run the same command again to go on"


def test_what_tqdm_is_told_by_the_environment_does_no_harm(loopback: Registry, home: Path) -> None:
    name = add(loopback, "team/tiny", 10)
    with Terminal("pull", name, environment={"TQDM_DISABLE": "1", "TQDM_NCOLS": "5"}) as terminal:
        assert terminal.wait() == 0
    assert terminal.screen[-2] == "success"


def test_the_screen_that_these_tests_believe_in() -> None:
    assert screen("a\r\nb\n\x1b[A\rc\n") == ["a", "c", ""]
    assert screen("abc\rx\x1b[J") == ["x"]
    assert screen("one\ntwo\x1b[A\r\x1b[J1") == ["1"]
