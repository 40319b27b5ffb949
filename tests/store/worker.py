"""One process among several that use a store: a program that tests start and talk to by lines.

    python -m tests.store.worker STORE ACTION WORDS...

It prints one line a happening, and where it pauses it waits for a line.
"""

import contextlib
import io
import random
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from modelpm.content import Event, Settled, Waiting
from modelpm.errors import ModelPMError, NotFoundError, StoreError
from modelpm.oci.descriptor import Descriptor
from modelpm.store.files import Files
from modelpm.store.layout import Store
from modelpm.transfer import copy
from tests.memory import Memory, Scattered, random_graph

BIG = b"0123456789abcdef" * 2**17  # two megabytes, so two chunks
SMALL = b"small"

source = Memory()
PAIR = source.image(BIG, SMALL)
_saying = threading.Lock()
_chance = random.Random(7)
_pool = [bytes([number]) * _chance.choice([0, 10, 5_000, 90_000]) for number in range(12)]
scattered = Scattered(source.content, 20_000, 2)
MODELS = [random_graph(source, _chance, _pool) for _ in range(6)]
NAMES = [f"localhost/model:{number}" for number in range(5)]


class Broken(Files):
    """Files on a file system whose locks are granted to everybody."""

    def try_lock(self, fd: int, path: Path, *, exclusive: bool) -> bool:
        return True


class Pausing(Memory):
    """The source, but the big blob stops after its first chunk until a line comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.content = source.content

    @contextlib.contextmanager
    def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        with super().fetch(desc, offset) as stream:
            yield _Stop(stream.read()) if desc.size == len(BIG) else stream


class _Stop(io.BytesIO):
    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads == 2:
            say("paused")
            sys.stdin.readline()
        return super().read(size)


def say(*words: object) -> None:
    with _saying:  # or the pieces of two threads' lines get mixed
        print(*words, flush=True)


def tell(event: Event) -> None:
    if isinstance(event, Waiting):
        say("waiting", event.reason)
    elif isinstance(event, Settled):
        say("settled", event.descriptor.digest, "present" if event.present else "new")


def pull(store: Store, name: str, where: Memory = source, root: Descriptor = PAIR) -> None:
    """One pull, which ends by telling at which offsets the big blob was asked for."""
    copy(where, store, root, tag=lambda: store.tag(root, name), observe=tell)
    offsets = [offset for digest, offset in where.fetched if source.content[digest] == BIG]
    say("done", *offsets)


def soak(store: Store, seed: int, steps: int, *, may_sweep: bool = True) -> None:
    """Random verbs. A verb may not find its name; nothing else may go wrong."""
    chance = random.Random(seed)
    sources = (source, scattered)
    if seed % 2:  # these keep a journal of the smallest blob, and flush it early
        store._blobs.small, store._blobs.flush_bytes = 0, 30_000
    for _ in range(steps):
        name, other = chance.sample(NAMES, 2)
        verb = chance.choice(["pull", "pull", "rm", "cp", "prune", "list", "check"])
        if verb == "pull":
            root = chance.choice(MODELS)
            copy(chance.choice(sources), store, root, tag=partial(store.tag, root, name))
        elif verb == "rm":
            store.untag({name})
        elif verb == "cp":
            try:
                store.copy(name, other)
            except NotFoundError:
                pass
            except StoreError as error:  # it was removed and swept in between
                if "cannot get a name" not in str(error):
                    raise
        elif verb == "prune" and may_sweep:
            store.sweep(store.garbage())
        elif verb == "check":
            problems = store.check()
            if problems:
                raise AssertionError(problems)
        else:
            store.entries()
    say("done")


def main(folder: str, action: str, *words: str) -> None:
    store = Store(Path(folder), files=Broken() if "broken" in words else Files(), observe=tell)
    if "impatient" in words:
        store._blobs.patience = 0.5
    try:
        if action == "pull":
            pull(store, words[0], Pausing() if "pausing" in words else source)
        elif action == "prepare":
            store.prepare()
        elif action == "prune":
            store.sweep(store.garbage())
        elif action == "names":
            for number in range(int(words[1])):
                store.copy("localhost/model:tag", f"localhost/{words[0]}:{number}")
        elif action == "soak":
            soak(store, int(words[0]), int(words[1]), may_sweep="broken" not in words)
    except ModelPMError as error:
        say("failed", type(error).__name__, error)
        raise


if __name__ == "__main__":
    main(*sys.argv[1:])
