"""A SentencePiece-style vocabulary: learned by byte pair encoding, applied as llama.cpp does.

The pair of neighbours with the best score is joined first. Spaces are written `▁` and a text begins
with one. A piece never crosses the segments of `_SEGMENT`, so a text may be split there first and
each segment be encoded once. Characters without a piece become byte pieces.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

UNK, BOS, EOS = 0, 1, 2
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""The token types of `tokenizer.ggml.token_type`."""

_SEGMENT = re.compile(r"▁?(?:\[/?INST\]|<</?SYS>>|[A-Za-z]+|--|[^A-Za-z▁\s])|▁|\s")


def segments(text: str) -> list[str]:
    """The words of a text, each with the space before it."""
    return _SEGMENT.findall("▁" + text.replace(" ", "▁")) if text else []


class Vocabulary:
    """The pieces with their scores; the id of a piece is its index."""

    def __init__(self, merged: Iterable[str], characters: Iterable[str]) -> None:
        merged, characters = list(merged), list(characters)
        self.pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        self.types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256]
        self.pieces += merged + characters
        self.types += [NORMAL] * (len(merged) + len(characters))
        self.scores = [0.0] * 259 + [-float(i) for i in range(len(merged) + len(characters))]
        self._ids = {piece: i for i, piece in enumerate(self.pieces) if i >= 259}
        self._encode_segment = cache(self._merge)

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without begin and end marks."""
        return [i for segment in segments(text) for i in self._encode_segment(segment)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without control pieces and the space that stands before every text."""
        data = b"".join(self._bytes(i) for i in ids)
        return data.decode("utf-8", "replace").removeprefix(" ")

    def _bytes(self, i: int) -> bytes:
        if self.types[i] == BYTE:
            return bytes([int(self.pieces[i][3:5], 16)])
        return self.pieces[i].replace("▁", " ").encode() if self.types[i] == NORMAL else b""

    def _merge(self, segment: str) -> tuple[int, ...]:
        parts = list(segment)
        while True:
            best = min(
                (
                    (self._ids[parts[k] + parts[k + 1]], k)
                    for k in range(len(parts) - 1)
                    if parts[k] + parts[k + 1] in self._ids
                ),
                default=None,
            )
            if best is None:
                break
            k = best[1]
            parts[k : k + 2] = [parts[k] + parts[k + 1]]
        ids: list[int] = []
        for part in parts:
            ids += [self._ids[part]] if part in self._ids else [3 + b for b in part.encode()]
        return tuple(ids)


def learn(texts: Iterable[str], size: int) -> Vocabulary:
    """A vocabulary of `size` pieces for texts like these; the same one for the same texts."""
    counts = Counter(segment for text in texts for segment in segments(text) if segment != "\n")
    characters = ["▁", *map(chr, range(33, 127))]
    words = [(list(word), n) for word, n in sorted(counts.items())]
    merged: list[str] = []
    while 259 + len(merged) + len(characters) < size:
        pairs: Counter[tuple[str, str]] = Counter()
        for parts, n in words:
            for pair in pairwise(parts):
                pairs[pair] += n
        (left, right), _ = max(pairs.items(), key=lambda item: (item[1], item[0]))
        if left + right not in merged:
            merged.append(left + right)
        for parts, _ in words:
            k = 0
            while k < len(parts) - 1:
                if parts[k] == left and parts[k + 1] == right:
                    parts[k : k + 2] = [left + right]
                k += 1
    return Vocabulary(merged, characters)
