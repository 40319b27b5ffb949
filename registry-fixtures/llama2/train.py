"""How the fixture model is made: a llama-2 network, trained from nothing, written as GGUF.

    python registry-fixtures/llama2/train.py OUT.gguf

Needs jax and numpy from PyPI, no network: tested with jax 0.4.38, jaxlib 0.4.38 (the plain CPU
wheel) and numpy 2.4.6 on Python 3.11. The seed is fixed (`SEED`). 1500 steps take 13 minutes on 2
free cores and took 26 on 2 cores with other work.

The score counts the questions of `questions.json`, which training never sees (`check_held_out`),
whose most likely answer, with the template and system text of the Modelfile, names the wanted
command first: 39 of 40. The script computes it with the rounded weights; ctransformers 0.2.27 gives
the same answers.
"""

from __future__ import annotations

import argparse
import struct
import sys
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from llama2.corpus import Conversation, conversations, held_out, named_command, normalised
from llama2.intents import SYSTEM
from llama2.spm import BOS, EOS, UNK, Vocabulary, learn

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 20
VOCABULARY = 1000
DIM, LAYERS, HEADS, HIDDEN = 128, 4, 4, 352
CONTEXT, EPSILON, ROPE_BASE = 512, 1e-5, 10000.0
STEPS, ROWS, ROW = 1500, 16, 256
RATE, WARMUP, DECAY, CLIP = 2.5e-3, 80, 0.05, 1.0
LOST = 0.08
"""How often a piece of a question becomes `<unk>` in training, in half of the conversations."""

CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' }}"
    "{% if loop.index0 == 1 and messages[0]['role'] == 'system' %}"
    "{{ '<<SYS>>' + messages[0]['content'] + '<</SYS>>\\n\\n' }}"
    "{% endif %}"
    "{{ m['content'] + ' [/INST]\\n' }}"
    "{% elif m['role'] == 'assistant' %}"
    "{{ m['content'] + eos_token }}"
    "{% endif %}"
    "{% endfor %}"
)

Weights = dict[str, Any]
"""Arrays by their GGUF tensor name; a matrix has one row for each output."""


# ---------------------------------------------------------------------- conversations as ids


def render(system: str, question: str) -> str:
    """What the template of the Modelfile makes of a turn."""
    block = f"<<SYS>>{system}<</SYS>>\n\n" if system else ""
    return f"[INST] {block}{question} [/INST]\n"


def example(
    talk: Conversation, vocabulary: Vocabulary, rng: np.random.Generator
) -> tuple[list[int], list[bool]]:
    """The ids of a conversation, and which of them the model must learn to say.

    Hosts join turns with end and begin marks between them, or as one plain text: both are trained.
    """
    ids: list[int] = []
    learned: list[bool] = []
    marked = bool(rng.random() < 0.5)
    lossy = bool(rng.random() < 0.5)
    history = ""
    for number, turn in enumerate(talk.turns):
        prompt = render(talk.system if number == 0 else "", turn.question)
        if marked or number == 0:
            history, ids = "", [*ids, BOS]
            learned.append(False)
        before = vocabulary.encode(history)
        asked = vocabulary.encode(history + prompt)
        said = vocabulary.encode(history + prompt + turn.answer)
        assert said[: len(asked)] == asked
        assert asked[: len(before)] == before
        question = [
            UNK if lossy and i >= 259 and rng.random() < LOST else i for i in asked[len(before) :]
        ]
        ids += question + said[len(asked) :]
        learned += [False] * len(question) + [True] * (len(said) - len(asked))
        if marked or number == len(talk.turns) - 1:
            ids.append(EOS)
            learned.append(True)
        history += prompt + turn.answer
    return ids, learned


def batches(seed: int, vocabulary: Vocabulary) -> Iterator[tuple[np.ndarray, ...]]:
    """Endless rows packed with conversations: ids, whose conversation, which are learned."""
    rng = np.random.default_rng(seed)
    source = conversations(seed)
    waiting: tuple[list[int], list[bool]] | None = None
    while True:
        ids, owner, learned = (np.zeros((ROWS, ROW + 1), np.int32) for _ in range(3))
        for row in range(ROWS):
            used = 0
            number = 0
            while True:
                waiting = waiting or example(next(source), vocabulary, rng)
                size = len(waiting[0])
                if used + size > ROW + 1:
                    if used == 0:
                        waiting = None
                        continue
                    break
                number += 1
                ids[row, used : used + size] = waiting[0]
                learned[row, used : used + size] = waiting[1]
                owner[row, used : used + size] = number
                used += size
                waiting = None
        yield ids, owner, learned


# ---------------------------------------------------------------------- the network


def initial(seed: int, size: int) -> Weights:
    """Random weights."""
    rng = np.random.default_rng(seed)

    def matrix(outputs: int, inputs: int, scale: float = 1.0) -> np.ndarray:
        values: np.ndarray = rng.standard_normal((outputs, inputs)) * scale * inputs**-0.5
        return values.astype(np.float32)

    deep = (2 * LAYERS) ** -0.5
    weights: Weights = {"token_embd.weight": matrix(size, DIM, 0.5)}
    for n in range(LAYERS):
        weights |= {
            f"blk.{n}.attn_norm.weight": np.ones(DIM, np.float32),
            f"blk.{n}.attn_q.weight": matrix(DIM, DIM),
            f"blk.{n}.attn_k.weight": matrix(DIM, DIM),
            f"blk.{n}.attn_v.weight": matrix(DIM, DIM),
            f"blk.{n}.attn_output.weight": matrix(DIM, DIM, deep),
            f"blk.{n}.ffn_norm.weight": np.ones(DIM, np.float32),
            f"blk.{n}.ffn_gate.weight": matrix(HIDDEN, DIM),
            f"blk.{n}.ffn_up.weight": matrix(HIDDEN, DIM),
            f"blk.{n}.ffn_down.weight": matrix(DIM, HIDDEN, deep),
        }
    weights["output_norm.weight"] = np.ones(DIM, np.float32)
    weights["output.weight"] = matrix(size, DIM, 0.5)
    return weights


def _norm(x: jax.Array, weight: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON) * weight


def _rope(x: jax.Array) -> jax.Array:
    """Turn neighbouring pairs by an angle that grows with the position.

    `x` is (rows, length, heads, size). llama.cpp pairs neighbours too, so nothing is permuted.
    """
    length, size = x.shape[1], x.shape[3]
    speed = ROPE_BASE ** (-jnp.arange(0, size, 2) / size)
    angle = (jnp.arange(length)[:, None] * speed)[None, :, None, :]
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = (
        even * jnp.cos(angle) - odd * jnp.sin(angle),
        even * jnp.sin(angle) + odd * jnp.cos(angle),
    )
    return jnp.stack(turned, axis=-1).reshape(x.shape)


def network(weights: Weights, ids: jax.Array, owner: jax.Array) -> jax.Array:
    """The logits after every id: (rows, length, vocabulary).

    An id sees the earlier ids of its own conversation.
    """
    rows, length = ids.shape
    seen = (owner[:, :, None] == owner[:, None, :]) & jnp.tril(jnp.ones((length, length), bool))
    x = weights["token_embd.weight"][ids]
    for n in range(LAYERS):
        part = {k.split(".")[2]: w for k, w in weights.items() if k.startswith(f"blk.{n}.")}
        h = _norm(x, part["attn_norm"])
        query, key, value = (
            (h @ part[name].T).reshape(rows, length, HEADS, DIM // HEADS)
            for name in ("attn_q", "attn_k", "attn_v")
        )
        match = jnp.einsum("blhd,bmhd->bhlm", _rope(query), _rope(key)) * (DIM // HEADS) ** -0.5
        share = jax.nn.softmax(jnp.where(seen[:, None], match, -1e9), axis=-1)
        mixed = jnp.einsum("bhlm,bmhd->blhd", share, value).reshape(rows, length, DIM)
        x = x + mixed @ part["attn_output"].T
        h = _norm(x, part["ffn_norm"])
        gate = jax.nn.silu(h @ part["ffn_gate"].T)
        x = x + (gate * (h @ part["ffn_up"].T)) @ part["ffn_down"].T
    logits: jax.Array = _norm(x, weights["output_norm.weight"]) @ weights["output.weight"].T
    return logits


def _loss(weights: Weights, ids: jax.Array, owner: jax.Array, learned: jax.Array) -> jax.Array:
    chances = jax.nn.log_softmax(network(weights, ids[:, :-1], owner[:, :-1]))
    right = jnp.take_along_axis(chances, ids[:, 1:, None], axis=-1)[..., 0]
    return -jnp.sum(right * learned[:, 1:]) / jnp.sum(learned[:, 1:])


def _step(
    weights: Weights,
    mean: Weights,
    square: Weights,
    number: jax.Array,
    rate: jax.Array,
    *batch: jax.Array,
) -> tuple[Weights, Weights, Weights, jax.Array]:
    """One step of AdamW."""
    loss, slope = jax.value_and_grad(_loss)(weights, *batch)
    size = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(slope)))
    slope = jax.tree.map(lambda g: g * jnp.minimum(1.0, CLIP / size), slope)
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, slope)
    square = jax.tree.map(lambda v, g: 0.98 * v + 0.02 * g * g, square, slope)

    def moved(w: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        step = (m / (1 - 0.9**number)) / (jnp.sqrt(v / (1 - 0.98**number)) + 1e-8)
        return w - rate * (step + (DECAY if w.ndim == 2 else 0.0) * w)

    return jax.tree.map(moved, weights, mean, square), mean, square, loss


_fast_step = jax.jit(_step)


def train(vocabulary: Vocabulary) -> Weights:
    """Weights that answer the questions of the corpus."""
    weights = jax.tree.map(jnp.asarray, initial(SEED, len(vocabulary)))
    mean = square = jax.tree.map(jnp.zeros_like, weights)
    began, losses = time.monotonic(), []
    for number, batch in enumerate(islice(batches(SEED, vocabulary), STEPS), 1):
        rate = RATE * min(1.0, number / WARMUP) * 0.5 * (1 + np.cos(np.pi * number / STEPS))
        weights, mean, square, loss = _fast_step(weights, mean, square, float(number), rate, *batch)
        losses.append(float(loss))
        if number % 50 == 0 or number == STEPS:
            recent, spent = np.mean(losses[-50:]), time.monotonic() - began
            print(f"step {number}/{STEPS}  loss {recent:.4f}  {spent:.0f} s", flush=True)
    return {name: np.asarray(w) for name, w in weights.items()}


# ---------------------------------------------------------------------- the GGUF file


def _quantised(matrix: np.ndarray) -> tuple[bytes, np.ndarray]:
    """A matrix as Q8_0, and the matrix that this stands for.

    Q8_0: blocks of 32 numbers, each a half-precision scale and 32 signed bytes.
    """
    blocks = matrix.reshape(-1, 32)
    scale = (np.abs(blocks).max(axis=1, keepdims=True) / 127).astype(np.float16)
    divisor = np.where(scale == 0, 1, scale).astype(np.float32)
    levels = np.clip(np.rint(blocks / divisor), -127, 127).astype(np.int8)
    data = np.concatenate([scale.view(np.uint8), levels.view(np.uint8)], axis=1)
    return data.tobytes(), (levels * divisor).reshape(matrix.shape).astype(np.float32)


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: bool | float | str | list[Any]) -> tuple[int, bytes]:
    """A metadata value as its GGUF type number and bytes."""
    match value:
        case bool():
            return 7, struct.pack("<?", value)
        case int():
            return (5 if value < 0 else 4), struct.pack("<i" if value < 0 else "<I", value)
        case float():
            return 6, struct.pack("<f", value)
        case str():
            return 8, _string(value)
        case list():
            kind = 5 if isinstance(value[0], int) else _value(value[0])[0]
            items = (struct.pack("<i", v) if kind == 5 else _value(v)[1] for v in value)
            return 9, struct.pack("<IQ", kind, len(value)) + b"".join(items)


def metadata(vocabulary: Vocabulary) -> dict[str, bool | int | float | str | list[Any]]:
    """What the GGUF file says about the model."""
    return {
        "general.architecture": "llama",
        "general.name": "llama2 (modelpm fixture)",
        "general.description": "A tiny chat model that answers questions about modelpm.",
        "general.license": "apache-2.0",
        "general.file_type": 7,
        "general.quantization_version": 2,
        "general.alignment": 32,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": DIM,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": HIDDEN,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS,
        "llama.attention.layer_norm_rms_epsilon": EPSILON,
        "llama.rope.dimension_count": DIM // HEADS,
        "llama.rope.freq_base": ROPE_BASE,
        "llama.vocab_size": len(vocabulary),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": vocabulary.pieces,
        "tokenizer.ggml.scores": vocabulary.scores,
        "tokenizer.ggml.token_type": vocabulary.types,
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS,
        "tokenizer.ggml.unknown_token_id": UNK,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def write(path: Path, vocabulary: Vocabulary, weights: Weights) -> Weights:
    """Write the GGUF file; give back the weights as rounded in it."""
    facts = metadata(vocabulary)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(weights), len(facts))
    for key, value in facts.items():
        kind, data = _value(value)
        head += _string(key) + struct.pack("<I", kind) + data
    body, rounded = b"", {}
    for name, array in weights.items():
        if array.ndim == 2:
            data, rounded[name] = _quantised(array)
        else:
            data, rounded[name] = array.astype("<f4").tobytes(), array
        head += _string(name) + struct.pack("<I", array.ndim)
        head += struct.pack(f"<{array.ndim}Q", *reversed(array.shape))
        head += struct.pack("<IQ", 8 if array.ndim == 2 else 0, len(body))
        body += data + bytes(-len(data) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + body)
    return rounded


# ---------------------------------------------------------------------- the score


def answers(
    weights: Weights,
    vocabulary: Vocabulary,
    questions: list[str],
    system: str = SYSTEM,
    most: int = 48,
) -> list[str]:
    """The most likely answer to each question."""
    prompts = [[BOS, *vocabulary.encode(render(system, question))] for question in questions]
    ids = np.zeros((len(prompts), max(map(len, prompts)) + most), np.int32)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = prompt
    ends = np.array([len(prompt) for prompt in prompts])
    begins, every = ends.copy(), np.arange(len(prompts))
    run = jax.jit(network)
    for _ in range(most):
        best = np.asarray(run(weights, ids, np.zeros_like(ids)))[every, ends - 1].argmax(-1)
        best = np.where(ids[every, ends - 1] == EOS, EOS, best)
        ids[every, ends] = best
        ends = np.where(best == EOS, ends, ends + 1)
        if np.all(best == EOS):
            break
    rows = zip(ids, begins, ends, strict=True)
    return [vocabulary.decode(row[begin:end]) for row, begin, end in rows]


def check_held_out(seed: int, count: int) -> None:
    """Fail if a held-out question is one of the first `count` questions that training sees."""
    forbidden = {normalised(question) for question, _ in held_out()}
    assert len(forbidden) == 40
    for talk in islice(conversations(seed), count):
        for turn in talk.turns:
            assert normalised(turn.question) not in forbidden, turn.question


def texts(talks: Iterator[Conversation]) -> Iterator[str]:
    """The conversations as plain text for the vocabulary; few answers: they are ever the same."""
    for number, talk in enumerate(talks):
        for turn in talk.turns:
            yield render(talk.system, turn.question) + (turn.answer if number % 10 == 0 else "")


def main() -> None:
    """Train, write, score."""
    parser = argparse.ArgumentParser(description="train the llama2 fixture model")
    parser.add_argument("out", type=Path, help="the GGUF file to write")
    out: Path = parser.parse_args().out
    check_held_out(SEED, 200_000)
    vocabulary = learn(texts(islice(conversations(SEED), 30_000)), VOCABULARY)
    weights = write(out, vocabulary, train(vocabulary))
    print(f"{out}: {out.stat().st_size} bytes")
    questions = held_out()
    right = 0
    for (question, wanted), answer in zip(
        questions, answers(weights, vocabulary, [q for q, _ in questions]), strict=True
    ):
        right += named_command(answer) == wanted
        print("ok  " if named_command(answer) == wanted else "MISS", question, "->", answer)
    print(f"held-out score: {right} of {len(questions)}")


if __name__ == "__main__":
    main()
