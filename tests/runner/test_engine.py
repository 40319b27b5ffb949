"""Parameters as models and users write them: what becomes of each, and what is refused."""

import pytest

from modelpm.errors import RunnerError
from modelpm.runner.engine import CHUNK, MAX_CONTEXT, Sampling, Settings


def test_defaults_are_those_of_ollama() -> None:
    assert Sampling.from_parameters({}) == Sampling()
    assert Settings.from_parameters({}) == Settings()


def test_parameters_become_fields() -> None:
    sampling = Sampling.from_parameters(
        {
            "temperature": 0.5,
            "top_k": 10,
            "top_p": 1,
            "repeat_penalty": 1.1,
            "repeat_last_n": -1,
            "seed": 42,
            "num_predict": 7,
            "stop": ["</s>", ""],
            "num_ctx": 2048,
            "mirostat": 2,
        }
    )
    assert sampling == Sampling(0.5, 10, 1.0, 1.1, -1, 42, 7, ("</s>",))


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("temperature", -1, "temperature", 0.0),
        ("temperature", 1e9, "temperature", 100.0),
        ("temperature", 10**400, "temperature", 100.0),
        ("temperature", -(10**400), "temperature", 0.0),
        ("temperature", float("inf"), "temperature", 100.0),
        ("temperature", "0.25", "temperature", 0.25),
        ("top_k", -5, "top_k", 0),
        ("top_k", "12", "top_k", 12),
        ("top_k", 12.9, "top_k", 12),
        ("top_p", 7, "top_p", 1.0),
        ("repeat_penalty", 0, "repeat_penalty", 0.01),
        ("repeat_last_n", -9, "repeat_last_n", -1),
        ("seed", 2**70, "seed", 2**63 - 1),
        ("seed", 0, "seed", 0),
        ("seed", -1, "seed", None),
        ("seed", -(2**70), "seed", None),
        ("num_predict", -2, "num_predict", None),
        ("num_predict", 0, "num_predict", None),
        ("num_predict", 10**9, "num_predict", MAX_CONTEXT),
        ("stop", None, "stop", ()),
        ("stop", "END", "stop", ("END",)),
        ("stop", ("a", "b"), "stop", ("a", "b")),
    ],
)
def test_sampling_is_clamped(name: str, value: object, field: str, expected: object) -> None:
    assert getattr(Sampling.from_parameters({name: value}), field) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", float("nan")),
        ("temperature", "warm"),
        ("temperature", "nan"),
        ("temperature", None),
        ("temperature", [1]),
        ("top_k", True),
        ("seed", {}),
        ("stop", 3),
        ("stop", ["a", 3]),
        ("stop", {"a": 1}),
        ("stop", ["x"] * 65),
        ("stop", "x" * 1025),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(name: str, value: object) -> None:
    with pytest.raises(RunnerError, match=f"the parameter {name}"):
        Sampling.from_parameters({name: value})


def test_a_huge_value_is_not_repeated_in_the_message() -> None:
    with pytest.raises(RunnerError) as caught:
        Sampling.from_parameters({"top_p": "x" * 10**6})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"num_ctx": 2**40}, Settings(context_length=MAX_CONTEXT)),
        ({"num_ctx": -1}, Settings()),
        ({"num_ctx": 512, "num_thread": 3, "num_batch": 16}, Settings(512, 3, 16)),
        ({"num_batch": 512}, Settings(chunk=CHUNK)),
        ({"num_batch": 0}, Settings(chunk=1)),
        ({"num_thread": 10**9}, Settings(threads=512)),
    ],
)
def test_settings_are_clamped(parameters: dict[str, object], expected: Settings) -> None:
    assert Settings.from_parameters(parameters) == expected
