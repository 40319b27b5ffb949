"""One repository as a place to read from: the distribution spec as a Source.

Source: OCI distribution spec 1.1, "Pull" and "Listing Referrers". Manifests are verified here, for
they are interpreted here; blobs are not.
"""

import contextlib
import functools
import io
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import BinaryIO, cast

from modelpm.content import Fetcher, Sink
from modelpm.errors import (
    DigestMismatchError,
    InvalidManifestError,
    InvalidReferenceError,
    NotFoundError,
    RegistryError,
)
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
    is_manifest,
)
from modelpm.oci.reference import Reference
from modelpm.registry.client import RegistryClient, is_success
from modelpm.registry.download import Download
from modelpm.registry.stream import BlobStream
from modelpm.registry.upload import NoNotes, Notes

_ACCEPT = f"{OCI_MANIFEST}, {DOCKER_MANIFEST}, {OCI_INDEX}, {DOCKER_INDEX}"
_KEPT = 16
_NO_SUCH_API = frozenset({200, 400, 404, 405, 406, 501})
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class Repository:
    """A repository of a registry. Threads may share it.

    The last manifests read are kept, so that `resolve` and then `fetch` is one request.
    """

    def __init__(self, client: RegistryClient, name: str, notes: Notes | None = None) -> None:
        self._client = client
        self._notes = notes or NoNotes()
        self.name = Reference.parse(f"{client.host}/{name}:tag").repository
        self._container = client.get_container(self.name)
        self._lock = threading.Lock()
        self._kept: OrderedDict[Digest, bytes] = OrderedDict()

    def resolve(self, reference: str) -> Descriptor:
        """What a tag or a digest points at now; one request.

        Raises NotFoundError, DigestMismatchError, RegistryError (also for a manifest that breaks
        the rules) and InvalidReferenceError.
        """
        asked = Digest.parse(reference) if ":" in reference else None
        if asked is None and _TAG.fullmatch(reference) is None:
            raise InvalidReferenceError(f"{reference[:200]!r} is not a tag")
        digest, manifest = self._manifest(reference, asked)
        size = len(manifest.raw)
        return Descriptor(manifest.media_type, digest, size, manifest.artifact_type)

    def fetch(self, desc: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """Open content. A manifest has been verified, a blob is opened at the first read.

        Waits while as many blobs are open as there may be connections.
        """
        if not is_manifest(desc):
            return self._stream(desc, offset)
        with self._lock:
            raw = self._kept.get(desc.digest)
        if raw is None:
            raw = self._manifest(str(desc.digest), desc.digest, desc.media_type)[1].raw
        return io.BytesIO(raw[offset:])

    def download(self, desc: Descriptor, sink: Sink) -> None:
        """Bring a blob by as many streams as make it faster. UNVERIFIED."""
        client = self._client
        fetch = functools.partial(BlobStream, client, self._blob_url(desc), desc)
        Download(fetch, desc, sink, client.budget, client.limits.growth, client.clock).run()

    def exists(self, desc: Descriptor) -> bool:
        """Whether the registry says that it has the content."""
        is_leaf = not is_manifest(desc)
        url = self._blob_url(desc) if is_leaf else self._manifest_url(str(desc.digest))
        response = self._client.do_request(url, "HEAD", headers={"Accept": _ACCEPT})
        if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED and not is_leaf:
            response = self._client.do_request(url, headers={"Accept": _ACCEPT})
        if response.status_code == HTTPStatus.NOT_FOUND:
            return False
        self._client.check(response)
        return True

    def referrers(
        self, subject: Descriptor, artifact_type: str | None = None
    ) -> Iterator[Descriptor]:
        """The manifests whose subject this is, from the API or else from the fallback tag."""
        count = 0
        for index in self._referrer_pages(subject.digest):
            for child in index.children:
                count += 1
                if count > self._client.limits.entries:
                    raise RegistryError(f"more than {count - 1} referrers of {subject.digest}")
                if artifact_type in (None, child.descriptor.artifact_type):
                    yield child.descriptor

    def tags(self) -> list[str]:
        """All tags, in the registry's order. What is not a tag by the grammar is left out."""
        try:
            tags = self._client.get_tags(self.name)
        except (ValueError, TypeError, AttributeError, RecursionError):
            tags = None
        if tags is None or len(tags) > self._client.limits.entries:
            raise RegistryError(f"{self._client.host} has no usable list of tags of {self.name}")
        return [tag for tag in tags if isinstance(tag, str) and _TAG.fullmatch(tag)]

    def push(self, desc: Descriptor, source: Fetcher) -> None:
        """Bring content in, verified before its end is sent. Idempotent; resumes.

        A manifest is put by its digest and read back; all that it names must be there. Raises
        DigestMismatchError where the source's bytes are wrong, RegistryError where the
        registry does not take them, and what reading the source raises.
        """
        raise NotImplementedError

    def tag(self, desc: Descriptor, reference: str) -> None:
        """Point a tag at a manifest that is here: its very bytes are put under that name."""
        raise NotImplementedError

    def delete(self, reference: str) -> Descriptor:
        """Delete a tag, or a manifest by its digest; what it was.

        Raises NotFoundError, and RegistryError where the registry does not delete.
        """
        raise NotImplementedError

    @contextlib.contextmanager
    def hold(self, descs: Iterable[Descriptor]) -> Iterator[None]:
        """Nothing to do: a registry keeps what is new by itself."""
        yield

    def _manifest_url(self, reference: str) -> str:
        return f"{self._client.prefix}://{self._container.manifest_url(reference)}"

    def _blob_url(self, desc: Descriptor) -> str:
        return f"{self._client.prefix}://{self._container.get_blob_url(str(desc.digest))}"

    @contextlib.contextmanager
    def _stream(self, desc: Descriptor, offset: int) -> Iterator[BinaryIO]:
        self._client.budget.acquire()
        try:
            with BlobStream(self._client, self._blob_url(desc), desc, offset) as stream:
                yield cast("BinaryIO", stream)  # as far as it is used: read and close
        finally:
            self._client.budget.release()

    def _manifest(
        self, reference: str, asked: Digest | None, media_type: str | None = None
    ) -> tuple[Digest, Manifest]:
        """The manifest, verified and kept, and its digest by the algorithm asked for."""
        url = self._manifest_url(reference)
        response = self._client.do_request(url, headers={"Accept": _ACCEPT})
        self._client.check(response)
        raw: bytes = response.content
        digest = Digest.of(raw, asked.algorithm if asked else "sha256")
        if asked is not None and digest != asked:
            raise DigestMismatchError(f"{asked}: {self._client.host} sent {digest} instead")
        self._check_header(raw, response.headers.get("Docker-Content-Digest", ""))
        manifest = self._parse(raw, _served_as(response.headers))
        if media_type is not None:
            self._parse(raw, media_type)
        with self._lock:
            self._kept[digest] = raw
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return digest, manifest

    def _parse(self, raw: bytes, media_type: str | None) -> Manifest:
        """The manifest. Raises RegistryError: a registry should not have taken a bad one."""
        try:
            return Manifest.parse(raw, media_type)
        except InvalidManifestError as error:
            raise RegistryError(
                f"pulling {self._client.host}/{self.name}: unusable manifest: {error}"
            ) from None

    def _check_header(self, raw: bytes, told: str) -> None:
        """The header is no proof, but one that contradicts the bytes is a sign of something."""
        try:
            digest = Digest.parse(told)
        except InvalidReferenceError:
            return
        actual = Digest.of(raw, digest.algorithm)
        if actual != digest:
            raise DigestMismatchError(
                f"{self._client.host} sent a manifest as {digest}, but it is {actual}"
            )

    def _referrer_pages(self, subject: Digest) -> Iterator[Manifest]:
        container = self._container
        base = f"{self._client.prefix}://{container.registry}/v2/{container.api_prefix}"
        for number, page in enumerate(self._client.pages(f"{base}/referrers/{subject}", OCI_INDEX)):
            is_index = is_success(page) and _served_as(page.headers) == OCI_INDEX
            if number == 0 and not is_index and page.status_code in _NO_SUCH_API:
                yield from self._fallback(subject)
                return
            self._client.check(page)
            yield self._parse(page.content, OCI_INDEX)

    def _fallback(self, subject: Digest) -> Iterator[Manifest]:
        """The index under the tag that stands for the API where there is none."""
        tag = f"{subject.algorithm}-{subject.hex[:64]}"
        try:
            _, manifest = self._manifest(tag, None)
        except NotFoundError:
            return
        if manifest.media_type not in INDEX_TYPES:
            raise RegistryError(f"listing referrers of {subject}: the tag {tag} is no index")
        yield manifest


def _served_as(headers: Mapping[str, str]) -> str:
    """The media type that an answer claims, without parameters."""
    return headers.get("Content-Type", "").partition(";")[0].strip()
