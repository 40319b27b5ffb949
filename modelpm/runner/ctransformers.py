"""What ctransformers 0.2.27 can run, and how to make it answer rightly.

Only its C entry points are used: its Python loop writes past its token buffer, draws every token
with the same seed, loses characters of more than one byte, and goes on past the end of the
context. Of the C code this is to be known:

- it crashes on ids outside the vocabulary, on BPE vocabularies, on damaged files and on tensor
  types of later years; mixtures of experts and rope scaling it does not see, and answers wrongly:
  `refusals` names all of them before the engine sees the file;
- with one thread more than there are free cores it is a hundred times slower (`cores.Pace`);
- it cannot be interrupted, so that a prompt is given in chunks.
"""

import codecs
import ctypes
import importlib.util
import platform
import random
import re
import sys
import time
import types
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from modelpm.errors import RunnerError
from modelpm.runner import cores
from modelpm.runner.engine import (
    DEFAULT_CONTEXT,
    Engine,
    Evaluated,
    Event,
    Facts,
    Finished,
    Piece,
    Sampling,
    Settings,
    Vocabulary,
)

MAX_CONTROL = 2_000
"""Control tokens of one vocabulary: all are looked for in each prompt."""

SOON = 0.2
"""Seconds that a chunk of a prompt may take; the next is half as long when it takes more."""

SMALLEST_CHUNK = 8
"""Tokens; shorter chunks are slower by half."""

_GREEDY_BELOW = 0.001  # a smaller temperature overflows the engine's floats
_TENSOR_TYPES = frozenset(
    ("F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
)
_TENSORS = ("token_embd", "output_norm")
_BLOCK = (
    *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"),
    *("ffn_norm", "ffn_gate", "ffn_up", "ffn_down"),
)
_VOCABULARIES = {"gpt2": "BPE", "bert": "WordPiece", "t5": "Unigram"}
# Control tokens that end a turn, whatever the file says of them.
_ENDS = frozenset({"<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "<end_of_turn>"})


def create() -> Engine:
    """A new engine without a model."""
    return CTransformers()


def check(facts: Facts) -> None:
    """Raises RunnerError for what this engine will not run: every reason, and what would run it."""
    if reasons := (*unavailable(), *refusals(facts)):
        raise RunnerError(
            f"ctransformers cannot run {facts.name}: {', '.join(reasons)}"
            f' (try llama.cpp: llama-cli -m "$(modelpm path {facts.name})")'
        )


def unavailable(package: str = "ctransformers", machine: str = "") -> tuple[str, ...]:
    """Why the engine cannot run anything here; empty when it can."""
    if importlib.util.find_spec(package) is not None:
        return ()
    machine = machine or platform.machine()
    if sys.platform == "linux" and machine != "x86_64":
        return (f"it has no build for Linux on {machine}",)
    return ("it is not installed",)


def refusals(facts: Facts) -> tuple[str, ...]:
    """Every reason why this engine would fail, crash or answer wrongly; empty when it will run."""
    return (*_architecture_refusals(facts), *_vocabulary_refusals(facts), *_tensor_refusals(facts))


def _architecture_refusals(facts: Facts) -> Iterator[str]:
    if facts.architecture != "llama":
        yield f"architecture {facts.architecture[:40]} (only llama)"
    if facts.context_length < 1:
        yield "no context length"
    if facts.expert_count:
        yield f"mixture of {facts.expert_count} experts"
    if facts.rope_scaling != "none" and facts.rope_scaling_factor != 1.0:
        yield f"rope scaling ({facts.rope_scaling[:40]})"


def _vocabulary_refusals(facts: Facts) -> Iterator[str]:
    vocabulary = facts.vocabulary
    if vocabulary.kind != "llama":
        kind = _VOCABULARIES.get(vocabulary.kind, "unknown")
        yield f"{kind} vocabulary ({vocabulary.kind[:40] or 'none'}; only SentencePiece)"
        return
    present = {
        "token scores": vocabulary.scores,
        "token types": vocabulary.types,
        "byte tokens": vocabulary.byte_tokens,
    }
    yield from (f"no {what} in the vocabulary" for what, there in present.items() if not there)
    if len(vocabulary.control) > MAX_CONTROL:
        yield f"{len(vocabulary.control)} control tokens (at most {MAX_CONTROL})"


def _tensor_refusals(facts: Facts) -> Iterator[str]:
    if bad := sorted({*facts.tensors.values()} - _TENSOR_TYPES):
        yield f"tensor types {_few(bad)}"
    if "output.weight" not in facts.tensors:
        yield "no output weights (tied embeddings)"
    if facts.architecture != "llama":
        return  # another architecture has other tensors
    wanted = {f"{name}.weight" for name in _TENSORS}
    wanted |= {f"blk.{i}.{name}.weight" for i in range(facts.block_count) for name in _BLOCK}
    there = facts.tensors.keys() - {"output.weight"}
    if missing := sorted(wanted - there):
        yield f"missing tensors {_few(missing)}"
    if unknown := sorted(there - wanted):
        yield f"unknown tensors {_few(unknown)}"


def _few(names: Sequence[str]) -> str:
    shown = " ".join(name[:40] for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


class Tokens:
    """The vocabulary of a loaded model: texts to ids and back."""

    def __init__(self, vocabulary: Vocabulary, llm: Any) -> None:
        self._llm = llm
        self._bos = llm.bos_token_id if vocabulary.bos is None else vocabulary.bos
        self._add_bos = vocabulary.add_bos
        self._control = {text: id_ for text, id_ in vocabulary.control.items() if text}
        longest_first = sorted(map(re.escape, self._control), key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(longest_first)})").split if longest_first else None
        self._guard = [] if vocabulary.add_space_prefix else self._raw("\n")

    def encode(self, text: str) -> list[int]:
        """The ids of a rendered prompt, its control tokens as such, as llama.cpp has them."""
        ids: list[int] = []
        for part in self._split(text) if self._split else [text]:
            if part in self._control:
                ids.append(self._control[part])
            elif part:
                ids += self._plain(part)
        if self._add_bos and ids[:1] != [self._bos]:
            ids.insert(0, self._bos)
        return ids

    def decode(self, token: int) -> bytes:
        """The bytes of one token: perhaps a part of a character. Control tokens have none."""
        return self._llm.ctransformers_llm_detokenize(token) or b""

    def _plain(self, text: str) -> list[int]:
        # The engine puts a space before every text. Behind a newline the space is apart from it.
        if self._guard:
            guarded = self._raw("\n" + text)
            if guarded[: len(self._guard)] == self._guard:
                return guarded[len(self._guard) :]
        return self._raw(text)

    def _raw(self, text: str) -> list[int]:
        encoded = text.encode("utf-8", "replace").replace(b"\0", b"")
        # A space becomes a mark of three bytes, and a byte a token where there is no better one.
        ids = (ctypes.c_int * (3 * len(encoded) + 16))()
        count = self._llm.ctransformers_llm_tokenize(encoded, False, ids)
        return ids[:count]


class Tail:
    """The end of an answer: holds back half characters and what may become a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = stops
        self._held = ""
        self.ended = False
        """A stop string has come; nothing is let out any more."""

    def feed(self, piece: bytes, *, last: bool = False) -> str:
        """What may be shown now. After the `last` piece nothing is held back."""
        text = self._held + self._decoder.decode(piece, last)
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found or self.ended:
            self.ended, self._held = True, ""
            return text[: min(found, default=0)]
        keep = 0 if last else max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text begin the stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


class _Model:
    """A loaded model and what is in its key-value cache."""

    def __init__(self, facts: Facts, settings: Settings) -> None:
        package = _package()
        context = min(settings.context_length or DEFAULT_CONTEXT, facts.context_length)
        config = package.Config(context_length=context)
        self.llm = package.LLM(facts.path, config=config, lib=cores.library())
        self.context_length: int = self.llm.context_length
        self.size: int = self.llm.vocab_size
        self.tokens = Tokens(facts.vocabulary, self.llm)
        known = (id_ for text, id_ in facts.vocabulary.control.items() if text in _ENDS)
        ends = (*facts.vocabulary.stops, *known, facts.vocabulary.eos, self.llm.eos_token_id)
        self.ends = frozenset(ends)
        self._most = settings.chunk
        self._chunk = min(SMALLEST_CHUNK, settings.chunk)
        shares = 1 + Path(facts.path).stat().st_size // cores.SHARE
        most = min(settings.threads or cores.MAX_THREADS, cores.available(), shares)
        self.pace = cores.Pace(most)
        self.evaluated: list[int] = []

    def keep_common(self, ids: Sequence[int]) -> int:
        """Forget what is not a prefix of the ids; how many of them need no evaluation."""
        # The last token is always evaluated: its logits are not kept.
        pairs = enumerate(zip(ids[:-1], self.evaluated, strict=False))
        shorter = min(len(ids) - 1, len(self.evaluated))
        common = next((n for n, (new, known) in pairs if new != known), shorter)
        del self.evaluated[common:]
        return common

    def evaluate(self, ids: Sequence[int]) -> None:
        past = len(self.evaluated)
        if min(ids) < 0 or max(ids) >= self.size or past + len(ids) > self.context_length:
            raise RunnerError("a token lies outside the vocabulary or the context of the model")
        tokens = (ctypes.c_int * len(ids))(*ids)
        arguments = (tokens, len(ids), past, self._most, self.pace.threads)
        clock, processor = time.perf_counter(), time.process_time()
        good = self.llm.ctransformers_llm_batch_eval(*arguments)
        self.pace.note(time.perf_counter() - clock, time.process_time() - processor)
        if not good:
            self.evaluated.clear()
            raise RunnerError("ctransformers failed to evaluate tokens; it does not say why")
        self.evaluated += ids

    def evaluate_chunk(self, ids: Sequence[int]) -> None:
        """Evaluate as many of the ids as can be stopped soon enough."""
        began = time.perf_counter()
        self.evaluate(ids[: self._chunk])
        slow = time.perf_counter() - began > SOON
        wanted = max(self._chunk // 2, SMALLEST_CHUNK) if slow else 2 * self._chunk
        self._chunk = min(wanted, self._most)

    def sample(self, sampling: Sampling, seed: int) -> int:
        greedy = sampling.temperature < _GREEDY_BELOW
        look_back = sampling.repeat_last_n
        recent = self.evaluated[-look_back:] if look_back > 0 else self.evaluated
        last = recent if look_back and sampling.repeat_penalty != 1.0 else []
        token: int = self.llm.ctransformers_llm_sample(
            (ctypes.c_int * len(last))(*last),
            len(last),
            1 if greedy else sampling.top_k or self.size,
            sampling.top_p,
            1.0 if greedy else sampling.temperature,
            sampling.repeat_penalty,
            seed,
        )
        if not 0 <= token < self.size:
            raise RunnerError("ctransformers drew a token outside the vocabulary")
        return token


class CTransformers:
    """One model, run in this very process: a damaged file kills it (see `worker`)."""

    def __init__(self) -> None:
        if not unavailable():
            _package()  # while nobody waits
        self._model: _Model | None = None
        self._stopping = False

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together; 0 before `load`."""
        return self._model.context_length if self._model else 0

    def load(self, facts: Facts, settings: Settings) -> None:
        """Make the model ready. Raises RunnerError, before the engine sees a file it must not."""
        check(facts)
        try:
            self._model = _Model(facts, settings)
        except (RuntimeError, ValueError, OSError) as error:
            raise RunnerError(
                f"ctransformers cannot load {facts.name}, and does not say why; the file may be "
                f"damaged (try: modelpm fsck): {error}"
            ) from error

    def count(self, prompt: str) -> int:
        """How many tokens the prompt has."""
        return len(self._ready().tokens.encode(prompt))

    def generate(self, prompt: str, sampling: Sampling) -> Generator[Event, None, None]:
        """Answer a rendered prompt, see `Engine.generate`."""
        model = self._ready()
        self._stopping = False
        ids = model.tokens.encode(prompt)
        if not ids:
            raise RunnerError("the prompt is empty, and the model has no token to begin with")
        if len(ids) >= model.context_length:
            raise RunnerError(
                f"the prompt has {len(ids)} tokens and the context {model.context_length}: "
                "nothing is left for an answer (shorten it, or raise num_ctx)"
            )
        began = time.perf_counter()
        reused = yield from self._read(model, ids)
        read = time.perf_counter()
        reason, count = yield from self._answer(model, sampling, model.context_length - len(ids))
        seconds = (read - began, time.perf_counter() - read)
        yield Finished(reason, len(ids), reused, count, *seconds)

    def stop(self) -> None:
        """End the answer under way before its next token or chunk."""
        self._stopping = True

    def close(self) -> None:
        """Free the model."""
        self._model = None

    def _ready(self) -> _Model:
        if self._model is None:
            raise RunnerError("no model is loaded")
        return self._model

    def _read(self, model: _Model, ids: Sequence[int]) -> Generator[Event, None, int]:
        """Evaluate the prompt; returns how much of it the engine still knew."""
        reused = model.keep_common(ids)
        while not self._stopping and (left := ids[len(model.evaluated) :]):
            model.evaluate_chunk(left)
            yield Evaluated(len(model.evaluated) - reused, len(ids) - reused)
        return reused

    def _answer(
        self, model: _Model, sampling: Sampling, room: int
    ) -> Generator[Event, None, tuple[str, int]]:
        """Draw tokens until something ends it; returns what, and how many there were."""
        # A fresh seed for each token: the engine seeds its generator anew on every draw.
        seeds = random.Random(sampling.seed)  # noqa: S311 - reproducible on purpose
        tail = Tail(sampling.stop)
        limit = min(room, sampling.num_predict or room)
        reason, drawn = "length", 0
        while not self._stopping and drawn < limit:
            token = model.sample(sampling, seeds.getrandbits(31))
            if token in model.ends:
                reason = "stop"
                break
            drawn += 1
            yield Piece(tail.feed(model.tokens.decode(token)))
            if tail.ended:
                reason = "stop"
                break
            if drawn < limit:
                model.evaluate([token])
        if rest := tail.feed(b"", last=True):
            yield Piece(rest)
        return ("stopped" if self._stopping and reason != "stop" else reason), drawn


def _package() -> Any:
    """The module `ctransformers.llm`, past the package's `__init__` that wants a network library.

    That library costs 200 ms and is not needed here.
    """
    if "ctransformers" not in sys.modules:
        spec = importlib.util.find_spec("ctransformers")
        stub = types.ModuleType("ctransformers")
        stub.__spec__ = spec
        stub.__path__ = [*(spec.submodule_search_locations or ())] if spec else []
        sys.modules["ctransformers"] = stub
    return importlib.import_module("ctransformers.llm")
