"""Digests, descriptors, media types and annotations: tables of good and bad."""

import hashlib
from typing import cast

import pytest

from modelpm.errors import InvalidManifestError, InvalidReferenceError
from modelpm.oci.descriptor import (
    MAX_SIZE,
    Descriptor,
    Digest,
    parse_annotations,
    parse_artifact_type,
    parse_media_type,
)

HEX = "0123456789abcdef" * 4
GOOD: dict[str, object] = {"mediaType": "a/b", "digest": f"sha256:{HEX}", "size": 1}


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha512:{HEX}{HEX}"])
def test_a_good_digest_reads_back_as_it_was(text: str) -> None:
    digest = Digest.parse(text)
    assert str(digest) == text
    assert digest.short == HEX[:12]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        HEX,
        "sha256:",
        f"sha256-{HEX}",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX.upper()}",
        f"sha256:{HEX}\n",
        f" sha256:{HEX}",
        f"SHA256:{HEX}",
        f"sha512:{HEX}",
        f"sha256:{HEX}{HEX}",
        f"sha1:{HEX[:40]}",
        f"md5:{HEX[:32]}",
        f"sha384:{HEX}{HEX[:32]}",
        "sha256:../../../../etc/passwd",
        f"sha256:../{HEX[3:]}",
        f"sha256:{HEX[:-1]}?",
        f"sha256:{HEX[:-1]}#",
        f"sha256:{HEX[:-3]}%2f",
        f"sha256:{HEX[:-1]}g",
        f"sha256:{HEX[:-1]}\u0660",  # an Arabic digit
        f"sha256:sha256:{HEX}",
        f"sha256:{HEX}@sha256:{HEX}",
        "x" * 1_000_000,
    ],
)
def test_a_bad_digest_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Digest.parse(text)
    assert len(str(caught.value)) < 700
    with pytest.raises(InvalidManifestError):
        Descriptor.from_json({**GOOD, "digest": text})


def test_the_digest_of_bytes_is_that_of_hashlib() -> None:
    assert Digest.of(b"abc").hex == hashlib.sha256(b"abc").hexdigest()
    assert Digest.of(b"abc", "sha512").hex == hashlib.sha512(b"abc").hexdigest()
    assert Descriptor.of(b"abc", "a/b") == Descriptor("a/b", Digest.of(b"abc"), 3)


@pytest.mark.parametrize("size", [0, 1, MAX_SIZE])
def test_a_size_at_its_limits_is_taken(size: int) -> None:
    assert Descriptor.from_json({**GOOD, "size": size}).size == size


@pytest.mark.parametrize(
    "change",
    [
        {"size": -1},
        {"size": MAX_SIZE + 1},
        {"size": 1.0},
        {"size": "1"},
        {"size": True},
        {"size": None},
        {"digest": None},
        {"digest": 1},
        {"digest": [f"sha256:{HEX}"]},
        {"mediaType": None},
        {"mediaType": ""},
        {"mediaType": 7},
        {"urls": ["https://elsewhere.example/blob"]},
        {"urls": "https://elsewhere.example/blob"},
        {"annotations": []},
        {"annotations": "a"},
        {"annotations": {"a": 1}},
        {"annotations": {"a": None}},
        {"artifactType": "no type"},
        {"artifactType": 0},
    ],
)
def test_a_bad_field_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidManifestError):
        Descriptor.from_json({**GOOD, **change})


@pytest.mark.parametrize("key", ["mediaType", "digest", "size"])
def test_a_missing_field_is_refused(key: str) -> None:
    with pytest.raises(InvalidManifestError):
        Descriptor.from_json({name: value for name, value in GOOD.items() if name != key})


@pytest.mark.parametrize("value", [None, [], "x", 1, True])
def test_what_is_no_object_is_no_descriptor(value: object) -> None:
    with pytest.raises(InvalidManifestError):
        Descriptor.from_json(value)


@pytest.mark.parametrize(
    "value", [GOOD, {**GOOD, "artifactType": "c/d", "annotations": {"k": "v"}}]
)
def test_a_descriptor_reads_back_as_it_was(value: dict[str, object]) -> None:
    assert Descriptor.from_json(value).to_json() == value


def test_unknown_fields_and_empty_ones_are_left_aside() -> None:
    extra = {"urls": [], "annotations": {}, "artifactType": "", "data": "e30=", "x": {"y": 1}}
    desc = Descriptor.from_json({**GOOD, **extra})
    assert desc == Descriptor.from_json(GOOD)
    assert hash(desc) == hash(Descriptor.from_json(GOOD))


def test_annotations_count_for_equality_and_cannot_be_changed() -> None:
    noted = Descriptor.from_json({**GOOD, "annotations": {"k": "v"}})
    assert noted != Descriptor.from_json(GOOD)
    assert noted == Descriptor.from_json({**GOOD, "annotations": {"k": "v"}})
    with pytest.raises(TypeError):
        cast("dict[str, str]", noted.annotations)["k"] = "w"
    assert parse_annotations(None) == {}


@pytest.mark.parametrize(
    "text",
    [
        "a/b",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        f"{'a' * 127}/{'b' * 127}",
        "0/0.!#$&^_+-",
    ],
)
def test_a_good_media_type_is_taken(text: str) -> None:
    assert parse_media_type(text) == text
    assert parse_artifact_type(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "/",
        "a/",
        "/b",
        "a/b/c",
        "a/b; charset=utf-8",
        "a/b\n",
        "a /b",
        "a/\x1b[31m",
        "\u0430/b",
        f"{'a' * 128}/b",
        f"a/{'b' * 128}",
        "a/" + "b" * 65_536,
        ".a/b",
        "*/*",
    ],
)
def test_a_bad_media_type_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        parse_media_type(text)
    assert len(str(caught.value)) < 200
