"""What an artifact means: a `Model` is a view over a manifest, made of parts with roles.

It owns no bytes. Small parts are read, and verified, at the moment they are asked for.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from modelpm.content import Fetcher, read
from modelpm.errors import InvalidManifestError, ModelError
from modelpm.model.dialects import ORAS, TITLE, Dialect, Role, recognise
from modelpm.model.message import Message, parse_messages
from modelpm.model.names import safe_name, shard, shard_name, unique_names
from modelpm.model.parameters import checked
from modelpm.oci.descriptor import Descriptor
from modelpm.oci.manifest import Manifest, load_json

if TYPE_CHECKING:
    from modelpm.content import Packed

__all__ = ["Facts", "Message", "Model", "Part", "Role"]

MAX_TEXT = 2**20
"""Bytes of a template, a system prompt, parameters, a licence or messages."""
MAX_TEXTS = 2**22
"""Bytes of all texts of one role."""
MAX_PEEKS = 16
"""Layers whose first bytes are looked at when no title tells which is the model."""

_GGUF = b"GGUF"
_LEAST_GGUF = 24
_MAX_FACT = 200
_PATHS = ("org.cncf.model.filepath", "org.cnai.model.filepath")
_METADATA = ("org.cncf.model.file.metadata+json", "org.cnai.model.file.metadata+json")
_IN_LAYER = "olot.layer.content.inlayerpath"
_NAMES = {
    Role.WEIGHTS: "model.gguf",
    Role.PROJECTOR: "mmproj.gguf",
    Role.ADAPTER: "adapter.gguf",
    Role.PARAMETERS: "params.json",
    Role.MESSAGES: "messages.json",
    Role.CONFIG: "config.json",
    Role.LICENSE: "LICENSE",
}


Unpacked = Callable[[Descriptor], "tuple[Packed, ...] | None"]
"""What a layer that is an archive holds, in the archive's order; None where nobody knows yet."""


def nothing_unpacked(_layer: Descriptor) -> None:
    """Of an artifact in a registry: nobody has looked into its archives."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file: what it is for, where its bytes are, and a safe, unique name.

    `packed_in` is the layer that the file came in, where that is an archive; `descriptor` is then
    the file's own. Of a layer that nobody has unpacked yet it is the layer itself.
    """

    role: Role
    descriptor: Descriptor
    name: str
    packed_in: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the artifact's config says of the model; None where it says nothing.

    These are the writer's words, not read from the weights: `family` as in `llama`,
    `parameter_size` as in `7B`, `quantization` as in `Q4_K_M`, `format` as in `gguf`.
    """

    family: str | None = None
    parameter_size: str | None = None
    quantization: str | None = None
    format: str | None = None
    context_length: int | None = None


@dataclass(frozen=True)  # without slots: `facts` is kept once it has been read
class Model:
    """A manifest, read as a model. `parts` has the layers in the manifest's order."""

    manifest: Manifest
    dialect: Dialect
    parts: tuple[Part, ...]
    fetcher: Fetcher = field(repr=False, compare=False)

    @classmethod
    def read(
        cls, manifest: Manifest, fetcher: Fetcher, unpacked: Unpacked = nothing_unpacked
    ) -> "Model":
        """Tell what each layer is. Raises ModelError for what is no model.

        Where only its bytes can tell which layer is the model, its first four are looked at,
        UNVERIFIED: whoever opens the weights goes through the GGUF gate in any case.
        """
        dialect = recognise(manifest)
        told = [_told_name(layer) for layer in manifest.layers]
        roles = [dialect.role(*pair) for pair in zip(manifest.layers, told, strict=True)]
        if dialect is ORAS and Role.WEIGHTS not in roles:
            for index in _find_ggufs(manifest, roles, fetcher):
                roles[index] = Role.WEIGHTS
        given = _given_names(dialect, manifest.layers, roles)
        names = unique_names(map(safe_name, (a or b for a, b in zip(told, given, strict=True))))
        return cls(manifest, dialect, tuple(map(Part, roles, manifest.layers, names)), fetcher)

    @property
    def weights(self) -> Part:
        """The file to give to an engine; of a set of shards the first. Raises as `shards`."""
        return self.shards[0]

    @property
    def shards(self) -> tuple[Part, ...]:
        """The weights' files in order; nearly always one.

        Raises ModelError where there are none, where there are two models, where a shard is
        missing, and where the file is inside an archive.
        """
        parts = {part.descriptor.digest: part for part in self._with(Role.WEIGHTS)}
        ggufs = [part for part in parts.values() if part.name.lower().endswith(".gguf")]
        sets: dict[tuple[str, int], dict[int, Part]] = {}
        for part in ggufs or parts.values():
            name, number, total = shard(part.name) or (part.name, 1, 0)
            sets.setdefault((name, total), {})[number] = part
        if not sets:
            raise ModelError(f"{self.manifest.digest} has no weights ({self.dialect.name})")
        if len(sets) > 1:
            names = ", ".join(sorted(name for name, _ in sets))
            raise ModelError(f"two models in one artifact: {names[:300]}")
        (((name, total), found),) = sets.items()
        for number in range(1, total + 1):
            if number not in found:
                missing = shard_name(name, number, total)
                raise ModelError(f"the weights are not complete: {missing} is missing")
        self._check_unpacked(found.values())
        return tuple(found[number] for number in sorted(found))

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
        """The chat template in Jinja, as Docker and ModelPack write it. Raises ContentError."""
        texts = self._texts(part for part in self._with(Role.TEMPLATE) if _is_jinja(part))
        return texts[-1] if texts else None

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
        merged: dict[str, object] = {}
        for text in self._texts(self._with(Role.PARAMETERS)):
            value = _json(text, "the model's parameters")
            if not isinstance(value, dict):
                raise ModelError("the model's parameters are not a JSON object")
            merged.update(value)
        return checked(merged)

    @property
    def messages(self) -> tuple[Message, ...]:
        """Turns that stand before a conversation. Raises ModelError, ContentError."""
        texts = self._texts(self._with(Role.MESSAGES))
        return parse_messages(_json(texts[-1], "the model's messages")) if texts else ()

    @cached_property
    def facts(self) -> Facts:
        """What the config says. Raises ModelError where it is not JSON, ContentError."""
        config = self.manifest.config
        if not self.dialect.facts or config is None:
            return Facts()
        raw = read(self.fetcher, config)
        document = _json(raw.decode("utf-8", "replace"), "the model's config")
        told = {name: _at(document, keys) for name, keys in self.dialect.facts}
        length = told.get("context_length")
        return Facts(
            family=_word(told.get("family")),
            parameter_size=_word(told.get("parameter_size")),
            quantization=_word(told.get("quantization")),
            format=_word(told.get("format")),
            context_length=length if type(length) is int and length > 0 else None,
        )

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
            "annotations": dict(self.manifest.annotations),
            "parts": [
                {
                    "role": part.role.value,
                    "name": part.name,
                    "mediaType": part.descriptor.media_type,
                    "digest": str(part.descriptor.digest),
                    "size": part.descriptor.size,
                }
                for part in self.parts
            ],
        }

    def _with(self, role: Role) -> list[Part]:
        return [part for part in self.parts if part.role is role]

    def _texts(self, parts: Iterable[Part]) -> tuple[str, ...]:
        """The texts of these parts, verified. Bytes that are not UTF-8 become U+FFFD."""
        readable = [part for part in parts if not self.dialect.is_packed(part.descriptor)]
        if sum(part.descriptor.size for part in readable) > MAX_TEXTS:
            raise ModelError(f"the {readable[0].role} has more than {MAX_TEXTS} bytes")
        return tuple(
            read(self.fetcher, part.descriptor, MAX_TEXT).decode("utf-8", "replace")
            for part in readable
        )

    def _check_unpacked(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if self.dialect.is_packed(part.descriptor):
                raise ModelError(
                    f"{part.name} is inside an archive ({part.descriptor.media_type}); "
                    "modelpm runs models whose layers are the files themselves"
                )


def _told_name(layer: Descriptor) -> str:
    """What the writer calls the file, UNSAFE, or ""."""
    told = layer.annotations
    paths = [told.get(key) for key in _PATHS]
    names = [_metadata_name(told.get(key)) for key in _METADATA]
    found = [name for name in (*paths, *names, told.get(_IN_LAYER), told.get(TITLE)) if name]
    return found[0] if found else ""


def _metadata_name(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        document = load_json(text.encode())
    except (InvalidManifestError, UnicodeEncodeError):
        return None
    name = _at(document, ("name",))
    return name if isinstance(name, str) else None


def _given_names(
    dialect: Dialect, layers: Sequence[Descriptor], roles: Sequence[Role]
) -> list[str]:
    """Names for files that nobody named, by their roles."""
    names = [_given_name(*pair) for pair in zip(layers, roles, strict=True)]
    weights = [i for i, role in enumerate(roles) if role is Role.WEIGHTS]
    if dialect.unnamed_shards and len(weights) > 1:
        for number, index in enumerate(weights, 1):
            names[index] = shard_name(names[index], number, len(weights))
    return names


def _given_name(layer: Descriptor, role: Role) -> str:
    if role is Role.WEIGHTS and "safetensors" in layer.media_type:
        return "model.safetensors"
    if role is Role.TEMPLATE and layer.media_type.endswith("jinja"):
        return "chat_template.jinja"
    return _NAMES.get(role, role.value)


def _find_ggufs(manifest: Manifest, roles: Sequence[Role], fetcher: Fetcher) -> list[int]:
    """The indexes of the layers that begin as a GGUF does. Raises ModelError for none."""
    large = [i for i, layer in enumerate(manifest.layers) if layer.size >= _LEAST_GGUF]
    unclear = [i for i in large if roles[i] in (Role.OTHER, Role.DOCUMENT)][:MAX_PEEKS]
    found = [i for i in unclear if _begins_as_gguf(manifest.layers[i], fetcher)]
    if not found:
        raise ModelError(f"{manifest.digest} holds no model: no layer is a GGUF file")
    return found


def _begins_as_gguf(layer: Descriptor, fetcher: Fetcher) -> bool:
    head = b""
    with fetcher.fetch(layer) as stream:
        while len(head) < len(_GGUF) and (more := stream.read(len(_GGUF) - len(head))):
            head += more
    return head == _GGUF


def _is_jinja(part: Part) -> bool:
    return part.descriptor.media_type.endswith("jinja") or part.name.endswith(".jinja")


def _json(text: str, what: str) -> object:
    try:
        return load_json(text.encode())
    except InvalidManifestError as error:
        raise ModelError(f"{what}: {error}") from None


def _at(document: object, keys: Sequence[str]) -> object:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_FACT else None
