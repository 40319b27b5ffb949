"""How a figure is taken: whole processes, in turn, several rounds; the median is what counts.

The machine may be noisy and shared: peers are run in the same rounds as modelpm, so that a ratio
compares what happened at the same time. Each round begins with another subject.
"""

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import launcher

Command = Sequence[str | Path]

SUBJECT = "modelpm"
"""The subject that is compared with the others."""

RUN_SECONDS = 900
"""After which a command is ended, and has failed."""

MODELPM = Path(sys.executable).with_name("modelpm")
MEMORY_LIMIT = 100e6


class RunError(Exception):
    """A command did not end well, or not in time."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a case may work, and how hard: the bytes of what is moved, the rounds."""

    folder: Path
    size: int
    rounds: int

    @property
    def mib(self) -> str:
        """The size in words."""
        return f"{self.size / 2**20:.4g} MiB"


@dataclass(frozen=True, slots=True)
class Run:
    """One process from its start to its end: wall seconds and the peak of its memory in bytes."""

    seconds: float
    memory: int


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured for one subject of a case, in `unit`, over the rounds."""

    case: str
    subject: str
    unit: str
    samples: tuple[float, ...]
    limit: float | None = None
    """What must not be exceeded, in the same unit."""
    ratios: Mapping[str, float] = field(default_factory=dict)
    """The median of (this subject / that subject), taken round by round."""
    is_worst: bool = False
    """Whether the limit is for the worst of the samples, not for their median."""
    memory: int | None = None
    """The peak of memory in bytes over all rounds, where the samples are seconds of processes."""

    @property
    def value(self) -> float:
        """What stands in the table and is held against the limit."""
        return max(self.samples) if self.is_worst else statistics.median(self.samples)

    @property
    def is_met(self) -> bool:
        return self.limit is None or self.value <= self.limit

    def to_json(self) -> dict[str, object]:
        return {
            "case": self.case,
            "subject": self.subject,
            "unit": self.unit,
            "kind": "worst" if self.is_worst else "median",
            "value": self.value,
            "samples": list(self.samples),
            "limit": self.limit,
            "met": self.is_met,
            "ratios": dict(self.ratios),
            "memory": self.memory,
        }


@dataclass(frozen=True, slots=True)
class Missing:
    """A subject that was not measured, and why."""

    case: str
    subject: str
    reason: str
    is_failure: bool = False
    """Whether it should have been: then a limit was not kept either."""

    def to_json(self) -> dict[str, object]:
        return {
            "case": self.case,
            "subject": self.subject,
            "reason": self.reason,
            "failure": self.is_failure,
        }


Row = Figure | Missing


@dataclass(frozen=True, slots=True)
class Rounds:
    """The runs of every subject, one a round; what failed in a round was left out from there on."""

    case: str
    runs: Mapping[str, Sequence[Run]]
    failures: Sequence[Missing]


def run(
    command: Command,
    environment: Mapping[str, str] | None = None,
    *,
    timeout: float = RUN_SECONDS,
) -> Run:
    """Run a command to its end. Raises RunError when it fails or takes too long."""
    words = [str(word) for word in command]
    with subprocess.Popen(
        [sys.executable, "-I", "-S", launcher.__file__, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
        text=True,
        errors="replace",
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException as error:
            # It leads a session of its own: it is ended with all that it has started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise RunError(f"{words[0]} took longer than {timeout} s") from None
            raise
    errors = " ".join(errors.split())[-500:]
    if process.returncode:
        raise RunError(f"{words[0]} cannot be run: {errors}")
    status, seconds, memory = output.split()
    if status != "0":
        raise RunError(f"{words[0]} ended with {status}: {errors}")
    return Run(float(seconds), int(memory))


def first_byte(command: Command, environment: Mapping[str, str]) -> float:
    """Seconds from the start of a process to the first byte that it prints."""
    begin = time.perf_counter()
    with subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        guard = threading.Timer(RUN_SECONDS, process.kill)
        guard.start()
        try:
            if not process.stdout.read(1):
                raise RunError(f"{command[0]} printed nothing")
            seconds = time.perf_counter() - begin
            process.stdout.read()
        finally:
            guard.cancel()
    return seconds


def rounds(case: str, subjects: Mapping[str, Callable[[], Run]], count: int) -> Rounds:
    """Run every subject once a round, in turn, after one round that is not counted.

    A subject that fails is left out; when it is modelpm, there is nothing to compare: RunError.
    """
    runs: dict[str, list[Run]] = {name: [] for name in subjects}
    failures: list[Missing] = []
    for number in range(count + 1):
        names = list(runs)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            try:
                result = subjects[name]()
            except RunError as error:
                if name == SUBJECT:
                    raise
                failures.append(Missing(case, name, str(error)))
                del runs[name]
                continue
            if number:
                runs[name].append(result)
    return Rounds(case, runs, failures)


def seconds(measured: Rounds, *, limit: float | None = None) -> Iterator[Row]:
    """The seconds of every subject; the limit is for modelpm."""
    for subject, results in measured.runs.items():
        own = limit if subject == SUBJECT else None
        yield of_runs(measured.case, subject, results, limit=own)
    yield from measured.failures


def compare(measured: Rounds, limits: Mapping[str, float]) -> Iterator[Row]:
    """The seconds of every subject; of modelpm with the ratios to the others, and its memory.

    `limits` are for the ratios: `{"curl": 1.4}`; each becomes a figure of its own.
    """
    case, own = measured.case, measured.runs[SUBJECT]
    ratios = {
        name: tuple(ours.seconds / theirs.seconds for ours, theirs in zip(own, other, strict=True))
        for name, other in measured.runs.items()
        if name != SUBJECT
    }
    medians = {name: statistics.median(each) for name, each in ratios.items()}
    for name, results in measured.runs.items():
        yield of_runs(case, name, results, ratios=medians if name == SUBJECT else {})
    for name, limit in limits.items():
        if name in ratios:
            yield Figure(case, f"{SUBJECT} / {name}", "ratio", ratios[name], limit)
    yield memory(case, f"{SUBJECT} memory", own)
    yield from measured.failures


def of_runs(
    case: str,
    subject: str,
    runs: Sequence[Run],
    *,
    limit: float | None = None,
    ratios: Mapping[str, float] | None = None,
) -> Figure:
    """The seconds of these runs."""
    samples = tuple(run.seconds for run in runs)
    peak = max(run.memory for run in runs)
    return Figure(case, subject, "s", samples, limit, ratios or {}, memory=peak)


def memory(case: str, subject: str, runs: Sequence[Run]) -> Figure:
    """The memory of these runs, against what any pull may take."""
    samples = tuple(float(run.memory) for run in runs)
    return Figure(case, subject, "B", samples, MEMORY_LIMIT, is_worst=True)
