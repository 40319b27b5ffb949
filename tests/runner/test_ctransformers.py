"""The engine in this process: what it refuses, how it tokenises, draws, streams and stops."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from modelpm.errors import RunnerError
from modelpm.runner import ctransformers
from modelpm.runner.ctransformers import CTransformers, Tail, check, refusals, unavailable
from modelpm.runner.engine import Evaluated, Facts, Finished, Piece, Sampling, Settings
from tests.runner.models import BOS, Recipe, token

if unavailable():
    pytest.skip("no ctransformers on this machine", allow_module_level=True)

Make = Callable[[Recipe], Facts]

PLAIN = Recipe()
TALKER = Recipe(speaks=tuple("helo."), context=64)
GREEDY = Sampling(temperature=0)


def loaded(facts: Facts, settings: Settings | None = None) -> CTransformers:
    engine = CTransformers()
    engine.load(facts, settings or Settings())
    return engine


@pytest.fixture(scope="module")
def plain(model: Make) -> Iterator[CTransformers]:
    engine = loaded(model(PLAIN))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def talker(model: Make) -> Iterator[CTransformers]:
    engine = loaded(model(TALKER))
    yield engine
    engine.close()


def ids(engine: CTransformers, text: str) -> list[int]:
    assert engine._model is not None
    return engine._model.tokens.encode(text)


def answer(engine: CTransformers, prompt: str, sampling: Sampling = GREEDY) -> tuple[str, Finished]:
    *events, last = engine.generate(prompt, sampling)
    assert isinstance(last, Finished)
    return "".join(event.text for event in events if isinstance(event, Piece)), last


# What is refused.


def test_a_model_that_runs_has_no_refusals(model: Make) -> None:
    assert refusals(model(PLAIN)) == ()


def of_file(**change: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, **change)


def of_vocabulary(**change: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, vocabulary=replace(facts.vocabulary, **change))


def without(name: str) -> Callable[[Facts], Facts]:
    return lambda facts: replace(
        facts, tensors={other: kind for other, kind in facts.tensors.items() if other != name}
    )


def with_tensor(name: str, kind: str) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, tensors={**facts.tensors, name: kind})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_file(architecture="qwen2"), ["architecture qwen2"]),
        (of_file(architecture="x" * 999), [f"architecture {'x' * 40} "]),
        (of_file(context_length=0), ["no context length"]),
        (of_file(expert_count=8), ["mixture of 8 experts"]),
        (of_file(rope_scaling="yarn", rope_scaling_factor=2.0), ["rope scaling (yarn)"]),
        (of_file(block_count=4), ["missing tensors blk.2.attn_k.weight", "and 15 more"]),
        (of_file(block_count=1), ["unknown tensors blk.1.attn_k.weight", "and 6 more"]),
        (of_vocabulary(kind="gpt2"), ["BPE vocabulary (gpt2"]),
        (of_vocabulary(kind="bert"), ["WordPiece vocabulary (bert"]),
        (of_vocabulary(kind="new"), ["unknown vocabulary (new"]),
        (of_vocabulary(kind=""), ["unknown vocabulary (none"]),
        (of_vocabulary(scores=False, types=False), ["no token scores", "no token types"]),
        (of_vocabulary(byte_tokens=False), ["no byte tokens"]),
        (of_vocabulary(control={f"<{n}>": 1 for n in range(2001)}), ["2001 control tokens"]),
        (without("output.weight"), ["no output weights (tied embeddings)"]),
        (without("blk.1.ffn_up.weight"), ["missing tensors blk.1.ffn_up.weight"]),
        (with_tensor("rope_freqs.weight", "F32"), ["unknown tensors rope_freqs.weight"]),
        (with_tensor("blk.0.attn_q.weight", "IQ2_XXS"), ["tensor types IQ2_XXS"]),
    ],
)
def test_each_reason_is_named(
    model: Make, change: Callable[[Facts], Facts], words: Sequence[str]
) -> None:
    said = ", ".join(refusals(change(model(PLAIN))))
    assert all(word in said for word in words)
    with pytest.raises(RunnerError, match="llama-cli"):
        check(change(model(PLAIN)))


def test_all_reasons_are_told_with_what_would_run_it(model: Make) -> None:
    facts = replace(without("output.weight")(model(PLAIN)), name="qwen", architecture="qwen2")
    facts = of_vocabulary(kind="gpt2")(facts)
    with pytest.raises(RunnerError) as caught:
        CTransformers().load(facts, Settings())
    assert caught.value.exit_code == 9
    assert str(caught.value) == (
        "ctransformers cannot run qwen: architecture qwen2 (only llama), BPE vocabulary (gpt2; "
        "only SentencePiece), no output weights (tied embeddings) "
        '(try llama.cpp: llama-cli -m "$(modelpm path qwen)")'
    )


def test_where_there_is_no_engine_the_machine_is_named() -> None:
    assert unavailable("no_such_engine", "x86_64") == ("it is not installed",)
    if sys.platform == "linux":
        assert unavailable("no_such_engine", "aarch64") == ("it has no build for Linux on aarch64",)


def test_a_file_that_the_engine_rejects_is_named(model: Make) -> None:
    lacking = model(Recipe(without=("output.weight",)))
    whole = replace(model(PLAIN), path=lacking.path, name="lacking")
    with pytest.raises(RunnerError, match=r"cannot load lacking.*damaged"):
        CTransformers().load(whole, Settings())
    with pytest.raises(RunnerError, match="cannot load gone"):
        CTransformers().load(replace(whole, path=lacking.path + "x", name="gone"), Settings())


def test_an_engine_without_a_model_says_so() -> None:
    engine = ctransformers.create()
    assert engine.context_length == 0
    with pytest.raises(RunnerError, match="no model is loaded"):
        engine.count("a")
    engine.close()


@pytest.mark.parametrize(("asked", "given"), [(0, 256), (100, 100), (10**6, 256)])
def test_the_context_is_the_models_at_most(model: Make, asked: int, given: int) -> None:
    assert loaded(model(PLAIN), Settings(context_length=asked)).context_length == given


def test_a_long_context_must_be_asked_for(model: Make) -> None:
    long = model(Recipe(context=10_000))
    assert loaded(long).context_length == 4096
    assert loaded(long, Settings(context_length=8192)).context_length == 8192


@pytest.mark.parametrize(
    "quantization",
    ["F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"],
)
def test_every_type_that_is_not_refused_runs(model: Make, quantization: str) -> None:
    engine = loaded(model(Recipe(quantization=quantization, width=256, blocks=1)))
    assert answer(engine, "hello", Sampling(seed=1, num_predict=3))[1].prompt_tokens == 2


# Tokens.


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("hello", ["▁hello"]),
        ("hello hello", ["▁hello", "▁hello"]),
        ("a b", ["▁", "a", "▁", "b"]),
        ("<|im_start|>hi<|im_end|>\n", ["<|im_start|>", "▁h", "i", "<|im_end|>", "▁", "<0x0A>"]),
        ("<|im_end|><|im_end|>", ["<|im_end|>", "<|im_end|>"]),
        ("<|im_sta", ["▁", *(f"<0x{ord(c):02X}>" for c in "<|"), "i", "m", "<0x5F>", *"sta"]),
        ("<s>hello", ["▁hello"]),
        ("日é", ["▁", "日", "é"]),
        ("語", ["▁", "<0xE8>", "<0xAA>", "<0x9E>"]),
        ("a\0b", ["▁", "a", "b"]),
        ("\udc80", ["▁", "?"]),
        ("", []),
    ],
)
def test_texts_become_ids(plain: CTransformers, text: str, pieces: Sequence[str]) -> None:
    assert ids(plain, text) == [BOS, *map(token, pieces)]
    assert plain.count(text) == 1 + len(pieces)


def test_many_characters_of_many_bytes_fit(plain: CTransformers) -> None:
    assert ids(plain, "日" * 3000) == [BOS, token("▁"), *[token("日")] * 3000]
    assert plain.count("語" * 3000) == 2 + 3 * 3000
    assert plain.count(" " * 3000) == 2 + 3000


def test_no_beginning_is_put_before_a_text_that_wants_none(model: Make) -> None:
    engine = loaded(of_vocabulary(add_bos=False)(model(PLAIN)))
    assert ids(engine, "hello") == [token("▁hello")]
    assert ids(engine, "<s>hello") == [BOS, token("▁hello")]
    with pytest.raises(RunnerError, match="prompt is empty"):
        answer(engine, "")


def test_no_space_is_put_before_a_text_that_wants_none(model: Make) -> None:
    engine = loaded(of_vocabulary(add_space_prefix=False)(model(PLAIN)))
    assert ids(engine, "hello") == [BOS, *map(token, ["he", "ll", "o"])]
    assert ids(engine, " hello") == [BOS, token("▁hello")]


def test_a_guard_that_melts_into_the_text_is_given_up(model: Make) -> None:
    recipe = Recipe(pieces=("\nh",))
    engine = loaded(of_vocabulary(add_space_prefix=False)(model(recipe)))
    assert ids(engine, "h") == [BOS, token("▁h")]


def test_a_model_that_names_no_beginning_has_the_engines(model: Make) -> None:
    assert ids(loaded(of_vocabulary(bos=None)(model(PLAIN))), "hello")[0] == BOS


def test_an_id_outside_the_vocabulary_never_reaches_the_engine(model: Make) -> None:
    for bad in (10**6, -1):
        engine = loaded(of_vocabulary(control={"<bad>": bad})(model(PLAIN)))
        with pytest.raises(RunnerError, match="outside the vocabulary"):
            answer(engine, "a<bad>")


# Drawing.


def test_a_seed_decides_the_answer(plain: CTransformers) -> None:
    first, second, other = (
        answer(plain, "hello", Sampling(temperature=2, top_k=0, seed=seed, num_predict=20))[0]
        for seed in (1, 1, 2)
    )
    assert first == second != other


def test_without_a_seed_answers_differ(plain: CTransformers) -> None:
    sampling = Sampling(temperature=5, top_k=0, top_p=1, num_predict=20)
    assert len({answer(plain, "hello", sampling)[0] for _ in range(5)}) > 1


def test_each_token_has_a_draw_of_its_own(plain: CTransformers) -> None:
    sampling = Sampling(temperature=100, top_k=0, top_p=1, seed=7, num_predict=30)
    pieces = [e.text for e in plain.generate("hello", sampling) if isinstance(e, Piece)]
    assert len(set(pieces)) > 3


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        Sampling(temperature=1e-9),
        Sampling(top_k=1),
        Sampling(top_p=0),
    ],
)
def test_the_likeliest_token_is_drawn(talker: CTransformers, sampling: Sampling) -> None:
    assert answer(talker, "a", replace(sampling, num_predict=12))[0] == "helo.helo.he"


def test_the_penalty_looks_back_as_far_as_it_is_told(plain: CTransformers) -> None:
    def said(last: int, penalty: float = 2.0) -> str:
        sampling = Sampling(0, repeat_penalty=penalty, repeat_last_n=last, num_predict=40)
        return answer(plain, "hello", sampling)[0]

    assert said(0) == said(64, penalty=1.0)
    assert said(-1) == said(64) != said(0)
    assert said(2) not in {said(0), said(64)}


# Answers.


def test_the_events_come_in_order(model: Make) -> None:
    engine = loaded(model(TALKER))
    events = list(engine.generate("b" * 40, replace(GREEDY, num_predict=3)))
    kinds = [type(event) for event in events]
    read = kinds.count(Evaluated)
    assert kinds == [Evaluated] * read + [Piece] * 3 + [Finished]
    assert [event for event in events if isinstance(event, Evaluated)][-1] == Evaluated(42, 42)
    assert max(e.tokens for e in events[:1] if isinstance(e, Evaluated)) <= 8


def test_an_answer_ends_with_the_context(talker: CTransformers) -> None:
    said, finished = answer(talker, "a")
    assert len(said) == finished.answer_tokens == 64 - finished.prompt_tokens
    assert finished.reason == "length"


def test_a_prompt_that_fills_the_context_is_refused_with_counts(talker: CTransformers) -> None:
    assert answer(talker, "b" * 61)[1].answer_tokens == 1
    with pytest.raises(RunnerError, match="prompt has 64 tokens and the context 64"):
        answer(talker, "b" * 62)
    assert answer(talker, "b", replace(GREEDY, num_predict=2))[0] == "he"


@pytest.mark.parametrize("piece", ["</s>", "<|im_end|>"])
def test_an_end_token_ends_the_answer(model: Make, piece: str) -> None:
    engine = loaded(of_vocabulary(stops=())(model(Recipe(speaks=("h", "e", piece)))))
    said, finished = answer(engine, "a")
    assert (said, finished.reason, finished.answer_tokens) == ("he", "stop", 2)


def test_a_character_may_come_in_many_tokens(model: Make) -> None:
    engine = loaded(model(Recipe(speaks=("o", "<0xE6>", "<0x97>", "<0xA5>", "日", "é"))))
    sampling = replace(GREEDY, num_predict=6)
    pieces = [event.text for event in engine.generate("a", sampling) if isinstance(event, Piece)]
    assert pieces == ["o", "", "", "日", "日", "é"]
    assert answer(engine, "a", replace(GREEDY, num_predict=3))[0] == "o\ufffd"


@pytest.mark.parametrize(
    ("stops", "said", "reason"),
    [
        (("lo",), "he", "stop"),
        (("o.h",), "hel", "stop"),
        (("elx", "lo."), "he", "stop"),
        (("helo.helx",), "helo.helo.he", "length"),
        (("o.helo.helo",), "helo.helo.he", "length"),
        (("h",), "", "stop"),
    ],
)
def test_stop_strings_end_the_answer(
    talker: CTransformers, stops: tuple[str, ...], said: str, reason: str
) -> None:
    sampling = replace(GREEDY, num_predict=12, stop=stops)
    text, finished = answer(talker, "a", sampling)
    assert (text, finished.reason) == (said, reason)


def test_no_part_of_a_stop_string_is_shown_before_it_is_known(talker: CTransformers) -> None:
    sampling = replace(GREEDY, num_predict=6, stop=("elo!",))
    pieces = [event.text for event in talker.generate("a", sampling) if isinstance(event, Piece)]
    assert pieces == ["h", "", "", "", "elo.", "h"]


def test_what_is_known_is_not_read_again(talker: CTransformers) -> None:
    few = replace(GREEDY, num_predict=2)
    first = answer(talker, "b b b", few)[1]
    again = answer(talker, "b b b", few)[1]
    longer = answer(talker, "b b b b b", few)[1]
    shorter = answer(talker, "b", few)[1]
    other = answer(talker, "zz", few)[1]
    assert first.prompt_tokens == again.prompt_tokens == 7
    assert again.reused_tokens == 6  # the last one is needed again
    assert longer.reused_tokens == 7
    assert shorter.reused_tokens == 2
    assert other.reused_tokens == 2  # the beginning and the space


def test_a_stop_ends_the_reading(model: Make) -> None:
    talker = loaded(model(TALKER), Settings(chunk=8))
    events = talker.generate("b" * 50, GREEDY)
    first = next(events)
    talker.stop()
    (last,) = events
    assert isinstance(first, Evaluated)
    assert isinstance(last, Finished)
    assert first.tokens < first.total
    assert (last.reason, last.answer_tokens) == ("stopped", 0)
    assert answer(talker, "b" * 50)[1].reused_tokens == first.tokens


def test_a_stop_ends_the_answer_and_shows_what_was_held(talker: CTransformers) -> None:
    said = []
    for event in talker.generate("a", replace(GREEDY, stop=("helo!",))):
        if isinstance(event, Piece):
            said.append(event.text)
            if len(said) == 3:
                talker.stop()
    assert "".join(said) == "hel"
    assert isinstance(event, Finished)
    assert event.reason == "stopped"


def test_a_stop_between_answers_is_forgotten(talker: CTransformers) -> None:
    talker.stop()
    assert answer(talker, "a", replace(GREEDY, num_predict=5))[0] == "helo."


# The end of an answer.


@pytest.mark.parametrize(
    ("stops", "pieces", "shown", "ended"),
    [
        ([], ["a", "b"], ["a", "b", ""], False),
        (["xyz"], ["ax", "y", "a"], ["a", "", "xya", ""], False),
        (["xyz"], ["ax", "y", "za", "more"], ["a", "", "", "", ""], True),
        (["xxy"], ["xx", "x", "y"], ["", "x", "", ""], True),
        (["ab", "b"], ["a", "b"], ["", "", ""], True),
        (["bc", "abcd"], ["ab", "c"], ["", "a", ""], True),
        (["ab"], ["xa"], ["x", "a"], False),
    ],
)
def test_the_tail_holds_back_what_may_become_a_stop(
    stops: Sequence[str], pieces: Sequence[str], shown: Sequence[str], ended: bool
) -> None:
    tail = Tail(stops)
    out = [tail.feed(piece.encode()) for piece in pieces]
    assert [*out, tail.feed(b"", last=True)] == shown
    assert tail.ended == ended
