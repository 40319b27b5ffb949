"""Tiny models that a test makes: random weights, and every flaw that an engine may meet."""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType

from modelpm.runner.engine import Facts, Vocabulary

UNKNOWN, BOS, EOS = 0, 1, 2
CONTROL = {"<s>": 1, "</s>": 2, "<|im_start|>": 3, "<|im_end|>": 4}
_PIECES = [*"▁abcdefghijklmnopqrstuvwxyz.,!?[]/é日", "▁h", "he", "▁he", "ll", "▁hell", "▁hello"]


@dataclass(frozen=True)
class Recipe:
    """What to make. The defaults make a model that runs."""

    vocabulary: str = "spm"  # or bpe
    quantization: str = "F32"
    context: int = 256
    width: int = 64
    blocks: int = 2
    architecture: str = "llama"
    without: tuple[str, ...] = ()  # tensors and arrays that are left out
    speaks: tuple[str, ...] = ()  # says these pieces over and over, whatever it is asked
    pieces: tuple[str, ...] = ()  # further tokens


def facts(path: Path, recipe: Recipe = Recipe()) -> Facts:
    """What a reader of the file finds in it."""
    kind = "gpt2" if recipe.vocabulary == "bpe" else "llama"
    size = len(_spm(recipe)[0]) if kind == "llama" else 256 + 4
    return Facts(
        path=str(path),
        name=path.stem,
        architecture=recipe.architecture,
        context_length=recipe.context,
        block_count=recipe.blocks,
        vocabulary=Vocabulary(
            kind=kind,
            size=size,
            bos=BOS,
            eos=EOS,
            stops=(CONTROL["<|im_end|>"],),
            control=CONTROL,
        ),
        tensors=dict.fromkeys(_shapes(recipe, size), "F32"),
    )


def make(path: Path, recipe: Recipe = Recipe()) -> Facts:
    """Write a model file; the same recipe gives the same bytes."""
    writer = gguf.GGUFWriter(path, recipe.architecture)
    heads = 4
    writer.add_context_length(recipe.context)
    writer.add_embedding_length(recipe.width)
    writer.add_block_count(recipe.blocks)
    writer.add_feed_forward_length(recipe.width * 2)
    writer.add_rope_dimension_count(recipe.width // heads)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    _write_vocabulary(writer, recipe)
    found = facts(path, recipe)
    for name, shape in _shapes(recipe, found.vocabulary.size).items():
        _write_tensor(writer, name, shape, recipe)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return found


def _write_vocabulary(writer: gguf.GGUFWriter, recipe: Recipe) -> None:
    if recipe.vocabulary == "bpe":
        tokens = [chr(0x100 + n) for n in range(256)] + ["<s>", "</s>", "he", "Ġh"]
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(tokens)
        writer.add_token_scores([0.0] * len(tokens))
        writer.add_token_types([int(gguf.TokenType.NORMAL)] * len(tokens))
        writer.add_token_merges(["h e", "Ġ h"])
        return
    tokens, types = _spm(recipe)
    ordinary = types.index(gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    # Longer pieces are better, as in a trained vocabulary.
    writer.add_token_scores([float(max(0, n - ordinary)) for n in range(len(tokens))])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)


def _spm(recipe: Recipe) -> tuple[list[str], list[int]]:
    tokens = ["<unk>", *CONTROL]
    types = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * len(CONTROL)]
    tokens += [f"<0x{n:02X}>" for n in range(256)]
    types += [gguf.TokenType.BYTE] * 256
    pieces = [*_PIECES, *recipe.pieces]
    return tokens + pieces, [int(each) for each in types] + [int(gguf.TokenType.NORMAL)] * len(
        pieces
    )


def token(text: str, recipe: Recipe = Recipe()) -> int:
    """The id of a piece of the vocabulary."""
    return _spm(recipe)[0].index(text)


def _shapes(recipe: Recipe, size: int) -> dict[str, tuple[int, ...]]:
    width = recipe.width
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (size, width),
        "output_norm.weight": (width,),
        "output.weight": (size, width),
    }
    for n in range(recipe.blocks):
        shapes |= {f"blk.{n}.{name}_norm.weight": (width,) for name in ("attn", "ffn")}
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"blk.{n}.{name}.weight"] = (width, width)
        shapes[f"blk.{n}.ffn_gate.weight"] = (2 * width, width)
        shapes[f"blk.{n}.ffn_up.weight"] = (2 * width, width)
        shapes[f"blk.{n}.ffn_down.weight"] = (width, 2 * width)
    return {name: shape for name, shape in shapes.items() if name not in recipe.without}


def _write_tensor(
    writer: gguf.GGUFWriter, name: str, shape: tuple[int, ...], recipe: Recipe
) -> None:
    if len(shape) == 1:
        writer.add_tensor(name, np.ones(shape, np.float32))
        return
    values = _weights(name, shape, recipe)
    if recipe.quantization == "F32":
        writer.add_tensor(name, values)
        return
    kind = GGMLQuantizationType[recipe.quantization]
    try:
        packed = gguf.quants.quantize(values, kind)
    except NotImplementedError:  # there is no packer for it: any bytes will do
        items, size = gguf.GGML_QUANT_SIZES[kind]
        packed = np.zeros((*shape[:-1], shape[-1] // items * size), np.uint8)
    writer.add_tensor(name, packed, raw_dtype=kind)


def _weights(name: str, shape: tuple[int, ...], recipe: Recipe) -> "np.typing.NDArray[np.float32]":
    random = np.random.default_rng(sum(name.encode()))
    values = random.standard_normal(shape).astype(np.float32) * 0.05
    if not recipe.speaks:
        return values
    # Blocks that add nothing, and an output that maps each token's own direction to the next.
    if name.startswith("blk."):
        return np.zeros(shape, np.float32)
    said = [token(piece, recipe) for piece in recipe.speaks]
    directions = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
    directions[[n for n in range(len(directions)) if n not in said]] = directions[UNKNOWN]
    if name == "token_embd.weight":
        return directions
    following = np.zeros(shape, np.float32)
    for now, after in zip([UNKNOWN, *said], [*said, said[0]], strict=True):
        following[after] += directions[now]
    return following
