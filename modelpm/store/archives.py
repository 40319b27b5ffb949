"""Archives that are kept as the files in them: a layer is made of them again when it is read.

A recipe (`recipes.py`) takes the place of the layer's own blob. Whoever reads, asks for, verifies
or names the layer finds it as if it were there. Only its path is not to be had, for there is no
such file; nor do programs find it that read the store's folder by themselves.
"""

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from modelpm.content import Observer, Packed, verify_digest, verify_size
from modelpm.errors import DigestMismatchError, NotFoundError, StoreError
from modelpm.oci.descriptor import HEX_LENGTH, Descriptor, Digest
from modelpm.store.blobs import Blobs, Stored
from modelpm.store.files import Files
from modelpm.store.recipes import FILE, MAX_LITERALS, Made, Piece, Recipe, Recipes, length

if TYPE_CHECKING:
    import io

Told = Callable[[int], None]
"""Hears how many bytes have been hashed."""


class Contents(Blobs):
    """The blobs below one store's root, and the layers that are made of them."""

    def __init__(self, root: Path, files: Files, observe: Observer) -> None:
        super().__init__(root, files, observe)
        self._root = root
        self.recipes = Recipes(root, files)

    def size(self, digest: Digest) -> int | None:
        """Bytes of the blob, or of the layer that can be made; None where there is neither."""
        size = super().size(digest)
        if size is not None:
            return size
        recipe = self._making(digest)
        complete = recipe is not None and all(map(self._has_file, recipe.files))
        return recipe.size if recipe is not None and complete else None

    def exists(self, desc: Descriptor) -> bool:
        """Whether the blob is here and sealed or right, or all that the layer is made of."""
        if super().size(desc.digest) is not None:
            return super().exists(desc)
        recipe = self._making(desc.digest)
        if recipe is None or recipe.size != desc.size:
            return False
        return all(super(Contents, self).exists(file.descriptor) for file in recipe.files)

    def verify(self, desc: Descriptor) -> None:
        """Read the whole blob, or make the whole layer. Raises as a blob's `verify`."""
        try:
            super().verify(desc)
        except (NotFoundError, StoreError):
            made = self._made(desc.digest)
            if made is None:
                raise
        else:
            return
        with made:
            verify_size(desc, made.size)
            verify_digest(desc, hashed(made, desc.digest.algorithm))

    @contextlib.contextmanager
    def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """Open the blob, or the layer as it is made. Unverified. Raises NotFoundError."""
        # First the blob: it may become a recipe at any moment, and never the other way round.
        stream: io.RawIOBase | None
        try:
            stream = self._open(desc.digest)
        except (NotFoundError, StoreError):
            stream = self._made(desc.digest)
            if stream is None:
                raise
        with stream:
            stream.seek(offset)
            yield cast("BinaryIO", stream)  # as far as it is used: read, seek and close

    def require_file(self, digest: Digest) -> None:
        """Raises StoreError for a layer that is here, but not as a file."""
        if self._made(digest) is not None:
            raise StoreError(
                f"{digest} is kept as the files in it, not as an archive, so it has no path"
                " (ask for one of its files)"
            )

    def unpacked(self, desc: Descriptor) -> tuple[Packed, ...] | None:
        """The files of a layer, all of which are here; None where nobody looked into it."""
        recipe = self.recipes.find(desc.digest)
        if recipe is None or not all(map(self._has_file, recipe.files)):
            return None
        return recipe.files

    def needed(self, digests: Collection[Digest]) -> set[Digest]:
        """The files of those of these layers that are archives. Raises StoreError.

        It is raised for a recipe that cannot be read and is all there is of its layer.
        """
        found: set[Digest] = set()
        for digest, _, _ in self.recipes.listing():
            if digest is None or digest not in digests:
                continue
            whole = super().size(digest) is not None
            recipe = self.recipes.find(digest) if whole else self.recipes.read(digest)
            found.update(file.descriptor.digest for file in (recipe.files if recipe else ()))
        return found

    def stored_recipes(self) -> Iterator[tuple[Digest | None, Stored]]:
        """Every file among the recipes, with the digest of its layer; with None for another."""
        for digest, path, size in self.recipes.listing():
            yield digest, Stored(path, size)

    def restore(self, desc: Descriptor) -> None:
        """Make the blob of a layer that is here as the files in it. Raises as `take`."""
        plain = Blobs(self._root, self._files, self._observe)
        plain.trust_locks, plain.may_seal = self.trust_locks, self.may_seal
        plain.require_room([desc])
        plain.take(desc, self)

    def file(self, digest: Digest) -> Descriptor | None:
        """What is known of a blob that is here as a file of its own, whole."""
        size = super().size(digest)
        desc = Descriptor(FILE, digest, size or 0)
        return desc if size is not None and super().exists(desc) else None

    def open_pieces(self, pieces: tuple[Piece, ...]) -> Made:
        """What the pieces make."""
        return Made(pieces, self._open)

    def _making(self, digest: Digest) -> Recipe | None:
        recipe = self.recipes.find(digest)
        return recipe if recipe is not None and recipe.makes else None

    def _made(self, digest: Digest) -> Made | None:
        """The layer as it is made, where there is no blob of it."""
        if super().size(digest) is not None:
            return None
        recipe = self._making(digest)
        return None if recipe is None else self.open_pieces(recipe.pieces)

    def _has_file(self, file: Packed) -> bool:
        return super().size(file.descriptor.digest) == file.descriptor.size


class Archives:
    """Makes recipes of layers, and removes the blobs that they stand for.

    With `keep_layers` every layer stays as it is beside its files, so that other programs find it
    in the store's folder: two copies, where the file system cannot share their bytes. A layer that
    was taken apart before is made again when it is settled.
    """

    def __init__(self, contents: Contents, files: Files, root: Path, *, keep_layers: bool) -> None:
        self._contents = contents
        self._files = files
        self._root = root
        self._keep_layers = keep_layers

    def file(self, digest: Digest) -> Descriptor | None:
        """The blob of this digest, where it is here as a file of its own."""
        return self._contents.file(digest)

    def opened(self, pieces: tuple[Piece, ...]) -> Made:
        """What the pieces make, to be read. Reading raises NotFoundError and StoreError."""
        return self._contents.open_pieces(pieces)

    def knows(self, desc: Descriptor, below: str) -> bool:
        """Whether all files are told that a layer has in this folder, or with "" anywhere."""
        recipe = self._contents.recipes.find(desc.digest)
        return recipe is not None and recipe.below in ("", below)

    def note(self, desc: Descriptor, files: Sequence[Packed], below: str = "") -> None:
        """Remember what a layer holds whose bytes cannot be made again. The files are here."""
        with self._locked():
            self._contents.recipes.write(desc.digest, Recipe(tuple(files), False, below))

    def split(
        self,
        desc: Descriptor,
        files: Sequence[tuple[int, Packed]],
        below: str = "",
        told: Told = lambda _hashed: None,
    ) -> None:
        """Keep a plain archive as its files, which are here, and what is around them.

        Each comes with its offset, in order; they are all that lie in the folder `below`. The
        layer's blob goes after what is made of the files was found to be the layer, bit for bit.
        Without files, or with too much around them, it is only noted what they are. Raises
        DigestMismatchError, NotFoundError and StoreError.
        """
        literals = desc.size - sum(file.descriptor.size for _, file in files)
        if not files or literals > MAX_LITERALS:
            self.note(desc, [file for _, file in files], below)
            return
        with self._contents.fetch(desc) as stream:
            pieces = tuple(_pieces(stream, desc.size, files))
        if not self.make(desc, pieces, below, told):
            raise StoreError(f"{desc.digest} was taken apart while its files were; try again")
        self.settle(desc)

    def make(
        self,
        desc: Descriptor,
        pieces: tuple[Piece, ...],
        below: str = "",
        told: Told = lambda _hashed: None,
    ) -> bool:
        """Keep a recipe, if what it makes is the layer.

        False where one of its files is not here any more. Raises DigestMismatchError where it
        makes another thing.
        """
        try:
            with self._contents.open_pieces(pieces) as made:
                verify_size(desc, made.size)
                verify_digest(desc, hashed(made, desc.digest.algorithm, told))
        except NotFoundError:
            return False
        recipe = Recipe(pieces, True, below)
        with self._locked():
            if any(self._contents.file(file.descriptor.digest) is None for file in recipe.files):
                return False
            self._contents.recipes.write(desc.digest, recipe)
        return True

    def settle(self, desc: Descriptor) -> None:
        """Remove the blob of a layer whose recipe makes it, unless it is needed as it is.

        To keep the layers, it is made. Raises DigestMismatchError, NotFoundError and StoreError.
        """
        blob = self._contents.path(desc.digest)
        if self._keep_layers and not blob.exists():
            self._contents.restore(desc)
        if self._keep_layers or not blob.exists():
            return
        with self._locked():
            recipe = self._contents.recipes.find(desc.digest)
            if recipe is None or not recipe.makes or self._is_a_file(desc.digest):
                return
            if all(self._contents.file(file.descriptor.digest) for file in recipe.files):
                # Another process may have written some of it just now.
                for folder in (*(f"blobs/{name}" for name in HEX_LENGTH), "recipes"):
                    self._files.sync_folder(self._root / folder)
                self._files.remove(blob)

    def _is_a_file(self, digest: Digest) -> bool:
        """Whether another layer is made of this one, or may be: its recipe cannot be read."""
        for other, _, _ in self._contents.recipes.listing():
            if other is None or other == digest:
                continue
            try:
                recipe = self._contents.recipes.read(other)
            except StoreError:
                return True
            if recipe and any(file.descriptor.digest == digest for file in recipe.files):
                return True
        return False

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return self._files.locked(self._root / "lock", exclusive=True)


def hashed(stream: Made, algorithm: str, told: Told = lambda _hashed: None) -> Digest:
    """The digest of all that a stream has."""
    hasher = hashlib.new(algorithm)
    buffer = memoryview(bytearray(2**18))
    position = 0
    while count := stream.readinto(buffer):
        hasher.update(buffer[:count])
        position += count
        told(position)
    return Digest(algorithm, hasher.hexdigest())


def _pieces(stream: BinaryIO, size: int, files: Iterable[tuple[int, Packed]]) -> Iterator[Piece]:
    """The files, and what is before, between and after them. Raises DigestMismatchError."""
    position = 0
    for offset, file in files:
        yield from _literal(stream, position, offset)
        yield file
        position = offset + length(file)
    yield from _literal(stream, position, size)


def _literal(stream: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    stream.seek(start)
    literal = b""
    while len(literal) < stop - start and (chunk := stream.read(stop - start - len(literal))):
        literal += chunk
    if len(literal) != stop - start:
        raise DigestMismatchError("the archive became shorter while it was read")
    if literal:
        yield literal
