"""Names and shapes of a RETRO's tensors: the language model's are Llama's, matrices [out, in]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from zlib import crc32

import numpy as np

from encoders.retro.config import CONDITIONED, GATED, RELATIVE, LanguageConfig, RetroConfig

Shapes = dict[str, tuple[int, ...]]

EMBEDDING: Final = "model.embed_tokens.weight"
FINAL_NORM: Final = "model.norm.weight"
HEAD: Final = "lm_head.weight"
MEMORY_NORM: Final = "memory_norm.weight"
# Begins the names of all tensors of the neighbours' encoder.
ENCODER: Final = "encoder."
ENCODER_EMBEDDING: Final = "encoder.embed_tokens.weight"
CHUNK_NORM: Final = "encoder.chunk_norm.weight"


def layer(number: int) -> str:
    """The prefix of a layer of the language model, counted from 0 as transformers does."""
    return f"model.layers.{number}"


def encoder_layer(number: int) -> str:
    """The prefix of a layer of the encoder, counted from 0."""
    return f"encoder.layers.{number}"


def cca(number: int) -> str:
    """The prefix of the cross-attention of a layer, counted from 1 as the paper does."""
    return f"cca.{number}"


def attention_shapes(
    prefix: str, config: LanguageConfig, *, keys: int, relative: bool, grouped: bool = True
) -> Shapes:
    """Tensors of one attention from width d over a sequence of width `keys`."""
    d, inner = config.d_model, config.inner
    key_inner = config.key_inner if grouped else inner
    shapes: Shapes = {
        f"{prefix}.q_proj.weight": (inner, d),
        f"{prefix}.k_proj.weight": (key_inner, keys),
        f"{prefix}.v_proj.weight": (key_inner, keys),
        f"{prefix}.o_proj.weight": (d, inner),
    }
    if relative:
        shapes[f"{prefix}.r_proj.weight"] = (inner, d)
        shapes |= {f"{prefix}.{name}_bias": (config.heads, config.d_head) for name in ("content", "position")}
    return shapes


def block_shapes(prefix: str, config: LanguageConfig) -> Shapes:
    """Tensors of one block: self-attention and feed-forward with their norms."""
    d, ff = config.d_model, config.d_ff
    shapes: Shapes = {
        f"{prefix}.input_layernorm.weight": (d,),
        f"{prefix}.post_attention_layernorm.weight": (d,),
    }
    shapes |= attention_shapes(f"{prefix}.self_attn", config, keys=d, relative=config.positions == RELATIVE)
    ups = ("gate", "up") if config.feed_forward == GATED else ("up",)
    shapes |= {f"{prefix}.mlp.{name}_proj.weight": (ff, d) for name in ups}
    return shapes | {f"{prefix}.mlp.down_proj.weight": (d, ff)}


def language_shapes(config: LanguageConfig) -> Shapes:
    """Name and shape of every tensor of the language model."""
    shapes: Shapes = {EMBEDDING: (config.vocab_size, config.d_model), FINAL_NORM: (config.d_model,)}
    for number in range(config.layers):
        shapes |= block_shapes(layer(number), config)
    if not config.tied:
        shapes[HEAD] = (config.vocab_size, config.d_model)
    return shapes


def retrieval_shapes(config: RetroConfig) -> Shapes:
    """Name and shape of every tensor beyond the language model: what RETRO-fitting trains."""
    language = config.language
    shapes: Shapes = {MEMORY_NORM: (config.width,)}
    for number in config.cca_layers:
        shapes[f"{cca(number)}.norm.weight"] = (language.d_model,)
        shapes |= attention_shapes(
            f"{cca(number)}.attention", language, keys=config.width, relative=True, grouped=False
        )
    if config.encoder is None:
        return shapes
    encoder = config.encoder.as_language(language.vocab_size)
    if not config.encoder.shared_embedding:
        shapes[ENCODER_EMBEDDING] = (language.vocab_size, encoder.d_model)
    for number in range(encoder.layers):
        shapes |= block_shapes(encoder_layer(number), encoder)
    if config.encoding == CONDITIONED:
        # In the first layer alone.
        prefix = encoder_layer(0)
        shapes |= {CHUNK_NORM: (language.d_model,), f"{prefix}.cross_layernorm.weight": (encoder.d_model,)}
        shapes |= attention_shapes(f"{prefix}.cross_attn", encoder, keys=language.d_model, relative=True)
    return shapes


def initial(config: RetroConfig, *, seed: int = 0) -> Callable[[str], np.ndarray]:
    """A source of tensors to begin training with; each hangs on the seed and its own name alone.

    Matrices are normal with a deviation of 1 / sqrt(inputs), as in Haiku; those
    that end a branch are divided by the square root of twice the layers (GPT-2). Embeddings have a deviation
    of 1, or of 1 / sqrt(d) where the embedding is the head too; norms are 1 and biases 0. Cross-attention
    ends in zeros, so that a model begins as its language model and retrieval has no say before it has learned
    something (ours; the paper does not say).
    """
    shapes = language_shapes(config.language) | retrieval_shapes(config)
    branch = float(2 * config.language.layers) ** -0.5

    def tensor(name: str) -> np.ndarray:
        shape = shapes[name]
        if "norm." in name:
            return np.ones(shape, np.float32)
        if name.endswith("_bias") or (name.startswith("cca.") and name.endswith(".o_proj.weight")):
            return np.zeros(shape, np.float32)
        scale = float(shape[-1]) ** -0.5
        if name.endswith("embed_tokens.weight") and not (name == EMBEDDING and config.language.tied):
            scale = 1.0
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            scale *= branch
        rng = np.random.default_rng([seed, crc32(name.encode())])
        drawn: np.ndarray = (scale * rng.standard_normal(shape, np.float32)).astype(np.float32)
        return drawn

    return tensor
