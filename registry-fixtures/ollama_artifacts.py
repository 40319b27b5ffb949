"""How Ollama writes an artifact, byte for byte, and what a Modelfile says of one.

JSON layers are as Go's `json.Encoder` writes them: no spaces, the keys of maps sorted, `<`, `>`
and `&` escaped, a newline at the end. So our layers have the digests that Ollama's have.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from artifact import Artifact, Json, compact, described, digest_of

from modelpm.model.gguf import Header

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.ollama.image."

_LISTS = frozenset({"stop"})
_MODELFILE_LINE = re.compile(r"^(?P<word>[A-Z]+)[ \t]+(?P<rest>.*)$", re.DOTALL)
_ESCAPED = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What goes into an Ollama artifact beside its configuration; None and empty are left out."""

    weights: bytes = field(repr=False)
    template: str | None = None
    system: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    licenses: tuple[str, ...] = ()
    messages: tuple[Mapping[str, str], ...] = ()


def go_json(value: object, *, sort_keys: bool = True) -> bytes:
    """Encode as Go does; the fields of a Go struct are not sorted."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=sort_keys, ensure_ascii=False)
    for character, escape in _ESCAPED.items():
        text = text.replace(character, escape)
    return text.encode() + b"\n"


def artifact(recipe: Recipe, *, family: str = "llama", size: str, quantization: str) -> Artifact:
    """The artifact that `ollama create` makes: weights, template, system, licenses, parameters."""
    layers = list(_layers(recipe))
    config = {
        "model_format": "gguf",
        "model_family": family,
        "model_families": [family],
        "model_type": size,
        "file_type": quantization,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(content) for _, content in layers]},
    }
    blob = go_json(config, sort_keys=False)
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": described(CONFIG, blob),
        "layers": [described(LAYER + kind, content) for kind, content in layers],
    }
    blobs = {digest_of(content): content for content in (blob, *(each for _, each in layers))}
    return Artifact(compact(manifest), DOCKER_MANIFEST, blobs)


def read_modelfile(path: Path) -> Recipe:
    """The recipe that a Modelfile writes down; FROM names a file beside it."""
    texts: dict[str, str] = {}
    parameters: Json = {}
    licenses, messages, weights = [], [], b""
    for word, rest in _commands(path.read_text()):
        if word == "FROM":
            weights = (path.parent / rest).read_bytes()
        elif word == "PARAMETER":
            _set(parameters, *rest.split(maxsplit=1))
        elif word == "LICENSE":
            licenses.append(rest)
        elif word == "MESSAGE":
            role, _, content = rest.partition(" ")
            messages.append({"role": role, "content": _unquoted(content)})
        else:
            texts[word.lower()] = rest
    return Recipe(
        weights=weights,
        template=texts.get("template"),
        system=texts.get("system"),
        parameters=parameters,
        licenses=tuple(licenses),
        messages=tuple(messages),
    )


def llama2(folder: Path) -> dict[str, Artifact]:
    """The tags of library/llama2, made of the chat model in `folder` and its Modelfile.

    `terse` has the weights of `latest` and other words: what a store keeps once.
    """
    latest = read_modelfile(folder / "Modelfile")
    terse = replace(
        latest,
        system="You answer in one short sentence.",
        parameters={**latest.parameters, "num_predict": 24},
    )
    header = Header.read(folder / "llama2.gguf")
    return {
        tag: artifact(recipe, size=header.parameter_size, quantization=header.quantization)
        for tag, recipe in (("latest", latest), ("terse", terse))
    }


def _layers(recipe: Recipe) -> Iterable[tuple[str, bytes]]:
    yield "model", recipe.weights
    if recipe.template is not None:
        yield "template", recipe.template.encode()
    if recipe.system is not None:
        yield "system", recipe.system.encode()
    for text in recipe.licenses:
        yield "license", text.encode()
    if recipe.parameters:
        yield "params", go_json(recipe.parameters)
    if recipe.messages:
        yield "messages", go_json(recipe.messages)


def _commands(text: str) -> Iterable[tuple[str, str]]:
    """Each command's word and argument; an argument in triple quotes may have many lines."""
    lines = iter(text.splitlines(keepends=True))
    for line in lines:
        match = _MODELFILE_LINE.match(line)
        if match is None:
            continue
        rest = match["rest"].rstrip("\n")
        while rest.startswith('"""') and not (rest.rstrip().endswith('"""') and len(rest) > 5):
            rest = rest + "\n" + next(lines, '"""').rstrip("\n")
        yield match["word"], _unquoted(rest)


def _unquoted(text: str) -> str:
    for quote in ('"""', '"'):
        stripped = text.strip()
        if stripped.startswith(quote) and stripped.endswith(quote) and len(stripped) > 1:
            return stripped[len(quote) : -len(quote)]
    return text


def _set(parameters: Json, name: str, text: str) -> None:
    """Parameters are numbers or words, as Ollama's options are; `stop` gathers a list."""
    try:
        value: object = json.loads(text)
    except ValueError:
        value = _unquoted(text)
    if name in _LISTS:
        parameters.setdefault(name, []).append(value)
    else:
        parameters[name] = value
