"""What a model to be written consists of, in no format yet, and what a format has to say to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from modelpm.model.about import About
from modelpm.model.parts import Part
from modelpm.model.roles import Role

__all__ = ["About", "Blueprint", "Format", "Part", "Role"]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """The files with their roles, and what is known of the model.

    A descriptor's digest and size count; the media type is for the format to choose. `words` are
    Ollama's `renderer`, `parser` and `requires`. `created` is the only time in the artifact.
    """

    parts: tuple[Part, ...]
    about: About
    words: Mapping[str, str] = field(default_factory=dict, hash=False)
    created: datetime | None = None

    @property
    def time(self) -> str | None:
        """`created` in UTC as RFC 3339, in seconds."""
        return None if self.created is None else f"{self.created:%Y-%m-%dT%H:%M:%SZ}"

    @property
    def digests(self) -> list[str]:
        """The parts' digests, in order."""
        return [str(part.descriptor.digest) for part in self.parts]


@dataclass(frozen=True, slots=True)
class Format:
    """How one family of programs wants an artifact to be.

    `media_type` is that of a part's layer, or None where there is no place for it; `config` makes
    the config's media type and bytes of a blueprint whose parts are in the order of the layers.
    With `is_named` each layer is annotated with its file's name. `words` are those of a
    blueprint's words that the config has a place for.
    """

    name: str
    manifest_type: str
    media_type: Callable[[Part], str | None]
    config: Callable[[Blueprint], tuple[str, bytes]]
    artifact_type: str | None = None
    is_named: bool = True
    words: frozenset[str] = frozenset()
