"""What one turn of a conversation is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelpm.errors import ModelError

ROLES = ("system", "user", "assistant", "tool")
MAX_MESSAGES = 10_000


@dataclass(frozen=True, slots=True)
class Message:
    """Who says what. `tool_calls` are JSON objects, `{"function": {"name": ..., ...}}`."""

    role: str
    content: str
    thinking: str = ""
    tool_name: str = ""
    tool_calls: tuple[Mapping[str, object], ...] = field(default=(), hash=False)


def parse_messages(value: object) -> tuple[Message, ...]:
    """Read the JSON list of a model's messages: `[{"role", "content"}]`. Raises ModelError."""
    if not isinstance(value, list) or len(value) > MAX_MESSAGES:
        raise ModelError("the model's messages are not a list, or a far too long one")
    return tuple(map(_parse, value))


def _parse(value: object) -> Message:
    if isinstance(value, dict):
        role, content = value.get("role"), value.get("content", "")
        if role in ROLES and isinstance(content, str):
            return Message(role, content)
    raise ModelError("one of the model's messages has no role or no text")
