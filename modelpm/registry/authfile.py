"""How credentials are written down: docker's config.json, which podman and modelpm write too.

Source: docker's config file; podman's repository keys. Order within a file: the longest repository
key, `credHelpers`, `credsStore`, the host's key. modelpm's own entries also say, as `trustedRealm`,
to which token service the user lets the credential go. No message has a secret in it.
"""

import base64
import binascii
import json
import shlex
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelpm.errors import AuthenticationError
from modelpm.registry.credential_helper import HELPER_SECONDS, Helper
from modelpm.registry.credentials import Credential, Kind, is_header_safe
from modelpm.registry.secret_file import SecretFile

DOCKER_HUB_KEY = "https://index.docker.io/v1/"

_DOCKERS_OWN = frozenset({f"{DOCKER_HUB_KEY}access-token", f"{DOCKER_HUB_KEY}refresh-token"})
"""What docker keeps of a login in the browser; they are for its own site, not for a registry."""

_DOCKER_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_ENTRY_FIELDS = ("auth", "username", "password", "identitytoken", "registrytoken")
_SECRET_FIELDS = ("auth", "password", "identitytoken", "registrytoken")
_REALM = "trustedRealm"


class AuthFile:
    """A file in docker's form, and the helpers that it names.

    It is read at the first question; one that does not exist knows nothing. Helpers are looked for
    in the folders of `helper_path`, separated as in PATH, and have some seconds. Threads may share
    it. Whatever cannot be read, asked or written is an AuthenticationError. `warn` is told, in
    words and once, of secrets that others can read.
    """

    def __init__(
        self,
        file: SecretFile,
        helper_path: str,
        helper_seconds: float = HELPER_SECONDS,
        *,
        warn: Callable[[str], None] = lambda _words: None,
    ) -> None:
        self.where = str(file.path)
        self._file = file
        self._helper_path = helper_path
        self._helper_seconds = helper_seconds
        self._warn = warn
        self._has_warned = False
        self._lock = threading.RLock()
        self._known: _Document | None = None
        self._replies: dict[tuple[str, str], Credential | None] = {}

    def find(self, host: str, repository: str, /) -> Credential | None:
        """As a CredentialSource says."""
        with self._lock:
            document = self._document()
            for prefix in _prefixes(repository):
                if (entry := document.entries.get(f"{host}/{prefix}")) is not None:
                    return document.credential(f"{host}/{prefix}", entry)
            helper = self.helper(host)
            if helper is not None:
                return self._ask(helper, server_of(host))
            entry = document.entries.get(host)
            return None if entry is None else document.credential(host, entry)

    def place(self, host: str, /) -> str:
        """What keeps a host's credential, in words: the helper's program, or the file."""
        helper = self.helper(host)
        return self.where if helper is None else helper.program

    def trusted_realms(self, host: str, /) -> frozenset[str]:
        """The origin that the user let this host's credential go to, when he logged in."""
        with self._lock:
            realm = self._document().entries.get(host, {}).get(_REALM)
        return frozenset({realm} if isinstance(realm, str) else ())

    def helper(self, host: str) -> Helper | None:
        """The helper that is to keep the credential of a host."""
        with self._lock:
            helpers = self._document().helpers
        name = helpers.get(host, helpers[""])
        return Helper(name, self._helper_path, self._helper_seconds) if name else None

    def put(self, host: str, credential: Credential | None, realm: str | None) -> None:
        """Keep a host's credential in the file itself, and the realm that it may go to."""

        def change(auths: dict[str, Any]) -> bool:
            mine = [name for name in auths if key_of(name) == host]
            kept = {k: v for name in mine for k, v in auths.pop(name).items() if k not in _OWN}
            entry = kept | _fields(credential) | ({_REALM: realm} if realm else {})
            if entry:
                auths[server_of(host)] = entry
            return bool(entry or mine)

        with self._lock:
            if credential or realm or host in self._document().entries:
                self._edit(change)

    def remove(self, host: str) -> bool:
        """Forget what the file itself has of a host. False if it has nothing."""
        found: list[str] = []

        def change(auths: dict[str, Any]) -> bool:
            found.extend(name for name in auths if key_of(name) == host)
            for name in found:
                del auths[name]
            return bool(found)

        with self._lock:
            if host in self._document().entries:
                self._edit(change)
        return bool(found)

    def store(self, host: str, credential: Credential) -> str | None:
        """Have the host's helper keep a credential; its program, None if there is no helper."""
        with self._lock:
            helper = self.helper(host)
            if helper is None:
                return None
            self._replies.clear()
            helper.store(server_of(host), credential)
            return helper.program

    def erase(self, host: str) -> str | None:
        """Have the host's helper forget it; its program, None if it knew nothing or is none."""
        with self._lock:
            helper = self.helper(host)
            if helper is None or not helper.erase(server_of(host)):
                return None
            self._replies.clear()
            return helper.program

    def rotated(self, host: str, repository: str, old: Credential, new: Credential, /) -> None:
        """As Rotating says."""
        keys = [*(f"{host}/{prefix}" for prefix in _prefixes(repository)), host]

        def change(auths: dict[str, Any]) -> bool:
            plain = _Document(self.where, {}, {})
            mine = [name for name in auths if key_of(name) in keys]
            changed = [name for name in mine if plain.credential(name, auths[name]) == old]
            for name in changed:
                auths[name] = auths[name] | _fields(new)
            return bool(changed)

        with self._lock:
            helper = self.helper(host)
            if helper is not None and helper.get(server_of(host)) == old:
                self.store(host, new)
            else:
                self._edit(change)

    def reread(self) -> None:
        """As Rotating says."""
        with self._lock:
            self._known = None
            self._replies.clear()

    def _document(self) -> "_Document":
        if self._known is None:
            self._known = self._parse(self._file.read())
        return self._known

    def _parse(self, raw: bytes) -> "_Document":
        """What was just read."""
        document = _Document.parse(self.where, raw)
        if self._file.is_open_to_others and document.has_secrets and not self._has_warned:
            self._has_warned = True
            self._warn(
                f"{self.where} can be read by others, and there are secrets in it"
                f" (try: chmod 600 {shlex.quote(self.where)})"
            )
        return document

    def _ask(self, helper: Helper, server: str) -> Credential | None:
        if (helper.name, server) not in self._replies:
            self._replies[helper.name, server] = helper.get(server)
        return self._replies[helper.name, server]

    def _edit(self, change: Callable[[dict[str, Any]], bool]) -> None:
        """Change `auths` in place; True says that there was something to change."""

        def rewrite(raw: bytes) -> bytes | None:
            self._parse(raw)  # refuses what it would not read
            document = json.loads(raw) if raw.strip() else {}
            auths = dict(document.get("auths") or {})
            if not change(auths):
                return None
            return json.dumps({**document, "auths": auths}, indent="\t").encode() + b"\n"

        with self._lock:
            try:
                self._file.edit(rewrite)
            finally:
                self.reread()


class AuthText:
    """What docker's variable DOCKER_AUTH_CONFIG holds: `auths`, and in each entry `auth` alone.

    Every other member is refused, as docker does.
    """

    def __init__(self, where: str, text: str) -> None:
        self.where = where
        self._text = text

    def place(self, _host: str, /) -> str:
        """The variable."""
        return self.where

    def find(self, host: str, repository: str, /) -> Credential | None:
        """As a CredentialSource says."""
        document = _Document.parse(self.where, self._text.encode(errors="replace"), strict=True)
        for prefix in (*_prefixes(repository), ""):
            key = f"{host}/{prefix}".rstrip("/")
            if (entry := document.entries.get(key)) is not None:
                return document.credential(key, entry)
        return None


@dataclass(frozen=True, slots=True)
class _Document:
    """What a config.json says, its keys brought to the form `host` or `host/repository`."""

    where: str
    entries: Mapping[str, Mapping[str, object]] = field(repr=False)
    helpers: Mapping[str, str]
    """By host; the one for all other hosts under the empty key."""

    @classmethod
    def parse(cls, where: str, raw: bytes, *, strict: bool = False) -> "_Document":
        """Read it. Raises AuthenticationError for what is not docker's; `strict` allows auth only.

        A key that is written plainly stands above one that is a URL.
        """
        document = _json(raw) if raw.strip() else {}
        if not isinstance(document, dict):
            raise AuthenticationError(f"{where} is not a docker configuration: not a JSON object")
        if strict and set(document) - {"auths"}:
            raise AuthenticationError(f"{where}: only auths may be in it")
        entries: dict[str, Mapping[str, object]] = {}
        table = _table(where, document, "auths")
        for name, entry in sorted(table.items(), key=lambda item: item[0] == key_of(item[0])):
            if not isinstance(entry, dict):
                raise AuthenticationError(f"{where}: an entry of auths is not a JSON object")
            if strict and set(entry) - {"auth"}:
                raise AuthenticationError(f"{where}: only auth may be in an entry of auths")
            entries[key_of(name)] = entry
        helpers: dict[str, str] = {}
        store = document.get("credsStore") or ""
        for name, helper in (*_table(where, document, "credHelpers").items(), ("", store)):
            if not isinstance(helper, str):
                raise AuthenticationError(f"{where}: a credential helper's name is not a string")
            helpers[key_of(name)] = helper
        return cls(where, entries, helpers)

    @property
    def has_secrets(self) -> bool:
        """Whether there is more in it than where else to ask."""
        return any(entry.get(name) for entry in self.entries.values() for name in _SECRET_FIELDS)

    def credential(self, key: str, entry: Mapping[str, object]) -> Credential | None:
        """What one entry of `auths` says; an empty one, as docker leaves it, says nothing."""
        texts = {name: entry.get(name) or "" for name in _ENTRY_FIELDS}
        if not all(isinstance(text, str) for text in texts.values()):
            raise self._bad(key, "a field is not a string")
        username, secret = str(texts["username"]), str(texts["password"])
        if texts["auth"]:
            username, secret = self._decoded(key, str(texts["auth"]))
        if not is_header_safe("".join(map(str, (username, secret, *texts.values())))):
            raise self._bad(key, "there is a control character in it, or no text")
        if texts["registrytoken"]:
            return Credential(username, str(texts["registrytoken"]), Kind.REGISTRY_TOKEN)
        if texts["identitytoken"]:
            return Credential(username, str(texts["identitytoken"]), Kind.IDENTITY_TOKEN)
        if not username and not secret:
            return None
        if not username:
            raise self._bad(key, "the user's name is empty")
        return Credential.of(username, secret)

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
        return AuthenticationError(f"{self.where}: the entry of {key} cannot be used: {why}")


_OWN = {*_ENTRY_FIELDS, _REALM}


def server_of(host: str) -> str:
    """What docker calls a registry in its files and to its helpers."""
    return DOCKER_HUB_KEY if host == "docker.io" else host


def key_of(text: str) -> str:
    """`host` or `host/repository` of a key, which may be a URL and have an API's path."""
    if text in _DOCKERS_OWN:
        return text
    rest = text.partition("://")[2] or text
    host, _, path = rest.partition("/")
    host = host.lower()
    if host in _DOCKER_HUB_HOSTS:
        host = "docker.io"
    path = path.strip("/")
    return f"{host}/{path}" if path and path not in ("v1", "v2") and rest == text else host


def _fields(credential: Credential | None) -> dict[str, str]:
    """The members of an entry that hold a credential."""
    if credential is None:
        return {}
    secret = credential.secret if credential.kind is Kind.PASSWORD else ""
    auth = base64.b64encode(f"{credential.username}:{secret}".encode()).decode()
    is_token = credential.kind is Kind.IDENTITY_TOKEN
    return {"auth": auth, **({"identitytoken": credential.secret} if is_token else {})}


def _json(raw: bytes) -> object:
    """What the bytes say in JSON; None if they do not. No exception keeps hold of the text."""
    try:
        value: object = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value


def _table(where: str, document: Mapping[str, object], key: str) -> dict[str, object]:
    table = document.get(key)
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise AuthenticationError(f"{where}: {key} is not a JSON object")
    return table


def _prefixes(repository: str) -> list[str]:
    """The repository and the namespaces above it, longest first."""
    parts = repository.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)] if repository else []
