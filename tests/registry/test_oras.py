"""What is inherited from oras goes through our door, and nothing of its own is left in use."""

import logging
from typing import Any

import oras.container
import oras.provider
import pytest
import requests

from modelpm.errors import NotFoundError, RegistryError
from modelpm.registry.auth import Auth
from modelpm.registry.client import RegistryClient
from modelpm.registry.credentials import Anonymous
from tests.registry.conftest import NAME, Bench

DIGEST = "sha256:" + "0" * 64


class Watched(RegistryClient):
    """Notes what passes the door."""

    passed: list[tuple[str, str]]

    def do_request(self, url: str, method: str = "GET", *rest: Any, **options: Any) -> Any:
        self.passed.append((method, url.partition("/v2/")[2]))
        return super().do_request(url, method, *rest, **options)


@pytest.fixture
def watched(bench: Bench) -> Watched:
    registry = bench.registry()
    registry.add_artifact(NAME, "latest", [("a/b", b"weights")])
    client = Watched(registry.host, credentials=Anonymous())
    client.passed = []
    bench.closing(client)
    return client


def test_the_inherited_methods_that_we_use_pass_the_door(watched: Watched) -> None:
    assert watched.get_tags(NAME) == ["latest"]
    assert not watched.blob_exists({"digest": DIGEST}, watched.get_container(NAME))
    assert watched.get_blob(NAME, DIGEST).status_code == 404
    assert watched.passed == [
        ("GET", f"{NAME}/tags/list"),
        ("HEAD", f"{NAME}/blobs/{DIGEST}"),
        ("GET", f"{NAME}/blobs/{DIGEST}"),
    ]


def test_its_lists_raise_our_errors(watched: Watched) -> None:
    with pytest.raises(NotFoundError, match="listing tags of"):
        watched.get_tags("team/absent")


def test_its_list_of_a_few_stops_early(watched: Watched) -> None:
    assert watched.get_tags(NAME, N=1) == ["latest"]


URLS = [
    ("tiny", "tiny"),
    ("team/tiny", "team/tiny"),
    ("a.b/c.d:5/e", "a.b/c.d:5/e"),
    ("localhost/tiny", "localhost/tiny"),
]


@pytest.mark.parametrize(("name", "path"), URLS)
def test_its_urls_stay_at_our_registry(bench: Bench, name: str, path: str) -> None:
    container = bench.client("reg.io:5000").get_container(name)
    assert container.manifest_url("latest") == f"reg.io:5000/v2/{path}/manifests/latest"
    assert container.get_blob_url(DIGEST) == f"reg.io:5000/v2/{path}/blobs/{DIGEST}"
    assert container.tags_url() == f"reg.io:5000/v2/{path}/tags/list"
    assert isinstance(container, oras.container.Container)
    assert bench.client("reg.io:5000").get_container(container) is container


def test_its_session_and_its_auth_are_replaced(bench: Bench) -> None:
    client = bench.client("reg.io")
    assert isinstance(client, oras.provider.Registry)
    assert isinstance(client.auth, Auth)
    assert not isinstance(client.session, requests.Session)


def test_it_says_nothing(watched: Watched, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((RuntimeError, RegistryError)):
        watched.delete_tag(NAME, "latest")
    assert not watched.delete_tag(NAME, "absent")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("oras").handlers
