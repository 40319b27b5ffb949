"""What a model's files say of it."""

import json
from pathlib import Path

import pytest
from tiny import safetensors

from modelpm.errors import ModelError
from modelpm.model.about import About, of_facts, of_ggufs, of_safetensors
from modelpm.model.facts import Facts
from modelpm.model.gguf import Header
from tests.model.ggufs import FLOAT32, INT32, STRING, array, llama, value


def header(path: Path, **changes: bytes) -> Header:
    path.write_bytes(llama({key.replace("__", "."): raw for key, raw in changes.items()}).encode())
    return Header.read(path)


def test_a_gguf_tells_all(tmp_path: Path) -> None:
    first = header(
        tmp_path / "a",
        general__tags=array(STRING, ["x", "y"]),
        general__weights=array(FLOAT32, [0.5, 2.0]),
        general__many=array(INT32, list(range(60))),
        general__long=value(STRING, "x" * 70_000),
    )
    about = of_ggufs([first, header(tmp_path / "b")])
    assert (about.format, about.family, about.name) == ("gguf", "llama", "tiny")
    assert about.quantization == "Q8_0"
    assert about.context_length == 256
    assert about.parameter_size == "4.7K"
    assert about.metadata["general.tags"] == "x, y"
    assert about.metadata["general.weights"] == "0.500000, 2.000000"
    assert about.metadata["llama.block_count"] == "2"
    assert about.metadata["tokenizer.ggml.add_bos_token"] == "true"
    assert not {"general.many", "general.long", "tokenizer.ggml.tokens"} & set(about.metadata)


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (None, About("safetensors", "", "8", precision="fp32")),
        ({"torch_dtype": "bfloat16"}, About("safetensors", "", "8", precision="bf16")),
        ({"dtype": "float16", "model_type": "x"}, About("safetensors", "x", "8", precision="fp16")),
        (
            {
                "max_position_embeddings": 4096,
                "quantization_config": {"quant_method": "awq"},
                "torch_dtype": "odd",
            },
            About("safetensors", "", "8", "awq", context_length=4096),
        ),
        (
            {"max_position_embeddings": "many", "model_type": 5},
            About("safetensors", "", "8", precision="fp32"),
        ),
        ([], About("safetensors", "", "8", precision="fp32")),
    ],
)
def test_safetensors_and_their_config(tmp_path: Path, config: object, wanted: About) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(safetensors(name))
    raw = None if config is None else json.dumps(config).encode()
    assert of_safetensors([tmp_path / "a", tmp_path / "b"], raw) == wanted


def test_a_file_with_metadata_and_no_tensor_has_no_numbers(tmp_path: Path) -> None:
    raw = json.dumps({"__metadata__": {"format": "pt"}}).encode()
    (tmp_path / "a").write_bytes(len(raw).to_bytes(8, "little") + raw)
    assert of_safetensors([tmp_path / "a"], b"x" * 2**21) == About("safetensors", "", "0")


@pytest.mark.parametrize(
    ("content", "config", "sentence"),
    [
        (b"x" * 100, None, "safetensors"),
        (safetensors("a")[:-1], None, "cut off"),
        (safetensors("a"), b"{", "config.json: not valid JSON"),
    ],
    ids=["alien", "cut", "config"],
)
def test_a_flaw_is_told(tmp_path: Path, content: bytes, config: bytes, sentence: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ModelError, match=sentence):
        of_safetensors([tmp_path / "a"], config)
    with pytest.raises(ModelError, match="gone cannot be read"):
        of_safetensors([tmp_path / "gone"], None)


def test_facts_are_the_last_resort() -> None:
    assert of_facts(Facts()) == About()
    facts = Facts("llama", "7B", "Q4_0", "gguf", 4096)
    assert of_facts(facts) == About("gguf", "llama", "7B", "Q4_0", context_length=4096)
