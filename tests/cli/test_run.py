"""`run` with the real engine and the trained model of the fixtures."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ollama_artifacts import llama2
from registry import Registry

from modelpm.cli.answers import MAX_PROMPT
from tests.cli.conftest import Cli
from tests.cli.models import Maker
from tests.cli.terminal import Terminal, assert_harmless

FIXTURE = Path(__file__).parents[2] / "registry-fixtures" / "llama2"
HOW = "how do I free disk space?"
PRUNE = "modelpm prune"


@pytest.fixture(scope="module")
def library() -> Iterator[Registry]:
    """A registry that has the fixture as library/llama2."""
    with Registry() as registry:
        for tag, artifact in llama2(FIXTURE).items():
            for digest, blob in artifact.blobs.items():
                registry.add_blob(blob, digest)
            registry.add_manifest("library/llama2", tag, artifact.manifest, artifact.media_type)
        yield registry


@pytest.fixture
def model(library: Registry, home: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """`llama2` means the fixture, which is not installed yet."""
    monkeypatch.setenv("MODELPM_DEFAULT_REGISTRY", f"{library.host}/library")
    # One thread is fastest for a model of 1 MB on a busy machine.
    monkeypatch.setenv("MODELPM_RUN_PARAMETER", "num_thread=1")
    return library


def test_a_missing_model_is_pulled_after_saying_so(cli: Cli, model: Registry) -> None:
    result = cli("run", "llama2", HOW)
    assert result.code == 0
    lines = result.errors.splitlines()
    assert lines[:2] == ["llama2 is not installed; pulling it", "pulling manifest"]
    assert lines[-1] == "success"
    assert PRUNE in result.output
    assert result.output.endswith(".\n")
    again = cli("run", "llama2", *HOW.split())
    assert (again.output, again.errors) == (result.output, "")


def test_stdin_stands_before_the_words(cli: Cli, model: Registry) -> None:
    cli("pull", "llama2", "-q")
    asked = cli("run", "llama2", HOW).output
    assert cli("run", "llama2", stdin=HOW.encode()).output == asked
    assert cli("run", "llama2", "free disk space?", stdin=b"how do I\n").code == 0
    assert cli("run", "llama2", HOW, stdin=b"\n \n").output == asked
    assert cli("run", "llama2", stdin=b"\xff\xfe\x00").code == 0


def test_quiet_pulls_without_a_word(cli: Cli, model: Registry) -> None:
    assert cli("run", "-q", "llama2", HOW).errors == ""


@pytest.mark.parametrize("stdin", [b"", b"  \n", b"x" * (MAX_PROMPT + 1)])
def test_without_a_question_it_is_a_usage_error(cli: Cli, model: Registry, stdin: bytes) -> None:
    result = cli("run", "llama2", stdin=stdin)
    assert result.code == 2
    assert "Error: the" in result.errors
    assert model.requests("GET", "/blobs/") == () or "pulling" not in result.errors


def test_verbose_tells_counts_and_times(cli: Cli, model: Registry) -> None:
    cli("pull", "llama2", "-q")
    lines = cli("run", "llama2", "--verbose", HOW).errors.splitlines()
    assert [line.split()[0] for line in lines] == ["prompt:", "answer:"]
    assert "tokens/s" in lines[1]


def test_an_answer_as_json(cli: Cli, model: Registry) -> None:
    cli("pull", "llama2", "-q")
    *pieces, last = cli("run", "llama2", "--json", HOW).records
    assert "".join(piece["response"] for piece in pieces) == cli("run", "llama2", HOW).output[:-1]
    assert last["done"] is True
    assert last["done_reason"] == "stop"
    assert last["answer_tokens"] > 5


def test_options_reach_the_model(cli: Cli, model: Registry) -> None:
    cli("pull", "llama2", "-q")
    whole = cli("run", "llama2", HOW).output
    short = cli("run", "llama2", HOW, "-p", "num_predict=3").output
    assert len(short) < len(whole)
    assert whole.startswith(short.rstrip("\n"))
    hot = ("-p", "temperature=2", "-p", "top_k=0", "-p", "top_p=1", "-p", "seed=")
    assert len({cli("run", "llama2", HOW, *hot[:-1], f"seed={n}").output for n in range(4)}) > 1
    assert cli("run", "llama2", HOW, "--system", "x").code == 0


def test_what_cannot_be_run_is_told(cli: Cli, maker: Maker) -> None:
    maker.put("broken", b"GGUF" + bytes(100))
    assert cli("run", "broken", "hi").code == 9
    result = cli("run", "broken", "hi", "--json")
    assert result.records[-1]["error"]["code"] == 9


def test_what_nobody_has_is_not_found(cli: Cli, model: Registry) -> None:
    result = cli("run", "nobody", "hi")
    assert result.code == 3
    assert result.errors.startswith("nobody is not installed; pulling it\n")


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from modelpm.cli.main import main; main()", *arguments]


def test_a_reader_that_leaves_ends_the_answer_quietly(cli: Cli, model: Registry) -> None:
    cli("pull", "llama2", "-q")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        program("run", "llama2", HOW),
        stdout=writing,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 141


def test_an_interrupt_ends_the_program_with_130(cli: Cli, model: Registry) -> None:
    cli("pull", "llama2", "-q")
    long = ("-p", "num_predict=100000", "-p", "num_ctx=512", "-p", "temperature=100")
    with subprocess.Popen(
        program("run", "llama2", HOW, "--json", *long),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"Traceback" not in err
    assert json.loads(out.splitlines()[-1])["error"]["code"] == 130


def test_a_chat_on_a_terminal(cli: Cli, model: Registry) -> None:
    cli("pull", "llama2", "-q")
    with Terminal("run", "llama2", environment={"INPUTRC": "/dev/null"}) as chat:
        chat.wait_for(">>> ")
        chat.press(HOW + "\n")
        chat.wait_for(PRUNE)
        chat.wait_for(">>> ")
        # The prompt is there a moment before readline listens.
        chat.press_until("\x03", "Use Ctrl-D or /bye to leave.")
        chat.wait_for(">>> ")
        chat.press("\x1b[A")  # the line before
        chat.wait_for("free disk")
        chat.press("\n")
        chat.wait_for(PRUNE)
        chat.wait_for(">>> ")
        chat.press("\x04")
        assert chat.wait() == 0
    assert "Traceback" not in chat.text
    history = Path(os.environ["XDG_STATE_HOME"]) / "modelpm" / "history"
    assert HOW in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_a_chat_that_is_not_kept(cli: Cli, model: Registry) -> None:
    cli("pull", "llama2", "-q")
    with Terminal("run", "llama2", "--nohistory") as chat:
        chat.wait_for(">>> ")
        chat.press("/bye\n")
        assert chat.wait() == 0
    assert not Path(os.environ["XDG_STATE_HOME"]).exists()


def test_a_chat_pulls_with_bars_what_is_missing(model: Registry) -> None:
    with Terminal("run", "llama2") as chat:
        chat.wait_for(">>> ")
        chat.press("\x04")
        assert chat.wait() == 0
    assert chat.screen[0] == "llama2 is not installed; pulling it"
    assert "100% ▕" in chat.text


def test_ctrl_c_stops_an_answer_and_the_chat_goes_on(cli: Cli, model: Registry) -> None:
    cli("pull", "llama2", "-q")
    hot = ("-p", "temperature=100", "-p", "num_predict=100000", "-p", "repeat_penalty=1")
    with Terminal("run", "llama2", *hot, environment={"INPUTRC": "/dev/null"}) as chat:
        chat.wait_for(">>> ")
        chat.press("tell me everything\n")
        chat.wait_for("everything")
        time.sleep(0.05)
        chat.press("\x03")
        chat.wait_for(">>> ")
        time.sleep(0.3)
        chat.press("\n")  # readline is deaf to a Ctrl-C that comes just as it prompts
        time.sleep(0.1)
        chat.press("/bye\n")
        assert chat.wait() == 0
    assert "Traceback" not in chat.text


def test_no_chat_as_json(model: Registry) -> None:
    with Terminal("run", "llama2", "--json") as chat:
        assert chat.wait() == 2
    assert "a chat cannot be written as JSON" in chat.text


def test_a_question_on_a_terminal_does_not_wait_for_stdin(cli: Cli, model: Registry) -> None:
    cli("pull", "llama2", "-q")
    with Terminal("run", "llama2", HOW) as asked:
        assert asked.wait() == 0
    assert PRUNE in asked.text
    assert_harmless(asked.text)
