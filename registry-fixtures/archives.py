"""Archives that are the same bytes on every machine: tar as Go writes it, gzip and zstd that store.

No compressor is asked, because each version of one may write other bytes. Sources: POSIX.1-1988
ustar; RFC 1951 and 1952; RFC 8878.
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

REGULAR, HARD_LINK, SYMLINK, FOLDER = "0", "1", "2", "5"
_BLOCK = 512
_STORED = 65_535
_ZSTD_BLOCK = 2**17


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of a tar."""

    name: str
    content: bytes = field(default=b"", repr=False)
    kind: str = REGULAR
    target: str = ""
    owner: int = 0
    time: int = 0


def tar(members: Iterable[Member]) -> bytes:
    """A ustar archive: headers, contents, two empty blocks."""
    pieces = []
    for member in members:
        pieces += [_header(member), member.content, bytes(-len(member.content) % _BLOCK)]
    return b"".join([*pieces, bytes(2 * _BLOCK)])


def gzip(content: bytes) -> bytes:
    """A gzip file of stored blocks, without a time."""
    chunks = [content[at : at + _STORED] for at in range(0, len(content), _STORED)] or [b""]
    blocks = [
        struct.pack("<BHH", chunk is chunks[-1], len(chunk), len(chunk) ^ 0xFFFF) + chunk
        for chunk in chunks
    ]
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    return head + b"".join(blocks) + struct.pack("<II", zlib.crc32(content), len(content))


def zstd(content: bytes) -> bytes:
    """A zstd frame of raw blocks, with the content's size and no checksum."""
    size = range(0, max(1, len(content)), _ZSTD_BLOCK)
    pieces = [b"\x28\xb5\x2f\xfd\xa0", struct.pack("<I", len(content))]
    for at in size:
        chunk = content[at : at + _ZSTD_BLOCK]
        last = at + _ZSTD_BLOCK >= len(content)
        pieces += [(len(chunk) << 3 | last).to_bytes(3, "little"), chunk]
    return b"".join(pieces)


def _header(member: Member) -> bytes:
    mode = 0o755 if member.kind == FOLDER else 0o644
    head = struct.pack(
        "100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x",
        member.name.encode(),
        b"%07o" % mode,
        b"%07o" % member.owner,
        b"%07o" % member.owner,
        b"%011o" % len(member.content),
        b"%011o" % member.time,
        b" " * 8,
        member.kind.encode(),
        member.target.encode(),
        b"ustar\0",
        b"00",
        b"",
        b"",
        b"%07o" % 0,
        b"%07o" % 0,
        b"",
    )
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]
