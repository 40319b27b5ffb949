"""Kitfiles: which entry is a layer's, where its files belong, and what a part is."""

import pytest

from modelpm.model.kitfile import Entry, entries
from modelpm.model.roles import Role
from modelpm.oci.descriptor import Descriptor
from tests.model.artifacts import named

KIT = "application/vnd.kitops.modelkit."
PROMPT = "ml.kitops.modelkit.layer-subtype"


def layer(kind: str, content: bytes = b"x") -> Descriptor:
    return Descriptor.of(content, f"{KIT}{kind}")


def of(content: bytes) -> dict[str, object]:
    return {"digest": str(Descriptor.of(content, "x/y").digest)}


@pytest.mark.parametrize(
    ("kitfile", "layers", "paths"),
    [
        # by order, section by section
        ({"model": {"path": "a"}}, [layer("model.v1.tar")], ["a"]),
        ({"model": {"path": "./a/"}}, [layer("model.v1.tar+gzip")], ["a"]),
        (
            {"model": {"path": "a", "parts": [{"path": "b"}, {"path": "c"}]}},
            [layer("modelpart.v1.tar"), layer("model.v1.tar"), layer("modelpart.v1.raw")],
            ["b", "a", "c"],
        ),
        (
            {"model": {"path": "a", "parts": [{"path": "b"}]}},
            [layer("model.v1.tar"), layer("model.v1.tar"), layer("model.v1.tar")],
            ["a", "b", ""],
        ),
        (
            {"code": [{"path": "a"}], "prompts": [{"path": "b"}], "docs": [{"path": "c"}]},
            [
                layer("docs.v1.tar"),
                named(layer("code.v1.tar"), {PROMPT: "prompt"}),
                layer("code.v1.tar"),
            ],
            ["c", "b", "a"],
        ),
        (
            {"datasets": [{"path": "a", "remotePath": "s3://b"}, {"path": "c"}]},
            [layer("dataset.v1.tar")],
            ["c"],
        ),
        # by digest, in either form, whatever the order and the section
        (
            {"docs": [{"path": "a", **of(b"1")}, {"path": "b", **of(b"2")}]},
            [layer("docs.v1.tar", b"2"), layer("docs.v1.tar", b"1")],
            ["b", "a"],
        ),
        ({"new": [{"path": "a", "layerInfo": of(b"1")}]}, [layer("mcpb.v1.raw", b"1")], ["a"]),
        (
            {"docs": [{"path": "a", **of(b"1")}, {"path": "b", **of(b"1")}]},
            [layer("docs.v1.raw", b"1")] * 3,
            ["a", "b", "b"],
        ),
        ({"docs": [{"path": "a", **of(b"1")}]}, [layer("docs.v1.tar", b"2")], [""]),
        # what is no Kitfile, and what a Kitfile cannot say
        (None, [layer("model.v1.tar")], [""]),
        ([], [layer("model.v1.tar")], [""]),
        ({"model": "a"}, [layer("model.v1.tar")], [""]),
        ({"model": {"path": 7}}, [layer("model.v1.tar")], [""]),
        ({"docs": [7, {"path": "."}]}, [layer("docs.v1.tar")], [""]),
        ({"model": {"path": "a"}}, [Descriptor.of(b"x", "application/octet-stream")], [""]),
        ({"mcpb": [{"path": "a"}]}, [layer("mcpb.v1.raw")], [""]),
    ],
)
def test_each_layer_has_its_entry(
    kitfile: object, layers: list[Descriptor], paths: list[str]
) -> None:
    assert [entry.path for entry in entries(kitfile, layers)] == paths


@pytest.mark.parametrize(
    ("path", "member", "place"),
    [
        ("", "a/b", "a/b"),
        ("a/b", "a/b", "a/b"),
        ("a", "a/b", "a/b"),
        # before 0.5 an archive begins at the last name
        ("a/b.gguf", "b.gguf", "a/b.gguf"),
        ("a/b", "b/c.gguf", "a/b/c.gguf"),
        ("b", "b/c.gguf", "b/c.gguf"),
        # one compressed file has no name of its own
        ("a/b", "", "a/b"),
        # the archive's own word, where they do not agree
        ("a/b", "c", "c"),
        ("a/b", "bc/d", "bc/d"),
    ],
)
def test_a_file_has_its_place(path: str, member: str, place: str) -> None:
    assert Entry(path).place(member) == place


@pytest.mark.parametrize(
    ("kind", "own", "role"),
    [
        ("", Role.WEIGHTS, Role.WEIGHTS),
        ("LoRA adapter", Role.WEIGHTS, Role.ADAPTER),
        ("adaptor", Role.OTHER, Role.ADAPTER),
        ("mmproj", Role.WEIGHTS, Role.PROJECTOR),
        ("vision projector", Role.OTHER, Role.PROJECTOR),
        ("draft model", Role.WEIGHTS, Role.DRAFT),
        ("Tokenizer", Role.OTHER, Role.TOKENIZER),
        ("chat template", Role.OTHER, Role.TEMPLATE),
        ("license", Role.OTHER, Role.LICENSE),
        ("config", Role.OTHER, Role.CONFIG),
        ("weights", Role.OTHER, Role.WEIGHTS),
        ("exploration", Role.OTHER, Role.OTHER),
        ("config", Role.TOKENIZER, Role.TOKENIZER),
    ],
)
def test_a_part_is_what_its_writer_calls_it(kind: str, own: Role, role: Role) -> None:
    assert Entry("a", kind).role(own) is role
