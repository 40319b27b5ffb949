"""Stores, files and registries of a given size to measure on."""

import json
import os
import struct
from pathlib import Path

from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import OCI_INDEX, OCI_MANIFEST
from modelpm.store.blobs import SEAL
from modelpm.store.index import MODIFIED, REF_NAME, SIZE
from modelpm.store.layout import Store

_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_LAYER_TYPE = "application/vnd.ollama.image.model"


def fill(root: Path, *, models: int, blobs: int, named: bool) -> None:
    """Make a store of `models` models that have `blobs` blobs in all, each a few bytes long.

    Written directly, so that 10,000 blobs cost no 10,000 fsyncs; `named` gives the models names.
    """
    Store(root).prepare()
    entries: list[dict[str, object]] = []
    layers = blobs // models - 2
    for number in range(models):
        config = _put(root, b'{"number":%d}' % number, _CONFIG_TYPE)
        parts = [_put(root, b"%d/%d" % (number, layer), _LAYER_TYPE) for layer in range(layers)]
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.to_json(),
            "layers": [part.to_json() for part in parts],
        }
        root_descriptor = _put(root, json.dumps(manifest).encode(), OCI_MANIFEST)
        notes = {
            REF_NAME: f"registry.example/models/model-{number:05}:latest",
            MODIFIED: "2026-01-01T00:00:00Z",
            SIZE: str(config.size + sum(part.size for part in parts)),
        }
        entries.append({**root_descriptor.to_json(), "annotations": notes})
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": entries if named else [],
    }
    (root / "index.json").write_text(json.dumps(index))


def _put(root: Path, content: bytes, media_type: str) -> Descriptor:
    path = root / "blobs" / "sha256" / Digest.of(content).hex
    path.write_bytes(content)
    path.chmod(0o444)
    os.utime(path, (SEAL, SEAL))
    return Descriptor.of(content, media_type)


def write_wide_gguf(path: Path, *, tokens: int = 150_000, merges: int = 151_000) -> None:
    """A llama GGUF with a vocabulary of that many tokens and a small tensor."""

    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    def entry(key: bytes, kind: int, value: bytes) -> bytes:
        return text(key) + struct.pack("<I", kind) + value

    def array(kind: int, count: int, values: bytes) -> bytes:
        return struct.pack("<IQ", kind, count) + values

    number = struct.Struct("<I").pack
    entries = [
        entry(b"general.architecture", 8, text(b"llama")),
        entry(b"llama.block_count", 4, number(1)),
        entry(b"llama.context_length", 4, number(4096)),
        entry(b"llama.embedding_length", 4, number(32)),
        entry(b"llama.feed_forward_length", 4, number(64)),
        entry(b"llama.attention.head_count", 4, number(1)),
        entry(b"tokenizer.ggml.model", 8, text(b"gpt2")),
        entry(
            b"tokenizer.ggml.tokens",
            9,
            array(8, tokens, b"".join(text(b"token%d" % n) for n in range(tokens))),
        ),
        entry(b"tokenizer.ggml.token_type", 9, array(5, tokens, number(1) * tokens)),
        entry(
            b"tokenizer.ggml.merges",
            9,
            array(8, merges, b"".join(text(b"to ken%d" % n) for n in range(merges))),
        ),
        entry(b"tokenizer.ggml.bos_token_id", 4, number(0)),
        entry(b"tokenizer.ggml.eos_token_id", 4, number(1)),
    ]
    tensor = text(b"output_norm.weight") + struct.pack("<IQIQ", 1, 32, 0, 0)
    header = struct.pack("<4sIQQ", b"GGUF", 3, 1, len(entries)) + b"".join(entries) + tensor
    path.write_bytes(header + b"\0" * (-len(header) % 32) + b"\0" * 128)
