"""An engine in a child process: whatever happens there is an answer or a RunnerError here."""

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from modelpm.errors import RunnerError
from modelpm.runner import wire, worker
from modelpm.runner.ctransformers import unavailable
from modelpm.runner.engine import Evaluated, Facts, Finished, Piece, Sampling, Settings
from modelpm.runner.worker import Patience, Worker
from tests.runner import test_child
from tests.runner.conftest import children
from tests.runner.models import Recipe

Make = Callable[[Recipe], Facts]

TALKER = Recipe(speaks=tuple("helo."), context=64)
PUPPET = "tests.runner.engines"
IMPATIENT = Patience(load=0.5, step=0.5, stop=0.5, close=0.5)
needs_engine = pytest.mark.skipif(bool(unavailable()), reason="no ctransformers on this machine")
posix = pytest.mark.skipif(os.name != "posix", reason="signals and sessions of POSIX")


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    return test_child.facts(path)


@pytest.fixture
def puppet(facts: Facts) -> Iterator[Worker]:
    with Worker(PUPPET) as each:
        each.load(facts, Settings())
        yield each


@pytest.fixture
def impatient(facts: Facts) -> Iterator[Worker]:
    """A worker that soon takes silence for a hang."""
    with Worker(PUPPET, patience=replace(IMPATIENT, load=30)) as each:
        each.load(facts, Settings())
        yield each


def said(engine: Worker, prompt: str, sampling: Sampling | None = None) -> str:
    events = engine.generate(prompt, sampling or Sampling())
    return "".join(event.text for event in events if isinstance(event, Piece))


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process that nobody here waits for is dead, at most so much later."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat")
            if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.01)
    return False


@contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """Ctrl-C after so many seconds."""
    target = threading.main_thread().ident
    timer = threading.Timer(seconds, signal.pthread_kill, [target, signal.SIGINT])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


# What it does.


def test_it_loads_counts_and_answers(puppet: Worker) -> None:
    assert puppet.context_length == 64
    assert puppet.count("日本") == 2
    assert list(puppet.generate("hi", Sampling(seed=3))) == [
        Evaluated(1, 2),
        Piece("hi 3"),
        Piece(""),
        Finished("stop", 2, 1, 4, 0.5, 0.25),
    ]
    assert said(puppet, "again") == "again None"


def test_a_long_answer_arrives_whole(puppet: Worker) -> None:
    assert said(puppet, "long") == "日😀" * 50_000


def test_texts_survive_the_way(puppet: Worker) -> None:
    assert said(puppet, 'a"\n\0\u2028\ud800日') == 'a"\n\0\u2028\ud800日 None'


def test_a_refusal_is_told_and_the_child_lives(puppet: Worker) -> None:
    pid = puppet.pid
    with pytest.raises(RunnerError, match="will not"):
        said(puppet, "refuse")
    with pytest.raises(RunnerError, match="will not"):
        puppet.count("refuse")
    assert said(puppet, "hi") == "hi None"
    assert puppet.pid == pid


def test_a_request_past_the_bound_is_refused(puppet: Worker) -> None:
    with pytest.raises(RunnerError, match="too long"):
        puppet.count("x" * wire.MAX_REQUEST)
    assert puppet.count("x") == 1


def test_each_model_has_a_child_of_its_own(puppet: Worker, facts: Facts) -> None:
    pid = puppet.pid
    puppet.load(facts, Settings(context_length=7))
    assert puppet.pid != pid
    assert puppet.context_length == 7


def test_it_can_be_closed_twice_and_started_again(facts: Facts) -> None:
    engine = Worker(PUPPET)
    engine.close()
    engine.start()
    engine.start()
    engine.load(facts, Settings())
    engine.close()
    engine.close()
    assert engine.pid is None
    assert engine.context_length == 0
    engine.stop()
    engine.kill()
    with pytest.raises(RunnerError, match="load a model first"):
        engine.count("x")
    engine.load(facts, Settings())
    assert engine.count("x") == 1
    engine.close()


def test_no_two_answers_at_once(puppet: Worker) -> None:
    first = puppet.generate("slow", Sampling())
    next(first)
    with pytest.raises(RunnerError, match="in the middle of an answer"):
        said(puppet, "hi")
    first.close()
    assert said(puppet, "hi") == "hi None"


def test_an_interpreter_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RunnerError, match="cannot start a process"):
        Worker(PUPPET, python="/no/such/python").start()


# What the child is given.


def test_no_secret_is_in_its_environment(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELPM_PASSWORD", "hunter2")
    with Worker(PUPPET, environment={"GIVEN": "1"}) as engine:
        engine.load(facts, Settings())
        environment = ast.literal_eval(said(engine, "environment"))
    assert environment.pop("GIVEN") == "1"
    assert set(environment) <= {"LC_CTYPE"}


@posix
def test_it_is_bounded(puppet: Worker, facts: Facts) -> None:
    core, file, memory = ast.literal_eval(said(puppet, "limits"))
    assert core == file == 0
    assert sys.platform != "linux" or 2**32 <= memory <= 2**38


@posix
def test_it_is_isolated_and_in_a_session_of_its_own(puppet: Worker) -> None:
    assert ast.literal_eval(said(puppet, "flags")) == (1, 1, True)


@needs_engine
def test_it_loads_no_network_library(puppet: Worker) -> None:
    modules = ast.literal_eval(said(puppet, "modules"))
    assert "ctransformers.llm" in modules
    assert not {"huggingface_hub", "requests", "click", "socket"} & {*modules}


def test_what_the_engine_prints_reaches_nobody(
    puppet: Worker, capfd: pytest.CaptureFixture[str]
) -> None:
    assert said(puppet, "noise") == "quiet"
    assert said(puppet, "hi") == "hi None"
    assert capfd.readouterr() == ("", "")


# Stopping.


@pytest.mark.parametrize("where", ["thread", "iterator"])
def test_a_stop_ends_the_answer_soon(puppet: Worker, where: str) -> None:
    events = puppet.generate("slow", Sampling())
    next(events)
    assert next(events) == Piece("x")
    asked = time.monotonic()
    if where == "thread":
        thread = threading.Thread(target=puppet.stop)
        thread.start()
        *_, last = events
        thread.join()
        assert isinstance(last, Finished)
        assert last.reason == "stopped"
    else:
        events.close()
    assert time.monotonic() - asked < 2
    assert said(puppet, "hi") == "hi None"


def test_a_stop_between_answers_changes_nothing(puppet: Worker) -> None:
    puppet.stop()
    assert said(puppet, "hi") == "hi None"
    puppet.stop()
    events = list(puppet.generate("hi", Sampling()))
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "stop"


@posix
def test_ctrl_c_ends_the_answer_and_not_the_child(puppet: Worker) -> None:
    pid = puppet.pid
    with interrupted(0.2), pytest.raises(KeyboardInterrupt):
        said(puppet, "slow")
    assert said(puppet, "hi") == "hi None"
    with interrupted(0.2), pytest.raises(KeyboardInterrupt):
        puppet.count("slow")
    assert puppet.count("hi") == 2
    assert puppet.pid == pid


@posix
def test_ctrl_c_while_loading_ends_the_child(facts: Facts) -> None:
    engine = Worker(PUPPET, patience=IMPATIENT)
    with interrupted(0.2), pytest.raises(KeyboardInterrupt):
        engine.load(replace(facts, name="hang"), Settings())
    assert engine.pid is None


@posix
def test_a_second_ctrl_c_ends_the_child(facts: Facts) -> None:
    with Worker(PUPPET) as engine:
        engine.load(facts, Settings())
        with interrupted(0.6), interrupted(0.2), pytest.raises(KeyboardInterrupt):
            said(engine, "hang")
        assert engine.pid is None


@posix
def test_ctrl_c_after_a_stop_ends_the_child_at_once(puppet: Worker) -> None:
    timer = threading.Timer(0.2, puppet.stop)
    timer.start()
    began = time.monotonic()
    with interrupted(0.5), pytest.raises(KeyboardInterrupt):
        said(puppet, "hang")
    assert time.monotonic() - began < 3
    assert puppet.pid is None
    timer.join()


def test_a_child_that_does_not_stop_is_ended(impatient: Worker) -> None:
    events = impatient.generate("hang", Sampling())
    next(events)
    events.close()
    assert impatient.pid is None


def test_kill_ends_whatever_it_does(puppet: Worker) -> None:
    timer = threading.Timer(0.2, puppet.kill)
    timer.start()
    with pytest.raises(RunnerError, match=r"was ended while running puppet$"):
        said(puppet, "hang")
    timer.join()


# What may go wrong.


@pytest.mark.parametrize(
    ("order", "words"),
    [
        pytest.param("crash", "died with SIGSEGV while {} {}: the file is damaged", marks=posix),
        ("leave", "left with status 3 while {} {}"),
        ("fail", "left with status 1 while {} {}"),
        ("hang", "hung while {} {}: not a word for 0.5 s"),
        ("close", "while {} {}"),
        ("no json", "nonsense"),
        ("no object", "nonsense"),
        ("no number", "nonsense"),
        ("deep", "nonsense"),
        ("endless", "nonsense"),
    ],
)
def test_the_end_of_a_child_is_an_error(facts: Facts, order: str, words: str) -> None:
    patience = IMPATIENT if order == "hang" else replace(IMPATIENT, load=30, step=30)
    with Worker(PUPPET, patience=patience) as engine:
        engine.start()
        time.sleep(0.3 if order == "hang" else 0)  # to get ready is no hang
        with pytest.raises(RunnerError) as caught:
            engine.load(replace(facts, name=order), Settings())
        assert words.format("loading", order) in str(caught.value)
        assert caught.value.exit_code == 9
        assert engine.pid is None
        engine.load(facts, Settings())
        with pytest.raises(RunnerError) as caught:
            said(engine, order)
        assert words.format("running", "puppet") in str(caught.value)
        engine.load(facts, Settings())
        assert said(engine, "hi") == "hi None"


def test_words_that_are_no_event_end_the_child(puppet: Worker) -> None:
    with pytest.raises(RunnerError, match="nonsense"):
        said(puppet, "no event")
    assert puppet.pid is None


def test_the_last_words_are_told_and_no_more(puppet: Worker) -> None:
    with pytest.raises(RunnerError, match="goodbye\ufffd") as caught:
        said(puppet, "leave")
    assert len(str(caught.value)) < worker.LAST_WORDS + 200


@posix
def test_a_child_that_will_not_leave_is_killed(facts: Facts) -> None:
    engine = Worker(PUPPET, patience=replace(IMPATIENT, load=30))
    engine.load(facts, Settings())
    pid = engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    engine.close()
    assert gone(pid, 0.1)


def test_closing_from_elsewhere_ends_an_answer(puppet: Worker) -> None:
    events = puppet.generate("slow", Sampling())
    next(events)
    thread = threading.Thread(target=puppet.close)
    thread.start()
    thread.join()
    with pytest.raises(RunnerError, match="closed while running puppet"):
        list(events)


_PARENT = """
import sys, time
sys.path[:] = sys.argv[4:]
from modelpm.runner.engine import Sampling, Settings
from modelpm.runner.worker import Patience, Worker
from tests.runner.test_child import facts
from pathlib import Path
engine = Worker("tests.runner.engines", patience=Patience(stop=0.5))
engine.start()
if sys.argv[2] != "start":
    engine.load(facts(Path(sys.argv[1])), Settings())
if sys.argv[2] == "hang":
    answer = engine.generate("hang", Sampling())
    next(answer)
print(engine.pid, flush=True)
if sys.argv[3] == "leave":
    sys.exit()
time.sleep(60)
"""


@posix
@pytest.mark.parametrize("end", ["leave", "kill"])
@pytest.mark.parametrize("doing", ["start", "load", "hang"])
def test_the_child_ends_with_its_parent(facts: Facts, doing: str, end: str) -> None:
    command = [sys.executable, "-c", _PARENT, facts.path, doing, end, *filter(None, sys.path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if end == "kill":
            parent.kill()
        assert gone(pid)


# The real engine.


@needs_engine
def test_a_real_model_answers(model: Make) -> None:
    with Worker() as engine:
        engine.load(model(TALKER), Settings())
        assert engine.context_length == 64
        assert engine.count("hello") == 2
        assert said(engine, "a", Sampling(0, stop=("o.h",), seed=1)) == "hel"


def damaged(facts: Facts, path: Path, size: int) -> Facts:
    path.write_bytes(Path(facts.path).read_bytes()[:size])
    return replace(facts, path=str(path), name="broken")


def ran(engine: Worker, facts: Facts) -> str:
    engine.load(facts, Settings())
    return said(engine, "hello", Sampling(num_predict=5))


@needs_engine
@posix
@pytest.mark.parametrize("size", [30, 100, 2000])
def test_a_header_cut_short_is_an_error(model: Make, tmp_path: Path, size: int) -> None:
    cut = damaged(model(Recipe()), tmp_path / "cut.gguf", size)
    with Worker() as engine:
        with pytest.raises(RunnerError, match=r"died with SIG\w+ while loading broken|cannot load"):
            ran(engine, cut)
        assert ran(engine, model(TALKER)) == "helo."


@needs_engine
@pytest.mark.parametrize("eighths", range(1, 8))
def test_weights_cut_short_hurt_nobody_but_the_child(
    model: Make, tmp_path: Path, eighths: int
) -> None:
    whole = model(Recipe(width=256))
    size = Path(whole.path).stat().st_size * eighths // 8
    with Worker() as engine:
        with suppress(RunnerError):  # or it answers from zeros: that is for the gate to refuse
            ran(engine, damaged(whole, tmp_path / "cut.gguf", size))
        assert ran(engine, model(TALKER)) == "helo."


@needs_engine
@posix
def test_a_tensor_type_that_aborts_is_an_error(model: Make) -> None:
    recipe = Recipe(quantization="IQ2_XXS", width=256)
    with Worker() as engine:
        engine.load(model(recipe), Settings())
        with pytest.raises(RunnerError, match=r"died with SIGABRT.*GGML_ASSERT"):
            said(engine, "hello")


@needs_engine
@posix
def test_a_vocabulary_that_crashes_is_an_error(model: Make) -> None:
    lie = model(Recipe(vocabulary="bpe"))
    lie = replace(lie, vocabulary=replace(lie.vocabulary, kind="llama"))
    with Worker() as engine, pytest.raises(RunnerError, match=r"died with SIG\w+"):
        ran(engine, lie)


@needs_engine
def test_a_refused_model_is_not_seen_by_the_engine(model: Make) -> None:
    with Worker() as engine, pytest.raises(RunnerError, match="BPE vocabulary"):
        engine.load(model(Recipe(vocabulary="bpe")), Settings())


def test_no_child_is_left() -> None:
    assert not children()
