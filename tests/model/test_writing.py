"""Writing artifacts: each format's rules, and what every reader of the default one asks for."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ollama_artifacts
import pytest
import registry

from modelpm.errors import ModelError
from modelpm.model.about import About
from modelpm.model.blueprint import Blueprint
from modelpm.model.dialects import recognise
from modelpm.model.parts import Part
from modelpm.model.roles import Role
from modelpm.model.writing import FORMATS, Written, homeless, write
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import DOCKER_MANIFEST, OCI_MANIFEST, Manifest
from tests.model.artifacts import Memory

MODELPACK, OLLAMA, DOCKER = (FORMATS[name] for name in ("modelpack", "ollama", "docker"))
CNCF = "application/vnd.cncf.model."
ABOUT = About(
    format="gguf",
    family="llama",
    parameter_size="7B",
    quantization="Q4_K_M",
    name="tiny <&>",
    context_length=4096,
    metadata={"general.name": "tiny", "llama.block_count": "2"},
)
NAMES = {
    Role.WEIGHTS: "model.gguf",
    Role.PROJECTOR: "vision.gguf",
    Role.ADAPTER: "lora.gguf",
    Role.DRAFT: "draft.gguf",
    Role.CONFIG: "config.json",
    Role.TOKENIZER: "tokenizer.json",
    Role.TEMPLATE: "template",
    Role.SYSTEM: "system",
    Role.PARAMETERS: "params.json",
    Role.LICENSE: "LICENSE",
    Role.MESSAGES: "messages.json",
    Role.DOCUMENT: "docs/README.md",
    Role.OTHER: "modeling.py",
}
OLLAMA_HAS = [
    *(Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFT, Role.TEMPLATE, Role.SYSTEM),
    *(Role.LICENSE, Role.PARAMETERS, Role.MESSAGES),
]
SAFETENSORS = {
    "model-00001-of-00002.safetensors": Role.WEIGHTS,
    "model-00002-of-00002.safetensors": Role.WEIGHTS,
    "model.safetensors.index.json": Role.CONFIG,
    "config.json": Role.CONFIG,
    "tokenizer.json": Role.TOKENIZER,
    "chat_template.jinja": Role.TEMPLATE,
    "LICENSE": Role.LICENSE,
}


def part(role: Role, name: str) -> Part:
    return Part(role, Descriptor.of(name.encode(), "application/octet-stream"), name)


def blueprint(*roles: Role, **more: Any) -> Blueprint:
    return Blueprint(tuple(part(role, NAMES[role]) for role in roles), ABOUT, **more)


def everything() -> Blueprint:
    return blueprint(*reversed(NAMES))


def folder() -> Blueprint:
    about = About(format="safetensors", family="qwen2", parameter_size="1.5B", precision="bf16")
    return Blueprint(tuple(part(role, name) for name, role in SAFETENSORS.items()), about)


def types(written: Written) -> list[str]:
    return [layer.media_type for layer in written.manifest.layers]


def config_of(written: Written) -> Any:
    assert written.manifest.config is not None
    assert written.manifest.config.digest == Digest.of(written.config)
    return json.loads(written.config)


# The default: what its readers ask for (formats.md 1.11), a line a rule.

Layer = Mapping[str, Any]


def each_layer(rule: Callable[[Layer], bool]) -> Callable[[Layer], bool]:
    return lambda manifest: all(map(rule, manifest["layers"]))


def annotation(layer: Layer, key: str) -> str:
    value = layer["annotations"][key]
    assert isinstance(value, str)
    return value


PATH, TITLE = "org.cncf.model.filepath", "org.opencontainers.image.title"
RULES: dict[str, Callable[[Layer], bool]] = {
    "spec: artifact type": lambda m: m["artifactType"] == f"{CNCF}manifest.v1+json",
    "spec: OCI manifest": lambda m: (m["mediaType"], m["schemaVersion"]) == (OCI_MANIFEST, 2),
    "spec: layer types": each_layer(
        lambda layer: (
            layer["mediaType"]
            in {f"{CNCF}{kind}.v1.raw" for kind in ("weight", "weight.config", "doc", "code")}
        )
    ),
    "modctl: a codec it has": each_layer(
        lambda layer: layer["mediaType"].endswith((".raw", ".tar"))
    ),
    "DMR: config type": lambda m: m["config"]["mediaType"] == f"{CNCF}config.v1+json",
    "DMR: raw weights": each_layer(
        lambda layer: ".weight.v1." not in layer["mediaType"] or layer["mediaType"].endswith(".raw")
    ),
    "DMR: mmproj in the name": lambda m: (
        sum("mmproj" in annotation(layer, PATH) for layer in m["layers"]) == 1
    ),
    "KitOps: config or artifact type": lambda m: m["artifactType"].startswith(CNCF),
    "KitOps: a path on each layer": each_layer(lambda layer: bool(annotation(layer, PATH))),
    "RamaLama: a path on each layer": each_layer(lambda layer: bool(annotation(layer, PATH))),
    "RamaLama: metadata that parses": each_layer(
        lambda layer: (
            json.loads(annotation(layer, "org.cncf.model.file.metadata+json"))["name"]
            == annotation(layer, PATH)
        )
    ),
    "ORAS: a title on each layer": each_layer(lambda layer: bool(annotation(layer, TITLE))),
    "ORAS: each title once": lambda m: (
        len({annotation(layer, TITLE) for layer in m["layers"]}) == len(m["layers"])
    ),
    "ORAS: titles below the folder": each_layer(
        lambda layer: (
            not Path(annotation(layer, TITLE)).is_absolute()
            and ".." not in Path(annotation(layer, TITLE)).parts
        )
    ),
    "palan: no tar": each_layer(lambda layer: layer["mediaType"].endswith(".raw")),
    "llmman: the first GGUF is the model": lambda m: (
        annotation(m["layers"][0], PATH) == "model.gguf"
        and m["layers"][0]["mediaType"] == f"{CNCF}weight.v1.raw"
    ),
    "all: one name": each_layer(lambda layer: annotation(layer, PATH) == annotation(layer, TITLE)),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_default_format_keeps_every_readers_rule(rule: str) -> None:
    manifest = json.loads(write(everything(), MODELPACK).manifest.raw)
    assert RULES[rule](manifest)


def test_the_modelpack_config_is_what_its_schema_allows() -> None:
    written = write(replace(everything(), created=datetime(2026, 2, 3, tzinfo=UTC)), MODELPACK)
    config = config_of(written)
    assert config["descriptor"] == {
        "createdAt": "2026-02-03T00:00:00Z",
        "family": "llama",
        "name": "tiny <&>",
    }
    assert config["config"] == {
        "architecture": "transformer",
        "format": "gguf",
        "paramSize": "7B",
        "quantization": "Q4_K_M",
    }
    digests = [str(layer.digest) for layer in written.manifest.layers]
    assert config["modelfs"] == {"type": "layers", "diffIds": digests}
    assert set(config) == {"descriptor", "config", "modelfs"}


def test_a_family_that_is_unknown_is_its_own_architecture() -> None:
    about = replace(ABOUT, family="mamba", name=None)
    config = config_of(write(replace(everything(), about=about), MODELPACK))
    assert config["config"]["architecture"] == "mamba"
    assert config["descriptor"] == {"family": "mamba"}
    nothing = config_of(write(replace(everything(), about=About()), MODELPACK))
    assert (nothing["descriptor"], nothing["config"]) == ({}, {})


def test_file_metadata_tells_nothing_of_this_machine() -> None:
    layer = write(blueprint(Role.WEIGHTS), MODELPACK).manifest.layers[0]
    told = layer.annotations["org.cncf.model.file.metadata+json"]
    assert told == (
        '{"name":"model.gguf","mode":420,"uid":0,"gid":0,"size":10,'
        '"mtime":"1970-01-01T00:00:00Z","typeflag":0}'
    )
    assert layer.annotations["org.cncf.model.file.mediatype.untested"] == "false"


@pytest.mark.parametrize("form", [MODELPACK, DOCKER], ids=["modelpack", "docker"])
def test_what_is_written_is_read_back(form: Any) -> None:
    manifest = write(everything(), form).manifest
    dialect = recognise(manifest)
    found = [
        (dialect.role(layer, layer.annotations[TITLE]), layer.annotations[TITLE])
        for layer in manifest.layers
    ]
    assert found == [
        (role, "mmproj-vision.gguf" if role is Role.PROJECTOR else NAMES[role])
        for role in (
            *(Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFT, Role.CONFIG, Role.TOKENIZER),
            *(Role.TEMPLATE, Role.SYSTEM, Role.LICENSE, Role.PARAMETERS, Role.MESSAGES),
            *(Role.DOCUMENT, Role.OTHER),
        )
    ]


def test_ollamas_roles_are_read_back() -> None:
    manifest = write(blueprint(*reversed(OLLAMA_HAS)), OLLAMA).manifest
    dialect = recognise(manifest)
    assert [dialect.role(layer, "") for layer in manifest.layers] == OLLAMA_HAS
    assert not any(layer.annotations for layer in manifest.layers)


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_the_same_blueprint_makes_the_same_bytes(form: Any) -> None:
    first, second = write(everything(), form), write(everything(), form)
    assert (first.config, first.manifest.raw) == (second.config, second.manifest.raw)
    assert b"202" not in first.manifest.raw  # no year
    assert Manifest.parse(first.manifest.raw) == first.manifest


# Ollama.


def test_ollama_writes_the_fixture_byte_for_byte() -> None:
    recipe = ollama_artifacts.read_modelfile(Path(registry.__file__).parent / "llama2/Modelfile")
    wanted = ollama_artifacts.artifact(recipe, size="7B", quantization="Q4_K_M")
    contents = {
        Role.WEIGHTS: ("m.gguf", recipe.weights),
        Role.PARAMETERS: ("params.json", ollama_artifacts.go_json(recipe.parameters)),
        Role.LICENSE: ("LICENSE", recipe.licenses[0].encode()),
        Role.SYSTEM: ("system", (recipe.system or "").encode()),
        Role.TEMPLATE: ("template", (recipe.template or "").encode()),
    }
    memory = Memory()
    parts = tuple(
        Part(role, memory.put(raw, "a/b"), name) for role, (name, raw) in contents.items()
    )
    written = write(Blueprint(parts, ABOUT), OLLAMA)
    assert written.manifest.raw == wanted.manifest
    assert written.manifest.media_type == DOCKER_MANIFEST
    assert wanted.blobs[str(Digest.of(written.config))] == written.config


def test_ollamas_words_stand_between_quantisation_and_architecture() -> None:
    words = {"requires": "0.14.0", "parser": "qwen3", "renderer": "<qwen3>"}
    written = write(blueprint(Role.WEIGHTS, words=words), OLLAMA)
    assert (
        b'"file_type":"Q4_K_M","renderer":"\\u003cqwen3\\u003e","parser":"qwen3",'
        b'"requires":"0.14.0","architecture":"amd64"'
    ) in written.config
    assert homeless(blueprint(Role.WEIGHTS, words=words), OLLAMA) == []
    for form in (MODELPACK, DOCKER):
        assert homeless(blueprint(Role.WEIGHTS, words=words), form) == list(words)


def test_ollama_has_no_place_for_much() -> None:
    assert homeless(everything(), OLLAMA) == [
        "modeling.py (other)",
        "docs/README.md (document)",
        "tokenizer.json (tokenizer)",
        "config.json (config)",
    ]
    jinja = Blueprint((part(Role.TEMPLATE, "chat_template.jinja"),), ABOUT)
    assert homeless(jinja, OLLAMA) == ["chat_template.jinja (template)"]
    assert types(write(everything(), OLLAMA)) == types(write(blueprint(*OLLAMA_HAS), OLLAMA))


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        (folder(), "nothing that is left has weights that the format ollama can hold"),
        (blueprint(Role.SYSTEM), "nothing that is left has weights"),
        (
            Blueprint(tuple(part(Role.WEIGHTS, f"m-0000{n}-of-00002.gguf") for n in (1, 2)), ABOUT),
            "the weights are 2 files",
        ),
    ],
)
def test_what_ollama_cannot_hold_is_refused(plan: Blueprint, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        write(plan, OLLAMA)


# Docker.


def test_docker_writes_a_gguf_as_v0_1() -> None:
    jinja = part(Role.TEMPLATE, "chat_template.jinja")
    base = blueprint(Role.LICENSE, Role.PROJECTOR, Role.WEIGHTS)
    written = write(replace(base, parts=(*base.parts, jinja)), DOCKER)
    assert written.manifest.artifact_type is None
    assert written.manifest.config is not None
    kinds = ["gguf.v3", "mmproj", "chat.template.jinja", "license"]
    assert types(written) == [f"application/vnd.docker.ai.{kind}" for kind in kinds]
    assert written.manifest.config.media_type.endswith("model.config.v0.1+json")
    config = config_of(written)
    assert config["config"] == {
        "format": "gguf",
        "quantization": "Q4_K_M",
        "parameters": "7B",
        "architecture": "llama",
        "size": "0.00MiB",
        "gguf": {"general.name": "tiny", "llama.block_count": "2"},
        "context_size": 4096,
    }
    digests = [str(layer.digest) for layer in written.manifest.layers]
    assert config["rootfs"] == {"type": "rootfs", "diff_ids": digests}
    assert config["descriptor"] == {}


def test_docker_writes_a_folder_as_v0_2() -> None:
    written = write(replace(folder(), created=datetime(2026, 1, 1, tzinfo=UTC)), DOCKER)
    assert written.manifest.config is not None
    assert written.manifest.config.media_type.endswith("model.config.v0.2+json")
    kinds = [*2 * ["safetensors"], *3 * ["model.file"], "chat.template.jinja", "license"]
    assert types(written) == [f"application/vnd.docker.ai.{kind}" for kind in kinds]
    assert config_of(written)["descriptor"] == {"created": "2026-01-01T00:00:00Z"}
    assert homeless(everything(), DOCKER) == []


def test_docker_keeps_a_go_template_as_a_file() -> None:
    written = write(blueprint(Role.WEIGHTS, Role.TEMPLATE), DOCKER)
    assert types(written)[1] == "application/vnd.docker.ai.model.file"
    assert written.manifest.layers[1].annotations["dev.modelpm.role"] == "template"
