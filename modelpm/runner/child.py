"""The child's side: an engine that serves its parent over pipes, and can hurt only itself.

The engine's own output must not mix with the replies: what were standard input and output become
the pipes of the parent, and descriptors 0 and 1 lead nowhere. The child writes no file and dumps
no core. It ends with its parent, whatever ends that: its requests end then, and a thread waits for
it. (Linux' PR_SET_PDEATHSIG follows the thread that started the child, not the process.)
"""

import importlib
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from modelpm.errors import RunnerError
from modelpm.runner import wire
from modelpm.runner.engine import Engine, Facts, Sampling, Settings, Vocabulary

if sys.platform != "win32":
    import resource


def main(engine: str) -> NoReturn:
    """Be the child: serve an engine on the standard streams, and leave when they end."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    status = 1
    try:
        serve(importlib.import_module(engine).create(), requests, replies, lambda: os._exit(0))
        status = 0
    except BrokenPipeError:
        status = 0  # the parent is gone
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(status)


def serve(engine: Engine, requests: BinaryIO, replies: BinaryIO, leave: Callable[[], None]) -> None:
    """Answer requests until they end; then `leave` is called, in the middle of whatever runs."""
    inbox = _Inbox(requests, leave)
    threading.Thread(target=inbox.fill, daemon=True).start()
    while request := inbox.requests.get():
        try:
            for reply in _replies(engine, request, inbox):
                replies.write(wire.encode(reply))
                replies.flush()
        except RunnerError as error:
            replies.write(wire.encode({"error": str(error)[: wire.MAX_TEXT]}))
            replies.flush()


class _Inbox:
    """Takes in requests while the engine works, so that a stop and the end are seen at once."""

    def __init__(self, stream: BinaryIO, leave: Callable[[], None]) -> None:
        self.requests: queue.SimpleQueue[wire.Line | None] = queue.SimpleQueue()
        self.stopped = 0
        """The highest number of an answer that must end."""
        self._stream = stream
        self._leave = leave

    def fill(self) -> None:
        try:
            while line := self._stream.readline(wire.MAX_REQUEST + 1):
                message = wire.decode(line, wire.MAX_REQUEST)
                if "stop" in message:
                    self.stopped = message["stop"]
                else:
                    self.requests.put(message)
        finally:
            self.requests.put(None)
            self._leave()


def _replies(engine: Engine, request: wire.Line, inbox: _Inbox) -> Iterator[wire.Line]:
    if "load" in request:
        facts = request["load"]
        vocabulary = Vocabulary(**facts.pop("vocabulary"))
        _confine(facts["path"])
        engine.load(Facts(**facts, vocabulary=vocabulary), Settings(**request["settings"]))
        yield {"loaded": engine.context_length}
    elif "count" in request:
        yield {"count": engine.count(request["count"])}
    else:
        for event in engine.generate(request["prompt"], Sampling(**request["sampling"])):
            yield from wire.told(event)
            if inbox.stopped >= request["generate"]:
                engine.stop()


def _confine(path: str) -> None:
    """No core dump, no written file, and memory for this model only. Lowered for ever."""
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise RunnerError(f"cannot open the model file: {error}") from error
    if sys.platform == "win32":
        return
    # The file is mapped; beside it come the key-value cache, buffers, and stacks of threads.
    memory = 4 * size + 4 * 2**30 + (os.cpu_count() or 1) * 2**28
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_AS: memory}
    for limit, value in limits.items():
        with suppress(ValueError, OSError):  # a limit below is in force already, or is unknown
            resource.setrlimit(limit, (value, value))
