"""Safe names: nothing that a stranger calls a file leads out of its folder."""

import random
import time
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from modelpm.model.names import MAX_BYTES, relative, safe_name, shard, shard_name, unique_names


@pytest.mark.parametrize(
    ("path", "same"),
    [("./a/b/", "a/b"), ("/a//./b", "a/b"), (".", ""), ("", ""), ("/", ""), ("../a", "../a")],
)
def test_a_path_has_one_form(path: str, same: str) -> None:
    assert relative(path) == same


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("model.gguf", "model.gguf"),
        ("a/b/model.gguf", "a/b/model.gguf"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("a/../../x", "a/x"),
        ("./../x", "x"),
        ("..\\x", "x"),
        ("C:\\Windows\\x", "C_/Windows/x"),
        ("C:x", "C_x"),
        ("\\\\host\\share\\x", "host/share/x"),
        ("a//b", "a/b"),
        ("...", "file"),
        ("", "file"),
        (".", "file"),
        ("a/", "a"),
        ("con", "_con"),
        ("AUX.txt", "_AUX.txt"),
        ("a/nul/b", "a/_nul/b"),
        ("COM1 .gguf", "_COM1 .gguf"),
        ("lpt¹", "_lpt¹"),
        ("console.txt", "console.txt"),
        ("x.", "x"),
        ("x. . ", "x"),
        (" x ", "x"),
        ('a<b>:"|?*c', "a_b______c"),
        ("a\nb\x1b[31m\x7f\x9b", "a_b_[31m__"),
        ("a\u202eb\u200bc", "a_b_c"),
        ("a\ud800b", "a_b"),
        ("e\u0301", "é"),
        (".hidden", ".hidden"),
        ("日本語.gguf", "日本語.gguf"),
        ("x" * 300 + ".gguf", "x" * 250 + ".gguf"),
        ("é" * 200 + ".gguf", "é" * 125 + ".gguf"),
        ("x." + "y" * 300, "x." + "y" * 253),
        ("/".join("abcdefghijkl"), "e/f/g/h/i/j/k/l"),
        ("d" * 200 + "/" + "e" * 100, "e" * 100),
    ],
)
def test_a_name_is_made_safe(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_seeded_names_never_escape() -> None:
    rng = random.Random(3)
    for _ in range(3_000):
        name = safe_name("".join(rng.choices("./\\:a C\0.\n~é", k=rng.randrange(20))), "other")
        parts = PurePosixPath(name).parts
        assert name
        assert not PurePosixPath(name).is_absolute()
        assert not PureWindowsPath(name).is_absolute()
        assert not PureWindowsPath(name).drive
        assert not {"..", "."} & set(parts)
        assert len(name.encode()) <= MAX_BYTES
        assert safe_name(name) == name


@pytest.mark.parametrize(
    ("names", "unique"),
    [
        ([], []),
        (["a", "b"], ["a", "b"]),
        (["a.gguf", "a.gguf", "a.gguf"], ["a.gguf", "a-2.gguf", "a-3.gguf"]),
        (["LICENSE", "license"], ["LICENSE", "license-2"]),
        (["a", "a/b"], ["a", "b-2"]),
        (["a/b", "a"], ["a/b", "a-2"]),
        (["a/b", "A/B"], ["a/b", "B-2"]),
        (["a-2", "a", "a"], ["a-2", "a", "a-3"]),
        (["x" * 255, "x" * 255], ["x" * 255, "x" * 248 + "-2"]),
        (["x." + "y" * 253] * 2, ["x." + "y" * 253, "x." + "y" * 246 + "-2"]),
    ],
)
def test_names_are_made_unique(names: list[str], unique: list[str]) -> None:
    assert unique_names(names) == unique


def test_ten_thousand_of_one_name_take_no_long_time() -> None:
    long = [f"{'x' * 252}{number:03}" for number in range(1_000)]
    start = time.perf_counter()
    found = unique_names([*["a"] * 8_000, *long, *long])
    assert len({name.casefold() for name in found}) == 10_000
    assert all(len(name.encode()) <= MAX_BYTES for name in found)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("model-00002-of-00003.gguf", ("model.gguf", 2, 3)),
        ("a/m-00001-of-00001.safetensors", ("a/m.safetensors", 1, 1)),
        ("model.gguf", None),
        ("m-00001-of-00000.gguf", None),
        ("m-00000-of-00002.gguf", None),
        ("m-00003-of-00002.gguf", None),
        ("model-2-of-3.gguf", None),
        ("-00001-of-00002.gguf", None),
    ],
)
def test_shards_are_told_by_their_names(name: str, told: tuple[str, int, int] | None) -> None:
    assert shard(name) == told
    if told is not None:
        assert shard_name(*told) == name
