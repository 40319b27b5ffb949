"""Archives in memory, looked into as a store does after it has unpacked them."""

import gzip
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field

import archives

from modelpm.content import Packed
from modelpm.oci.descriptor import Descriptor
from tests.model.artifacts import OCTETS, Memory


def tar(files: Mapping[str, bytes]) -> bytes:
    """An archive of these files by name."""
    return archives.tar(archives.Member(name, content) for name, content in files.items())


@dataclass
class Unpacking(Memory):
    """A Memory that takes the files out of its archives when it is asked what is in them."""

    asked: list[Descriptor] = field(default_factory=list)

    def unpacked(self, layer: Descriptor) -> tuple[Packed, ...] | None:
        """The regular files of a layer; None for one that is no archive."""
        self.asked.append(layer)
        content = _plain(self.content[layer.digest])
        if content[257:262] != b"ustar":
            return None
        found = []
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isreg() else None
                if stream is not None:
                    found.append(Packed(member.name, self.put(stream.read(), OCTETS)))
        return tuple(found)


def _plain(content: bytes) -> bytes:
    if content.startswith(b"\x1f\x8b"):
        return gzip.decompress(content)
    if not content.startswith(b"\x28\xb5\x2f\xfd"):
        return content
    at, plain, is_last = 9, b"", 0
    while not is_last:  # raw blocks only, as the fixtures have them
        head = int.from_bytes(content[at : at + 3], "little")
        size, is_last = head >> 3, head & 1
        plain += content[at + 3 : at + 3 + size]
        at += 3 + size
    return plain
