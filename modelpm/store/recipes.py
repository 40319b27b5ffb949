"""How an archive is noted that is kept as the files in it: as bytes, and names of blobs.

    recipes/<algorithm>-<hex>       what the layer with this digest holds, and how it is made again

A recipe that *makes* its layer is all there is of that layer; one that does not lies beside a
layer whose bytes cannot be had from its files. It begins with a line that has the SHA-256 of the
rest, so that a recipe that was damaged is never followed. The rest is JSON:

    makes       whether all pieces in a row are the layer
    below       the only folder that was looked into; not there where all of the layer was
    pieces      a number of bytes, from `literals` on; or [name, digest, size] of a file
    literals    those bytes, as they follow one another: deflated, in Base64
"""

import base64
import binascii
import hashlib
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from modelpm.content import Packed
from modelpm.errors import InvalidManifestError, InvalidReferenceError, StoreError
from modelpm.oci.descriptor import MAX_SIZE, Descriptor, Digest
from modelpm.oci.manifest import load_json
from modelpm.store.files import Files, read_small
from modelpm.store.naming import file_name, files_in

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FILE = "application/octet-stream"
"""The media type of a file that is told by its digest only."""

MAX_LITERALS = 2**23
"""Bytes of headers and padding in one layer; with more it is kept as it is."""
MAX_FILES = 20_000
"""Files of one layer; with more it is kept as it is, and nobody looks into it."""
MAX_NAMES = 2**21
"""Characters of their names; the same."""

_MAX_BYTES = 2**25
_FIRST = re.compile(rb"modelpm recipe 1 ([a-f0-9]{64})\n")

Piece = bytes | Packed


@dataclass(frozen=True)  # without slots: what is derived is kept
class Recipe:
    """What a layer is made of, in order; without `makes` only which files it holds."""

    pieces: tuple[Piece, ...]
    makes: bool
    below: str = ""
    """The only folder of the layer whose files are told; empty where all are."""

    @cached_property
    def files(self) -> tuple[Packed, ...]:
        """The files, in the archive's order."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Packed))

    @cached_property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum(map(length, self.pieces))

    def encode(self) -> bytes:
        """The recipe as it lies in its file."""
        literals = b"".join(piece for piece in self.pieces if isinstance(piece, bytes))
        document = {
            **({"below": self.below} if self.below else {}),
            "makes": self.makes,
            "pieces": [_encoded(piece) for piece in self.pieces],
            "literals": base64.b64encode(zlib.compress(literals, 9)).decode(),
        }
        body = json.dumps(document, separators=(",", ":")).encode()
        return b"modelpm recipe 1 %s\n%s" % (hashlib.sha256(body).hexdigest().encode(), body)

    @classmethod
    def decode(cls, content: bytes) -> "Recipe":
        """Read what `encode` wrote. Raises StoreError for anything else."""
        first = _FIRST.match(content)
        if first is None or hashlib.sha256(content[first.end() :]).hexdigest().encode() != first[1]:
            raise StoreError("it is damaged, or of another version")
        try:
            return cls._of(load_json(content[first.end() :]))
        except (InvalidManifestError, InvalidReferenceError, ValueError, zlib.error) as error:
            raise StoreError(f"it says what no recipe can say: {error}") from error

    @classmethod
    def _of(cls, document: object) -> "Recipe":
        match document:
            case {"makes": bool(makes), "pieces": list(told), "literals": str(text), **rest}:
                literals = io.BytesIO(_inflated(text))
                pieces, below = (
                    tuple(_decoded(piece, literals) for piece in told),
                    rest.get("below"),
                )
                recipe = cls(pieces, makes, str(below or ""))
                if not literals.read(1) and len(recipe.files) <= MAX_FILES:
                    return recipe
        raise ValueError("another form")


class Recipes:
    """The recipes below one store's root."""

    def __init__(self, root: Path, files: Files) -> None:
        self._folder = root / "recipes"
        self._files = files

    def path(self, digest: Digest) -> Path:
        """Where the recipe of a layer lies, if there is one."""
        return self._folder / file_name(digest)

    def find(self, digest: Digest) -> Recipe | None:
        """The recipe of a layer; None where there is none that can be read."""
        try:
            return self.read(digest)
        except StoreError:
            return None

    def read(self, digest: Digest) -> Recipe | None:
        """The same; raises StoreError where there is one that cannot be read."""
        path = self.path(digest)
        try:
            return Recipe.decode(read_small(path, _MAX_BYTES))
        except FileNotFoundError:
            return None
        except StoreError as error:
            raise StoreError(f"the recipe {path} cannot be read: {error}") from error

    def write(self, digest: Digest, recipe: Recipe) -> None:
        """Keep a recipe, durably, in the place of one that was there."""
        self._files.replace(self.path(digest), recipe.encode())

    def listing(self) -> Iterator[tuple[Digest | None, Path, int]]:
        """Each recipe with its size in bytes; with None for what is none."""
        return files_in(self._folder)


class Made(io.RawIOBase):
    """A layer that is made while it is read, from any position on. UNVERIFIED."""

    def __init__(
        self, pieces: tuple[Piece, ...], open_file: Callable[[Digest], io.RawIOBase]
    ) -> None:
        super().__init__()
        self._pieces = pieces
        self._open_file = open_file
        self._position = 0
        self._index = 0
        self._start = 0
        """Which piece was read last, and where it begins."""
        self._opened: tuple[int, io.RawIOBase] | None = None
        self.size = sum(map(length, pieces))

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go anywhere; beyond the end there is nothing to read."""
        start = (0, self._position, self.size)[whence]
        self._position = max(0, start + offset)
        if self._position < self._start:
            self._index = self._start = 0
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """What is left of one piece, as far as it fits. Raises NotFoundError, StoreError."""
        view = memoryview(buffer)
        while self._index < len(self._pieces):
            piece = self._pieces[self._index]
            inner = self._position - self._start
            left = length(piece) - inner
            if left > 0:
                count = self._read(piece, inner, view[:left])
                self._position += count
                return count
            self._start += length(piece)
            self._index += 1
        return 0

    def close(self) -> None:
        """Close the file that is open."""
        self._close_file()
        super().close()

    def _read(self, piece: Piece, inner: int, view: memoryview) -> int:
        if isinstance(piece, bytes):
            chunk = piece[inner : inner + len(view)]
            view[: len(chunk)] = chunk
            return len(chunk)
        if self._opened is None or self._opened[0] != self._index:
            self._close_file()
            self._opened = self._index, self._open_file(piece.descriptor.digest)
        stream = self._opened[1]
        if stream.tell() != inner:
            stream.seek(inner)
        return stream.readinto(view) or 0

    def _close_file(self) -> None:
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None


def length(piece: Piece) -> int:
    """Bytes of a piece."""
    return len(piece) if isinstance(piece, bytes) else piece.descriptor.size


def _encoded(piece: Piece) -> int | list[object]:
    if isinstance(piece, bytes):
        return len(piece)
    return [piece.name, str(piece.descriptor.digest), piece.descriptor.size]


def _decoded(piece: object, literals: BinaryIO) -> Piece:
    match piece:
        case [str(name), str(digest), int(size)] if 0 <= size <= MAX_SIZE:
            return Packed(name, Descriptor(FILE, Digest.parse(digest), size))
        case int(count) if 0 <= count <= MAX_LITERALS:
            literal = literals.read(count)
            if len(literal) == count:
                return literal
    raise ValueError("a piece is neither bytes nor a file")


def _inflated(text: str) -> bytes:
    try:
        packed = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    inflater = zlib.decompressobj()
    literals = inflater.decompress(packed, MAX_LITERALS + 1)
    if len(literals) > MAX_LITERALS or not inflater.eof:
        raise ValueError("more literal bytes than there may be")
    return literals
