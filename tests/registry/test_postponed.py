"""Imports that wait until they are used."""

import subprocess
import sys

import pytest

from modelpm.registry.postponed import postponed


def said(code: str) -> str:
    """What a fresh Python prints that runs the code."""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return ran.stdout.strip()


def test_a_registry_is_asked_without_what_validates_schemas() -> None:
    code = "import sys, modelpm.registry.client; print('jsonschema.validators' in sys.modules)"
    assert said(code) == "False"


def test_what_was_postponed_works_once_it_is_used() -> None:
    code = "import modelpm.registry.client, oras.provider as o; print(o.jsonschema.validate(1, {}))"
    assert said(code) == "None"


@pytest.mark.parametrize(
    "use",
    [
        "import jsonschema; print(jsonschema.validate(1, {}))",
        "import jsonschema.validators; print(jsonschema.validate(1, {}))",
        "from jsonschema.exceptions import ValidationError; print(ValidationError('x').cause)",
        "import oras.oci; print(oras.oci.jsonschema.validate(1, {}))",
    ],
)
def test_other_programs_import_it_as_they_like(use: str) -> None:
    assert said(f"import modelpm.registry.client; {use}") == "None"


def test_many_may_be_the_first_to_use_it() -> None:
    code = """
import threading, modelpm.registry.client, oras.provider
used = []
def use():
    used.append(oras.provider.jsonschema.validate(1, {}))
threads = [threading.Thread(target=use) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(used == [None] * 8)
"""
    assert said(code) == "True"


def test_what_is_loaded_or_missing_is_left_alone() -> None:
    with postponed("sys"), postponed("no_such_module_of_anybody"):
        assert isinstance(sys, type(pytest))
    assert "no_such_module_of_anybody" not in sys.modules
