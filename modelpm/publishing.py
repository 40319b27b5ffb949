"""How a model gets to a registry and away from it: what is asked first, and that names go last.

Bytes are moved by `transfer.copy`. A tag at a registry changes only when all that it will point
at is there, and what refers to it too.
"""

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from modelpm import transfer
from modelpm.content import Observer, Source, Step, Target, all_successors, read_manifest, walk
from modelpm.errors import (
    ContentError,
    DigestMismatchError,
    InvalidReferenceError,
    NotFoundError,
    RegistryError,
)
from modelpm.installed import Installed
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import Manifest, is_manifest
from modelpm.oci.reference import Reference
from modelpm.offered import naming_damage
from modelpm.store import origin
from modelpm.store.layout import Store

MAX_REFERRERS = 1_000
"""Manifests that refer to one model, directly or not, and are taken along."""

MAX_COMPARED = 1_000
"""Tags that are looked at to find those of one manifest."""

_ATTACHED = (".sig", ".att", ".sbom")
"""Endings of the tags by which signatures, attestations and bills of material are found."""

_NO_TAG_DELETION = frozenset({400, 405, 501})
_OF_A_DIGEST = re.compile(r"(?:sha256|sha512)-[a-f0-9]{64}(?:\.[A-Za-z0-9._-]+)?")


class Repository(Target, Protocol):
    """What is needed of a repository: a Target whose names are tags."""

    @property
    def name(self) -> str:
        """Its name at the registry."""
        ...

    def tags(self) -> Sequence[str]:
        """All its tags."""
        ...

    def delete(self, reference: str) -> object:
        """Delete a tag, or a manifest by its digest, with its tags.

        Raises NotFoundError, and RegistryError where the registry does not delete such a thing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a registry has after a push or a mirror, and how its layers came there."""

    reference: Reference
    digest: Digest
    size: int
    """Bytes of configs and layers, each digest counted once."""
    uploaded: int = 0
    """Layers, the configs among them, whose bytes went there."""
    present: int = 0
    """Those that were there."""
    mounted: int = 0
    """Those that the registry took over from another of its repositories."""
    referrers: int = 0
    """Manifests that refer to it and were taken along or were there."""

    @property
    def pinned(self) -> str:
        """The name that means these bytes for ever: `HOST/REPOSITORY@DIGEST`."""
        return f"{self.reference.registry}/{self.reference.repository}@{self.digest}"


@dataclass(frozen=True, slots=True)
class Removal:
    """A plan to delete at a registry. Executing it is another call."""

    reference: Reference
    digest: Digest
    tags: tuple[str, ...]
    """The tags that go: the one that was named, or all of a manifest that was named by digest."""
    others: tuple[str, ...] | None = None
    """The manifest's other tags: they go too where the registry deletes no tag by itself. None
    where that was not asked for, or there are too many tags to find them."""


def push(
    model: Installed, store: Store, target: Repository, reference: Reference, observe: Observer
) -> Pushed:
    """Bring an installed model to a registry; a request a layer where all of it is there already.

    Where the tag points at it the layers are asked for all the same: a registry may have lost one.
    Raises DigestMismatchError where the store's copy is damaged, and then no tag has changed.
    """
    root = model.descriptor
    if reference.digest not in (None, root.digest):
        raise InvalidReferenceError(
            f"pushing {model.name} to {reference.name}: its digest is {root.digest}"
        )
    observe(Step("resolving", reference.name))
    size = _size(_whole_graph(store, model))
    is_there = _is_there(target, reference, root)
    tag = None if is_there else _tagging(target, root, reference)
    with model.held():
        if not is_there:
            _require_whole(store, model)
        try:
            copied = transfer.copy(store, target, root, tag=tag, observe=observe)
        except (DigestMismatchError, NotFoundError) as error:
            _require_whole(store, model, hashing=isinstance(error, DigestMismatchError))
            raise
    origin.note(store, reference, root)
    observe(Step("done", reference.name))
    return Pushed(reference, root.digest, size, copied.moved, copied.present, copied.given)


def mirror(
    source: Repository,
    target: Repository,
    reference: Reference,
    goal: Reference,
    observe: Observer,
    *,
    with_referrers: bool,
) -> Pushed:
    """Bring what a reference means from one registry to another, unchanged; an index with all.

    Its signatures and other referrers come along, and are there before the tag is.
    """
    observe(Step("resolving", reference.name))
    root = source.resolve(reference.target)
    if goal.digest not in (None, root.digest):
        raise InvalidReferenceError(
            f"mirroring {reference.name} to {goal.name}: its digest is {root.digest}"
        )
    manifests: list[Descriptor] = []
    sizes: dict[Digest, int] = {}
    count = 0
    with naming_damage("mirroring", f"{reference.name} to {goal.name}"):
        for desc, manifest in walk(source, root, all_successors):
            manifests.append(desc)
            sizes.update((leaf.digest, leaf.size) for leaf in _leaves([(desc, manifest)]))
        is_there = _is_there(target, goal, root)
        copied = transfer.copy(source, target, root, observe=observe)
        if with_referrers:
            count = _take_along(source, target, manifests, observe)
    if not is_there:
        _tagging(target, root, goal)()
    observe(Step("done", goal.name))
    return Pushed(
        goal, root.digest, sum(sizes.values()), copied.moved, copied.present, copied.given, count
    )


def visible(tags: Iterable[str]) -> list[str]:
    """The tags that are names of models: not those that stand for a digest's referrers."""
    return [tag for tag in tags if not _OF_A_DIGEST.fullmatch(tag)]


def plan_removal(
    repository: Repository, reference: Reference, *, with_others: bool = False
) -> Removal:
    """What deleting a tag, or a manifest by its digest, takes away. Raises NotFoundError.

    A tag's plan tells the manifest's other tags `with_others`: that takes a request a tag.
    """
    digest = repository.resolve(reference.target).digest
    if reference.digest is not None:
        return Removal(reference, digest, _tags_of(repository, digest))
    others = None
    if with_others and len(tags := repository.tags()) <= MAX_COMPARED:
        found = _tagged(repository, tags, digest)
        others = tuple(tag for tag in found if tag != reference.tag)
    return Removal(reference, digest, (str(reference.tag),), others)


def remove(
    repository: Repository,
    removal: Removal,
    *,
    also: Collection[str] = (),
    force: bool = False,
) -> Removal:
    """Delete what was planned; what was deleted.

    Some registries cannot delete a tag by itself, only a manifest with all of its tags. Where it
    has no tags but this and those that may go `also`, that is the same; else RegistryError tells
    them, unless `force` is set.
    """
    reference = removal.reference
    if reference.digest is not None:
        repository.delete(str(reference.digest))
        return removal
    try:
        repository.delete(str(reference.tag))
    except (RegistryError, NotFoundError) as error:
        if not _may_need_digest(error):
            raise
        if repository.resolve(reference.target).digest != removal.digest:
            raise
    else:
        return removal
    tags = _tags_of(repository, removal.digest)
    others = sorted({*tags} - {reference.tag, *also})
    if others and not force:
        raise RegistryError(
            f"deleting {reference.name}: the registry deletes no tag by itself, and the manifest"
            f" has other tags, which would go too: {_listed(others)} (try: --force)"
        )
    repository.delete(str(removal.digest))
    return Removal(reference, removal.digest, tags)


def _tagging(target: Target, root: Descriptor, reference: Reference) -> Callable[[], None]:
    """What writes the name: nothing where the name is a digest."""

    def tag() -> None:
        if reference.digest is None:
            target.tag(root, str(reference.tag))

    return tag


def _is_there(target: Source, reference: Reference, root: Descriptor) -> bool:
    """Whether the name means these bytes already."""
    try:
        return target.resolve(reference.target).digest == root.digest
    except NotFoundError:
        return False


def _whole_graph(store: Store, model: Installed) -> list[tuple[Descriptor, Manifest]]:
    """The manifests of an installed model. Raises DigestMismatchError where one is damaged."""
    try:
        return list(walk(store, model.descriptor, all_successors))
    except (DigestMismatchError, NotFoundError) as error:
        raise _damaged(model, store, error) from error


def _require_whole(store: Store, model: Installed, *, hashing: bool = False) -> None:
    """Raises DigestMismatchError unless each layer is here, with its size; or with its digest."""
    for leaf in _leaves(_whole_graph(store, model)):
        try:
            if hashing:
                store.verify(leaf)
            elif not store.exists(leaf):
                raise DigestMismatchError(f"{leaf.digest} is missing or is not what it was")
        except (DigestMismatchError, NotFoundError) as error:
            raise _damaged(model, store, error) from error


def _damaged(model: Installed, store: Store, error: ContentError) -> DigestMismatchError:
    told = origin.damaged(store, model.name, model.short_name, model.descriptor, error)
    return DigestMismatchError(f"pushing {told}")


def _leaves(graph: Iterable[tuple[Descriptor, Manifest]]) -> list[Descriptor]:
    """Configs and layers, each digest once."""
    found = {leaf.digest: leaf for _, manifest in graph for leaf in manifest.successors}
    return [leaf for leaf in found.values() if not is_manifest(leaf)]


def _size(graph: Iterable[tuple[Descriptor, Manifest]]) -> int:
    """Bytes of all leaves."""
    return sum(leaf.size for leaf in _leaves(graph))


def _take_along(
    source: Source, target: Target, subjects: Sequence[Descriptor], observe: Observer
) -> int:
    """Bring what refers to these manifests, by subject or by tag; how many manifests."""
    listed = list(_referrers(source, subjects))
    found = [desc for _, desc in listed]
    tagged = list(_attached(source, [*subjects, *found]))
    if found or tagged:
        observe(Step("referrers"))
    # One that is there may yet not be listed: what noted it under a tag may have been killed.
    referred = {subject.digest: subject for subject, _ in listed}
    known = {
        digest: {desc.digest for desc in target.referrers(subject)}
        for digest, subject in referred.items()
    }
    for subject, desc in listed:
        if desc.digest not in known[subject.digest] or not target.exists(desc):
            transfer.copy(source, target, desc, observe=observe)
    for desc, tag in tagged:
        if not _is_attached(source, desc, target, tag):
            tagging = _tagging(target, desc, Reference("", "", tag))
            transfer.copy(source, target, desc, tag=tagging, observe=observe)
    return len(found) + len(tagged)


def _referrers(
    source: Source, subjects: Iterable[Descriptor]
) -> Iterator[tuple[Descriptor, Descriptor]]:
    """Each referrer of the subjects, and theirs, once, after what it refers to."""
    todo = deque(subjects)
    seen = {desc.digest for desc in todo}
    count = 0
    while todo:
        subject = todo.popleft()
        for desc in source.referrers(subject):
            if desc.digest in seen or not is_manifest(desc):
                continue
            count += 1
            if count > MAX_REFERRERS:
                raise RegistryError(
                    f"more than {MAX_REFERRERS} manifests refer to it (try: --no-referrers)"
                )
            seen.add(desc.digest)
            todo.append(desc)
            yield subject, desc


def _attached(source: Source, subjects: Iterable[Descriptor]) -> Iterator[tuple[Descriptor, str]]:
    """What is attached to the manifests by a tag that is made of their digest, and the tag."""
    for subject in subjects:
        for ending in _ATTACHED:
            tag = f"{subject.digest.algorithm}-{subject.digest.hex[:64]}{ending}"
            try:
                yield source.resolve(tag), tag
            except NotFoundError:
                continue


def _is_attached(source: Source, desc: Descriptor, target: Source, tag: str) -> bool:
    """Whether what is attached by a tag is attached there too, perhaps with more.

    Raises RegistryError where replacing it would lose what only the target has.
    """
    try:
        there = target.resolve(tag)
    except NotFoundError:
        return False
    if there.digest == desc.digest:
        return True
    ours, theirs = _attachments(source, desc), _attachments(target, there)
    if not ours <= theirs and not theirs <= ours:
        raise RegistryError(
            f"the tag {tag} there holds what the source has not, and it would be lost"
            " (try: --no-referrers)"
        )
    return ours <= theirs


def _attachments(source: Source, desc: Descriptor) -> set[tuple[Digest, str]]:
    """What a manifest holds: cosign keeps the signatures themselves in annotations."""
    manifest = read_manifest(source, desc)
    held = (*manifest.layers, *(child.descriptor for child in manifest.children))
    return {(each.digest, str(sorted(each.annotations.items()))) for each in held}


def _may_need_digest(error: RegistryError | NotFoundError) -> bool:
    """Whether a registry may have refused because it was asked for a tag."""
    return isinstance(error, NotFoundError) or error.status in _NO_TAG_DELETION


def _tags_of(repository: Repository, digest: Digest) -> tuple[str, ...]:
    """The tags that point at a manifest. Raises RegistryError where there are too many to ask."""
    tags = repository.tags()
    if len(tags) > MAX_COMPARED:
        raise RegistryError(
            f"{repository.name} has {len(tags)} tags: too many to find those of {digest}"
        )
    return _tagged(repository, tags, digest)


def _tagged(repository: Repository, tags: Sequence[str], digest: Digest) -> tuple[str, ...]:
    """Those of the tags that point at a manifest."""
    return tuple(tag for tag in tags if _is_tagged(repository, tag, digest))


def _is_tagged(repository: Repository, tag: str, digest: Digest) -> bool:
    try:
        return repository.resolve(tag).digest == digest
    except NotFoundError:  # deleted meanwhile
        return False


def _listed(tags: Sequence[str]) -> str:
    shown = ", ".join(tags[:10])
    return shown if len(tags) <= 10 else f"{shown} and {len(tags) - 10} more"
