"""The writers whose artifacts are no container images: their media types, configs and names."""

from collections.abc import Callable, Mapping

from archives import Member, gzip, tar, zstd
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
from gguf_writer import tiny_llama
from ollama_artifacts import CONFIG, DOCKER_MANIFEST, LAYER, Recipe, artifact, go_json
from tiny import (
    CONFIG_JSON,
    CREATED,
    GGUF,
    GO_TEMPLATE,
    JINJA_TEMPLATE,
    LICENSE,
    PARAMETERS,
    QUANTIZATION,
    README,
    SHARDS,
    SYSTEM,
    TOKENIZER_JSON,
    Files,
    annotations,
    modelpack_config,
    safetensors,
    sharded,
)

DOCKER_AI = "application/vnd.docker.ai."
MODELPACK = "application/vnd.cncf.model."
KIT = "application/vnd.kitops.modelkit."
TITLE = "org.opencontainers.image.title"
TAR_LAYER = "application/vnd.oci.image.layer.v1.tar"

PROJECTOR = tiny_llama(name="projector", tied=True)[:4096]
"""Begins as a GGUF does; no engine of ours loads one."""
OTHER_WEIGHTS = tiny_llama(name="other")
BUNDLE = b"a bundle of tools\n"
KIT_PART = PROJECTOR[:2048]
EXTRA = b'{"pooling":"mean"}'

_KINDS = {
    "weights": "weight",
    "projector": "weight",
    "config": "weight.config",
    "tokenizer": "weight.config",
    "template": "weight.config",
    "license": "doc",
    "document": "doc",
}
_MESSAGES = ({"role": "user", "content": "hello"}, {"role": "assistant", "content": "hell."})


# Ollama, and Hugging Face's registry, which speaks as Ollama's does


def _recipe() -> Recipe:
    return Recipe(
        weights=tiny_llama(),
        template=GO_TEMPLATE,
        system=SYSTEM,
        parameters={"num_ctx": 128, "stop": ["</s>", "<|user|>"], "temperature": 0.5},
        licenses=(LICENSE,),
        messages=_MESSAGES,
    )


OLLAMA_FILES: Files = {
    "model.gguf": GGUF["model.gguf"],
    "template": ("template", GO_TEMPLATE.encode()),
    "system": ("system", SYSTEM.encode()),
    "LICENSE": GGUF["LICENSE"],
    "params.json": ("parameters", go_json(_recipe().parameters)),
    "messages.json": ("messages", go_json(_MESSAGES)),
}
HUGGINGFACE_FILES: Files = {
    name: OLLAMA_FILES[name] for name in ("model.gguf", "template", "params.json")
}
OLLAMA_ALL_FILES: Files = {
    "model.gguf": GGUF["model.gguf"],
    "mmproj.gguf": ("projector", PROJECTOR),
    "adapter.gguf": ("adapter", PROJECTOR[:2048]),
    "draft.gguf": ("draft", PROJECTOR[:1024]),
    "other": ("other", b"[0.5]\n"),
    "template": ("template", GO_TEMPLATE.encode()),
}
TENSOR_FILES: Files = {
    "model.embed_tokens.weight": ("weights", safetensors("model.embed_tokens.weight")),
    "lm_head.weight": ("weights", safetensors("lm_head.weight")),
    "config.json": ("config", CONFIG_JSON),
    "tokenizer.json": ("config", TOKENIZER_JSON),
    "template": ("template", GO_TEMPLATE.encode()),
}


def ollama() -> Artifact:
    """As registry.ollama.ai serves: a Docker manifest, roles by media type, no names."""
    return artifact(_recipe(), size=PARAMETERS, quantization=QUANTIZATION)


def huggingface() -> Artifact:
    """As hf.co makes one of a repository of GGUFs: weights, a template, parameters."""
    recipe = Recipe(
        weights=tiny_llama(), template=GO_TEMPLATE, parameters=dict(_recipe().parameters)
    )
    return artifact(recipe, size=PARAMETERS, quantization=QUANTIZATION)


def ollama_all() -> Artifact:
    """A model with a projector, an adapter and a draft, and the layer type that nobody uses."""
    kinds = ("model", "projector", "adapter", "draft", "embed", "template")
    contents = [content for _, content in OLLAMA_ALL_FILES.values()]
    layers = [(kind, "", content) for kind, content in zip(kinds, contents, strict=True)]
    return _ollama(layers, {"model_format": "gguf", "capabilities": ["completion", "vision"]})


def ollama_tensors() -> Artifact:
    """A model for MLX: a layer a tensor, and its JSON files, which have names of their own."""
    kinds = {"weights": "tensor", "config": "json", "template": "template"}
    named = [
        (kinds[role], "" if role == "template" else name, content)
        for name, (role, content) in TENSOR_FILES.items()
    ]
    return _ollama(named, {"model_format": "safetensors", "capabilities": ["completion"]})


def _ollama(layers: list[tuple[str, str, bytes]], told: Json) -> Artifact:
    """A Docker manifest of layers by kind, name and content."""
    base = {"model_family": "llama", "model_type": PARAMETERS, "file_type": QUANTIZATION}
    config = go_json({**told, **base, "architecture": "amd64", "os": "linux"}, sort_keys=False)
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": described(CONFIG, config),
        "layers": [
            described(LAYER + kind, content, **({"name": name} if name else {}))
            for kind, name, content in layers
        ],
    }
    blobs = {digest_of(content): content for content in (config, *(each for *_, each in layers))}
    return Artifact(compact(document), DOCKER_MANIFEST, blobs)


# Docker Model Runner


def docker_ai() -> Artifact:
    """As Docker Model Runner packages a GGUF: config v0.1, names in ModelPack's annotations."""
    return _docker_ai("v0.1", named=True)


def docker_ai_unnamed() -> Artifact:
    """Config v0.2, and no annotation anywhere: every name has to be made up."""
    return _docker_ai("v0.2", named=False)


def docker_ai_files() -> Artifact:
    """Config v0.2 as it is meant: a layer a file, and a folder as an archive of a passing name."""
    files = {name: content for name, (_, content) in sharded().items()}
    kinds = {name: "safetensors" if name in SHARDS else "model.file" for name in files}
    folder = tar([Member("extra/", kind="5"), Member("extra/config.json", EXTRA)])
    files["dir-tar-1234.tar"], kinds["dir-tar-1234.tar"] = folder, "dir.tar"
    told = {"format": "safetensors", "parameters": PARAMETERS, "architecture": "llama"}
    config = compact({"config": told, "descriptor": {"created": CREATED}})
    return image(
        described(f"{DOCKER_AI}model.config.v0.2+json", config),
        [
            described(DOCKER_AI + kinds[name], content, annotations=annotations(name, content))
            for name, content in files.items()
        ],
        [config, *files.values()],
    )


def docker_cncf() -> Artifact:
    """As `docker model package --format cncf` writes: a projector is known by its name only."""
    files = {
        "model.gguf": ("weight", tiny_llama()),
        "mmproj-tiny.gguf": ("weight", PROJECTOR),
        "chat_template.jinja": ("weight.config", JINJA_TEMPLATE.encode()),
        "LICENSE": ("doc", LICENSE.encode()),
    }
    return _modelpack(files)


def _docker_ai(version: str, *, named: bool) -> Artifact:
    files = {
        "model.gguf": ("gguf.v3", tiny_llama()),
        "template.jinja": ("chat.template.jinja", JINJA_TEMPLATE.encode()),
        "LICENSE": ("license", LICENSE.encode()),
    }
    config = compact(
        {
            "config": {
                "format": "gguf",
                "quantization": QUANTIZATION,
                "parameters": PARAMETERS,
                "architecture": "llama",
                "size": f"{len(files['model.gguf'][1]) / 1000:.2f}kB",
                "gguf": {"general.architecture": "llama", "llama.context_length": "128"},
            },
            "descriptor": {"created": CREATED},
            "rootfs": {
                "type": "rootfs",
                "diff_ids": [digest_of(content) for _, content in files.values()],
            },
        }
    )
    return image(
        described(f"{DOCKER_AI}model.config.{version}+json", config),
        [
            described(DOCKER_AI + kind, content)
            | ({"annotations": annotations(path, content)} if named else {})
            for path, (kind, content) in files.items()
        ],
        [config, *(content for _, content in files.values())],
    )


# ModelPack and those who write it


def modelpack_raw() -> Artifact:
    """As modctl --raw and others write CNCF ModelPack."""
    return _modelpack(
        {
            "tokenizer/chat_template.jinja": ("weight.config", JINJA_TEMPLATE.encode()),
            "model.gguf": ("weight", tiny_llama()),
            "LICENSE": ("doc", LICENSE.encode()),
            "README.md": ("doc", README.encode()),
        }
    )


def modelpack_tar() -> Artifact:
    """As modctl writes by default: an archive a file, with the owner and the time of the file."""
    names = ("chat_template.jinja", "model.gguf", "LICENSE", "README.md")
    modelfile = "NAME tiny\nFORMAT gguf\nMODEL model.gguf\n"
    return _archived(
        names, ".tar", tar_of_one, annotations={"org.cncf.modctl.modelfile": modelfile}
    )


def modelpack_gzip() -> Artifact:
    """The specification's `.tar+gzip`."""
    return _archived(
        ("model.gguf", "LICENSE"), ".tar+gzip", lambda name, raw: gzip(tar_of_one(name, raw))
    )


def modelpack_zstd() -> Artifact:
    """The specification's `.tar+zstd`."""
    return _archived(
        ("model.gguf", "LICENSE"), ".tar+zstd", lambda name, raw: zstd(tar_of_one(name, raw))
    )


def modelpack_legacy() -> Artifact:
    """The names that ModelPack had before it came to the CNCF."""
    names = ("chat_template.jinja", "model.gguf", "LICENSE", "README.md")
    base = "application/vnd.cnai.model."
    contents = {name: GGUF[name][1] for name in names}
    config = modelpack_config(contents)
    return image(
        described(f"{base}config.v1+json", config),
        [
            described(
                f"{base}{_KINDS[GGUF[name][0]]}.v1.raw",
                content,
                annotations=annotations(name, content, prefix="cnai"),
            )
            for name, content in contents.items()
        ],
        [config, *contents.values()],
        artifactType=f"{base}manifest.v1+json",
    )


def modelpack_extension() -> Artifact:
    """With the weight type that Docker Model Runner reads beside the specification's."""
    weights = tiny_llama()
    config = modelpack_config({"model.gguf": weights})
    layer = described(f"{MODELPACK}weight.v1.gguf", weights)
    return image(
        described(f"{MODELPACK}config.v1+json", config),
        [layer],
        [config, weights],
        artifactType=f"{MODELPACK}manifest.v1+json",
    )


def modelpack_shards() -> Artifact:
    """Safetensors in two files with their index."""
    files = {name: (_KINDS[role], content) for name, (role, content) in sharded().items()}
    return _modelpack(files, kind="safetensors")


def modelpack_two() -> Artifact:
    """Two models in one artifact."""
    return _modelpack(
        {
            "tiny.gguf": ("weight", tiny_llama()),
            "other.gguf": ("weight", OTHER_WEIGHTS),
            "LICENSE": ("doc", LICENSE.encode()),
        }
    )


def palan() -> Artifact:
    """As palan packs: raw, paths and no titles, what it knows in the manifest's annotations."""
    weights = tiny_llama()
    origin = digest_of(weights).removeprefix("sha256:")
    files = [
        ("weight", "model.gguf", weights),
        ("weight.config", "chat_template.jinja", JINJA_TEMPLATE.encode()),
        ("doc", "LICENSE", LICENSE.encode()),
    ]
    config = modelpack_config({name: content for _, name, content in files})
    return image(
        described(f"{MODELPACK}config.v1+json", config),
        [
            described(
                f"{MODELPACK}{kind}.v1.raw",
                content,
                annotations={"org.cncf.model.filepath": name, "io.palan.origin.sha256": origin}
                if content is weights
                else {"org.cncf.model.filepath": name},
            )
            for kind, name, content in files
        ],
        [config, *(content for *_, content in files)],
        artifactType=f"{MODELPACK}manifest.v1+json",
        annotations={
            "org.opencontainers.image.source": "https://example.invalid/tiny",
            "org.opencontainers.image.licenses": "Apache-2.0",
            "io.palan.origin.sha256": origin,
            "io.palan.model.context_length": "128",
            "io.palan.serve.defaults": '{"ctx":128}',
        },
    )


def palan_signature() -> Artifact:
    """What palan signs a model with: an artifact that is no model."""
    payload = compact({"critical": {"image": {"docker-manifest-digest": palan().digest}}})
    return image(
        described(EMPTY_TYPE, b"{}"),
        [described("application/vnd.dev.cosign.simplesigning.v1+json", payload)],
        [b"{}", payload],
        artifactType="application/vnd.dev.cosign.artifact.sig.v1+json",
        subject=palan().descriptor,
    )


def llmman() -> Artifact:
    """As `llmman build` writes: archives, with both a path and a title."""
    names = ("model.gguf", "chat_template.jinja")
    return _archived(names, ".tar", tar_of_one, titled=True, annotations={"ai.model.repo": "tiny"})


def ramalama() -> Artifact:
    """As `podman artifact add` writes for RamaLama: no config, a type that podman guessed."""
    weights = tiny_llama()
    told = annotations("model.gguf", weights, typeflag=48)
    told["org.cncf.model.file.mediatype.untested"] = "true"
    title = {TITLE: digest_of(weights).replace(":", "-")}
    return image(
        described(EMPTY_TYPE, b"{}"),
        [described("application/octet-stream", weights, annotations=title | told)],
        [b"{}", weights],
        artifactType=f"{MODELPACK}manifest.v1+json",
    )


def tar_of_one(name: str, content: bytes) -> bytes:
    """An archive of one file, as modctl packs it on somebody's machine."""
    return tar([Member(name, content, owner=1000, time=1_767_225_600)])


def _modelpack(files: Mapping[str, tuple[str, bytes]], kind: str = "gguf") -> Artifact:
    """A ModelPack artifact of raw layers: kind and content by path."""
    config = modelpack_config({name: content for name, (_, content) in files.items()}, kind)
    return image(
        described(f"{MODELPACK}config.v1+json", config),
        [
            described(f"{MODELPACK}{type_}.v1.raw", content, annotations=annotations(path, content))
            for path, (type_, content) in files.items()
        ],
        [config, *(content for _, content in files.values())],
        artifactType=f"{MODELPACK}manifest.v1+json",
    )


def _archived(
    names: tuple[str, ...],
    ending: str,
    pack: Callable[[str, bytes], bytes],
    *,
    titled: bool = False,
    **members: object,
) -> Artifact:
    """A ModelPack artifact of archives of one file each."""
    layers = {name: pack(name, GGUF[name][1]) for name in names}
    config = modelpack_config(layers)
    title = {name: {TITLE: name} if titled else {} for name in names}
    return image(
        described(f"{MODELPACK}config.v1+json", config),
        [
            described(
                f"{MODELPACK}{_KINDS[GGUF[name][0]]}.v1{ending}",
                layer,
                annotations=annotations(name, GGUF[name][1]) | title[name],
            )
            for name, layer in layers.items()
        ],
        [config, *layers.values()],
        artifactType=f"{MODELPACK}manifest.v1+json",
        **members,
    )


# KitOps


def kitops_oldest() -> Artifact:
    """Before 0.5: an entry has no digest, and an archive begins at the last name of its path."""
    layers = {
        "model.v1.tar+gzip": gzip(_kit_tar({"model.gguf": tiny_llama()})),
        "modelpart.v1.tar": _kit_tar({"tuned.gguf": KIT_PART}),
        "docs.v1.tar": _kit_tar({"docs/README.md": README.encode()}, "docs/"),
    }
    part = {"name": "tuned", "path": "./models/tuned.gguf", "type": "LoRA adapter"}
    model = {"name": "tiny", "path": "./models/model.gguf", "framework": "gguf", "parts": [part]}
    return _kit_untyped(layers, model, [{"path": "more/docs/"}], "0.4.0")


def kitops_old() -> Artifact:
    """Up to 1.7: the manifest says neither what it is nor what it holds; names in the archives."""
    model = _kit_tar({"model.gguf": tiny_llama()})
    docs = gzip(_kit_tar({"README.md": README.encode()}))
    told = {"name": "tiny", "path": "model.gguf", "framework": "gguf", **_kit_layer(model)}
    layers = {"model.v1.tar": model, "docs.v1.tar+gzip": docs}
    return _kit_untyped(layers, told, [{"path": "README.md", **_kit_layer(docs)}], "1.7.0")


def _kit_untyped(layers: Mapping[str, bytes], model: Json, docs: list[Json], by: str) -> Artifact:
    """A ModelKit of layers by kind, whose manifest has neither a media type nor a type."""
    config = compact(
        {
            "manifestVersion": "1.0.0",
            "package": {"name": "tiny", "license": "Apache-2.0", "authors": ["modelpm"]},
            "model": model,
            "docs": docs,
        }
    )
    document = {
        "schemaVersion": 2,
        "config": described(f"{KIT}config.v1+json", config),
        "layers": [described(KIT + kind, content) for kind, content in layers.items()],
        "annotations": {"ml.kitops.modelkit.cli-version": by},
    }
    blobs = {digest_of(content): content for content in (config, *layers.values())}
    return Artifact(compact(document), OCI_MANIFEST, blobs)


def _kit_layer(layer: bytes) -> Json:
    """How the entry of a layer tells which it is."""
    return {"digest": digest_of(layer)}


def kitops() -> Artifact:
    """Newer: typed, a folder in one archive, zstd, and a raw layer that only the Kitfile names."""
    model = _kit_tar({f"tiny/{name}": each for name, (_, each) in sharded().items()}, "tiny/")
    license_ = zstd(_kit_tar({"LICENSE": LICENSE.encode()}))
    docs = gzip(_kit_tar({"docs/README.md": README.encode()}, "docs/"))
    told: Json = {
        "name": "tiny",
        "path": "tiny",
        "framework": "transformers",
        "format": "safetensors",
        "parameters": {"context": 128, "quantized": False},
    }
    config = compact(
        {
            "manifestVersion": "1.0.0",
            "package": {"name": "tiny", "license": "Apache-2.0"},
            "model": told | _kit_layer(model),
            "docs": [
                {"path": "LICENSE", **_kit_layer(license_)},
                {"path": "docs", **_kit_layer(docs)},
            ],
            "mcpb": [{"path": "tools/server.mcpb", **_kit_layer(BUNDLE)}],
        }
    )
    return image(
        described(f"{KIT}config.v1+json", config),
        [
            described(f"{KIT}model.v1.tar", model),
            described(f"{KIT}docs.v1.tar+zstd", license_),
            described(f"{KIT}docs.v1.tar+gzip", docs),
            described(f"{KIT}mcpb.v1.raw", BUNDLE),
        ],
        [config, model, license_, docs, BUNDLE],
        artifactType=f"{KIT}manifest.v1+json",
        annotations={"ml.kitops.modelkit.cli-version": "1.9.0"},
    )


def kitops_index() -> Artifact:
    """An index of ModelKits, whose entries carry labels that no specification knows."""
    kit = kitops_old()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "artifactType": f"{KIT}index.v1+json",
        "manifests": [kit.descriptor | {"modelMetadata": {"labels": {"size": "tiny"}}}],
    }
    return Artifact(compact(document), OCI_INDEX, kit.all_blobs, f"{KIT}index.v1+json")


def _kit_tar(files: Mapping[str, bytes], folder: str = "") -> bytes:
    above = [Member(folder, kind="5", owner=1000)] if folder else []
    return tar([*above, *(Member(name, each, owner=1000) for name, each in files.items())])


# ORAS and omlmd

_OMLMD = {"name": "tiny", "author": "modelpm", "model_format_name": "gguf"}
_OMLMD_OWN = {"accuracy": 0.987, "trained": {"on": "noise"}}
OMLMD_JSON = compact(_OMLMD | {"customProperties": _OMLMD_OWN})
OMLMD_YAML = "".join(f"{key}: {value}\n" for key, value in _OMLMD.items()).encode()


def omlmd() -> Artifact:
    """As omlmd pushes by oras-py: titles, metadata twice, and one of them is the config too."""
    weights = tiny_llama()
    layers = {
        "model.gguf": ("application/x-mlmodel", weights),
        "model_metadata.omlmd.json": ("application/x-config", OMLMD_JSON),
        "model_metadata.omlmd.yaml": ("application/x-config", OMLMD_YAML),
    }
    return image(
        described("application/x-config", OMLMD_JSON),
        [
            described(kind, content, annotations={TITLE: name})
            for name, (kind, content) in layers.items()
        ],
        [content for _, content in layers.values()],
        annotations={**_OMLMD, "customProperties+json": compact(_OMLMD_OWN).decode()},
    )


def omlmd_artifact() -> Artifact:
    """As newer ones push with `as_artifact`: the config is a layer too, of the model's type."""
    kind = "application/x-mlmodel"
    config = compact({"artifactType": kind})
    layers = {
        "manifest.json": (kind, config),
        "model.gguf": (kind, tiny_llama()),
        "model_metadata.omlmd.json": ("application/x-config", OMLMD_JSON),
    }
    return image(
        described(kind, config),
        [
            described(each, content, annotations={TITLE: name})
            for name, (each, content) in layers.items()
        ],
        [content for _, content in layers.values()],
        annotations={**_OMLMD, "customProperties+json": compact(_OMLMD_OWN).decode()},
    )


def oras_gguf() -> Artifact:
    """As `oras push` leaves a lone file: a layer that claims to be a tar, and a title."""
    weights = tiny_llama()
    return _oras([described(TAR_LAYER, weights, annotations={TITLE: "tiny.gguf"})], weights)


def oras_folder() -> Artifact:
    """As `oras push` packs a folder: a gzipped archive that is to be unpacked, and its title."""
    names = ("chat_template.jinja", "model.gguf", "LICENSE", "README.md")
    packed = tar(
        [Member("tiny", kind="5"), *(Member(f"tiny/{name}", GGUF[name][1]) for name in names)]
    )
    told = {
        TITLE: "tiny",
        "io.deis.oras.content.digest": digest_of(packed),
        "io.deis.oras.content.unpack": "true",
    }
    layer = gzip(packed)
    return _oras([described(f"{TAR_LAYER}+gzip", layer, annotations=told)], layer)


def _oras(layers: list[Json], content: bytes) -> Artifact:
    return image(
        described(EMPTY_TYPE, b"{}", data="e30="),
        layers,
        [b"{}", content],
        artifactType="application/vnd.unknown.artifact.v1",
        annotations={"org.opencontainers.image.created": CREATED},
    )
