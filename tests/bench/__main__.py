"""Runs the cases and prints the table: `python -m tests.bench [--size MIB] [--rounds N] [CASE…]`.

Each figure stands beside the limit that it must keep and beside the peers that are installed; `!`
marks a limit that was not kept, and then the exit status is 1. The limits are for the sizes that
the cases have by themselves. `--json FILE` writes all samples and what machine it was.
"""

import argparse
import compileall
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from docker_registry import unavailable

import modelpm
from tests.bench import creating, downloads, interruptions, local, peers, uploads
from tests.bench.measure import SUBJECT, Figure, Missing, Place, Row, RunError


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured, how many rounds, and of how many MiB if it moves any."""

    rows: Callable[[Place], Iterator[Row]]
    rounds: int
    mib: float = 0


CASES = {
    "version": Case(local.version, 10),
    "list": Case(local.list_models, 10),
    "prune": Case(local.prune, 5),
    "gate": Case(local.gate, 10),
    "first-token": Case(local.first_token, 10),
    "pull-again": Case(local.pull_again, 10),
    "create": Case(creating.create, 3, 4096),
    "many": Case(downloads.many, 5, 12.5),
    "pull": Case(downloads.pull, 5, 2048),
    "one-stream": Case(downloads.connections, 5, 2048),
    "wide": Case(downloads.wide, 3, 1024),
    "cuts": Case(interruptions.cuts, 3, 1024),
    "kills": Case(interruptions.kills, 20, 1024),
    "push": Case(uploads.push, 5, 2048),
    "push-again": Case(uploads.push_again, 10, 16),
    "push-cuts": Case(uploads.cuts, 3, 256),
}


def main(words: Sequence[str] | None = None) -> int:
    """Run what the arguments name; exit status 1 when a limit was not kept."""
    arguments = _parser().parse_args(words)
    # As pip does where it installs; the environment may keep Python from doing it by itself.
    compileall.compile_dir(Path(modelpm.__file__).parent, quiet=1)
    facts = _facts()
    for name, value in facts.items():
        print(f"{name}: {_in_words(value)}")
    print(f"\n{'case':20}{'subject':26}{'median':>15}{'limit':>9}   {'memory':9}  ratio to")
    rows: list[Row] = []
    for name in arguments.case or CASES:
        for row in _measure(name, CASES[name], arguments.size, arguments.rounds):
            rows.append(row)
            print(_line(row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(_document(facts, rows), indent=1) + "\n")
    return 0 if all(_is_good(row) for row in rows) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("case", nargs="*", choices=[[], *CASES], help="all, by default")
    parser.add_argument("--size", type=float, help="MiB of the layer that is pulled")
    parser.add_argument("--rounds", type=int, help="rounds that count; in `kills`, the kills")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    return parser


def _measure(name: str, case: Case, mib: float | None, rounds: int | None) -> Iterator[Row]:
    size = int((case.mib if mib is None else mib) * 2**20)
    if case.mib and (reason := unavailable("docker-registry")) is not None:
        yield Missing(name, "all", reason)
        return
    with tempfile.TemporaryDirectory(prefix="modelpm-bench-") as folder:
        try:
            yield from case.rows(Place(Path(folder), size, rounds or case.rounds))
        except RunError as error:
            yield Missing(name, SUBJECT, str(error), is_failure=True)


def _facts() -> dict[str, object]:
    return {
        "modelpm": modelpm.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "memory, GiB": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "peers": peers.versions(),
    }


def _document(facts: dict[str, object], rows: Sequence[Row]) -> dict[str, object]:
    return {
        "facts": facts,
        "figures": [row.to_json() for row in rows if isinstance(row, Figure)],
        "missing": [row.to_json() for row in rows if isinstance(row, Missing)],
    }


def _is_good(row: Row) -> bool:
    return row.is_met if isinstance(row, Figure) else not row.is_failure


def _line(row: Row) -> str:
    head = f"{row.case:20}{row.subject:26}"
    if isinstance(row, Missing):
        return f"{head}{'!' if row.is_failure else ' '} not measured: {row.reason}"
    kind = "worst" if row.is_worst else ""
    value = _amount(row.value, row.unit)
    limit = "" if row.limit is None else _amount(row.limit, row.unit)
    mark = " " if row.is_met else "!"
    memory = "" if row.memory is None else _amount(row.memory, "B")
    ratios = "  ".join(f"{name} {ratio:.2f}" for name, ratio in row.ratios.items())
    return f"{head}{kind:5}{value:>10}{limit:>9} {mark} {memory:>9}  {ratios}".rstrip()


def _amount(value: float, unit: str) -> str:
    match unit:
        case "s":
            return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
        case "B":
            return f"{value / 1e6:.1f} MB"
        case "ratio":
            return f"{value:.2f} x"
        case _:
            return f"{value:.0f} {unit}"


def _in_words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version or 'not here'}" for name, version in value.items())
    return str(value)


if __name__ == "__main__":
    # The temporary folders hold gigabytes: they go, and the servers end, in an orderly way.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
