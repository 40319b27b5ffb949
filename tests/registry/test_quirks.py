"""The table of known registries: one row for a host, and what is not known is the standard."""

import re

import pytest
from registry import Uploads

from modelpm.errors import RegistryError
from modelpm.registry import manifests
from modelpm.registry.catalog import repositories
from modelpm.registry.quirks import MIB, STANDARD, TABLE, Quirks, quirks_of
from tests.registry.conftest import Bench, fill

HOSTS = [
    ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", {"pieces": False}),
    ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", {"pieces": False}),
    ("123456789012.dkr-ecr.eu-west-1.on.aws", {"pieces": False}),
    ("public.ecr.aws", {"pieces": False, "mount": False}),
    ("ghcr.io", {"largest": 4 * MIB, "catalog": False, "pieces": True}),
    ("gcr.io", {"pieces": False}),
    ("eu.gcr.io", {"pieces": False}),
    ("europe-west1-docker.pkg.dev", {"pieces": False}),
    ("models.azurecr.io", {"most_at_once": 16 * MIB, "largest": 16 * MIB}),
    ("acme.jfrog.io", {"most_at_once": 0}),
    ("docker.io", {"catalog": False}),
    ("registry.gitlab.com", {"catalog": False, "pieces": True, "mount": True}),
]


@pytest.mark.parametrize(("host", "facts"), HOSTS)
def test_a_known_registry_has_its_row(host: str, facts: dict[str, object]) -> None:
    row = quirks_of(host)
    assert {name: getattr(row, name) for name in facts} == facts


STRANGERS = [
    "localhost:5000",
    "ghcr.io.evil.example",
    "evil-ghcr.io",
    "ghcrxio",
    "ghcr.io:443",
    "notdocker.io",
    "azurecr.io",
    "quay.io",
    "gitlab.com",
    "registry.gitlab.com.evil.example",
    "harbor.example",
    "1.dkr.ecr.eu-west-1.amazonaws.com",
]


@pytest.mark.parametrize("host", STRANGERS)
def test_what_is_not_known_is_the_standard(host: str) -> None:
    assert quirks_of(host) is STANDARD


def test_no_host_has_two_rows_and_every_row_says_something() -> None:
    for host, _ in HOSTS:
        assert sum(re.fullmatch(row.hosts, host) is not None for row in TABLE) == 1
    for row in TABLE:
        assert row != Quirks(row.hosts)
        assert any(quirks_of(host) is row for host, _ in HOSTS)


def test_a_registry_known_to_have_no_catalog_is_not_asked(bench: Bench) -> None:
    client = bench.client("ghcr.io")
    with pytest.raises(RegistryError, match=r"repositories of ghcr\.io: .* offers no list"):
        list(repositories(client))


@pytest.mark.parametrize("reference", ["v1", f"sha256:{'a' * 64}"])
def test_a_registry_known_not_to_delete_is_not_asked(
    bench: Bench, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = bench.registry(uploads=Uploads())
    digest = fill(registry, "v1")
    monkeypatch.setattr(manifests, "quirks_of", lambda _: quirks_of("ghcr.io"))
    repository = bench.repository(registry)
    asked = reference if reference == "v1" else str(digest)
    with pytest.raises(RegistryError, match=r"does not delete \(.* at github\.com\)") as caught:
        repository.delete(asked)
    assert caught.value.status == 0  # so that it is not tried by digest
    assert registry.requests("DELETE") == ()
