"""What this machine's processor gives to an engine: instructions, and cores that are ours."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_THREADS = 64
"""More threads than this make no answer faster."""

SHARE = 2**25
"""Bytes of weights that keep a thread busy between two meetings with the others."""

_TRIAL = 16  # works undisturbed until one thread more is tried; doubled when that fails


def library(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Which build of the engine this processor can run; None lets it find out (a second)."""
    flags = re.search(r"^flags\s*:(.*)$", _text(cpuinfo), re.MULTILINE)
    if flags is None:
        return None
    has = {*flags[1].split()}
    if {"avx2", "fma", "f16c"} <= has:
        return "avx2"
    return "avx" if {"avx", "f16c"} <= has else "basic"


def available(root: Path = Path("/")) -> int:
    """Cores that this process may keep busy: by affinity, and by the quotas of its cgroups."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quotas = (quota for folder in _cgroups(root) if (quota := _quota(folder)))
    return min(cores, MAX_THREADS, *quotas)


class Pace:
    """How many threads the next work gets: as many as really run at the same time.

    The threads of an engine spin while they wait for one another, so that one that is not running
    stops them all for a slice of the scheduler: on a busy machine two threads were three hundred
    times slower than one. Spinning is processor time, and processor time by the clock tells how
    many threads ran.
    """

    def __init__(self, most: int) -> None:
        self.threads = most
        self._most = most
        self._good = 0  # works in a row that were not disturbed
        self._trial = _TRIAL

    def note(self, seconds: float, processor_seconds: float) -> None:
        """Take in how long a work took, and how much of the processors."""
        if seconds < 0.001:
            return  # too short to tell
        ran = processor_seconds / seconds
        if self.threads > 1 and ran < 0.75 * self.threads:
            self.threads = max(1, min(self.threads - 1, int(ran)))
            self._good, self._trial = 0, min(2 * self._trial, 1024)
            return
        self._good += 1
        if self._good < self._trial:
            return
        self._good = 0
        if self.threads < self._most:
            self.threads += 1
        else:
            self._trial = _TRIAL  # it is calm again


def _cgroups(root: Path) -> Iterator[Path]:
    """The folders of the process's cgroups with a processor controller, and their parents."""
    for line in _text(root / "proc/self/cgroup").splitlines()[:100]:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers  # version 2 names no controllers
        folder = top / path.lstrip("/")
        yield from (each for each in (folder, *folder.parents) if each.is_relative_to(top))


def _quota(folder: Path) -> int | None:
    """Whole cores that a cgroup may use, at least one; None without a limit."""
    limit = _text(folder / "cpu.max").split() or [
        *_text(folder / "cpu.cfs_quota_us").split(),
        *_text(folder / "cpu.cfs_period_us").split(),
    ]
    try:
        quota, period = (int(each) for each in limit)
    except ValueError:  # "max", or nothing there
        return None
    return max(1, quota // period) if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(2**16)
    except OSError:
        return ""
