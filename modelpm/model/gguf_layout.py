"""How the bytes of a GGUF header follow one another, and reading them through a bounded window.

Source: ggml's gguf.md; versions 2 and 3, little-endian. A count or a length is compared with what
is left of the file before anything is allocated for it. What this file raises is a ModelError that
says the flaw; whoever opened the file adds its name.
"""

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import length_hint
from typing import BinaryIO

from modelpm.errors import ModelError

MAX_ENTRIES = 65_536
"""Keys, and tensors."""
MAX_NAME = 65_535
MAX_STRING = 16 * 2**20
MAX_ITEMS = 64 * 2**20
MAX_DIMENSIONS = 4

MAX_SHORT = 1_024
"""Arrays of more items stay in the file."""
MAX_TEXT = 2**20
"""Strings of more bytes stay in the file."""
MAX_KEPT = 4 * 2**20
"""Bytes of names, strings and short arrays that one header may bring into memory."""

UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9

ALIGNMENT = "general.alignment"
VOCABULARY = frozenset(
    f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type", "merges")
)
"""Arrays that stay in the file however short they are: their bytes are wanted as they are."""

_CHUNK = 2**18
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_COUNTS = struct.Struct("<QQ")
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    UINT32: "I",
    INT32: "i",
    FLOAT32: "f",
    BOOL: "B",
    10: "Q",
    11: "q",
    12: "d",
}
"""Value types that have one size, as struct writes them."""
_LEAST_PAIR = 13
_LEAST_TENSOR = 24
_COST = 64


@dataclass(frozen=True, slots=True)
class Array:
    """An array that stays in the file: `count` items, the first at byte `offset`.

    A string over MAX_TEXT stays there too, as an array of one string.
    """

    element_type: int
    count: int
    offset: int


Scalar = bool | int | float | str
Value = Scalar | tuple[Scalar, ...] | Array


@dataclass(frozen=True, slots=True)
class Tensor:
    """One row of the tensor table; `offset` counts from where the tensor data begins.

    `shape` has the fastest dimension first, as ggml writes it.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the header says, read but not judged; `stop` is the byte after its last."""

    version: int
    metadata: dict[str, Value]
    tensors: tuple[Tensor, ...]
    stop: int


class Window:
    """Reads forward through a file of a known size, with one chunk in memory at a time."""

    def __init__(self, stream: BinaryIO, size: int, offset: int = 0) -> None:
        self._stream = stream
        self._size = size
        self._chunk = b""
        self._at = 0
        self._start = offset
        stream.seek(offset)

    @property
    def offset(self) -> int:
        """The byte of the file that comes next."""
        return self._start + self._at

    @property
    def left(self) -> int:
        """Bytes from here to the end of the file."""
        return self._size - self.offset

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self._fill(count)
        self._at += count
        return self._chunk[self._at - count : self._at]

    def number(self, form: struct.Struct) -> int:
        """The next unsigned number."""
        (value,) = form.unpack(self.take(form.size))
        return int(value)

    def length(self, limit: int = MAX_STRING) -> int:
        """The length of the string that comes next; it is inside the file."""
        length = self.number(_U64)
        if length > limit:
            raise ModelError(f"a string of {length} bytes; the limit is {limit}")
        if length > self.left:
            raise ModelError(f"a string at byte {self.offset} ends after the file; it is cut")
        return length

    def strings(self, count: int) -> Iterator[bytes]:
        """The strings that come next. Nothing else may be read before they have all been."""
        unpack = _U64.unpack_from
        while count > 0:
            self._fill(8)
            chunk, at = self._chunk, self._at
            last = len(chunk) - 8
            while at <= last and count > 0:
                stop = at + 8 + unpack(chunk, at)[0]
                if stop > len(chunk):
                    break
                yield chunk[at + 8 : stop]
                at = stop
                count -= 1
            self._at = at
            if count > 0:
                yield self.take(self.length())
                count -= 1

    def skip(self, count: int) -> None:
        """Go over the next bytes without reading more than the chunk that they end in."""
        if count > self.left:
            raise ModelError(f"{count} bytes at byte {self.offset} end after the file; it is cut")
        self._at += count
        if self._at > len(self._chunk):
            self._start += self._at
            self._chunk, self._at = b"", 0
            self._stream.seek(self._start)

    def skip_strings(self, count: int) -> None:
        """Go over strings. The hot loop of the gate: 300,000 strings in a large vocabulary.

        A length past the limit leads out of the chunk, so it is enough to look at lengths there.
        """
        unpack = _U64.unpack_from
        while count > 0:
            self._fill(8)
            chunk = self._chunk
            at = start = self._at
            length = 0
            turns = iter(range(count))
            try:
                for _ in turns:
                    (length,) = unpack(chunk, at)
                    at += 8 + length
                count = 0
            except (struct.error, OverflowError):
                count = length_hint(turns) + 1
            if length > MAX_STRING:
                raise ModelError(f"a string of {length} bytes; the limit is {MAX_STRING}")
            self.skip(at - start)

    def _fill(self, count: int) -> None:
        if count > self.left:
            raise ModelError(f"{count} bytes at byte {self.offset} end after the file; it is cut")
        missing = self._at + count - len(self._chunk)
        if missing > 0:
            more = self._stream.read(max(missing, _CHUNK))
            if len(more) < missing:
                raise ModelError("the file became shorter while it was read")
            self._chunk = self._chunk[self._at :] + more
            self._start += self._at
            self._at = 0


def read_layout(window: Window) -> Layout:
    """Read a header from behind the magic. Raises ModelError."""
    version = window.number(_U32)
    if version not in (2, 3):
        raise ModelError(_strange_version(version))
    tensors, pairs = _COUNTS.unpack(window.take(_COUNTS.size))
    _check_count("tensors", tensors, _LEAST_TENSOR, window.left)
    _check_count("keys", pairs, _LEAST_PAIR, window.left)
    parser = _Parser(window)
    metadata = parser.metadata(pairs)
    return Layout(version, metadata, tuple(parser.tensors(tensors)), window.offset)


def _strange_version(version: int) -> str:
    if version == 1:
        return "GGUF version 1, which no engine reads any more; convert the model again"
    if version in (2 << 24, 3 << 24):
        return "a big-endian GGUF; modelpm and its engines read little-endian ones"
    return f"GGUF version {version}; modelpm reads 2 and 3"


def _check_count(what: str, count: int, least: int, left: int) -> None:
    if count > MAX_ENTRIES:
        raise ModelError(f"{count} {what}; the limit is {MAX_ENTRIES}")
    if count * least > left:
        raise ModelError(f"{count} {what} do not fit into the {left} bytes that follow")


class _Parser:
    """Reads keys and tensors, and pays for what it keeps out of MAX_KEPT."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._kept = 0

    def metadata(self, count: int) -> dict[str, Value]:
        pairs: dict[str, Value] = {}
        for _ in range(count):
            key = self._name("key")
            if key in pairs:
                raise ModelError(f"the key {key[:100]!r} stands there twice")
            pairs[key] = self._value(key)
        return pairs

    def tensors(self, count: int) -> Iterator[Tensor]:
        seen = set()
        for _ in range(count):
            name = self._name("tensor")
            if name in seen:
                raise ModelError(f"the tensor {name[:100]!r} stands there twice")
            seen.add(name)
            dimensions = self._window.number(_U32)
            if not 1 <= dimensions <= MAX_DIMENSIONS:
                raise ModelError(f"the tensor {name[:100]!r} has {dimensions} dimensions")
            form = f"<{dimensions}QIQ"
            *shape, kind, offset = struct.unpack(form, self._window.take(struct.calcsize(form)))
            yield Tensor(name, tuple(shape), kind, offset)

    def _keep(self, cost: int) -> None:
        self._kept += cost
        if self._kept > MAX_KEPT:
            raise ModelError(f"more than {MAX_KEPT} bytes of metadata beside the long arrays")

    def _name(self, what: str) -> str:
        length = self._window.length(MAX_NAME)
        self._keep(length)
        raw = self._window.take(length)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise ModelError(f"the {what} {raw[:100]!r} is not UTF-8") from None

    def _value(self, key: str) -> Value:
        kind = self._window.number(_U32)
        if key == ALIGNMENT and kind != UINT32:
            raise ModelError(f"{ALIGNMENT} has the type {kind} instead of uint32")
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            raise ModelError(f"the key {key[:100]!r} has the unknown type {kind}")
        (value,) = self._numbers(kind, 1)
        if kind != BOOL:
            return value
        if value not in (0, 1):
            raise ModelError(f"the key {key[:100]!r} is a boolean of {value}")
        return bool(value)

    def _string(self) -> str | Array:
        offset = self._window.offset
        length = self._window.length()
        if length > MAX_TEXT:
            self._window.skip(length)
            return Array(STRING, 1, offset)
        self._keep(length)
        return self._window.take(length).decode("utf-8", "replace")

    def _array(self, key: str) -> Value:
        window = self._window
        kind, count = window.number(_U32), window.number(_U64)
        if kind != STRING and kind not in _SCALARS:
            problem = "of arrays" if kind == ARRAY else f"of the unknown type {kind}"
            raise ModelError(f"the key {key[:100]!r} is an array {problem}")
        least = 8 if kind == STRING else struct.calcsize(_SCALARS[kind])
        if count > MAX_ITEMS or count * least > window.left:
            raise ModelError(f"the key {key[:100]!r} has {count} items, more than fit or may be")
        array = Array(kind, count, window.offset)
        if count <= MAX_SHORT and key not in VOCABULARY:
            self._keep(count * _COST)
            return self._items(array)
        skip: Callable[[int], None] = window.skip_strings if kind == STRING else window.skip
        skip(count if kind == STRING else count * least)
        return array

    def _items(self, array: Array) -> tuple[Scalar, ...]:
        if array.element_type == STRING:
            return tuple(map(self._item, range(array.count)))
        numbers = self._numbers(array.element_type, array.count)
        return tuple(map(bool, numbers)) if array.element_type == BOOL else numbers

    def _numbers(self, kind: int, count: int) -> tuple[int | float, ...]:
        form = f"<{count}{_SCALARS[kind]}"
        return struct.unpack(form, self._window.take(struct.calcsize(form)))

    def _item(self, _index: int) -> str:
        length = self._window.length()
        self._keep(length)
        return self._window.take(length).decode("utf-8", "replace")
