"""Which instructions and how many cores: by made-up machines."""

import os
from pathlib import Path

import pytest

from modelpm.runner import cores


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx avx2 fma f16c", "avx2"),
        ("fpu avx avx2 f16c", "avx"),
        ("fpu avx avx2 fma", "basic"),
        ("fpu sse2", "basic"),
        ("", "basic"),
    ],
)
def test_the_library_follows_the_flags(tmp_path: Path, flags: str, expected: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nvmx flags\t: avx2\nflags\t\t: {flags}\nbugs\t\t: avx2\n")
    assert cores.library(cpuinfo) == expected


def test_no_word_of_flags_lets_the_engine_choose(tmp_path: Path) -> None:
    assert cores.library(tmp_path / "missing") is None
    (tmp_path / "arm").write_text("Features : fp asimd\n")
    assert cores.library(tmp_path / "arm") is None


def machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """A root folder with a process's cgroups and their files."""
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


_V2 = "sys/fs/cgroup"
_V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {f"{_V2}/cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {f"{_V2}/cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {f"{_V2}/cpu.max": "max 100000\n"}, None),
        ("0::/\n", {f"{_V2}/cpu.max": "99999999 1\n"}, None),
        ("0::/\n", {f"{_V2}/cpu.max": "junk"}, None),
        ("0::/\n", {f"{_V2}/cpu.max": "0 0"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {f"{_V2}/a/cpu.max": "150000 100000", f"{_V2}/a/b/cpu.max": "max 1"}, 1),
        (
            "5:memory:/m\n4:cpu,cpuacct:/d\n",
            {f"{_V1}/d/cpu.cfs_quota_us": "100000", f"{_V1}/d/cpu.cfs_period_us": "100000"},
            1,
        ),
        (
            "4:cpu,cpuacct:/on/the/host\n",
            {f"{_V1}/cpu.cfs_quota_us": "100000", f"{_V1}/cpu.cfs_period_us": "100000"},
            1,
        ),
        (
            "4:cpu,cpuacct:/\n",
            {f"{_V1}/cpu.cfs_quota_us": "-1", f"{_V1}/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("nonsense\n\n::\n", {}, None),
    ],
)
def test_a_quota_limits_the_cores(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: int | None
) -> None:
    everything = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    if not everything:
        pytest.skip("no affinity and no cgroups here")
    root = machine(tmp_path, cgroup, files)
    assert cores.available(root) == min(expected or everything, everything)


def test_this_machine_has_a_core() -> None:
    assert 1 <= cores.available() <= cores.MAX_THREADS


def test_threads_that_do_not_run_are_given_up() -> None:
    pace = cores.Pace(4)
    pace.note(0.1, 0.4)
    assert pace.threads == 4
    pace.note(0.1, 0.22)  # two of four ran
    assert pace.threads == 2
    pace.note(0.1, 0.1)
    assert pace.threads == 1
    pace.note(0.1, 0.01)  # one waits for nobody
    assert pace.threads == 1


def test_a_thread_more_is_tried_later_and_later() -> None:
    pace = cores.Pace(2)
    waits = []
    for _ in range(3):
        pace.note(0.1, 0.1)
        works = 0
        while pace.threads == 1 and works < 1000:
            pace.note(0.1, 0.1)
            works += 1
        waits.append(works)
    assert waits == [32, 64, 128]


def test_after_calm_a_disturbance_is_forgotten() -> None:
    pace = cores.Pace(2)
    for _ in range(2):
        pace.note(0.1, 0.1)
        tries = 0
        while pace.threads == 1:
            pace.note(0.1, 0.1)
            tries += 1
        for _ in range(100):
            pace.note(0.1, 0.2)
        assert (pace.threads, tries) == (2, 32)


def test_what_is_too_short_tells_nothing() -> None:
    pace = cores.Pace(2)
    pace.note(0.0001, 0.0)
    assert pace.threads == 2
