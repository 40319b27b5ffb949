"""The gate for safetensors: a header that tells the truth."""

import json
import struct
from pathlib import Path

import pytest
from tiny import safetensors

from modelpm.errors import ModelError
from modelpm.model.safetensors import MAX_HEADER, MAX_VALUES, check


def written(path: Path, header: object, room: int = 0) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(room))
    return path


def tensor(start: int, stop: int, kind: str = "U8", **more: object) -> dict[str, object]:
    return {"dtype": kind, "shape": [stop - start], "data_offsets": [start, stop], **more}


@pytest.mark.parametrize(
    ("header", "room"),
    [
        ({}, 0),
        ({"__metadata__": {"format": "pt"}}, 0),
        ({"b": tensor(4, 8), "a": tensor(0, 4)}, 8),
        ({"a": tensor(0, 4), "empty": tensor(4, 4), "b": tensor(4, 6)}, 6),
        ({"a": tensor(0, 8, "F64", shape=[])}, 8),
        ({"a": tensor(0, 3, "F4", shape=[3, 2])}, 3),
        ({"a": tensor(0, 3, "NEW", shape=[99])}, 3),
        (b"{}      ", 0),
    ],
)
def test_a_sound_file_passes(header: object, room: int, tmp_path: Path) -> None:
    check(written(tmp_path / "m.safetensors", header, room))


def test_the_fixtures_pass(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors("a", "b"))
    check(path)


@pytest.mark.parametrize(
    ("header", "room", "sentence"),
    [
        ({"a": tensor(0, 9)}, 8, "the tensor 'a' ends at byte 9 of 8: the file is cut off"),
        ({"a": tensor(0, 4)}, 8, "4 bytes follow the last tensor"),
        ({"a": tensor(1, 4)}, 4, "a gap before the tensor 'a'"),
        ({"a": tensor(0, 4), "b": tensor(3, 8)}, 8, "another tensor under the tensor 'b'"),
        ({"a": tensor(0, 4, shape=[5])}, 4, "the tensor 'a' has 4 bytes, not 5"),
        ({"a": tensor(4, 0, shape=[1])}, 4, "the tensor 'a' has -4 bytes"),
        ({"a": 7}, 0, "no type, shape or place"),
        ({"a": tensor(0, 4, data_offsets=[0])}, 4, "no type, shape or place"),
        ({"a": tensor(0, 4, data_offsets=[0, True])}, 4, "no type, shape or place"),
        ({"a": tensor(0, 4, shape=[-4])}, 4, "no type, shape or place"),
        ({"a": tensor(0, 4, shape=[1] * 65)}, 4, "no type, shape or place"),
        ({"a": tensor(0, 4, shape="4")}, 4, "no type, shape or place"),
        ({"a": tensor(0, 4, kind="U8", dtype=7)}, 4, "no type, shape or place"),
        (b"{", 0, "no whole header"),
        (b"{]", 0, "its header is not JSON"),
        (b"\xff\xff", 0, "its header is not JSON"),
        (b'{"a":{},"a":{}}', 0, "the same key twice"),
        (b"[" * 100_000, 0, "its header is not JSON"),
        (b"[]", 0, "no JSON object"),
        (b"[" + b"0," * MAX_VALUES + b"0,0]", 0, f"more than {MAX_VALUES} values"),
        (b" " * (MAX_HEADER + 1), 0, f"the limit is {MAX_HEADER}"),
    ],
)
def test_a_flaw_is_named(header: object, room: int, sentence: str, tmp_path: Path) -> None:
    path = written(tmp_path / "blob", header, room)
    with pytest.raises(ModelError) as caught:
        check(path, "m.safetensors")
    assert str(caught.value).startswith("m.safetensors is no sound safetensors file: ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"1234567", bytes(8), b"\xff" * 8, b"\x10" + bytes(8)])
def test_a_short_file_is_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="no whole header"):
        check(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        check(tmp_path / "m.safetensors")
