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
from encoders.t5_config import require_whole

LLAMA: Final = "llama"
# What config.json says of a language model that no class of transformers' is.
OURS: Final = "memcorpus-language"

# transformers' own values where config.json does not say.
_THETA: Final = 10_000.0
_EPSILON: Final = 1e-6
# Settings, the only value of each that is known here, which may also be null or left out, and what is wanted.
_ONLY: Final[Mapping[str, tuple[object, str]]] = {
    "attention_bias": (False, "a Llama without biases"),
    "mlp_bias": (False, "a Llama without biases"),
    "hidden_act": ("silu", "'silu', as every Llama has"),
    "partial_rotary_factor": (1, "rotary positions of whole heads"),
    "sliding_window": (None, "attention to all that came before"),
    "quantization_config": (None, "weights as they were trained; save it again without quantization"),
    "compression_config": (None, "weights as they were trained; save it again without compression"),
}
# Buffers that older transformers saved among the weights, and computes anew.
_BUFFER: Final = ".rotary_emb.inv_freq"


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
    for key in wanted:
        require_whole(key, raw[key], 1)
    _require_plain(raw)
    # transformers 5 has one dictionary; before it, the base stood alone and scaling in another, which still
    # takes the other's place.
    rope = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    _require_plain_positions(rope)
    width, heads = raw["hidden_size"], raw["num_attention_heads"]
    if (d_head := raw.get("head_dim")) is None:
        d_head = width // heads
        if width % heads:
            raise errors.EncoderError(f"hidden_size is {width}, wanted a multiple of its {heads} heads")
    tied = raw.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        raise errors.EncoderError(f"tie_word_embeddings is {tied!r}, wanted true or false")
    theta = rope.get("rope_theta", raw.get("rope_theta", _THETA))
    return LanguageConfig(
        vocab_size=raw["vocab_size"],
        d_model=width,
        d_head=d_head,
        d_ff=raw["intermediate_size"],
        layers=raw["num_hidden_layers"],
        heads=heads,
        key_heads=raw.get("num_key_value_heads"),
        feed_forward=GATED,
        positions=ROTARY,
        rotary_theta=_number("rope_theta", theta),
        norm_epsilon=_number("rms_norm_eps", raw.get("rms_norm_eps", _EPSILON)),
        tied=tied,
    )


def _require_plain(raw: Mapping[str, Any]) -> None:
    """Refuse a setting that changes what a Llama computes, and is not known here.

    Raises:
        EncoderError: there is one.
    """
    for key, (only, why) in _ONLY.items():
        if (value := raw.get(key, only)) not in (only, None):
            raise errors.EncoderError(f"{key} is {value!r:.80}, wanted {why}")
    if other := sorted({str(kind) for kind in raw.get("layer_types") or ()} - {"full_attention"}):
        raise errors.EncoderError(f"layer_types has {', '.join(other)}, wanted full_attention alone")
    if "AutoModelForCausalLM" in (raw.get("auto_map") or {}):
        raise errors.EncoderError("auto_map names a model of its own code, wanted transformers' Llama")


def _require_plain_positions(rope: Any) -> None:
    """Refuse rotary positions that are scaled, of some of a head, or others in each kind of layer.

    Raises:
        EncoderError: they are.
    """
    if not isinstance(rope, Mapping):
        raise errors.EncoderError(f"rope_parameters are {rope!r:.80}, wanted an object")
    if nested := sorted(key for key, value in rope.items() if isinstance(value, Mapping)):
        raise errors.EncoderError(f"rope_parameters are others for each of {', '.join(nested)}, wanted one")
    if (scaled := rope.get("rope_type", rope.get("type", "default"))) != "default":
        raise errors.EncoderError(
            f"rotary positions are scaled ({scaled}), wanted plain ones; take a model without rope_scaling"
        )
    if (share := rope.get("partial_rotary_factor")) not in (None, 1):
        raise errors.EncoderError(f"partial_rotary_factor is {share!r:.80}, wanted whole heads")


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise errors.EncoderError(f"{key} is {value!r:.80}, wanted a number")
    return float(value)


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
        ModelFolderError: one is missing, or of another shape than config.json says, or of a type that is not
            read; or there are others.
    """
    stored = model_folder.find_tensors(folder)
    found = {}
    shapes = names.language_shapes(config)
    for name, shape in shapes.items():
        tensor = stored.pop(name, None)
        if tensor is None or tensor.shape != shape:
            there = "is missing" if tensor is None else f"has shape {list(tensor.shape)}"
            raise ModelFolderError(
                f"{folder}: {name} {there}, wanted {list(shape)} as config.json says; do config.json and the "
                "weights belong together?"
            )
        tensor.require_dtype()
        found[name] = tensor
    head = stored.pop(names.HEAD, None)
    if head is not None and not _are_same(head, found[names.EMBEDDING]):
        raise ModelFolderError(
            f"{folder}: config.json ties the head to the embedding (tie_word_embeddings), and the weights "
            f"have another {names.HEAD}; do they belong together?"
        )
    if more := sorted(name for name in stored if not name.endswith(_BUFFER)):
        raise ModelFolderError(
            f"{folder}: the weights have {more[0]} and {len(more) - 1} more that no Llama of its config.json "
            "has; they would be left out"
        )
    return found


def _are_same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same bytes."""
    return (one.dtype, one.shape) == (other.dtype, other.shape) and all(
        a == b for a, b in zip(one.chunks(), other.chunks(), strict=True)
    )
