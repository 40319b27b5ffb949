"""Credential helpers to order, and that an exception holds no secret."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

SECRET = "s3cret-of-alice"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


AUTH = {"auth": encoded(f"alice:{SECRET}")}
"""The entry of a file for alice and her SECRET."""


def install(folder: Path, name: str, body: str) -> Path:
    """A helper: Python that has its one argument in `word` and its standard input in `server`."""
    folder.mkdir(exist_ok=True)
    path = folder / f"docker-credential-{name}"
    head = (
        f"#!{sys.executable} -SE\nimport sys, time\nword, server = sys.argv[1], sys.stdin.read()\n"
    )
    path.write_text(head + body)
    path.chmod(0o755)
    return path


def says(username: object, secret: object) -> str:
    """The body of a helper that always answers so."""
    return f"print({json.dumps({'Username': username, 'Secret': secret})!r})"


ECHO = """print('{"ServerURL": "x", "Username": "%s %s", "Secret": "s3"}' % (word, server))"""
"""The body of a helper that answers with what it was asked."""

_VAULT = """
import json, pathlib
path = pathlib.Path({path!r})
kept = json.loads(path.read_text()) if path.exists() else {{}}
if word == "get" and server in kept:
    print(json.dumps(kept[server]))
elif word == "store":
    entry = json.loads(server)
    kept[entry["ServerURL"]] = entry
elif word == "erase" and server in kept:
    del kept[server]
else:
    sys.exit("credentials not found in native keychain")
path.write_text(json.dumps(kept))
"""


class Vault:
    """A helper that works as docker's do, and keeps its entries in a file."""

    def __init__(self, folder: Path, name: str = "vault") -> None:
        self._path = folder / f"{name}.json"
        self.search_path = str(folder)
        self.program = install(folder, name, _VAULT.format(path=str(self._path))).name

    @property
    def entries(self) -> dict[str, Any]:
        """What it keeps, by server."""
        found: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}
        return found


def assert_untold(error: BaseException | None, *secrets: str) -> None:
    """Nothing that hangs on an exception has one of the secrets."""
    while error is not None:
        for secret in secrets:
            assert secret not in repr(error)
            assert secret not in repr(vars(error))
        error = error.__cause__ or error.__context__
