"""What this machine's processor gives to an engine: instructions, and cores that are ours."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_THREADS = 64
"""More threads than this make no answer faster."""


def library(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Which build of the engine this processor can run; None lets it find out (a second)."""
    try:
        with cpuinfo.open("rb") as file:
            flags = re.search(rb"^flags\s*:(.*)$", file.read(2**16), re.MULTILINE)
    except OSError:
        return None
    has = {*flags[1].split()} if flags else set()
    if {b"avx2", b"fma", b"f16c"} <= has:
        return "avx2"
    return "avx" if {b"avx", b"f16c"} <= has else "basic"


def available(root: Path = Path("/")) -> int:
    """Cores that this process may keep busy: by affinity, and by the quotas of its cgroups."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quotas = (quota for folder in _cgroups(root) if (quota := _quota(folder)))
    return max(1, min(cores, MAX_THREADS, *(int(quota) for quota in quotas)))


def _cgroups(root: Path) -> Iterator[Path]:
    """The folders of the process's cgroups with a processor controller, and their parents."""
    for line in _text(root / "proc/self/cgroup").splitlines()[:100]:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers  # version 2 has no controllers here
        folder = top / path.lstrip("/")
        yield from (each for each in (folder, *folder.parents) if each.is_relative_to(top))


def _quota(folder: Path) -> float | None:
    limit = _text(folder / "cpu.max").split() or [
        *_text(folder / "cpu.cfs_quota_us").split(),
        *_text(folder / "cpu.cfs_period_us").split(),
    ]
    try:
        quota, period = (int(each) for each in limit)
    except ValueError:  # "max", or nothing there
        return None
    return max(1.0, quota / period) if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(2**16)
    except OSError:
        return ""
