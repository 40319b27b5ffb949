"""Parts: the files of layers and of archives, their names and roles, whatever their types say."""

import json
from collections.abc import Mapping

import archives
import pytest
from tiny import safetensors

from modelpm.content import Packed
from modelpm.errors import ModelError
from modelpm.model import parts
from modelpm.model.model import Model, Role
from modelpm.oci.descriptor import Descriptor
from tests.model.archives import Unpacking, tar
from tests.model.artifacts import EMPTY, GGUF, OCTETS, Memory, image, named

CNCF = "application/vnd.cncf.model"
DOCKER = "application/vnd.docker.ai"
KIT = "application/vnd.kitops.modelkit"
OLLAMA = "application/vnd.ollama.image"
LAYER = "application/vnd.oci.image.layer.v1.tar"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
FILEPATH = "org.cncf.model.filepath"
IN_LAYER = "olot.layer.content.inlayerpath"
TITLE = "org.opencontainers.image.title"
LABELS = {"config": {"Labels": {"org.containers.type": "ai.image.model.raw"}}}


def told(model: Model) -> list[tuple[str, str]]:
    return [(part.role.value, part.name) for part in model.parts]


def pack(memory: Memory, *layers: Descriptor, config: str = f"{CNCF}.config.v1+json") -> Model:
    manifest = image(memory.put(b"{}", config), layers)
    return Model.read(manifest, memory, getattr(memory, "unpacked", None))


def test_an_archive_of_one_file_is_that_file() -> None:
    memory = Unpacking()
    layer = memory.put(tar({"deep/inside.gguf": GGUF}), f"{CNCF}.weight.v1.tar")
    model = pack(memory, named(layer, {FILEPATH: "model.gguf"}))
    (part,) = model.parts
    assert (part.role, part.name) == (Role.WEIGHTS, "model.gguf")
    assert part.descriptor == Descriptor.of(GGUF, OCTETS)
    assert part.packed_in is not None
    assert part.packed_in.digest == layer.digest
    assert not part.is_archive
    assert model.weights == part


def test_an_archive_in_a_registry_is_one_part_and_no_error() -> None:
    memory = Memory()
    layer = memory.put(tar({"model.gguf": GGUF}), f"{KIT}.model.v1.tar")
    model = pack(memory, layer, config=f"{KIT}.config.v1+json")
    (part,) = model.parts
    assert (part.role, part.name, part.is_archive) == (Role.WEIGHTS, "model.gguf", True)
    assert part.packed_in == part.descriptor == layer
    with pytest.raises(ModelError, match=r"inside an archive .* not unpacked yet"):
        _ = model.weights


@pytest.mark.parametrize(
    ("annotations", "files", "names"),
    [
        ({}, {"a/b.gguf": GGUF}, ["a/b.gguf"]),
        ({}, {"./a.gguf": GGUF}, ["a.gguf"]),
        ({FILEPATH: "x.gguf"}, {"a.gguf": GGUF}, ["x.gguf"]),
        ({FILEPATH: "tiny"}, {"tiny/a.gguf": GGUF}, ["tiny/a.gguf"]),
        ({FILEPATH: "x.gguf"}, {"a.gguf": GGUF, "b.json": b"{}"}, ["a.gguf", "b.json"]),
        ({TITLE: "a.gguf"}, {"models/a.gguf": GGUF}, ["a.gguf"]),
        ({TITLE: "tiny"}, {"tiny/a.gguf": GGUF}, ["tiny/a.gguf"]),
        ({TITLE: "sha256-00"}, {"a.gguf": GGUF}, ["a.gguf"]),
        ({IN_LAYER: "/models/z.gguf"}, {"models/a.gguf": GGUF}, ["models/a.gguf"]),
        ({FILEPATH: "vllm.tar"}, {"config.json": b"{}"}, ["config.json"]),
        ({FILEPATH: "a.tar"}, {"a.tar": b"inner"}, ["a.tar"]),
        ({}, {"a.gguf": GGUF, "A.gguf": GGUF + b"2"}, ["a.gguf", "A-2.gguf"]),
    ],
)
def test_a_file_in_an_archive_is_called(
    annotations: dict[str, str], files: dict[str, bytes], names: list[str]
) -> None:
    memory = Unpacking()
    layer = named(memory.put(tar(files), f"{CNCF}.weight.v1.tar"), annotations)
    assert [name for _, name in told(pack(memory, layer))] == names


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ({}, "model.gguf"),
        ({"olot.layer.content.name": "z.gguf"}, "z.gguf"),
        ({TITLE: "a.gguf"}, "a.gguf"),
        ({FILEPATH: "b.gguf"}, "b.gguf"),
    ],
)
def test_one_compressed_file_has_the_name_that_its_layer_has(
    annotations: dict[str, str], name: str
) -> None:
    memory = Memory()
    layer = named(memory.put(b"zipped", f"{CNCF}.weight.v1.raw+gzip"), annotations)
    file = memory.put(GGUF, OCTETS)
    manifest = image(memory.put(b"{}", f"{CNCF}.config.v1+json"), [layer])
    model = Model.read(manifest, memory, lambda _: (Packed("", file),))
    assert told(model) == [("weights", name)]
    assert model.weights.descriptor == file


def test_texts_are_read_out_of_archives() -> None:
    memory = Unpacking()
    layer = memory.put(tar({"LICENSE": b"MIT"}), f"{CNCF}.doc.v1.tar")
    assert pack(memory, layer).licenses == ("MIT",)


@pytest.mark.parametrize("content", [GGUF, safetensors("a")])
def test_a_type_that_calls_weights_an_archive_is_not_believed(content: bytes) -> None:
    memory = Unpacking()
    layer = named(memory.put(content, f"{CNCF}.weight.v1.tar"), {FILEPATH: "a.bin"})
    model = pack(memory, layer)
    assert model.weights.descriptor == layer
    assert model.weights.packed_in is None


def test_what_turned_out_to_be_no_archive_is_the_file_itself() -> None:
    memory = Unpacking()
    layer = named(memory.put(b"MIT", f"{CNCF}.doc.v1.tar"), {FILEPATH: "LICENSE"})
    model = pack(memory, layer)
    (part,) = model.parts
    assert part.packed_in is None
    assert model.licenses == ("MIT",)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (tar({"LICENSE": b"MIT"}), "doc.v1.tar"),
        (archives.gzip(b"MIT"), "doc.v1.tar+gzip"),
        (bytes(1024), "doc.v1.tar"),
        (b"", "doc.v1.tar"),
        (b"no weights", "weight.v1.tar"),
    ],
)
def test_an_archive_that_nobody_unpacked_stays_one(content: bytes, kind: str) -> None:
    memory = Memory()
    layer = memory.put(content, f"{CNCF}.{kind}")
    manifest = image(memory.put(b"{}", f"{CNCF}.config.v1+json"), [layer])
    (part,) = Model.read(manifest, memory, lambda _: None).parts
    assert part.is_archive


def test_an_archive_without_files_is_no_part() -> None:
    """Such as one of a folder or of a link only, which modctl writes for each of those."""
    memory = Unpacking()
    link = archives.Member("model.file", kind=archives.SYMLINK, target="a.gguf")
    layers = [
        memory.put(archives.tar([link]), f"{CNCF}.weight.v1.tar"),
        memory.put(tar({"a.gguf": GGUF}), f"{CNCF}.weight.v1.tar"),
    ]
    assert told(pack(memory, *layers)) == [("weights", "a.gguf")]


def test_the_config_among_the_layers_is_no_model() -> None:
    memory = Memory()
    config = memory.put(b'{"artifactType":"application/x-mlmodel"}', "application/x-mlmodel")
    layers = [
        named(config, {TITLE: "manifest.json"}),
        named(memory.put(GGUF, "application/x-mlmodel"), {TITLE: "a.gguf"}),
    ]
    model = Model.read(image(config, layers), memory)
    assert told(model) == [("config", "manifest.json"), ("weights", "a.gguf")]
    assert model.weights.name == "a.gguf"


@pytest.mark.parametrize(
    ("content", "name"), [(GGUF, "model.gguf"), (safetensors("a"), "model.safetensors")]
)
def test_bytes_tell_what_types_and_names_do_not(content: bytes, name: str) -> None:
    memory = Memory()
    layers = [memory.put(b"x" * 64, OCTETS), memory.put(content, OCTETS)]
    manifest = image(memory.put(b"{}", EMPTY), layers, f"{CNCF}.manifest.v1+json")
    assert told(Model.read(manifest, memory)) == [("other", "other"), ("weights", name)]


def test_the_name_that_a_writer_gave_stays() -> None:
    memory = Memory()
    layer = named(memory.put(GGUF, OCTETS), {FILEPATH: "smollm:135m"})
    manifest = image(memory.put(b"{}", EMPTY), [layer], f"{CNCF}.manifest.v1+json")
    assert told(Model.read(manifest, memory)) == [("weights", "smollm_135m")]


def test_ollamas_tensors_have_names_beside_their_digests() -> None:
    memory = Memory()
    layers = [
        {**memory.put(b"a", f"{OLLAMA}.tensor").to_json(), "name": "lm_head.weight"},
        {**memory.put(b"b", f"{OLLAMA}.tensor").to_json(), "name": 7},
        {**memory.put(b"{}", f"{OLLAMA}.json").to_json(), "name": "config.json"},
    ]
    manifest = image(memory.put(b"{}", EMPTY), [])
    document = {**json.loads(manifest.raw), "layers": layers}
    model = Model.read(type(manifest).parse(json.dumps(document).encode()), memory)
    assert told(model) == [
        ("weights", "lm_head.weight"),
        ("weights", "model.gguf"),
        ("config", "config.json"),
    ]
    assert len(model.shards) == 2
    with pytest.raises(ModelError, match="2 tensors in files of their own"):
        _ = model.weights


def kit(memory: Memory, config: bytes) -> Model:
    layer = memory.put(b"bundle", f"{KIT}.mcpb.v1.raw")
    return Model.read(image(memory.put(config, f"{KIT}.config.v1+json"), [layer]), memory)


def test_a_kitfile_names_what_nothing_else_does() -> None:
    memory = Memory()
    digest = str(memory.put(b"bundle", OCTETS).digest)
    entries = [{"path": 7, "layerInfo": {"digest": digest}}, {"path": "x"}]
    entries.append({"path": "a/server.mcpb", "layerInfo": {"digest": digest}})
    config = json.dumps({"mcpb": entries}).encode()
    assert told(kit(memory, config)) == [("other", "a/server.mcpb")]
    assert told(kit(memory, b"no JSON")) == [("other", "other")]


KITFILE = {
    "model": {
        "path": "models/tiny.gguf",
        "parts": [{"path": "models/b.bin", "type": "adapter"}],
    },
    "docs": [{"path": "notes/LICENSE"}],
}


@pytest.mark.parametrize("box", [Memory(), Unpacking()], ids=["registry", "store"])
def test_a_kitfile_without_digests_names_layers_in_order(box: Memory) -> None:
    """The same before and after a layer was unpacked."""
    files = {"model": "tiny.gguf", "docs": "LICENSE", "modelpart": "b.bin"}
    layers = [box.put(tar({name: GGUF}), f"{KIT}.{kind}.v1.tar") for kind, name in files.items()]
    config = box.put(json.dumps(KITFILE).encode(), f"{KIT}.config.v1+json")
    unpacked = getattr(box, "unpacked", None)
    assert told(Model.read(image(config, layers), box, unpacked)) == [
        ("weights", "models/tiny.gguf"),
        ("license", "notes/LICENSE"),
        ("adapter", "models/b.bin"),
    ]


def image_of(memory: Memory, *layers: Mapping[str, bytes], config: object = LABELS) -> Model:
    """A container image of these layers by file."""
    blobs = [memory.put(tar(files), LAYER) for files in layers]
    raw = memory.put(json.dumps(config).encode(), IMAGE_CONFIG)
    return Model.read(image(raw, blobs), memory, getattr(memory, "unpacked", None))


def test_of_an_image_only_the_models_folder_counts() -> None:
    model = image_of(
        Unpacking(),
        {"bin/sh": b"#!"},
        {"models/a.gguf": GGUF, "models/.wh.b.gguf": b"", "etc/x": b"y"},
        {"/models/LICENSE": b"MIT"},
        {},
    )
    assert model.dialect.name == "image"
    assert told(model) == [("weights", "a.gguf"), ("license", "LICENSE")]


def test_the_last_layer_of_an_image_lies_on_top() -> None:
    model = image_of(Unpacking(), {"models/a.gguf": GGUF}, {"models/a.gguf": GGUF + b"new"})
    assert told(model) == [("weights", "a.gguf")]
    assert model.weights.descriptor.size == len(GGUF) + 3


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ([{"models/a.gguf": GGUF, "models/b": b"b"}, {"models/.wh.b": b""}], ["a.gguf"]),
        ([{"models/x/b": b"b"}, {"models/x/.wh..wh..opq": b"", "models/x/c": b"c"}], ["x/c"]),
        ([{"models/a": b"a"}, {"./.wh.models": b""}, {"models/b": b"b"}], ["b"]),
        ([{"models/a": b"a"}, {".wh..wh..opq": b""}, {"models/b": b"b"}], ["b"]),
        ([{"models/a": b"a"}, {"etc/.wh.models": b"", ".wh.etc": b""}], ["a"]),
        ([{"models/a/b": b"b"}, {"models/a": b"a"}], ["a"]),
        ([{"models/a": b"a"}, {"models/.wh.a": b""}], []),
    ],
)
def test_what_a_layer_of_an_image_takes_away_is_no_part(
    layers: list[dict[str, bytes]], names: list[str]
) -> None:
    assert [name for _, name in told(image_of(Unpacking(), *layers))] == names


def test_a_file_that_begins_so_elsewhere_takes_nothing_away() -> None:
    memory = Unpacking()
    layers = [
        memory.put(tar({"models/a": b"a"}), f"{CNCF}.code.v1.tar"),
        memory.put(tar({"models/.wh.a": b""}), f"{CNCF}.code.v1.tar"),
    ]
    assert [name for _, name in told(pack(memory, *layers))] == ["models/a", "models/.wh.a"]


def test_an_image_in_a_registry_has_its_layers_as_parts() -> None:
    model = image_of(Memory(), {"models/a.gguf": GGUF}, {"models/b": b"x"})
    assert told(model) == [("other", "other"), ("other", "other-2")]
    with pytest.raises(ModelError, match="no weights outside archives that are not unpacked"):
        _ = model.weights


def test_docker_shards_that_have_names_keep_them() -> None:
    memory = Memory()
    layers = [memory.put(GGUF + bytes([i]), f"{DOCKER}.gguf.v3") for i in range(2)]
    layers[0] = named(layers[0], {FILEPATH: "a-00001-of-00002.gguf"})
    model = pack(memory, *layers, config=f"{DOCKER}.model.config.v0.1+json")
    assert [name for _, name in told(model)] == [
        "a-00001-of-00002.gguf",
        "model-00002-of-00002.gguf",
    ]


@pytest.mark.parametrize("ending", ["gguf", "safetensors"])
def test_unnamed_weights_of_a_modelpack_are_shards_as_well(ending: str) -> None:
    memory = Memory()
    layers = [memory.put(GGUF + bytes([i]), f"{CNCF}.weight.v1.{ending}") for i in range(2)]
    model = pack(memory, *layers)
    assert [part.name for part in model.shards] == [
        f"model-00001-of-00002.{ending}",
        f"model-00002-of-00002.{ending}",
    ]


def test_a_kit_that_adds_to_another_one_says_so() -> None:
    memory = Memory()
    layer = memory.put(b"hi", f"{KIT}.docs.v1.raw")
    for path, more in (("ghcr.io/acme/a:1", r" but means those of ghcr\.io/acme/a:1"), (7, "")):
        config = memory.put(json.dumps({"model": {"path": path}}).encode(), f"{KIT}.config.v1+json")
        with pytest.raises(ModelError, match=rf"has no weights{more} \(kitops\)"):
            _ = Model.read(image(config, [layer]), memory).weights


def test_a_dduf_without_a_name() -> None:
    memory = Memory()
    layer = memory.put(b"dduf", f"{DOCKER}.dduf")
    assert told(pack(memory, layer, config=f"{DOCKER}.model.config.v0.2+json")) == [
        ("weights", "model.dduf")
    ]


def test_a_folder_that_oras_packed_may_be_a_model() -> None:
    memory = Memory()
    marks = {TITLE: "tiny", "io.deis.oras.content.unpack": "true"}
    layer = named(memory.put(archives.gzip(tar({"tiny/a.gguf": GGUF})), f"{LAYER}+gzip"), marks)
    model = Model.read(image(memory.put(b"{}", EMPTY), [layer]), memory)
    assert told(model) == [("other", "tiny")]
    assert model.parts[0].is_archive


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_PARTS", 2)
    memory = Unpacking()
    two = memory.put(tar({"a.gguf": GGUF, "b": b"b"}), f"{CNCF}.weight.v1.tar")
    assert len(pack(memory, two).parts) == 2
    with pytest.raises(ModelError, match="more than 2 files"):
        pack(memory, two, memory.put(b"c", f"{CNCF}.doc.v1.raw"))
