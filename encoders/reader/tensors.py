"""A reader's weights by the names that Hugging Face's T5 has for them: the way back from `kernel`."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from encoders import weights
from encoders.reader import names
from encoders.reader.decoder import Attention, T5Decoder
from encoders.reader.model import Reader
from encoders.t5 import Block, FeedForward, T5Encoder

Named = dict[str, np.ndarray]


def named(reader: Reader) -> tuple[Named, Named]:
    """The tensors of model.safetensors, those of T5ForConditionalGeneration, and of reader.safetensors.

    All float32.
    """
    whole = {_encoder_name(name): values for name, values in _encoder(reader.memory_encoder).items()}
    extra: Named = {}
    if reader.live is not None:
        for place, block in enumerate(reader.live.blocks):
            layer = reader.config.memory_layers + place
            whole |= {_encoder_name(name): values for name, values in _block(block, layer).items()}
        whole[_encoder_name(weights.FINAL_NORM)] = _array(reader.live.final_norm.scale)
        table = _array(reader.live.relative_bias)
        if reader.config.memory_layers:
            extra[names.LIVE_BIAS] = table
        else:
            whole[_encoder_name(weights.RELATIVE_BIAS)] = table
    if reader.question_encoder is not None:
        extra |= {names.QUESTION + n: values for n, values in _encoder(reader.question_encoder).items()}
    if reader.score is not None:
        extra[names.SCORE_NORM] = _array(reader.score.norm.scale)
        extra[names.SCORE_WEIGHT] = _array(reader.score.weight)
        extra[names.SCORE_BIAS] = _array(reader.score.bias)
    return whole | _decoder(reader.decoder), extra


def _encoder_name(name: str) -> str:
    return name if name == weights.EMBEDDING else f"encoder.{name}"


def _encoder(encoder: T5Encoder) -> Named:
    found = {weights.EMBEDDING: _array(encoder.embedding)}
    for layer, block in enumerate(encoder.blocks):
        found |= _block(block, layer)
    if encoder.relative_bias is not None:
        found[weights.RELATIVE_BIAS] = _array(encoder.relative_bias)
    if encoder.final_norm is not None:
        found[weights.FINAL_NORM] = _array(encoder.final_norm.scale)
    return found


def _block(block: Block, layer: int) -> Named:
    name = f"block.{layer}.layer"
    return {
        f"{name}.0.layer_norm.weight": _array(block.attention_norm.scale),
        f"{name}.1.layer_norm.weight": _array(block.feed_forward_norm.scale),
        **_matrices(block.attention.qkv, f"{name}.0.SelfAttention", "qkv"),
        **_matrices(block.attention.out, f"{name}.0.SelfAttention", "o"),
        **_feed_forward(block.feed_forward, f"{name}.1.DenseReluDense"),
    }


def _decoder(decoder: T5Decoder) -> Named:
    found = {
        weights.DECODER_RELATIVE_BIAS: _array(decoder.relative_bias),
        weights.DECODER_FINAL_NORM: _array(decoder.final_norm.scale),
        weights.HEAD: np.ascontiguousarray(_array(decoder.head).T),
    }
    for layer, block in enumerate(decoder.blocks):
        name = f"decoder.block.{layer}.layer"
        norms = (block.past_norm, block.passages_norm, block.feed_forward_norm)
        found |= {f"{name}.{place}.layer_norm.weight": _array(norm.scale) for place, norm in enumerate(norms)}
        found |= _attention(block.past, f"{name}.0.SelfAttention")
        found |= _attention(block.passages, f"{name}.1.EncDecAttention")
        found |= _feed_forward(block.feed_forward, f"{name}.2.DenseReluDense")
    return found


def _attention(attention: Attention, prefix: str) -> Named:
    return {
        **_matrices(attention.query, prefix, "q"),
        **_matrices(attention.key_value, prefix, "kv"),
        **_matrices(attention.out, prefix, "o"),
    }


def _feed_forward(layer: FeedForward, prefix: str) -> Named:
    ins = ("wi_0", "wi_1") if layer.gated else ("wi",)
    return {**_matrices(layer.wi, prefix, ins), **_matrices(layer.wo, prefix, ("wo",))}


def _matrices(kernel: nnx.Param, prefix: str, names: Sequence[str]) -> Named:
    """The [out, in] matrices that stand side by side in an [in, out] kernel."""
    parts = np.split(_array(kernel).T, len(names))
    return {
        f"{prefix}.{name}.weight": np.ascontiguousarray(part) for name, part in zip(names, parts, strict=True)
    }


def _array(parameter: nnx.Param) -> np.ndarray:
    return np.asarray(jax.device_get(parameter[...]), dtype=np.float32)
