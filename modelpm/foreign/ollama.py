"""How Ollama keeps models on disk: manifests by name, blobs by digest.

    manifests/<host>/<namespace>/<model>/<tag>      the manifest's bytes
    blobs/sha256-<hex>                              of early versions: sha256:<hex>

Source: ollama's manifest/paths.go and types/model/name.go.
"""

import stat
from collections.abc import Iterator
from pathlib import Path

from modelpm.errors import ContentError, ModelError, StoreError
from modelpm.foreign.found import MAX_FOUND, Found, Held, folders, full_name
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.manifest import MAX_BYTES, Manifest
from modelpm.store.files import listing, read_small

MANIFESTS, BLOBS = "manifests", "blobs"

_HOST, _NAMESPACE = "registry.ollama.ai", "library"


def is_place(root: Path) -> bool:
    """Whether this looks like Ollama's folder of models."""
    return (root / MANIFESTS).is_dir()


def models(root: Path) -> Iterator[Found]:
    """Every model, by name. Raises StoreError where a folder cannot be read."""
    count = 0
    for host in folders(root / MANIFESTS):
        for namespace in folders(host):
            for model in folders(namespace):
                for path, _ in listing(model):
                    count += 1
                    if count > MAX_FOUND:
                        raise StoreError(f"{root} has more than {MAX_FOUND} models")
                    yield _model(root, path)


def _model(root: Path, path: Path) -> Found:
    host, namespace, model, tag = path.relative_to(root / MANIFESTS).parts
    name = f"{host}/{namespace}/{model}:{tag}"
    short = name.removeprefix(f"{_HOST}/").removeprefix(f"{_NAMESPACE}/")
    aliases = tuple({name, short, *([short.removesuffix(":latest")])})
    reference = full_name(name)
    try:
        raw = read_small(path, MAX_BYTES)
        manifest = Manifest.parse(raw)
        if manifest.config is None:
            raise ModelError("its manifest is an index")
        held = {desc.digest: _held(root, desc) for desc in manifest.successors}
    except (ContentError, ModelError, StoreError, FileNotFoundError) as error:
        return Found(short, reference, aliases=aliases, flaw=f"{name}: {error}")
    return Found(short, reference, tuple(held.values()), raw, aliases=aliases)


def _held(root: Path, desc: Descriptor) -> Held:
    for mark in "-:":
        path = root / BLOBS / f"{desc.digest.algorithm}{mark}{desc.digest.hex}"
        try:
            state = path.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError(f"reading {path}: {error.strerror}") from error
        if not stat.S_ISREG(state.st_mode):
            raise ModelError(f"{path} is no regular file; refused")
        if state.st_size != desc.size:
            raise ModelError(f"{path} has {state.st_size} bytes, not {desc.size}: it is damaged")
        return Held(path, desc.digest.short, state.st_size, desc.digest)
    raise ModelError(f"the blob {desc.digest} is not there: its download was not finished")
