"""Sets of weights: complete or not, by number or by index, and the choice among several."""

import json
import time

import pytest

from modelpm.errors import ModelError
from modelpm.model.model import Model
from modelpm.model.parts import Part
from modelpm.model.roles import Role
from modelpm.model.shards import MAX_VALUES, WeightSet, chosen, weight_sets
from modelpm.oci.descriptor import Descriptor
from tests.model.artifacts import GGUF, OCTETS, Memory, image, named

CNCF = "application/vnd.cncf.model"
INDEX = "model.safetensors.index.json"


def part(name: str, content: str | None = None) -> Part:
    raw = (name if content is None else content).encode()
    return Part(Role.WEIGHTS, Descriptor.of(raw, OCTETS), name)


def sets(*names: str, index: object = None) -> list[tuple[str, list[str], list[str]]]:
    indexes = {} if index is None else {INDEX: json.dumps({"weight_map": index}).encode()}
    found = weight_sets([part(name) for name in names], indexes)
    return [(s.name, [p.name for p in s.parts], list(s.missing)) for s in found]


def numbered(total: int, *numbers: int, stem: str = "m") -> list[str]:
    return [f"{stem}-{number:05}-of-{total:05}.gguf" for number in numbers]


def test_sets_are_told_by_numbers() -> None:
    assert sets() == []
    assert sets("b.gguf", "a.gguf") == [("a.gguf", ["a.gguf"], []), ("b.gguf", ["b.gguf"], [])]
    assert sets(*numbered(3, 2, 1, 3)) == [("m.gguf", numbered(3, 1, 2, 3), [])]
    assert sets(*numbered(3, 2)) == [("m.gguf", numbered(3, 2), numbered(3, 1, 3))]
    assert [name for name, _, _ in sets(*numbered(1, 1), *numbered(2, 1, 2))] == ["m.gguf"] * 2


def test_shards_of_the_same_bytes_are_two_shards() -> None:
    shards = [part(name, "same") for name in numbered(2, 1, 2)]
    (found,) = weight_sets(shards, {})
    assert found.parts == tuple(shards)
    (one,) = weight_sets([part("a.gguf", "same"), part("b.gguf", "same")], {})
    assert one.name == "b.gguf"


def test_an_index_tells_what_belongs_together() -> None:
    files = {"w1": "a.safetensors", "w2": "b.safetensors", "w3": "a.safetensors"}
    both = ["a.safetensors", "b.safetensors"]
    assert sets(*both, index=files) == [("model.safetensors", both, [])]
    assert sets("a.safetensors", index=files) == [
        ("model.safetensors", ["a.safetensors"], ["b.safetensors"])
    ]
    assert sets("c.safetensors", index=files) == [("c.safetensors", ["c.safetensors"], [])]


def test_files_of_the_same_bytes_that_an_index_lists_are_two() -> None:
    index = json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}).encode()
    shards = [part("a.safetensors", "same"), part("b.safetensors", "same")]
    (found,) = weight_sets(shards, {INDEX: index})
    assert (found.parts, found.missing) == (tuple(shards), ())


def test_ten_thousand_tensors_take_no_long_time() -> None:
    tensors = [Part(Role.WEIGHTS, Descriptor.of(b"%d" % i, "x/t"), f"{i}") for i in range(10_000)]
    start = time.perf_counter()
    (found,) = weight_sets(tensors, {}, "x/t")
    assert chosen([found], "9999") is found
    assert time.perf_counter() - start < 5


def test_an_index_speaks_of_its_own_folder() -> None:
    index = json.dumps({"weight_map": {"w": "a.safetensors", "x": "../../up"}}).encode()
    (found,) = weight_sets([part("tiny/a.safetensors")], {f"tiny/{INDEX}": index})
    assert found.name == "tiny/model.safetensors"
    assert found.missing == ("tiny/up",)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"weight_map":[]}', b'{"weight_map":{"a":1}}', b"," * (MAX_VALUES + 1)],
)
def test_an_index_that_is_none_is_told(content: bytes) -> None:
    with pytest.raises(ModelError, match=INDEX):
        weight_sets([part("a.safetensors")], {INDEX: content})


def test_tensors_are_one_set() -> None:
    tensors = [Part(Role.WEIGHTS, Descriptor.of(b"%d" % i, "x/tensor"), f"t{i}") for i in range(3)]
    (found,) = weight_sets(tensors, {}, "x/tensor")
    assert found.parts == tuple(tensors)


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        (("a",), "the weights are not complete: a is missing"),
        (("a", "b"), "a, b are missing"),
        (tuple("abcdefg"), "a, b, c, d, e and 2 more are missing"),
    ],
)
def test_what_is_missing_is_named(missing: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        WeightSet("m", (), missing).check()
    assert sentence in str(caught.value)
    WeightSet("m", ()).check()


SETS = weight_sets(
    [part(name) for name in ("q4/a.gguf", "q8/a.gguf", "b.gguf", *numbered(2, 1, 2))], {}
)


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("b.gguf", "b.gguf"),
        ("B.GGUF", "b.gguf"),
        ("b", "b.gguf"),
        ("q4/a.gguf", "q4/a.gguf"),
        ("m.gguf", "m.gguf"),
        ("m", "m.gguf"),
        ("m-00002-of-00002.gguf", "m.gguf"),
    ],
)
def test_a_set_is_chosen(choice: str, name: str) -> None:
    assert chosen(SETS, choice).name == name


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ("a.gguf", "'a.gguf' means several of the models in this artifact: b.gguf, m.gguf, q4/a"),
        ("c", "'c' is none of the models in this artifact: b.gguf"),
    ],
)
def test_a_choice_that_is_none_tells_what_there_is(choice: str, sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        chosen(SETS, choice)
    assert sentence in str(caught.value)


def model(files: dict[str, bytes]) -> Model:
    memory = Memory()
    layers = [
        named(
            memory.put(content, f"{CNCF}.weight{'.config' if name == INDEX else ''}.v1.raw"),
            {"org.cncf.model.filepath": name},
        )
        for name, content in files.items()
    ]
    return Model.read(image(memory.put(b"{}", f"{CNCF}.config.v1+json"), layers), memory)


def test_a_choice_leaves_the_other_weights_out() -> None:
    two = model({"a.gguf": GGUF, "b.gguf": GGUF + b"2", "mmproj.gguf": GGUF + b"3"})
    with pytest.raises(ModelError, match=r"two models .*: a.gguf, b.gguf \(choose .* NAME#a.gguf"):
        _ = two.weights
    one = two.choosing("b")
    assert [each.name for each in one.parts] == ["b.gguf", "mmproj.gguf"]
    assert one.weights.name == "b.gguf"
    assert [each.name for each in two.weight_sets] == ["a.gguf", "b.gguf"]


def test_a_model_reads_its_index() -> None:
    index = json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}).encode()
    whole = model({INDEX: index, "b.safetensors": b"2", "a.safetensors": b"1"})
    assert [each.name for each in whole.shards] == ["a.safetensors", "b.safetensors"]
    part_of_it = model({INDEX: index, "a.safetensors": b"1"})
    with pytest.raises(ModelError, match=r"not complete: b\.safetensors is missing"):
        _ = part_of_it.weights
