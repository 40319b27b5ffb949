"""Where other programs keep their models on this machine, as their own settings say."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Environment = Mapping[str, str]


def _ollama(environment: Environment, home: Path) -> list[Path]:
    """Source: ollama's envconfig/config.go; the last is that of its Linux service."""
    if environment.get("OLLAMA_MODELS"):
        return [Path(environment["OLLAMA_MODELS"])]
    return [home / ".ollama/models", Path("/usr/share/ollama/.ollama/models")]


def _hugging_face(environment: Environment, home: Path) -> list[Path]:
    """Source: huggingface_hub's constants.py."""
    for name, below in (
        ("HF_HUB_CACHE", "."),
        ("HUGGINGFACE_HUB_CACHE", "."),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
    ):
        if environment.get(name):
            return [Path(environment[name]) / below]
    return [home / ".cache/huggingface/hub"]


def _lm_studio(_environment: Environment, home: Path) -> list[Path]:
    return [home / ".lmstudio/models", home / ".cache/lm-studio/models"]


_PLACES: Mapping[str, Callable[[Environment, Path], Sequence[Path]]] = {
    "ollama": _ollama,
    "hf": _hugging_face,
    "lmstudio": _lm_studio,
}

PROGRAMS = tuple(_PLACES)


def places(program: str) -> list[Path]:
    """The folders that this program uses, those first that it would use first."""
    return list(_PLACES[program](os.environ, Path.home()))
