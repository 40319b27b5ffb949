"""What bytes are, by how they begin."""

import archives
import pytest
from tiny import safetensors

from modelpm.model.magic import PEEK, Kind, head, kind_of
from tests.model.archives import tar
from tests.model.artifacts import GGUF, OCTETS, Memory


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (GGUF, Kind.GGUF),
        (GGUF[:23], None),
        (safetensors("a"), Kind.SAFETENSORS),
        (safetensors("a")[:20], None),
        (b"\x02" + bytes(7) + b"{}", Kind.SAFETENSORS),
        (b"\x01" + bytes(7) + b"{}", None),
        (archives.gzip(b"x"), Kind.GZIP),
        (archives.zstd(b"x"), Kind.ZSTD),
        (tar({"a": b"b"}), Kind.TAR),
        (b"", None),
        (b"# README", None),
        (bytes(600), None),
    ],
)
def test_a_kind_is_told(content: bytes, kind: Kind | None) -> None:
    assert kind_of(content[:PEEK], len(content)) is kind


def test_a_head_is_short_and_whole() -> None:
    memory = Memory()
    assert head(memory.put(b"x" * 2_000, OCTETS), memory) == b"x" * PEEK
    assert head(memory.put(b"ab", OCTETS), memory) == b"ab"
