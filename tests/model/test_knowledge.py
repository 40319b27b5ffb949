"""What is told of a model: facts, capabilities and origin, from weights, config and template."""

import json
from collections.abc import Mapping

import pytest
from writers import WRITERS

from modelpm.model import knowledge
from modelpm.model.facts import Facts
from modelpm.model.gguf import Header
from modelpm.model.model import Model
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.manifest import Manifest
from tests.model.artifacts import Memory, image, named
from tests.model.ggufs import STRING, UINT32, llama, value

KIND = "application/vnd.cncf.model."


def header(tmp_path_factory: pytest.TempPathFactory, **pairs: bytes) -> Header:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    path.write_bytes(llama({key.replace("__", "."): raw for key, raw in pairs.items()}).encode())
    return Header.read(path)


def model(
    files: Mapping[str, bytes], config: bytes = b"{}", annotations: Mapping[str, str] | None = None
) -> Model:
    box = Memory()
    layers = [
        named(box.put(raw, f"{KIND}weight.v1.raw"), {"org.cncf.model.filepath": name})
        for name, raw in files.items()
    ]
    manifest = image(box.put(config, f"{KIND}config.v1+json"), layers)
    if annotations:
        document = json.loads(manifest.raw) | {"annotations": annotations}
        manifest = type(manifest).parse(json.dumps(document).encode())
    return Model.read(manifest, box)


def test_the_weights_word_goes_first(tmp_path_factory: pytest.TempPathFactory) -> None:
    told = Facts(family="other", parameter_size="7B", license="MIT", context_length=99)
    found = knowledge.facts(told, header(tmp_path_factory), {})
    assert found["architecture"] == "llama"
    assert found["context_length"] == 256
    assert found["license"] == "MIT"
    found = knowledge.facts(told, None, {"architecture": "qwen2", "vocabulary_size": 5})
    assert (found["architecture"], found["parameters"]) == ("qwen2", "7B")
    own = header(tmp_path_factory, general__license=value(STRING, "apache-2.0"))
    assert knowledge.facts(told, own, {})["license"] == "apache-2.0"


def test_one_shard_does_not_tell_how_many_parameters_there_are(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    own = header(tmp_path_factory, split__count=value(UINT32, 2))
    found = knowledge.facts(Facts(parameter_size="70B"), own, {})
    assert (found["parameters"], found["parameter_count"]) == ("70B", None)


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("", ["completion"]),
        ("{{ .Prompt }}", ["completion", "chat"]),
        ("{{ if .Suffix }}<PRE>{{ end }}", ["completion", "chat", "insert"]),
        ("{{- range .Tools }}{{ . }}{{ end }}", ["completion", "chat", "tools"]),
        ("{%- if tools is defined -%}x{% endif %}", ["completion", "chat", "tools"]),
        ("{% if enable_thinking %}", ["completion", "chat", "thinking"]),
        ("{{ .Message.Thinking }}", ["completion", "chat", "thinking"]),
        ("you may use tools {{ x }} tools", ["completion", "chat"]),
        ("{{ unclosed tools", ["completion", "chat", "tools"]),
        ("{{" * 500_000, ["completion", "chat"]),
    ],
)
def test_a_template_tells_what_the_model_can_do(template: str, found: list[str]) -> None:
    content = model({"a.gguf": b"GGUF"})
    assert list(knowledge.capabilities(content, Facts(), None, template)) == found


def test_parts_weights_and_config_tell_the_rest(tmp_path_factory: pytest.TempPathFactory) -> None:
    seeing = model({"a.gguf": b"GGUF", "mmproj.gguf": b"GGUF2"})
    assert knowledge.capabilities(seeing, Facts(), None, "") == ("completion", "vision")
    plain = model({"a.gguf": b"GGUF"})
    own = header(tmp_path_factory, llama__pooling_type=value(UINT32, 1))
    assert knowledge.capabilities(plain, Facts(), own, "{{ x }}") == ("embedding",)
    own = header(
        tmp_path_factory,
        llama__vision__block_count=value(UINT32, 1),
        llama__audio__block_count=value(UINT32, 1),
    )
    assert knowledge.capabilities(plain, Facts(), own, "") == ("completion", "vision", "audio")
    told = Facts(capabilities=("embedding", "tools"))
    assert knowledge.capabilities(plain, told, None, "") == ("embedding", "tools")


def test_transformers_config_is_read_as_far_as_it_goes() -> None:
    config = {
        "model_type": "qwen2",
        "max_position_embeddings": 32768,
        "hidden_size": "large",
        "num_hidden_layers": True,
        "torch_dtype": "bfloat16",
        "quantization_config": [],
    }
    found = knowledge.transformers_facts(model({"config.json": json.dumps(config).encode()}))
    assert found == {
        "architecture": "qwen2",
        "context_length": 32768,
        "quantization": "bfloat16",
    }
    for content in (b"{", b"[]", b'"text"'):
        assert knowledge.transformers_facts(model({"config.json": content})) == {}
    assert knowledge.transformers_facts(model({"a.gguf": b"GGUF"})) == {}


def test_origin_is_what_annotations_and_config_say() -> None:
    told = {
        "org.opencontainers.image.revision": "abc",
        "ai.model.repo": "acme/tiny",
        "org.opencontainers.image.title": "",
    }
    config = {"descriptor": {"sourceURL": "https://x", "createdAt": "2026", "title": "Tiny"}}
    found = knowledge.provenance(model({"a.gguf": b"GGUF"}, json.dumps(config).encode(), told))
    assert found == {"source": "acme/tiny", "revision": "abc", "created": "2026", "title": "Tiny"}
    assert knowledge.provenance(model({"a.gguf": b"GGUF"}, b"no json")) == {}


OWN = {"accuracy": 0.9, "good": True, "none": None, "nested": {"a": [1]}, "text": "é"}
TOLD = {"accuracy": 0.9, "good": True, "nested": '{"a": [1]}', "text": "é"}


def omlmd(config: bytes, annotations: Mapping[str, str]) -> Model:
    box = Memory()
    layer = named(box.put(b"GGUF", "application/x-mlmodel"), {})
    manifest = image(box.put(config, "application/x-config"), [layer])
    document = json.loads(manifest.raw) | {"annotations": annotations}
    return Model.read(type(manifest).parse(json.dumps(document).encode()), box)


@pytest.mark.parametrize(
    ("config", "annotations", "found"),
    [
        (json.dumps({"customProperties": OWN}).encode(), {}, TOLD),
        (b"{}", {"customProperties+json": json.dumps(OWN)}, TOLD),
        (b'{"customProperties":{"a":1}}', {"customProperties+json": '{"b":2}'}, {"a": 1, "b": 2}),
        (b"name: tiny", {"customProperties+json": "no JSON"}, {}),
        (b'{"customProperties":[1]}', {"customProperties+json": "\ud800"}, {}),
    ],
)
def test_what_a_writer_tells_in_words_of_its_own(
    config: bytes, annotations: dict[str, str], found: dict[str, object]
) -> None:
    assert knowledge.properties(omlmd(config, annotations)) == found


def test_no_more_properties_than_anybody_reads() -> None:
    many = {f"{number} {'k' * 600}": "v" * 600 for number in range(200)}
    found = knowledge.properties(omlmd(json.dumps({"customProperties": many}).encode(), {}))
    assert len(found) == knowledge.MAX_PROPERTIES
    assert {(len(key), len(str(value))) for key, value in found.items()} == {(500, 500)}


def test_omlmd_tells_its_origin_in_both_places() -> None:
    config = {"name": "tiny", "author": "me", "uri": "https://x", "model_format_name": "gguf"}
    model = omlmd(json.dumps(config).encode(), {"name": "other", "description": "Noise."})
    assert knowledge.provenance(model) == {
        "title": "other",
        "description": "Noise.",
        "authors": "me",
        "source": "https://x",
    }
    assert model.format == "gguf"


def test_others_have_their_own_words() -> None:
    told = {"io.palan.serve.defaults": '{"ctx":128}', "customProperties+json": '{"a":1}'}
    kitfile = {"ml.kitops.modelkit.kitfile": '{"model":{"parameters":{"b":2}}}', "author": "me"}
    found = model({"a.gguf": b"GGUF"}, b'{"descriptor":{"authors":["A","B",7]}}', told | kitfile)
    assert knowledge.properties(found) == {"ctx": 128, "b": 2}
    assert knowledge.provenance(found) == {"authors": "A, B"}


@pytest.mark.parametrize(
    ("name", "origin", "properties"),
    [
        (
            "omlmd",
            {"title": "tiny", "authors": "modelpm"},
            {"accuracy": 0.987, "trained": '{"on": "noise"}'},
        ),
        ("kitops", {"title": "tiny"}, {"context": 128, "quantized": False}),
        ("kitops-oldest", {"title": "tiny", "authors": "modelpm"}, {}),
    ],
)
def test_writers_tell_what_they_know(
    name: str, origin: dict[str, str], properties: dict[str, object]
) -> None:
    box = Memory()
    artifact = WRITERS[name].make()
    for content in artifact.all_blobs.values():
        box.put(content, "x/y")
    found = Model.read(Manifest.parse(artifact.manifest, artifact.media_type), box)
    assert knowledge.provenance(found) == origin
    assert knowledge.properties(found) == properties


def test_a_config_of_another_kind_is_not_read() -> None:
    box = Memory()
    layer = named(box.put(b"GGUF", f"{KIND}weight.v1.raw"), {})
    config = Descriptor.of(b"{}", "application/x-config")
    assert knowledge.provenance(Model.read(image(config, [layer]), box)) == {}
