"""Drafts as killed processes leave them: the holed file, and the journal that speaks of it."""

import hashlib
import struct
import zlib
from pathlib import Path

from modelpm.oci.descriptor import Descriptor
from modelpm.store.files import Files
from modelpm.store.ingest import journal_path

OTHER_BOOT = b"another start of the machine"
Range = tuple[int, int]


def record(kind: bytes, start: int, stop: int) -> bytes:
    """One record of a journal, spelled out: kind, start, stop, CRC 32."""
    content = struct.pack("<4sQQ", kind, start, stop)
    return content + struct.pack("<I", zlib.crc32(content + b"\0\0\0\0"))


def boot_record(boot: bytes) -> bytes:
    first, second = struct.unpack("<QQ", hashlib.sha256(boot).digest()[:16])
    return record(b"boot", first, second)


def journal(*written: Range, synced: tuple[Range, ...] = (), boot: bytes | None = None) -> bytes:
    """What a process of this start of the machine, or of another, had noted."""
    return (
        boot_record(Files().boot_id() if boot is None else boot)
        + b"".join(record(b"writ", *each) for each in written)
        + b"".join(record(b"sync", *each) for each in synced)
    )


def make_draft(
    path: Path,
    content: bytes,
    *written: Range,
    synced: tuple[Range, ...] = (),
    boot: bytes | None = None,
) -> None:
    """A draft of `content`, of which these ranges arrived and all else is a hole."""
    with path.open("wb") as stream:
        for start, stop in (*written, *synced):
            stream.seek(start)
            stream.write(content[start:stop])
        stream.truncate(len(content))
    journal_path(path).write_bytes(journal(*written, synced=synced, boot=boot))


def draft_path(root: Path, desc: Descriptor) -> Path:
    """Where the draft of a blob lies in the store below `root`."""
    return root / "ingest" / f"{desc.digest.algorithm}-{desc.digest.hex}"
