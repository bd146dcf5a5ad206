"""Language models of a folder: a Llama as Hugging Face saves it, or one that was trained here.

Llama is the architecture that transformers has and that is nearest to RETRO's decoder: RMS norms before each
sublayer, no biases. Its positions are rotary and its feed-forward is gated, which are settings here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from encoders import errors, model_folder
from encoders.aliases import Json
from encoders.model_folder import ModelFolderError, Tensor
from encoders.retro import names
from encoders.retro.config import GATED, ROTARY, LanguageConfig

LLAMA: Final = "llama"
# What config.json says of a language model that no class of transformers' is.
OURS: Final = "memcorpus-language"

# transformers' own values where config.json does not say.
_THETA: Final = 10_000.0
_EPSILON: Final = 1e-6


def read_config(folder: Path) -> LanguageConfig:
    """The shape of the language model in a folder.

    Raises:
        ModelFolderError: no config.json, or not that of a model that is known here.
    """
    raw = model_folder.read_json(folder / "config.json")
    try:
        return from_json(raw)
    except errors.EncoderError as error:
        raise ModelFolderError(f"{folder / 'config.json'}: {error}") from error


def from_json(raw: Mapping[str, Any]) -> LanguageConfig:
    """Reads a config.json: transformers' of a Llama, or ours.

    Raises:
        EncoderError: another architecture, or a setting of Llama's that is not known here.
    """
    kind = raw.get("model_type")
    if kind == OURS:
        known = {field.name for field in fields(LanguageConfig)}
        try:
            return LanguageConfig(**{name: value for name, value in raw.items() if name in known})
        except TypeError as error:
            raise errors.EncoderError(f"no language model's settings: {error}") from error
    if kind != LLAMA:
        raise errors.EncoderError(
            f"model_type is {kind!r}, wanted {LLAMA}, or a language model that `memcorpus retro train` wrote"
        )
    wanted = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    if missing := [key for key in wanted if key not in raw]:
        raise errors.EncoderError(f"{', '.join(missing)} missing, wanted in every Llama's config.json")
    for key in ("attention_bias", "mlp_bias"):
        if raw.get(key):
            raise errors.EncoderError(f"{key} is true, wanted a Llama without biases")
    if raw.get("hidden_act", "silu") != "silu":
        raise errors.EncoderError(f"hidden_act is {raw['hidden_act']!r}, wanted 'silu', as every Llama has")
    # transformers 5 has one dictionary; before it, the base stood alone and scaling in another.
    rope = raw.get("rope_parameters") or {}
    scaling = rope or raw.get("rope_scaling") or {}
    if (scaled := scaling.get("rope_type", scaling.get("type", "default"))) != "default":
        raise errors.EncoderError(
            f"rotary positions are scaled ({scaled}), wanted plain ones; take a model without rope_scaling"
        )
    heads = raw["num_attention_heads"]
    return LanguageConfig(
        vocab_size=raw["vocab_size"],
        d_model=raw["hidden_size"],
        d_head=raw.get("head_dim") or raw["hidden_size"] // heads,
        d_ff=raw["intermediate_size"],
        layers=raw["num_hidden_layers"],
        heads=heads,
        key_heads=raw.get("num_key_value_heads"),
        feed_forward=GATED,
        positions=ROTARY,
        rotary_theta=float(rope.get("rope_theta", raw.get("rope_theta") or _THETA)),
        norm_epsilon=float(raw.get("rms_norm_eps", _EPSILON)),
        tied=bool(raw.get("tie_word_embeddings", False)),
    )


def to_json(config: LanguageConfig, *, tokens: int) -> Json:
    """A config.json of this shape: transformers' of a Llama where it is one, else ours.

    Args:
        config: the shape.
        tokens: the longest rows it was trained on.
    """
    if config.feed_forward != GATED or config.positions != ROTARY:
        return {"model_type": OURS, **asdict(config)}
    return {
        "model_type": LLAMA,
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_heads or config.heads,
        "head_dim": config.d_head,
        "hidden_act": "silu",
        "max_position_embeddings": tokens,
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rotary_theta},
        "tie_word_embeddings": config.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": "float32",
    }


def find(folder: Path, config: LanguageConfig) -> dict[str, Tensor]:
    """Every tensor of the language model, by name; nothing is read yet.

    Raises:
        ModelFolderError: one is missing or of another shape than config.json says.
    """
    stored = model_folder.find_tensors(folder)
    found = {}
    for name, shape in names.language_shapes(config).items():
        tensor = stored.get(name)
        if tensor is None or tensor.shape != shape:
            there = "is missing" if tensor is None else f"has shape {list(tensor.shape)}"
            raise ModelFolderError(
                f"{folder}: {name} {there}, wanted {list(shape)} as config.json says; do config.json and the "
                "weights belong together?"
            )
        found[name] = tensor
    return found
