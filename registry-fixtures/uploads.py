"""The write side of the loopback registry: upload sessions, manifests put and deleted.

It takes no manifest that names what its repository does not have, and no blob but under its own
digest, so that whatever a client does wrong shows. What a scenario cannot bend is an option.
"""

import hashlib
import itertools
import json
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

from faults import error_answer
from loopback import Answer, Headers, Request

if TYPE_CHECKING:
    from artifact import Json
    from registry import Content

_SPAN = re.compile(r"([0-9]+)-([0-9]+)")
_SESSION = re.compile(r"uploads/(?P<id>[0-9]+)")
_STATE = re.compile(r"(?:^|&)_state=([0-9]+)")


@dataclass
class Uploads:
    """The uploads of a registry, or of several that share them.

    `location` is where a session goes on: {home}, {repository}, {id} and {offset} are filled in.
    `keeps` says what is left of a request that is cut: `all` that came, or `none`. `signed`
    sessions are known only with `_state=OFFSET` of what they have, as docker-registry's are.
    Sessions that do not tell (`tells`) send no Range. `least` is OCI-Chunk-Min-Length. Only with
    `pieces` does a second PATCH add anything.
    """

    location: str = "{home}/v2/{repository}/blobs/uploads/{id}"
    keeps: Literal["all", "none"] = "all"
    signed: bool = False
    tells: bool = True
    least: int | None = None
    pieces: bool = True
    deletes: bool = True
    deletes_tags: bool = True
    sessions: dict[str, bytearray] = field(default_factory=dict)
    owners: dict[str, set[str]] = field(default_factory=dict)
    """The repositories that each pushed blob is in; one that was not pushed is in all."""
    received: int = 0
    """Bytes of blobs that came in, also those that were lost."""

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)

    def visible(self, repository: str, digest: str) -> bool:
        """Whether a blob that the registry holds is in this repository."""
        return digest not in self.owners or repository in self.owners[digest]

    def begin(self, home: str, repository: str) -> Answer:
        """A new session."""
        with self.lock:
            number = str(next(self._numbers))
            self.sessions[number] = bytearray()
        headers = self._headers(home, repository, number)
        if self.least is not None:
            headers = (*headers, ("OCI-Chunk-Min-Length", str(self.least)))
        return Answer(202, headers)

    def status(self, home: str, repository: str, number: str) -> Answer:
        """What a session has."""
        return Answer(204, self._headers(home, repository, number))

    def append(self, request: Request, home: str, repository: str, number: str) -> Answer:
        """The answer to a PATCH."""
        with self.lock:
            body = self.sessions[number]
            if not self._fits(request, body):
                return Answer(416, self._headers(home, repository, number))
            self.received += len(request.content)
            if self.pieces or not body:
                body += request.content
            return Answer(202, self._headers(home, repository, number))

    def finish(self, request: Request, number: str, digest: str) -> bytes | None:
        """The blob that a PUT ends, or None if it is not what it is called."""
        with self.lock:
            body = bytes(self.sessions[number]) + request.content
            self.received += len(request.content)
            algorithm = digest.partition(":")[0]
            if f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}" != digest:
                return None
            del self.sessions[number]
            return body

    def broken(self, request: Request) -> None:
        """Keep what came of a request that was cut."""
        match = _SESSION.search(request.path)
        with self.lock:
            body = self.sessions.get(match["id"]) if match else None
            if body is None or request.method not in ("PUT", "PATCH"):
                return
            self.received += len(request.content)
            if self.keeps == "all" and self._fits(request, body):
                body += request.content

    def knows(self, number: str, query: str) -> bool:
        """Whether a session is there, asked for by this query."""
        body = self.sessions.get(number)
        if body is None or not self.signed:
            return body is not None
        match = _STATE.search(query)
        return match is not None and int(match[1]) == len(body)

    def _fits(self, request: Request, body: bytearray) -> bool:
        match = _SPAN.fullmatch(request.headers.get("content-range", ""))
        return match is None or int(match[1]) == len(body)

    def _headers(self, home: str, repository: str, number: str) -> Headers:
        size = len(self.sessions[number])
        location = self.location.format(home=home, repository=repository, id=number, offset=size)
        if self.signed:
            location += f"{'&' if '?' in location else '?'}_state={size}"
        told = (("Range", f"0-{max(0, size - 1)}"),) if self.tells else ()
        return (("Location", location), *told)


class Writer:
    """What a registry that may be written to answers; `tells_subject` is OCI-Subject."""

    def __init__(self, content: "Content", uploads: Uploads, *, tells_subject: bool) -> None:
        self._content = content
        self._uploads = uploads
        self._tells_subject = tells_subject

    def reply(self, request: Request, home: str, match: re.Match[str]) -> Answer:
        """The answer to a request that writes, or asks what was written."""
        repository, item = match["repository"], match["item"]
        if match["kind"] == "manifests" and request.method == "PUT":
            return self._put_manifest(request, repository, item)
        if match["kind"] == "manifests" and request.method == "DELETE":
            return self._delete(repository, item)
        if match["kind"] != "blobs" or not item.startswith("uploads/"):
            return error_answer(405, "UNSUPPORTED", "nothing to write here")
        number = item.removeprefix("uploads/")
        if not number:
            return self._begin(request, home, repository)
        if not self._uploads.knows(number, urlsplit(request.path).query):
            return error_answer(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
        if request.method == "PUT":
            return self._finish(request, home, repository, number)
        if request.method == "PATCH":
            return self._uploads.append(request, home, repository, number)
        if request.method == "DELETE":
            with self._uploads.lock:
                del self._uploads.sessions[number]
            return Answer(204)
        return self._uploads.status(home, repository, number)

    def _begin(self, request: Request, home: str, repository: str) -> Answer:
        query = _query(request)
        digest, source = query.get("mount", ""), query.get("from", "")
        with self._uploads.lock:
            self._content.tags.setdefault(repository, {})
            is_here = digest in self._content.blobs and self._uploads.visible(source, digest)
            if is_here and source in self._content.tags:
                return self._own(home, repository, digest)
        return self._uploads.begin(home, repository)

    def _finish(self, request: Request, home: str, repository: str, number: str) -> Answer:
        digest = _query(request).get("digest", "")
        with self._uploads.lock:
            content = self._uploads.finish(request, number, digest)
            if content is None:
                return error_answer(400, "DIGEST_INVALID", "the content is not what it is called")
            if digest not in self._content.blobs:
                self._uploads.owners[digest] = set()
            self._content.add_blob(content, digest)
            return self._own(home, repository, digest)

    def _own(self, home: str, repository: str, digest: str) -> Answer:
        if digest in self._uploads.owners:
            self._uploads.owners[digest].add(repository)
        location = f"{home}/v2/{repository}/blobs/{digest}"
        return Answer(201, (("Location", location), ("Docker-Content-Digest", digest)))

    def _put_manifest(self, request: Request, repository: str, reference: str) -> Answer:
        raw = request.content
        try:
            blobs, manifests, subject = named(raw)
        except (ValueError, KeyError, TypeError):
            return error_answer(400, "MANIFEST_INVALID", "that is no manifest")
        algorithm = reference.partition(":")[0] if ":" in reference else "sha256"
        digest = f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"
        if ":" in reference and digest != reference:
            return error_answer(400, "DIGEST_INVALID", "the manifest is not what it is called")
        with self._uploads.lock:
            missing = [
                *(name for name in blobs if not self._has(repository, name)),
                *(name for name in manifests if name not in self._content.manifests),
            ]
            if missing:
                words = f"blob unknown to registry: {missing[0]}"
                return error_answer(400, "MANIFEST_BLOB_UNKNOWN", words)
            kind = request.headers.get("content-type", "")
            self._content.manifests[digest] = (raw, kind)
            tags = self._content.tags.setdefault(repository, {})
            if ":" not in reference:
                tags[reference] = digest
        told = (("OCI-Subject", subject),) if subject and self._tells_subject else ()
        return Answer(201, (("Docker-Content-Digest", digest), *told))

    def _has(self, repository: str, digest: str) -> bool:
        return digest in self._content.blobs and self._uploads.visible(repository, digest)

    def _delete(self, repository: str, reference: str) -> Answer:
        is_tag = ":" not in reference
        if not (self._uploads.deletes_tags if is_tag else self._uploads.deletes):
            return error_answer(405, "UNSUPPORTED", "the operation is unsupported")
        with self._uploads.lock:
            tags = self._content.tags.setdefault(repository, {})
            held = tags if is_tag else self._content.manifests
            if reference not in held:
                return error_answer(404, "MANIFEST_UNKNOWN", f"{reference} is not here")
            del held[reference]
            for tag in [tag for tag, digest in tags.items() if digest == reference]:
                del tags[tag]
        return Answer(202)


def named(raw: bytes) -> tuple[list[str], list[str], str | None]:
    """The blobs and the manifests that a manifest names, and its subject. Raises ValueError."""
    document: Json = json.loads(raw)
    leaves = [document["config"]] if "config" in document else []
    leaves += document.get("layers", [])
    children = document.get("manifests", [])
    subject = (document.get("subject") or {}).get("digest")
    return [leaf["digest"] for leaf in leaves], [child["digest"] for child in children], subject


def _query(request: Request) -> dict[str, str]:
    """The query of a request, each name once."""
    return {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
