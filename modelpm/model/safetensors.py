"""The gate for safetensors files: a header that tells the truth about the file that it heads.

Format: the header's length in 8 bytes, little-endian; the header, a JSON object of tensors with
type, shape and place; the tensors' bytes, without a gap, to the end of the file.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from modelpm.errors import ModelError
from modelpm.oci.manifest import unique_keys

MAX_HEADER = 2**24
"""Bytes of a header that are read; fifty thousand tensors need less."""
MAX_VALUES = 2**18
"""Values in a header, counted before it is parsed: what they take in memory is bounded so."""

_LENGTH = 8
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a tensor lies: [start, stop), in bytes from the end of the header."""

    start: int
    stop: int
    name: str


def check(path: Path, name: str = "") -> None:
    """Raise ModelError, which names the flaw, unless the file is what its header says.

    Reads the header only, at most MAX_HEADER bytes of it. `name` is for the message.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            document = _header(file, size)
            room = size - file.tell()
        _check_extents(document, room)
    except OSError as error:
        raise ModelError(f"{name or path.name} cannot be read: {error.strerror}") from None
    except _FlawError as flaw:
        raise ModelError(f"{name or path.name} is no sound safetensors file: {flaw}") from None


class _FlawError(Exception):
    """What is wrong, for whoever knows the file's name."""


def _check_extents(document: dict[str, object], room: int) -> None:
    extents = sorted(_extents(document), key=lambda each: (each.start, each.stop))
    end = 0
    for extent in extents:
        name = repr(extent.name[:100])
        if extent.start != end:
            what = "a gap before" if extent.start > end else "another tensor under"
            raise _FlawError(f"there is {what} the tensor {name}")
        end = extent.stop
        if end > room:
            raise _FlawError(f"the tensor {name} ends at byte {end} of {room}: the file is cut off")
    if end != room:
        raise _FlawError(f"{room - end} bytes follow the last tensor")


def _header(file: BinaryIO, size: int) -> dict[str, object]:
    length = int.from_bytes(file.read(_LENGTH), "little")
    if size < _LENGTH or length < len("{}") or length > size - _LENGTH:
        raise _FlawError(f"it has {size} bytes, and no whole header in them")
    if length > MAX_HEADER:
        raise _FlawError(f"its header has {length} bytes; the limit is {MAX_HEADER}")
    raw = file.read(length)
    if raw.count(b",") > MAX_VALUES:
        raise _FlawError(f"its header has more than {MAX_VALUES} values")
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise _FlawError(f"its header is not JSON: {error!s:.100}") from None
    if not isinstance(document, dict):
        raise _FlawError("its header is no JSON object")
    return document


def _extents(document: dict[str, object]) -> Iterator[Extent]:
    for name, value in document.items():
        if name == "__metadata__":
            continue
        tensor = value if isinstance(value, dict) else {}
        offsets, shape = _counts(tensor.get("data_offsets")), _counts(tensor.get("shape"))
        kind = tensor.get("dtype")
        if offsets is None or shape is None or len(offsets) != 2 or not isinstance(kind, str):
            raise _FlawError(f"the tensor {name[:100]!r} has no type, shape or place")
        start, stop = offsets
        bits = prod(shape) * _BITS.get(kind, 0)
        if start > stop or (kind in _BITS and (stop - start) * 8 != bits):
            raise _FlawError(f"the tensor {name[:100]!r} has {stop - start} bytes, not {bits // 8}")
        yield Extent(start, stop, name)


def _counts(value: object) -> list[int] | None:
    """A list of numbers that a file may have, or None."""
    if not isinstance(value, list) or len(value) > 64:
        return None
    counts = [item for item in value if type(item) is int and 0 <= item < 2**63]
    return counts if len(counts) == len(value) else None
