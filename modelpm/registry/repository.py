"""One repository as a place to read from and to write to: the distribution spec as a Target.

Source: OCI distribution spec 1.1. What each part of it means is told in `manifests`, `referrers`,
`stream`, `download` and `upload`; here they are one.
"""

import contextlib
import functools
import io
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import BinaryIO, cast

from modelpm.content import Fetcher, Sink, read
from modelpm.errors import (
    DigestMismatchError,
    InvalidReferenceError,
    NotFoundError,
    RegistryError,
)
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import Manifest, is_manifest
from modelpm.oci.reference import Reference
from modelpm.registry.client import RegistryClient
from modelpm.registry.download import Download
from modelpm.registry.manifests import ACCEPT, Manifests
from modelpm.registry.notes import NoNotes, Notes
from modelpm.registry.referrers import Referrers
from modelpm.registry.stream import BlobStream
from modelpm.registry.upload import Upload

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_MAX_ABSENT = 10_000
_MAX_WRAPPED = 8


class Repository:
    """A repository of a registry. Threads may share it.

    The last manifests read are kept, so that `resolve` and then `fetch` is one request. `notes`
    remember where blobs are, and which uploads were begun.
    """

    def __init__(self, client: RegistryClient, name: str, notes: Notes | None = None) -> None:
        self.client = client
        self._writes = notes is not None
        self._notes = notes or NoNotes()
        self.name = Reference.parse(f"{client.host}/{name}:tag").repository
        self._container = client.get_container(self.name)
        self._lock = threading.Lock()
        self._absent: set[Digest] = set()

    @functools.cached_property
    def _base(self) -> str:
        """The URL of the repository's API. Where that is open, it asks whether there is TLS."""
        container = self._container
        return f"{self.client.prefix}://{container.registry}/v2/{container.api_prefix}"

    @functools.cached_property
    def _manifests(self) -> Manifests:
        return Manifests(self.client, self.name, self._base)

    @functools.cached_property
    def _referrers(self) -> Referrers:
        return Referrers(self.client, self._manifests, self._base)

    # Reading: the Source.

    def resolve(self, reference: str) -> Descriptor:
        """What a tag or a digest points at now; one request.

        Raises NotFoundError, DigestMismatchError, RegistryError (also for a manifest that breaks
        the rules) and InvalidReferenceError.
        """
        asked = _parsed(reference)
        digest, manifest = self._manifests.get(reference, asked, writes=self._writes)
        size = len(manifest.raw)
        return Descriptor(manifest.media_type, digest, size, manifest.artifact_type)

    def fetch(self, desc: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """Open content. A manifest has been verified, a blob is opened at the first read.

        Waits while as many blobs are open as there may be connections.
        """
        if not is_manifest(desc):
            return self._stream(desc, offset)
        return io.BytesIO(self._manifests.read(desc)[offset:])

    def download(self, desc: Descriptor, sink: Sink) -> None:
        """Bring a blob by as many streams as make it faster. UNVERIFIED."""
        client = self.client
        fetch = functools.partial(BlobStream, client, self._blob_url(desc), desc)
        Download(fetch, desc, sink, client.budget, client.limits.growth, client.clock).run()

    def exists(self, desc: Descriptor) -> bool:
        """Whether the registry says that it has the content; of a blob, all of it."""
        if is_manifest(desc):
            return self._manifests.exists(desc.digest)
        response = self.client.do_request(self._blob_url(desc), "HEAD", headers={"Accept": ACCEPT})
        is_here = response.status_code != HTTPStatus.NOT_FOUND
        if is_here:
            self.client.check(response)
            length = response.headers.get("Content-Length", "")
            is_here = not length.isdigit() or int(length[:19]) == desc.size
        with self._lock:
            if is_here or len(self._absent) >= _MAX_ABSENT:
                self._absent.discard(desc.digest)
            else:
                self._absent.add(desc.digest)
        if is_here:
            self._notes.saw(self.client.host, self.name, desc.digest)
        return is_here

    def referrers(
        self, subject: Descriptor, artifact_type: str | None = None
    ) -> Iterator[Descriptor]:
        """The manifests whose subject this is, from the API or else from the fallback tag."""
        return self._referrers.of(subject.digest, artifact_type)

    def tags(self) -> list[str]:
        """All tags, in the registry's order. What is not a tag by the grammar is left out."""
        try:
            tags = self.client.get_tags(self.name)
        except (ValueError, TypeError, AttributeError, RecursionError):
            tags = None
        if tags is None or len(tags) > self.client.limits.entries:
            raise RegistryError(f"{self.client.host} has no usable list of tags of {self.name}")
        return [tag for tag in tags if isinstance(tag, str) and _TAG.fullmatch(tag)]

    # Writing: the Target.

    def push(self, desc: Descriptor, source: Fetcher) -> None:
        """Bring content in, verified before its end is sent. Idempotent; resumes.

        A manifest is put by its digest and read back; all that it names must be there. Raises
        DigestMismatchError where the source's bytes are wrong, RegistryError where the
        registry does not take them, and what reading the source raises.
        """
        if is_manifest(desc):
            self._push_manifest(desc, source)
            return
        with self._lock:
            is_absent = desc.digest in self._absent
            self._absent.discard(desc.digest)
        if not is_absent and self.exists(desc):
            return
        origin = _origin(source)
        shares = origin is not None and origin.client is self.client
        is_sister = origin is not None and origin.client.host == self.client.host
        own = [origin.name] if origin is not None and is_sister else []
        seen = self._notes.sisters(self.client.host, desc.digest)
        Upload(
            self.client,
            self.name,
            self._base,
            desc,
            source,
            notes=self._notes,
            sisters=[name for name in (*own, *seen) if name != self.name],
            exists=lambda: self.exists(desc),
            shares=shares,
        ).run()
        with self._lock:
            self._absent.discard(desc.digest)
        self._notes.saw(self.client.host, self.name, desc.digest)

    def tag(self, desc: Descriptor, reference: str) -> None:
        """Point a tag at a manifest that is here: its very bytes are put under that name.

        Raises NotFoundError where it is not here, InvalidReferenceError, RegistryError.
        """
        if _parsed(reference) is not None:
            raise InvalidReferenceError(f"{reference} is a digest; a name is a tag")
        self._manifests.put(reference, self._manifests.read(desc), desc.media_type)

    def delete(self, reference: str) -> None:
        """Delete a tag, or a manifest by its digest: with it go all its tags.

        Raises NotFoundError, and RegistryError where the registry does not delete.
        """
        digest = _parsed(reference)
        manifest = None if digest is None else self._manifests.get(reference, digest)[1]
        self._manifests.delete(reference)
        if manifest is not None:
            self._referrers.remove(manifest)

    @contextlib.contextmanager
    def hold(self, _descs: Iterable[Descriptor]) -> Iterator[None]:
        """Nothing to do: a registry keeps what is new by itself."""
        yield

    def _push_manifest(self, desc: Descriptor, source: Fetcher) -> None:
        manifest = Manifest.parse(read(source, desc), desc.media_type)
        if manifest.subject is None and self.exists(desc):
            return
        reference = str(desc.digest)
        headers = self._manifests.put(reference, manifest.raw, desc.media_type)
        try:
            self._manifests.get(reference, desc.digest, desc.media_type)
        except (NotFoundError, DigestMismatchError) as error:
            raise RegistryError(
                f"pushing {self.client.host}/{self.name}@{reference}: it was taken, but does not"
                f" come back: {error}"
            ) from None
        self._referrers.add(manifest, headers.get("OCI-Subject", ""))

    def _blob_url(self, desc: Descriptor) -> str:
        return f"{self.client.prefix}://{self._container.get_blob_url(str(desc.digest))}"

    @contextlib.contextmanager
    def _stream(self, desc: Descriptor, offset: int) -> Iterator[BinaryIO]:
        self.client.budget.acquire()
        try:
            with BlobStream(self.client, self._blob_url(desc), desc, offset) as stream:
                yield cast("BinaryIO", stream)  # as far as it is used: read and close
        finally:
            self.client.budget.release()


def _parsed(reference: str) -> Digest | None:
    """The digest that a reference is, or None for a tag. Raises InvalidReferenceError."""
    if ":" in reference:
        return Digest.parse(reference)
    if _TAG.fullmatch(reference) is None:
        raise InvalidReferenceError(f"{reference[:200]!r} is not a tag")
    return None


def _origin(source: object) -> Repository | None:
    """The repository that a source is, or that one wraps which only looks on."""
    for _ in range(_MAX_WRAPPED):
        if isinstance(source, Repository):
            return source
        source = getattr(source, "source", None)
    return None
