"""How a file that says something of a blob is called: `<algorithm>-<hex>`."""

import re
from collections.abc import Iterator
from pathlib import Path

from modelpm.oci.descriptor import HEX_LENGTH, Digest
from modelpm.store.files import listing

_NAME = re.compile(r"(sha256|sha512)-([a-f0-9]{64,128})")


def file_name(digest: Digest) -> str:
    """The name of the file."""
    return f"{digest.algorithm}-{digest.hex}"


def digest_of(name: str) -> Digest | None:
    """The blob that a file of this name is about; None for a name of another form."""
    match = _NAME.fullmatch(name)
    if match is None or len(match[2]) != HEX_LENGTH[match[1]]:
        return None
    return Digest(match[1], match[2])


def files_in(folder: Path) -> Iterator[tuple[Digest | None, Path, int]]:
    """Each file of a folder of such files, the blob that it is about, and its bytes.

    Raises StoreError where the folder cannot be listed.
    """
    for path, state in listing(folder):
        yield digest_of(path.name), path, state.st_size
