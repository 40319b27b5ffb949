"""The table of dialects: which row a manifest is in, and which child of an index is the model."""

import json

import pytest

from modelpm.errors import ModelError, NotFoundError
from modelpm.model.dialects import (
    DIALECTS,
    DOCKER_AI,
    IMAGE,
    KITOPS,
    MODELPACK,
    OLLAMA,
    OMLMD,
    ORAS,
    Dialect,
    Role,
    choose,
    recognise,
)
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import OCI_INDEX, OCI_MANIFEST, Manifest
from tests.model.artifacts import EMPTY, OCTETS, image, index

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OLLAMA_LAYER = "application/vnd.ollama.image"
CNCF = "application/vnd.cncf.model"
CNAI = "application/vnd.cnai.model"
DOCKER = "application/vnd.docker.ai"
KIT = "application/vnd.kitops.modelkit"
TITLE = "org.opencontainers.image.title"


def leaf(media_type: str, **annotations: str) -> Descriptor:
    return Descriptor(media_type, Digest.of(media_type.encode()), 9, annotations=annotations)


def manifest(config: str, *layers: str, artifact_type: str | None = None) -> Manifest:
    return image(leaf(config), [leaf(layer) for layer in layers], artifact_type)


@pytest.mark.parametrize(
    ("artifact", "dialect"),
    [
        (manifest(DOCKER_CONFIG, f"{OLLAMA_LAYER}.model"), OLLAMA),
        (manifest(DOCKER_CONFIG, f"{OLLAMA_LAYER}.license", f"{OLLAMA_LAYER}.model"), OLLAMA),
        (manifest(f"{DOCKER}.model.config.v0.1+json", f"{DOCKER}.gguf.v3"), DOCKER_AI),
        (manifest(f"{DOCKER}.model.config.v0.2+json", f"{DOCKER}.model.file"), DOCKER_AI),
        (manifest(f"{CNCF}.config.v1+json", f"{CNCF}.weight.v1.raw"), MODELPACK),
        (manifest(f"{CNAI}.config.v1+json", f"{CNAI}.weight.v1.tar"), MODELPACK),
        # each of the three marks is enough
        (manifest(EMPTY, OCTETS, artifact_type=f"{CNCF}.manifest.v1+json"), MODELPACK),
        (manifest(EMPTY, f"{CNCF}.weight.v1.raw"), MODELPACK),
        (manifest(f"{CNCF}.config.v1+json"), MODELPACK),
        (manifest(f"{KIT}.config.v1+json", f"{KIT}.model.v1.tar"), KITOPS),
        (manifest("application/x-config", "application/x-mlmodel"), OMLMD),
        (manifest(EMPTY, OCTETS, artifact_type="application/x-mlmodel"), OMLMD),
        (manifest(EMPTY, OCTETS, artifact_type="application/vnd.unknown.artifact.v1"), ORAS),
        (image(leaf(OCI_CONFIG), [leaf(OCTETS, **{TITLE: "a.safetensors"})]), ORAS),
        (manifest("application/vnd.unknown.config.v1+json", OCTETS), ORAS),
        (image(leaf(OCI_CONFIG), [leaf(OCTETS, **{TITLE: "Model.GGUF"})]), ORAS),
        (image(leaf(OCI_CONFIG), [leaf(OCTETS, **{TITLE: "model_metadata.omlmd.tar"})]), OMLMD),
    ],
)
def test_a_manifest_is_recognised(artifact: Manifest, dialect: Dialect) -> None:
    assert recognise(artifact) is dialect


@pytest.mark.parametrize(
    ("artifact", "what"),
    [
        (manifest(OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+gzip"), "container image"),
        (manifest(DOCKER_CONFIG, "application/vnd.docker.image.rootfs.diff.tar.gzip"), "container"),
        (manifest(OCI_CONFIG), "container image"),
        (manifest(OCI_CONFIG, "application/vnd.dev.cosign.simplesigning.v1+json"), "signature"),
        (
            manifest(EMPTY, OCTETS, artifact_type="application/vnd.dev.sigstore.bundle.v0.3+json"),
            "signature",
        ),
        (manifest("application/vnd.cncf.helm.config.v1+json", OCTETS), "Helm chart"),
        (manifest("application/vnd.wasm.config.v0+json", "application/wasm"), "WebAssembly"),
        (manifest(EMPTY, "application/spdx+json"), "bill of materials"),
        (
            manifest(EMPTY, OCTETS, artifact_type="application/vnd.palan.runtime.v1+json"),
            "a runtime",
        ),
        (manifest(EMPTY, "application/vnd.in-toto+json"), "attestation"),
    ],
)
def test_what_is_no_model_is_refused_by_name(artifact: Manifest, what: str) -> None:
    with pytest.raises(ModelError) as caught:
        recognise(artifact)
    assert what in str(caught.value)
    assert "not a model" in str(caught.value)


def test_an_index_is_no_model() -> None:
    with pytest.raises(ModelError, match="choose one of its children"):
        recognise(index({}))


@pytest.mark.parametrize(
    ("dialect", "media_type", "name", "role"),
    [
        (OLLAMA, f"{OLLAMA_LAYER}.model", "", Role.WEIGHTS),
        (OLLAMA, f"{OLLAMA_LAYER}.projector", "", Role.PROJECTOR),
        (OLLAMA, f"{OLLAMA_LAYER}.adapter", "", Role.ADAPTER),
        (OLLAMA, f"{OLLAMA_LAYER}.template", "", Role.TEMPLATE),
        (OLLAMA, f"{OLLAMA_LAYER}.prompt", "", Role.TEMPLATE),
        (OLLAMA, f"{OLLAMA_LAYER}.system", "", Role.SYSTEM),
        (OLLAMA, f"{OLLAMA_LAYER}.params", "", Role.PARAMETERS),
        (OLLAMA, f"{OLLAMA_LAYER}.license", "", Role.LICENSE),
        (OLLAMA, f"{OLLAMA_LAYER}.messages", "", Role.MESSAGES),
        (OLLAMA, f"{OLLAMA_LAYER}.draft", "", Role.DRAFT),
        (OLLAMA, f"{OLLAMA_LAYER}.embed", "", Role.OTHER),
        (OLLAMA, f"{OLLAMA_LAYER}.modelling", "", Role.OTHER),
        (DOCKER_AI, f"{DOCKER}.gguf.v3", "", Role.WEIGHTS),
        (DOCKER_AI, f"{DOCKER}.mmproj", "", Role.PROJECTOR),
        (DOCKER_AI, f"{DOCKER}.chat.template.jinja", "", Role.TEMPLATE),
        (DOCKER_AI, f"{DOCKER}.license", "", Role.LICENSE),
        (DOCKER_AI, f"{DOCKER}.model.file", "tokenizer.json", Role.TOKENIZER),
        (DOCKER_AI, f"{DOCKER}.model.file", "config.json", Role.CONFIG),
        (DOCKER_AI, f"{DOCKER}.dir.tar", "", Role.OTHER),
        (MODELPACK, f"{CNCF}.weight.v1.raw", "model.gguf", Role.WEIGHTS),
        (MODELPACK, f"{CNCF}.weight.v1.gguf", "", Role.WEIGHTS),
        (MODELPACK, f"{CNCF}.weight.v1.raw", "mmproj-f16.gguf", Role.PROJECTOR),
        (MODELPACK, f"{CNCF}.weight.v1.raw", "x-lora.gguf", Role.ADAPTER),
        (MODELPACK, f"{CNCF}.weight.v1.raw", "explorable.gguf", Role.WEIGHTS),
        (MODELPACK, f"{CNCF}.weight.config.v1.raw", "config.json", Role.CONFIG),
        (MODELPACK, f"{CNCF}.weight.config.v1.raw", "a/chat_template.jinja", Role.TEMPLATE),
        (MODELPACK, f"{CNAI}.weight.config.v1.tar", "tokenizer.model", Role.TOKENIZER),
        (MODELPACK, f"{CNCF}.doc.v1.raw", "LICENSE", Role.LICENSE),
        (MODELPACK, f"{CNCF}.doc.v1.raw", "README.md", Role.DOCUMENT),
        (MODELPACK, f"{CNCF}.code.v1.raw", "run.py", Role.OTHER),
        (MODELPACK, OCTETS, "model.gguf", Role.WEIGHTS),
        (MODELPACK, OCTETS, "LICENCE.txt", Role.LICENSE),
        (KITOPS, f"{KIT}.model.v1.tar+gzip", "", Role.WEIGHTS),
        (KITOPS, f"{KIT}.modelpart.v1.tar", "", Role.OTHER),
        (KITOPS, f"{KIT}.modelpart.v1.tar", "mmproj.gguf", Role.PROJECTOR),
        (KITOPS, f"{KIT}.dataset.v1.tar", "a.gguf", Role.OTHER),
        (OMLMD, "application/x-mlmodel", "model.json", Role.WEIGHTS),
        (OMLMD, "application/x-config", "model_metadata.omlmd.json", Role.CONFIG),
        (IMAGE, "application/vnd.oci.image.layer.v1.tar", "model.joblib", Role.WEIGHTS),
        (ORAS, "application/vnd.oci.image.layer.v1.tar", "model.gguf", Role.WEIGHTS),
        (ORAS, OCTETS, "notes.md", Role.DOCUMENT),
        (ORAS, OCTETS, "", Role.OTHER),
    ],
)
def test_a_layer_has_its_role(dialect: Dialect, media_type: str, name: str, role: Role) -> None:
    assert dialect.role(leaf(media_type), name) is role


@pytest.mark.parametrize(
    ("dialect", "media_type", "name", "role"),
    [
        (KITOPS, f"{KIT}.model.v1.tar", "tiny/config.json", Role.CONFIG),
        (KITOPS, f"{KIT}.model.v1.tar", "tiny/model.safetensors", Role.WEIGHTS),
        (KITOPS, f"{KIT}.model.v1.tar", "tiny/vocabulary", Role.WEIGHTS),
        (KITOPS, f"{KIT}.docs.v1.tar", "COPYING", Role.LICENSE),
        (KITOPS, f"{KIT}.code.v1.tar", "config.json", Role.OTHER),
        (DOCKER_AI, f"{DOCKER}.vllm.config.tar", "tokenizer.json", Role.TOKENIZER),
    ],
)
def test_a_file_among_others_is_told_by_its_name(
    dialect: Dialect, media_type: str, name: str, role: Role
) -> None:
    assert dialect.role(leaf(media_type), name, alone=False) is role


UNPACK = {"io.deis.oras.content.unpack": "true"}


@pytest.mark.parametrize(
    ("dialect", "layer", "packed"),
    [
        (MODELPACK, leaf(f"{CNCF}.weight.v1.raw"), False),
        (MODELPACK, leaf(f"{CNAI}.weight.v1.tar"), True),
        (MODELPACK, leaf(f"{CNCF}.weight.v1.tar+zstd"), True),
        (DOCKER_AI, leaf(f"{DOCKER}.dir.tar"), True),
        (DOCKER_AI, leaf(f"{DOCKER}.gguf.v3"), False),
        (OLLAMA, leaf(f"{OLLAMA_LAYER}.model"), False),
        (ORAS, leaf("application/vnd.oci.image.layer.v1.tar"), False),
        (ORAS, leaf("application/vnd.oci.image.layer.v1.tar+gzip"), True),
        (ORAS, leaf(OCTETS, **UNPACK), True),
        (IMAGE, leaf("application/vnd.docker.image.rootfs.diff.tar.gzip"), True),
    ],
)
def test_archives_are_told_by_type_and_mark(
    dialect: Dialect, layer: Descriptor, packed: bool
) -> None:
    assert dialect.is_packed(layer) is packed


def test_an_index_of_models_has_no_need_of_marks() -> None:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "artifactType": f"{KIT}.index.v1+json",
        "manifests": [leaf(OCI_MANIFEST).to_json()],
    }
    kits = Manifest.parse(json.dumps(document).encode())
    assert choose(kits, "arm64") == kits.children[0].descriptor


def test_rows_have_names_of_their_own() -> None:
    names = [dialect.name for dialect in (*DIALECTS, IMAGE, ORAS)]
    assert len(set(names)) == len(names)


def platform(os: str, architecture: str) -> dict[str, object]:
    return {"platform": {"os": os, "architecture": architecture}}


PACK = {"annotations": {"io.opendatahub.modelcar.manifest.type": "modelpack"}}
ATTESTED = {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
TYPED = {"artifactType": f"{CNCF}.manifest.v1+json"}
INDEX_CHILD = {"mediaType": OCI_INDEX}
BLOB = {"mediaType": OCTETS}
ARM, AMD, UNKNOWN = (
    platform("linux", "arm64"),
    platform("linux", "amd64"),
    platform("unknown", "unknown"),
)


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        ([{}], 0),
        ([AMD, ARM], 1),
        ([AMD, ARM, ARM], 1),
        ([AMD, {}], 1),
        ([AMD, UNKNOWN], 1),
        ([AMD, {**UNKNOWN, **PACK}], 1),
        ([ARM, {**AMD, **TYPED}], 1),
        ([ARM, {**AMD, **TYPED}, {**ARM, **TYPED}], 2),
        ([ARM, TYPED, TYPED], 1),
        ([{**UNKNOWN, **ATTESTED}, UNKNOWN], 1),
        ([BLOB, INDEX_CHILD], 1),
        ([platform("windows", "arm64"), ARM], 1),
        ([{"annotations": {"org.cncf.model.model": "true"}, **AMD}, ARM], 0),
    ],
)
def test_a_child_is_chosen_by_type_then_by_platform(
    entries: list[dict[str, object]], chosen: int
) -> None:
    artifact = index(*entries)
    assert choose(artifact, "arm64") == artifact.children[chosen].descriptor


@pytest.mark.parametrize(
    "entries",
    [[], [AMD], [BLOB], [{**UNKNOWN, **ATTESTED}], [platform("windows", "arm64")]],
)
def test_nothing_for_this_machine_is_not_found(entries: list[dict[str, object]]) -> None:
    with pytest.raises(NotFoundError, match="nothing for linux/arm64"):
        choose(index(*entries), "arm64")


def test_this_machine_is_meant_where_no_other_is() -> None:
    artifact = index(*(platform("linux", name) for name in ("amd64", "arm64")), {})
    assert choose(artifact) in [child.descriptor for child in artifact.children]
