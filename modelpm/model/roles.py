"""What a file of a model is for, told by its name.

The media type of a layer comes first (`dialects`); names decide where it says nothing.
"""

import re
from enum import StrEnum


class Role(StrEnum):
    """What a layer is for."""

    WEIGHTS = "weights"
    PROJECTOR = "projector"
    ADAPTER = "adapter"
    DRAFT = "draft"
    CONFIG = "config"
    TEMPLATE = "template"
    SYSTEM = "system"
    PARAMETERS = "parameters"
    LICENSE = "license"
    MESSAGES = "messages"
    TOKENIZER = "tokenizer"
    DOCUMENT = "document"
    OTHER = "other"


_ENDINGS = (
    ((".gguf", ".safetensors", ".dduf", ".mmproj"), Role.WEIGHTS),
    ((".onnx", ".joblib", ".pt", ".pth", ".tflite", ".keras", ".h5"), Role.WEIGHTS),
    ((".json", ".jinja", ".model", ".yaml", ".yml"), Role.CONFIG),
    ((".md", ".txt", ".pdf", ".rst"), Role.DOCUMENT),
)
_LEGAL = re.compile(r"(licen[sc]e|copying)")
_REFINED = {
    Role.WEIGHTS: (
        (re.compile(r"mmproj"), Role.PROJECTOR),
        (re.compile(r"(^|[-_.])(lora|adapter)([-_.]|$)"), Role.ADAPTER),
    ),
    Role.CONFIG: (
        (re.compile(r"chat_template"), Role.TEMPLATE),
        (re.compile(r"tokenizer"), Role.TOKENIZER),
    ),
    Role.DOCUMENT: ((_LEGAL, Role.LICENSE),),
}


def by_name(name: str) -> Role:
    """What a file of this name is for; OTHER where the name does not tell."""
    base = name.lower().rpartition("/")[2]
    if _LEGAL.match(base):
        return Role.LICENSE
    role = next((role for ends, role in _ENDINGS if base.endswith(ends)), Role.OTHER)
    return refined(role, name)


def refined(role: Role, name: str) -> Role:
    """A role that somebody told, made finer by the file's name, where that tells more."""
    base = name.lower().rpartition("/")[2]
    return next((finer for word, finer in _REFINED.get(role, ()) if word.search(base)), role)
