"""How a conversation becomes the text that a model goes on from, by Ollama's rules.

A template in Go's language is of one of two styles. One that mentions `.Messages` is carried out
once, over all of them. An older one knows `.System`, `.Prompt` and `.Response`; it is carried out
once a turn, and the last time only up to `.Response`, where the model begins.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date

from modelpm.model.go_template import Bounds, Template
from modelpm.model.message import Message

__all__ = ["DEFAULT", "Message", "check", "render"]

DEFAULT = "{{ .Prompt }}"
"""The template of a model that has none."""

_RESPONSE = "{{ .Response }}"


def check(template: str) -> None:
    """Raise ModelError, which tells the line, unless the template can be carried out."""
    _parsed(template)


def render(
    template: str,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, object]] = (),
    today: date | None = None,
) -> str:
    """The prompt for the assistant's next turn, at most 1 MiB of characters.

    `tools` are JSON objects as in `{"type": "function", "function": {"name": ...}}`; a template
    of the older style does not see them. `today` is for `currentDate`. Raises ModelError.
    """
    parsed = _parsed(template)
    joined = list(_joined(messages))
    if parsed.mentions("Messages"):
        system = "\n\n".join(turn.content for turn in messages if turn.role == "system")
        data = {
            "System": system,
            "Messages": [_json(turn) for turn in joined],
            "Tools": list(tools),
            "Response": "",
        }
        return parsed.execute(data, today=today)
    *before, last = _turns(joined)
    bounds = Bounds()
    pieces = [parsed.execute(turn, today=today, bounds=bounds) for turn in before]
    pieces.append(parsed.cut_after("Response").execute(last, today=today, bounds=bounds))
    return "".join(pieces)


def _parsed(template: str) -> Template:
    parsed = Template.parse(template)
    if parsed.mentions("Messages") or parsed.mentions("Response"):
        return parsed
    return Template.parse(template + _RESPONSE)


def _joined(messages: Iterable[Message]) -> Iterator[Message]:
    """One message for those that follow one another in one role; each tool's stays its own."""
    current: Message | None = None
    contents: list[str] = []
    for message in messages:
        if current is not None and message.role == current.role != "tool":
            contents.append(message.content)
            continue
        if current is not None:
            yield replace(current, content="\n\n".join(contents))
        current, contents = message, [message.content]
    if current is not None:
        yield replace(current, content="\n\n".join(contents))


def _turns(messages: Iterable[Message]) -> Iterator[dict[str, object]]:
    """System, prompt and response of each turn; the last is the one to be answered."""
    turn = {"System": "", "Prompt": "", "Response": ""}
    for message in messages:
        said = turn["Prompt"] or turn["Response"]
        if (message.role == "system" and said) or (message.role == "user" and turn["Response"]):
            yield dict(turn)
            turn = dict.fromkeys(turn, "")
        key = {"system": "System", "user": "Prompt", "assistant": "Response"}.get(message.role)
        if key is not None:
            turn[key] = message.content
    yield dict(turn)


def _json(message: Message) -> dict[str, object]:
    """The message with its JSON names; what is empty is left out."""
    more = {
        "thinking": message.thinking,
        "tool_calls": list(message.tool_calls),
        "tool_name": message.tool_name,
    }
    kept = {key: value for key, value in more.items() if value}
    return {"role": message.role, "content": message.content, **kept}
