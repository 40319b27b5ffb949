"""The GGUF gate: a `Header` exists only for a file that an engine may see.

    header = Header.read(path)          # raises ModelError, which names the flaw
    header.architecture, header.parameter_size, header.quantization

The gate reads the header alone, through a bounded window, in Python; no weight is read. A file
that passes has no known way to break an engine, which is still run in a child process.
"""

import os
import stat
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from modelpm.errors import ModelError
from modelpm.model import gguf_rules
from modelpm.model.ggml import TENSOR_TYPES, file_type_name
from modelpm.model.gguf_layout import (
    STRING,
    Array,
    Tensor,
    Value,
    Window,
    read_layout,
)

MAGIC = b"GGUF"
MAX_TOKENS = 2**21
"""Tokens that are read into memory; the largest vocabularies of 2026 have 2^18."""
MAX_TOKEN_BYTES = 2**26

_PREFIX = 512
_TOKENS = "tokenizer.ggml.tokens"
_ALIENS = (
    (b"lmgg", "a GGML file of before GGUF; convert it to GGUF"),
    (b"fmgg", "a GGMF file of before GGUF; convert it to GGUF"),
    (b"tjgg", "a GGJT file of before GGUF; convert it to GGUF"),
    (b"algg", "a GGLA adapter of before GGUF; convert it to GGUF"),
    (b"FUGG", "a big-endian GGUF; modelpm and its engines read little-endian ones"),
    (b"PK\x03\x04", "a zip archive, perhaps a PyTorch checkpoint; convert it to GGUF"),
    (b"\x80\x02", "a Python pickle, which modelpm never opens"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ\x00", "compressed with xz"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x89HDF", "an HDF5 file; convert it to GGUF"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file that it points at"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"{", "a JSON document"),
)


class TokenKind(IntEnum):
    """What `tokenizer.ggml.token_type` says of a token."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Token:
    """A token that text must not be split into: its id, its bytes as stored, and its kind."""

    id: int
    text: bytes
    kind: TokenKind


@dataclass(frozen=True, slots=True)
class Header:
    """What a model file says of itself, after the gate.

    `metadata` holds scalars, strings and short arrays; a long array is an `Array`, which says
    where it is in the file. `size` is the file's bytes; `data_offset` is where tensor data begins.
    """

    version: int
    size: int
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    data_offset: int

    @classmethod
    def read(cls, path: Path) -> "Header":
        """Read and judge the header (security rules 2.5). Raises ModelError."""
        with _opened(path) as (stream, size):
            window = Window(stream, size)
            prefix = window.take(min(_PREFIX, size))
            if not prefix.startswith(MAGIC):
                raise ModelError(f"not a GGUF file: {alien(prefix)}")
            layout = read_layout(Window(stream, size, len(MAGIC)))
            start = gguf_rules.check(layout, size)
        metadata = MappingProxyType(layout.metadata)
        return cls(layout.version, size, metadata, layout.tensors, start)

    @property
    def architecture(self) -> str:
        """`general.architecture`, or "" in a file that needs none."""
        return self._text("general.architecture") or ""

    @property
    def kind(self) -> str:
        """`general.type`: `model`, `adapter`, `mmproj`, ..."""
        return self._text("general.type") or "model"

    @property
    def name(self) -> str | None:
        """`general.name`, for people."""
        return self._text("general.name")

    @property
    def parameter_count(self) -> int:
        """The elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def parameter_size(self) -> str:
        """The parameter count for people: `134.5M`, `7.2B`."""
        return humanised(self.parameter_count)

    @property
    def quantization(self) -> str:
        """`Q4_K_M`: what the file says, else the tensor type that takes most bytes, else ""."""
        number = self.metadata.get("general.file_type")
        told = file_type_name(number) if type(number) is int else None
        if told is not None:
            return told
        taken: Counter[str] = Counter()
        for tensor in self.tensors:
            kind = TENSOR_TYPES[tensor.type]
            taken[kind.name] += tensor.elements // kind.block * kind.size
        return taken.most_common(1)[0][0] if taken else ""

    @property
    def context_length(self) -> int | None:
        """Tokens that the model was trained to look back over."""
        return self.size_of("context_length")

    @property
    def embedding_length(self) -> int | None:
        """Numbers in one token's embedding."""
        return self.size_of("embedding_length")

    @property
    def block_count(self) -> int | None:
        """Layers of the network."""
        return self.size_of("block_count")

    @property
    def vocabulary(self) -> str | None:
        """`tokenizer.ggml.model`: `llama` is SentencePiece, `gpt2` byte-level BPE."""
        return self._text("tokenizer.ggml.model")

    @property
    def vocabulary_size(self) -> int:
        """Tokens; 0 where the file has none."""
        tokens = self.metadata.get(_TOKENS)
        return tokens.count if isinstance(tokens, Array) else 0

    @property
    def chat_template(self) -> str | None:
        """`tokenizer.chat_template`, in Jinja; None also for one of more than 1 MiB."""
        return self._text("tokenizer.chat_template")

    @property
    def bos(self) -> int | None:
        """The token that begins a text."""
        return self._token("bos")

    @property
    def eos(self) -> int | None:
        """The token that ends a text."""
        return self._token("eos")

    @property
    def stop_tokens(self) -> frozenset[int]:
        """Every token that ends an answer: of the text, of the turn, of the message."""
        return frozenset(
            number for name in ("eos", "eot", "eom") if (number := self._token(name)) is not None
        )

    @property
    def adds_bos(self) -> bool:
        """Whether a text is to begin with `bos`; without a word, SentencePiece ones do."""
        return self._flag("tokenizer.ggml.add_bos_token")

    @property
    def adds_space_prefix(self) -> bool:
        """Whether a text gets a space before it; without a word, SentencePiece ones do."""
        return self._flag("tokenizer.ggml.add_space_prefix")

    def size_of(self, name: str) -> int | None:
        """The whole number under `ARCHITECTURE.name`, or None."""
        value = self.metadata.get(f"{self.architecture}.{name}")
        return value if type(value) is int else None

    def _text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def _flag(self, key: str) -> bool:
        value = self.metadata.get(key)
        return value if isinstance(value, bool) else self.vocabulary == "llama"

    def _token(self, name: str) -> int | None:
        number = self.metadata.get(f"tokenizer.ggml.{name}_token_id")
        return number if type(number) is int and 0 <= number < self.vocabulary_size else None


def tokens(path: Path, header: Header) -> list[bytes]:
    """The vocabulary, as stored, by id. Raises ModelError."""
    where = header.metadata.get(_TOKENS)
    return list(strings(path, where)) if isinstance(where, Array) else []


def special_tokens(path: Path, header: Header) -> tuple[Token, ...]:
    """The control and user-defined tokens, by id. Raises ModelError."""
    where = header.metadata.get("tokenizer.ggml.token_type")
    texts = header.metadata.get(_TOKENS)
    wanted = (TokenKind.CONTROL, TokenKind.USER_DEFINED)
    if not isinstance(where, Array) or not isinstance(texts, Array):
        return ()
    count = _bounded(where).count
    with _opened(path) as (stream, size):
        raw = Window(stream, size, where.offset).take(4 * count)
    kinds = struct.unpack(f"<{count}i", raw)
    return tuple(
        Token(number, text, TokenKind(kind))
        for number, (text, kind) in enumerate(zip(strings(path, texts), kinds, strict=True))
        if kind in wanted
    )


def strings(path: Path, where: Array) -> Iterator[bytes]:
    """The strings of an array that stayed in the file. Raises ModelError."""
    if where.element_type != STRING:
        raise ModelError("the array holds no strings")
    left = MAX_TOKEN_BYTES
    with _opened(path) as (stream, size):
        for text in Window(stream, size, where.offset).strings(_bounded(where).count):
            left -= len(text)
            if left < 0:
                raise ModelError(f"the strings have more than {MAX_TOKEN_BYTES} bytes")
            yield text


def humanised(count: int) -> str:
    """A number of parameters for people: `760K`, `134.5M`, `7B`."""
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + letter
    return str(count)


def alien(prefix: bytes) -> str:
    """What a file that is no GGUF is, from its first bytes, in words."""
    if not prefix:
        return "it is empty"
    if prefix.startswith(MAGIC):
        return "it begins as GGUF does, and is too short for one: it is cut off"
    if prefix[8:10] == b'{"' and int.from_bytes(prefix[:8], "little") < 2**32:
        return "it is a safetensors file; convert it to GGUF"
    for magic, what in _ALIENS:
        if prefix.startswith(magic):
            return f"it is {what}"
    if prefix[257:262] == b"ustar":
        return "it is a tar archive"
    start = prefix.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "it is a web page, perhaps the error page of a proxy"
    if not prefix.strip(b"\0"):
        return "it begins with zeros, as a download does that was never finished"
    return f"it begins with {prefix[:4]!r}"


def _bounded(where: Array) -> Array:
    if where.count > MAX_TOKENS:
        raise ModelError(f"an array of {where.count} items; at most {MAX_TOKENS} are read")
    return where


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its size; every error, also from the block, is a ModelError with its name."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError("not a regular file")
        with path.open("rb") as stream:
            yield stream, os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise ModelError(f"reading {path}: {error.strerror or error}") from error
    except ModelError as error:
        raise ModelError(f"reading {path}: {error}") from None
