"""Imports that wait until they are used."""

import subprocess
import sys

import pytest

from modelpm.registry.postponed import postpone


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
    code = "import modelpm.registry.client, jsonschema; print(jsonschema.validate(1, {}))"
    assert said(code) == "None"


def test_what_is_loaded_or_missing_is_left_alone() -> None:
    postpone("sys")
    postpone("no_such_module_of_anybody")
    assert isinstance(sys, type(pytest))
    assert "no_such_module_of_anybody" not in sys.modules
