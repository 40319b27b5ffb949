"""What tests of several folders stand on: registries on loopback, and programs of the machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_registry import DockerRegistry, unavailable
from registry import Registry


def require(program: str) -> None:
    """Skip the test, with the reason, where a program is missing; in CI fail it."""
    reason = unavailable(program)
    if reason is not None and os.environ.get("CI"):
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def loopback() -> Iterator[Registry]:
    """The fault registry, empty and in order."""
    with Registry() as registry:
        yield registry


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """The real docker-registry, plain; a repository belongs to the test that fills it."""
    require("docker-registry")
    with DockerRegistry(tmp_path_factory.mktemp("docker-registry")) as registry:
        yield registry


@pytest.fixture(scope="session")
def skopeo() -> Path:
    """The program skopeo."""
    require("skopeo")
    return Path("skopeo")
