"""What lies inside an archive, read from a stream in one pass, however hostile it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of an archive: its bytes are `size` from `offset` on in the plain tar."""

    name: str
    offset: int
    size: int


def members(stream: BinaryIO, below: str = "") -> Iterator[Member]:
    """The regular files of a plain tar, in order. Raises ModelError for what is refused."""
    raise NotImplementedError
