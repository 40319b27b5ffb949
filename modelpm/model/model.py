"""What an artifact means: a `Model` is a view over a manifest, made of parts with roles.

It owns no bytes. Small parts are read, and verified, at the moment they are asked for.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from modelpm.content import Fetcher, read
from modelpm.errors import InvalidManifestError, ModelError
from modelpm.model.dialects import IMAGE, Dialect, Role, recognise
from modelpm.model.facts import Facts, at
from modelpm.model.images import holds_model
from modelpm.model.message import Message, parse_messages
from modelpm.model.parameters import checked
from modelpm.model.parts import Part, Unpacked, parts_of
from modelpm.model.shards import (
    INDEX,
    MAX_INDEX,
    MAX_VALUES,
    WeightSet,
    chosen,
    listed,
    weight_sets,
)
from modelpm.oci.manifest import Manifest, load_json

__all__ = ["Facts", "Message", "Model", "Part", "Role", "Unpacked"]

MAX_TEXT = 2**20
"""Bytes of a template, a system prompt, parameters, a licence or messages."""
MAX_TEXTS = 2**22
"""Bytes of all texts of one role."""

_TEMPLATES = ("chat_template.json", "tokenizer_config.json")
"""Where transformers keeps a template that has no file of its own, the nearest first."""
_MAX_TOLD = 300


@dataclass(frozen=True)  # without slots: `facts` is kept once it has been read
class Model:
    """A manifest, read as a model. `parts` has the layers in the manifest's order."""

    manifest: Manifest
    dialect: Dialect
    parts: tuple[Part, ...]
    fetcher: Fetcher = field(repr=False, compare=False)

    @classmethod
    def read(
        cls, manifest: Manifest, fetcher: Fetcher, unpacked: Unpacked | None = None
    ) -> "Model":
        """Tell what each file is. Raises ModelError for what is no model, ContentError.

        `unpacked` tells what is in layers that are archives; without it, as of a manifest in a
        registry, such a layer is one part. Where only bytes can tell what a layer is, its first
        ones are looked at, UNVERIFIED: whoever opens weights goes through their gate in any case.
        """
        dialect = IMAGE if holds_model(manifest, fetcher) else recognise(manifest)
        return cls(manifest, dialect, parts_of(manifest, dialect, fetcher, unpacked), fetcher)

    @property
    def weights(self) -> Part:
        """The file to give to an engine; of a set of shards the first. Raises as `shards`.

        Raises ModelError too where each tensor is a file of its own: no one file is the model.
        """
        first, *more = self.shards
        if more and first.descriptor.media_type == self.dialect.tensor_type:
            raise ModelError(
                f"the weights are {len(more) + 1} tensors in files of their own, which no engine "
                "here runs"
            )
        return first

    @property
    def shards(self) -> tuple[Part, ...]:
        """The weights' files in order; nearly always one.

        Raises ModelError where there are none, where there are two models and none is chosen,
        where a shard is missing, and where a file is inside an archive that nobody unpacked.
        """
        sets = self.weight_sets
        ggufs = [each for each in sets if each.name.lower().endswith(".gguf")]
        if not sets:
            archives = any(part.is_archive for part in self.parts)
            more = " outside archives that are not unpacked" if archives else self._elsewhere()
            raise ModelError(f"{self.manifest.digest} has no weights{more} ({self.dialect.name})")
        if len(ggufs or sets) > 1:
            names = listed(ggufs or sets)
            first = (ggufs or sets)[0].name
            raise ModelError(
                f"two models in one artifact: {names} (choose one after the name: NAME#{first})"
            )
        found = (ggufs or sets)[0]
        found.check()
        for part in found.parts:
            if part.is_archive:
                raise ModelError(
                    f"{part.name} is inside an archive ({part.descriptor.media_type}) that is not "
                    "unpacked yet (try: modelpm pull, again)"
                )
        return found.parts

    def check_complete(self, name: str) -> None:
        """Raise ModelError, which names what `name` misses, unless every set of weights is whole.

        As for `shards`, where there are GGUFs only they count. Raises as `weight_sets`.
        """
        ggufs = [each for each in self.weight_sets if each.name.lower().endswith(".gguf")]
        for each in ggufs or self.weight_sets:
            try:
                each.check()
            except ModelError as error:
                raise ModelError(f"{name}: {error}") from None

    @cached_property
    def weight_sets(self) -> tuple[WeightSet, ...]:
        """The models in this artifact, by name: each a file of weights or a set of shards.

        Reads the indexes of safetensors. Raises ModelError for one that is none, ContentError.
        """
        indexes = {
            part.name: read(self.fetcher, part.descriptor, MAX_INDEX)
            for part in self.parts
            if part.name.endswith(INDEX) and not part.is_archive
        }
        return weight_sets(self._with(Role.WEIGHTS), indexes, self.dialect.tensor_type)

    def choosing(self, choice: str) -> "Model":
        """The same without the weights of the other models in the artifact.

        `choice` is the name of a set or of one of its files, with or without folders and ending.
        Raises ModelError, which tells the names, where it is none of them, and as `weight_sets`.
        """
        kept = {part.name for part in chosen(self.weight_sets, choice).parts}
        parts = (each for each in self.parts if each.role is not Role.WEIGHTS or each.name in kept)
        return replace(self, parts=tuple(parts))

    @property
    def template(self) -> str | None:
        """The chat template in Go's language, as Ollama writes it. Raises ContentError."""
        parts = self._with(Role.TEMPLATE)
        texts = self._texts(
            part for part in parts if not _is_jinja(part) and not part.name.endswith(".json")
        )
        return texts[-1] if texts else None

    @property
    def chat_template(self) -> str | None:
        """The chat template in Jinja, as Docker and ModelPack write it. Raises ContentError.

        For weights that do not hold it, the one that transformers reads: of a file of its own, or
        else of `tokenizer_config.json`. Raises ModelError for what is too large.
        """
        texts = self._texts(part for part in self._with(Role.TEMPLATE) if _is_jinja(part))
        return texts[-1] if texts else self._template_of_transformers()

    def _template_of_transformers(self) -> str | None:
        """What a JSON file beside safetensors says under `chat_template`."""
        weights = [part.name.lower() for part in self._with(Role.WEIGHTS)]
        if not weights or not all(name.endswith(".safetensors") for name in weights):
            return None
        parts = {part.name.lower(): part for part in self.parts if not part.is_archive}
        for name in _TEMPLATES:
            if name in parts:
                content = read(self.fetcher, parts[name].descriptor, MAX_TEXTS)
                if content.count(b",") > MAX_VALUES:
                    raise ModelError(f"{name} has more than {MAX_VALUES} values")
                told = at(_json(content.decode("utf-8", "replace"), name), ("chat_template",))
                if text := _chosen_template(told):
                    return text
        return None

    @property
    def system(self) -> str | None:
        """What the model is told before a conversation. Raises ContentError."""
        texts = self._texts(self._with(Role.SYSTEM))
        return texts[-1] if texts else None

    @property
    def licenses(self) -> tuple[str, ...]:
        """The licences' texts. Raises ContentError, and ModelError past the limits."""
        return self._texts(self._with(Role.LICENSE))

    @property
    def parameters(self) -> Mapping[str, object]:
        """The parameters, checked and clamped; `stop` is a tuple of strings.

        Names that modelpm does not know are kept as they are. Raises ModelError, ContentError.
        """
        return checked(self.parameters_as_told)

    @property
    def parameters_as_told(self) -> Mapping[str, object]:
        """The parameters as they are written. Raises ModelError, ContentError."""
        merged: dict[str, object] = {}
        for text in self._texts(self._with(Role.PARAMETERS)):
            value = _json(text, "the model's parameters")
            if not isinstance(value, dict):
                raise ModelError("the model's parameters are not a JSON object")
            merged.update(value)
        return merged

    @property
    def messages(self) -> tuple[Message, ...]:
        """Turns that stand before a conversation. Raises ModelError, ContentError."""
        texts = self._texts(self._with(Role.MESSAGES))
        return parse_messages(_json(texts[-1], "the model's messages")) if texts else ()

    @cached_property
    def facts(self) -> Facts:
        """What config and annotations say. Raises ModelError for a config that is not JSON."""
        document = self.config if self.dialect.facts else None
        return Facts.told(self.dialect, document, self.manifest.annotations)

    @cached_property
    def config(self) -> object:
        """The config as JSON values; None where there is none, and where it is no JSON.

        Raises ModelError for one whose media type says that it is JSON, ContentError.
        """
        config = self.manifest.config
        says_so = config is not None and config.media_type.endswith("json")
        if config is None or not (says_so or config.media_type in self.dialect.config_types):
            return None
        text = read(self.fetcher, config).decode("utf-8", "replace")
        try:
            return _json(text, "the model's config")
        except ModelError:
            if says_so:
                raise
        return None

    @property
    def family(self) -> str | None:
        """The architecture's name, as the config says."""
        return self.facts.family

    @property
    def parameter_size(self) -> str | None:
        """The number of parameters for people, as the config says."""
        return self.facts.parameter_size

    @property
    def quantization(self) -> str | None:
        """How the weights are stored, as the config says."""
        return self.facts.quantization

    @property
    def format(self) -> str | None:
        """The kind of file that the weights are, as the config says."""
        return self.facts.format

    @property
    def context_length(self) -> int | None:
        """The context in tokens, as the config says."""
        return self.facts.context_length

    def summary(self) -> dict[str, object]:
        """All that the manifest and the config tell, as JSON values. Raises as `facts`."""
        return {
            "digest": str(self.manifest.digest),
            "mediaType": self.manifest.media_type,
            "artifactType": self.manifest.artifact_type,
            "dialect": self.dialect.name,
            "size": self.manifest.size,
            "family": self.family,
            "parameter_size": self.parameter_size,
            "quantization": self.quantization,
            "format": self.format,
            "context_length": self.context_length,
            "license": self.facts.license,
            "capabilities": list(self.facts.capabilities),
            "annotations": dict(self.manifest.annotations),
            "parts": [part.document() for part in self.parts],
        }

    def _elsewhere(self) -> str:
        """Whose weights are meant, in a ModelKit that only adds to another one."""
        other = at(self.config, ("model", "path")) if self.dialect.has_kitfile else None
        return f" but means those of {other[:_MAX_TOLD]}" if isinstance(other, str) else ""

    def _with(self, role: Role) -> list[Part]:
        return [part for part in self.parts if part.role is role]

    def _texts(self, parts: Iterable[Part]) -> tuple[str, ...]:
        """The texts of these parts, verified. Bytes that are not UTF-8 become U+FFFD."""
        readable = [part for part in parts if not part.is_archive]
        if sum(part.descriptor.size for part in readable) > MAX_TEXTS:
            raise ModelError(f"the {readable[0].role} has more than {MAX_TEXTS} bytes")
        return tuple(
            read(self.fetcher, part.descriptor, MAX_TEXT).decode("utf-8", "replace")
            for part in readable
        )


def _is_jinja(part: Part) -> bool:
    return part.descriptor.media_type.endswith("jinja") or part.name.endswith(".jinja")


def _chosen_template(told: object) -> str | None:
    """The template itself; of several, each with its name, the one that is called `default`."""
    if isinstance(told, list):
        told = next((at(each, ("template",)) for each in told if _is_default(each)), None)
    return told if isinstance(told, str) and told else None


def _is_default(template: object) -> bool:
    return at(template, ("name",)) == "default"


def _json(text: str, what: str) -> object:
    try:
        return load_json(text.encode())
    except InvalidManifestError as error:
        raise ModelError(f"{what}: {error}") from None
