"""Roles by the names of files."""

import pytest

from modelpm.model.roles import Role, by_name, refined


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("model.gguf", Role.WEIGHTS),
        ("a/MMPROJ-model.GGUF", Role.PROJECTOR),
        ("model.mmproj", Role.PROJECTOR),
        ("x-lora.safetensors", Role.ADAPTER),
        ("adapter/model.safetensors", Role.WEIGHTS),
        ("model.onnx", Role.WEIGHTS),
        ("model.safetensors.index.json", Role.CONFIG),
        ("tokenizer_config.json", Role.TOKENIZER),
        ("tokenizer.model", Role.TOKENIZER),
        ("chat_template.jinja", Role.TEMPLATE),
        ("LICENSE", Role.LICENSE),
        ("LICENCE.txt", Role.LICENSE),
        ("COPYING", Role.LICENSE),
        ("THIRD_PARTY_LICENSES.txt", Role.LICENSE),
        ("license_model.gguf", Role.LICENSE),
        ("README.md", Role.DOCUMENT),
        ("run.py", Role.OTHER),
        ("", Role.OTHER),
    ],
)
def test_a_name_tells(name: str, role: Role) -> None:
    assert by_name(name) is role


def test_a_told_role_is_made_finer_only() -> None:
    assert refined(Role.WEIGHTS, "config.json") is Role.WEIGHTS
    assert refined(Role.OTHER, "LICENSE") is Role.OTHER
