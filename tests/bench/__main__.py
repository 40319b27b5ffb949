"""Runs the cases and prints the table: `python -m tests.bench [--size MIB] [--rounds N] [CASE…]`.

Each figure stands beside the limit that it must keep and beside the peers that are installed.
`--json FILE` writes all samples as well.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import cases
from tests.bench.measure import Figure

CASES: dict[str, Callable[[cases.Place], Iterator[Figure]]] = {
    "version": cases.version,
    "list": cases.list_models,
    "prune": cases.prune,
    "gate": cases.gate,
    "first-token": cases.first_token,
    "pull-again": cases.pull_again,
    "pull": cases.pull,
}


def main() -> int:
    """Run what the arguments name; exit status 1 when a limit was not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("case", nargs="*", choices=[[], *CASES], help="all, by default")
    parser.add_argument("--size", type=int, default=2048, help="MiB of the blob that is pulled")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    arguments = parser.parse_args()
    figures: list[Figure] = []
    print(f"{'case':14}{'subject':24}{'median':>12}  {'limit':>10}   ratio to")
    for name in arguments.case or CASES:
        with tempfile.TemporaryDirectory(prefix="modelpm-bench-") as folder:
            place = cases.Place(Path(folder), arguments.size * 2**20, arguments.rounds)
            for figure in CASES[name](place):
                figures.append(figure)
                print(_line(figure), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([figure.to_json() for figure in figures], indent=1))
    return 0 if all(figure.is_met for figure in figures) else 1


def _line(figure: Figure) -> str:
    median = _amount(figure.median, figure.unit)
    limit = "" if figure.limit is None else _amount(figure.limit, figure.unit)
    mark = " " if figure.is_met else "!"
    ratios = "  ".join(f"{name} {ratio:.2f}" for name, ratio in figure.ratios.items())
    return f"{figure.case:14}{figure.subject:24}{median:>12}  {limit:>10} {mark} {ratios}"


def _amount(value: float, unit: str) -> str:
    match unit:
        case "s":
            return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
        case "B":
            return f"{value / 1e6:.0f} MB"
        case "ratio":
            return f"{value:.2f} x"
        case _:
            return f"{value:.0f} {unit}"


if __name__ == "__main__":
    sys.exit(main())
