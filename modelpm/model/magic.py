"""What bytes are, told by how they begin, whatever their media type says. UNVERIFIED.

Nothing is trusted to be what it is taken for here: whoever opens weights goes through their gate.
"""

from enum import StrEnum
from typing import BinaryIO

from modelpm.content import Fetcher
from modelpm.oci.descriptor import Descriptor

PEEK = 512
"""Bytes that are looked at."""

_LEAST_GGUF = 24
_TAR_MARK = slice(257, 262)


class Kind(StrEnum):
    """A kind of file that says at its beginning what it is."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"
    GZIP = "gzip"
    ZSTD = "zstd"
    TAR = "tar"


WEIGHTS = frozenset({Kind.GGUF, Kind.SAFETENSORS})


def head(desc: Descriptor, fetcher: Fetcher) -> bytes:
    """The first bytes of a content, at most PEEK. Raises as `fetch` does."""
    with fetcher.fetch(desc) as stream:
        return first(stream)


def first(stream: BinaryIO, count: int = PEEK) -> bytes:
    """The next bytes of a stream, at most so many."""
    found = bytearray()
    while len(found) < count and (more := stream.read(count - len(found))):
        found += more
    return bytes(found)


def kind_of(begin: bytes, size: int) -> Kind | None:
    """What a content of `size` bytes is that begins so; None where its beginning does not tell."""
    if begin.startswith(b"GGUF") and size >= _LEAST_GGUF:
        return Kind.GGUF
    if begin.startswith(b"\x1f\x8b"):
        return Kind.GZIP
    if begin.startswith(b"\x28\xb5\x2f\xfd"):
        return Kind.ZSTD
    if begin[_TAR_MARK] == b"ustar":
        return Kind.TAR
    length = int.from_bytes(begin[:8], "little")
    if begin[8:9] == b"{" and 2 <= length <= size - 8:
        return Kind.SAFETENSORS
    return None
