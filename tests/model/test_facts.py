"""Facts: every dialect's config and annotations in the same words."""

import pytest

from modelpm.model.dialects import DOCKER_AI, KITOPS, MODELPACK, OLLAMA, OMLMD, ORAS, Dialect
from modelpm.model.facts import Facts, at

LICENSES = "org.opencontainers.image.licenses"


@pytest.mark.parametrize(
    ("dialect", "config", "annotations", "facts"),
    [
        (
            OLLAMA,
            {"model_family": "llama", "capabilities": ["completion", "tools", 7]},
            {},
            Facts("llama", capabilities=("completion", "tools")),
        ),
        (
            DOCKER_AI,
            {"config": {"gguf": {"qwen2.context_length": "4096", "general.license": "mit"}}},
            {},
            Facts(context_length=4096, license="mit"),
        ),
        (
            DOCKER_AI,
            {"config": {"context_size": 8, "gguf": {"qwen2.context_length": "4096"}}},
            {},
            Facts(context_length=8),
        ),
        (DOCKER_AI, {"config": {"gguf": {"other": 1}}}, {}, Facts()),
        (
            MODELPACK,
            {
                "descriptor": {"family": "llama", "licenses": ["MIT", "LLAMA-2"]},
                "config": {
                    "precision": "float16",
                    "capabilities": {
                        "inputTypes": ["text", "image"],
                        "outputTypes": ["text", "embedding", "image"],
                        "toolUsage": True,
                        "reasoning": False,
                    },
                },
            },
            {},
            Facts(
                "llama",
                quantization="float16",
                license="MIT AND LLAMA-2",
                capabilities=("tools", "vision", "embedding"),
            ),
        ),
        (
            MODELPACK,
            {"config": {"capabilities": {"inputTypes": "text", "reasoning": True}}},
            {"io.palan.model.context_length": "8192", LICENSES: "MIT"},
            Facts(context_length=8192, license="MIT", capabilities=("thinking",)),
        ),
        (
            KITOPS,
            {"package": {"license": "MIT"}, "model": {"framework": "gguf"}},
            {},
            Facts(format="gguf", license="MIT"),
        ),
        (
            KITOPS,
            {"package": {"license": "MIT"}, "model": {"license": "LLAMA-2"}},
            {},
            Facts(license="LLAMA-2"),
        ),
        (OMLMD, None, {"model_format_name": "onnx"}, Facts(format="onnx")),
        (ORAS, None, {LICENSES: "MIT"}, Facts(license="MIT")),
        (ORAS, None, {LICENSES: "x" * 201}, Facts()),
        (OLLAMA, [], {}, Facts()),
        (OLLAMA, {"context_length": "-1"}, {}, Facts()),
        (OLLAMA, {"context_length": "1" * 11}, {}, Facts()),
        (OLLAMA, {"context_length": True}, {}, Facts()),
        (OLLAMA, {"context_length": "²"}, {}, Facts()),
    ],
)
def test_facts_are_told(
    dialect: Dialect, config: object, annotations: dict[str, str], facts: Facts
) -> None:
    assert Facts.told(dialect, config, annotations) == facts


def test_what_stands_nowhere_is_none() -> None:
    assert at({"a": {"b": 1}}, ("a", "b")) == 1
    assert at({"a": {"x.b": 1}}, ("a", "*.b")) == 1
    assert at({"a": []}, ("a", "b")) is None
    assert at({}, ("*.b",)) is None
