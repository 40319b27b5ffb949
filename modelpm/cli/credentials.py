"""Where the environment says that docker keeps its credentials."""

import os
from pathlib import Path

from modelpm.registry.credentials import CredentialSource, DockerConfig


def docker_credentials() -> CredentialSource:
    """`config.json` in $DOCKER_CONFIG or ~/.docker, and the helpers in $PATH."""
    told = os.environ.get("DOCKER_CONFIG")
    folder = Path(told) if told else Path.home() / ".docker"
    return DockerConfig(folder / "config.json", os.environ.get("PATH", os.defpath))
