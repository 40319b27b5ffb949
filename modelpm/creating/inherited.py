"""What a new model has from the installed one that it is made from."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from modelpm.content import read
from modelpm.errors import ModelError
from modelpm.installed import Installed
from modelpm.model import about
from modelpm.model.about import MAX_CONFIG, About
from modelpm.model.dialects import OLLAMA
from modelpm.model.gguf import Header
from modelpm.model.magic import Kind, head, kind_of
from modelpm.model.model import Model
from modelpm.model.parts import Part
from modelpm.model.roles import Role
from modelpm.oci.manifest import load_json
from modelpm.store.layout import Store

WORDS = ("renderer", "parser", "requires")
"""What Ollama's config says beside the weights: how a prompt is made, an answer read, by whom."""

_WEIGHTS = frozenset({Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFT})


@dataclass(frozen=True, slots=True)
class Inherited:
    """Its parts, what is known of it, and the words of `WORDS`."""

    model: Model
    parts: tuple[Part, ...]
    about: About
    words: Mapping[str, str]

    @classmethod
    def read(cls, store: Store, installed: Installed, kept: contextlib.ExitStack) -> "Inherited":
        """Everything, held until `kept` ends. Raises ModelError for what cannot be written."""
        kept.enter_context(installed.held())
        model = installed.model
        if any(part.descriptor.media_type == model.dialect.tensor_type for part in model.parts):
            raise ModelError(
                f"{installed.short_name} has a layer for each tensor, which only Ollama reads"
            )
        for part in model.parts:
            if part.is_archive:
                raise ModelError(
                    f"{part.name} is inside an archive that is not unpacked yet"
                    f" (try: modelpm pull {installed.short_name})"
                )
        parts = tuple(
            Part(part.role, part.descriptor, _whole_name(part, store)) for part in model.parts
        )
        return cls(model, parts, _about(store, model), _words(store, model))


def _about(store: Store, model: Model) -> About:
    """What an installed model's weights say, or else its config."""
    paths = [store.path(part.descriptor) for part in model.shards]
    names = [part.name.lower() for part in model.shards]
    begins = [kind_of(head(part.descriptor, store), part.descriptor.size) for part in model.shards]
    if all(kind is Kind.GGUF for kind in begins):
        return about.of_ggufs([Header.read(path) for path in paths])
    if all(name.endswith(".safetensors") for name in names):
        configs = [part for part in model.parts if part.name == "config.json"]
        config = read(store, configs[0].descriptor, MAX_CONFIG) if configs else None
        return about.of_safetensors(paths, config)
    return about.of_facts(model.facts)


def _words(store: Store, model: Model) -> dict[str, str]:
    """What only Ollama's config has a place for."""
    config = model.manifest.config
    if model.dialect is not OLLAMA or config is None:
        return {}
    document = load_json(read(store, config))
    told = document if isinstance(document, dict) else {}
    return {word: told[word] for word in WORDS if isinstance(told.get(word), str) and told[word]}


def _whole_name(part: Part, store: Store) -> str:
    """The part's name, with the ending that tells every reader what kind of file it is."""
    name = part.name
    if part.role is Role.TEMPLATE and part.descriptor.media_type.endswith("jinja"):
        return name if name.endswith(".jinja") else f"{name}.jinja"
    if part.role in _WEIGHTS and not name.lower().endswith((".gguf", ".safetensors")):
        kind = kind_of(head(part.descriptor, store), part.descriptor.size)
        return f"{name}.gguf" if kind is Kind.GGUF else name
    return name
