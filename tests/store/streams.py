"""A source of several streams that writes down what it served, in a file that outlives a kill.

python -m tests.store.streams STORE SERVED SIZE DIGEST RATE
"""

import os
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from modelpm.content import Sink
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.store.layout import Store
from tests.memory import LAYER

STREAMS = 4
PIECE = 2**18
_BLOCK = bytes(range(256)) * (PIECE // 256 - 1)


def piece(number: int) -> bytes:
    """A piece of the content, unlike every other one."""
    return _BLOCK + number.to_bytes(256)


class Streams:
    """A Downloader that brings each missing range by several threads at a limited rate."""

    def __init__(self, served: Path, rate: float) -> None:
        self._served = os.open(served, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._pause = STREAMS * PIECE / rate if rate else 0.0

    def close(self) -> None:
        os.close(self._served)

    def fetch(self, desc: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        raise NotImplementedError

    def download(self, desc: Descriptor, sink: Sink) -> None:
        """Each missing range is cut into as many parts as there are streams."""
        todo = sink.missing()
        parts: list[list[tuple[int, int]]] = [[] for _ in range(STREAMS)]
        for start, stop in todo:
            step = max(PIECE, -(-(stop - start) // STREAMS))
            for number, position in enumerate(range(start, stop, step)):
                parts[number].append((position, min(stop, position + step)))
        threads = [threading.Thread(target=self._bring, args=(part, sink)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _bring(self, parts: list[tuple[int, int]], sink: Sink) -> None:
        for start, stop in parts:
            position = start
            while position < stop:
                number, skip = divmod(position, PIECE)
                chunk = piece(number)[skip : skip + stop - position]
                os.write(self._served, b"%d %d\n" % (position, position + len(chunk)))
                time.sleep(self._pause)
                sink.write(position, chunk)
                position += len(chunk)


def main(root: str, served: str, size: str, digest: str, rate: str) -> None:
    def observe(event: object) -> None:
        print("waiting", flush=True)

    source = Streams(Path(served), float(rate))
    print("begun", flush=True)
    Store(Path(root), observe=observe).push(
        Descriptor(LAYER, Digest.parse(digest), int(size)), source
    )
    source.close()
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
