"""What a registry says that it holds: its catalog, which many do not offer, or only in part.

Source: distribution's API, "Listing Repositories"; the distribution spec leaves it out.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelpm.errors import InvalidManifestError, InvalidReferenceError, RegistryError
from modelpm.oci.manifest import load_json
from modelpm.oci.reference import Reference
from modelpm.registry.quirks import quirks_of
from modelpm.registry.task import Scope, Task

if TYPE_CHECKING:
    from modelpm.registry.client import RegistryClient

_PAGE = 1_000
_NOT_OFFERED = frozenset({400, 404, 405, 406, 501})


def repositories(client: "RegistryClient") -> Iterator[str]:
    """The names of a registry's repositories; what is no name by the grammar is left out.

    Raises RegistryError where it offers no list, and AuthenticationError where not to us.
    """
    task = Task(f"listing the repositories of {client.host}", Scope())
    if not quirks_of(client.host).catalog:
        raise RegistryError(f"{task.words}: this registry offers no list of them")
    count = 0
    for page in client.pages(f"{client.prefix}://{client.hostname}/v2/_catalog?n={_PAGE}"):
        if page.status_code in _NOT_OFFERED:
            raise RegistryError(
                f"{task.words}: it offers no list of them ({page.status_code})",
                status=page.status_code,
            )
        client.check(page, task)
        for name in _listed(task.words, page.content):
            count += 1
            if count > client.limits.entries:
                raise RegistryError(f"{task.words}: there are more than {count - 1}")
            if isinstance(name, str) and _is_name(client.host, name):
                yield name


def _listed(words: str, body: bytes) -> list[object]:
    try:
        document = load_json(body)
    except InvalidManifestError as error:
        raise RegistryError(f"{words}: {error}") from None
    names = document.get("repositories") if isinstance(document, dict) else None
    return names if isinstance(names, list) else []


def _is_name(host: str, name: str) -> bool:
    try:
        return Reference.parse(f"{host}/{name}:tag").repository == name
    except InvalidReferenceError:
        return False
