"""How a model leaves the store: as a folder of plainly named files, whole or not there at all.

    DIR                         what the next program reads
    .DIR.<16 hex>.export        beside it while it is built; synced, then renamed. What a killed
                                export leaves of it goes with the next export to DIR.

Each file is a reflink where the file system can, which costs no room and is a file of its own;
else a copy, hashed on its way. A hard link or a symbolic link is the store's own file: whoever
writes into it damages the store, so only who asks gets one, and only for what nobody edits.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from modelpm.content import Moved, Observer, Settled, Step, ignore, verify_digest, verify_size
from modelpm.errors import ModelError, StoreError
from modelpm.installed import Installed
from modelpm.model import knowledge, modelfile
from modelpm.model.model import Model, Part, Role
from modelpm.model.names import unique_names
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.store.files import Files, listing
from modelpm.store.layout import Store

MODELFILE = "Modelfile"

_CHUNK = 2**20
_TOLD = 2**23
_LARGE = 2**20
_MAX_STEM = 50
_LINKED = frozenset({Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFT})
_ENGINE_TEXTS = frozenset({Role.SYSTEM, Role.PARAMETERS, Role.MESSAGES, Role.ADAPTER, Role.DRAFT})
"""What no engine reads from a file of its own: only a Modelfile tells it."""

_COMPANIONS = (
    (Role.PROJECTOR, "FROM"),
    (Role.ADAPTER, "ADAPTER"),
    (Role.DRAFT, "DRAFT"),
)

_OPEN_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_EXCHANGE = 2
_AT_CWD = -100


class Way(StrEnum):
    """What the exported files are. All are verified."""

    COPY = "copy"
    """A reflink or a copy: nothing that happens to it reaches the store."""
    LINK = "link"
    """The weights are a second name of the store's file."""
    SYMLINK = "symlink"
    """The weights are a symbolic link, good for as long as the store keeps the model."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A file of the folder: its name in it, its bytes, and what it is.

    `made` is `reflink`, `copy`, `link`, `symlink`, or `text` for what is in no layer.
    """

    name: str
    size: int
    made: str
    part: Part | None = None


def export(
    store: Store,
    installed: Installed,
    folder: Path,
    way: Way = Way.COPY,
    *,
    replace: bool = False,
    observe: Observer = ignore,
    disk: "Disk | None" = None,
) -> tuple[Exported, ...]:
    """Write the model's files into a folder that is not there yet, or is empty.

    With `replace` a folder with anything in it makes way, and is deleted. The names are those of
    the parts; a model with texts that only Ollama's format has gets a Modelfile as well. Raises
    ModelError for what is still in an archive or not complete, DigestMismatchError for wrong
    bytes, StoreError for all that the disk refuses; then the folder is as it was.
    """
    model = installed.model
    for part in model.parts:
        if part.is_archive:
            raise ModelError(f"{part.name} is in an archive that was not opened; nothing was done")
    model.check_complete(installed.short_name)
    with _refusing(folder):
        folder = _checked(folder, store.root, replace=replace)
    disk = disk or Disk()
    if not folder.parent.is_dir():
        disk.make_folder(folder.parent)
    draft = folder.with_name(f".{folder.name[:_MAX_STEM]}.{secrets.token_hex(8)}.export")
    observe(Step("copying", leaves=tuple(part.descriptor for part in model.parts)))
    with installed.held(), _removed_on_failure(disk, draft), contextlib.ExitStack() as claims:
        disk.make_folder(draft)
        if claims.enter_context(disk.claimed(draft)):
            _sweep(disk, folder)
        found = _Export(store, disk, way, observe).fill(draft, model)
        _install(disk, draft, folder, replace=replace)
    return found


class _Export:
    """One export under way."""

    def __init__(self, store: Store, disk: "Disk", way: Way, observe: Observer) -> None:
        self._store = store
        self._disk = disk
        self._way = way
        self._observe = observe
        self._left = 0

    def fill(self, folder: Path, model: Model) -> tuple[Exported, ...]:
        """Make every file of the model, durably."""
        found = []
        self._left = sum(part.descriptor.size for part in model.parts)
        names = unique_names([*(part.name for part in model.parts), MODELFILE])
        for part, name in zip(model.parts, names, strict=False):  # the last one is not a part's
            made = self.put(part, folder / name)
            found.append(Exported(name, part.descriptor.size, made, part))
        text = _modelfile(model)
        if text is not None:
            self._disk.replace(folder / names[-1], text)
            found.append(Exported(names[-1], len(text), "text"))
        for inner in {folder, *((folder / file.name).parent for file in found)}:
            self._disk.sync_folder(inner)
        return tuple(found)

    def put(self, part: Part, path: Path) -> str:
        """Make the file of one part; what it became."""
        desc = part.descriptor
        self._disk.make_folder(path.parent)
        if self._way is Way.COPY or not (part.role in _LINKED or desc.size >= _LARGE):
            made = self._copy(desc, path)
        elif self._way is Way.LINK:
            made = self._disk.hard_link(self._store.path(desc), path)
        else:
            made = self._disk.symlink(self._store.path(desc).resolve(), path)
        self._left -= desc.size
        self._observe(Settled(desc, present=False))
        return made

    def _copy(self, desc: Descriptor, path: Path) -> str:
        with self._store.fetch(desc) as stream, self._disk.create(path) as fd:
            if self._disk.cloned(stream, fd, path):
                self._store.path(desc)  # verifies what was cloned
                verify_size(desc, os.fstat(fd).st_size)
                made = "reflink"
            else:
                self._disk.require_room(path.parent, self._left)
                self._write(desc, stream, fd, path)
                made = "copy"
            self._disk.sync(fd, path)
        return made

    def _write(self, desc: Descriptor, stream: BinaryIO, fd: int, path: Path) -> None:
        hasher = hashlib.new(desc.digest.algorithm)
        arrived = 0
        while arrived <= desc.size and (chunk := stream.read(_CHUNK)):
            arrived += len(chunk)
            hasher.update(chunk)
            self._disk.write(fd, path, chunk)
            if arrived % _TOLD == 0:
                self._observe(Moved(desc, min(arrived, desc.size)))
        verify_size(desc, arrived)
        verify_digest(desc, Digest(desc.digest.algorithm, hasher.hexdigest()))


class Disk(Files):
    """The same durable steps outside a store: where they fail, the store is not to blame."""

    @contextlib.contextmanager
    def change(self, operation: str, path: Path, *details: object) -> Iterator[None]:
        """As in a store, but a failure that is to be told is told in other words."""
        try:
            with super().change(operation, path, *details):
                yield
        except OSError as error:
            if operation == "clone" or isinstance(error, FileNotFoundError):
                raise
            raise _refused(path, error) from error

    def hard_link(self, source: Path, path: Path) -> str:
        """Give a file of the store a second name."""
        with self.change("link", path, source):
            os.link(source, path)
        return "link"

    def symlink(self, source: Path, path: Path) -> str:
        """Point at a file of the store."""
        with self.change("symlink", path, source):
            path.symlink_to(source)
        return "symlink"

    def cloned(self, source: BinaryIO, fd: int, path: Path) -> bool:
        """Whether the new file has the source's bytes now, in the source's blocks."""
        with contextlib.suppress(OSError):  # of a source that is no file
            return self.clone(fd, path, source.fileno())
        return False

    def require_room(self, folder: Path, needed: int) -> None:
        """Raises StoreError unless so many bytes may be written there."""
        free = self.free(folder)
        if needed > free:
            raise StoreError(
                f"{folder.parent} has too little room: {needed:,} bytes are needed and {free:,} are"
                " free (try: --link or --symlink on the file system of the store)"
            )

    @contextlib.contextmanager
    def claimed(self, folder: Path) -> Iterator[bool]:
        """Keep a folder for oneself by its lock; False where it is another's, or locks fail."""
        if sys.platform == "win32":
            yield False
            return
        with contextlib.ExitStack() as opened:
            fds = []
            for _ in range(2):  # two descriptors, to see whether one lock keeps the other out
                with _refusing(folder):
                    fds.append(os.open(folder, _OPEN_FOLDER))
                opened.callback(os.close, fds[-1])
            is_mine = self.try_lock(fds[0], folder, exclusive=True)
            yield is_mine and not self.try_lock(fds[1], folder, exclusive=True)

    def exchange(self, draft: Path, folder: Path) -> bool:
        """Let two folders take each other's place in one step; False where the system cannot."""
        call = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
        if call is None:
            return False
        names = [os.fsencode(path) for path in (draft, folder)]
        with self.change("exchange", draft, folder):
            done: int = call(_AT_CWD, names[0], _AT_CWD, names[1], _EXCHANGE)
        return done == 0


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> StoreError:
    advice = {
        errno.EXDEV: " (it is on another file system than the store; copy or use --symlink)",
        errno.ENOTEMPTY: " (another program has just written there)",
    }
    what = error.strerror or str(error)
    return StoreError(f"writing {path}: {what}{advice.get(error.errno or 0, '')}")


def _checked(folder: Path, store: Path, *, replace: bool) -> Path:
    """The folder to make, as a path without `..`. Raises StoreError where it must not be made."""
    folder = folder.parent.resolve() / folder.name if folder.name.strip(".") else folder.resolve()
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = "a symbolic link" if folder.is_symlink() else "a file"
        raise StoreError(f"{folder} is {what}; export into a folder that is not there yet")
    store = store.resolve()
    if folder.is_relative_to(store):
        raise StoreError(f"{folder} is inside the store; export to another place")
    for taken, what in ((store, "holds the store"), (Path.cwd(), "is where this command runs")):
        if taken.is_relative_to(folder):
            raise StoreError(f"{folder} {what}; export into a folder of its own")
    if not replace and folder.is_dir() and any(folder.iterdir()):
        raise StoreError(
            f"{folder} is not empty; choose another folder (or --force: what is in it is deleted)"
        )
    return folder


def _modelfile(model: Model) -> bytes | None:
    """What makes the same model of the exported files, where files alone do not."""
    try:
        words = knowledge.engine_words(model)
        is_wanted = words or any(part.role in _ENGINE_TEXTS for part in model.parts)
        if not (is_wanted or model.template):
            return None
        commands = list(modelfile.describe(model, f"./{model.weights.name}").commands)
        for role, instruction in _COMPANIONS:
            files = (part.name for part in model.parts if part.role is role)
            commands += [modelfile.Command(instruction, f"./{name}") for name in files]
        commands += [modelfile.Command(word.upper(), text) for word, text in words.items()]
        return modelfile.render(modelfile.Modelfile(tuple(commands))).encode()
    except ModelError:  # two models, or what no Modelfile can say: the files themselves are there
        return None


@contextlib.contextmanager
def _removed_on_failure(disk: Disk, draft: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(StoreError):
            disk.remove(draft)
        raise


def _sweep(disk: Disk, folder: Path) -> None:
    """Delete what killed exports to the same folder left; what is being built is locked."""
    left = re.compile(rf"\.{re.escape(folder.name[:_MAX_STEM])}\.[0-9a-f]{{16}}\.export")
    for path, state in listing(folder.parent):
        if left.fullmatch(path.name) and stat.S_ISDIR(state.st_mode):
            with contextlib.suppress(StoreError), disk.claimed(path) as is_idle:
                if is_idle:
                    disk.remove(path)


def _install(disk: Disk, draft: Path, folder: Path, *, replace: bool) -> None:
    """Give the whole folder its name, in one step where the system can."""
    if not (replace and folder.exists()):
        disk.publish(draft, folder)
        return
    old = draft
    if not disk.exchange(draft, folder):
        old = draft.with_suffix(".old")
        disk.move(folder, old)
        try:
            disk.publish(draft, folder)
        except BaseException:
            disk.move(old, folder)
            raise
    disk.sync_folder(folder.parent)
    disk.remove(old)
