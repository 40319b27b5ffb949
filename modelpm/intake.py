"""How files and texts of a model to be enter the store, and stay until it has its name."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from modelpm.content import Moved, Observer, Settled, Step
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.store.layout import Store

OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Intake:
    """What has come in through this is not collected before `kept` ends."""

    store: Store
    kept: contextlib.ExitStack
    observe: Observer

    def adopt(self, path: Path, name: str, size: int, media_type: str = OCTETS) -> Descriptor:
        """Take in a file, telling under this name how far its hashing is. Raises as the store."""
        mark = standin(path, size, media_type)
        self.observe(Step("hashing", name, (mark,)))
        desc = self.store.adopt(
            path, media_type, self.kept, lambda count: self.observe(Moved(mark, count))
        )
        self.observe(Settled(mark, present=False))
        return desc

    def put(self, content: bytes, media_type: str = OCTETS) -> Descriptor:
        """Write a small blob."""
        desc = Descriptor.of(content, media_type)
        self.keep([desc])
        self.store.push(desc, _Bytes(content))
        return desc

    def keep(self, descs: Iterable[Descriptor]) -> None:
        """Keep what may be here already."""
        self.kept.enter_context(self.store.hold(descs))


def standin(path: Path, size: int, media_type: str = OCTETS) -> Descriptor:
    """What stands for a file while its digest is not known: the digest is that of its path."""
    return Descriptor(media_type, Digest.of(os.fsencode(path)), size)


@dataclass(frozen=True, slots=True)
class _Bytes:
    """A Fetcher of one content."""

    content: bytes = field(repr=False)

    @contextlib.contextmanager
    def fetch(self, _desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        with BytesIO(self.content[offset:]) as stream:
            yield stream
