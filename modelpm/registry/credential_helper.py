"""How docker's credential helpers are talked to: which program, what it is told and may answer.

Source: docker's credential helper protocol: `docker-credential-NAME get|store|erase`, a server's
name or a JSON object on standard input. A helper that fails, hangs or cannot be trusted is an
AuthenticationError which says so; no message has what a helper was told or said in success.
"""

import json
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from modelpm.errors import AuthenticationError
from modelpm.registry.credentials import IDENTITY_USER, Credential, Kind, is_header_safe

HELPER_SECONDS = 20.0

_MAX_NAME = 100
_MAX_REPLY = 64 * 2**10
_MAX_SHOWN = 200
_NAME_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_NOT_FOUND = "credentials not found"


@dataclass(frozen=True, slots=True)
class Helper:
    """The program `docker-credential-NAME`, in the first of the folders that has it.

    `search_path` is separated as PATH is. Each call may take so many seconds. Every method raises
    AuthenticationError when the program is missing, unsafe, slow, or fails.
    """

    name: str
    search_path: str
    seconds: float = HELPER_SECONDS

    @property
    def program(self) -> str:
        """What the program is called."""
        return f"docker-credential-{self.name}"

    def get(self, server: str) -> Credential | None:
        """What it knows of a server. None if nothing."""
        task = f"reading credentials for {server}"
        output = self._call(task, "get", server.encode())
        if output is None:
            return None
        reply = _json(output)
        fields = reply if isinstance(reply, dict) else {}
        username, secret = fields.get("Username"), fields.get("Secret")
        if not isinstance(username, str) or not isinstance(secret, str) or not username:
            raise AuthenticationError(
                f"{task}: {self.program} did not answer with a name and a secret"
            )
        if not is_header_safe(username + secret):
            raise AuthenticationError(
                f"{task}: {self.program} gave a secret with a control character, or no text"
            )
        return Credential.of(username, secret)

    def store(self, server: str, credential: Credential) -> None:
        """Have it keep a credential in the place of any other for this server."""
        is_token = credential.kind is Kind.IDENTITY_TOKEN
        username = IDENTITY_USER if is_token else credential.username
        told = {"ServerURL": server, "Username": username, "Secret": credential.secret}
        self._call(f"saving credentials for {server}", "store", json.dumps(told).encode())

    def erase(self, server: str) -> bool:
        """Have it forget a server. False if it knew nothing of it."""
        if self.get(server) is None:
            return False
        self._call(f"deleting credentials for {server}", "erase", server.encode())
        return True

    def _call(self, task: str, word: str, told: bytes) -> bytes | None:
        """What it answers; None where it has nothing under that name."""
        done = _run([self._path(task), word], told, self.seconds)
        if isinstance(done, str):
            raise AuthenticationError(f"{task}: {self.program} {done}")
        if done.returncode == 0:
            return done.stdout
        said = done.stdout.strip() or done.stderr.strip()
        words = said[:_MAX_SHOWN].decode("utf-8", "replace")
        if _NOT_FOUND in words:
            return None
        if word == "store":  # it may repeat what it was told
            words = "it does not say more that is safe to show"
        raise AuthenticationError(
            f"{task}: {self.program} failed with status {done.returncode}: {words}"
            f" (try: {self.program} list)"
        )

    def _path(self, task: str) -> str:
        """The full path of the program."""
        if not (0 < len(self.name) <= _MAX_NAME and set(self.name) <= _NAME_LETTERS):
            shown = self.name[:_MAX_NAME]
            raise AuthenticationError(f"{task}: not the name of a credential helper: {shown!r}")
        found = shutil.which(self.program, path=self.search_path)
        if found is None:
            raise AuthenticationError(f"{task}: the helper {self.program} is not installed")
        if os.name == "posix" and Path(found).stat().st_mode & stat.S_IWOTH:
            raise AuthenticationError(f"{task}: the helper {found} can be written by everybody")
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


def _json(raw: bytes) -> object:
    """What the bytes say in JSON; None if they do not. No exception keeps hold of the text."""
    if len(raw) > _MAX_REPLY:
        return None
    try:
        value: object = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value
