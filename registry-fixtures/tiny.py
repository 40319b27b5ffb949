"""What every layout is made of: one tiny llama in two forms, and the texts that go with it."""

import json
import struct
from collections.abc import Mapping

from artifact import Json, compact, digest_of
from gguf_writer import tiny_llama

CREATED = "2026-01-01T00:00:00Z"
PARAMETERS, QUANTIZATION = "39.5K", "Q8_0"

GO_TEMPLATE = """{{ if .System }}<|system|>
{{ .System }}</s>
{{ end }}<|user|>
{{ .Prompt }}</s>
<|assistant|>
"""
JINJA_TEMPLATE = """{% for m in messages %}<|{{ m.role }}|>
{{ m.content }}</s>
{% endfor %}<|assistant|>
"""
SYSTEM = "You are a fixture. You speak in noise."
LICENSE = (
    "The modelpm authors give this model of noise to everyone, under the Apache License 2.0.\n"
)
README = "# tiny\n\nA llama of 2 blocks whose weights are noise.\n"
CONFIG_JSON = compact({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})
TOKENIZER_JSON = compact({"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}})

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"

Files = dict[str, tuple[str, bytes]]
"""The role and the content of each file, by its name."""

GGUF: Files = {
    "model.gguf": ("weights", tiny_llama()),
    "chat_template.jinja": ("template", JINJA_TEMPLATE.encode()),
    "LICENSE": ("license", LICENSE.encode()),
    "README.md": ("document", README.encode()),
}


def safetensors(*names: str) -> bytes:
    """A safetensors file of these tensors, four numbers each."""
    header = {
        name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * at, 16 * at + 16]}
        for at, name in enumerate(names)
    }
    raw = compact(header)
    raw += b" " * (-len(raw) % 8)
    numbers = struct.pack(f"<{4 * len(names)}f", *range(4 * len(names)))
    return struct.pack("<Q", len(raw)) + raw + numbers


def sharded() -> Files:
    """A model of two safetensors files, as transformers saves it."""
    tensors = ("model.embed_tokens.weight", "lm_head.weight")
    index = {
        "metadata": {"total_size": 32},
        "weight_map": dict(zip(tensors, SHARDS, strict=True)),
    }
    return {
        "config.json": ("config", CONFIG_JSON),
        SHARDS[0]: ("weights", safetensors(tensors[0])),
        SHARDS[1]: ("weights", safetensors(tensors[1])),
        INDEX: ("config", json.dumps(index, indent=2).encode()),
        "tokenizer.json": ("tokenizer", TOKENIZER_JSON),
    }


def modelpack_config(contents: Mapping[str, bytes], kind: str = "gguf") -> bytes:
    """ModelPack's config of a model with these layers."""
    told = {"architecture": "transformer", "format": kind, "paramSize": PARAMETERS}
    return compact(
        {
            "descriptor": {"name": "tiny", "family": "llama", "licenses": ["Apache-2.0"]},
            "config": told | ({"quantization": QUANTIZATION} if kind == "gguf" else {}),
            "modelfs": {
                "type": "layers",
                "diffIds": [digest_of(content) for content in contents.values()],
            },
        }
    )


def annotations(path: str, content: bytes, *, typeflag: int = 0, prefix: str = "cncf") -> Json:
    """ModelPack's annotations of a layer that is one file."""
    metadata = {
        "name": path.rpartition("/")[2],
        "mode": 0o644,
        "uid": 0,
        "gid": 0,
        "size": len(content),
        "mtime": "1970-01-01T00:00:00Z",
        "typeflag": typeflag,
    }
    base = f"org.{prefix}.model"
    return {
        f"{base}.filepath": path,
        f"{base}.file.metadata+json": compact(metadata).decode(),
        f"{base}.file.mediatype.untested": "false",
    }
