"""Parameters: types are checked, numbers are in their range."""

import math

import pytest

from modelpm.errors import ModelError
from modelpm.model.parameters import RULES, checked, known, parsed

_NO_NUMBERS = (
    "inf",
    "-inf",
    "nan",
    "1_0",
    "",
    " ",
    "0x10",
    "\u0661",
    "1e",
    ".",
    "1 2",
    "ten",
    "--1",
)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("temperature", 0.7, 0.7),
        ("temperature", 1, 1.0),
        ("temperature", -1, 0.0),
        ("temperature", 1e300, 100.0),
        ("num_ctx", 4096, 4096),
        ("num_ctx", 4096.0, 4096),
        ("num_ctx", -1, 1),
        ("num_ctx", 2**40, 2**24),
        ("top_k", -5, 0),
        ("top_p", 2, 1.0),
        ("seed", 2**70, 2**32 - 1),
        ("seed", -1, -1),
        ("num_predict", -1, -1),
        ("use_mmap", False, False),
        ("stop", ["a", "b"], ("a", "b")),
        ("stop", "a", ("a",)),
        ("stop", ["", "a"], ("a",)),
        ("stop", [], ()),
        ("mirostat", "anything", "anything"),
        ("not_known", {"a": [1]}, {"a": [1]}),
    ],
)
def test_a_parameter_gets_its_type_and_range(name: str, value: object, kept: object) -> None:
    result = checked({name: value})[name]
    assert result == kept
    assert type(result) is type(kept)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("temperature", "0.7", "temperature is a number"),
        ("temperature", True, "temperature is a number"),
        ("temperature", None, "temperature is a number"),
        ("temperature", math.nan, "temperature is not a number"),
        ("num_ctx", [1], "num_ctx is a number"),
        ("use_mmap", 1, "use_mmap is true or false"),
        ("stop", 1, "stop is not a list of strings"),
        ("stop", [1], "stop is not a list of strings"),
        ("stop", ["a"] * 65, "more than 64 strings"),
        ("stop", ["a" * 1001], "more than 1000 characters"),
    ],
)
def test_a_wrong_type_is_an_error(name: str, value: object, sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        checked({name: value})
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("num_ctx", "2048", 2048),
        ("num_ctx", "16777216", 2**24),
        ("num_predict", "-2", -2),
        ("top_k", "+7", 7),
        ("temperature", "1e1", 10.0),
        ("temperature", "100.", 100.0),
        ("top_p", ".5", 0.5),
        ("use_mmap", "TRUE", True),
        ("use_mmap", "0", False),
        ("stop", "<|x|>", ("<|x|>",)),
    ],
)
def test_a_parameter_is_read_from_text(name: str, text: str, value: object) -> None:
    assert parsed(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        *(("temperature", text, "a number from 0 to 100") for text in ("500", "-3", "1e400")),
        *(("temperature", text, "temperature is a number, not") for text in _NO_NUMBERS),
        *(("num_ctx", text, "num_ctx is a whole number") for text in (*_NO_NUMBERS, "1e3", "4.0")),
        ("num_ctx", "9" * 20, "num_ctx is a number from 1 to 16777216"),
        ("num_ctx", "9" * 5000, "num_ctx is a whole number"),
        ("num_predict", "-3", "num_predict is a number from -2 to"),
        ("seed", "4294967296", "seed is a number from -1 to 4294967295"),
        ("use_mmap", "yes", "use_mmap is true or false"),
        ("stop", "a" * 1001, "more than 1000 characters"),
    ],
)
def test_what_a_person_wrote_is_not_changed_in_silence(name: str, text: str, sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        parsed(name, text)
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 200


def test_every_name_of_the_table_is_known() -> None:
    assert all(map(known, (*RULES, "stop", "mirostat_tau")))
    assert not known("warmth")


@pytest.mark.parametrize(
    ("text", "value"), [("T", True), ("TRUE", True), ("f", False), ("0", False)]
)
def test_truth_is_written_as_in_go(text: str, value: bool) -> None:
    assert parsed("use_mmap", text) is value
