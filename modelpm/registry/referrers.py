"""What refers to a manifest: from the referrers API, or else from the tag that stands for it.

Source: OCI distribution spec 1.1, "Listing Referrers", "Pushing Manifests with Subject",
"Referrers Tag Schema". The tag is read, changed and put back. The specification has no lock for
that. Where the registry tells a version (ETag) it is asked to replace only that one (If-Match), as
github.com/opencontainers/distribution-spec issue 250 proposes; docker-registry (2.8.2) tells one
and does not mind it. So in any case the tag is read once more, and changed again where somebody
else has put it meanwhile.
"""

import json
from collections.abc import Callable, Iterator
from http import HTTPStatus
from urllib.parse import quote

from modelpm.errors import NotFoundError, RegistryError
from modelpm.oci.descriptor import Descriptor, Digest
from modelpm.oci.manifest import (
    INDEX_TYPES,
    MAX_BYTES,
    MAX_ENTRIES,
    OCI_INDEX,
    Manifest,
    load_json,
)
from modelpm.registry.client import RegistryClient, is_success
from modelpm.registry.manifests import Manifests, served_as

_NO_SUCH_API = frozenset({200, 400, 404, 405, 406, 501})
_ROUNDS = 6
_REFUSALS = 24
"""How often others may be faster where the registry lets only one of us through each time."""


Entry = dict[str, object]


class Referrers:
    """The referrers in one repository. `base` is the URL of the repository's API."""

    def __init__(self, client: RegistryClient, manifests: Manifests, base: str) -> None:
        self._client = client
        self._manifests = manifests
        self._base = base

    def of(self, subject: Digest, artifact_type: str | None) -> Iterator[Descriptor]:
        """The manifests whose subject this is, all or those of one artifact type.

        Raises RegistryError, also past the limits of a list.
        """
        count = 0
        for index in self._pages(subject, artifact_type):
            for child in index.children:
                count += 1
                if count > self._client.limits.entries:
                    raise RegistryError(f"more than {count - 1} referrers of {subject}")
                # Whether the registry has filtered is told by a header, or not at all.
                if artifact_type in (None, child.descriptor.artifact_type):
                    yield child.descriptor

    def add(self, manifest: Manifest, told: str) -> None:
        """See to it that a manifest that was put is found by its subject.

        `told` is the OCI-Subject of the answer: a registry that sends it has done so itself.
        """
        subject = manifest.subject
        if subject is None or told == str(subject.digest):
            return
        entry = _entry(manifest)

        def added(entries: list[Entry]) -> list[Entry]:
            has = any(one.get("digest") == entry["digest"] for one in entries)
            return entries if has else [*entries, entry]

        self._change(subject.digest, added)

    def remove(self, manifest: Manifest) -> None:
        """See to it that a manifest that was deleted is no longer found by its subject."""
        subject, gone = manifest.subject, str(manifest.digest)
        if subject is None or self._has_api(subject.digest):
            return
        self._change(
            subject.digest,
            lambda entries: [entry for entry in entries if entry.get("digest") != gone],
        )

    def _change(self, subject: Digest, change: Callable[[list[Entry]], list[Entry]]) -> None:
        """Bring the index behind the tag to what `change` leaves as it is."""
        tag = fallback_tag(subject)
        words = f"noting a referrer under the tag {tag} on {self._client.host}"
        attempts = self._client.attempts(most=_ROUNDS)
        was_put, refused, refusals = False, list[Entry](), 0
        while True:
            document, version = self._read(subject, tag)
            entries = _entries(document)
            changed = change(entries)
            if changed == entries:
                return
            if was_put and not attempts.again("others change the referrers too"):
                raise RegistryError(
                    f"{words}: others change it again and again, so it may be missing there"
                    " (try again later)"
                )
            raw = json.dumps({**document, "manifests": changed}).encode()
            if len(changed) > MAX_ENTRIES or len(raw) > MAX_BYTES:
                raise RegistryError(f"{words}: there is no room for more of them")
            # A condition that was refused although nothing has changed means nothing there.
            version = "" if refusals and entries == refused else version
            was_put = True
            if not self._put(tag, raw, str(document.get("mediaType", OCI_INDEX)), version):
                refused, refusals = entries, refusals + 1
                if refusals <= _REFUSALS:
                    attempts.progressed()  # who was faster has got on

    def _put(self, tag: str, raw: bytes, media_type: str, version: str) -> bool:
        """Put the document in the place of that version; False where it is there no more."""
        try:
            self._manifests.put(tag, raw, media_type, version=version)
        except RegistryError as error:
            if not version or error.status != HTTPStatus.PRECONDITION_FAILED:
                raise
            return False
        return True

    def _read(self, subject: Digest, tag: str) -> tuple[Entry, str]:
        """The document behind the tag, with all that others put into it, and its version.

        An empty one without a version if there is none.
        """
        try:
            manifest, version = self._manifests.versioned(tag)
        except NotFoundError:
            return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, ""
        document = load_json(self._index(subject, tag, manifest).raw)
        return (document if isinstance(document, dict) else {}), version

    def _pages(self, subject: Digest, artifact_type: str | None) -> Iterator[Manifest]:
        query = "" if artifact_type is None else f"?artifactType={quote(artifact_type, safe='')}"
        url = f"{self._url(subject)}{query}"
        for number, page in enumerate(self._client.pages(url, OCI_INDEX)):
            is_index = is_success(page) and served_as(page.headers) == OCI_INDEX
            if number == 0 and not is_index and page.status_code in _NO_SUCH_API:
                try:
                    yield self._fallback(subject, fallback_tag(subject))
                except NotFoundError:
                    return
                return
            self._client.check(page)
            yield self._manifests.parse(page.content, OCI_INDEX)

    def _has_api(self, subject: Digest) -> bool:
        response = self._client.do_request(self._url(subject), headers={"Accept": OCI_INDEX})
        return is_success(response) and served_as(response.headers) == OCI_INDEX

    def _fallback(self, subject: Digest, tag: str) -> Manifest:
        """The index under the tag that stands for the API where there is none."""
        return self._index(subject, tag, self._manifests.get(tag)[1])

    def _index(self, subject: Digest, tag: str, manifest: Manifest) -> Manifest:
        if manifest.media_type not in INDEX_TYPES:
            raise RegistryError(f"listing referrers of {subject}: the tag {tag} is no index")
        return manifest

    def _url(self, subject: Digest) -> str:
        return f"{self._base}/referrers/{subject}"


def fallback_tag(subject: Digest) -> str:
    """The tag that lists what refers to a manifest where there is no API for that."""
    return f"{subject.algorithm}-{subject.hex[:64]}"


def _entries(document: Entry) -> list[Entry]:
    entries = document["manifests"]
    return entries if isinstance(entries, list) else []


def _entry(manifest: Manifest) -> Entry:
    kind = manifest.artifact_type or (manifest.config.media_type if manifest.config else None)
    desc = manifest.descriptor
    named = Descriptor(desc.media_type, desc.digest, desc.size, kind, manifest.annotations)
    return named.to_json()
