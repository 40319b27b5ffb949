"""The manifests of one repository: read and verified, kept a while, put as the bytes they are.

Source: OCI distribution spec 1.1, "Pulling manifests" and "Pushing Manifests". Manifests are
verified here, for they are interpreted here.
"""

import contextlib
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from modelpm.errors import (
    AuthenticationError,
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
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
)
from modelpm.registry.client import RETRIED, RegistryClient
from modelpm.registry.quirks import quirks_of
from modelpm.registry.task import Scope, Task

ACCEPT = f"{OCI_MANIFEST}, {DOCKER_MANIFEST}, {OCI_INDEX}, {DOCKER_INDEX}, {OCI_ARTIFACT}"
_KEPT = 16
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"')
"""RFC 9110, 8.8.3. A weak one is never good for If-Match."""

_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"


class Manifests:
    """Manifests by tag or digest; the last ones read are kept. Threads may share it.

    `base` is the URL of the repository's API.
    """

    def __init__(self, client: RegistryClient, repository: str, base: str) -> None:
        self._client = client
        self._base = base
        self._name = f"{client.host}/{repository}"
        self._repository = repository
        self._lock = threading.Lock()
        self._kept: OrderedDict[Digest, bytes] = OrderedDict()

    def url(self, reference: str) -> str:
        """Where a manifest is."""
        return f"{self._base}/manifests/{reference}"

    def read(self, desc: Descriptor) -> bytes:
        """The bytes of a manifest, verified; what was just read is not asked for again."""
        with self._lock:
            raw = self._kept.get(desc.digest)
        return raw or self.get(str(desc.digest), desc.digest, desc.media_type)[1].raw

    def get(
        self,
        reference: str,
        asked: Digest | None = None,
        media_type: str | None = None,
        *,
        writes: bool = False,
    ) -> tuple[Digest, Manifest]:
        """The manifest, verified and kept, and its digest by the algorithm asked for.

        `writes` says that it is looked at to put another in its place. Raises NotFoundError,
        DigestMismatchError, RegistryError.
        """
        return self._get(reference, asked, media_type, writes=writes)[:2]

    def versioned(self, tag: str) -> tuple[Manifest, str]:
        """What a tag means now, and what to give `put` that it may replace only this.

        That is empty where the registry says nothing of the kind. Raises as `get`.
        """
        _, manifest, headers = self._get(tag)
        told = headers.get("ETag", "").strip()
        return manifest, told if _STRONG_ETAG.fullmatch(told) else ""

    def _get(
        self,
        reference: str,
        asked: Digest | None = None,
        media_type: str | None = None,
        *,
        writes: bool = False,
    ) -> tuple[Digest, Manifest, Mapping[str, str]]:
        url = self.url(reference)
        task = Task.of(self._client.host, "PUT" if writes else "GET", url)
        response = self._client.do_request(url, headers={"Accept": ACCEPT}, task=task)
        self._client.check(response, task)
        raw: bytes = response.content
        digest = Digest.of(raw, asked.algorithm if asked else "sha256")
        if asked is not None and digest != asked:
            raise DigestMismatchError(f"{asked}: {self._client.host} sent {digest} instead")
        self._check_header(raw, response.headers.get("Docker-Content-Digest", ""))
        manifest = self.parse(raw, served_as(response.headers))
        if media_type is not None:
            self.parse(raw, media_type)
        with self._lock:
            self._kept[digest] = raw
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return digest, manifest, response.headers

    def exists(self, digest: Digest) -> bool:
        """Whether the registry says that it has a manifest, or has just shown it."""
        with self._lock:
            if digest in self._kept:
                return True
        url, headers = self.url(str(digest)), {"Accept": ACCEPT}
        response = self._client.do_request(url, "HEAD", headers=headers)
        if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            response = self._client.do_request(url, headers=headers)
        if response.status_code == HTTPStatus.NOT_FOUND:
            return False
        self._client.check(response)
        return True

    def put(
        self, reference: str, raw: bytes, media_type: str, *, version: str = ""
    ) -> Mapping[str, str]:
        """Put these very bytes under a tag or their digest; the headers of the answer.

        With `version`, as `versioned` gives it, a registry that knows conditions answers 412 where
        the tag means something else by now; others do as without. One that failed after it had
        taken the bytes is asked whether it has. Raises RegistryError, also where it stored
        something else.
        """
        headers = {"Content-Type": media_type, **({"If-Match": version} if version else {})}
        try:
            response = self._client.do_request(self.url(reference), "PUT", raw, headers)
        except AuthenticationError:
            raise
        except RegistryError:
            if self._is_taken(reference, raw):
                return {}
            raise
        if response.status_code in RETRIED and self._is_taken(reference, raw):
            return {}
        self._check_put(response, reference)
        self._check_header(raw, response.headers.get("Docker-Content-Digest", ""), stored=True)
        return response.headers

    def delete(self, reference: str) -> None:
        """Delete a tag or a manifest. Raises NotFoundError and RegistryError."""
        mark = "@" if ":" in reference else ":"
        words = f"deleting {self._name}{mark}{reference}"
        instead = quirks_of(self._client.host).deletion
        if instead:
            raise RegistryError(f"{words}: this registry does not delete ({instead})")
        task = Task(words, Scope(self._repository, "pull,push,delete"))
        response = self._client.do_request(self.url(reference), "DELETE", task=task)
        status = response.status_code
        if status in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.BAD_REQUEST):
            told = self._client.auth.read_refusal(response.content)
            what = " ".join(part for part in (str(status), told.code) if part)
            why = ": ".join(part for part in (what, told.message) if part)
            advice = (
                "the registry does not delete; its owner may allow it"
                if mark == "@"
                else "the registry may delete by digest only, which takes all tags of it"
            )
            raise RegistryError(f"{words}: {why} ({advice})", status=status, code=told.code)
        self._client.check(response, task)
        with self._lock, contextlib.suppress(InvalidReferenceError):
            self._kept.pop(Digest.parse(reference), None)

    def parse(self, raw: bytes, media_type: str | None) -> Manifest:
        """The manifest. Raises RegistryError: a registry should not have taken a bad one."""
        try:
            return Manifest.parse(raw, media_type)
        except InvalidManifestError as error:
            why = self._client.auth.scrub(str(error))
            raise RegistryError(f"pulling {self._name}: unusable manifest: {why}") from None

    def _is_taken(self, reference: str, raw: bytes) -> bool:
        try:
            return self.get(reference)[1].raw == raw
        except (NotFoundError, RegistryError, DigestMismatchError):
            return False

    def _check_put(self, response: Any, reference: str) -> None:
        refusal = self._client.auth.read_refusal(response.content)
        if refusal.code == _BLOB_UNKNOWN and response.status_code >= HTTPStatus.BAD_REQUEST:
            mark = "@" if ":" in reference else ":"
            raise RegistryError(
                f"pushing {self._name}{mark}{reference}: the registry misses what the manifest"
                f" names: {refusal.message} (try: push again)",
                status=response.status_code,
                code=refusal.code,
            )
        self._client.check(response)

    def _check_header(self, raw: bytes, told: str, *, stored: bool = False) -> None:
        """The header is no proof, but one that contradicts the bytes is a sign of something."""
        try:
            digest = Digest.parse(told)
        except InvalidReferenceError:
            return
        actual = Digest.of(raw, digest.algorithm)
        if actual != digest and stored:
            raise RegistryError(
                f"pushing {self._name}: the registry has stored {actual} as {digest}"
            )
        if actual != digest:
            raise DigestMismatchError(
                f"{self._client.host} sent a manifest as {digest}, but it is {actual}"
            )


def served_as(headers: Mapping[str, str]) -> str:
    """The media type that an answer claims, without parameters."""
    return headers.get("Content-Type", "").partition(";")[0].strip()
