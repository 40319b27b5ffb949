"""JSON as Go writes it, byte for byte."""

import math
import random
import struct

import pytest

from modelpm.errors import ModelError
from modelpm.model.go_json import encode
from modelpm.oci.descriptor import Digest

GOLDEN = {"stop": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]}
GOLDEN_DIGEST = "sha256:56bb8bd477a519ffa694fc449c2413c6f0e1d3b1c88fa7e3c9d88d3ae49d4dcb"


def test_the_golden_params_layer() -> None:
    content = encode(GOLDEN)
    assert len(content) == 96
    assert str(Digest.of(content)) == GOLDEN_DIGEST


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0, "0"),
        (-7, "-7"),
        (2**53, "9007199254740992"),
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (0.7, "0.7"),
        (-2.5, "-2.5"),
        (100.0, "100"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e-5, "0.00001"),
        (1.5e-5, "0.000015"),
        (-1.5e-5, "-0.000015"),
        (1e-6, "0.000001"),
        (9.9e-7, "9.9e-7"),
        (1e-7, "1e-7"),
        (1.25e-10, "1.25e-10"),
        (1e16, "10000000000000000"),
        (1.5e16, "15000000000000000"),
        (1.2345678901234568e17, "123456789012345680"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (5e-324, "5e-324"),
        ("", '""'),
        ('a"\\/\n\r\t\b\f', '"a\\"\\\\/\\n\\r\\t\\b\\f"'),
        ("\x00\x1f\x7f", '"\\u0000\\u001f\x7f"'),
        ("<a&b>", '"\\u003ca\\u0026b\\u003e"'),
        ("\u2028\u2029", '"\\u2028\\u2029"'),
        ("é 中 \U0001f600", '"é 中 \U0001f600"'),
        ("\ud800", '"\ufffd"'),
        ([], "[]"),
        ({}, "{}"),
        ((1, [2, {"a": None}]), '[1,[2,{"a":null}]]'),
        ({"b": 1, "a": {"d": 1, "c": 2}, "<": 3}, '{"\\u003c":3,"a":{"c":2,"d":1},"b":1}'),
        ({"\U00010000": 1, "\uffff": 2}, '{"\uffff":2,"\U00010000":1}'),
    ],
)
def test_a_value_is_written_as_go_does(value: object, text: str) -> None:
    assert encode(value) == text.encode() + b"\n"
    assert encode(value, newline=False) == text.encode()


def test_the_fields_of_a_struct_keep_their_order() -> None:
    assert encode({"role": "user", "content": "x"}, sort_keys=False, newline=False) == (
        b'{"role":"user","content":"x"}'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, b"x", object(), {1: {2}}])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ModelError, match="cannot be written as JSON"):
        encode(value)


def test_what_is_nested_too_deep_is_refused() -> None:
    value: object = 1
    for _ in range(40):
        value = [value]
    with pytest.raises(ModelError, match="more than 32 deep"):
        encode(value)


def test_seeded_numbers_are_read_back_as_they_were() -> None:
    rng = random.Random(3)
    for _ in range(3_000):
        (number,) = struct.unpack("<d", rng.randbytes(8))
        if math.isfinite(number):
            text = encode(number)
            assert float(text) == number
            assert (b"e" in text) == (number != 0 and not 1e-6 <= abs(number) < 1e21)
