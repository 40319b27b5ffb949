"""What a hostile or broken registry can offer: each case is named by its flaw, with its verdict.

`stage` says who meets the flaw, `error` and `exit_code` how it is refused:

    parse    the bytes are no manifest that may be acted on
    walk     the graph below a good manifest has no end worth waiting for
    choose   an index holds no model
    name     a layer's title is no safe file name: it gets another, and nothing is refused
    gate     a file is no GGUF that an engine may see
    engine   a good GGUF that ctransformers cannot run, or would crash on

Small cases are committed under `bad/` beside `cases.json`; large ones are made when asked for.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from artifact import (
    EMPTY_TYPE,
    OCI_INDEX,
    OCI_MANIFEST,
    Artifact,
    Json,
    compact,
    described,
    digest_of,
    image,
)
from gguf_writer import STRING, UINT32, Array, encode, tiny_llama

LARGEST_COMMITTED = 64 * 2**10

LAYER = b"five."
EMPTY = described(EMPTY_TYPE, b"{}")
DIGEST = digest_of(LAYER)
HEX = DIGEST.partition(":")[2]


@dataclass(frozen=True, slots=True)
class Case:
    """One flaw. `served_as` is the Content-Type that comes with a manifest."""

    name: str
    stage: str
    error: str | None
    exit_code: int
    content: Callable[[], bytes]
    extension: str = "json"
    served_as: str = OCI_MANIFEST

    @property
    def file(self) -> str | None:
        """The committed file's name, or None for what is made when asked for."""
        name = f"{self.stage}-{self.name}.{self.extension}"
        return name if len(self.content()) <= LARGEST_COMMITTED else None

    def to_json(self) -> Json:
        """The row of `cases.json`."""
        row: Json = {"name": self.name, "stage": self.stage, "file": self.file}
        row |= {"error": self.error, "exit_code": self.exit_code}
        return row | ({"served_as": self.served_as} if self.extension == "json" else {})


def files() -> dict[str, bytes]:
    """The content of the committed files by name."""
    return {case.file: case.content() for case in CASES if case.file is not None}


def nested_index(depth: int = 40) -> Artifact:
    """An index of an index of an index ... A graph by digest can be deep, but not a circle."""
    inner = image(EMPTY, [], [b"{}"])
    for _ in range(depth):
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner.descriptor]}
        inner = Artifact(compact(document), OCI_INDEX, inner.all_blobs)
    return inner


def titled(title: str) -> Artifact:
    """A lone layer of that title, as `oras push` would leave it, that begins as a GGUF does."""
    annotations = {"org.opencontainers.image.title": title}
    weights = _gguf_head()
    layer = described("application/octet-stream", weights, annotations=annotations)
    return image(EMPTY, [layer], [b"{}", weights])


TITLES: Mapping[str, str] = {
    "parent": "../../x",
    "parent-inside": "a/../../x",
    "parent-windows": "..\\..\\x",
    "absolute": "/etc/passwd",
    "absolute-windows": "C:\\x",
    "drive-relative": "C:x",
    "empty": "",
    "dot": ".",
    "dot-dot": "..",
    "empty-component": "a//b",
    "trailing-slash": "a/",
    "nul": "model\0.gguf",
    "escape": "\x1b]0;owned\x07model.gguf",
    "newline": "model\n.gguf",
    "carriage-return": "model.gguf\rok",
    "c1": "model\x9b31m.gguf",
    "bidi": "model\u202efugg.exe",
    "device": "CON",
    "device-extension": "aux.gguf",
    "stream": "model.gguf:stream",
    "trailing-dot": "model.",
    "trailing-space": "model ",
    "long": "x" * 10_000,
}
"""Names for a layer that must never become the name of a file as they are."""


def _layer(**members: object) -> bytes:
    """A manifest whose one layer has these members; None takes a member away."""
    layer = described("application/octet-stream", LAYER) | members
    return _manifest(layers=[{key: value for key, value in layer.items() if value is not None}])


def _manifest(**members: object) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": EMPTY,
        "layers": [described("application/octet-stream", LAYER)],
    } | members
    return compact({key: value for key, value in document.items() if value is not None})


def _index(*entries: object, **members: object) -> bytes:
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
    return compact(document | members)


def _many_layers() -> bytes:
    layer = described("application/octet-stream", LAYER)
    return _manifest(layers=[layer] * 10_001)


_TWO_SIZES = [
    described("application/octet-stream", LAYER),
    described("application/octet-stream", LAYER) | {"size": 6},
]
_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_URLS = ["https://foreign.example/layer"]
_TWICE = b'"schemaVersion":2,"schemaVersion":2'

_UNPARSABLE: Mapping[str, Callable[[], bytes]] = {
    "digest-uppercase": lambda: _layer(digest=DIGEST.upper().replace("SHA", "sha")),
    "digest-short": lambda: _layer(digest=DIGEST[:-1]),
    "digest-long": lambda: _layer(digest=f"{DIGEST}0"),
    "digest-newline": lambda: _layer(digest=f"{DIGEST}\n"),
    "digest-traversal": lambda: _layer(digest="sha256:../../../../etc/passwd"),
    "digest-query": lambda: _layer(digest=f"{DIGEST}?x=1"),
    "digest-escaped": lambda: _layer(digest="sha256:%2e%2e%2fx"),
    "digest-unknown-algorithm": lambda: _layer(digest=f"sha1:{HEX[:40]}"),
    "digest-sha512-short": lambda: _layer(digest=f"sha512:{HEX}"),
    "digest-missing": lambda: _layer(digest=None),
    "digest-number": lambda: _layer(digest=5),
    "size-negative": lambda: _layer(size=-1),
    "size-float": lambda: _layer(size=5.0),
    "size-huge": lambda: _layer(size=2**63),
    "size-string": lambda: _layer(size="5"),
    "size-true": lambda: _layer(size=True),
    "size-missing": lambda: _layer(size=None),
    "one-digest-two-sizes": lambda: _manifest(layers=_TWO_SIZES),
    "manifests-and-layers": lambda: _manifest(manifests=[]),
    "index-with-layers": lambda: _index(layers=[]),
    "index-with-config": lambda: _index(config=EMPTY),
    "fs-layers": lambda: _manifest(fsLayers=[]),
    "depth-33": lambda: _manifest(x=json.loads("[" * 33 + "]" * 33)),
    "depth-100000": lambda: b"[" * 100_000 + b"]" * 100_000,
    "not-utf-8": lambda: _manifest(x="?").replace(b"?", b"\xff"),
    "utf-16": lambda: _manifest().decode().encode("utf-16"),
    "byte-order-mark": lambda: b"\xef\xbb\xbf" + _manifest(),
    "duplicate-keys": lambda: _manifest().replace(b'"schemaVersion":2', _TWICE),
    "nan": lambda: _manifest(x=float("nan")),
    "infinity": lambda: _manifest(x=float("-inf")),
    "trailing-bytes": lambda: _manifest() + b"{}",
    "truncated": lambda: _manifest()[:-1],
    "empty": lambda: b"",
    "html": lambda: b"<!DOCTYPE html><title>Log in to the hotel's network</title>",
    "not-an-object": lambda: b"[]",
    "too-large": lambda: _manifest(x="x" * 4 * 2**20),
    "urls": lambda: _layer(urls=_URLS),
    "foreign-layer": lambda: _layer(mediaType=_FOREIGN),
    "nondistributable-layer": lambda: _layer(mediaType=_NONDISTRIBUTABLE),
    "media-type-mismatch": _index,
    "media-type-of-a-page": lambda: _manifest(mediaType="text/html"),
    "media-type-escape": lambda: _layer(mediaType="application/\x1b[31mred"),
    "media-type-64-kb": lambda: _layer(mediaType="application/" + "x" * 2**16),
    "media-type-missing": lambda: _layer(mediaType=None),
    "artifact-type-escape": lambda: _manifest(artifactType="application/\x1b[2J"),
    "schema-1": lambda: b'{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[],"history":[]}',
    "schema-version-string": lambda: _manifest(schemaVersion="2"),
    "no-schema-version": lambda: _manifest(schemaVersion=None),
    "no-config": lambda: _manifest(config=None),
    "config-not-an-object": lambda: _manifest(config="config"),
    "no-layers": lambda: _manifest(layers=None),
    "layers-not-a-list": lambda: _manifest(layers={}),
    "layers-10001": _many_layers,
    "layer-not-an-object": lambda: _manifest(layers=[DIGEST]),
    "annotations-not-strings": lambda: _manifest(annotations={"a": 1}),
    "annotations-list": lambda: _manifest(annotations=["a"]),
    "layer-annotations-not-strings": lambda: _layer(annotations={"a": None}),
    "subject-without-digest": lambda: _manifest(subject={"mediaType": OCI_MANIFEST, "size": 2}),
}
_UNPARSABLE_INDEXES: Mapping[str, Callable[[], bytes]] = {
    "index-of-nothing": lambda: compact({"schemaVersion": 2, "mediaType": OCI_INDEX}),
    "index-platform-text": lambda: _index(EMPTY | {"platform": "linux/amd64"}),
    "index-platform-empty": lambda: _index(EMPTY | {"platform": {}}),
    "index-served-as-image": _manifest,
}


def _no_match() -> bytes:
    """An index of two machines' container images, and no model."""
    child = image(EMPTY, [], [b"{}"]).descriptor
    machines = ("amd64", "arm64")
    return _index(*(child | {"platform": {"os": "windows", "architecture": m}} for m in machines))


def _gguf_head(version: int = 3, tensors: int = 0, metadata: int = 0) -> bytes:
    parts = (version.to_bytes(4, "little"), tensors.to_bytes(8, "little"))
    return b"".join((b"GGUF", *parts, metadata.to_bytes(8, "little")))


def _nested_array() -> bytes:
    return encode({"a": (9, Array(9, []))}, [])


def _flawed_text() -> bytes:
    """A string that claims more bytes than the file has."""
    claim = (2**40).to_bytes(8, "little")
    return _gguf_head(metadata=1) + claim + b"general.architecture"


_UNGATED: Mapping[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "magic-only": lambda: b"GGUF",
    "header-cut": lambda: tiny_llama()[:20],
    "metadata-cut": lambda: tiny_llama()[:2000],
    "truncated": lambda: tiny_llama()[:-25_000],
    "one-block-short": lambda: tiny_llama()[:-64],
    "big-endian": lambda: encode({"general.architecture": (STRING, "llama")}, [], order=">"),
    "huge-tensor-count": lambda: _gguf_head(tensors=2**40) + bytes(64),
    "huge-metadata-count": lambda: _gguf_head(metadata=2**40) + bytes(64),
    "huge-string": _flawed_text,
    "nested-array": _nested_array,
    "version-1": lambda: _gguf_head(version=1) + bytes(64),
    "version-99": lambda: _gguf_head(version=99) + bytes(64),
    "alignment-zero": lambda: encode({"general.alignment": (UINT32, 0)}, []),
    "no-architecture": lambda: encode({"general.name": (STRING, "tiny")}, []),
    "html": lambda: b"<!DOCTYPE html><title>404 Not Found</title>",
    "zip": lambda: b"PK\x03\x04" + bytes(64),
    "ggml": lambda: b"lmgg" + bytes(64),
    "pickle": lambda: b"\x80\x02}q\x00." + bytes(64),
}
_UNRUNNABLE: Mapping[str, Callable[[], bytes]] = {
    "bpe-vocabulary": lambda: tiny_llama(vocabulary="gpt2"),
    "tied-output": lambda: tiny_llama(tied=True),
}


def _titled_manifest(title: str) -> Callable[[], bytes]:
    return lambda: titled(title).manifest


def _cases() -> Iterator[Case]:
    for name, make in _UNPARSABLE.items():
        yield Case(name, "parse", "InvalidManifestError", 5, make)
    for name, make in _UNPARSABLE_INDEXES.items():
        yield Case(name, "parse", "InvalidManifestError", 5, make, served_as=OCI_INDEX)
    nested = nested_index().manifest
    yield Case(
        "index-nested-40", "walk", "InvalidManifestError", 5, lambda: nested, served_as=OCI_INDEX
    )
    yield Case("index-no-match", "choose", "NotFoundError", 3, _no_match, served_as=OCI_INDEX)
    for name, title in TITLES.items():
        yield Case(name, "name", None, 0, _titled_manifest(title))
    for name, make in _UNGATED.items():
        yield Case(name, "gate", "ModelError", 9, make, "gguf")
    for name, make in _UNRUNNABLE.items():
        yield Case(name, "engine", "RunnerError", 9, make, "gguf")


CASES = tuple(_cases())
"""Every case, in the order of the stages."""
