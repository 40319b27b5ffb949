"""Two models side by side: what is shared is found whatever it is called, what differs is told."""

import time
from dataclasses import replace
from pathlib import Path

import build
import pytest
from gguf_writer import tiny_llama
from ollama_artifacts import Recipe, artifact

from modelpm.client import Client
from modelpm.comparing import MAX_LINES, Change, PartChange, TextChange, _parts
from modelpm.model.model import Part, Role
from modelpm.oci.descriptor import Descriptor
from tests.test_exporting import put

RECIPE = Recipe(
    weights=tiny_llama(),
    template="one\ntwo\nthree\n",
    system="You are brief.",
    parameters={"temperature": 0.5, "stop": ["a"]},
    licenses=("free",),
)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "home", default_registry="reg.example/x")


def made(client: Client, name: str, recipe: Recipe, family: str = "llama") -> None:
    put(client, name, artifact(recipe, family=family, size="39.5K", quantization="Q8_0"))


def part(role: Role, name: str, content: str) -> Part:
    return Part(role, Descriptor.of(content.encode(), "application/octet-stream"), name)


def test_a_model_does_not_differ_from_itself(client: Client) -> None:
    made(client, "a", RECIPE)
    found = client.diff("a", "a")
    assert found.is_none
    assert {change.change for change in found.parts} == {Change.SAME}
    assert found.shared == sum(part.descriptor.size for part in client.get("a").parts)


def test_what_differs_is_told(client: Client) -> None:
    made(client, "a", RECIPE)
    new = replace(
        RECIPE,
        template="one\ntwo and a half\nthree\n",
        system=None,
        parameters={"temperature": 0.7, "top_k": 5, "stop": ["a"]},
        messages=({"role": "user", "content": "hi"},),
    )
    made(client, "b", new)
    found = client.diff("a", "b")
    assert not found.is_none
    assert {(each.part.role, each.change) for each in found.parts} == {
        (Role.WEIGHTS, Change.SAME),
        (Role.LICENSE, Change.SAME),
        (Role.TEMPLATE, Change.CHANGED),
        (Role.PARAMETERS, Change.CHANGED),
        (Role.SYSTEM, Change.REMOVED),
        (Role.MESSAGES, Change.ADDED),
    }
    facts = {fact.name: (fact.before, fact.after) for fact in found.facts}
    assert facts.keys() == {"digest", "parameter temperature", "parameter top_k"}
    assert facts["parameter temperature"] == (0.5, 0.7)
    assert facts["parameter top_k"] == (None, 5)
    texts = {text.name: text.lines() for text in found.texts}
    assert texts["template"] == ["@@ -1,3 +1,3 @@", " one", "-two", "+two and a half", " three"]
    assert texts["system"] == ["@@ -1 +0,0 @@", "-You are brief."]
    assert texts["messages"] == ["@@ -0,0 +1 @@", "+user: hi"]


def test_the_same_bytes_are_the_same_in_any_dialect(client: Client) -> None:
    put(client, "a", build.LAYOUTS["docker-ai"]())
    put(client, "b", build.LAYOUTS["modelpack-raw"]())
    found = client.diff("a", "b")
    same = {each.part.role for each in found.parts if each.change is Change.SAME}
    assert same >= {Role.WEIGHTS, Role.LICENSE, Role.TEMPLATE}
    facts = {fact.name: (fact.before, fact.after) for fact in found.facts}
    assert facts["dialect"] == ("docker-ai", "modelpack")
    assert "context_length" not in facts or facts["context_length"][1] is None
    assert not found.texts


def test_other_weights_are_asked_what_they_are(client: Client) -> None:
    made(client, "a", RECIPE)
    made(client, "b", replace(RECIPE, weights=tiny_llama(name="other")))
    made(client, "c", replace(RECIPE, weights=b"GGUF, not"))
    facts = {fact.name: fact.after for fact in client.diff("a", "b").facts}
    assert facts["name"] == "other"
    flawed = client.diff("a", "c")
    assert len(flawed.flaws) == 1
    assert not flawed.is_none


def test_parts_are_matched_the_surest_way_first() -> None:
    before = [
        part(Role.WEIGHTS, "a.gguf", "1"),
        part(Role.LICENSE, "LICENSE", "l1"),
        part(Role.LICENSE, "LICENSE-2", "l2"),
        part(Role.DOCUMENT, "README", "r"),
        part(Role.TEMPLATE, "template", "t"),
        part(Role.OTHER, "x", "same"),
    ]
    after = [
        part(Role.OTHER, "y", "same"),
        part(Role.OTHER, "x", "same"),
        part(Role.LICENSE, "LICENSE", "l2"),
        part(Role.WEIGHTS, "b.gguf", "2"),
        part(Role.TEMPLATE, "chat_template.jinja", "t"),
    ]
    found = [
        (each.change, each.before and each.before.name, each.after and each.after.name)
        for each in _parts(before, after)
    ]
    assert found == [
        (Change.CHANGED, "a.gguf", "b.gguf"),
        (Change.REMOVED, "LICENSE", None),
        (Change.SAME, "LICENSE-2", "LICENSE"),
        (Change.REMOVED, "README", None),
        (Change.SAME, "template", "chat_template.jinja"),
        (Change.SAME, "x", "x"),
        (Change.ADDED, None, "y"),
    ]
    with pytest.raises(TypeError):
        _ = PartChange(Change.SAME, None, None).part


def test_many_parts_and_long_texts_take_no_long_time() -> None:
    began = time.monotonic()
    before = [part(Role.WEIGHTS, f"{n}", f"{n}") for n in range(10_000)]
    after = [part(Role.WEIGHTS, f"{n}", f"{-n}") for n in range(10_000)]
    assert len(_parts(before, after)) == 10_000
    assert TextChange("system", "a\n" * (MAX_LINES + 1), "b").lines() is None
    for line in ("same", "{}", "{0}"):
        one = "\n".join(line.format(n) for n in range(MAX_LINES))
        other = "\n".join(line.format(-n) for n in range(MAX_LINES))
        TextChange("system", one, other + "\nend").lines()
    assert time.monotonic() - began < 20


def test_line_ends_alone_make_no_lines() -> None:
    assert TextChange("system", "a\n", "a").lines() == []
