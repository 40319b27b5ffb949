"""What goes to registries and away from them, on registries that are memories."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from modelpm import publishing
from modelpm.content import Event, Fetcher, Settled, Step, ignore
from modelpm.errors import (
    AuthenticationError,
    DigestMismatchError,
    InvalidReferenceError,
    NotFoundError,
    RegistryError,
)
from modelpm.installed import Installed
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import Manifest, is_manifest
from modelpm.oci.reference import Reference
from modelpm.publishing import Pushed, Removal
from modelpm.store import origin
from modelpm.store.index import Entry
from modelpm.store.layout import Store
from tests.memory import Memory

HERE = "localhost:5000/team/model:v1"
THERE = Reference.parse("localhost:5001/team/model:v1")


class Remote(Memory):
    """A repository; it can refuse to delete a tag by itself, as some registries do."""

    name = "team/model"

    def __init__(self, *, deletes_tags: bool = True) -> None:
        super().__init__()
        self.deletes_tags = deletes_tags
        self.asked: list[str] = []
        self.deleted: list[str] = []

    def resolve(self, reference: str) -> Descriptor:
        self.asked.append(reference)
        if reference in self.names:
            return self.names[reference]
        if ":" in reference and (digest := Digest.parse(reference)) in self.content:
            return Manifest.parse(self.content[digest]).descriptor
        raise NotFoundError(f"no {reference}")

    def referrers(self, subject: Descriptor) -> Iterable[Descriptor]:
        for content in list(self.content.values()):
            if b'"subject"' in content:
                manifest = Manifest.parse(content)
                if manifest.subject is not None and manifest.subject.digest == subject.digest:
                    yield manifest.descriptor

    def tags(self) -> list[str]:
        return list(self.names)

    def delete(self, reference: str) -> None:
        self.deleted.append(reference)
        if ":" in reference:
            digest = self.resolve(reference).digest
            del self.content[digest]
            self.names = {tag: each for tag, each in self.names.items() if each.digest != digest}
        elif not self.deletes_tags:
            raise RegistryError("405 UNSUPPORTED", status=405, code="UNSUPPORTED")
        else:
            del self.names[reference]


def install(folder: Path, memory: Memory, root: Descriptor) -> tuple[Store, Installed]:
    """A store that has this, under HERE."""
    store = Store(folder / "store")
    for desc in memory.graph(root).values():
        store.push(desc, memory)
    store.tag(root, HERE)
    return store, Installed(store, Entry(HERE, root), "team/model:v1")


def damage(store: Store, digest: Digest, content: bytes) -> None:
    """Change a blob as a bad disk does: nobody is told."""
    path = store.root / "blobs" / "sha256" / digest.hex
    times = path.stat()
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("kind", ["image", "index"])
def test_a_push_brings_all_and_then_the_tag(kind: str, tmp_path: Path) -> None:
    memory, target = Memory(), Remote()
    root = memory.image(b"one", b"two")
    if kind == "index":
        root = memory.index(root, memory.image(b"two", b"three"))
    store, model = install(tmp_path, memory, root)
    target.push(Descriptor.of(b"two", "application/x-y"), memory)
    events: list[Event] = []
    pushed = publishing.push(model, store, target, THERE, events.append)
    assert target.graph(root) == memory.graph(root)
    assert target.names == {"v1": root}
    layers = [desc for desc in memory.graph(root).values() if not is_manifest(desc)]
    size = sum(desc.size for desc in layers)
    assert pushed == Pushed(THERE, root.digest, size, len(layers) - 1, 1)
    assert pushed.pinned == f"localhost:5001/team/model@{root.digest}"
    stages = [event.stage for event in events if isinstance(event, Step)]
    assert stages == ["resolving", "copying", "tagging", "done"]


def test_what_is_there_is_not_brought_again(tmp_path: Path) -> None:
    memory, target = Memory(), Remote()
    root = memory.image(b"one")
    store, model = install(tmp_path, memory, root)
    publishing.push(model, store, target, THERE, ignore)
    target.pushed.clear()
    target.asked.clear()
    events: list[Event] = []
    pushed = publishing.push(model, store, target, THERE, events.append)
    assert (pushed.uploaded, pushed.present, pushed.mounted) == (0, 2, 0)
    assert (target.pushed, target.asked) == ([], ["v1"])
    assert all(event.present for event in events if isinstance(event, Settled))


def test_a_blob_that_the_registry_has_lost_is_brought_by_the_next_push(tmp_path: Path) -> None:
    memory, target = Memory(), Remote()
    root = memory.image(b"one", b"two")
    store, model = install(tmp_path, memory, root)
    publishing.push(model, store, target, THERE, ignore)
    lost = Digest.of(b"two")
    del target.content[lost]
    target.pushed.clear()
    pushed = publishing.push(model, store, target, THERE, ignore)
    assert (pushed.uploaded, pushed.present, target.pushed) == (1, 2, [lost])
    damage(store, lost, b"tWo")
    assert publishing.push(model, store, target, THERE, ignore).present == 3
    del target.content[lost]
    with pytest.raises(DigestMismatchError, match="the store's copy is damaged"):
        publishing.push(model, store, target, THERE, ignore)
    (store.root / "blobs" / "sha256" / lost.hex).unlink()
    with pytest.raises(DigestMismatchError, match="the store's copy is damaged"):
        publishing.push(model, store, target, THERE, ignore)


def test_a_push_to_a_digest_writes_no_tag(tmp_path: Path) -> None:
    memory, target = Memory(), Remote()
    root = memory.image(b"one")
    store, model = install(tmp_path, memory, root)
    pinned = Reference(THERE.registry, THERE.repository, "v1", root.digest)
    publishing.push(model, store, target, pinned, ignore)
    assert target.names == {}
    assert root.digest in target.content
    other = Reference(THERE.registry, THERE.repository, None, Digest.of(b"other"))
    with pytest.raises(InvalidReferenceError, match=str(root.digest)):
        publishing.push(model, store, target, other, ignore)


@pytest.mark.parametrize("damaged", ["layer", "short layer", "missing layer", "manifest"])
def test_what_is_damaged_here_gets_no_tag_there(damaged: str, tmp_path: Path) -> None:
    memory, target = Memory(), Remote()
    root = memory.image(b"one" * 1000, b"two")
    store, model = install(tmp_path, memory, root)
    origin.note(store, Reference.parse(HERE), root)  # it was pulled
    layer = Digest.of(b"one" * 1000)
    if damaged == "missing layer":
        (store.root / "blobs" / "sha256" / layer.hex).unlink()
    elif damaged == "manifest":
        damage(store, root.digest, b"{}")
    else:
        damage(store, layer, b"x" * (3000 if damaged == "layer" else 2000))
    with pytest.raises(DigestMismatchError, match="modelpm pull team/model:v1") as caught:
        publishing.push(model, store, target, THERE, ignore)
    assert caught.value.exit_code == 5
    assert target.names == {}
    assert root.digest not in target.content
    assert layer not in target.content
    if damaged != "layer":
        assert target.pushed == []
    desc = Descriptor("application/x-y", layer, 3000)
    assert store.exists(desc) == (damaged == "manifest"), "the next pull must bring it anew"


def test_what_was_made_here_and_is_damaged_cannot_be_pulled(tmp_path: Path) -> None:
    memory, target = Memory(), Remote()
    root = memory.image(b"one" * 1000, b"two")
    store, model = install(tmp_path, memory, root)
    damage(store, Digest.of(b"one" * 1000), b"x")
    with pytest.raises(DigestMismatchError, match=r"create or import it again") as caught:
        publishing.push(model, store, target, THERE, ignore)
    assert "modelpm pull" not in str(caught.value)


def test_bytes_that_only_the_registry_finds_wrong_are_its_own_fault(tmp_path: Path) -> None:
    class Wrong(Remote):
        def push(self, desc: Descriptor, source: Fetcher) -> None:
            raise DigestMismatchError("the registry sent another manifest")

    memory = Memory()
    store, model = install(tmp_path, memory, memory.image(b"one"))
    with pytest.raises(DigestMismatchError, match="the registry sent"):
        publishing.push(model, store, Wrong(), THERE, ignore)


def mirrored(source: Remote, target: Remote, tag: str = "v1", **options: bool) -> Pushed:
    goal = Reference(THERE.registry, THERE.repository, tag)
    reference = Reference("localhost:5000", "team/model", tag)
    options = {"with_referrers": True, **options}
    return publishing.mirror(source, target, reference, goal, ignore, **options)


def signed(memory: Memory, subject: Descriptor, text: bytes = b"signature") -> Descriptor:
    return memory.image(text, subject=subject)


def test_a_mirror_takes_an_index_with_all_and_what_refers_to_it() -> None:
    source, target = Remote(), Remote()
    child = source.image(b"one")
    root = source.index(child, source.image(b"two"))
    source.tag(root, "v1")
    first = signed(source, root)
    second = signed(source, first, b"of the signature")
    third = signed(source, child, b"of a child")
    attached = source.image(b"cosign")
    source.tag(attached, f"sha256-{root.digest.hex}.sig")
    pushed = mirrored(source, target)
    assert target.content == source.content
    assert target.names == source.names
    assert pushed.referrers == 4
    place = target.pushed.index
    assert place(root.digest) < place(first.digest) < place(second.digest)
    assert place(child.digest) < place(third.digest)
    target.pushed.clear()
    again = mirrored(source, target)
    assert (again.uploaded, again.present, again.referrers) == (0, 3, 4)
    assert target.pushed == []


def test_a_new_signature_is_taken_to_where_the_model_is() -> None:
    source, target = Remote(), Remote()
    root = source.image(b"one")
    source.tag(root, "v1")
    mirrored(source, target)
    late = signed(source, root)
    assert mirrored(source, target).referrers == 1
    assert late.digest in target.content


def test_a_mirror_heals_what_the_target_has_lost() -> None:
    source, target = Remote(), Remote()
    child = source.image(b"one")
    root = source.index(child, source.image(b"two"))
    source.tag(root, "v1")
    mirrored(source, target)
    for lost in (child.digest, Digest.of(b"two")):
        del target.content[lost]
    assert mirrored(source, target).uploaded == 1
    assert target.content == source.content


def test_signatures_that_only_the_target_has_are_not_lost() -> None:
    source, target = Remote(), Remote()
    root = source.image(b"one")
    source.tag(root, "v1")
    tag = f"sha256-{root.digest.hex}.sig"
    for place, texts in ((source, (b"a",)), (target, (b"a", b"b"))):
        place.tag(place.image(*texts), tag)
    mirrored(source, target)
    assert target.names == {"v1": root, tag: target.image(b"a", b"b")}
    source.tag(source.image(b"a", b"b", b"c"), tag)
    mirrored(source, target)
    assert target.names == source.names
    source.tag(source.image(b"d"), tag)
    with pytest.raises(RegistryError, match=r"would be lost .*--no-referrers"):
        mirrored(source, target)
    assert target.names[tag] == source.image(b"a", b"b", b"c")


def test_a_mirror_can_leave_the_referrers() -> None:
    source, target = Remote(), Remote()
    root = source.image(b"one")
    source.tag(root, "v1")
    signature = signed(source, root)
    assert mirrored(source, target, with_referrers=False).referrers == 0
    assert signature.digest not in target.content


def test_the_tag_is_not_written_before_the_referrers_are_there() -> None:
    class Failing(Remote):
        def push(self, desc: Descriptor, source: Fetcher) -> None:
            if desc.digest == signature.digest:
                raise RegistryError("no")
            super().push(desc, source)

    source, target = Remote(), Failing()
    root = source.image(b"one")
    source.tag(root, "v1")
    signature = signed(source, root)
    with pytest.raises(RegistryError):
        mirrored(source, target)
    assert target.names == {}


def test_too_many_referrers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MAX_REFERRERS", 2)
    source, target = Remote(), Remote()
    root = source.image(b"one")
    source.tag(root, "v1")
    for number in range(3):
        signed(source, root, bytes([number]))
    with pytest.raises(RegistryError, match="--no-referrers"):
        mirrored(source, target)


def test_referrers_in_a_circle_are_taken_once() -> None:
    class Circle(Remote):
        def referrers(self, subject: Descriptor) -> Iterable[Descriptor]:
            return [root, signature, Descriptor("application/x-y", Digest.of(b"no manifest"), 1)]

    source, target = Circle(), Remote()
    root = source.image(b"one")
    source.tag(root, "v1")
    signature = signed(source, root)
    assert mirrored(source, target).referrers == 1


def test_a_mirror_to_another_digest_is_refused() -> None:
    source, target = Remote(), Remote()
    source.tag(source.image(b"one"), "v1")
    goal = Reference(THERE.registry, THERE.repository, None, Digest.of(b"other"))
    with pytest.raises(InvalidReferenceError):
        publishing.mirror(source, target, THERE, goal, ignore, with_referrers=True)
    assert target.pushed == []


def test_tags_that_stand_for_digests_are_not_shown() -> None:
    hexes = "a" * 64
    hidden = [f"sha256-{hexes}", *(f"sha256-{hexes}.{end}" for end in ("sig", "att", "sbom"))]
    shown = ["v2", "latest", "sha256-short", f"sha256-{hexes}x", "v1.sig"]
    assert publishing.visible([*hidden, *shown]) == shown


def tagged(repository: Remote, *tags: str) -> Descriptor:
    root = repository.image(b"one")
    for tag in tags:
        repository.tag(root, tag)
    repository.tag(repository.image(b"another"), "another")
    return root


def test_a_tag_goes_by_itself() -> None:
    repository = Remote()
    root = tagged(repository, "v1", "latest")
    removal = publishing.plan_removal(repository, THERE)
    assert removal == Removal(THERE, root.digest, ("v1",))
    assert publishing.remove(repository, removal) == removal
    assert set(repository.names) == {"latest", "another"}


def test_a_plan_tells_the_other_tags_where_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = Remote()
    tagged(repository, "v1", "latest", "old")
    assert publishing.plan_removal(repository, THERE).others is None
    assert publishing.plan_removal(repository, THERE, with_others=True).others == ("latest", "old")
    monkeypatch.setattr(publishing, "MAX_COMPARED", 2)
    assert publishing.plan_removal(repository, THERE, with_others=True).others is None


def test_a_digest_goes_with_its_tags() -> None:
    repository = Remote()
    root = tagged(repository, "v1", "latest")
    pinned = Reference(THERE.registry, THERE.repository, None, root.digest)
    removal = publishing.plan_removal(repository, pinned)
    assert removal.tags == ("v1", "latest")
    publishing.remove(repository, removal)
    assert set(repository.names) == {"another"}


def test_where_a_tag_cannot_go_alone_others_are_told() -> None:
    repository = Remote(deletes_tags=False)
    root = tagged(repository, "v1", "latest", "stable")
    removal = publishing.plan_removal(repository, THERE)
    with pytest.raises(RegistryError, match=r"latest, stable .*--force"):
        publishing.remove(repository, removal)
    with pytest.raises(RegistryError, match=r": stable .*--force"):
        publishing.remove(repository, removal, also={"latest"})
    assert str(root.digest) not in repository.deleted
    gone = publishing.remove(repository, removal, force=True)
    assert set(gone.tags) == {"v1", "latest", "stable"}
    assert set(repository.names) == {"another"}


def test_where_a_tag_cannot_go_alone_but_is_alone_it_goes() -> None:
    repository = Remote(deletes_tags=False)
    root = tagged(repository, "v1")
    gone = publishing.remove(repository, publishing.plan_removal(repository, THERE))
    assert gone == Removal(THERE, root.digest, ("v1",))
    assert set(repository.names) == {"another"}


def test_a_tag_that_moved_meanwhile_takes_nothing_else_with_it() -> None:
    repository = Remote(deletes_tags=False)
    root = tagged(repository, "v1")
    removal = publishing.plan_removal(repository, THERE)
    repository.tag(repository.image(b"newer"), "v1")
    with pytest.raises(RegistryError, match="405"):
        publishing.remove(repository, removal)
    assert root.digest in repository.content


def test_who_may_not_delete_is_told_so() -> None:
    class Locked(Remote):
        def delete(self, reference: str) -> None:
            super().delete(reference)
            raise AuthenticationError("403", status=403)

    repository = Locked()
    tagged(repository, "v1")
    removal = publishing.plan_removal(repository, THERE)
    with pytest.raises(AuthenticationError):
        publishing.remove(repository, removal)
    assert repository.deleted == ["v1"]


def test_too_many_tags_to_compare_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MAX_COMPARED", 2)
    repository = Remote()
    root = tagged(repository, "v1", "latest")
    pinned = Reference(THERE.registry, THERE.repository, None, root.digest)
    with pytest.raises(RegistryError, match="3 tags"):
        publishing.plan_removal(repository, pinned)


def test_a_long_list_of_tags_is_cut() -> None:
    repository = Remote(deletes_tags=False)
    tagged(repository, "v1", *(f"t{number:02}" for number in range(12)))
    with pytest.raises(RegistryError, match="t09 and 2 more"):
        publishing.remove(repository, publishing.plan_removal(repository, THERE))
