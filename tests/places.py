"""Other programs' folders of models, made as those programs make them."""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from artifact import Artifact

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40
OLD = 1_600_000_000
"""Seconds: when all of it was written; what is fresh is not believed to stay as it is."""


def ollama(root: Path, models: Mapping[str, Artifact]) -> Path:
    """Ollama's folder, with models by host/namespace/model/tag."""
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    for name, artifact in models.items():
        path = root / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(artifact.manifest)
        for digest, content in artifact.blobs.items():
            (root / "blobs" / digest.replace(":", "-")).write_bytes(content)
    return aged(root)


def hugging_face(
    root: Path, repository: str, files: Mapping[str, bytes], commit: str = COMMIT, ref: str = "main"
) -> Path:
    """A cache of huggingface_hub with one revision of a repository; large files are above 1 KB."""
    folder = root / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for inner in ("blobs", "refs"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        blob = folder / "blobs" / etag(content)
        blob.write_bytes(content)
        path = snapshot / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(blob, path.parent))
    if ref:
        (folder / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / ref).write_text(commit)
    aged(root)
    return folder


def etag(content: bytes) -> str:
    """What the hub calls a file: its sha256 above 1 KB, else git's id."""
    if len(content) > 1000:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def lm_studio(root: Path, files: Mapping[str, bytes]) -> Path:
    """LM Studio's folder, with files by publisher/model/file."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return aged(root)


def aged(root: Path) -> Path:
    """The same, written long ago."""
    for path in (root, *root.rglob("*")):
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    return root


def state(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a folder that nobody else may change: bytes, modes, times, owners, links."""
    return {
        str(path.relative_to(root)): (
            stat.S_IFMT(found.st_mode),
            found.st_mode,
            found.st_mtime_ns,
            found.st_uid,
            found.st_ino,
            path.readlink() if path.is_symlink() else None,
            path.read_bytes() if path.is_file() and not path.is_symlink() else None,
        )
        for path in sorted(root.rglob("*"))
        for found in [path.lstat()]
    }
