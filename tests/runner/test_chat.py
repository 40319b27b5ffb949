"""A conversation with an engine that counts words: what it remembers, and what it forgets."""

from collections.abc import Callable, Generator, Sequence

import pytest

from modelpm.errors import RunnerError
from modelpm.runner import chat
from modelpm.runner.chat import Conversation, Message
from modelpm.runner.engine import Evaluated, Event, Facts, Finished, Piece, Sampling, Settings


class Scripted:
    """Says what it was given to say; a token is a word."""

    context_length = 40

    def __init__(self, *answers: Sequence[str]) -> None:
        self.prompts: list[str] = []
        self.stopped = False
        self._answers = iter(answers)

    def load(self, facts: Facts, settings: Settings) -> None:
        raise RunnerError("nothing to load")

    def count(self, prompt: str) -> int:
        return len(prompt.split())

    def generate(self, prompt: str, sampling: Sampling) -> Generator[Event, None, None]:
        self.prompts.append(prompt)
        self.stopped = False
        yield Evaluated(1, 1)
        answer = next(self._answers)
        reason = "stop"
        for piece in answer:
            if self.stopped:
                reason = "stopped"
                break
            if piece == "crash":
                raise RunnerError("the engine died")
            yield Piece(piece)
        if self.stopped:
            reason = "stopped"
        yield Finished(reason, self.count(prompt), 0, len(answer), 0.0, 0.0)

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self.context_length = 0


def render(messages: Sequence[Message]) -> str:
    return " ".join(f"{message.role[0]}: {message.content}" for message in messages)


def test_each_question_comes_with_all_before_it() -> None:
    engine = Scripted(["one", "", " two"], ["three"])
    talk = Conversation(engine, render, system="be brief")
    assert list(talk.ask("a")) == ["one", " two"]
    assert talk.finished == Finished("stop", 5, 0, 3, 0.0, 0.0)
    assert "".join(talk.ask("b")) == "three"
    assert engine.prompts == ["s: be brief u: a", "s: be brief u: a a: one two u: b"]
    assert talk.history == (
        Message("system", "be brief"),
        Message("user", "a"),
        Message("assistant", "one two"),
        Message("user", "b"),
        Message("assistant", "three"),
    )


def test_the_space_of_a_first_word_is_remembered_and_not_shown() -> None:
    talk = Conversation(Scripted(["", " ", " a", " b"]), render)
    assert list(talk.ask("q")) == ["", " a", " b"]
    assert talk.history[-1] == Message("assistant", "  a b")


def test_without_a_system_message_there_is_none() -> None:
    talk = Conversation(Scripted(["x"]), render)
    assert "".join(talk.ask("a")) == "x"
    assert talk.history == (Message("user", "a"), Message("assistant", "x"))


def test_reset_goes_back_to_the_opening() -> None:
    engine = Scripted(["x"], ["y"])
    opening = [Message("user", "hi"), Message("assistant", "hello")]
    talk = Conversation(engine, render, opening=opening)
    list(talk.ask("a"))
    talk.reset()
    assert talk.history == tuple(opening)
    list(talk.ask("b"))
    assert engine.prompts[-1] == "u: hi a: hello u: b"


@pytest.mark.parametrize("how", ["close", "stop"])
def test_a_stopped_answer_is_remembered(how: str) -> None:
    engine = Scripted(["one", " two", " three"])
    talk = Conversation(engine, render)
    answer = talk.ask("a")
    assert next(answer) == "one"
    if how == "close":
        answer.close()
        assert talk.finished is None
    else:
        talk.stop()
        assert list(answer) == []
        assert talk.finished is not None
        assert talk.finished.reason == "stopped"
    assert talk.history[-1] == Message("assistant", "one")


def test_a_question_without_any_answer_is_not_remembered() -> None:
    engine = Scripted(["crash"], ["fine"])
    talk = Conversation(engine, render)
    with pytest.raises(RunnerError, match="died"):
        list(talk.ask("a"))
    assert talk.history == ()
    list(talk.ask("b"))
    assert engine.prompts[-1] == "u: b"


def test_a_question_stopped_before_its_answer_is_not_remembered() -> None:
    class Stopped(Scripted):
        def generate(self, prompt: str, sampling: Sampling) -> Generator[Event, None, None]:
            yield Finished("stopped", 1, 0, 0, 0.0, 0.0)

    talk = Conversation(Stopped(), render)
    assert list(talk.ask("a")) == []
    assert talk.history == ()


def test_an_empty_answer_is_an_answer() -> None:
    talk = Conversation(Scripted([]), render)
    assert list(talk.ask("a")) == []
    assert talk.history[-1] == Message("assistant", "")


def words(count: int) -> str:
    return " ".join("w" * count)


def test_the_oldest_turns_are_forgotten_and_never_the_system_message() -> None:
    engine = Scripted(*([words(7)] for _ in range(4)))
    talk = Conversation(engine, render, system="sys")  # 2 words, and 11 a turn
    for question in "abcd":
        list(talk.ask(f"{question} x"))
    # Of 40 tokens a quarter is for the answer.
    assert [prompt.count("u:") for prompt in engine.prompts] == [1, 2, 3, 3]
    assert engine.prompts[-1].startswith("s: sys u: b x a: w")
    assert engine.prompts[-1].endswith("u: d x")
    assert all(engine.count(prompt) <= 30 for prompt in engine.prompts)


@pytest.mark.parametrize(
    ("num_predict", "turns"),
    [(None, 3), (2, 4), (10**6, 3)],
)
def test_room_is_kept_for_the_answer_that_may_come(num_predict: int | None, turns: int) -> None:
    engine = Scripted(*([words(7)] for _ in range(4)))
    talk = Conversation(engine, render, Sampling(num_predict=num_predict))
    for question in "abcd":
        list(talk.ask(question))
    assert engine.prompts[-1].count("u:") == turns


def test_the_opening_is_forgotten_too() -> None:
    engine = Scripted(["x"])
    opening = [Message("assistant", words(30)), Message("user", "q"), Message("assistant", "a")]
    talk = Conversation(engine, render, opening=opening)
    list(talk.ask("b"))
    assert engine.prompts == ["u: q a: a u: b"]


def test_a_question_that_leaves_little_room_is_asked() -> None:
    talk = Conversation(Scripted(["x"]), render)
    assert list(talk.ask(words(38))) == ["x"]


def test_a_question_longer_than_the_context_is_refused_with_counts() -> None:
    engine = Scripted(["x"], ["y"])
    talk = Conversation(engine, render)
    list(talk.ask("a"))
    with pytest.raises(RunnerError, match=r"has 40 tokens .* only 40") as caught:
        list(talk.ask(words(39)))
    assert caught.value.exit_code == 9
    assert engine.prompts == ["u: a"]
    list(talk.ask("b"))
    assert engine.prompts[-1] == "u: a a: x u: b"  # it forgot nothing for it


def test_a_history_is_bounded_whatever_the_context() -> None:
    class Endless(Scripted):
        context_length = 10**9

    opening = [Message("user", "q"), Message("assistant", "a")] * (chat.MAX_MESSAGES // 2)
    talk = Conversation(Endless(["x"]), render, opening=opening)
    list(talk.ask("b"))
    assert len(talk.history) <= chat.MAX_MESSAGES + 1


def test_the_template_is_given_plain_messages() -> None:
    seen: list[Sequence[Message]] = []

    def note(messages: Sequence[Message]) -> str:
        seen.append(tuple(messages))
        return "x"

    render_: Callable[[Sequence[Message]], str] = note
    list(Conversation(Scripted(["y"]), render_, system="s").ask("q"))
    assert seen == [(Message("system", "s"), Message("user", "q"))]
