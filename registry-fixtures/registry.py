"""A loopback OCI registry: what it holds, who may read and write it, and how it misbehaves.

    with Registry(scenario=[{"path": "/blobs/", "times": 1, "cut": 5000}]) as registry:
        registry.add_artifact("team/tiny", "latest", [("application/octet-stream", b"...")])
        client.pull(f"{registry.host}/team/tiny")
        assert len(registry.requests("GET", "/blobs/")) == 3

With `uploads` it may be written to as well; without, it is read-only.
`faults` tells what a scenario may say, `loopback` what a log holds. As a program it serves layouts:

    python registry-fixtures/registry.py --port 5000 --layout team/tiny:latest=DIR --llama2
"""

import argparse
import json
import re
import signal
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from artifact import (
    EMPTY_TYPE,
    OCI_INDEX,
    OCI_MANIFEST,
    REF_NAME,
    Artifact,
    Json,
    described,
    digest_of,
)
from faults import Rules, Scripted, error_answer
from loopback import Answer, Headers, Origin, Pace, Request
from ollama_artifacts import llama2
from tokenserver import TokenServer, parse_basic
from uploads import Uploads, Writer

__all__ = [
    "OLLAMA_QUIRKS",
    "Answer",
    "Basic",
    "Bearer",
    "Content",
    "Origin",
    "Pace",
    "Registry",
    "Request",
    "Rules",
    "Scripted",
    "Sink",
    "TokenServer",
    "Uploads",
    "main",
]

OLLAMA_QUIRKS: Rules = (
    {"path": "/manifests/", "method": "HEAD", "status": 404},
    {
        "path": "/manifests/",
        "headers": {"Content-Type": "text/plain; charset=utf-8", "Docker-Content-Digest": None},
    },
)
"""The scenario in which a registry answers for manifests as registry.ollama.ai does."""

_JSON: Headers = (("Content-Type", "application/json"),)
_ROUTE = re.compile(r"/v2/(?P<repository>.+)/(?P<kind>manifests|blobs|tags|referrers)/(?P<item>.+)")


@dataclass
class Content:
    """What origins can serve: blobs and manifests by digest, tags by repository."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)

    def add_blob(self, content: bytes, digest: str | None = None) -> str:
        """Hold a blob, under a false digest if one is given. Returns the digest."""
        digest = digest or digest_of(content)
        self.blobs[digest] = content
        return digest

    def add_manifest(
        self, repository: str, tag: str | None, raw: bytes, media_type: str = OCI_MANIFEST
    ) -> str:
        """Hold a manifest's bytes as they are, tagged if there is a tag. Returns the digest."""
        digest = digest_of(raw)
        self.manifests[digest] = (raw, media_type)
        tags = self.tags.setdefault(repository, {})
        if tag is not None:
            tags[tag] = digest
        return digest

    def add_artifact(
        self,
        repository: str,
        tag: str | None,
        layers: Iterable[tuple[str, bytes]],
        **members: Any,
    ) -> str:
        """Make an OCI manifest over layers of (media type, content), and hold it all.

        `members` go into the manifest (`artifactType`, `subject`, `annotations`, ...).
        """
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._descriptor(EMPTY_TYPE, b"{}"),
            "layers": [self._descriptor(*layer) for layer in layers],
        } | members
        return self.add_manifest(repository, tag, json.dumps(document).encode())

    def add(self, repository: str, tag: str | None, artifact: Artifact) -> str:
        """Hold an artifact and, if it is an index, what is below it. Returns the digest."""
        for digest, content in artifact.all_blobs.items():
            self.add_blob(content, digest)
        self._add_tree(repository, tag, artifact.descriptor)
        return artifact.digest

    def add_layout(self, repository: str, path: Path, tag: str = "") -> None:
        """Hold an OCI image layout. An entry's tag is `tag`, else its ref.name, else latest."""
        for file in sorted((path / "blobs").glob("*/*")):
            self.add_blob(file.read_bytes(), f"{file.parent.name}:{file.name}")
        for entry in json.loads((path / "index.json").read_bytes())["manifests"]:
            own = entry.get("annotations", {}).get(REF_NAME, "latest").rpartition(":")[2]
            self._add_tree(repository, tag or own, entry)

    def _add_tree(self, repository: str, tag: str | None, entry: Json) -> None:
        raw = self.blobs[entry["digest"]]
        self.add_manifest(repository, tag, raw, entry["mediaType"])
        for child in json.loads(raw).get("manifests", []):
            self._add_tree(repository, None, child)

    def _descriptor(self, media_type: str, content: bytes) -> Json:
        self.add_blob(content)
        return described(media_type, content)


@dataclass(frozen=True, slots=True)
class Basic:
    """Who asks with this user and password may read."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who has a token of this server may read what the token is for.

    `realm` is what the challenge says, if it is not the token server's own.
    """

    tokens: TokenServer
    realm: str | None = None
    service: str = "fixture"


class Registry(Scripted):
    """Distribution spec 1.1: ping, manifests, blobs, tags, referrers; and the catalog of old.

    The content may be added to at any time. `page_size` is the most tags in one answer. Only with
    `uploads` may it be written to.
    """

    def __init__(
        self,
        scenario: Rules = (),
        *,
        content: Content | None = None,
        auth: Basic | Bearer | None = None,
        page_size: int = 100,
        has_referrers: bool = True,
        uploads: Uploads | None = None,
        **options: Any,
    ) -> None:
        super().__init__(scenario=scenario, **options)
        self.uploads = uploads
        self.content = content or Content()
        self.auth = auth
        self.page_size = page_size
        self.has_referrers = has_referrers
        self.add = self.content.add
        self.add_blob = self.content.add_blob
        self.add_manifest = self.content.add_manifest
        self.add_artifact = self.content.add_artifact
        self.add_layout = self.content.add_layout

    def reply(self, request: Request) -> Answer:
        """The answer of a registry in order."""
        url = urlsplit(request.path)
        match = _ROUTE.fullmatch(url.path)
        repository = match["repository"] if match else ""
        challenge = self._challenge(request, repository)
        if challenge is not None:
            denied = error_answer(401, "UNAUTHORIZED", "authentication required")
            return Answer(401, (*denied.headers, ("WWW-Authenticate", challenge)), denied.body)
        is_session = match is not None and match["item"].startswith("uploads/")
        if request.method not in ("GET", "HEAD") or is_session:
            if self.uploads is None or match is None:
                return error_answer(405, "UNSUPPORTED", "this registry is read-only")
            writer = Writer(self.content, self.uploads, tells_subject=self.has_referrers)
            return writer.reply(request, self.url, match)
        if url.path == "/v2/_catalog":
            return self._page("repositories", self.content.tags, parse_qs(url.query), url.path)
        if match is None:
            is_ping = url.path == "/v2/"
            return Answer(200, _JSON, b"{}") if is_ping else _unknown("NOT_FOUND", url.path)
        if repository not in self.content.tags:
            return _unknown("NAME_UNKNOWN", repository)
        return self._item(repository, match["kind"], match["item"], parse_qs(url.query))

    def broken(self, request: Request) -> None:
        """Keep what came of an upload."""
        super().broken(request)
        if self.uploads is not None:
            self.uploads.broken(request)

    def _item(self, repository: str, kind: str, item: str, query: dict[str, list[str]]) -> Answer:
        content = self.content
        if kind == "manifests":
            digest = content.tags[repository].get(item, item)
            held = content.manifests.get(digest)
            if held is None:
                return _unknown("MANIFEST_UNKNOWN", item)
            return _found(held[0], digest, media_type=held[1])
        if kind == "blobs":
            is_here = self.uploads is None or self.uploads.visible(repository, item)
            blob = content.blobs.get(item) if is_here else None
            return _unknown("BLOB_UNKNOWN", item) if blob is None else _found(blob, item)
        if kind == "referrers" and self.has_referrers:
            return self._referrers(item, query)
        if kind == "tags" and item == "list":
            return self._tags(repository, query)
        return _unknown("NOT_FOUND", item)

    def _tags(self, repository: str, query: dict[str, list[str]]) -> Answer:
        path = f"/v2/{repository}/tags/list"
        return self._page("tags", self.content.tags[repository], query, path, name=repository)

    def _page(
        self, key: str, names: Iterable[str], query: dict[str, list[str]], path: str, **more: str
    ) -> Answer:
        """A page of a list of names, and where the next one is."""
        count = min(int(query.get("n", [str(self.page_size)])[0]), self.page_size)
        last = query.get("last", [""])[0]
        names = [name for name in sorted(names) if name > last]
        page = names[:count]
        headers: Headers = _JSON
        if page and len(names) > count:
            following = f"{path}?n={count}&last={quote(page[-1])}"
            headers = (*_JSON, ("Link", f'<{following}>; rel="next"'))
        return Answer(200, headers, json.dumps({**more, key: page}).encode())

    def _referrers(self, subject: str, query: dict[str, list[str]]) -> Answer:
        wanted = query.get("artifactType")
        found = []
        for digest, (raw, media_type) in list(self.content.manifests.items()):
            document = _object(raw)
            kind = document.get("artifactType") or document.get("config", {}).get("mediaType")
            if (document.get("subject") or {}).get("digest") == subject and (
                wanted is None or kind in wanted
            ):
                entry = {"mediaType": media_type, "digest": digest, "size": len(raw)}
                annotations = document.get("annotations")
                found.append(
                    entry
                    | ({"artifactType": kind} if kind else {})
                    | ({"annotations": annotations} if annotations else {})
                )
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
        headers: Headers = (("Content-Type", OCI_INDEX),)
        if wanted:
            headers = (*headers, ("OCI-Filters-Applied", "artifactType"))
        return Answer(200, headers, json.dumps(index).encode())

    def _challenge(self, request: Request, repository: str) -> str | None:
        """The challenge for one who may not read this, or None for one who may."""
        given = request.headers.get("authorization", "")
        if isinstance(self.auth, Basic):
            right = parse_basic(given) == (self.auth.user, self.auth.password)
            return None if right else 'Basic realm="fixture"'
        if isinstance(self.auth, Bearer):
            scheme, _, token = given.partition(" ")
            wanted = ("pull",) if request.method in ("GET", "HEAD") else ("pull", "push")
            allows = self.auth.tokens.allows
            is_bearer = scheme.lower() == "bearer"
            if is_bearer and all(allows(token, repository, action) for action in wanted):
                return None
            realm = self.auth.realm or self.auth.tokens.realm
            scope = f',scope="repository:{repository}:{",".join(wanted)}"' if repository else ""
            return f'Bearer realm="{realm}",service="{self.auth.service}"{scope}'
        return None


class Sink(Scripted):
    """A foreign origin: it writes down all that it is sent, and can stand for a CDN.

    A path that holds a digest gets that blob of `content`; all else is 404, or what the scenario
    says.
    """

    def __init__(self, content: Content | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.content = content or Content()

    @property
    def secrets(self) -> tuple[Request, ...]:
        """The requests that carried a credential."""
        return tuple(request for request in self.log if request.has_secret)

    def reply(self, request: Request) -> Answer:
        """The blob that the path names."""
        for digest, blob in list(self.content.blobs.items()):
            if digest in request.path:
                return _found(blob, digest)
        return _unknown("NOT_FOUND", request.path)


def _unknown(code: str, what: str) -> Answer:
    return error_answer(404, code, f"{what} is not here")


def _found(content: bytes, digest: str, media_type: str | None = None) -> Answer:
    """A manifest, or a blob: only blobs are served in ranges."""
    headers = (
        ("Content-Type", media_type or "application/octet-stream"),
        ("Docker-Content-Digest", digest),
        ("Etag", f'"{digest}"'),
    )
    return Answer(200, headers if media_type else (*headers, ("Accept-Ranges", "bytes")), content)


def _object(raw: bytes) -> Json:
    """The JSON object of a manifest; one that is none has no members."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve layouts until SIGINT or SIGTERM; prints the address when it is ready."""
    parser = argparse.ArgumentParser(description="Serve OCI image layouts on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--layout", action="append", default=[], metavar="REPO:TAG=DIR")
    parser.add_argument("--llama2", action="store_true", help="serve library/llama2")
    parser.add_argument("--writable", action="store_true", help="may be pushed to")
    parser.add_argument("--user", metavar="NAME:PASSWORD", help="the one who may read and write")
    options = parser.parse_args(arguments)
    content = Content()
    for layout in options.layout:
        name, _, folder = layout.partition("=")
        repository, _, tag = name.partition(":")
        content.add_layout(repository, Path(folder), tag)
    if options.llama2:
        for tag, artifact in llama2(Path(__file__).parent / "llama2").items():
            content.add("library/llama2", tag, artifact)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    uploads = Uploads() if options.writable else None
    auth = Basic(*options.user.split(":", 1)) if options.user else None
    with Registry(content=content, uploads=uploads, auth=auth, port=options.port) as registry:
        print(registry.host, flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
