"""The chat formats that models are trained on, told apart by the marks in a Jinja template.

modelpm carries out no Jinja that comes with a model. A GGUF's `tokenizer.chat_template` is only
looked at, to find in this table which of the known formats it is.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """A format: its template in Go's language, and the texts at which an answer ends."""

    name: str
    template: str
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """A format and its marks: all of `marks` are in the Jinja text, none of `without`."""

    format: ChatFormat
    marks: tuple[str, ...]
    without: tuple[str, ...] = ()


CHATML = ChatFormat(
    "chatml",
    "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    "<|im_start|>assistant\n",
    ("<|im_start|>", "<|im_end|>"),
)
LLAMA_2 = ChatFormat(
    "llama-2",
    "[INST] {{ if .System }}<<SYS>>\n{{ .System }}\n<</SYS>>\n\n{{ end }}{{ .Prompt }} [/INST]"
    "{{ if .Response }} {{ .Response }} </s><s>{{ end }}",
    ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
)
LLAMA_3 = ChatFormat(
    "llama-3",
    "{{ range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n"
    "{{ .Content }}<|eot_id|>{{ end }}<|start_header_id|>assistant<|end_header_id|>\n\n",
    ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
)
MISTRAL = ChatFormat(
    "mistral",
    "[INST] {{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }} [/INST]"
    "{{ if .Response }} {{ .Response }}</s>{{ end }}",
    ("[INST]", "[/INST]"),
)
ZEPHYR = ChatFormat(
    "zephyr",
    "{{ if .System }}<|system|>\n{{ .System }}</s>\n{{ end }}"
    "{{ if .Prompt }}<|user|>\n{{ .Prompt }}</s>\n{{ end }}"
    "<|assistant|>\n{{ .Response }}</s>\n",
    ("<|system|>", "<|user|>", "<|assistant|>", "</s>"),
)
PHI_3 = ChatFormat(
    "phi-3",
    "{{ range .Messages }}<|{{ .Role }}|>\n{{ .Content }}<|end|>\n{{ end }}<|assistant|>\n",
    ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
)
GEMMA = ChatFormat(
    "gemma",
    "<start_of_turn>user\n{{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}<end_of_turn>\n"
    "<start_of_turn>model\n{{ .Response }}<end_of_turn>\n",
    ("<start_of_turn>", "<end_of_turn>"),
)
VICUNA = ChatFormat(
    "vicuna",
    "{{ if .System }}{{ .System }}\n\n{{ end }}{{ if .Prompt }}USER: {{ .Prompt }}\n{{ end }}"
    "ASSISTANT:{{ if .Response }} {{ .Response }}</s>\n{{ end }}",
    ("USER:", "ASSISTANT:", "</s>"),
)
ALPACA = ChatFormat(
    "alpaca",
    "{{ if .System }}{{ .System }}\n\n{{ end }}"
    "{{ if .Prompt }}### Instruction:\n{{ .Prompt }}\n\n{{ end }}"
    "### Response:\n{{ .Response }}\n\n",
    ("### Instruction:", "### Response:"),
)

_ROWS = (
    _Row(CHATML, ("<|im_start|>", "<|im_end|>")),
    _Row(LLAMA_3, ("<|start_header_id|>", "<|eot_id|>")),
    _Row(GEMMA, ("<start_of_turn>", "<end_of_turn>")),
    _Row(PHI_3, ("<|user|>", "<|assistant|>", "<|end|>")),
    _Row(PHI_3, ("'<|' + message['role'] + '|>'", "<|assistant|>", "<|end|>")),
    _Row(ZEPHYR, ("<|user|>", "<|assistant|>"), ("<|end|>",)),
    _Row(LLAMA_2, ("[INST]", "<<SYS>>")),
    _Row(MISTRAL, ("[INST]", "[/INST]"), ("<<SYS>>",)),
    _Row(VICUNA, ("USER:", "ASSISTANT:")),
    _Row(ALPACA, ("### Instruction:", "### Response:")),
)


def from_jinja(chat_template: str) -> ChatFormat | None:
    """The known format that a Jinja chat template writes, or None."""
    for row in _ROWS:
        if all(mark in chat_template for mark in row.marks) and not any(
            mark in chat_template for mark in row.without
        ):
            return row.format
    return None
