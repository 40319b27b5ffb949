"""Where secrets are kept: docker's config.json and its credential helpers, read only.

Source: docker's config file and credential helper protocol; podman's repository keys. Order within
a file: the longest repository key, `credHelpers`, `credsStore`, the host's key. No message has
a secret in it.
"""

import base64
import binascii
import json
import os
import re
import shutil
import stat
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from modelpm.errors import AuthenticationError

MAX_BYTES = 2**20
HELPER_SECONDS = 20.0
DOCKER_HUB_KEY = "https://index.docker.io/v1/"

_DOCKER_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HELPER_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_IDENTITY_USER = "<token>"
_MAX_REPLY = 64 * 2**10
_MAX_SHOWN = 200


class Kind(Enum):
    """What a secret is, which decides how it is used."""

    PASSWORD = auto()
    IDENTITY_TOKEN = auto()
    REGISTRY_TOKEN = auto()


@dataclass(frozen=True, slots=True)
class Credential:
    """What we show to a registry. The secret stays out of `repr`.

    An identity token is traded for access tokens at the token service; a registry token is a
    ready access token.
    """

    username: str
    secret: str = field(repr=False)
    kind: Kind = Kind.PASSWORD


class CredentialSource(Protocol):
    """Knows credentials."""

    def find(self, host: str, repository: str, /) -> Credential | None:
        """What to show to this registry for this repository. None means anonymous.

        `host` is as a Reference has it. Raises AuthenticationError where the place that should
        know cannot be asked.
        """
        ...


class Anonymous:
    """Knows nothing."""

    def find(self, _host: str, _repository: str, /) -> Credential | None:
        """None."""
        return None


class DockerConfig:
    """A config.json of docker's or podman's, and the helpers that it names.

    The file is read once, at the first question; one that does not exist knows nothing. Helpers
    are looked for in the folders of `helper_path`, separated as in PATH, and have some seconds.
    """

    def __init__(
        self, path: Path, helper_path: str, helper_seconds: float = HELPER_SECONDS
    ) -> None:
        self._path = path
        self._helper_path = helper_path
        self._helper_seconds = helper_seconds
        self._lock = threading.Lock()
        self._file: _File | None = None
        self._replies: dict[tuple[str, str], Credential | None] = {}

    def find(self, host: str, repository: str, /) -> Credential | None:
        """As the Protocol says."""
        with self._lock:
            if self._file is None:
                self._file = _File.read(self._path)
            for prefix in _prefixes(repository):
                if (entry := self._file.entries.get(f"{host}/{prefix}")) is not None:
                    return self._file.credential(f"{host}/{prefix}", entry)
            helper = self._file.helpers.get(host, self._file.helpers[""])
            if helper:
                return self._ask(helper, DOCKER_HUB_KEY if host == "docker.io" else host)
            entry = self._file.entries.get(host)
            return None if entry is None else self._file.credential(host, entry)

    def _ask(self, helper: str, server: str) -> Credential | None:
        if (helper, server) not in self._replies:
            self._replies[helper, server] = ask_helper(
                helper, server, self._helper_path, self._helper_seconds
            )
        return self._replies[helper, server]


def ask_helper(
    name: str, server: str, search_path: str, seconds: float = HELPER_SECONDS
) -> Credential | None:
    """What the program `docker-credential-NAME` knows of a server. None if nothing.

    Raises AuthenticationError when it is missing, unsafe, slow, or fails.
    """
    program = f"docker-credential-{name}"
    task = f"reading credentials for {server}"
    done = _run([_helper(name, search_path), "get"], server.encode(), seconds)
    if isinstance(done, str):
        raise AuthenticationError(f"{task}: {program} {done}")
    if done.returncode == 0:
        return _reply(f"{task}: {program}", done.stdout)
    words = (done.stdout.strip() or done.stderr.strip())[:_MAX_SHOWN].decode("utf-8", "replace")
    if "credentials not found" in words:
        return None
    raise AuthenticationError(
        f"{task}: {program} failed with status {done.returncode}: {words} (try: {program} list)"
    )


@dataclass(frozen=True, slots=True)
class _File:
    """What a config.json says, its keys brought to the form `host` or `host/repository`."""

    path: Path
    entries: Mapping[str, Mapping[str, object]]
    helpers: Mapping[str, str]
    """By host; the one for all other hosts under the empty key."""

    @classmethod
    def read(cls, path: Path) -> "_File":
        """Read the file. Raises AuthenticationError for one that cannot be read as docker's."""
        raw = _content(path)
        document = _json(raw) if raw.strip() else {}
        if not isinstance(document, dict):
            raise AuthenticationError(f"{path} is not a docker configuration: not a JSON object")
        entries: dict[str, Mapping[str, object]] = {}
        # A key that is written plainly stands above one that is a URL.
        table = _table(path, document, "auths")
        for name, entry in sorted(table.items(), key=lambda item: item[0] == _key(item[0])):
            if not isinstance(entry, dict):
                raise AuthenticationError(f"{path}: an entry of auths is not a JSON object")
            entries[_key(name)] = entry
        helpers: dict[str, str] = {}
        store = document.get("credsStore") or ""
        for name, helper in (*_table(path, document, "credHelpers").items(), ("", store)):
            if not isinstance(helper, str):
                raise AuthenticationError(f"{path}: a credential helper's name is not a string")
            helpers[_key(name)] = helper
        return cls(path, entries, helpers)

    def credential(self, key: str, entry: Mapping[str, object]) -> Credential | None:
        """What one entry of `auths` says; an empty one, as docker leaves it, says nothing."""
        texts = {name: entry.get(name) or "" for name in _ENTRY_FIELDS}
        if not all(isinstance(text, str) for text in texts.values()):
            raise self._bad(key, "a field is not a string")
        username, secret = str(texts["username"]), str(texts["password"])
        if texts["auth"]:
            username, secret = self._decoded(key, str(texts["auth"]))
        if texts["registrytoken"]:
            return Credential(username, str(texts["registrytoken"]), Kind.REGISTRY_TOKEN)
        if texts["identitytoken"]:
            return Credential(username, str(texts["identitytoken"]), Kind.IDENTITY_TOKEN)
        if not username and not secret:
            return None
        if not username:
            raise self._bad(key, "the user's name is empty")
        if not _is_header_safe(username + secret):
            raise self._bad(key, "there is a control character in it")
        return _credential(username, secret)

    def _decoded(self, key: str, auth: str) -> tuple[str, str]:
        try:
            text = base64.b64decode(auth, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            text = None
        if text is None:
            raise self._bad(key, "its auth is not base64")
        username, colon, secret = text.partition(":")
        if not colon:
            raise self._bad(key, "its auth has no colon")
        return username, secret.rstrip("\0")

    def _bad(self, key: str, why: str) -> AuthenticationError:
        return AuthenticationError(f"{self.path}: the entry of {key} cannot be used: {why}")


_ENTRY_FIELDS = ("auth", "username", "password", "identitytoken", "registrytoken")


def _content(path: Path) -> bytes:
    """The file's bytes, none if there is no file."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise AuthenticationError(f"{path} is not a file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise AuthenticationError(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise AuthenticationError(f"{path} has more than {MAX_BYTES} bytes")
    return raw


def _json(raw: bytes) -> object:
    """What the bytes say in JSON; None if they do not. No exception keeps hold of the text."""
    try:
        value: object = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value


def _table(path: Path, document: Mapping[str, object], key: str) -> dict[str, object]:
    table = document.get(key)
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise AuthenticationError(f"{path}: {key} is not a JSON object")
    return table


def _key(text: str) -> str:
    """`host` or `host/repository` of a key, which may be a URL and have an API's path."""
    rest = text.partition("://")[2] or text
    host, _, path = rest.partition("/")
    host = host.lower()
    if host in _DOCKER_HUB_HOSTS:
        host = "docker.io"
    path = path.strip("/")
    return f"{host}/{path}" if path and path not in ("v1", "v2") and rest == text else host


def _prefixes(repository: str) -> list[str]:
    """The repository and the namespaces above it, longest first."""
    parts = repository.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _helper(name: str, search_path: str) -> str:
    """The full path of a helper. Raises AuthenticationError."""
    if _HELPER_NAME.fullmatch(name) is None:
        raise AuthenticationError(f"not the name of a credential helper: {name[:100]!r}")
    found = shutil.which(f"docker-credential-{name}", path=search_path)
    if found is None:
        raise AuthenticationError(
            f"the credential helper docker-credential-{name} is not installed"
        )
    if os.name == "posix" and Path(found).stat().st_mode & stat.S_IWOTH:
        raise AuthenticationError(f"the credential helper {found} can be written by everybody")
    return str(Path(found).absolute())


def _run(
    command: list[str], text: bytes, seconds: float
) -> "subprocess.CompletedProcess[bytes] | str":
    """What came of it, or in words why nothing did. The exceptions would keep what was written."""
    try:
        return subprocess.run(
            command, input=text, capture_output=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return f"took more than {seconds:g} s"
    except OSError as error:
        return f"cannot be run: {error.strerror}"


def _reply(task: str, raw: bytes) -> Credential:
    reply = _json(raw) if len(raw) <= _MAX_REPLY else None
    fields = reply if isinstance(reply, dict) else {}
    username, secret = fields.get("Username"), fields.get("Secret")
    if not isinstance(username, str) or not isinstance(secret, str) or not username:
        raise AuthenticationError(f"{task} did not answer with a name and a secret")
    if not _is_header_safe(username + secret):
        raise AuthenticationError(f"{task} gave a secret with a control character")
    return _credential(username, secret)


def _credential(username: str, secret: str) -> Credential:
    kind = Kind.IDENTITY_TOKEN if username == _IDENTITY_USER else Kind.PASSWORD
    return Credential(username, secret, kind)


def _is_header_safe(text: str) -> bool:
    return all(char >= " " and char != "\x7f" for char in text)
