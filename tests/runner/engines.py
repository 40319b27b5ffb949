"""Engines that do as they are told, in a child or not: the prompt is an order."""

import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator

from modelpm.errors import RunnerError
from modelpm.runner import ctransformers
from modelpm.runner.engine import Evaluated, Event, Facts, Finished, Piece, Sampling, Settings

if sys.platform != "win32":
    import resource


def create() -> "Puppet":
    return Puppet()


def hang() -> str:
    """Wait longer than any test does, but not for ever."""
    time.sleep(60)
    return "awake"


def crash() -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return hang()


def leave() -> str:
    os.write(2, b"goodbye\xff\n" * 1000)
    os._exit(3)


def fail() -> str:
    raise KeyError("a bug")


def refuse() -> str:
    raise RunnerError("will not")


def make_noise() -> str:
    for descriptor in (1, 2):
        os.write(descriptor, b'{"finished": "noise"}\n' * 10_000)
    print("more noise")
    return "quiet"


def answer_nonsense(words: bytes) -> str:
    """Write to the parent what the protocol does not have."""
    for descriptor in range(3, 10):
        try:
            os.write(descriptor, words)
        except OSError:
            continue
    return hang()


def close_everything() -> str:
    os.closerange(3, 10)
    return hang()


def limits() -> str:
    kinds = (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_AS)
    return repr([resource.getrlimit(kind)[0] for kind in kinds])


def modules() -> str:
    ctransformers.create()
    return repr(sorted(sys.modules))


ORDERS: dict[str, Callable[[], str]] = {
    "hang": hang,
    "crash": crash,
    "leave": leave,
    "fail": fail,
    "refuse": refuse,
    "noise": make_noise,
    "close": close_everything,
    "limits": limits,
    "modules": modules,
    "environment": lambda: repr(dict(os.environ)),
    "flags": lambda: repr((sys.flags.isolated, sys.flags.no_site, os.getsid(0) == os.getpid())),
    "long": lambda: "日😀" * 50_000,
    "no json": lambda: answer_nonsense(b"junk\n"),
    "no object": lambda: answer_nonsense(b"[]\n"),
    "no event": lambda: answer_nonsense(b'{"text": 3}\n'),
    "no number": lambda: answer_nonsense(b'{"count": -1, "evaluated": ["x", null]}\n'),
    "deep": lambda: answer_nonsense(b"[" * 50_000 + b"\n"),
    "endless": lambda: answer_nonsense(b"x" * 70_000),
}


class Puppet:
    """Obeys the name of a model at `load`, and else the prompt; else answers with it."""

    context_length = 0

    def __init__(self) -> None:
        self._stopping = False

    def load(self, facts: Facts, settings: Settings) -> None:
        ORDERS.get(facts.name, str)()
        self.context_length = settings.context_length or facts.context_length

    def count(self, prompt: str) -> int:
        if prompt == "slow":
            time.sleep(0.5)
        ORDERS.get(prompt, str)()
        return len(prompt)

    def generate(self, prompt: str, sampling: Sampling) -> Generator[Event, None, None]:
        self._stopping = False
        yield Evaluated(1, 2)
        if prompt == "slow":
            yield from self._slow()
            return
        said = ORDERS[prompt]() if prompt in ORDERS else f"{prompt} {sampling.seed}"
        yield Piece(said)
        yield Piece("")
        yield Finished("stop", 2, 1, len(said), 0.5, 0.25)

    def _slow(self) -> Iterator[Event]:
        for n in range(2_000):
            if self._stopping:
                yield Finished("stopped", 2, 1, n, 0.5, 0.25)
                return
            time.sleep(0.01)
            yield Piece("x")
        raise RunnerError("nobody stopped it")

    def stop(self) -> None:
        self._stopping = True

    def close(self) -> None:
        self.context_length = 0
