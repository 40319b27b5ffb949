"""Pulling on a terminal: bars that end as whole lines, Ctrl-C, odd terminals, hostile servers."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gguf_writer import tiny_llama
from registry import Registry

from tests.cli.models import HOSTILE
from tests.cli.terminal import SOON, Screen, Terminal, assert_harmless

GGUF = "application/vnd.docker.ai.gguf.v3"
LICENSE = "application/vnd.docker.ai.license"
CONFIG = "application/vnd.docker.ai.model.config.v0.1+json"
SLOW = {"path": "/blobs/", "rate": 1_500_000}
INTERRUPTED = "interrupted; what has arrived is kept: run the same command again to go on"


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
    assert "total" not in terminal.text
    assert_harmless(terminal.text)


def test_where_several_layers_move_the_last_line_is_of_all(slow: Registry) -> None:
    begin = time.monotonic()
    with Terminal("pull", add(slow, "team/two", 2_000_000, 10, 2_100_000)) as terminal:
        assert terminal.wait() == 0
    seconds = time.monotonic() - begin
    moving = re.search(r"total: +\d+% ▕█.* [\d.]+ MB/ 4\.2 MB +[\d.]+ [KM]B/s +\d+s", terminal.text)
    assert moving, terminal.text
    assert terminal.screen[6].startswith("total: 100% ▕█")
    assert terminal.screen[6].endswith("▏  4.2 MB")
    assert 5 < terminal.frames < 12 * seconds
    assert len(terminal.raw) < 20_000 * seconds
    assert terminal.replayed.too_long == []
    assert_harmless(terminal.text)
    assert_stable(terminal)


def assert_stable(terminal: Terminal) -> None:
    """Each line stayed where it was, and none went back."""
    seen: dict[str, tuple[int, int]] = {}
    for picture in terminal.pictures:
        for row, line in enumerate(picture):
            found = re.match(r"(pulling [0-9a-f]{12}|total): +(\d+)%", line)
            if found and found[1] != "total":
                assert seen.get(found[1], (row, 0))[0] == row, picture
            if found:
                assert seen.get(found[1], (0, 0))[1] <= int(found[2]), picture
                seen[found[1]] = row, int(found[2])
    assert len(seen) > 2


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


@pytest.mark.parametrize("columns", [1, 20, 40, 60, 120, 400, 0])
def test_any_width_will_do(slow: Registry, columns: int) -> None:
    with Terminal("pull", add(slow, "team/tiny", 300_000), columns=columns) as terminal:
        assert terminal.wait() == 0
    assert "Error" not in terminal.text
    assert terminal.text.splitlines()[-1] == "success"
    if columns >= 40:
        assert terminal.replayed.too_long == []
    assert "total" not in terminal.text
    lines = [line for line in terminal.screen if line.startswith("pulling ") and "▕" in line]
    assert len(lines) == (3 if columns >= 40 or not columns else 0)
    assert all(len(line) < (columns or 81) for line in lines)
    assert all(len(line) <= 100 for line in lines)


def test_a_terminal_that_changes_its_size(slow: Registry) -> None:
    with Terminal("pull", add(slow, "team/tiny", 30_000_000), columns=100) as terminal:
        terminal.wait_for("MB/s")
        for columns in (50, 40, 120, 200, 99, 60):
            terminal.resize(columns, 24)
            terminal.read_for(0.15)
        terminal.resize(60, 3)  # room for two lines and the cursor
        terminal.read_for(0.15)
        terminal.resize(60, 24)
        terminal.read_for(0.3)
        terminal.press("\x03")
        assert terminal.wait() == 130
    bars = [line for line in terminal.screen if "%" in line]
    assert len(bars) == 3, terminal.screen
    assert all(len(bar) < 60 and "▏" in bar for bar in bars), bars
    assert terminal.screen[0] == "pulling manifest"
    assert terminal.text.splitlines()[-1] == INTERRUPTED
    assert_harmless(terminal.text.replace("^C", ""))


def test_interrupted_it_leaves_a_clean_terminal(slow: Registry) -> None:
    name = add(slow, "team/tiny", 30_000_000)
    with Terminal("pull", name) as terminal:
        terminal.wait_for("MB/s")
        begin = time.monotonic()
        terminal.press("\x03")
        assert terminal.wait() == 130
        assert time.monotonic() - begin < SOON
        assert terminal.modes == terminal.modes_before
    assert terminal.screen[-2:] == [INTERRUPTED, ""]
    assert "\x1b[?25" not in terminal.text  # the cursor was never hidden
    assert terminal.text.rindex("\x1b[?7h") > terminal.text.rindex("\x1b[?7l")
    assert not any("^C" in line for line in terminal.screen)
    assert "Traceback" not in terminal.text
    assert_harmless(terminal.text.replace("^C", ""))


def interrupted(name: str, *options: str, after: str) -> None:
    """Ctrl-C once this has been shown ends the pull soon, and all is in order."""
    with Terminal("pull", name, *options) as terminal:
        terminal.wait_for(after)
        begin = time.monotonic()
        terminal.press("\x03")
        assert terminal.wait() == 130
        assert time.monotonic() - begin < SOON
        assert terminal.modes == terminal.modes_before
    assert terminal.screen[-2:] == [INTERRUPTED, ""]
    assert not any("waiting" in line or "^C" in line for line in terminal.screen)


@pytest.mark.parametrize(
    ("rule", "options", "after"),
    [
        ({"status": 429, "headers": {"Retry-After": "60"}}, [], "waiting 1m00s: "),
        ({"stall": 0, "hold": 20}, [], "0 B/"),
        ({}, ["--limit-rate", "20k"], " KB/ 3.0 MB"),
    ],
)
def test_interrupted_while_it_waits(
    loopback: Registry, home: Path, rule: dict[str, object], options: list[str], after: str
) -> None:
    name = add(loopback, "team/tiny", 3_000_000)
    loopback.scenario = [{"path": "/blobs/", "skip": 1, **rule}]
    interrupted(name, *options, after=after)


@pytest.mark.parametrize("presses", [2, 5])
def test_impatience_does_no_harm(slow: Registry, presses: int) -> None:
    with Terminal("pull", add(slow, "team/tiny", 30_000_000)) as terminal:
        terminal.wait_for("MB/s")
        for _ in range(presses):
            terminal.press("\x03")
            time.sleep(0.05)
        assert terminal.wait() == 130
    assert "Traceback" not in terminal.text
    assert terminal.text.rindex("\x1b[?7h") > terminal.text.rindex("\x1b[?7l")


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


def test_a_wait_is_counted_down_below_the_bars(loopback: Registry, home: Path) -> None:
    name = add(loopback, "team/tiny", 200_000)
    busy = {"path": "/blobs/", "times": 2, "status": 429, "headers": {"Retry-After": "2"}}
    loopback.scenario = [busy]
    with Terminal("pull", name) as terminal:
        assert terminal.wait() == 0
    told = re.findall(rf"waiting (\d)s: ({re.escape(loopback.host)} answered 429)", terminal.text)
    assert {seconds for seconds, _ in told} == {"2", "1"}
    assert len(told) < 6, terminal.text
    assert not any("waiting" in line for line in terminal.screen)
    assert terminal.screen[-2] == "success"
    assert_harmless(terminal.text)


def test_a_wait_before_there_are_bars(loopback: Registry, home: Path) -> None:
    name = add(loopback, "team/tiny", 10)
    busy = {"path": "/manifests/", "times": 1, "status": 429, "headers": {"Retry-After": "1"}}
    loopback.scenario = [busy]
    with Terminal("pull", name) as terminal:
        assert terminal.wait() == 0
    assert "waiting 1s: " in terminal.text
    assert terminal.screen[0] == "pulling manifest"
    assert len([line for line in terminal.screen if "100%" in line]) == 3
    assert not any("waiting" in line for line in terminal.screen)


def test_the_second_process_says_that_it_waits_and_takes_over(slow: Registry) -> None:
    name = add(slow, "team/tiny", 60_000_000)
    with Terminal("pull", name) as first:
        first.wait_for("MB/s")
        with Terminal("pull", name) as second:
            second.wait_for("waiting: another process is fetching ")
            first.press("\x03")
            assert first.wait() == 130
            second.wait_for("MB/s")
            second.press("\x03")
            assert second.wait() == 130
    assert second.screen[-2] == INTERRUPTED
    assert not any("waiting" in line for line in second.screen)
    begun = [request.headers.get("range") for request in slow.requests("GET", "/blobs/")]
    assert sum(told is not None for told in begun) == 1, begun


def test_a_layer_that_begins_anew_says_why(loopback: Registry, home: Path) -> None:
    name = add(loopback, "team/tiny", 1_000_000)
    licence = max(loopback.content.blobs.items(), key=lambda item: len(item[1]))[0]
    wrong = {"path": licence, "times": 1, "flip": 5, "rate": 2_500_000}
    loopback.scenario = [wrong, {"path": licence, "rate": 2_500_000}]
    with Terminal("pull", name) as terminal:
        assert terminal.wait() == 0
    short = licence[7:19]
    assert terminal.screen[1] == f"pulling {short} again: its bytes were wrong"
    assert len([line for line in terminal.screen if f"pulling {short}: 100%" in line]) == 1
    percent = [int(each) for each in re.findall(rf"pulling {short}: +(\d+)%", terminal.text)]
    assert sorted(percent) != percent
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
    loopback.scenario = [{"path": "/manifests/", "delay": 30}]
    with Terminal("pull", name) as terminal:
        terminal.wait_for("pulling manifest")
        time.sleep(0.3)
        begin = time.monotonic()
        terminal.press("\x03")
        assert terminal.wait() == 130
        assert time.monotonic() - begin < SOON
    assert terminal.screen[-2] == INTERRUPTED


def test_what_tqdm_is_told_by_the_environment_does_no_harm(loopback: Registry, home: Path) -> None:
    name = add(loopback, "team/tiny", 10)
    with Terminal("pull", name, environment={"TQDM_DISABLE": "1", "TQDM_NCOLS": "5"}) as terminal:
        assert terminal.wait() == 0
    assert terminal.screen[-2] == "success"


@pytest.mark.parametrize(
    ("columns", "text", "shown", "too_long"),
    [
        (0, "a\r\nb\n\x1b[A\rc\n", ["a", "c", ""], []),
        (0, "abc\rx\x1b[J", ["x"], []),
        (0, "abc\rx\x1b[K\nd", ["x", " d"], []),
        (0, "one\ntwo\x1b[A\r\x1b[J1", ["1"], []),
        (3, "abc", ["abc"], []),
        (3, "abcd", ["abc", "d"], ["abc"]),
        (3, "\x1b[?7labcd\x1b[?7h\r\ne", ["abd", "e"], ["abc"]),
    ],
)
def test_the_screen_that_these_tests_believe_in(
    columns: int, text: str, shown: list[str], too_long: list[str]
) -> None:
    screen = Screen(columns)
    screen.write(text)
    assert screen.text == shown
    assert screen.too_long == too_long
