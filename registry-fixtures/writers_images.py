"""The writers whose models are container images, and indexes with such images in them."""

from archives import FOLDER, HARD_LINK, SYMLINK, Member, gzip, tar
from artifact import EMPTY_TYPE, OCI_INDEX, Artifact, Json, compact, described, digest_of, image
from tiny import GGUF
from writers_artifacts import MODELPACK, OMLMD_JSON, TAR_LAYER, TITLE, modelpack_raw

IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
AUTHOR = {"io.opendatahub.author": "olot"}


def ramalama_raw() -> Artifact:
    """`--type raw`: from scratch, a layer of the folder and its link, and a layer a file."""
    layers = [gzip(layer) for layer in _ramalama_layers()]
    return _image(layers, f"{TAR_LAYER}+gzip", {"org.containers.type": "ai.image.model.raw"})


def ramalama_car() -> Artifact:
    """`--type car`: the same above a base with a shell in it."""
    base = tar(
        [
            Member("bin/", kind=FOLDER),
            Member("bin/sh", b"#!/bin/nothing\n"),
            Member("bin/ash", kind=HARD_LINK, target="bin/sh"),
            Member("usr/", kind=FOLDER),
            Member("usr/bin", kind=SYMLINK, target="../bin"),
        ]
    )
    layers = [gzip(layer) for layer in (base, *_ramalama_layers())]
    return _image(layers, f"{TAR_LAYER}+gzip", {"org.containers.type": "ai.image.model.car"})


def _ramalama_layers() -> list[bytes]:
    link = Member("models/model.file", kind=SYMLINK, target="tiny/model.gguf")
    above = [Member("models/", kind=FOLDER)]
    inside = [*above, Member("models/tiny/", kind=FOLDER)]
    files = [[*inside, Member(f"models/tiny/{n}", GGUF[n][1])] for n in ("model.gguf", "LICENSE")]
    return [tar([*above, link]), *map(tar, files)]


def ramalama_again() -> Artifact:
    """Built on an older model: its layers take files away, and a whole folder (layer.md)."""
    old = [
        Member("models/", kind=FOLDER),
        Member("models/old.gguf", b"GGUF" + bytes(60)),
        Member("models/LICENSE", b"another\n"),
        Member("models/notes/", kind=FOLDER),
        Member("models/notes/old.md", b"old\n"),
        Member("models/tiny/", kind=FOLDER),
        Member("models/tiny/old.json", b"{}"),
    ]
    gone = [Member(f"models/{name}") for name in (".wh.old.gguf", ".wh.LICENSE", ".wh.notes")]
    new = [
        Member("models/tiny/", kind=FOLDER),
        Member("models/tiny/.wh..wh..opq"),
        *(Member(f"models/tiny/{name}", GGUF[name][1]) for name in ("model.gguf", "LICENSE")),
    ]
    layers = [gzip(tar(members)) for members in (old, gone, new)]
    return _image(layers, f"{TAR_LAYER}+gzip", {"org.containers.type": "ai.image.model.raw"})


def modelcar() -> Artifact:
    """KServe's, as docker or podman builds one: compressed layers, and no mark anywhere."""
    base = tar([Member("bin/", kind=FOLDER), Member("bin/sh", b"#!/bin/nothing\n")])
    members = [Member(f"models/{name}", GGUF[name][1]) for name in ("model.gguf", "LICENSE")]
    layers = [gzip(base), gzip(tar([Member("models/", kind=FOLDER), *members]))]
    return _image(layers, "application/vnd.docker.image.rootfs.diff.tar.gzip", {})


def olot_artifact() -> Artifact:
    """What is no image: the archives with titles, an empty config, and the type of a model."""
    blobs = {"model.gguf": _olot_tar("model.gguf"), "README.md": gzip(_olot_tar("README.md"))}
    kinds = {"model.gguf": TAR_LAYER, "README.md": f"{TAR_LAYER}+gzip"}
    return image(
        described(EMPTY_TYPE, b"{}"),
        [described(kinds[name], blob, annotations={TITLE: name}) for name, blob in blobs.items()],
        [b"{}", *blobs.values()],
        artifactType="application/x-mlmodel",
    )


def omlmd_image() -> Artifact:
    """What newer ones push by default: archives whose titles are names of archives."""
    model = tar([Member("model.gguf", GGUF["model.gguf"][1])])
    told = gzip(tar([Member("model_metadata.omlmd.json", OMLMD_JSON)]))
    config = compact({"architecture": "amd64", "os": "linux"})
    return image(
        described(IMAGE_CONFIG, config),
        [
            described(TAR_LAYER, model, annotations={TITLE: "model.tar"}),
            described(f"{TAR_LAYER}+gzip", told, annotations={TITLE: "model_metadata.omlmd.tar"}),
        ],
        [config, model, told],
        annotations={"name": "tiny", "model_format_name": "gguf", "customProperties+json": "{}"},
    )


def palan_car() -> Artifact:
    """palan's twin for image volumes: one plain archive, and no mark anywhere."""
    names = ("model.gguf", "chat_template.jinja", "LICENSE")
    members = [Member(f"models/{name}", GGUF[name][1]) for name in names]
    return _image([tar([Member("models/", kind=FOLDER), *members])], TAR_LAYER, {})


def olot() -> Artifact:
    """A layer a file over a base; the annotations tell the digest of the file in the layer."""
    base = tar([Member("etc/", kind=FOLDER), Member("etc/os-release", b"ID=nothing\n")])
    card = gzip(_olot_tar("README.md"))
    weights = _olot_tar("model.gguf")
    layers = [
        described(f"{TAR_LAYER}+gzip", gzip(base)),
        described(TAR_LAYER, weights, annotations=_olot_annotations("model.gguf")),
        described(
            f"{TAR_LAYER}+gzip",
            card,
            annotations={
                **_olot_annotations("README.md"),
                "io.opendatahub.modelcar.layer.type": "modelcard",
            },
        ),
    ]
    config = _config([base, weights, _olot_tar("README.md")], {})
    told = AUTHOR | {"io.opendatahub.layers.modelcard": digest_of(card)}
    contents = [config, gzip(base), weights, card]
    return image(described(IMAGE_CONFIG, config), layers, contents, annotations=told)


def olot_modelpack() -> Artifact:
    """The second manifest of `--add-modelpack`: the same archives, titles and no paths."""
    contents = {"weight.v1.tar": "model.gguf", "doc.v1.tar+gzip": "README.md"}
    blobs = {"model.gguf": _olot_tar("model.gguf"), "README.md": gzip(_olot_tar("README.md"))}
    config = compact(
        {
            "descriptor": {"name": "tiny"},
            "config": {},
            "modelfs": {"type": "layers", "diffIds": [digest_of(_olot_tar(n)) for n in blobs]},
        }
    )
    return image(
        described(f"{MODELPACK}config.v1+json", config),
        [
            described(f"{MODELPACK}{kind}", blobs[name], annotations={TITLE: name})
            for kind, name in contents.items()
        ],
        [config, *blobs.values()],
        artifactType=f"{MODELPACK}manifest.v1+json",
        annotations=AUTHOR,
    )


def olot_index() -> Artifact:
    """An image for a machine, and beside it the same model as ModelPack."""
    container, model = olot(), olot_modelpack()
    entry = dict(model.descriptor)
    entry.pop("artifactType")
    mark = AUTHOR | {"io.opendatahub.modelcar.manifest.type": "modelpack"}
    unknown = {"architecture": "unknown", "os": "unknown"}
    return _index(
        {**container.all_blobs, **model.all_blobs},
        container.descriptor | {"platform": {"architecture": "amd64", "os": "linux"}},
        entry | {"platform": unknown, "annotations": mark},
    )


def index() -> Artifact:
    """An index of a container image and a model; the model is known by its artifact type."""
    model, container = modelpack_raw(), _image([bytes(1024)], TAR_LAYER, {})
    return _index(
        {**container.all_blobs, **model.all_blobs},
        container.descriptor | {"platform": {"architecture": "amd64", "os": "linux"}},
        model.descriptor | {"platform": {"architecture": "unknown", "os": "unknown"}},
    )


def _index(blobs: dict[str, bytes], *entries: Json) -> Artifact:
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
    return Artifact(compact(document), OCI_INDEX, blobs)


def _olot_tar(name: str) -> bytes:
    return tar([Member("models/", kind=FOLDER), Member(f"models/{name}", GGUF[name][1])])


def _olot_annotations(name: str) -> Json:
    return {
        TITLE: name,
        "olot.layer.content.digest": digest_of(GGUF[name][1]),
        "olot.layer.content.type": "file",
        "olot.layer.content.inlayerpath": f"/models/{name}",
        "olot.layer.content.name": name,
    }


def _config(layers: list[bytes], labels: Json) -> bytes:
    """An image's config; `layers` are its archives, not compressed."""
    told = {"config": {"Labels": labels}} if labels else {}
    rootfs = {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]}
    return compact({"architecture": "amd64", "os": "linux", **told, "rootfs": rootfs})


def _image(layers: list[bytes], media_type: str, labels: Json) -> Artifact:
    config = _config(layers, labels)
    named = [described(media_type, layer) for layer in layers]
    return image(described(IMAGE_CONFIG, config), named, [config, *layers])
