"""Which tensors of a Hugging Face T5 a memory encoder uses, by which names, in which shapes.

Canonical names are those of T5EncoderModel without the "encoder." prefix, the embedding being
"shared.weight". T5ForConditionalGeneration, T5EncoderModel, a bare encoder stack, and models that
put a prefix before all of these ("transformer.") are told apart by the names themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from encoders import errors, model_folder
from encoders.model_folder import ModelFolderError
from encoders.t5_config import T5Config

EMBEDDING = "shared.weight"
RELATIVE_BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
FINAL_NORM = "final_layer_norm.weight"

# Names in T5ForConditionalGeneration's own namespace: no encoder's prefix goes before them.
DECODER_RELATIVE_BIAS = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
DECODER_FINAL_NORM = "decoder.final_layer_norm.weight"
HEAD = "lm_head.weight"

_MARK = "block.0.layer.0.SelfAttention.q.weight"


def read_config(folder: Path) -> T5Config:
    """The T5Config of a model folder.

    Raises:
        ModelFolderError: no config.json, or not that of a T5 encoder that is known here.
    """
    raw = model_folder.read_json(folder / "config.json")
    try:
        return T5Config.from_hugging_face(raw)
    except errors.EncoderError as error:
        raise ModelFolderError(f"{folder / 'config.json'}: {error}") from error


def tensor_shapes(config: T5Config, layers: int) -> dict[str, tuple[int, ...]]:
    """Canonical name and shape of every tensor that the first `layers` layers use.

    Matrices are [out, in], as PyTorch stores them. The relative-position table belongs to the
    first block and serves all; the final norm belongs to the last layer, so it is used only if
    all layers are.
    """
    d, inner, ff = config.d_model, config.inner, config.d_ff
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, d)}
    for layer in range(layers):
        attention, dense = f"block.{layer}.layer.0", f"block.{layer}.layer.1"
        shapes |= {f"{attention}.SelfAttention.{name}.weight": (inner, d) for name in "qkv"}
        shapes[f"{attention}.SelfAttention.o.weight"] = (d, inner)
        shapes[f"{attention}.layer_norm.weight"] = (d,)
        ins = ("wi_0", "wi_1") if config.feed_forward == "gated-gelu" else ("wi",)
        shapes |= {f"{dense}.DenseReluDense.{name}.weight": (ff, d) for name in ins}
        shapes[f"{dense}.DenseReluDense.wo.weight"] = (d, ff)
        shapes[f"{dense}.layer_norm.weight"] = (d,)
    if layers:
        shapes[RELATIVE_BIAS] = (config.relative_buckets, config.heads)
    if layers == config.layers:
        shapes[FINAL_NORM] = (d,)
    return shapes


def decoder_shapes(config: T5Config, layers: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a decoder of `layers` layers, but for the embedding it shares."""
    d, inner, ff = config.d_model, config.inner, config.d_ff
    shapes: dict[str, tuple[int, ...]] = {DECODER_RELATIVE_BIAS: (config.relative_buckets, config.heads)}
    for layer in range(layers):
        name = f"decoder.block.{layer}.layer"
        for place, attention in enumerate(("SelfAttention", "EncDecAttention")):
            shapes |= {f"{name}.{place}.{attention}.{matrix}.weight": (inner, d) for matrix in "qkv"}
            shapes[f"{name}.{place}.{attention}.o.weight"] = (d, inner)
            shapes[f"{name}.{place}.layer_norm.weight"] = (d,)
        ins = ("wi_0", "wi_1") if config.feed_forward == "gated-gelu" else ("wi",)
        shapes |= {f"{name}.2.DenseReluDense.{matrix}.weight": (ff, d) for matrix in ins}
        shapes[f"{name}.2.DenseReluDense.wo.weight"] = (d, ff)
        shapes[f"{name}.2.layer_norm.weight"] = (d,)
    return shapes | {DECODER_FINAL_NORM: (d,), HEAD: (config.vocab_size, d)}


def find(folder: Path, config: T5Config, layers: int) -> dict[str, model_folder.Tensor]:
    """The tensors that the first `layers` layers use, by canonical name; nothing is read yet.

    Raises:
        ModelFolderError: see `model_folder.find_tensors`; or the weights hold no T5 encoder or
            several, a tensor is missing or has another shape than config.json says, or the
            embedding is stored twice with different values.
    """
    stored = model_folder.find_tensors(folder)
    prefix = _encoder_prefix(folder, stored)
    found: dict[str, model_folder.Tensor] = {}
    for name, shape in tensor_shapes(config, layers).items():
        if name == EMBEDDING:
            tensor = _embedding(folder, stored, prefix)
        elif prefix + name in stored:
            tensor = stored[prefix + name]
        else:
            raise ModelFolderError(
                f"{folder} has no tensor {prefix + name}, wanted for a T5 encoder of "
                f"{config.layers} layers with {config.feed_forward} feed-forward as config.json "
                "says; do config.json and the weights belong together?"
            )
        if tensor.shape != shape:
            raise ModelFolderError(
                f"{tensor.path}: {tensor.name} has shape {list(tensor.shape)}, wanted "
                f"{list(shape)} as config.json says; do they belong together?"
            )
        found[name] = tensor
    return found


def _encoder_prefix(folder: Path, stored: Mapping[str, model_folder.Tensor]) -> str:
    prefixes = [
        name.removesuffix(_MARK) for name in stored if name.endswith(_MARK) and "decoder." not in name
    ]
    if len(prefixes) != 1:
        raise ModelFolderError(
            f"{folder} holds {len(prefixes)} T5 encoders, wanted one: its weights have "
            f"{len(prefixes)} tensors named [prefix]{_MARK}"
        )
    return prefixes[0]


def _embedding(folder: Path, stored: Mapping[str, model_folder.Tensor], prefix: str) -> model_folder.Tensor:
    """The encoder's embedding, under either of its names, or under both with the same values."""
    names = (prefix.removesuffix("encoder.") + EMBEDDING, prefix + "embed_tokens.weight")
    present = [stored[name] for name in names if name in stored]
    if not present:
        raise ModelFolderError(f"{folder} has no embedding, wanted {' or '.join(names)}")
    if len(present) == 2 and _digest(present[0]) != _digest(present[1]):
        raise ModelFolderError(
            f"{folder} has different values in {names[0]} and {names[1]}, wanted one embedding: "
            "no published T5 unties them; delete the one that is stale"
        )
    return present[0]


def _digest(tensor: model_folder.Tensor) -> str:
    digest = hashlib.sha256(f"{tensor.dtype} {tensor.shape}".encode())
    for chunk in tensor.chunks():
        digest.update(chunk)
    return digest.hexdigest()
