"""Which container images carry a model: by label, by annotation, or by what a layer begins with.

RamaLama labels its images, olot annotates them, and palan's twins for image volumes only have a
layer that begins with the folder `models/`, as KServe's modelcars do.
"""

import contextlib
import io

from modelpm.content import Fetcher, read
from modelpm.errors import InvalidManifestError, ModelError
from modelpm.model.archive import decompressed, packing
from modelpm.model.dialects import IMAGE
from modelpm.model.facts import at
from modelpm.model.magic import PEEK, first
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.manifest import Manifest, load_json

MAX_PEEKS = 16
"""Layers whose first bytes are looked at."""

_LABEL = ("config", "Labels", "org.containers.type")
_KIND = "ai.image.model."
_AUTHOR = ("io.opendatahub.author", "olot")
_IN_LAYER = "olot.layer.content."
_TAR_NAME = 100
_MOST = 2**18
"""Packed bytes that are read to see the first ones; a block of zstd may have half as many."""


def holds_model(manifest: Manifest, fetcher: Fetcher) -> bool:
    """Whether this is a container image, and a model is in it. Raises ContentError.

    The config is read, verified; of layers the name of the first member is looked at, UNVERIFIED:
    whoever takes files out of them verifies them.
    """
    if manifest.config is None or manifest.config.media_type not in IMAGE.config_types:
        return False
    if not all(layer.media_type.startswith(IMAGE.layer_prefixes) for layer in manifest.layers):
        return False
    return (
        manifest.annotations.get(_AUTHOR[0]) == _AUTHOR[1]
        or any(key.startswith(_IN_LAYER) for layer in manifest.layers for key in layer.annotations)
        or _is_labelled(manifest.config, fetcher)
        or any(_begins_with_models(layer, fetcher) for layer in manifest.layers[-MAX_PEEKS:])
    )


def _is_labelled(config: Descriptor, fetcher: Fetcher) -> bool:
    try:
        document = load_json(read(fetcher, config))
    except InvalidManifestError:
        return False
    label = at(document, _LABEL)
    return isinstance(label, str) and label.startswith(_KIND)


def _begins_with_models(layer: Descriptor, fetcher: Fetcher) -> bool:
    begin = _begin(layer, fetcher)
    name = begin[:_TAR_NAME].partition(b"\0")[0].decode("utf-8", "replace")
    return begin[257:262] == b"ustar" and f"{name.lstrip('./')}/".startswith(IMAGE.root)


def _begin(layer: Descriptor, fetcher: Fetcher) -> bytes:
    """The first bytes of a layer, unpacked if it is compressed; none of one that is damaged."""
    with fetcher.fetch(layer) as stream:
        begin = first(stream)
        how = packing(begin)
        if how not in {"gzip", "zstd"}:
            return begin
        begin += first(stream, _MOST)
    with contextlib.suppress(ModelError):
        return decompressed(io.BytesIO(begin), how, PEEK).read(PEEK)
    return b""
