"""Conversations to prompts: both of Ollama's styles, and the formats that models know."""

from datetime import date

import pytest

from modelpm.errors import ModelError
from modelpm.model import chat_formats
from modelpm.model.chat_formats import ChatFormat, from_jinja
from modelpm.model.template import DEFAULT, Message, check, render

ASK = (Message("user", "why?"),)
TALK = (
    Message("system", "be kind"),
    Message("user", "hi"),
    Message("assistant", "hello"),
    Message("user", "why?"),
)

REPEATED = (
    *(Message("user", "a"), Message("user", "b")),
    *(Message("tool", "1"), Message("tool", "2")),
)

CHATML = """{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ .Response }}<|im_end|>
"""

LLAMA_2 = "[INST] {{ with .System }}<<SYS>>{{ . }}<</SYS>>\n\n{{ end }}{{ .Prompt }} [/INST]\n"

TOOLS = """{{- if or .System .Tools }}<|sys|>
{{- if .System }}{{ .System }}{{ end }}
{{- if .Tools }} You may call:
{{- range .Tools }}
{{ json .Function }}
{{- end }}
{{- end }}<|end|>
{{ end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 -}}
{{- if eq .Role "user" }}<|user|>{{ .Content }}<|end|>
{{ else if eq .Role "assistant" }}<|assistant|>
{{- if .Content }}{{ .Content }}
{{- else if .ToolCalls }}
{{- range .ToolCalls }}CALL {{ .Function.Name }}({{ .Function.Arguments }}){{ end }}
{{- end }}{{ if not $last }}<|end|>
{{ end }}
{{- else if eq .Role "tool" }}<|tool|>{{ .ToolName }}: {{ .Content }}<|end|>
{{ end }}
{{- if and $last (ne .Role "assistant") }}<|assistant|>{{ end }}
{{- end }}"""


@pytest.mark.parametrize(
    ("template", "messages", "prompt"),
    [
        (DEFAULT, ASK, "why?"),
        (DEFAULT, (), ""),
        (
            CHATML,
            ASK,
            "<|im_start|>user\nwhy?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            CHATML,
            TALK,
            ("<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
            "<|im_start|>assistant\nhello<|im_end|>\n"
            "<|im_start|>user\nwhy?<|im_end|>\n<|im_start|>assistant\n"),
        ),
        (
            LLAMA_2,
            TALK,
            "[INST] <<SYS>>be kind<</SYS>>\n\nhi [/INST]\nhello[INST] why? [/INST]\n",
        ),
        # the answer has begun: the model goes on from there
        (CHATML, (*ASK, Message("assistant", "because")), ("<|im_start|>user\nwhy?<|im_end|>\n"
         "<|im_start|>assistant\nbecause")),
        # a system prompt in the middle begins a new turn
        ("[{{ .System }}|{{ .Prompt }}|{{ .Response }}]",
         (Message("user", "a"), Message("system", "s"), Message("user", "b")), "[|a|][s|b|"),
        # what the older style does not know of is left out
        ("{{ .Prompt }}", (*ASK, Message("tool", "42")), "why?"),
        # one role twice: one message
        ("{{ .Prompt }}", (Message("user", "a"), Message("user", "b")), "a\n\nb"),
        ("{{ .System }}>", (Message("system", "a"), Message("system", "b")), "a\n\nb>"),
        (
            "{{ range .Messages }}{{ .Role }}={{ .Content }};{{ end }}",
            REPEATED,
            "user=a\n\nb;tool=1;tool=2;",
        ),
        (
            "{{ .System }}|{{ range .Messages }}{{ .Content }},{{ end }}{{ .Response }}!",
            TALK,
            "be kind|be kind,hi,hello,why?,!",
        ),
        ("{{ range .Messages }}{{ .Thinking }}{{ end }}", (Message("assistant", "x", "hm"),), "hm"),
    ],
)  # fmt: skip
def test_a_conversation_becomes_a_prompt(
    template: str, messages: tuple[Message, ...], prompt: str
) -> None:
    assert render(template, messages) == prompt


def test_tools_and_their_calls() -> None:
    weather = {"type": "function", "function": {"name": "weather", "description": "<now>"}}
    call = {"function": {"name": "weather", "arguments": {"city": "Graz"}}}
    messages = (
        Message("user", "sun?"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "yes", tool_name="weather"),
    )
    assert render(TOOLS, messages, tools=[weather]) == (
        "<|sys|> You may call:\n"
        '{"name":"weather","description":"\\u003cnow\\u003e"}<|end|>\n'
        "<|user|>sun?<|end|>\n"
        '<|assistant|>CALL weather({"city":"Graz"})<|end|>\n'
        "<|tool|>weather: yes<|end|>\n"
        "<|assistant|>"
    )
    assert render(TOOLS, TALK) == (
        "<|sys|>be kind<|end|>\n<|user|>hi<|end|>\n<|assistant|>hello<|end|>\n"
        "<|user|>why?<|end|>\n<|assistant|>"
    )


def test_the_day_is_given() -> None:
    template = "{{ currentDate }}{{ .Prompt }}"
    assert render(template, ASK, today=date(2026, 11, 23)) == "2026-11-23why?"


def test_a_template_is_checked_without_being_carried_out() -> None:
    check(CHATML)
    check("{{ range 99999999 }}{{ end }}")
    with pytest.raises(ModelError, match="line 2"):
        check("\n{{ if }}")


def test_a_long_conversation_shares_one_bound() -> None:
    template = "{{ range 200000 }}{{ end }}{{ .Prompt }}{{ .Response }}"
    messages = [Message(role, "x") for _ in range(9) for role in ("user", "assistant")]
    with pytest.raises(ModelError, match="steps"):
        render(template, messages)


FORMATS = [
    chat_formats.CHATML,
    chat_formats.LLAMA_2,
    chat_formats.LLAMA_3,
    chat_formats.MISTRAL,
    chat_formats.ZEPHYR,
    chat_formats.PHI_3,
    chat_formats.GEMMA,
    chat_formats.VICUNA,
    chat_formats.ALPACA,
]
PROMPTS = {
    "chatml": "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
    "<|im_start|>assistant\nhello<|im_end|>\n<|im_start|>user\nwhy?<|im_end|>\n"
    "<|im_start|>assistant\n",
    "llama-2": "[INST] <<SYS>>\nbe kind\n<</SYS>>\n\nhi [/INST] hello </s><s>[INST] why? [/INST]",
    "llama-3": "<|start_header_id|>system<|end_header_id|>\n\nbe kind<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nhello<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nwhy?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "[INST] be kind\n\nhi [/INST] hello</s>[INST] why? [/INST]",
    "zephyr": "<|system|>\nbe kind</s>\n<|user|>\nhi</s>\n<|assistant|>\nhello</s>\n"
    "<|user|>\nwhy?</s>\n<|assistant|>\n",
    "phi-3": "<|system|>\nbe kind<|end|>\n<|user|>\nhi<|end|>\n<|assistant|>\nhello<|end|>\n"
    "<|user|>\nwhy?<|end|>\n<|assistant|>\n",
    "gemma": "<start_of_turn>user\nbe kind\n\nhi<end_of_turn>\n<start_of_turn>model\n"
    "hello<end_of_turn>\n<start_of_turn>user\nwhy?<end_of_turn>\n<start_of_turn>model\n",
    "vicuna": "be kind\n\nUSER: hi\nASSISTANT: hello</s>\nUSER: why?\nASSISTANT:",
    "alpaca": "be kind\n\n### Instruction:\nhi\n\n### Response:\nhello\n\n"
    "### Instruction:\nwhy?\n\n### Response:\n",
}


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_each_known_format_writes_its_prompt(known: ChatFormat) -> None:
    assert render(known.template, TALK) == PROMPTS[known.name]
    assert known.stop


@pytest.mark.parametrize(
    ("jinja", "name"),
    [
        ("{{'<|im_start|>' + m['role']}}{{ m.content + '<|im_end|>' }}", "chatml"),
        ("{{ '[INST] ' }}{{ '<<SYS>>\\n' + system }}{{ ' [/INST]' }}", "llama-2"),
        ("'<|start_header_id|>' + role + '<|end_header_id|>' ... '<|eot_id|>'", "llama-3"),
        ("{{ '[INST] ' + message['content'] + ' [/INST]' }}", "mistral"),
        ("{{ '<|user|>\\n' + c + eos_token }}{{ '<|assistant|>' }}", "zephyr"),
        ("'<|user|>' + c + '<|end|>' + '<|assistant|>'", "phi-3"),
        ("{{'<|' + message['role'] + '|>' + c + '<|end|>'}}{{ '<|assistant|>' }}", "phi-3"),
        ("{{ '<start_of_turn>' + role }}{{ '<end_of_turn>\\n' }}", "gemma"),
        ("{{ 'USER: ' + c + ' ASSISTANT:' }}", "vicuna"),
        ("{{ '### Instruction:\\n' + c + '\\n\\n### Response:\\n' }}", "alpaca"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", None),
        ("", None),
    ],
)
def test_a_format_is_known_by_its_marks(jinja: str, name: str | None) -> None:
    found = from_jinja(jinja)
    assert (None if found is None else found.name) == name
