"""How the committed fixtures are made: `layouts/`, one tiny artifact a writer, and `bad/`.

    python registry-fixtures/build.py [OUT]          rebuild, byte for byte the same everywhere
    python registry-fixtures/build.py --llama2 DIR   write library/llama2 as one OCI layout

No network, no clock, no chance. Nearly all layouts hold the same weights, as they are or in
archives, so a store can keep them once.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import bad
from artifact import Artifact, write_layout
from ollama_artifacts import llama2
from tiny import PARAMETERS, QUANTIZATION
from writers import WRITERS
from writers_artifacts import docker_ai, docker_ai_unnamed, modelpack_raw, ollama, oras_gguf
from writers_images import index

__all__ = [
    "LAYOUTS",
    "PARAMETERS",
    "QUANTIZATION",
    "WRITERS",
    "build",
    "docker_ai",
    "docker_ai_unnamed",
    "index",
    "main",
    "modelpack_raw",
    "ollama",
    "oras_gguf",
]

HERE = Path(__file__).resolve().parent

LAYOUTS: Mapping[str, Callable[[], Artifact]] = {
    name: writer.make for name, writer in WRITERS.items() if writer.runs
}
"""Those with the one GGUF as their weights, as it is or in an archive."""


def build(out: Path) -> None:
    """Write `layouts/` and `bad/` into a folder, in place of what they held."""
    for folder in ("layouts", "bad"):
        shutil.rmtree(out / folder, ignore_errors=True)
    for name, writer in WRITERS.items():
        write_layout(out / "layouts" / name, {"latest": writer.make()})
    (out / "bad").mkdir(parents=True)
    for name, content in bad.files().items():
        (out / "bad" / name).write_bytes(content)
    table = json.dumps([case.to_json() for case in bad.CASES], indent=1)
    (out / "bad" / "cases.json").write_text(f"{table}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Build what the arguments ask for."""
    parser = argparse.ArgumentParser(description="Rebuild the registry fixtures.")
    parser.add_argument("out", nargs="?", type=Path, default=HERE)
    parser.add_argument("--llama2", type=Path, metavar="DIR", help="write this layout instead")
    options = parser.parse_args(arguments)
    if options.llama2 is None:
        build(options.out)
    else:
        write_layout(options.llama2, llama2(HERE / "llama2"))


if __name__ == "__main__":
    main()
