"""Where the command line looks for credentials: what the environment says, and which files."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from modelpm.cli import output
from modelpm.cli.options import Settings, default_path
from modelpm.registry.authfile import AuthFile, AuthText, key_of
from modelpm.registry.credentials import Credential, Given, is_header_safe
from modelpm.registry.keychain import Keychain, Place
from modelpm.registry.secret_file import SecretFile

_ACCOUNT = ("MODELPM_REGISTRY", "MODELPM_USERNAME", "MODELPM_PASSWORD")


def find_credentials(settings: Settings) -> Keychain:
    """All that knows credentials, the first to be asked first.

    An account in the environment, DOCKER_AUTH_CONFIG, modelpm's own file, REGISTRY_AUTH_FILE,
    docker's file, podman's. Nothing is read before the first question. Of files that others can
    read a note is written, once.
    """

    @functools.cache  # the same words are told once
    def warn(words: str) -> None:
        if not settings.quiet:
            output.note(words)

    path = Path(settings.auth_file or default_path().with_name("auth.json"))
    own = _file(path, warn, private=True)
    docker = [_file(path, warn) for path in _docker_files()]
    others = [_file(path, warn) for path in _podman_files()]
    named = os.environ.get("REGISTRY_AUTH_FILE")
    told = [_file(Path(named), warn)] if named else []
    return Keychain([*_environment(), own, *told, *docker, *others], own, docker)


def _environment() -> Iterator[Place]:
    """What the environment holds itself."""
    host, username, password = (os.environ.get(name, "") for name in _ACCOUNT)
    if not is_header_safe(username + password):
        why = "there is a control character in one of them, such as a line's end, or no text"
        raise click.UsageError(f"{_ACCOUNT[1]}, {_ACCOUNT[2]}: {why}")
    if host and username and password:
        yield Given(key_of(host), Credential.of(username, password), _ACCOUNT[2])
    elif username or password:
        raise click.UsageError(f"{', '.join(_ACCOUNT)}: all of them are needed, or none")
    text = os.environ.get("DOCKER_AUTH_CONFIG")
    if text:
        yield AuthText("DOCKER_AUTH_CONFIG", text)


def _docker_files() -> Iterator[Path]:
    told = os.environ.get("DOCKER_CONFIG")
    if told:
        yield Path(told) / "config.json"
        return
    with contextlib.suppress(RuntimeError):  # a user without a home
        yield Path.home() / ".docker" / "config.json"


def _podman_files() -> Iterator[Path]:
    run, config = (os.environ.get(name) for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"))
    with contextlib.suppress(RuntimeError):
        folders = [Path(run)] if run else []
        folders.append(Path(config) if config else Path.home() / ".config")
        yield from (folder / "containers" / "auth.json" for folder in folders)


def _file(path: Path, warn: Callable[[str], None], *, private: bool = False) -> AuthFile:
    file = SecretFile(path, private=private)
    return AuthFile(file, os.environ.get("PATH", os.defpath), warn=warn)
