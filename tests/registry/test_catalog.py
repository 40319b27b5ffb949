"""The list of repositories: paged, bounded, and a clear word where there is none."""

import json
from dataclasses import replace

import pytest

from modelpm.errors import AuthenticationError, RegistryError
from tests.registry.conftest import QUICK, Bench


def test_all_pages_are_read(bench: Bench) -> None:
    registry = bench.registry(page_size=3)
    names = [f"team/r{number}" for number in range(8)]
    for name in names:
        registry.content.tags[name] = {}
    assert list(bench.client(registry.host).catalog()) == names
    assert len(registry.log) == 3


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_where_none_is_offered_that_is_said(bench: Bench, status: int) -> None:
    registry = bench.registry([{"status": status}])
    with pytest.raises(RegistryError, match=rf"of {registry.host}: it offers no list .*{status}"):
        list(bench.client(registry.host).catalog())


def test_who_may_not_see_it_is_told_so(bench: Bench) -> None:
    registry = bench.registry([{"status": 403}])
    with pytest.raises(AuthenticationError, match="listing the repositories of"):
        list(bench.client(registry.host).catalog())


BODIES = ["", "[]", "null", "{", '{"repositories": 5}', '{"repositories": null}', "{}"]


@pytest.mark.parametrize("body", BODIES)
def test_what_is_no_list_has_no_names(bench: Bench, body: str) -> None:
    registry = bench.registry([{"path": "_catalog", "body": body, "status": 200}])
    client = bench.client(registry.host)
    if body in ("", "{"):
        with pytest.raises(RegistryError, match="not valid JSON"):
            list(client.catalog())
    else:
        assert list(client.catalog()) == []


def test_what_is_no_name_is_left_out(bench: Bench) -> None:
    names = ["team/ok", "../x", "A", "a b", "", 5, None, ["x"], "x\u001b[31m", "a//b", "ok", "a:b"]
    body = json.dumps({"repositories": names})
    registry = bench.registry([{"path": "_catalog", "body": body, "status": 200}])
    assert list(bench.client(registry.host).catalog()) == ["team/ok", "ok"]


def test_the_list_is_bounded(bench: Bench) -> None:
    registry = bench.registry()
    for number in range(6):
        registry.content.tags[f"r{number}"] = {}
    client = bench.client(registry.host, limits=replace(QUICK, entries=5))
    with pytest.raises(RegistryError, match="there are more than 5"):
        list(client.catalog())
