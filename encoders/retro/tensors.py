"""A RETRO's tensors by name: what goes into its folder, and what of it a training run changes."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from encoders.retro import names
from encoders.retro.attention import Attention, Block
from encoders.retro.model import Retro

Named = dict[str, np.ndarray]


def named(model: Retro) -> tuple[Named, Named]:
    """All tensors in float32, those of the language model apart from the others."""
    language: Named = {
        names.EMBEDDING: _array(model.language.embedding),
        names.FINAL_NORM: _array(model.language.final_norm.scale),
    }
    for number, block in enumerate(model.language.blocks):
        language |= _block(block, names.layer(number))
    if model.language.head is not None:
        language[names.HEAD] = np.ascontiguousarray(_array(model.language.head).T)
    extra: Named = {names.MEMORY_NORM: _array(model.memory_norm.scale)}
    for number, one in zip(model.config.cca_layers, model.cca, strict=True):
        extra[f"{names.cca(number)}.norm.weight"] = _array(one.norm.scale)
        extra |= _attention(one.attention, f"{names.cca(number)}.attention")
    encoder = model.encoder
    if encoder is None:
        return language, extra
    if encoder.embedding is not model.language.embedding:
        extra[names.ENCODER_EMBEDDING] = _array(encoder.embedding)
    for number, block in enumerate(encoder.blocks):
        extra |= _block(block, names.encoder_layer(number))
    if encoder.chunk is not None:
        prefix = names.encoder_layer(0)
        extra[f"{prefix}.cross_layernorm.weight"] = _array(encoder.chunk.norm.scale)
        extra[names.CHUNK_NORM] = _array(encoder.chunk.chunk_norm.scale)
        extra |= _attention(encoder.chunk.attention, f"{prefix}.cross_attn")
    return language, extra


def _block(block: Block, prefix: str) -> Named:
    feed = block.feed_forward
    ups = ("gate", "up") if feed.gated else ("up",)
    return {
        f"{prefix}.input_layernorm.weight": _array(block.attention_norm.scale),
        f"{prefix}.post_attention_layernorm.weight": _array(block.feed_norm.scale),
        **_attention(block.attention, f"{prefix}.self_attn"),
        **_split(feed.up, [f"{prefix}.mlp.{name}_proj.weight" for name in ups]),
        **_split(feed.down, [f"{prefix}.mlp.down_proj.weight"]),
    }


def _attention(attention: Attention, prefix: str) -> Named:
    found = {
        **_split(attention.query, [f"{prefix}.q_proj.weight"]),
        **_split(attention.key_value, [f"{prefix}.{name}_proj.weight" for name in "kv"]),
        **_split(attention.out, [f"{prefix}.o_proj.weight"]),
    }
    if attention.position is not None:
        found |= _split(attention.position, [f"{prefix}.r_proj.weight"])
        found[f"{prefix}.content_bias"] = _array(attention.content_bias)
        found[f"{prefix}.position_bias"] = _array(attention.position_bias)
    return found


def _split(kernel: nnx.Param, tensor_names: Sequence[str]) -> Named:
    """The [out, in] matrices, all as large, that stand side by side in an [in, out] kernel."""
    matrices = np.split(_array(kernel).T, len(tensor_names))
    return {name: np.ascontiguousarray(matrix) for name, matrix in zip(tensor_names, matrices, strict=True)}


def _array(parameter: nnx.Param) -> np.ndarray:
    return np.asarray(jax.device_get(parameter[...]), dtype=np.float32)
