"""Where a model that is here can be had again, and so what mends it when its bytes are damaged.

Which registry has a manifest is noted when it was pulled or pushed. What was made here has no such
note under its name, and no pull would bring it back.
"""

from modelpm.content import read_manifest
from modelpm.errors import ContentError, DigestMismatchError, InvalidReferenceError, StoreError
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.manifest import is_manifest
from modelpm.oci.reference import Reference
from modelpm.store.layout import Store

_TITLE = "org.opencontainers.image.title"


def note(store: Store, reference: Reference, root: Descriptor) -> None:
    """Remember where a model and its blobs are: to mend it, and to push to a sister repository."""
    for desc in (root, *read_manifest(store, root).successors):
        if desc == root or not is_manifest(desc):
            store.notes.saw(reference.registry, reference.repository, desc.digest)


def damaged(
    store: Store, name: str, short_name: str, root: Descriptor, error: ContentError
) -> DigestMismatchError:
    """What is told of wrong or missing bytes: whose they are, which, and what brings them back.

    `error` is what reading them raised, `name` the full name and `short_name` what people type.
    """
    what = _what(store, root, str(error))
    remedy = _remedy(store, name, short_name, root)
    return DigestMismatchError(
        f"{short_name}: the store's copy is damaged{what}: {error} ({remedy})"
    )


def _what(store: Store, root: Descriptor, message: str) -> str:
    """What the digest in a message belongs to; empty where that cannot be told."""
    if str(root.digest) in message:
        return " in its manifest"
    try:
        manifest = read_manifest(store, root)
    except (ContentError, StoreError):
        return ""
    for desc in manifest.successors:
        if str(desc.digest) in message:
            is_config = manifest.config is not None and desc.digest == manifest.config.digest
            return f" in {'its config' if is_config else _called(desc)}"
    return ""


def _called(layer: Descriptor) -> str:
    return layer.annotations.get(_TITLE) or layer.media_type


def _remedy(store: Store, name: str, short_name: str, root: Descriptor) -> str:
    try:
        reference = Reference.parse(name)
    except InvalidReferenceError:  # another program chose it
        return "create or import it again"
    if reference.repository in store.notes.sisters(reference.registry, root.digest):
        return f"try: modelpm pull {short_name}"
    return "it was made here, as far as is known: create or import it again"
