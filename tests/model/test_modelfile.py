"""Modelfiles: the grammar with its quotes, and the way back."""

import random
import time

import pytest

from modelpm.errors import ModelError
from modelpm.model.message import Message
from modelpm.model.modelfile import Command, Modelfile, parse, render

GOOD: dict[str, tuple[str, tuple[Command, ...]]] = {
    "plain": ("FROM a", (Command("FROM", "a"),)),
    "any case": ("fRoM a\n", (Command("FROM", "a"),)),
    "indented": ("  FROM \t a b \t\n", (Command("FROM", "a b"),)),
    "CRLF": ("FROM a\r\nSYSTEM b\r\n", (Command("FROM", "a"), Command("SYSTEM", "b"))),
    "CR": ("FROM a\rSYSTEM b", (Command("FROM", "a"), Command("SYSTEM", "b"))),
    "comments": ("# x\n\n  # y\nFROM a # not one\n", (Command("FROM", "a # not one"),)),
    "quotes": ('FROM "a b "', (Command("FROM", "a b "),)),
    "quotes over lines": (
        'FROM a\nSYSTEM "x\n y "\n',
        (Command("FROM", "a"), Command("SYSTEM", "x\n y ")),
    ),
    "triple": ('FROM a\nSYSTEM """"x" y"""', (Command("FROM", "a"), Command("SYSTEM", '"x" y'))),
    "triple over lines": (
        'FROM a\nTEMPLATE """{{ .Prompt }}\n# no comment\nFROM b\n"""\nLICENSE MIT',
        (
            Command("FROM", "a"),
            Command("TEMPLATE", "{{ .Prompt }}\n# no comment\nFROM b\n"),
            Command("LICENSE", "MIT"),
        ),
    ),
    "empty": (
        'FROM a\nSYSTEM ""\nSYSTEM \nSYSTEM """"""',
        (Command("FROM", "a"), *3 * [Command("SYSTEM", "")]),
    ),
    "nothing escaped": ('FROM "a\\n\\"b"', (Command("FROM", 'a\\n\\"b'),)),
    "a quote inside": ('FROM a"b', (Command("FROM", 'a"b'),)),
    "parameter": (
        "FROM a\nPARAMETER temperature 0.5\nPARAMETER stop A\n",
        (
            Command("FROM", "a"),
            Command("PARAMETER", "0.5", "temperature"),
            Command("PARAMETER", "A", "stop"),
        ),
    ),
    "message": (
        'FROM a\nMESSAGE user hi\nMESSAGE assistant """a\nb"""',
        (
            Command("FROM", "a"),
            Command("MESSAGE", "hi", "user"),
            Command("MESSAGE", "a\nb", "assistant"),
        ),
    ),
    "the rest": (
        "FROM a\nADAPTER b\nDRAFT c\nRENDERER d\nPARSER e\nREQUIRES 0.1.0",
        (
            Command("FROM", "a"),
            Command("ADAPTER", "b"),
            Command("DRAFT", "c"),
            Command("RENDERER", "d"),
            Command("PARSER", "e"),
            Command("REQUIRES", "0.1.0"),
        ),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_modelfile_is_read(name: str) -> None:
    text, commands = GOOD[name]
    assert parse(text).commands == commands


@pytest.mark.parametrize("name", GOOD)
def test_what_was_read_is_written_so_that_it_reads_the_same(name: str) -> None:
    modelfile = parse(GOOD[name][0])
    assert parse(render(modelfile)) == modelfile


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no FROM line"),
        ("SYSTEM x", "no FROM line"),
        ("FROM", "line 1: an instruction and a value"),
        ("FROM\n", "line 1: an instruction and a value"),
        ("FROM a\n\nWHAT b", "line 3: an instruction and a value were expected, not 'WHAT'; the"),
        ("FROM a\n-x y", "line 2: an instruction"),
        ('FROM a\nSYSTEM "x', "line 2: the value of SYSTEM has no closing quote"),
        ('FROM a\nSYSTEM """x"\ny""', "line 2: the value of SYSTEM has no closing quote"),
        ("FROM a\nPARAMETER num_ctx", "line 2: PARAMETER takes a name and a value"),
        ("FROM a\nPARAMETER x-y 1", "line 2: PARAMETER takes a name and a value"),
        ("FROM a\nPARAMETER warmth 1", "line 2: unknown parameter 'warmth'"),
        ("FROM a\nMESSAGE tool x", 'line 2: the role of a message is "system"'),
        ("FROM a\nMESSAGE user", "line 2: MESSAGE takes a name and a value"),
        (b"FROM \xff", "is not utf-8"),
        (b"\xff\xfeF", "is not utf-16"),
        (b"x" * (2**22 + 1), "more than 4194304 bytes"),
        ("x" * (2**22 + 1), "more than 4194304 characters"),
    ],
)
def test_a_flaw_is_told_with_its_line(text: str | bytes, sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse(text)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_with_their_marks(encoding: str) -> None:
    assert parse("FROM é".encode(encoding)).sources == ("é",)


def test_the_values_by_instruction() -> None:
    modelfile = parse(
        "FROM a\nFROM b\nSYSTEM one\nSYSTEM two\nLICENSE x\nLICENSE y\n"
        "PARAMETER stop A\nPARAMETER num_ctx 16777216\nPARAMETER stop B\nPARAMETER stop "
        "\n"
        "PARAMETER use_mmap false\nPARAMETER temperature 0.5\nPARAMETER mirostat 1\n"
        "MESSAGE user hi\nMESSAGE assistant yes?"
    )
    assert modelfile.sources == ("a", "b")
    assert modelfile.last("SYSTEM") == "two"
    assert modelfile.last("TEMPLATE") is None
    assert modelfile.values("LICENSE") == ("x", "y")
    assert modelfile.messages == (Message("user", "hi"), Message("assistant", "yes?"))
    assert modelfile.parameters == {
        "num_ctx": 2**24,
        "use_mmap": False,
        "temperature": 0.5,
        "stop": ("A", "B"),
    }
    assert [(command.key, command.line) for command in modelfile.idle] == [
        ("stop", 10),
        ("mirostat", 13),
    ]
    assert parse("FROM a").parameters == {}
    assert parse("FROM a").idle == ()


@pytest.mark.parametrize(
    "line",
    [
        *("num_ctx many", "use_mmap maybe", "top_p nan", "seed 1e999x", "top_k 0.9"),
        *("num_ctx 4096.5", "temperature 500", "num_ctx 99999999999999999999"),
        *("temperature 1_0", "top_p inf"),
    ],
)
def test_a_parameter_of_the_wrong_type_is_an_error(line: str) -> None:
    with pytest.raises(ModelError, match=f"line 2: the parameter {line.split(maxsplit=1)[0]} is"):
        _ = parse(f"FROM a\nPARAMETER {line}").parameters


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "x", " x", "x ", '"', '""', '"x"', 'a "b"', "a\nb", 'a\n"b"\nc', "\n", "\r\n"),
        *('"a"\nb', 'say """ twice', "tab\t", "# no", 'x"', "{{ .System }}\n", "a\r\nb"),
    ],
)
def test_any_value_survives(value: str) -> None:
    modelfile = Modelfile((Command("FROM", "a"), Command("SYSTEM", value), Command("LICENSE", "z")))
    assert parse(render(modelfile)) == modelfile


def test_seeded_values_survive_or_are_refused() -> None:
    rng = random.Random(7)
    written = 0
    for _ in range(3_000):
        value = "".join(rng.choices('ab "\n\r\t#', k=rng.randrange(12)))
        modelfile = Modelfile((Command("FROM", "a"), Command("SYSTEM", value)))
        try:
            text = render(modelfile)
        except ModelError:
            continue
        assert parse(text) == modelfile
        written += 1
    assert written > 2_500


def test_what_the_grammar_cannot_hold_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot be written"):
        render(Modelfile((Command("FROM", "a"), Command("SYSTEM", 'a"""\n"b"'))))


def test_an_open_quote_over_many_lines_takes_no_long_time() -> None:
    start = time.perf_counter()
    with pytest.raises(ModelError, match="no closing quote"):
        parse('FROM a\nSYSTEM """' + "\n" * 2_000_000)
    assert time.perf_counter() - start < 10
