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
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from modelpm.errors import RunnerError
from modelpm.runner import wire
from modelpm.runner.engine import Engine, Facts, Sampling, Settings, Vocabulary

if sys.platform != "win32":
    import resource


def main(engine: str) -> NoReturn:  # pragma: no cover - only ever in a process of its own
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


def limits(path: str) -> dict[int, int]:
    """Resource limits to run a model file under. Raises RunnerError when there is none."""
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise RunnerError(f"cannot open the model file: {error}") from error
    if sys.platform == "win32":
        return {}
    # The file is mapped; beside it come the key-value cache, buffers, and stacks of threads.
    memory = 4 * size + 4 * 2**30 + (os.cpu_count() or 1) * 2**28
    return {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_AS: memory}


def confine(bounds: Mapping[int, int]) -> None:  # pragma: no cover - lowered for ever
    """Put limits in force, as far as this machine has them."""
    for limit, value in bounds.items():
        with suppress(ValueError, OSError):  # a lower one is in force already
            resource.setrlimit(limit, (value, value))


def serve(
    engine: Engine,
    requests: BinaryIO,
    replies: BinaryIO,
    leave: Callable[[], None],
    confine: Callable[[Mapping[int, int]], None] = confine,
) -> None:
    """Answer requests until they end; then `leave` is called, in the middle of whatever runs."""
    inbox = _Inbox(requests, leave)
    threading.Thread(target=inbox.fill, daemon=True).start()
    while request := inbox.requests.get():
        if "load" in request:
            answers = _load(engine, request, confine)
        elif "count" in request:
            answers = _count(engine, request)
        else:
            answers = _generate(engine, request, inbox)
        try:
            for reply in answers:
                _send(replies, reply)
        except RunnerError as error:
            _send(replies, {"error": str(error)[: wire.MAX_TEXT]})


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


def _load(
    engine: Engine, request: wire.Line, confine: Callable[[Mapping[int, int]], None]
) -> Iterator[wire.Line]:
    facts = request["load"]
    vocabulary = Vocabulary(**facts.pop("vocabulary"))
    confine(limits(facts["path"]))
    engine.load(Facts(**facts, vocabulary=vocabulary), Settings(**request["settings"]))
    yield {"loaded": engine.context_length}


def _count(engine: Engine, request: wire.Line) -> Iterator[wire.Line]:
    yield {"count": engine.count(request["count"])}


def _generate(engine: Engine, request: wire.Line, inbox: _Inbox) -> Iterator[wire.Line]:
    for event in engine.generate(request["prompt"], Sampling(**request["sampling"])):
        yield from wire.told(event)
        if inbox.stopped >= request["generate"]:
            engine.stop()


def _send(replies: BinaryIO, reply: wire.Line) -> None:
    replies.write(wire.encode(reply))
    replies.flush()
