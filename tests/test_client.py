"""The verbs, from a registry on loopback into a store and out again."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import build
import pytest
from artifact import Artifact, compact, described, digest_of, image
from gguf_writer import tiny_llama
from registry import Registry
from tiny import safetensors
from uploads import Uploads

import modelpm
from modelpm.client import Client
from modelpm.content import Event, Settled, Step
from modelpm.errors import (
    DigestMismatchError,
    InvalidReferenceError,
    ModelError,
    ModelPMError,
    NotFoundError,
    RegistryError,
    StoreError,
)
from modelpm.model import modelfile
from modelpm.model.dialects import TITLE
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import OCI_ARTIFACT
from modelpm.oci.reference import Reference
from modelpm.store.index import REF_NAME
from tests.model.archives import tar

WEIGHTS = Digest.of(tiny_llama())


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def client(tmp_path: Path, loopback: Registry, events: list[Event]) -> Iterator[Client]:
    """A client whose default registry is the loopback one, with every layout as library/NAME."""
    for name, make in build.LAYOUTS.items():
        loopback.content.add(f"library/{name}", "latest", make())
    registry = f"{loopback.host}/library"
    with Client(tmp_path / "home", default_registry=registry, observe=events.append) as client:
        yield client


@pytest.mark.parametrize("name", build.LAYOUTS)
def test_every_dialect_is_pulled(name: str, client: Client) -> None:
    model = client.pull(name)
    assert model.name == f"{client.default_registry}/{name}:latest"
    assert model.short_name == f"{name}:latest"
    assert model.path.read_bytes() == tiny_llama()
    assert model.path == client.home / "blobs" / "sha256" / WEIGHTS.hex
    assert client.store.check() == []
    assert [part.role for part in model.parts].count(model.model.weights.role) == 1
    assert client.list() == () or [each.name for each in client.list()] == [model.name]


def test_a_pull_tells_its_stages(client: Client, events: list[Event]) -> None:
    client.pull("ollama")
    stages = [event.stage for event in events if isinstance(event, Step)]
    assert stages == ["resolving", "copying", "tagging", "done"]
    leaves = next(event.leaves for event in events if isinstance(event, Step) and event.leaves)
    settled = [event for event in events if isinstance(event, Settled)]
    assert {event.descriptor.digest for event in settled} == {leaf.digest for leaf in leaves}
    assert not any(event.present for event in settled)


def test_what_is_here_costs_one_request_and_changes_nothing(
    client: Client, loopback: Registry, events: list[Event]
) -> None:
    model = client.pull("ollama")
    index = (client.home / "index.json").read_bytes()
    before = len(loopback.log)
    events.clear()
    assert client.pull("ollama").digest == model.digest
    assert len(loopback.log) - before == 1
    assert (client.home / "index.json").read_bytes() == index
    assert all(event.present for event in events if isinstance(event, Settled))


def test_what_was_chosen_from_an_index_costs_two_requests(
    client: Client, loopback: Registry
) -> None:
    model = client.pull("index")
    told = build.LAYOUTS["index"]().digest
    assert str(model.digest) != told
    before = len(loopback.log)
    assert client.pull("index").digest == model.digest
    assert len(loopback.log) - before <= 2
    pinned = client.pull(f"index@{told}")
    assert pinned.digest == model.digest
    assert pinned.name.endswith(f"/index@{told}")


def test_a_digest_decides_and_moves_no_tag(client: Client, loopback: Registry) -> None:
    first = client.pull("ollama").digest
    loopback.content.add("library/ollama", "latest", build.LAYOUTS["modelpack-raw"]())
    pinned = client.pull(f"ollama:latest@{first}")
    assert (pinned.digest, pinned.short_name) == (first, f"ollama@{first}")
    assert client.get("ollama").digest == first
    assert client.pull("ollama").digest != first
    assert client.get(f"ollama@{first}").digest == first


def test_a_tag_that_moved_leaves_nothing_behind(
    client: Client, loopback: Registry, events: list[Event]
) -> None:
    old = client.pull("ollama").manifest
    loopback.content.add("library/ollama", "latest", build.LAYOUTS["modelpack-raw"]())
    client.pull("ollama")
    assert Step("pruning") in events
    assert not client.garbage()
    left = {path.name for path in (client.home / "blobs" / "sha256").iterdir()}
    assert WEIGHTS.hex in left
    assert old.digest.hex not in left


def test_a_tag_that_moved_keeps_what_another_name_needs(client: Client, loopback: Registry) -> None:
    old = client.pull("ollama")
    client.copy("ollama", "kept")
    loopback.content.add("library/ollama", "latest", build.LAYOUTS["modelpack-raw"]())
    client.pull("ollama")
    assert client.get("kept").digest == old.digest
    assert client.store.check() == []


def test_two_names_share_what_they_share(client: Client, loopback: Registry) -> None:
    client.pull("ollama")
    before = len(loopback.log)
    client.pull("docker-ai")
    asked = [request.path for request in loopback.log[before:]]
    assert not any(str(WEIGHTS) in path for path in asked)
    client.remove(["ollama"])
    freed = client.prune(client.garbage())
    assert WEIGHTS not in {digest for digest, _ in freed.blobs}
    assert client.get("docker-ai").path.read_bytes() == tiny_llama()


def test_a_plan_is_what_the_sweep_deletes(client: Client) -> None:
    client.pull("ollama")
    client.pull("modelpack-raw")
    client.remove(["ollama"])
    (client.home / "ingest" / f"sha256-{'a' * 64}").write_bytes(b"begun")
    used = sum(p.stat().st_size for p in client.home.rglob("*") if p.is_file())
    plan = client.garbage()
    assert client.prune(plan) == plan
    now = sum(p.stat().st_size for p in client.home.rglob("*") if p.is_file())
    assert used - now == plan.size > 0
    assert not client.garbage()
    assert client.get("modelpack-raw").path.exists()


def test_a_container_image_is_refused_before_a_layer_moves(
    client: Client, loopback: Registry
) -> None:
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    layer = described("application/vnd.oci.image.layer.v1.tar", bytes(1024))
    container = image(
        described("application/vnd.oci.image.config.v1+json", config),
        [layer],
        [config, bytes(1024)],
    )
    loopback.content.add("library/busybox", "latest", container)
    with pytest.raises(ModelError, match="container image"):
        client.pull("busybox")
    blobs = [request.path for request in loopback.log if "/blobs/" in request.path]
    assert len(blobs) == 2  # the config's labels, and how the layer begins
    assert not client.store.exists(Descriptor.of(bytes(1024), "x/y"))
    assert client.list() == ()


def test_one_of_several_models_is_chosen(client: Client, loopback: Registry) -> None:
    loopback.content.add("library/two", "latest", build.WRITERS["modelpack-two"].make())
    assert client.pull("two#tiny").path.read_bytes() == tiny_llama()
    assert client.get("two#other.gguf").part == "other.gguf"
    assert client.get("two#other").path.read_bytes() == tiny_llama(name="other")
    assert client.get("two#other").name == client.get("two").name
    with pytest.raises(ModelError, match=r"NAME#other\.gguf"):
        _ = client.get("two").path
    for verb in (lambda: client.remove(["two#tiny"]), lambda: client.copy("two#tiny", "one")):
        with pytest.raises(InvalidReferenceError):
            verb()
    assert [model.short_name for model in client.list()] == ["two:latest"]


@pytest.mark.parametrize("is_here", [False, True])
@pytest.mark.parametrize("writer", ["modelpack-two", "ollama"])
def test_a_part_that_is_not_there_is_not_pulled(
    client: Client, loopback: Registry, writer: str, *, is_here: bool
) -> None:
    loopback.content.add("library/two", "latest", build.WRITERS[writer].make())
    if is_here:
        client.pull("two")
    with pytest.raises(ModelError) as told:
        client.pull("two#nope")
    assert [model.short_name for model in client.list()] == ["two:latest"] * is_here
    if writer == "modelpack-two":
        assert "other.gguf" in str(told.value)
    if is_here:
        with pytest.raises(ModelError) as same:
            _ = client.get("two#nope").model
        assert str(same.value) == str(told.value)
    else:
        weights = Descriptor.of(tiny_llama(), "x/y")
        assert not client.store.exists(weights), "refused before a weight moves"


def test_weights_that_are_cut_off_have_no_path(client: Client, loopback: Registry) -> None:
    whole = safetensors("a", "b")
    for name, content in (("whole", whole), ("cut", whole[:-1])):
        config = b"{}"
        layer = described("application/x-mlmodel", content, annotations={TITLE: "m.safetensors"})
        artifact = image(described("application/x-config", config), [layer], [config, content])
        loopback.content.add(f"library/{name}", "latest", artifact)
        client.pull(name)
    assert client.get("whole").path.read_bytes() == whole
    with pytest.raises(ModelError, match=r"m.safetensors is no sound .* the file is cut off"):
        _ = client.get("cut").path


def pack_of(kind: str, files: dict[str, bytes]) -> Artifact:
    """A ModelPack of these files; `kind` ends the media type of each layer."""
    prefix = "application/vnd.cncf.model."
    layers = [
        described(f"{prefix}{kind}", content, annotations={"org.cncf.model.filepath": name})
        for name, content in files.items()
    ]
    return image(described(f"{prefix}config.v1+json", b"{}"), layers, [b"{}", *files.values()])


INDEXED = {
    "model.safetensors.index.json": b'{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}',
    "one.safetensors": safetensors("a"),
}


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        ({"m-00001-of-00002.gguf": tiny_llama()}, "m-00002-of-00002.gguf"),
        (INDEXED, "two.safetensors"),
        (
            {"m.gguf": tiny_llama(), "n-00002-of-00002.gguf": tiny_llama()[:-1] + b"2"},
            "n-00001-of-00002.gguf",
        ),
    ],
)
def test_weights_that_are_not_complete_are_not_fetched(
    client: Client, loopback: Registry, files: dict[str, bytes], missing: str
) -> None:
    loopback.content.add("library/part", "latest", pack_of("weight.v1.raw", files))
    with pytest.raises(ModelError, match=f"library/part:latest: .*not complete: {missing} is miss"):
        client.pull("part")
    weights = [digest_of(content) for name, content in files.items() if not name.endswith("json")]
    assert not any(request.path.endswith(tuple(weights)) for request in loopback.log)
    assert client.list() == ()


def test_weights_in_an_archive_are_complete_or_get_no_name(
    client: Client, loopback: Registry
) -> None:
    packed = tar({"m-00001-of-00002.gguf": tiny_llama()})
    loopback.content.add("library/part", "latest", pack_of("weight.v1.tar", {"m.tar": packed}))
    with pytest.raises(ModelError, match=r"m-00002-of-00002.gguf is missing"):
        client.pull("part")
    assert client.list() == ()
    both = tar({f"m-0000{n}-of-00002.gguf": tiny_llama() + bytes(n) for n in (1, 2)})
    loopback.content.add("library/whole", "latest", pack_of("weight.v1.tar", {"m.tar": both}))
    assert len(client.pull("whole").model.shards) == 2


def test_a_withdrawn_artifact_manifest_is_pulled(client: Client, loopback: Registry) -> None:
    weights = tiny_llama()
    told = {"org.cncf.model.filepath": "model.gguf"}
    kind = "application/vnd.cncf.model.manifest.v1+json"
    blob = described("application/octet-stream", weights, annotations=told)
    document = {"mediaType": OCI_ARTIFACT, "artifactType": kind, "blobs": [blob]}
    artifact = Artifact(compact(document), OCI_ARTIFACT, {digest_of(weights): weights}, kind)
    loopback.content.add("library/old", "latest", artifact)
    model = client.pull("old")
    assert model.path.read_bytes() == weights
    assert [part.name for part in model.parts] == ["model.gguf"]
    assert client.store.check() == []
    assert not client.garbage()


def test_what_is_not_there_is_not_found(client: Client) -> None:
    for verb in (client.pull, client.get, lambda name: client.remove([name])):
        with pytest.raises(NotFoundError, match="nothing-here"):
            verb("nothing-here")
    with pytest.raises(NotFoundError, match="modelpm pull nothing-here"):
        client.open("nothing-here")


def test_names_are_removed_all_or_none(client: Client) -> None:
    client.pull("ollama")
    with pytest.raises(NotFoundError):
        client.remove(["ollama", "nothing-here"])
    assert client.get("ollama").short_name == "ollama:latest"
    removed = client.remove(["ollama", "ollama"])
    assert {model.short_name for model in removed} == {"ollama:latest"}
    assert client.list() == ()


def test_a_copy_is_a_second_name(client: Client) -> None:
    model = client.pull("ollama")
    copied = client.copy("ollama", "team/mine:v1")
    assert copied.digest == model.digest
    assert copied.name == f"{Reference.parse(client.default_registry).registry}/team/mine:v1"
    with pytest.raises(InvalidReferenceError, match="a tag"):
        client.copy("ollama", f"mine@{model.digest}")
    with pytest.raises(NotFoundError):
        client.copy("nothing-here", "mine")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["docker-ai:latest", "ollama:latest"]),
        ("oll", ["ollama:latest"]),
        ("*ai*", ["docker-ai:latest"]),
        ("ollama:late?t", ["ollama:latest"]),
        ("[do]*", ["docker-ai:latest", "ollama:latest"]),
        ("llama", []),
        ("127.0.0.1:*/library/docker*", ["docker-ai:latest"]),
    ],
)
def test_a_pattern_chooses_names(pattern: str, found: list[str], client: Client) -> None:
    client.pull("ollama")
    client.pull("docker-ai")
    assert [model.short_name for model in client.list(pattern)] == found


def test_names_of_other_programs_are_shown_and_found(client: Client) -> None:
    client.pull("ollama")
    path = client.home / "index.json"
    index = json.loads(path.read_bytes())
    (entry,) = index["manifests"]
    index["manifests"].append({**entry, "annotations": {REF_NAME: "theirs"}})
    path.write_text(json.dumps(index))
    theirs = client.get("theirs")
    assert (theirs.name, theirs.short_name, theirs.modified) == ("theirs", "theirs", "")
    assert theirs.size == client.get("ollama").size
    client.remove(["theirs"])
    assert [model.short_name for model in client.list()] == ["ollama:latest"]


def test_a_damaged_model_is_noticed_and_mended(client: Client) -> None:
    model = client.pull("ollama")
    model.path.chmod(0o644)
    model.path.write_bytes(tiny_llama()[:-1] + b"\xff")
    with pytest.raises(modelpm.ModelPMError, match="digest"):
        _ = client.get("ollama").path
    client.pull("ollama")
    assert client.get("ollama").path.read_bytes() == tiny_llama()


def test_damage_is_told_with_the_model_and_what_mends_it(client: Client) -> None:
    client.pull("ollama")
    client.create("mine", modelfile.parse('FROM ollama\nSYSTEM """be brief"""\n'))
    weights = client.get("ollama").path
    system = client.store.root / "blobs" / "sha256" / Digest.of(b"be brief").hex
    for path in (weights, system):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    pulled, made = client.get("ollama"), client.get("mine")
    mend = re.escape("(try: modelpm pull ollama:latest)")
    with pytest.raises(DigestMismatchError, match=rf"^ollama:latest: .* in .*model.*{mend}$"):
        _ = pulled.path
    again = r"\(it was made here, .*: create or import it again\)$"
    with pytest.raises(DigestMismatchError, match=rf"^mine:latest: .*{again}"):
        _ = made.path
    with pytest.raises(DigestMismatchError, match=rf"^mine:latest: .*{again}"):
        client.open("mine")
    with pytest.raises(DigestMismatchError, match=again), made.naming_damage():
        _ = made.model.system


def test_damage_at_a_registry_is_told_with_its_name(client: Client, private: Registry) -> None:
    digest = str(Digest.of(tiny_llama()))
    with Registry() as registry:
        registry.content.add("team/tiny", "v1", build.ollama())
        registry.content.blobs[digest] = bytes(len(tiny_llama()))
        name, goal = f"{registry.host}/team/tiny:v1", f"{private.host}/team/copy:v1"
        with pytest.raises(DigestMismatchError, match=f"^pulling {name}: .*{digest}"):
            client.pull(name)
        with pytest.raises(ModelPMError, match=f"mirroring {name} to {goal}: .*{digest}"):
            client.mirror(name, goal)
    assert not private.content.tags.get("team/copy")


# At registries


@pytest.fixture
def private() -> Iterator[Registry]:
    """A registry that may be written to."""
    with Registry(uploads=Uploads()) as registry:
        yield registry


def asked(registry: Registry, before: int = 0) -> list[str]:
    """Method and path of what it was asked since then."""
    return [f"{request.method} {request.path}" for request in registry.log[before:]]


def test_a_push_asks_no_more_than_it_needs(client: Client, private: Registry) -> None:
    model = client.pull("ollama")
    goal = f"{private.host}/team/mine:v1"
    first = client.push("ollama", goal)
    leaves = len(model.manifest.successors)
    assert first.reference == Reference.parse(goal)
    assert (first.digest, first.size) == (model.digest, model.size)
    assert (first.uploaded, first.present, first.mounted) == (leaves, 0, 0)
    last = asked(private)[-1]
    assert last == "PUT /v2/team/mine/manifests/v1"
    before = len(private.log)
    again = client.push("ollama", goal)
    start, *others = asked(private, before)
    assert start == "GET /v2/team/mine/manifests/v1"
    assert len(others) == leaves == len(set(others))  # a config and layers: at most 2 + layers
    assert all(line.startswith("HEAD /v2/team/mine/blobs/") for line in others)
    assert (again.uploaded, again.present) == (0, leaves)
    before = len(private.log)
    client.push("ollama", f"{private.host}/team/mine:v2")
    assert len(private.log) - before <= leaves + 4
    assert not any("/uploads/" in line for line in asked(private, before))


def test_no_part_is_pushed_by_itself(client: Client, private: Registry) -> None:
    client.pull("ollama")
    with pytest.raises(InvalidReferenceError):
        client.push("ollama#model.gguf", f"{private.host}/team/mine")
    assert not private.log


def test_a_push_to_a_sister_moves_no_bytes(client: Client, private: Registry) -> None:
    model = client.pull("ollama")
    client.push("ollama", f"{private.host}/team/mine")
    assert private.uploads is not None
    received = private.uploads.received
    sister = client.push("ollama", f"{private.host}/other/sister")
    assert sister.mounted == len(model.manifest.successors)
    assert private.uploads.received == received


def test_what_was_pulled_from_a_registry_is_mounted_there(client: Client) -> None:
    uploads = Uploads()
    with Registry(uploads=uploads) as registry:
        registry.content.add("team/tiny", "v1", build.ollama())
        for digest in registry.content.blobs:
            uploads.owners[digest] = {"team/tiny"}
        model = client.pull(f"{registry.host}/team/tiny:v1")
        pushed = client.push(f"{registry.host}/team/tiny:v1", f"{registry.host}/team/copy")
        assert pushed.mounted == len(model.manifest.successors)
        assert registry.content.tags["team/copy"] == {"v1": str(model.digest)}


def test_the_chosen_child_of_an_index_is_pushed(client: Client, private: Registry) -> None:
    model = client.pull("index")
    pushed = client.push("index", f"{private.host}/team/child")
    assert pushed.digest == model.digest
    assert private.content.tags["team/child"] == {"latest": str(model.digest)}


@pytest.mark.parametrize(
    ("name", "to", "reference"),
    [
        ("ollama", "HOST/team/a", "HOST/team/a:latest"),
        ("ollama", "HOST/team/a:v2", "HOST/team/a:v2"),
        ("HOST/team/own:v3", "", "HOST/team/own:v3"),
        ("HOST/team/own:v3", "HOST/team/b", "HOST/team/b:v3"),
        ("theirs", "HOST/team/c:x", "HOST/team/c:x"),
        ("theirs", "HOST/team/c", "HOST/team/c:latest"),
    ],
)
def test_where_a_push_goes(
    name: str, to: str, reference: str, client: Client, private: Registry
) -> None:
    name, to, reference = (each.replace("HOST", private.host) for each in (name, to, reference))
    client.pull("ollama")
    if name != "ollama":
        client.store.copy(client.get("ollama").name, name)
    assert client.push(name, to).reference == Reference.parse(reference)


def test_a_model_is_held_while_it_is_pushed(client: Client, private: Registry) -> None:
    """Its name may go and a prune may run: what is on its way stays."""
    client.pull("ollama")
    blobs = client.home / "blobs" / "sha256"
    swept: list[int] = []

    def disturb(event: Event) -> None:
        if isinstance(event, Step) and event.stage == "copying":
            client.remove(["ollama"])
            client.prune(client.garbage())
            swept.append(len(list(blobs.iterdir())))

    with Client(client.home, default_registry=client.default_registry, observe=disturb) as pushing:
        pushed = pushing.push("ollama", f"{private.host}/team/held")
    assert swept == [pushed.present + pushed.uploaded + 1]
    assert private.content.tags["team/held"] == {"latest": str(pushed.digest)}
    client.prune(client.garbage())
    assert list(blobs.iterdir()) == []


def test_a_mirror_keeps_nothing_here(client: Client, loopback: Registry, private: Registry) -> None:
    goal = f"{private.host}/library/index"
    mirrored = client.mirror("index", goal)
    assert str(mirrored.digest) == build.index().digest
    assert private.content.tags["library/index"] == {"latest": build.index().digest}
    assert client.list() == ()
    assert not list(client.home.glob("blobs/*/*"))
    before = len(private.log), len(loopback.log)
    again = client.mirror("index", goal, with_referrers=False)
    assert (again.uploaded, again.mounted) == (0, 0)
    first, *others = asked(private, before[0])
    assert first == "GET /v2/library/index/manifests/latest"
    assert len(others) == again.present + 2  # the manifests of its two models
    assert all(line.startswith("HEAD ") for line in others)


def test_tags_and_repositories_are_told(client: Client, loopback: Registry) -> None:
    loopback.content.add("library/ollama", "sha256-" + "a" * 64, build.ollama())
    assert client.tags("ollama") == ["latest"]
    assert len(client.tags("ollama", everything=True)) == 2
    assert "library/ollama" in list(client.catalog(loopback.host))
    for name in ("ollama:latest", f"ollama@sha256:{'a' * 64}"):
        with pytest.raises(InvalidReferenceError):
            client.tags(name)


def test_what_is_offered_is_what_a_pull_brings(client: Client, loopback: Registry) -> None:
    offered = client.inspect("index")
    assert not any(f"{WEIGHTS}" in request.path for request in loopback.log)
    model = client.pull("index")
    assert (offered.name, offered.short_name) == (model.name, model.short_name)
    assert (offered.digest, offered.size) == (model.digest, model.size)
    assert offered.parts == model.parts
    assert (offered.path, offered.modified) == (None, "")
    assert client.inspect_manifest("index").raw == build.index().manifest


@pytest.mark.parametrize("deletes_tags", [True, False])
def test_what_is_deleted_at_a_registry_is_gone(client: Client, *, deletes_tags: bool) -> None:
    with Registry(uploads=Uploads(deletes_tags=deletes_tags)) as registry:
        for tag in ("v1", "v2"):
            registry.content.add("team/tiny", tag, build.ollama())
        registry.content.add("team/tiny", "v3", build.oras_gguf())
        name = f"{registry.host}/team/tiny"
        client.remove_remote(client.plan_removal(f"{name}:v3"))
        assert set(registry.content.tags["team/tiny"]) == {"v1", "v2"}
        removal = client.plan_removal(f"{name}:v1")
        if not deletes_tags:
            with pytest.raises(RegistryError, match="v2"):
                client.remove_remote(removal)
        gone = client.remove_remote(removal, force=True)
        assert set(gone.tags) == ({"v1"} if deletes_tags else {"v1", "v2"})
        assert set(registry.content.tags["team/tiny"]) == {"v1", "v2"} - set(gone.tags)
        with pytest.raises(NotFoundError):
            client.plan_removal(f"{name}:v1")


def test_a_registry_that_deletes_nothing_says_so(client: Client) -> None:
    with Registry(uploads=Uploads(deletes=False, deletes_tags=False)) as registry:
        registry.content.add("team/tiny", "v1", build.ollama())
        name = f"{registry.host}/team/tiny:v1"
        with pytest.raises(RegistryError, match="does not delete"):
            client.remove_remote(client.plan_removal(name))
        assert set(registry.content.tags["team/tiny"]) == {"v1"}


def test_a_manifest_that_cannot_be_read_keeps_everything(client: Client) -> None:
    client.pull("ollama")
    broken = client.pull("modelpack-raw")
    client.remove(["ollama"])
    path = client.home / "blobs" / "sha256" / broken.digest.hex
    path.chmod(0o644)
    path.write_bytes(b"{}")
    before = sorted(path.name for path in (client.home / "blobs" / "sha256").iterdir())
    with pytest.raises(StoreError, match="nothing was deleted"):
        client.garbage()
    assert sorted(path.name for path in (client.home / "blobs" / "sha256").iterdir()) == before


def test_the_package_offers_the_client_and_the_errors_lazily() -> None:
    code = (
        "import sys, modelpm; before = set(sys.modules); modelpm.Client; modelpm.ModelPMError\n"
        "assert 'modelpm.client' not in before and 'modelpm.client' in sys.modules\n"
        "assert not {'requests', 'oras', 'tqdm', 'ctransformers', 'click'} & set(sys.modules)\n"
        "try: modelpm.nothing\n"
        "except AttributeError: print('none')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("none\n", "")


def test_without_a_home_it_is_the_platforms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Client().home.is_relative_to(tmp_path)
