"""Models: parts with roles and names, texts read and verified, facts, shards, refusals."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from modelpm.errors import DigestMismatchError, InvalidManifestError, ModelError, NotFoundError
from modelpm.model import modelfile
from modelpm.model.model import Facts, Message, Model, Role
from modelpm.oci.descriptor import Descriptor
from tests.model.artifacts import EMPTY, GGUF, OCTETS, Memory, image, named

OLLAMA = "application/vnd.ollama.image"
CNCF = "application/vnd.cncf.model"
DOCKER = "application/vnd.docker.ai"
KIT = "application/vnd.kitops.modelkit"
CONFIG = "application/vnd.docker.container.image.v1+json"
FILEPATH = "org.cncf.model.filepath"
METADATA = "org.cncf.model.file.metadata+json"
TITLE = "org.opencontainers.image.title"

OLLAMA_CONFIG = {
    "model_format": "gguf",
    "model_family": "llama",
    "model_type": "7B",
    "file_type": "Q4_0",
    "context_length": 4096,
}


def ollama(memory: Memory, texts: Mapping[str, str | bytes], config: object = None) -> Model:
    """An Ollama model of a GGUF and these texts by layer type; `name 2` repeats a type."""
    layers = [memory.put(GGUF, f"{OLLAMA}.model")]
    for kind, text in texts.items():
        raw = text if isinstance(text, bytes) else text.encode()
        layers.append(memory.put(raw, f"{OLLAMA}.{kind.split()[0]}"))
    raw = json.dumps(OLLAMA_CONFIG if config is None else config).encode()
    return Model.read(image(memory.put(raw, CONFIG), layers), memory)


def pack(
    memory: Memory, files: Mapping[str, bytes], kind: str = "weight.v1.raw", config: object = None
) -> Model:
    """A ModelPack artifact of these files by path."""
    layers = [
        named(memory.put(content, f"{CNCF}.{kind}"), {FILEPATH: path})
        for path, content in files.items()
    ]
    raw = memory.put(json.dumps(config or {}).encode(), f"{CNCF}.config.v1+json")
    return Model.read(image(raw, layers), memory)


def oras(memory: Memory, files: Mapping[str, bytes]) -> Model:
    """A plain ORAS artifact of these files by title; an empty title is none."""
    layers = [
        named(memory.put(content, OCTETS), {TITLE: title} if title.strip() else {})
        for title, content in files.items()
    ]
    return Model.read(image(memory.put(b"{}", EMPTY), layers), memory)


def names(model: Model) -> list[tuple[str, str]]:
    return [(part.role.value, part.name) for part in model.parts]


def test_an_ollama_model_has_its_parts() -> None:
    memory = Memory()
    model = ollama(
        memory,
        {
            "template": "{{ .Prompt }}",
            "system": "be kind",
            "params": '{"stop":["\\u003c|x|>"],"temperature":0.5,"num_ctx":99999999,"own":[1]}',
            "license": "MIT",
            "license 2": "also this",
            "messages": '[{"role":"user","content":"hi"},{"role":"assistant","content":"yes"}]',
        },
    )
    assert model.dialect.name == "ollama"
    assert names(model) == [
        ("weights", "model.gguf"),
        ("template", "template"),
        ("system", "system"),
        ("parameters", "params.json"),
        ("license", "LICENSE"),
        ("license", "LICENSE-2"),
        ("messages", "messages.json"),
    ]
    assert memory.fetched == []
    assert model.weights.descriptor == model.manifest.layers[0]
    assert model.shards == (model.weights,)
    assert model.template == "{{ .Prompt }}"
    assert model.chat_template is None
    assert model.system == "be kind"
    assert model.licenses == ("MIT", "also this")
    assert model.messages == (Message("user", "hi"), Message("assistant", "yes"))
    assert model.parameters == {
        "stop": ("<|x|>",),
        "temperature": 0.5,
        "num_ctx": 2**24,
        "own": [1],
    }
    assert model.facts == Facts("llama", "7B", "Q4_0", "gguf", 4096)
    assert (model.family, model.parameter_size, model.quantization) == ("llama", "7B", "Q4_0")
    assert (model.format, model.context_length) == ("gguf", 4096)


def test_a_model_without_texts_has_none() -> None:
    model = ollama(Memory(), {}, config={"model_family": 7, "context_length": "x"})
    assert model.template is None
    assert model.system is None
    assert model.licenses == ()
    assert model.messages == ()
    assert model.parameters == {}
    assert model.facts == Facts()


def test_later_texts_win_and_parameters_are_merged() -> None:
    model = ollama(
        Memory(),
        {
            "prompt": "old",
            "template": "new",
            "params": '{"top_k":1,"top_p":0.1}',
            "params 2": '{"top_k":2}',
        },
    )
    assert model.template == "new"
    assert model.parameters == {"top_k": 2, "top_p": 0.1}


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert ollama(Memory(), {"system": b"a\xffb"}).system == "a\ufffdb"


@pytest.mark.parametrize(
    ("texts", "read", "sentence"),
    [
        ({"params": "[]"}, "parameters", "not a JSON object"),
        ({"params": "{"}, "parameters", "the model's parameters: not valid JSON"),
        ({"params": '{"top_k":"x"}'}, "parameters", "top_k is a number"),
        ({"params": '{"top_k":NaN}'}, "parameters", "NaN is not JSON"),
        ({"messages": "{}"}, "messages", "not a list"),
        ({"messages": '[{"role":"king","content":""}]'}, "messages", "no role or no text"),
        ({"messages": '[{"role":"user","content":1}]'}, "messages", "no role or no text"),
        ({"messages": "[1]"}, "messages", "no role or no text"),
        (
            {f"license {i}": "x" * 2**19 + str(i) for i in range(9)},
            "licenses",
            "the license has more than 4194304 bytes",
        ),
    ],
)
def test_a_broken_text_is_told(texts: dict[str, str], read: str, sentence: str) -> None:
    model = ollama(Memory(), texts)
    with pytest.raises(ModelError) as caught:
        getattr(model, read)
    assert sentence in str(caught.value)


def test_texts_are_verified_and_bounded() -> None:
    memory = Memory()
    model = ollama(memory, {"system": "be kind", "license": "x" * (2**20 + 1)})
    memory.content[model.parts[1].descriptor.digest] = b"be mean"
    with pytest.raises(DigestMismatchError):
        _ = model.system
    with pytest.raises(InvalidManifestError, match="the limit is 1048576"):
        _ = model.licenses
    del memory.content[model.parts[1].descriptor.digest]
    with pytest.raises(NotFoundError):
        _ = model.system


def test_the_config_is_read_once_and_verified() -> None:
    memory = Memory()
    model = ollama(memory, {})
    assert model.family == "llama"
    assert model.format == "gguf"
    assert len(memory.fetched) == 1
    other = ollama(memory, {"system": "x"})
    memory.content[memory.fetched[0]] = b"{}"
    with pytest.raises(DigestMismatchError):
        _ = other.facts


def test_a_config_that_is_no_json_is_told() -> None:
    memory = Memory()
    layers = [memory.put(GGUF, f"{OLLAMA}.model")]
    model = Model.read(image(memory.put(b"\xff", CONFIG), layers), memory)
    with pytest.raises(ModelError, match="the model's config: not valid JSON"):
        _ = model.facts


def test_a_docker_model() -> None:
    memory = Memory()
    told = {
        "config": {
            "format": "gguf",
            "quantization": "MOSTLY_Q4_K_M",
            "parameters": "361.82 M",
            "architecture": "llama",
            "context_size": 8192,
        }
    }
    config = memory.put(json.dumps(told).encode(), f"{DOCKER}.model.config.v0.1+json")
    layers = [
        memory.put(GGUF, f"{DOCKER}.gguf.v3"),
        memory.put(b"proj", f"{DOCKER}.mmproj"),
        memory.put(b"{{ m }}", f"{DOCKER}.chat.template.jinja"),
        memory.put(b"MIT", f"{DOCKER}.license"),
    ]
    model = Model.read(image(config, layers), memory)
    assert names(model) == [
        ("weights", "model.gguf"),
        ("projector", "mmproj.gguf"),
        ("template", "chat_template.jinja"),
        ("license", "LICENSE"),
    ]
    assert model.template is None
    assert model.chat_template == "{{ m }}"
    assert model.facts == Facts("llama", "361.82 M", "MOSTLY_Q4_K_M", "gguf", 8192)


def test_docker_shards_without_names_are_in_layer_order() -> None:
    memory = Memory()
    config = memory.put(b"{}", f"{DOCKER}.model.config.v0.1+json")
    layers = [memory.put(GGUF + bytes([i]), f"{DOCKER}.gguf.v3") for i in range(3)]
    model = Model.read(image(config, layers), memory)
    assert [part.name for part in model.shards] == [
        f"model-0000{i}-of-00003.gguf" for i in (1, 2, 3)
    ]
    assert [part.descriptor for part in model.shards] == layers


def test_docker_safetensors_and_archives() -> None:
    memory = Memory()
    config = memory.put(b"{}", f"{DOCKER}.model.config.v0.2+json")
    layers = [
        memory.put(b"st", f"{DOCKER}.safetensors"),
        memory.put(b"tar", f"{DOCKER}.vllm.config.tar"),
    ]
    model = Model.read(image(config, layers), memory)
    assert names(model) == [("weights", "model.safetensors"), ("config", "config.json")]


def test_a_modelpack_model() -> None:
    memory = Memory()
    told = {
        "descriptor": {"family": "llama"},
        "config": {"format": "gguf", "paramSize": "7B", "quantization": "Q4_K_M"},
    }
    model = pack(memory, {"model.gguf": GGUF, "mmproj.gguf": b"p"}, config=told)
    assert model.dialect.name == "modelpack"
    assert names(model) == [("weights", "model.gguf"), ("projector", "mmproj.gguf")]
    assert model.facts == Facts("llama", "7B", "Q4_K_M", "gguf")
    assert model.weights.name == "model.gguf"


def test_modelpack_texts_by_their_names() -> None:
    memory = Memory()
    files = {"chat_template.jinja": b"{{ m }}", "chat_template.json": b"{}"}
    model = pack(memory, files, "weight.config.v1.raw")
    assert model.chat_template == "{{ m }}"
    assert model.template is None
    assert pack(memory, {"LICENSE": b"MIT"}, "doc.v1.raw").licenses == ("MIT",)
    assert pack(memory, {"LICENSE": b"tar..."}, "doc.v1.tar").licenses == ()


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ({FILEPATH: "a/b.gguf", TITLE: "c.gguf"}, "a/b.gguf"),
        ({"org.cnai.model.filepath": "old.gguf"}, "old.gguf"),
        ({METADATA: '{"name":"m.gguf","typeflag":48}', TITLE: "c.gguf"}, "m.gguf"),
        ({METADATA: '{"name":7}', TITLE: "c.gguf"}, "c.gguf"),
        ({METADATA: "not json", TITLE: "c.gguf"}, "c.gguf"),
        ({METADATA: '"\ud800', TITLE: "c.gguf"}, "c.gguf"),
        ({"olot.layer.content.inlayerpath": "/models/x.gguf"}, "models/x.gguf"),
        ({TITLE: "../../etc/passwd"}, "etc/passwd"),
        ({TITLE: ""}, "model.gguf"),
        ({}, "model.gguf"),
    ],
)
def test_a_file_gets_a_safe_name(annotations: dict[str, str], name: str) -> None:
    memory = Memory()
    layer = named(memory.put(GGUF, f"{CNCF}.weight.v1.raw"), annotations)
    artifact = image(memory.put(b"{}", f"{CNCF}.config.v1+json"), [layer])
    assert Model.read(artifact, memory).weights.name == name


def test_an_oras_model_by_its_title() -> None:
    memory = Memory()
    model = oras(memory, {"README.md": b"hello", "tiny.GGUF": GGUF})
    assert names(model) == [("document", "README.md"), ("weights", "tiny.GGUF")]
    assert model.weights.name == "tiny.GGUF"
    assert model.facts == Facts()
    assert memory.fetched == []


def test_an_oras_model_by_its_first_bytes() -> None:
    memory = Memory()
    model = oras(memory, {"notes": b"x" * 64, "": GGUF, "short": b"GGUF"})
    assert names(model) == [("other", "notes"), ("weights", "model.gguf"), ("other", "short")]
    assert len(memory.fetched) == 2


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"a.txt": b"x" * 64},
        {"a": b"GG"},
        {"a": b"GGU" + bytes(64)},
        {f"f{i}": b"y" * (40 + i) for i in range(20)},
    ],
)
def test_an_oras_artifact_without_a_gguf_is_no_model(files: dict[str, bytes]) -> None:
    memory = Memory()
    with pytest.raises(ModelError, match="no layer is a GGUF or safetensors file"):
        oras(memory, files)
    assert len(memory.fetched) <= 16


@pytest.mark.parametrize("ending", ["", ".gguf"])
def test_an_oras_artifact_with_two_ggufs_holds_two_models(ending: str) -> None:
    model = oras(Memory(), {f"a{ending}": GGUF, f"b{ending}": GGUF + b"2"})
    with pytest.raises(ModelError, match="two models in one artifact: a"):
        _ = model.weights


SET = {f"m-0000{i}-of-00003.gguf": GGUF + bytes([i]) for i in (2, 1, 3)}


@pytest.mark.parametrize(
    ("files", "shards"),
    [
        (SET, sorted(SET)),
        ({"model.gguf": GGUF, "copy.gguf": GGUF}, ["copy.gguf"]),
        ({"model.gguf": GGUF, "model.safetensors": b"st"}, ["model.gguf"]),
        ({"a.safetensors": b"st"}, ["a.safetensors"]),
    ],
)
def test_the_weights_are_one_file_or_one_set(files: dict[str, bytes], shards: list[str]) -> None:
    model = pack(Memory(), files)
    assert [part.name for part in model.shards] == shards
    assert model.weights.name == shards[0]


@pytest.mark.parametrize(
    ("files", "kind", "sentence"),
    [
        ({}, "weight.v1.raw", "has no weights (modelpack)"),
        (
            {"m.gguf": GGUF, "m-00001-of-00001.gguf": GGUF + b"2"},
            "weight.v1.raw",
            "two models in one artifact: m.gguf, m.gguf",
        ),
        ({"README.md": b"x"}, "doc.v1.raw", "has no weights"),
        (
            {"a.gguf": GGUF, "b.gguf": GGUF + b"2"},
            "weight.v1.raw",
            "two models in one artifact: a.gguf, b.gguf",
        ),
        (
            {"m-00001-of-00003.gguf": GGUF, "m-00003-of-00003.gguf": GGUF + b"3"},
            "weight.v1.raw",
            "m-00002-of-00003.gguf is missing",
        ),
        ({"m-00002-of-00002.gguf": GGUF}, "weight.v1.raw", "m-00001-of-00002.gguf is missing"),
        ({"model.gguf": b"tar"}, "weight.v1.tar", "model.gguf is inside an archive"),
        ({"model.gguf": b"tar"}, "weight.v1.tar+gzip", "inside an archive"),
        ({"model.gguf": b"raw"}, "weight.v1.raw+zstd", "inside an archive"),
    ],
)
def test_weights_that_no_engine_can_take_are_refused(
    files: dict[str, bytes], kind: str, sentence: str
) -> None:
    model = pack(Memory(), files, kind)
    with pytest.raises(ModelError) as caught:
        _ = model.weights
    assert sentence in str(caught.value)


def test_a_kit_says_that_its_files_are_in_archives() -> None:
    memory = Memory()
    config = memory.put(b"{}", f"{KIT}.config.v1+json")
    model = Model.read(image(config, [memory.put(b"tar", f"{KIT}.model.v1.tar")]), memory)
    with pytest.raises(ModelError, match="inside an archive"):
        _ = model.weights


def test_the_summary_is_json() -> None:
    model = ollama(Memory(), {"system": "x"})
    summary = json.loads(json.dumps(model.summary()))
    assert summary["dialect"] == "ollama"
    assert summary["digest"] == str(model.manifest.digest)
    assert summary["family"] == "llama"
    assert [part["role"] for part in summary["parts"]] == ["weights", "system"]
    assert summary["parts"][0]["size"] == len(GGUF)


def test_a_model_is_described_by_a_modelfile() -> None:
    model = ollama(
        Memory(),
        {
            "template": "{{ .Prompt }}\n",
            "system": "be kind",
            "params": '{"stop":["A","B"],"use_mmap":true,"own":1,"top_p":0.5}',
            "license": "MIT",
            "messages": '[{"role":"user","content":"hi"}]',
        },
    )
    text = modelfile.render(modelfile.describe(model, "llama2"))
    assert text == (
        'FROM llama2\nTEMPLATE "{{ .Prompt }}\n"\nSYSTEM be kind\nPARAMETER stop A\n'
        "PARAMETER stop B\nPARAMETER use_mmap true\nPARAMETER top_p 0.5\nLICENSE MIT\n"
        "MESSAGE user hi\n"
    )
    assert modelfile.parse(text).parameters == {"stop": ("A", "B"), "use_mmap": True, "top_p": 0.5}


def test_models_compare_by_what_they_are() -> None:
    one, other = ollama(Memory(), {}), ollama(Memory(), {})
    assert one == other
    assert "Memory" not in repr(one)
    assert replace(one, parts=()) != one
    assert isinstance(one.parts[0].descriptor, Descriptor)
    assert one.parts[0].role is Role.WEIGHTS
