"""How each program brings an artifact to this machine, and which of them are here."""

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tests.bench.measure import MODELPM, SUBJECT, Command, Missing, Run, run

_PROGRAMS = {
    "curl": ["curl", "--version"],
    "openssl": ["openssl", "version"],
    "skopeo": ["skopeo", "--version"],
    "oras": ["oras", "version"],
    "crane": ["crane", "version"],
    "docker-registry": ["docker-registry", "--version"],
    "nginx": ["nginx", "-v"],
}
"""Programs of the machine, and how each tells its version."""

_NEEDS = {"curl | sha256": ("curl", "openssl")}
"""What a subject needs, where it is not what its command begins with."""

_ORAS_PY = """
import sys
import oras.client
host, repository, folder = sys.argv[1:]
client = oras.client.OrasClient(hostname=host, insecure=True)
client.pull(target=f"{host}/{repository}:latest", outdir=folder)
"""


@dataclass(frozen=True, slots=True)
class Remote:
    """An artifact `latest` in a repository of a registry, its one big layer or its many."""

    host: str
    repository: str
    layers: tuple[str, ...]
    size: int
    """Bytes of the layers together."""

    @property
    def name(self) -> str:
        return f"{self.host}/{self.repository}"

    @property
    def urls(self) -> list[str]:
        """Where the layers are."""
        return [f"http://{self.host}/v2/{self.repository}/blobs/{each}" for each in self.layers]


def whole_artifact(remote: Remote, out: Path) -> dict[str, Command]:
    """The programs that know manifests, into the folder `out`."""
    host, repository = remote.host, remote.repository
    return {
        SUBJECT: modelpm(remote, out),
        "skopeo": [
            *("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false"),
            *(f"docker://{remote.name}:latest", f"oci:{out}:x"),
        ],
        "oras": ["oras", "pull", "--plain-http", "-o", out, f"{remote.name}:latest"],
        "oras-py": [sys.executable, "-c", _ORAS_PY, host, repository, out],
        "crane": ["crane", "pull", "--insecure", "--format=oci", f"{remote.name}:latest", out],
    }


def modelpm(remote: Remote, out: Path, *options: str) -> Command:
    """`modelpm pull` into a store of its own below `out`."""
    return [MODELPM, "--home", out / "store", "pull", *options, remote.name]


def one_stream(remote: Remote, out: Path) -> dict[str, Command]:
    """curl, for an artifact of one layer: as it is, made durable, and verified."""
    (url,) = remote.urls
    file = out / "blob"
    shell = {
        "curl": f"exec curl -sf -o {file} {url}",
        "curl; sync": f"curl -sf -o {file} {url} && sync {file}",
        "curl | sha256": f"curl -sf {url} | tee {file} | openssl dgst -sha256",
    }
    return {name: ["sh", "-c", words] for name, words in shell.items()}


def ranges(remote: Remote, out: Path, count: int = 8) -> Command:
    """One curl that brings a layer in as many parts at once, each into a file of its own."""
    (url,) = remote.urls
    part = -(-remote.size // count)
    words: list[str] = ["curl", "-Z", "--parallel-immediate", "-sf"]
    for number in range(count):
        span = f"{number * part}-{min((number + 1) * part, remote.size) - 1}"
        again = ["--next", "-sf"] if number else []
        words += [*again, "-r", span, "-o", f"{out}/part{number}", url]
    return words


def curl_parallel(remote: Remote, out: Path, config: Path) -> Command:
    """One curl that brings all layers, from a config file that is written here."""
    lines = [
        f'url = "{url}"\noutput = "{out}/{number}"\n' for number, url in enumerate(remote.urls)
    ]
    config.write_text("".join(lines))
    return ["curl", "-sf", "--parallel", "-K", config]


def installed(
    case: str, commands: Mapping[str, Command]
) -> tuple[dict[str, Command], list[Missing]]:
    """Those whose programs are here, and a word about the others."""
    here: dict[str, Command] = {}
    missing: list[Missing] = []
    for name, command in commands.items():
        default = "curl" if name.startswith("curl") else str(command[0])
        absent = [each for each in _NEEDS.get(name, (default,)) if not shutil.which(each)]
        if absent:
            missing.append(Missing(case, name, f"{' and '.join(absent)} is not on this machine"))
        else:
            here[name] = command
    return here, missing


def fresh(out: Path, command: Command) -> Callable[[], Run]:
    """Run the command into an empty folder on a calm disk; neither is measured."""

    def once() -> Run:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        calm()
        return run(command)

    return once


def calm() -> None:
    """Let the disk finish what it was given before something is measured."""
    os.sync()


def all_fresh(out: Path, commands: Mapping[str, Command]) -> dict[str, Callable[[], Run]]:
    """`fresh` of each."""
    return {name: fresh(out, command) for name, command in commands.items()}


@functools.cache
def takes_connections() -> bool:
    """Whether this modelpm has `pull --connections`."""
    done = subprocess.run(
        [MODELPM, "pull", "--help"], capture_output=True, check=True, text=True, timeout=60
    )
    return "--connections" in done.stdout


def versions() -> dict[str, str | None]:
    """The version of each program, and of oras-py; None where it is not installed."""
    found = {name: _version(command) for name, command in _PROGRAMS.items()}
    return {**found, "oras-py": metadata.version("oras")}


def _version(command: Command) -> str | None:
    if shutil.which(str(command[0])) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    match = re.search(r"[0-9]+\.[0-9][\w.+-]*", done.stdout + done.stderr)
    return match[0] if match else "unknown"
