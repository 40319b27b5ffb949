"""How each writer lays the tiny model down in a registry, and which files come out: one table.

A row of WRITERS is a writer, or a way in which one writes. The facts are those of the writers'
own sources; no bytes of theirs are here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import writers_artifacts as artifacts
import writers_images as images
from artifact import Artifact
from gguf_writer import tiny_llama
from tiny import GGUF, JINJA_TEMPLATE, LICENSE, Files, sharded


@dataclass(frozen=True, slots=True)
class Writer:
    """A way to write a model. `files` are what is in it once archives are unpacked, in order.

    Of an index, `chosen` is the child that is the model. `plain` says that no layer is an archive.
    """

    make: Callable[[], Artifact]
    files: Files = field(repr=False)
    chosen: Callable[[], Artifact] | None = None
    plain: bool = True

    @property
    def runs(self) -> bool:
        """Whether it holds the one GGUF that an engine runs."""
        contents = [content for role, content in self.files.values() if role == "weights"]
        return contents == [tiny_llama()]

    def model(self) -> Artifact:
        """The artifact that a reader ends at."""
        return (self.chosen or self.make)()


def _only(files: Files, *names: str) -> Files:
    return {name: files[name] for name in names}


_PACKED = _only(GGUF, "chat_template.jinja", "model.gguf", "LICENSE", "README.md")
_PAIR = _only(GGUF, "model.gguf", "LICENSE")
_UNNAMED = {
    "model.gguf": GGUF["model.gguf"],
    "chat_template.jinja": GGUF["chat_template.jinja"],
    "LICENSE": GGUF["LICENSE"],
}
_TINY = {f"tiny/{name}": GGUF[name] for name in ("model.gguf", "LICENSE")}

WRITERS: Mapping[str, Writer] = {
    "ollama": Writer(artifacts.ollama, artifacts.OLLAMA_FILES),
    "ollama-all": Writer(artifacts.ollama_all, artifacts.OLLAMA_ALL_FILES),
    "ollama-tensors": Writer(artifacts.ollama_tensors, artifacts.TENSOR_FILES),
    "huggingface": Writer(artifacts.huggingface, artifacts.HUGGINGFACE_FILES),
    "docker-ai": Writer(
        artifacts.docker_ai,
        {
            "model.gguf": GGUF["model.gguf"],
            "template.jinja": ("template", JINJA_TEMPLATE.encode()),
            "LICENSE": ("license", LICENSE.encode()),
        },
    ),
    "docker-ai-unnamed": Writer(artifacts.docker_ai_unnamed, _UNNAMED),
    "docker-ai-files": Writer(
        artifacts.docker_ai_files,
        sharded() | {"extra/config.json": ("config", artifacts.EXTRA)},
        plain=False,
    ),
    "docker-cncf": Writer(
        artifacts.docker_cncf,
        _only(GGUF, "model.gguf")
        | {"mmproj-tiny.gguf": ("projector", artifacts.PROJECTOR)}
        | _only(GGUF, "chat_template.jinja", "LICENSE"),
    ),
    "modelpack-raw": Writer(
        artifacts.modelpack_raw,
        {"tokenizer/chat_template.jinja": GGUF["chat_template.jinja"]}
        | _only(GGUF, "model.gguf", "LICENSE", "README.md"),
    ),
    "modelpack-tar": Writer(artifacts.modelpack_tar, _PACKED, plain=False),
    "modelpack-tar-gzip": Writer(artifacts.modelpack_gzip, _PAIR, plain=False),
    "modelpack-tar-zstd": Writer(artifacts.modelpack_zstd, _PAIR, plain=False),
    "modelpack-legacy": Writer(artifacts.modelpack_legacy, _PACKED),
    "modelpack-extension": Writer(artifacts.modelpack_extension, _only(GGUF, "model.gguf")),
    "modelpack-shards": Writer(artifacts.modelpack_shards, sharded()),
    "modelpack-two": Writer(
        artifacts.modelpack_two,
        {
            "tiny.gguf": GGUF["model.gguf"],
            "other.gguf": ("weights", artifacts.OTHER_WEIGHTS),
            "LICENSE": GGUF["LICENSE"],
        },
    ),
    "kitops-oldest": Writer(
        artifacts.kitops_oldest,
        {
            "models/model.gguf": GGUF["model.gguf"],
            "models/tuned.gguf": ("adapter", artifacts.KIT_PART),
            "more/docs/README.md": GGUF["README.md"],
        },
        plain=False,
    ),
    "kitops-old": Writer(artifacts.kitops_old, _only(GGUF, "model.gguf", "README.md"), plain=False),
    "kitops": Writer(
        artifacts.kitops,
        {
            **{f"tiny/{name}": file for name, file in sharded().items()},
            "LICENSE": GGUF["LICENSE"],
            "docs/README.md": GGUF["README.md"],
            "tools/server.mcpb": ("other", artifacts.BUNDLE),
        },
        plain=False,
    ),
    "kitops-index": Writer(
        artifacts.kitops_index,
        _only(GGUF, "model.gguf", "README.md"),
        artifacts.kitops_old,
        plain=False,
    ),
    "ramalama-artifact": Writer(artifacts.ramalama, _only(GGUF, "model.gguf")),
    "ramalama-raw": Writer(images.ramalama_raw, _TINY, plain=False),
    "ramalama-car": Writer(images.ramalama_car, _TINY, plain=False),
    "ramalama-again": Writer(images.ramalama_again, _TINY, plain=False),
    "modelcar": Writer(images.modelcar, _PAIR, plain=False),
    "olot-artifact": Writer(
        images.olot_artifact, _only(GGUF, "model.gguf", "README.md"), plain=False
    ),
    "olot": Writer(images.olot, _only(GGUF, "model.gguf", "README.md"), plain=False),
    "olot-index": Writer(
        images.olot_index,
        _only(GGUF, "model.gguf", "README.md"),
        images.olot_modelpack,
        plain=False,
    ),
    "omlmd": Writer(
        artifacts.omlmd,
        {
            "model.gguf": GGUF["model.gguf"],
            "model_metadata.omlmd.json": ("config", artifacts.OMLMD_JSON),
            "model_metadata.omlmd.yaml": ("config", artifacts.OMLMD_YAML),
        },
    ),
    "omlmd-artifact": Writer(
        artifacts.omlmd_artifact,
        {
            "manifest.json": ("config", b'{"artifactType":"application/x-mlmodel"}'),
            "model.gguf": GGUF["model.gguf"],
            "model_metadata.omlmd.json": ("config", artifacts.OMLMD_JSON),
        },
    ),
    "omlmd-image": Writer(
        images.omlmd_image,
        _only(GGUF, "model.gguf") | {"model_metadata.omlmd.json": ("config", artifacts.OMLMD_JSON)},
        plain=False,
    ),
    "oras-gguf": Writer(artifacts.oras_gguf, {"tiny.gguf": GGUF["model.gguf"]}),
    "oras-folder": Writer(
        artifacts.oras_folder,
        {f"tiny/{name}": file for name, file in _PACKED.items()},
        plain=False,
    ),
    "palan": Writer(artifacts.palan, _only(GGUF, "model.gguf", "chat_template.jinja", "LICENSE")),
    "palan-car": Writer(
        images.palan_car, _only(GGUF, "model.gguf", "chat_template.jinja", "LICENSE"), plain=False
    ),
    "llmman": Writer(
        artifacts.llmman, _only(GGUF, "model.gguf", "chat_template.jinja"), plain=False
    ),
    "index": Writer(
        images.index,
        {"tokenizer/chat_template.jinja": GGUF["chat_template.jinja"]}
        | _only(GGUF, "model.gguf", "LICENSE", "README.md"),
        artifacts.modelpack_raw,
    ),
}
"""Every layout under `layouts/` by its name."""
