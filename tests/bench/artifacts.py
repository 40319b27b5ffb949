"""Artifacts of random bytes, of a told shape, put to a docker-registry without holding them."""

import hashlib
import os
from collections.abc import Iterator
from urllib.parse import urljoin

import requests
from artifact import EMPTY_TYPE, described, image
from docker_registry import DockerRegistry, put

from tests.bench.peers import Remote

_KIND = "application/octet-stream"
_TITLE = "org.opencontainers.image.title"
_PIECE = 2**20
_SECONDS = 300


def put_big(server: DockerRegistry, size: int) -> Remote:
    """One layer of so many bytes, as `bench/big`."""
    base = f"{server.url}/v2/bench/big"
    config = described(EMPTY_TYPE, b"{}")
    # Brings the config there; the layer's bytes are never in memory together.
    put(server.url, "bench/big", "empty", image(config, [], [b"{}"]))
    with requests.Session() as session:
        session.trust_env = False
        digest = _put_stream(session, base, size)
        layer = {"mediaType": _KIND, "digest": digest, "size": size}
        artifact = image(config, [layer | {"annotations": {_TITLE: "big.gguf"}}], [])
        tagged = session.put(
            f"{base}/manifests/latest",
            artifact.manifest,
            headers={"Content-Type": artifact.media_type},
            timeout=_SECONDS,
        )
        tagged.raise_for_status()
    return Remote(server.host, "bench/big", (digest,), size)


def _put_stream(session: requests.Session, base: str, size: int) -> str:
    """Put so many random bytes as a blob; the digest."""
    hasher = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for start in range(0, size, _PIECE):
            piece = os.urandom(min(_PIECE, size - start))
            hasher.update(piece)
            yield piece

    started = session.post(f"{base}/blobs/uploads/", timeout=_SECONDS)
    started.raise_for_status()
    there = urljoin(base, started.headers["Location"])
    sent = session.patch(there, data=pieces(), headers={"Content-Type": _KIND}, timeout=_SECONDS)
    sent.raise_for_status()
    digest = f"sha256:{hasher.hexdigest()}"
    there = urljoin(base, sent.headers["Location"])
    session.put(there, params={"digest": digest}, timeout=_SECONDS).raise_for_status()
    return digest


def put_many(server: DockerRegistry, count: int, size: int) -> Remote:
    """So many layers of so many bytes, named as the shards of a model, as `bench/many`."""
    contents = [os.urandom(size) for _ in range(count)]
    layers = [
        described(_KIND, content, annotations={_TITLE: f"m-{number:05}-of-{count:05}.gguf"})
        for number, content in enumerate(contents, 1)
    ]
    artifact = image(described(EMPTY_TYPE, b"{}"), layers, [b"{}", *contents])
    put(server.url, "bench/many", "latest", artifact)
    digests = tuple(str(layer["digest"]) for layer in layers)
    return Remote(server.host, "bench/many", digests, count * size)
