"""What lies inside an archive, read from a stream in one pass, however hostile it is.

Source: POSIX pax ("ustar" and extended headers), GNU tar's long names, RFC 1952, RFC 8878. Only
regular files come out. Nothing is followed, and nothing is written: names are told, not used.
"""

import io
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from gzip import GzipFile
from typing import TYPE_CHECKING, BinaryIO

from modelpm.errors import ModelError
from modelpm.model.overlay import OPAQUE, WHITEOUT

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_MEMBERS = 1_000_000
"""Headers of one archive."""
MAX_NAME = 4_096
"""Characters of a name."""
MAX_DEPTH = 64
"""Folders that a file lies in."""
MAX_HEADER = 2**16
"""Bytes of one extended header; there may be MAX_EXTENSIONS of them before a file."""
MAX_EXTENSIONS = 8
SMALL = 64 * 2**20
"""Bytes up to which an archive may unpack from however little."""
MAX_RATIO = 200
"""Beyond that, how many times its packed size an archive may have. Weights hardly shrink."""
MAX_WINDOW = 2**25
"""Bytes of memory that zstd may ask for; `zstd -19` asks for a quarter of it."""

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_CHUNK = 2**18
_MAX_SIZE = 2**63 - 1
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OCTAL = re.compile(rb"[ ]*([0-7]*)[ \0]*")
_RECORD = re.compile(rb"([1-9][0-9]{0,5}) ([^=\n\0]+)=")
_DRIVE = re.compile(r"[A-Za-z]:")
_REFUSED = {
    b"1": "a hard link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"7": "a contiguous file",
    b"S": "a sparse file",
    b"M": "a part of a file",
}
_FOLDER, _LINK = b"5", b"2"


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of an archive: its bytes are `size` from `offset` on in the plain tar.

    `name` is relative, without `.` and `..`, and unlike all others; else as the archive has it.
    """

    name: str
    offset: int
    size: int


def packing(head: bytes) -> str | None:
    """How bytes that begin so are packed: `tar`, `gzip`, `zstd`, or None for neither.

    A tar is told by the checksum of its first header, so `head` has at least 512 bytes of it.
    """
    if head.startswith(_GZIP):
        return "gzip"
    if head.startswith(_ZSTD):
        return "zstd"
    return "tar" if _is_header(head[:_BLOCK]) else None


def unpacked_limit(packed_size: int) -> int:
    """Bytes that a compressed layer of this size, or all of one model, may unpack to."""
    return max(SMALL, MAX_RATIO * packed_size)


def decompressed(stream: BinaryIO, how: str, limit: int) -> "Decompressed":
    """The bytes of a `gzip` or `zstd` stream. Reading raises ModelError: damaged, or too many."""
    if how == "gzip":
        return Decompressed(GzipFile(fileobj=stream, mode="rb").read, limit)
    import zstandard  # noqa: PLC0415 - lazy: start-up time

    reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    return Decompressed(reader.stream_reader(stream, read_across_frames=True).read, limit)


class Decompressed(io.RawIOBase):
    """A stream that only goes forward, ends at a limit, and fails as a ModelError."""

    def __init__(self, read: Callable[[int], bytes], limit: int) -> None:
        super().__init__()
        self._inner = read
        self._limit = limit
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """How many bytes have been read."""
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Up to as many bytes as fit."""
        view = memoryview(buffer)
        chunk = self._read(min(len(view), _CHUNK))
        view[: len(chunk)] = chunk
        return len(chunk)

    def _read(self, count: int) -> bytes:
        try:
            chunk = self._inner(count)
        except (EOFError, zlib.error) as error:
            raise ModelError(f"the archive is damaged: {error}") from None
        except Exception as error:
            if not _is_damage(error):
                raise
            raise ModelError(f"the archive is damaged: {error}") from None
        self._position += len(chunk)
        if self._position > self._limit:
            raise ModelError(f"the archive unpacks to more than {self._limit:,} bytes; refused")
        return chunk


def members(stream: BinaryIO, size: int, below: str = "") -> Iterator[Member]:
    """The regular files of a plain tar of at most `size` bytes, in order.

    When one is given out, the stream stands at its first byte; as much of it may be read as
    is wanted. The stream must stand at its beginning, and is only ever moved forward if it cannot
    seek. Folders and symbolic links are passed over. Raises ModelError, naming the member, for
    what security rules refuse: links to other members, devices, pipes, sparse and contiguous files,
    setuid, names that lead outside, names that meet, and an archive that breaks its format.

    With `below`, only what lies in that folder counts: a whole system's files may be around it.
    Files that say what is gone of the folder (`overlay`) are among them.
    """
    tape = _Tape(stream, size)
    names = _Names()
    for _ in range(MAX_MEMBERS):
        header = tape.member()
        if header is None:
            return
        if header.is_file or header.is_refused:
            parts = _parts(header.name)
            if not below or parts[:1] == (below,) or parts in {(OPAQUE,), (WHITEOUT + below,)}:
                member = _checked(header, parts, tape)
                if not (below and parts[-1].startswith(WHITEOUT)):
                    names.add(parts, header.name)
                yield member
        tape.skip_to(header.end)
    raise ModelError(f"the archive has more than {MAX_MEMBERS:,} members; refused")


@dataclass(frozen=True, slots=True)
class _Header:
    """One member with all that was told of it; `offset` is that of its bytes."""

    name: str
    kind: bytes
    mode: int
    offset: int
    size: int
    is_sparse: bool

    @property
    def is_file(self) -> bool:
        return self.kind in {b"0", b"\0"} and not self.name.endswith("/")

    @property
    def is_refused(self) -> bool:
        return not self.is_file and self.kind not in {_FOLDER, _LINK, b"0", b"\0"}

    @property
    def end(self) -> int:
        """Where the next header begins. What is neither file nor unknown has no bytes."""
        has_bytes = self.is_file or self.kind not in {
            b"0",
            b"\0",
            b"1",
            b"2",
            b"3",
            b"4",
            b"5",
            b"6",
        }
        return self.offset + _padded(self.size if has_bytes else 0)


class _Tape:
    """A tar that is read header by header."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size
        self._seekable = stream.seekable()

    def member(self) -> _Header | None:
        """The next member; None at the end. The stream then stands at its first byte."""
        extended: dict[str, str] = {}
        for _ in range(MAX_EXTENSIONS + 1):
            block = self._take(_BLOCK)
            if not block or block == _ZEROS:
                return None
            if not _is_header(block):
                raise ModelError(f"the archive has no header at {self._stream.tell() - _BLOCK:,}")
            kind, size = block[156:157], _number(block[124:136], "size")
            if kind not in b"xgLKN" or not kind:
                return self._header(block, kind, size, extended)
            content = self._extension(size)
            if kind == b"L":
                extended["path"] = _text(content.partition(b"\0")[0])
            elif kind == b"x":
                extended |= _records(content)
            elif kind == b"g" and {"path", "size"} & _records(content).keys():
                raise ModelError("the archive gives all its members one name; refused")
        raise ModelError(f"the archive has more than {MAX_EXTENSIONS} headers in a row; refused")

    def skip_to(self, position: int) -> None:
        """Go forward. Raises ModelError where the archive ends before."""
        if self._seekable:
            if position > self._size:
                raise ModelError("the archive ends in the middle of a member")
            self._stream.seek(position)
        while (left := position - self._stream.tell()) > 0:
            if not self._stream.read(min(left, _CHUNK)):
                raise ModelError("the archive ends in the middle of a member")

    def check(self, header: _Header) -> None:
        """Raises ModelError for a file larger than the whole archive may be."""
        if header.offset + header.size > self._size:
            raise ModelError(
                f"the archive's {header.name[:200]!r} claims {header.size:,} bytes, more than the"
                " archive can have; refused"
            )

    def _header(self, block: bytes, kind: bytes, size: int, extended: dict[str, str]) -> _Header:
        name = extended.get("path")
        if name is None:
            name = _text(block[:100].partition(b"\0")[0])
            prefix = block[345:500].partition(b"\0")[0]
            if block[257:263] == b"ustar\0" and prefix:
                name = f"{_text(prefix)}/{name}"
        if "size" in extended:
            size = _decimal(extended["size"])
        is_sparse = any(key.startswith("GNU.sparse") for key in extended)
        mode = _number(block[100:108], "mode")
        return _Header(name, kind, mode, self._stream.tell(), size, is_sparse)

    def _extension(self, size: int) -> bytes:
        if size > MAX_HEADER:
            raise ModelError(f"the archive has an extended header of {size:,} bytes; refused")
        return self._take(_padded(size))[:size]

    def _take(self, count: int) -> bytes:
        """So many bytes, or none at the end. Raises ModelError for some."""
        chunks = []
        left = count
        while left and (chunk := self._stream.read(left)):
            chunks.append(chunk)
            left -= len(chunk)
        if left and chunks:
            raise ModelError("the archive ends in the middle of a header")
        return b"".join(chunks)


@dataclass(slots=True)
class _Names:
    """The names of files and of the folders that they lie in, as any file system compares them.

    Only their hashes are kept, so that a million names take little memory.
    """

    files: set[int] = field(default_factory=set)
    folders: set[int] = field(default_factory=set)

    def add(self, parts: tuple[str, ...], name: str) -> None:
        """Raises ModelError for a name that meets another one."""
        keys = [unicodedata.normalize("NFC", part).casefold() for part in parts]
        paths = [hash(tuple(keys[:count])) for count in range(1, len(keys) + 1)]
        folders, path = paths[:-1], paths[-1]
        if path in self.files or path in self.folders or self.files.intersection(folders):
            raise ModelError(
                f"the archive's {name[:200]!r} meets another of its names, if only on some file"
                " systems; refused"
            )
        self.files.add(path)
        self.folders.update(folders)


def _checked(header: _Header, parts: tuple[str, ...], tape: _Tape) -> Member:
    """The member, if it is one that may be. Raises ModelError."""
    what = _REFUSED.get(header.kind) if header.is_refused else None
    if header.is_refused and what is None:
        what = f"of the unknown kind {header.kind!r}"
    if header.is_sparse:
        what = "a sparse file"
    if header.mode & 0o6000:
        what = "a file that runs as somebody else (setuid)"
    told = header.name
    if not what and (
        not parts
        or ".." in parts
        or len(parts) > MAX_DEPTH
        or len(told) > MAX_NAME
        or told[0] in "/\\"
        or "\0" in told
        or _DRIVE.match(told)
    ):
        what = "no name of a file inside it"
    if what:
        raise ModelError(f"the archive's {told[:200]!r} is {what}; refused")
    tape.check(header)
    return Member("/".join(parts), header.offset, header.size)


def _parts(name: str) -> tuple[str, ...]:
    """The components of a name; a backslash parts them too, as it does on some systems."""
    return tuple(part for part in re.split(r"[/\\]", name) if part not in {"", "."})


def _is_header(block: bytes) -> bool:
    """Whether the checksum fits: that of all bytes, with spaces in its own place."""
    match = _OCTAL.fullmatch(block[148:156])
    if len(block) < _BLOCK or match is None or not match[1]:
        return False
    told = int(match[1], 8)
    rest = block[:148] + b" " * 8 + block[156:]
    signed = sum(rest) - 256 * sum(byte > 127 for byte in rest)
    return told in {sum(rest), signed}


def _number(raw: bytes, what: str) -> int:
    """An octal number, or a binary one where the first bit is set. Raises ModelError."""
    if raw[0] == 0x80:
        value = int.from_bytes(raw[1:], "big")
    else:
        match = _OCTAL.fullmatch(raw)
        value = int(match[1] or b"0", 8) if match else -1
    if not 0 <= value <= _MAX_SIZE:
        raise ModelError(f"the archive has a member of no valid {what}")
    return value


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _MAX_SIZE):
        raise ModelError("the archive has a member of no valid size")
    return int(text)


def _records(content: bytes) -> dict[str, str]:
    """The records `LENGTH KEY=VALUE` of an extended header. Raises ModelError."""
    found: dict[str, str] = {}
    position = 0
    while position < len(content):
        match = _RECORD.match(content, position)
        end = position + int(match[1]) if match else 0
        if match is None or end > len(content) or end <= match.end() or content[end - 1] != 10:
            raise ModelError("the archive has an extended header that breaks its format")
        found[_text(match[2])] = _text(content[match.end() : end - 1])
        position = end
    return found


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _is_damage(error: Exception) -> bool:
    """Whether a decompressor says that its input is bad (gzip's errors are OSErrors)."""
    return type(error).__name__ in {"BadGzipFile", "ZstdError"}
