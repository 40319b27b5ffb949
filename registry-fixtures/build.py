"""How the committed fixtures are made: `layouts/`, one tiny artifact a dialect, and `bad/`.

    python registry-fixtures/build.py [OUT]          rebuild, byte for byte the same everywhere
    python registry-fixtures/build.py --llama2 DIR   write library/llama2 as one OCI layout

No network, no clock, no chance. All layouts hold the same weights, so a store keeps them once.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import bad
from artifact import (
    EMPTY_TYPE,
    OCI_INDEX,
    Artifact,
    Json,
    compact,
    described,
    digest_of,
    image,
    write_layout,
)
from gguf_writer import tiny_llama
from ollama_artifacts import Recipe, artifact, llama2

HERE = Path(__file__).resolve().parent
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

DOCKER_AI = "application/vnd.docker.ai."
MODELPACK = "application/vnd.cncf.model."


def ollama() -> Artifact:
    """As registry.ollama.ai serves: a Docker manifest, roles by media type, no names."""
    recipe = Recipe(
        weights=tiny_llama(),
        template=GO_TEMPLATE,
        system=SYSTEM,
        parameters={"num_ctx": 128, "stop": ["</s>", "<|user|>"], "temperature": 0.5},
        licenses=(LICENSE,),
        messages=(
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hell."},
        ),
    )
    return artifact(recipe, size=PARAMETERS, quantization=QUANTIZATION)


def docker_ai() -> Artifact:
    """As Docker Model Runner packages a GGUF: config v0.1, names in ModelPack's annotations."""
    return _docker_ai("v0.1", named=True)


def docker_ai_unnamed() -> Artifact:
    """Config v0.2, and no annotation anywhere: every name has to be made up."""
    return _docker_ai("v0.2", named=False)


def modelpack_raw() -> Artifact:
    """As modctl --raw and others write CNCF ModelPack."""
    weights = tiny_llama()
    files = {
        "tokenizer/chat_template.jinja": ("weight.config", JINJA_TEMPLATE.encode()),
        "model.gguf": ("weight", weights),
        "LICENSE": ("doc", LICENSE.encode()),
        "README.md": ("doc", README.encode()),
    }
    config = compact(
        {
            "descriptor": {"name": "tiny", "family": "llama", "licenses": ["Apache-2.0"]},
            "config": {
                "architecture": "transformer",
                "format": "gguf",
                "paramSize": PARAMETERS,
                "quantization": QUANTIZATION,
            },
            "modelfs": {
                "type": "layers",
                "diffIds": [digest_of(content) for _, content in files.values()],
            },
        }
    )
    return image(
        described(f"{MODELPACK}config.v1+json", config),
        [
            described(f"{MODELPACK}{kind}.v1.raw", content, annotations=_file(path, content))
            for path, (kind, content) in files.items()
        ],
        [config, *(content for _, content in files.values())],
        artifactType=f"{MODELPACK}manifest.v1+json",
    )


def oras_gguf() -> Artifact:
    """As `oras push` leaves a lone file: a layer that claims to be a tar, and a title."""
    weights = tiny_llama()
    title = {"org.opencontainers.image.title": "tiny.gguf"}
    return image(
        described(EMPTY_TYPE, b"{}", data="e30="),
        [described("application/vnd.oci.image.layer.v1.tar", weights, annotations=title)],
        [b"{}", weights],
        artifactType="application/vnd.unknown.artifact.v1",
        annotations={"org.opencontainers.image.created": CREATED},
    )


def index() -> Artifact:
    """An index of a container image and a model; the model is known by its artifact type."""
    model, container = modelpack_raw(), _container()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            container.descriptor | {"platform": {"architecture": "amd64", "os": "linux"}},
            model.descriptor | {"platform": {"architecture": "unknown", "os": "unknown"}},
        ],
    }
    return Artifact(compact(document), OCI_INDEX, {**container.all_blobs, **model.all_blobs})


LAYOUTS: Mapping[str, Callable[[], Artifact]] = {
    "ollama": ollama,
    "docker-ai": docker_ai,
    "docker-ai-unnamed": docker_ai_unnamed,
    "modelpack-raw": modelpack_raw,
    "oras-gguf": oras_gguf,
    "index": index,
}


def build(out: Path) -> None:
    """Write `layouts/` and `bad/` into a folder, in place of what they held."""
    for name, make in LAYOUTS.items():
        write_layout(out / "layouts" / name, {"latest": make()})
    shutil.rmtree(out / "bad", ignore_errors=True)
    (out / "bad").mkdir(parents=True)
    for name, content in bad.files().items():
        (out / "bad" / name).write_bytes(content)
    table = json.dumps([case.to_json() for case in bad.CASES], indent=1)
    (out / "bad" / "cases.json").write_text(f"{table}\n")


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
            | ({"annotations": _file(path, content)} if named else {})
            for path, (kind, content) in files.items()
        ],
        [config, *(content for _, content in files.values())],
    )


def _file(path: str, content: bytes) -> Json:
    """ModelPack's annotations of a layer that is one file."""
    metadata = {
        "name": path.rpartition("/")[2],
        "mode": 0o644,
        "uid": 0,
        "gid": 0,
        "size": len(content),
        "mtime": "1970-01-01T00:00:00Z",
        "typeflag": 0,
    }
    return {
        "org.cncf.model.filepath": path,
        "org.cncf.model.file.metadata+json": compact(metadata).decode(),
        "org.cncf.model.file.mediatype.untested": "false",
    }


def _container() -> Artifact:
    """A container image with one empty layer."""
    layer = bytes(1024)
    config = compact(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
    )
    return image(
        described("application/vnd.oci.image.config.v1+json", config),
        [described("application/vnd.oci.image.layer.v1.tar", layer)],
        [config, layer],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Build what the arguments ask for."""
    parser = argparse.ArgumentParser(description="Rebuild the registry fixtures.")
    parser.add_argument("out", nargs="?", type=Path, default=HERE)
    parser.add_argument("--llama2", type=Path, metavar="DIR", help="write this layout instead")
    options = parser.parse_args(arguments)
    if options.llama2 is None:
        build(options.out)
    else:
        write_layout(options.llama2, llama2(HERE / "llama2"))


if __name__ == "__main__":
    main()
