"""What an engine is: the values it takes and gives, and the bounds that model text is held to.

An engine gets plain values (`Facts`, `Settings`, `Sampling`) and knows nothing of manifests,
stores or templates. `worker.Worker` is an engine too: it passes everything on to one that lives
in a child process.
"""

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from modelpm.errors import RunnerError

DEFAULT_CONTEXT = 4096
"""Tokens of context when nobody asks for more: a model's own maximum can need gigabytes."""

MAX_CONTEXT = 2**20
CHUNK = 64
"""Tokens of a prompt given to an engine at a time: the longest wait for a stop."""

MAX_STOPS = 64
MAX_STOP_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What an engine must know of a model's tokens."""

    kind: str
    """`tokenizer.ggml.model`: "llama" for SentencePiece, "gpt2" for BPE."""
    size: int
    bos: int | None = None
    eos: int | None = None
    stops: tuple[int, ...] = ()
    """Further tokens that end an answer, such as `<|im_end|>`."""
    control: Mapping[str, int] = field(default_factory=dict)
    """The control and user-defined tokens: text to id. They are never tokenised as text."""
    add_bos: bool = True
    add_space_prefix: bool = True
    scores: bool = True
    types: bool = True
    byte_tokens: bool = True


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model file says of itself, read by whoever checked the file."""

    path: str
    name: str
    """What the user calls the model, for messages."""
    architecture: str
    context_length: int
    block_count: int
    vocabulary: Vocabulary
    tensors: Mapping[str, str]
    """Name to type, in the words of ggml: F32, Q4_0, Q6_K."""
    expert_count: int = 0
    rope_scaling: str = "none"
    rope_scaling_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is loaded. Zero means that the engine chooses."""

    context_length: int = 0
    threads: int = 0
    chunk: int = CHUNK

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, object]) -> "Settings":
        """From Ollama's `num_ctx`, `num_thread` and `num_batch`, clamped to what is sane.

        Raises RunnerError for a value that is no number.
        """
        return cls(
            _whole(parameters, "num_ctx", 0, 0, MAX_CONTEXT),
            _whole(parameters, "num_thread", 0, 0, 512),
            _whole(parameters, "num_batch", CHUNK, 1, CHUNK),
        )


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn. The defaults are Ollama's."""

    temperature: float = 0.8
    """0 takes the likeliest token each time."""
    top_k: int = 40
    """0 considers every token."""
    top_p: float = 0.9
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    """Tokens looked back on for the penalty; 0 is none, -1 the whole context."""
    seed: int | None = None
    num_predict: int | None = None
    """Tokens of the answer at most; None is up to the end of the context."""
    stop: tuple[str, ...] = ()

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, object]) -> "Sampling":
        """From Ollama's names, clamped to what is sane; names not known are ignored.

        Raises RunnerError for a value of the wrong kind.
        """
        seed = _whole(parameters, "seed", -1, -1, 2**63 - 1)
        num_predict = _whole(parameters, "num_predict", -1, -1, MAX_CONTEXT)
        return cls(
            temperature=_number(parameters, "temperature", 0.8, 0.0, 100.0),
            top_k=_whole(parameters, "top_k", 40, 0, 2**20),
            top_p=_number(parameters, "top_p", 0.9, 0.0, 1.0),
            repeat_penalty=_number(parameters, "repeat_penalty", 1.0, 0.01, 100.0),
            repeat_last_n=_whole(parameters, "repeat_last_n", 64, -1, MAX_CONTEXT),
            seed=seed if seed >= 0 else None,
            num_predict=num_predict if num_predict > 0 else None,
            stop=_stops(parameters.get("stop")),
        )


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The engine has read `tokens` of the `total` of the prompt that were new to it."""

    tokens: int
    total: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the answer; empty when its text is held back until more is known."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of an answer."""

    reason: str
    """`stop`: the model ended it; `length`: a limit did; `stopped`: the user did."""
    prompt_tokens: int
    reused_tokens: int
    """Of the prompt, known from the answer before."""
    answer_tokens: int
    prompt_seconds: float
    answer_seconds: float


Event = Evaluated | Piece | Finished


class Engine(Protocol):
    """Runs one model at a time. Not for several threads, `stop` excepted."""

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together; 0 before `load`."""
        ...

    def load(self, facts: Facts, settings: Settings) -> None:
        """Make the model ready. Raises RunnerError when this engine cannot run it."""
        ...

    def count(self, prompt: str) -> int:
        """How many tokens the prompt has. Raises RunnerError."""
        ...

    def generate(self, prompt: str, sampling: Sampling) -> Generator[Event, None, None]:
        """Answer a rendered prompt: Evaluated, then Piece, and Finished as the last event.

        Closing the generator stops the answer.

        Raises RunnerError, with both counts when the prompt leaves no room in the context.
        """
        ...

    def stop(self) -> None:
        """End the answer under way before its next token or chunk; else nothing.

        May be called from any thread and from a signal handler.
        """
        ...

    def close(self) -> None:
        """Free everything. May be called twice."""
        ...


def _number(
    parameters: Mapping[str, object], name: str, default: float, low: float, high: float
) -> float:
    value = parameters.get(name, default)
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TypeError
        number = float(value) if isinstance(value, str) else value
        if isinstance(number, float) and math.isnan(number):
            raise ValueError
    except (TypeError, ValueError):
        raise RunnerError(f"the parameter {name} must be a number, not {_shown(value)}") from None
    return float(min(max(number, low), high))


def _whole(parameters: Mapping[str, object], name: str, default: int, low: int, high: int) -> int:
    value = parameters.get(name, default)
    if isinstance(value, int) and not isinstance(value, bool):
        return min(max(value, low), high)
    return int(_number(parameters, name, default, low, high))


def _stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list | tuple) or not all(isinstance(each, str) for each in stops):
        raise RunnerError(f"the parameter stop must be a list of texts, not {_shown(value)}")
    if len(stops) > MAX_STOPS or any(len(each) > MAX_STOP_LENGTH for each in stops):
        raise RunnerError(
            f"the parameter stop may have {MAX_STOPS} texts of {MAX_STOP_LENGTH} characters"
        )
    return tuple(each for each in stops if each)


def _shown(value: object) -> str:
    """Enough of a value for a message: it came from outside and may be huge."""
    kind = type(value).__name__
    return f"{value[:40]!r}" if isinstance(value, str) else f"a {kind}"
