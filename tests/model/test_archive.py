"""What comes out of archives of every kind, and what hostile ones are refused for."""

import gzip
import io
import random
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from typing import BinaryIO, cast

import pytest
import zstandard

from modelpm.errors import ModelError
from modelpm.model import archive
from modelpm.model.archive import Member, decompressed, members, packing

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def entry(name: str, content: bytes = b"", **told: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member for `tar`; `told` are attributes of its header."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in told.items():
        setattr(info, key, value)
    return info, content


def tar(*entries: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.GNU_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=kind) as opened:
        for info, content in entries:
            opened.addfile(info, io.BytesIO(content))
    return target.getvalue()


def header(
    name: bytes = b"x", size: bytes = b"0", kind: bytes = b"0", mode: bytes = b"644"
) -> bytes:
    """One header block with a right checksum, and whatever fields."""
    block = bytearray(512)
    for start, value in ((0, name), (100, mode), (124, size), (156, kind), (257, b"ustar\x0000")):
        block[start : start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def pax(*records: tuple[str, str], kind: bytes = b"x") -> bytes:
    content = b""
    for key, value in records:
        record = f" {key}={value}\n".encode()
        size = len(record) + 1
        while len(str(size)) + len(record) != size:
            size = len(str(size)) + len(record)
        content += str(size).encode() + record
    return header(size=b"%o" % len(content), kind=kind) + padded(content)


class Pipe:
    """A stream that only goes forward, in pieces of odd sizes."""

    def __init__(self, content: bytes, piece: int = 700) -> None:
        self._inner = io.BytesIO(content)
        self._piece = piece

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self._inner.tell()

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(min(size, self._piece) if size >= 0 else self._piece)


def found(content: bytes, below: str = "", size: int | None = None) -> list[Member]:
    """What comes out, whether the stream can seek or not."""
    size = len(content) if size is None else size
    one = list(members(io.BytesIO(content), size, below))
    other = list(members(cast("BinaryIO", Pipe(content)), size, below))
    assert one == other
    return one


def names(content: bytes, below: str = "") -> list[str]:
    return [member.name for member in found(content, below)]


# What is read.


@pytest.mark.parametrize("kind", FORMATS)
def test_files_come_out_with_their_places(kind: int) -> None:
    long_name = "folder/" * 12 + "name.txt"
    files = {"model.gguf": b"GGUF" * 1_000, "config.json": b"{}", long_name: b"x", "empty": b""}
    content = tar(*(entry(name, inner) for name, inner in files.items()), kind=kind)
    got = {m.name: content[m.offset : m.offset + m.size] for m in found(content)}
    assert got == files


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read(kind: int) -> None:
    name = "é" * 60 + "/" + "ü" * 90
    assert names(tar(entry(name, b"x"), kind=kind)) == [name]


def test_what_is_no_file_is_passed_over() -> None:
    content = tar(
        entry("./", type=tarfile.DIRTYPE),
        entry("models/", type=tarfile.DIRTYPE, mode=0o2755),
        entry("models/model.file", type=tarfile.SYMTYPE, linkname="../../etc/passwd"),
        entry("./models//model.gguf", b"GGUF"),
    )
    assert names(content) == ["models/model.gguf"]


def test_an_old_tar_without_a_magic_is_one() -> None:
    old = bytearray(header(b"a/", kind=b"\0") + header(b"a/b", size=b"3 ", kind=b"\0"))
    for start in (0, 512):
        block = old[start : start + 512]
        block[257:265], block[148:156] = bytes(8), b" " * 8
        block[148:155] = b"%06o\0" % sum(block)
        old[start : start + 512] = block
    content = bytes(old) + padded(b"abc") + bytes(1024)
    assert found(content) == [Member("a/b", 1024, 3)]
    assert packing(content) == "tar"


def test_a_checksum_of_signed_bytes_fits() -> None:
    block = bytearray(header("é".encode()))
    block[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    block[148:155] = b"%06o\0" % signed
    assert names(bytes(block)) == ["é"]


def test_a_size_may_be_binary_or_in_an_extended_header() -> None:
    binary = header(b"a", b"\x80" + (3).to_bytes(11, "big")) + padded(b"abc")
    told = pax(("size", "4"), ("mtime", "1.5")) + header(b"b", b"0") + padded(b"abcd")
    assert found(binary + told) == [Member("a", 512, 3), Member("b", 2560, 4)]


def test_a_global_comment_says_nothing() -> None:
    assert names(pax(("comment", "c0ffee"), kind=b"g") + header(b"a")) == ["a"]


def test_what_follows_the_end_is_not_looked_at() -> None:
    content = header(b"a") + bytes(1024) + b"garbage" * 100
    assert names(content) == ["a"]
    assert names(header(b"a")) == ["a"]
    assert names(bytes(10_240)) == []
    assert names(b"") == []


def test_in_an_image_only_one_folder_counts() -> None:
    content = tar(
        entry("bin/su", b"x", mode=0o4755),
        entry("bin/sh", type=tarfile.LNKTYPE, linkname="bin/busybox"),
        entry("dev/null", type=tarfile.CHRTYPE),
        entry("modelsx/other", b"x"),
        entry("models/model.gguf", b"GGUF"),
        entry("bin/sh", b"again"),
    )
    assert names(content, "models") == ["models/model.gguf"]
    with pytest.raises(ModelError, match="su"):
        found(content)
    linked = tar(entry("models/a", type=tarfile.LNKTYPE, linkname="etc/passwd"))
    with pytest.raises(ModelError, match="hard link"):
        found(linked, "models")


def test_what_is_gone_of_the_one_folder_is_told() -> None:
    told = ["models/.wh.old", "models/a/.wh..wh..opq", ".wh.models", ".wh..wh..opq"]
    others = [".wh.bin", "etc/.wh.models", ".wh..wh.plnk/1"]
    content = tar(*(entry(name, b"") for name in [*told, *others]))
    assert names(content, "models") == told
    assert names(content) == [*told, *others]
    twice = tar(entry("models/.wh.a", b""), entry("models/.wh.a", b""))
    assert names(twice, "models") == ["models/.wh.a"] * 2


def test_a_body_may_be_read_or_left() -> None:
    content = tar(entry("a", b"a" * 3_000), entry("b", b"b" * 3_000), entry("c", b"c"))
    stream = cast("BinaryIO", Pipe(content))
    taken = []
    for member in members(stream, len(content)):
        wanted = {"a": 3_000, "b": 10, "c": 0}[member.name]
        got = b""
        while len(got) < wanted:
            got += stream.read(wanted - len(got))
        taken.append(got)
    assert taken == [b"a" * 3_000, b"b" * 10, b""]


@pytest.mark.parametrize("seed", range(40))
def test_random_archives_give_what_was_put_in(seed: int) -> None:
    chance = random.Random(seed)
    kind = chance.choice(FORMATS)
    files = {
        "/".join(
            f"{number}-{'n' * chance.randrange(1, 40)}" for _ in range(chance.randint(1, 2))
        ): (chance.randbytes(chance.choice([0, 1, 511, 512, 513, 9_000])))
        for number in range(chance.randrange(12))
    }
    content = tar(*(entry(*item) for item in files.items()), kind=kind)
    got = {m.name: content[m.offset : m.offset + m.size] for m in found(content)}
    assert got == files


# What is refused.

HOSTILE: dict[str, tuple[bytes, str]] = {
    "parent": (tar(entry("../x", b"x")), "no name"),
    "parent inside": (tar(entry("a/../../x", b"x")), "no name"),
    "parent at first": (tar(entry("./../x", b"x")), "no name"),
    "parent at last": (tar(entry("a/..", b"x")), "no name"),
    "absolute": (pax(("path", "/etc/passwd")) + header(), "no name"),
    "backslashes": (tar(entry("..\\x", b"x")), "no name"),
    "share": (tar(entry("\\\\host\\x", b"x")), "no name"),
    "drive": (tar(entry("C:x", b"x")), "no name"),
    "drive with a slash": (tar(entry("c:/x", b"x")), "no name"),
    "nul": (pax(("path", "a\0b")) + header(), "no name"),
    "empty name": (header(b""), "no name"),
    "dot": (header(b"."), "no name"),
    "too deep": (tar(entry("a/" * 70 + "b")), "no name"),
    "too long": (tar(entry("a" * 5_000)), "no name"),
    "hard link": (tar(entry("a", type=tarfile.LNKTYPE, linkname="b")), "'a' is a hard link"),
    "character device": (tar(entry("a", type=tarfile.CHRTYPE)), "a device"),
    "block device": (tar(entry("a", type=tarfile.BLKTYPE)), "a device"),
    "pipe": (tar(entry("a", type=tarfile.FIFOTYPE)), "a named pipe"),
    "contiguous": (tar(entry("a", type=tarfile.CONTTYPE)), "a contiguous file"),
    "old sparse": (header(b"a", kind=b"S"), "a sparse file"),
    "sparse": (pax(("GNU.sparse.major", "1")) + header(b"a"), "a sparse file"),
    "part": (header(b"a", kind=b"M"), "a part of a file"),
    "unknown": (header(b"a", kind=b"Z"), "unknown kind"),
    "no kind": (header(b"a", kind=b"8"), "unknown kind"),
    "setuid": (tar(entry("a", mode=0o4755)), "somebody else"),
    "setgid": (tar(entry("a", mode=0o2755)), "somebody else"),
    "twice": (tar(entry("a", b"1"), entry("a", b"2")), "'a' meets"),
    "twice by a dot": (tar(entry("a", b"1"), entry("./a", b"2")), "meets"),
    "case twins": (tar(entry("Model.gguf"), entry("model.GGUF")), "meets"),
    "composed twins": (tar(entry("e\u0301"), entry("\u00e9")), "meets"),
    "twins in folders": (tar(entry("A/x"), entry("a/x")), "meets"),
    "file as a folder": (tar(entry("a"), entry("a/b")), "meets"),
    "folder as a file": (tar(entry("a/b"), entry("A")), "meets"),
    "global path": (pax(("path", "x"), kind=b"g") + header(), "one name"),
    "negative size": (header(size=b"\xff" * 12), "no valid size"),
    "huge size": (header(size=b"\x80" + b"\xff" * 11), "no valid size"),
    "size of letters": (header(size=b"12x4"), "no valid size"),
    "negative told size": (pax(("size", "-1")) + header(), "no valid size"),
    "long told size": (pax(("size", "9" * 30)) + header(), "no valid size"),
    "huge told size": (pax(("size", "9" * 19)) + header(), "no valid size"),
    "mode of letters": (header(mode=b"rw"), "no valid mode"),
    "larger than the archive": (header(b"a", b"77777") + bytes(1024), "claims"),
    "cut body": (header(b"a", b"2000") + bytes(512), "claims"),
    "cut padding": (header(b"a", b"1") + b"x", "middle of a member"),
    "cut header": (header(b"a")[:300], "middle of a header"),
    "no checksum": (header(b"a") + b"x" * 512, "no header at 512"),
    "huge extension": (header(size=b"777777777", kind=b"x"), "extended header of"),
    "cut extension": (pax(("comment", "x" * 900))[:1024], "middle of a header"),
    "extensions in a row": (pax(("comment", "x")) * 9 + header(b"a"), "in a row"),
    "record without length": (header(size=b"4", kind=b"x") + padded(b"a=b\n"), "breaks its format"),
    "record too long": (header(size=b"6", kind=b"x") + padded(b"99 a=b\n"), "breaks its format"),
    "record too short": (header(size=b"6", kind=b"x") + padded(b"3 a=b\n"), "breaks its format"),
    "record without end": (header(size=b"6", kind=b"x") + padded(b"6 a=bc"), "breaks its format"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused(name: str) -> None:
    content, why = HOSTILE[name]
    with pytest.raises(ModelError, match=why):
        list(members(io.BytesIO(content), len(content)))
    with pytest.raises(ModelError, match=why):
        list(members(cast("BinaryIO", Pipe(content)), len(content)))


def test_a_member_past_the_end_of_a_stream_is_found() -> None:
    content = header(b"a", b"2000") + bytes(512)
    with pytest.raises(ModelError, match="middle of a member"):
        list(members(cast("BinaryIO", Pipe(content)), 10_000))


def test_members_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    assert len(found(b"".join(header(name) for name in (b"a", b"b")))) == 2
    with pytest.raises(ModelError, match="more than 3 members"):
        found(b"".join(header(b"%d" % number) for number in range(4)))


@pytest.mark.parametrize("seed", range(200))
def test_mutations_give_files_or_an_error(seed: int) -> None:
    chance = random.Random(seed)
    content = bytearray(
        tar(
            entry("a" * 60 + "/" + "b" * 60, b"x" * 700),
            entry("b/c", b"y"),
            kind=chance.choice(FORMATS),
        )
    )
    for _ in range(chance.randint(1, 4)):
        block = chance.randrange(len(content) // 512) * 512
        content[block + chance.randrange(512)] = chance.randrange(256)
        if chance.random() < 0.7:
            content[block + 148 : block + 156] = b" " * 8
            content[block + 148 : block + 155] = b"%06o\0" % sum(content[block : block + 512])
    try:
        for member in members(io.BytesIO(content), len(content)):
            assert member.offset + member.size <= len(content)
            assert ".." not in member.name.split("/")
    except ModelError:
        pass


# Compression.


def squeeze_gzip(content: bytes) -> bytes:
    return gzip.compress(content)


def squeeze_zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


SQUEEZE: dict[str, Callable[[bytes], bytes]] = {"gzip": squeeze_gzip, "zstd": squeeze_zstd}


def plain(packed: bytes, how: str, size: int | None = None) -> bytes:
    stream = decompressed(
        io.BytesIO(packed), how, archive.unpacked_limit(len(packed) if size is None else size)
    )
    content = b""
    while chunk := stream.read(2**16):
        content += chunk
    assert stream.tell() == len(content)
    assert not stream.seekable()
    assert stream.readable()
    return content


@pytest.mark.parametrize("how", SQUEEZE)
def test_compressed_streams_are_read(how: str) -> None:
    content = tar(entry("a", random.Random(1).randbytes(300_000)), entry("b", b"b"))
    packed = SQUEEZE[how](content)
    assert packing(packed) == how
    assert plain(packed, how) == content
    in_two = SQUEEZE[how](content[:1_000]) + SQUEEZE[how](content[1_000:])
    assert plain(in_two, how) == content
    stream = decompressed(io.BytesIO(packed), how, archive.unpacked_limit(len(packed)))
    got = list(members(cast("BinaryIO", stream), archive.unpacked_limit(len(packed))))
    assert [(member.name, member.size) for member in got] == [("a", 300_000), ("b", 1)]


@pytest.mark.parametrize("how", SQUEEZE)
@pytest.mark.parametrize("flaw", ["cut", "changed", "garbage"])
def test_damage_is_a_model_error(how: str, flaw: str) -> None:
    packed = bytearray(SQUEEZE[how](random.Random(1).randbytes(100_000)))
    if flaw == "cut":
        del packed[-50_000:]
    elif flaw == "changed":
        packed[9:14] = b"\xff" * 5
    else:
        packed += b"garbage that is no further member"
    if (how, flaw) == ("zstd", "cut"):
        assert len(plain(bytes(packed), how)) < 100_000  # the tar in it says that it was cut
        return
    with pytest.raises(ModelError, match="damaged"):
        plain(bytes(packed), how)


@pytest.mark.parametrize("how", SQUEEZE)
def test_a_bomb_ends_at_the_limit(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "SMALL", 10_000)
    packed = SQUEEZE[how](bytes(20_000_000))
    stream = decompressed(io.BytesIO(packed), how, archive.unpacked_limit(len(packed)))
    tracemalloc.start()
    with pytest.raises(ModelError, match="unpacks to more than"):
        list(iter(lambda: stream.read(2**20)[:1], b""))
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert archive.unpacked_limit(1) == 10_000
    assert archive.unpacked_limit(1_000) == 1_000 * archive.MAX_RATIO
    at_limit = SQUEEZE[how](random.Random(2).randbytes(10_000))
    assert len(plain(at_limit, how, 1)) == 10_000


def test_a_window_that_takes_too_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    stream = compressor.compressobj()
    packed = stream.compress(b"x" * 1_000) + stream.flush()
    with pytest.raises(ModelError, match="damaged"):
        plain(packed, "zstd")


def test_a_failing_source_is_not_called_damage() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        decompressed(Failing(), "gzip", 10).read(1)


@pytest.mark.parametrize(
    ("head", "how"),
    [
        (tar(entry("a")), "tar"),
        (b"\x1f\x8b" + bytes(600), "gzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "zstd"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(600), None),
        (struct.pack("<Q", 100) + b'{"__metadata__":{}}' + b" " * 600, None),
        (bytes(1024), None),
        (b"", None),
        (tar(entry("a"))[:511], None),
    ],
)
def test_bytes_tell_how_they_are_packed(head: bytes, how: str | None) -> None:
    assert packing(head) == how
