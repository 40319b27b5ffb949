"""How a figure is taken: whole processes, in turn, several rounds; the median is what counts.

The machine may be noisy and shared: peers are run in the same rounds as modelpm, so that a ratio
compares what happened at the same time.
"""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Command = Sequence[str | Path]


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

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def is_met(self) -> bool:
        return self.limit is None or self.median <= self.limit

    def to_json(self) -> dict[str, object]:
        return {
            "case": self.case,
            "subject": self.subject,
            "unit": self.unit,
            "median": self.median,
            "samples": list(self.samples),
            "limit": self.limit,
            "met": self.is_met,
            "ratios": dict(self.ratios),
        }


def run(command: Command, environment: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end. Raises RuntimeError when it fails."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    assert process.stderr is not None
    words = process.stderr.read()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {words.decode()[-500:]}")
    return Run(time.perf_counter() - begin, usage.ru_maxrss * 1024)


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
        if not process.stdout.read(1):
            raise RuntimeError(f"{command[0]} printed nothing")
        seconds = time.perf_counter() - begin
        process.stdout.read()
    return seconds


def rounds(subjects: Mapping[str, Callable[[], Run]], count: int) -> dict[str, list[Run]]:
    """Run every subject once a round, in turn, after one round that is not counted."""
    runs: dict[str, list[Run]] = {name: [] for name in subjects}
    for number in range(count + 1):
        for name, subject in subjects.items():
            result = subject()
            if number:
                runs[name].append(result)
    return runs


def compare(case: str, runs: Mapping[str, list[Run]], limits: Mapping[str, float]) -> list[Figure]:
    """The seconds of every subject; of `modelpm` with the ratios to the others.

    `limits` are for the ratios of modelpm: `{"curl": 1.4}`; each becomes a figure of its own.
    """
    own = runs["modelpm"]
    ratios = {
        name: statistics.median(
            ours.seconds / theirs.seconds for ours, theirs in zip(own, other, strict=True)
        )
        for name, other in runs.items()
        if name != "modelpm"
    }
    figures = [
        Figure(
            case,
            name,
            "s",
            tuple(run.seconds for run in results),
            ratios=ratios if name == "modelpm" else {},
        )
        for name, results in runs.items()
    ]
    figures.extend(
        Figure(case, f"modelpm / {name}", "ratio", (ratios[name],), limit)
        for name, limit in limits.items()
        if name in ratios
    )
    return figures
