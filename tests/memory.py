"""A Target that keeps everything in memory, and the making of graphs to put into it."""

import contextlib
import io
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from modelpm.content import Fetcher, Sink, verify_digest, verify_size
from modelpm.errors import NotFoundError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import OCI_INDEX, OCI_MANIFEST, Manifest, is_manifest

CONFIG = "application/vnd.example.config.v1+json"
LAYER = "application/vnd.example.layer.v1"


class Memory:
    """Content by digest, and names; what was fetched, pushed and held is counted."""

    def __init__(self) -> None:
        self.content: dict[Digest, bytes] = {}
        self.names: dict[str, Descriptor] = {}
        self.fetched: list[tuple[Digest, int]] = []
        self.pushed: list[Digest] = []
        self.held: Counter[Digest] = Counter()

    def resolve(self, reference: str) -> Descriptor:
        for name, desc in self.names.items():
            if reference in (name, str(desc.digest)):
                return desc
        raise NotFoundError(f"memory has no {reference}")

    def referrers(self, subject: Descriptor) -> Iterable[Descriptor]:
        for desc in self.names.values():
            found = Manifest.parse(self.content[desc.digest]).subject
            if found is not None and found.digest == subject.digest:
                yield desc

    @contextlib.contextmanager
    def fetch(self, desc: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        self.fetched.append((desc.digest, offset))
        if desc.digest not in self.content:
            raise NotFoundError(f"memory has no {desc.digest}")
        yield io.BytesIO(self.content[desc.digest][offset:])

    def exists(self, desc: Descriptor) -> bool:
        return len(self.content.get(desc.digest, b"\0" * (desc.size + 1))) == desc.size

    def push(self, desc: Descriptor, source: Fetcher) -> None:
        if self.exists(desc):
            return
        with source.fetch(desc) as stream:
            content = b""
            while len(content) <= desc.size and (chunk := stream.read(2**16)):
                content += chunk
        verify_size(desc, len(content))
        verify_digest(desc, Digest.of(content, desc.digest.algorithm))
        self.content[desc.digest] = content
        self.pushed.append(desc.digest)

    def tag(self, desc: Descriptor, reference: str) -> None:
        if desc.digest not in self.content:
            raise NotFoundError(f"memory has no {desc.digest}")
        self.names[reference] = desc

    @contextlib.contextmanager
    def hold(self, descs: Iterable[Descriptor]) -> Iterator[None]:
        digests = [desc.digest for desc in descs]
        self.held.update(digests)
        try:
            yield
        finally:
            self.held.subtract(digests)

    # Making content.

    def leaf(
        self, content: bytes, media_type: str = LAYER, algorithm: str = "sha256"
    ) -> Descriptor:
        """Put a blob in."""
        desc = Descriptor(media_type, Digest.of(content, algorithm), len(content))
        self.content[desc.digest] = content
        return desc

    def image(
        self, *layers: bytes | Descriptor, config: bytes = b"{}", subject: Descriptor | None = None
    ) -> Descriptor:
        """Put an image manifest in, with its config and layers."""
        document: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.leaf(config, CONFIG).to_json(),
            "layers": [
                (self.leaf(layer) if isinstance(layer, bytes) else layer).to_json()
                for layer in layers
            ],
        }
        if subject is not None:
            document["subject"] = subject.to_json()
        return self.leaf(json.dumps(document).encode(), OCI_MANIFEST)

    def index(self, *children: Descriptor) -> Descriptor:
        """Put an index of these manifests in."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [child.to_json() for child in children],
        }
        return self.leaf(json.dumps(document).encode(), OCI_INDEX)

    def graph(self, root: Descriptor) -> dict[Digest, Descriptor]:
        """All that a manifest needs, by digest, itself included."""
        found = {root.digest: root}
        if is_manifest(root):
            for desc in Manifest.parse(self.content[root.digest], root.media_type).successors:
                found |= self.graph(desc)
        return found


class Scattered(Memory):
    """What another memory has, brought by several threads in pieces that are in no order."""

    def __init__(self, content: dict[Digest, bytes], piece: int, threads: int) -> None:
        super().__init__()
        self.content = content
        self.piece = piece
        self.threads = threads
        self.pause = 0.0
        """Seconds after each piece."""

    def download(self, desc: Descriptor, sink: Sink) -> None:
        todo = [
            (position, min(stop, position + self.piece))
            for start, stop in sink.missing()
            for position in range(start, stop, self.piece)
        ]
        random.Random(desc.size).shuffle(todo)
        failures: list[BaseException] = []

        def work() -> None:
            with contextlib.suppress(IndexError):
                while not failures:
                    start, stop = todo.pop()
                    try:
                        sink.write(start, self.content[desc.digest][start:stop])
                        time.sleep(self.pause)
                    except BaseException as error:  # noqa: BLE001 - it is raised below
                        failures.append(error)

        others = [threading.Thread(target=work) for _ in range(self.threads - 1)]
        for thread in others:
            thread.start()
        work()
        for thread in others:
            thread.join()
        if failures:
            raise failures[0]


def random_graph(memory: Memory, chance: random.Random, pool: Sequence[bytes]) -> Descriptor:
    """A manifest over layers from the pool: an image, an index, or an index of indexes."""

    def image() -> Descriptor:
        layers = [chance.choice(pool) for _ in range(chance.randrange(5))]
        return memory.image(*layers, config=chance.choice(pool))

    def index(depth: int) -> Descriptor:
        children = [
            index(depth - 1) if depth and chance.random() < 0.4 else image()
            for _ in range(chance.randrange(4))
        ]
        return memory.index(*children)

    return image() if chance.random() < 0.5 else index(2)
