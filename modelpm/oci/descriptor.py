"""The grammar of digests and descriptors: a `Descriptor` that exists is safe to act on.

Source: OCI image spec 1.1, descriptor.md. A digest that has been parsed consists of lower-case
letters and hex digits only, so it may stand in a path or a URL as it is.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from modelpm.errors import InvalidManifestError, InvalidReferenceError

HEX_LENGTH = {"sha256": 64, "sha512": 128}
"""The registered algorithms that we verify, and how many hex digits each has."""

MAX_SIZE = 2**63 - 1
NO_ANNOTATIONS: Mapping[str, str] = MappingProxyType({})

_DIGEST = re.compile(r"(sha256|sha512):([a-f0-9]+)")
_MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
)


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """`algorithm:hex`. Make one with `parse` or `of`; the bare constructor trusts its caller."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Read `sha256:<64 hex>` or `sha512:<128 hex>`, lower case.

        Raises InvalidReferenceError for anything else.
        """
        match = _DIGEST.fullmatch(text)
        if match is None or len(match[2]) != HEX_LENGTH[match[1]]:
            raise InvalidReferenceError(
                f"{text[:100]!r} is not a digest (sha256: and 64 lower-case hex digits)"
            )
        return cls(match[1], match[2])

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> "Digest":
        """The digest of these bytes."""
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    @property
    def short(self) -> str:
        """The first 12 hex digits, for people."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What some bytes are: their media type, digest and size in bytes.

    `artifact_type` and `annotations` are what the one who points at the bytes says about them.
    """

    media_type: str
    digest: Digest
    size: int
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=lambda: NO_ANNOTATIONS, hash=False)

    @classmethod
    def of(cls, content: bytes, media_type: str) -> "Descriptor":
        """The descriptor of these bytes."""
        return cls(media_type, Digest.of(content), len(content))

    @classmethod
    def from_json(cls, value: object) -> "Descriptor":
        """Read one JSON object of a manifest. Raises InvalidManifestError.

        A descriptor with `urls` is refused: we fetch from the registry or not at all.
        """
        if not isinstance(value, dict):
            raise InvalidManifestError("a descriptor is not a JSON object")
        size = value.get("size")
        if type(size) is not int or not 0 <= size <= MAX_SIZE:
            raise InvalidManifestError(f"a descriptor has no valid size: {size!r:.100}")
        digest = value.get("digest")
        if not isinstance(digest, str):
            raise InvalidManifestError("a descriptor has no digest")
        try:
            parsed = Digest.parse(digest)
        except InvalidReferenceError as error:
            raise InvalidManifestError(f"in a descriptor: {error}") from None
        if value.get("urls"):
            raise InvalidManifestError(f"{digest} is to be fetched from foreign URLs; refused")
        return cls(
            media_type=parse_media_type(value.get("mediaType")),
            digest=parsed,
            size=size,
            artifact_type=parse_artifact_type(value.get("artifactType")),
            annotations=parse_annotations(value.get("annotations")),
        )

    def to_json(self) -> dict[str, object]:
        """The JSON object of this descriptor, with the spec's key order."""
        value: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.artifact_type is not None:
            value["artifactType"] = self.artifact_type
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return value


def parse_media_type(value: object) -> str:
    """Check the RFC 6838 form, at most 255 characters. Raises InvalidManifestError."""
    if not isinstance(value, str) or _MEDIA_TYPE.fullmatch(value) is None:
        raise InvalidManifestError(f"not a media type: {value!r:.100}")
    return value


def parse_artifact_type(value: object) -> str | None:
    """As `parse_media_type`, but absent and empty mean none."""
    return None if value in (None, "") else parse_media_type(value)


def parse_annotations(value: object) -> Mapping[str, str]:
    """Check that annotations map strings to strings. Raises InvalidManifestError."""
    if value is None or value == {}:
        return NO_ANNOTATIONS
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidManifestError("annotations are not a map of strings")
    return MappingProxyType(value)
