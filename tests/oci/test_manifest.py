"""Manifests and indexes: what is read, what is refused, and every limit at its edge."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelpm.errors import InvalidManifestError
from modelpm.oci.descriptor import Digest
from modelpm.oci.manifest import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_ENTRIES,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
    Platform,
    is_manifest,
    load_json,
)


def blob(text: str = "x", media_type: str = "a/b", **more: object) -> dict[str, Any]:
    digest = str(Digest.of(text.encode()))
    return {"mediaType": media_type, "digest": digest, "size": len(text), **more}


def image(**change: object) -> dict[str, object]:
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": blob("{}"), "layers": []}
    return {**document, **change}


def index(**change: object) -> dict[str, object]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], **change}


def parse(document: object, told: str | None = None) -> Manifest:
    return Manifest.parse(json.dumps(document).encode(), told)


FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"


def without(document: dict[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in document.items() if name != key}


@pytest.mark.parametrize("kind", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_an_image_has_a_config_and_layers(kind: str) -> None:
    manifest = parse(image(mediaType=kind, layers=[blob("a"), blob("bb"), blob("a")]), kind)
    assert manifest.media_type == kind
    assert manifest.children == ()
    assert manifest.config is not None
    assert [desc.size for desc in manifest.successors] == [2, 1, 2, 1]
    assert manifest.size == 2 + 1 + 2  # each digest once
    assert is_manifest(manifest.descriptor)
    assert not is_manifest(manifest.config)


@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_INDEX])
def test_an_index_has_children(kind: str) -> None:
    platform = {"os": "linux", "architecture": "amd64", "variant": "v8"}
    children = [blob("a", OCI_MANIFEST, platform=platform), blob("b", OCI_INDEX)]
    manifest = parse(index(mediaType=kind, manifests=children), kind)
    assert manifest.config is None
    assert manifest.layers == ()
    assert [child.platform for child in manifest.children] == [Platform("linux", "amd64"), None]
    assert [desc.media_type for desc in manifest.successors] == [OCI_MANIFEST, OCI_INDEX]


def test_a_withdrawn_artifact_manifest_has_blobs_and_no_config() -> None:
    manifest = parse({"mediaType": OCI_ARTIFACT, "artifactType": "x/y", "blobs": [blob("a")]})
    assert (manifest.config, manifest.children, manifest.is_index) == (None, (), False)
    assert manifest.successors == manifest.layers
    assert [layer.size for layer in manifest.layers] == [1]
    assert is_manifest(manifest.descriptor)


@pytest.mark.parametrize("alien", ["config", "layers", "manifests"])
def test_a_withdrawn_artifact_manifest_is_nothing_else(alien: str) -> None:
    with pytest.raises(InvalidManifestError, match="ambiguous"):
        parse({"mediaType": OCI_ARTIFACT, "blobs": [], alien: []})
    with pytest.raises(InvalidManifestError, match="no list of blobs"):
        parse({"mediaType": OCI_ARTIFACT})


def test_the_bytes_are_kept_as_they_came() -> None:
    raw = b'\n{ "layers":[], "schemaVersion":2,\t"config":' + json.dumps(blob()).encode() + b"}  "
    manifest = Manifest.parse(raw, DOCKER_MANIFEST)
    assert manifest.raw == raw
    assert manifest.digest == Digest.of(raw)
    assert manifest.descriptor.size == len(raw)
    assert manifest.media_type == DOCKER_MANIFEST


@pytest.mark.parametrize(
    ("document", "told", "kind"),
    [
        (without(image(), "mediaType"), None, OCI_MANIFEST),
        (without(image(), "mediaType"), "text/plain", OCI_MANIFEST),
        (without(image(), "mediaType"), DOCKER_MANIFEST, DOCKER_MANIFEST),
        (without(index(), "mediaType"), None, OCI_INDEX),
        (without(index(), "mediaType"), DOCKER_INDEX, DOCKER_INDEX),
        (image(), "application/json", OCI_MANIFEST),
        (image(), None, OCI_MANIFEST),
        (image(mediaType=None), OCI_MANIFEST, OCI_MANIFEST),
    ],
)
def test_the_kind_is_the_own_word_then_the_hint_then_the_shape(
    document: object, told: str | None, kind: str
) -> None:
    assert parse(document, told).media_type == kind


def test_an_artifact_tells_its_type_subject_and_annotations() -> None:
    subject = blob("s", OCI_MANIFEST)
    notes = {f"key-{number}": "x" * 10_000 for number in range(390)}
    manifest = parse(image(artifactType="c/d", subject=subject, annotations=notes, unknown=[1]))
    assert manifest.artifact_type == "c/d"
    assert manifest.subject is not None
    assert str(manifest.subject.digest) == subject["digest"]
    assert manifest.annotations == notes
    assert manifest.descriptor.artifact_type == "c/d"
    assert str(manifest.subject.digest) not in map(str, manifest.successors)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (None, None),
        ([], None),
        ("x", None),
        (2, None),
        ({}, None),
        (without(image(), "schemaVersion"), None),
        (image(schemaVersion=1), None),
        (image(schemaVersion="2"), None),
        (image(schemaVersion=True), None),
        (image(fsLayers=[]), None),
        (image(manifests=[]), None),
        (image(manifests=None), None),
        (index(layers=[]), None),
        (index(config=blob()), None),
        (index(config=None), None),
        ({**index(), **without(image(), "mediaType")}, None),
        ({**without(index(), "mediaType"), **without(image(), "mediaType")}, None),
        (image(), OCI_INDEX),
        (image(), DOCKER_MANIFEST),
        (index(), OCI_MANIFEST),
        (without(image(), "mediaType"), OCI_INDEX),
        (without(index(), "mediaType"), OCI_MANIFEST),
        (image(mediaType="application/vnd.docker.distribution.manifest.v1+json"), None),
        (image(mediaType=""), None),
        (image(mediaType=5), None),
        (image(mediaType="\x1b[2J"), None),
        (image(mediaType="a/" + "b" * 65_536), None),
        (without(image(), "config"), None),
        (image(config=None), None),
        (image(config=[]), None),
        (without(image(), "layers"), None),
        (image(layers=None), None),
        (image(layers={}), None),
        (image(layers=[None]), None),
        (image(layers=[[]]), None),
        (image(layers=[blob(urls=["https://elsewhere.example/"])]), None),
        (image(config=blob(urls=["https://elsewhere.example/"])), None),
        (
            image(layers=[blob(media_type=FOREIGN)]),
            None,
        ),
        (
            image(layers=[blob(media_type=NONDISTRIBUTABLE)]),
            None,
        ),
        (image(layers=[blob("a"), blob("a", size=2)]), None),
        (image(config=blob("a"), layers=[blob("a", size=2)]), None),
        (image(subject=5), None),
        (image(subject={}), None),
        (image(annotations={"a": 1}), None),
        (image(annotations=[]), None),
        (image(artifactType="no type"), None),
        (without(index(), "manifests"), None),
        (index(manifests={}), None),
        (index(manifests=[7]), None),
        (index(manifests=[blob(platform="linux")]), None),
        (index(manifests=[blob(platform={"os": "linux"})]), None),
        (index(manifests=[blob(platform={"os": 1, "architecture": "amd64"})]), None),
    ],
)
def test_what_the_spec_forbids_or_is_ambiguous_is_refused(
    document: object, told: str | None
) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        parse(document, told)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b"nul",
        b"{} {}",
        b"\xef\xbb\xbf{}",  # a byte order mark
        b'{"a": "\xff"}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"size": ' + b"9" * 5_000 + b"}",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": "\x01"}',
    ],
)
def test_what_is_no_strict_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidManifestError):
        load_json(raw)
    with pytest.raises(InvalidManifestError):
        Manifest.parse(raw)


@pytest.mark.parametrize("inner", [b"", b"1", b'"x", 2'])
@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_at_the_limit_and_past_it(start: bytes, end: bytes, inner: bytes) -> None:
    if start != b"[":
        inner = b"[%b]" % inner
    depth = MAX_DEPTH - (start != b"[")
    assert load_json(start * depth + inner + end * depth) is not None
    with pytest.raises(InvalidManifestError, match="nested"):
        load_json(start * (depth + 1) + inner + end * (depth + 1))


def test_size_at_the_limit_and_past_it() -> None:
    raw = json.dumps(image()).encode()
    assert Manifest.parse(raw.ljust(MAX_BYTES)).media_type == OCI_MANIFEST
    with pytest.raises(InvalidManifestError, match="bytes"):
        Manifest.parse(raw.ljust(MAX_BYTES + 1))


@pytest.mark.parametrize(("make", "key"), [(image, "layers"), (index, "manifests")])
def test_entries_at_the_limit_and_past_it(make: Any, key: str) -> None:
    entries = [blob()] * MAX_ENTRIES
    assert len(parse(make(**{key: entries})).successors) >= MAX_ENTRIES
    with pytest.raises(InvalidManifestError, match="more than"):
        parse(make(**{key: [*entries, blob()]}))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peaks of /proc")
@pytest.mark.parametrize("piece", ["[],", "{},", '"\\u00e9",', "0.5,"])
def test_the_costliest_document_of_four_megabytes_stays_in_bounds(piece: str) -> None:
    """Peak memory and time, in a process of its own so that both can be told."""
    code = (
        "from pathlib import Path\n"
        "from modelpm.errors import InvalidManifestError\n"
        "from modelpm.oci.manifest import MAX_BYTES, Manifest\n"
        f"piece = {piece!r}\n"
        "raw = ('[' + piece * ((MAX_BYTES - 4) // len(piece)) + '0]').encode()\n"
        "try:\n"
        "    Manifest.parse(raw)\n"
        "except InvalidManifestError:\n"
        "    status = Path('/proc/self/status').read_text().splitlines()\n"
        "    print(next(line.split()[1] for line in status if line.startswith('VmHWM')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert int(done.stdout) * 1024 < 150 * 2**20
