"""Models that are put straight into a store, with any texts in them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from gguf_writer import tiny_llama

from modelpm.oci.descriptor import Descriptor
from modelpm.oci.manifest import OCI_MANIFEST
from modelpm.store.layout import Store
from tests.memory import Memory

OLLAMA = "application/vnd.ollama.image."
LIBRARY = "registry.ollama.ai/library"

HOSTILE = (
    "\x07\x08\rover\x1b[2J\x1b]0;title\x07\x7f\x80\x85\x9b31m\xad"
    "\u200b\u200e\u200f\u202e\u2028\u2066\ufeff\U000e0041"
)
"""Rings, moves, clears, renames the window, colours, hides, reorders."""

NEVER = frozenset(map(chr, (*range(9), *range(11, 32), *range(0x7F, 0xA0)))) | set(HOSTILE[-9:])
"""Characters that no stream may carry, apart from what a bar or readline needs."""


@dataclass(frozen=True)
class Maker:
    """Makes models of Ollama's dialect."""

    store: Store
    memory: Memory = field(default_factory=Memory)

    def put(self, name: str = "tiny", weights: bytes | None = None, /, **texts: str) -> Descriptor:
        """Install a model under a short name; `texts` are layers by their kind."""
        layers = [self._layer("model", tiny_llama() if weights is None else weights)]
        layers += [self._layer(kind, text.encode()) for kind, text in texts.items()]
        config = json.dumps({"model_format": "gguf", "model_family": "llama"}).encode()
        return self.manifest(
            name,
            {
                "config": self._put(config, "application/vnd.docker.container.image.v1+json"),
                "layers": layers,
            },
        )

    def pack(self, name: str, files: Mapping[str, bytes]) -> Descriptor:
        """Install a ModelPack of these files of weights."""
        kind = "application/vnd.cncf.model."
        layers = [
            self._put(content, f"{kind}weight.v1.raw")
            | {"annotations": {"org.cncf.model.filepath": path}}
            for path, content in files.items()
        ]
        config = self._put(b"{}", f"{kind}config.v1+json")
        return self.manifest(name, {"config": config, "layers": layers})

    def manifest(self, name: str, members: Mapping[str, object]) -> Descriptor:
        """Install a manifest that has these members."""
        raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, **members}).encode()
        desc = self.memory.leaf(raw, OCI_MANIFEST)
        self.store.push(desc, self.memory)
        full = name if "/" in name else f"{LIBRARY}/{name}"
        self.store.tag(desc, full if ":" in name else f"{full}:latest")
        return desc

    def _layer(self, kind: str, content: bytes) -> dict[str, object]:
        return self._put(content, f"{OLLAMA}{kind}")

    def _put(self, content: bytes, media_type: str) -> dict[str, object]:
        desc = self.memory.leaf(content, media_type)
        self.store.push(desc, self.memory)
        return desc.to_json()
