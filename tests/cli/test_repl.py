"""The chat, with a session that says what it was told."""

import io
import os
import readline
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelpm.cli import answers, repl
from modelpm.client import Client, Installed
from modelpm.errors import RunnerError
from modelpm.runner.engine import Finished
from tests.cli.models import HOSTILE, NEVER, Maker


class Parrot:
    """A session that repeats what it is asked, and notes what is done to it."""

    def __init__(self, model: Installed, log: list[object]) -> None:
        self._model = model
        self._log = log
        self._stopped = threading.Event()
        self.finished: Finished | None = None

    @property
    def model(self) -> Installed:
        return self._model

    def ask(self, text: str) -> Iterator[str]:
        self._log.append(text)
        self._stopped.clear()
        if text == "die":
            raise RunnerError(f"the engine died {HOSTILE}")
        if text in ("long", "deaf"):
            yield from self._talk(deaf=text == "deaf")
            return
        for word in text.split(" "):
            yield f"{word} "
        self.finished = Finished("stop", 5, 2, 3, 0.5, 0.0)

    def stop(self) -> None:
        self._log.append("stop")
        self._stopped.set()

    def reset(self) -> None:
        self._log.append("reset")

    def close(self) -> None:
        self._log.append("close")

    def _talk(self, *, deaf: bool) -> Iterator[str]:
        yield "once "
        os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and (deaf or not self._stopped.is_set()):
            time.sleep(0.01)
            if deaf and self._stopped.is_set():
                os.kill(os.getpid(), signal.SIGINT)
        yield "upon"


Talk = Callable[..., tuple[str, str, list[object]]]


@pytest.fixture
def talk(
    maker: Maker,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Talk:
    """Type lines into a chat: stdout, stderr, and what the session was told."""
    maker.put("tiny", system="its own", license="free")

    def call(
        *lines: str, system: str | None = None, verbose: bool = False, **parameters: object
    ) -> tuple[str, str, list[object]]:
        log: list[object] = []

        def open_session(given: dict[str, object], told: str | None) -> Parrot:
            log.append(("open", dict(given), told))
            return Parrot(Client(home).get("tiny"), log)

        typed = "".join(f"{line}\n" for line in lines)
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        chat = repl.Chat(open_session, parameters, system, verbose=verbose)
        chat.run()
        chat.close()
        out, err = capsys.readouterr()
        return out, err, log

    return call


def test_a_question_is_answered_until_the_end_of_the_input(talk: Talk) -> None:
    out, err, log = talk("hello there", "", "  ", "again")
    assert out == ">>> hello there \n\n>>> >>> >>> again \n\n>>> \n"
    assert err == "tiny:latest is ready (/? for help)\n"
    assert log == [("open", {}, None), "hello there", "again", "close"]


@pytest.mark.parametrize("bye", ["/bye", " /exit "])
def test_bye(talk: Talk, bye: str) -> None:
    assert talk(bye, "not asked")[2] == [("open", {}, None), "close"]


def test_what_the_model_says_is_escaped(talk: Talk) -> None:
    out, err, _ = talk(f"say {HOSTILE}", "die", "/x\x1b[2J")
    assert not NEVER & set(out + err)
    assert "\\x1b[2J" in out
    assert "Error: the engine died" in err


def test_after_an_error_the_chat_goes_on(talk: Talk) -> None:
    out, _, log = talk("die", "hello")
    assert "hello \n" in out
    assert log[1:] == ["die", "hello", "close"]


def test_verbose_tells_the_time(talk: Talk) -> None:
    assert talk("a b", verbose=True)[1].splitlines()[1:] == [
        "prompt: 3 tokens in 0.50 s, 6.0 tokens/s",
        "answer: 3 tokens in 0.00 s",
        "reused: 2 tokens of the prompt",
    ]


def test_several_lines_between_quotes(talk: Talk) -> None:
    out, _, log = talk('"""', "one", '  two"""', '"""three"""', 'say """ four')
    assert log[1:-1] == ["one\n  two", "three", 'say """ four']
    assert out.startswith(">>> ... ... one\n  two ")


def test_help_and_clear(talk: Talk) -> None:
    out, _, log = talk("/?", "/help", "/clear")
    assert out.count('"""') == 2
    assert "The conversation is forgotten." in out
    assert log[1] == "reset"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/nope", "there is no command /nope"),
        ("/set", "it is: /set system TEXT"),
        ("/set nope x", "it is: /set system TEXT"),
        ("/set parameter", "it is: /set system TEXT"),
        ("/set parameter seed", "it is: /set system TEXT"),
        ("/set parameter nope 1", "there is no parameter 'nope'"),
        ("/set parameter seed x", "the parameter seed is a whole number"),
        ("/show nope", "/show shows system"),
    ],
)
def test_a_wrong_command_is_told(talk: Talk, line: str, told: str) -> None:
    _, err, log = talk(line)
    assert f"Error: {told}" in err
    assert log == [("open", {}, None), "close"]


def test_a_path_is_a_question(talk: Talk) -> None:
    assert talk("/etc/passwd is what?", "/Users")[2][1:-1] == ["/etc/passwd is what?", "/Users"]


def test_setting_takes_effect_at_the_next_question(talk: Talk) -> None:
    out, _, log = talk(
        "/set parameter temperature 0.5",
        "/set parameter stop a b",
        "/set parameter stop c",
        "/set system be brief",
        "hi",
        '/set system """be',
        'long"""',
        "hi",
        seed=7,
    )
    assert "Set parameter. The conversation starts anew." in out
    parameters = {"seed": 7, "temperature": 0.5, "stop": ("a b", "c")}
    assert log == [
        ("open", {"seed": 7}, None),
        "close",
        ("open", parameters, "be brief"),
        "hi",
        "close",
        ("open", parameters, "be\nlong"),
        "hi",
        "close",
    ]


def test_showing(talk: Talk) -> None:
    out, _, _ = talk("/show", "/show info", "/show system", "/show license", "/show template")
    assert out.count("architecture") == 2
    assert "\n>>> its own\n>>> free\n>>> The model has no template.\n" in out
    out, _, _ = talk("/show system", "/show parameters", system="mine", seed=7)
    assert out == (">>> mine\n>>> The model has no parameters.\n\nSet here:\nseed    7\n>>> \n")


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(talk: Talk) -> None:
    out, _, log = talk("long", "next")
    assert out == ">>> once upon\n\n>>> next \n\n>>> \n"
    assert log == [("open", {}, None), "long", "stop", "next", "close"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_model_that_does_not_stop_is_given_up(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "PATIENCE", 0.2)
    out, err, log = talk("deaf", "next")
    assert "Given up. The conversation starts anew." in err
    assert "next \n" in out
    assert log[-4:] == ["close", ("open", {}, None), "next", "close"]


def test_ctrl_c_at_the_prompt_tells_how_to_leave(
    maker: Maker, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pressed:
        """The first line is Ctrl-C, the second Ctrl-D."""

        lines = 0

        def readline(self) -> str:
            self.lines += 1
            if self.lines == 1:
                raise KeyboardInterrupt
            return ""

    maker.put("tiny")
    monkeypatch.setattr(sys, "stdin", Pressed())
    chat = repl.Chat(lambda *_: Parrot(Client(home).get("tiny"), []), {}, None, verbose=False)
    chat.run()
    chat.close()
    assert capsys.readouterr().out == ">>> \nUse Ctrl-D or /bye to leave.\n>>> \n"


def test_the_history_is_kept_for_the_next_time_and_for_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    with repl.history(path):
        for number in range(repl.MAX_HISTORY + 10):
            readline.add_history(f"question {number}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    lines = path.read_text().splitlines()
    assert len(lines) <= repl.MAX_HISTORY + 1
    assert lines[-1] == f"question {repl.MAX_HISTORY + 9}"
    readline.clear_history()
    with repl.history(path):
        assert readline.get_current_history_length() >= repl.MAX_HISTORY
    readline.clear_history()


def test_a_history_that_cannot_be_kept_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with repl.history(tmp_path / "file" / "history"):
        readline.add_history("question")
    readline.clear_history()
    assert (tmp_path / "file").read_text() == ""


def test_the_history_lies_with_the_users_state(home: Path) -> None:
    assert repl.history_path().parent == Path(os.environ["XDG_STATE_HOME"]) / "modelpm"
