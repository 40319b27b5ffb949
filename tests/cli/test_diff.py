"""`modelpm diff`: what it prints, its document, and its exit codes."""

import json

import pytest

from tests.cli.conftest import Cli
from tests.cli.models import HOSTILE, LIBRARY, NEVER, Maker


@pytest.fixture(autouse=True)
def models(maker: Maker) -> None:
    maker.put("a", system="You are brief.\nAnd kind.", params=json.dumps({"temperature": 0.5}))
    maker.put("b", system="You are brief.\nAnd stern.", params=json.dumps({"temperature": 0.7}))


def test_two_models_side_by_side(cli: Cli) -> None:
    result = cli("diff", "a", "b")
    assert (result.code, result.errors) == (0, "")
    lines = result.lines
    assert lines[0].split() == ["ROLE", "NAME", "SIZE", "DIGEST"]
    assert lines[1].split()[:3] == ["=", "weights", "model.gguf"]
    assert lines[2].split()[:3] == ["~", "system", "system"]
    assert any(line.split() == ["parameter", "temperature", "0.5", "0.7"] for line in lines)
    assert lines[-6:] == [
        "--- system of A",
        "+++ system of B",
        "@@ -1,2 +1,2 @@",
        " You are brief.",
        "-And kind.",
        "+And stern.",
    ]


def test_exit_codes(cli: Cli) -> None:
    assert cli("diff", "a", "a").code == 0
    assert cli("diff", "a", "a", "--exit-code").code == 0
    assert cli("diff", "a", "b", "--exit-code").code == 1
    assert cli("diff", "a", "b", "--exit-code", "-q").output == ""
    assert cli("diff", "a", "none").code == 3
    assert cli("diff", "a").code == 2


def test_the_document(cli: Cli) -> None:
    told = cli("diff", "a", "b", "--json").json
    assert (told["before"], told["after"]) == (f"{LIBRARY}/a:latest", f"{LIBRARY}/b:latest")
    assert told["same"] is False
    assert told["shared"] == told["parts"][0]["before"]["size"]
    assert [part["change"] for part in told["parts"]] == ["same", "changed", "changed"]
    assert {"name": "parameter temperature", "before": 0.5, "after": 0.7} in told["facts"]
    assert told["texts"][0]["diff"][-1] == "+And stern."
    assert told["flaws"] == []
    assert cli("diff", "a", "a", "--json").json["same"] is True


def test_only_one_has_it(cli: Cli, maker: Maker) -> None:
    maker.put("c", system="You are brief.\nAnd kind.\n", license="free")
    told = cli("diff", "a", "c", "--json").json
    assert [part["change"] for part in told["parts"]] == ["same", "changed", "removed", "added"]
    assert told["parts"][2]["after"] is None
    result = cli("diff", "a", "c")
    assert "(only their line ends differ)" in result.lines
    assert any(line.split() == ["parameter", "temperature", "0.5", "-"] for line in result.lines)


def test_flaws_and_hostile_texts(cli: Cli, maker: Maker) -> None:
    texts = {
        "template": HOSTILE,
        "system": f"{HOSTILE}\n" * 6000,
        "params": json.dumps({HOSTILE: HOSTILE * 99}),
    }
    maker.put("evil", b"GGUF" + HOSTILE.encode(), **texts)
    result = cli("diff", "a", "evil")
    assert result.code == 0
    assert "Flaw: " in result.errors
    assert "(too long to compare line by line)" in result.lines
    assert not NEVER & set(result.output + result.errors)
    assert not NEVER & set(cli("diff", "evil", "a", "--json").output)
