"""The shape of a T5.1.1 encoder, and how many of its layers are memory.

Pure data and arithmetic: importing this loads neither jax nor torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from encoders import errors

FEED_FORWARDS = ("gated-gelu", "relu")
MODEL_TYPES = ("t5", "mt5")
# Of matrix products.
COMPUTE_DTYPES = ("float32", "bfloat16")

# What transformers assumes when config.json does not say: T5 1.0's files lack the key, mT5 never
# had anything but gated GELU.
_DEFAULT_FEED_FORWARD = {"t5": "relu", "mt5": "gated-gelu"}


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """Shape of one T5 encoder stack.

    Args:
        vocab_size: rows of the embedding (T5 pads its 32,100 pieces to 32,128).
        d_model: width of the residual stream, and so of the memory.
        d_kv: width of one attention head; heads * d_kv need not be d_model.
        d_ff: width of the feed-forward layer.
        layers: blocks of the encoder, L.
        heads: attention heads.
        feed_forward: "gated-gelu" (T5.1.1, mT5; the tanh form of GELU) or "relu" (T5 1.0, GTR).
        relative_buckets: rows of the relative-position table, both directions together.
        relative_max_distance: from this distance on, all positions share the last bucket.
        norm_epsilon: added to the mean square in RMS norm.

    Raises:
        EncoderError: a number is not positive, or the feed-forward kind is unknown.

    Source: PAPERS: T5.1.1; Raffel et al. 2020, section 2.1; Shazeer 2020 for the gated GELU.
    """

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    layers: int
    heads: int
    feed_forward: str = "gated-gelu"
    relative_buckets: int = 32
    relative_max_distance: int = 128
    norm_epsilon: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "d_kv", "d_ff", "layers", "heads"):
            _require_positive_int(name, getattr(self, name))
        _require_positive_int("relative_buckets", self.relative_buckets)
        if self.relative_buckets % 4:
            # Half for each direction, and half of that for exact distances.
            raise errors.EncoderError(
                f"relative_buckets is {self.relative_buckets}, wanted a multiple of 4, "
                "as in every published T5"
            )
        _require_positive_int("relative_max_distance", self.relative_max_distance)
        if self.relative_max_distance <= self.relative_buckets // 4:
            raise errors.EncoderError(
                f"relative_max_distance is {self.relative_max_distance}, wanted more than a "
                f"quarter of relative_buckets, {self.relative_buckets // 4}"
            )
        if not (isinstance(self.norm_epsilon, float) and 0 < self.norm_epsilon < 1):
            raise errors.EncoderError(f"norm_epsilon is {self.norm_epsilon!r}, wanted a float in (0, 1)")
        if self.feed_forward not in FEED_FORWARDS:
            raise errors.EncoderError(
                f"feed_forward is {self.feed_forward!r}, wanted one of {', '.join(FEED_FORWARDS)}"
            )

    def require_layers(self, layers: int) -> None:
        """Raises:
        ValueError: the encoder has not so many layers to run.
        """
        if not 0 <= layers <= self.layers:
            raise ValueError(f"{layers} layers of an encoder of {self.layers} cannot be run")

    @property
    def inner(self) -> int:
        """Width of all heads together, heads * d_kv."""
        return self.heads * self.d_kv

    @classmethod
    def from_hugging_face(cls, raw: Mapping[str, Any]) -> T5Config:
        """Reads the dictionary of a Hugging Face config.json.

        Raises:
            EncoderError: not a T5 or mT5, a number is missing or no positive integer, or an
                activation that no published T5.1.1, mT5 or T5 1.0 has.
        """
        kind = raw.get("model_type")
        if kind not in MODEL_TYPES:
            raise errors.EncoderError(
                f"model_type is {kind!r}, wanted one of {', '.join(MODEL_TYPES)}; "
                "only T5 encoders can be split into memory and live layers here"
            )
        wanted = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
        missing = [key for key in wanted if key not in raw]
        if missing:
            raise errors.EncoderError(f"{', '.join(missing)} missing, wanted in every T5 config.json")
        return cls(
            vocab_size=raw["vocab_size"],
            d_model=raw["d_model"],
            d_kv=raw["d_kv"],
            d_ff=raw["d_ff"],
            layers=raw["num_layers"],
            heads=raw["num_heads"],
            feed_forward=raw.get("feed_forward_proj", _DEFAULT_FEED_FORWARD[kind]),
            relative_buckets=raw.get("relative_attention_num_buckets", 32),
            relative_max_distance=raw.get("relative_attention_max_distance", 128),
            norm_epsilon=raw.get("layer_norm_epsilon", 1e-6),
        )


def require_compute_dtype(compute_dtype: str) -> None:
    """Raises:
    ValueError: it is none of `COMPUTE_DTYPES`.
    """
    if compute_dtype not in COMPUTE_DTYPES:
        raise ValueError(f"compute_dtype is {compute_dtype!r}, wanted one of {', '.join(COMPUTE_DTYPES)}")


def require_whole(name: str, value: object, least: int) -> None:
    """Raises:
    EncoderError: it is no whole number, or less than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise errors.EncoderError(f"{name} is {value!r}, wanted {least} or more")


def require_seed(seed: int) -> None:
    """Refuse a seed that NumPy does not take, or of which JAX takes the last 32 bits alone.

    Raises:
        EncoderError: it is out of range.
    """
    if not 0 <= seed < 1 << 32:
        raise errors.EncoderError(f"the seed is {seed}, wanted 0 or more and below 2^32")


def _require_positive_int(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise errors.EncoderError(f"{name} is {value!r}, wanted a positive integer")


def _t5_1_1(layers: int, d_model: int, d_ff: int, heads: int) -> T5Config:
    return T5Config(vocab_size=32128, d_model=d_model, d_kv=64, d_ff=d_ff, layers=layers, heads=heads)


# The T5.1.1 release (google-research/text-to-text-transfer-transformer, released_checkpoints.md);
# PAPERS: sizes.
PUBLISHED_SIZES: Mapping[str, T5Config] = MappingProxyType(
    {
        "small": _t5_1_1(8, 512, 1024, 6),
        "base": _t5_1_1(12, 768, 2048, 12),
        "large": _t5_1_1(24, 1024, 2816, 16),
        "xl": _t5_1_1(24, 2048, 5120, 32),
        "xxl": _t5_1_1(24, 4096, 10240, 64),
    }
)


def parse_live_proportion(text: str | int | Fraction) -> Fraction:
    """Reads α, the share of the encoder's layers that runs live: "1/3", "0.25", 0 or 1.

    A decimal is taken exactly as written: 0.333 is 333/1000, not a third.

    Raises:
        EncoderError: not such a number, or outside 0..1.
    """
    written = str(text).strip()
    if not re.fullmatch(r"\d+(/\d+)?|\d*\.\d+", written) or re.search(r"/0+$", written):
        raise errors.EncoderError(
            f"live proportion {written!r} is no number, wanted a fraction or a decimal from 0 to 1 "
            "such as 1/3 or 0.25"
        )
    alpha = Fraction(written)
    if alpha > 1:
        raise errors.EncoderError(
            f"live proportion {written} is above 1, wanted 0 (all layers precomputed) to 1 (none)"
        )
    return alpha


def memory_layers(layers: int, live_proportion: Fraction) -> int:
    """Number of layers whose output is stored, (1-α)·L.

    Args:
        layers: layers of the encoder, L.
        live_proportion: α, the share of layers that the reader runs on [question; memory].

    Returns:
        Layers of the memory encoder: L with α = 0 (MemoryFiD), 0 with α = 1 (FiD).

    Raises:
        EncoderError: α is outside 0..1 or gives no whole number of layers.

    Source: PAPERS: The reader family; LUMEN (de Jong et al. 2023), section 3.
    """
    if not 0 <= live_proportion <= 1:
        raise errors.EncoderError(f"live proportion {_plain(live_proportion)} is not in 0..1")
    live = live_proportion * layers
    if live.denominator != 1:
        below = math.floor(live)
        nearest = " and ".join(
            f"{Fraction(count, layers)} ({count} live layer{'' if count == 1 else 's'})"
            for count in (below, below + 1)
        )
        raise errors.EncoderError(
            f"live proportion {_plain(live_proportion)} of {layers} layers is {_plain(live)} "
            f"layers, wanted a whole number; the nearest are {nearest}"
        )
    return layers - int(live)


def _plain(value: Fraction) -> str:
    """A short exact decimal where there is one ("4.8"), else the fraction ("12/7")."""
    scaled = value * 10**6
    if scaled.denominator != 1:
        return str(value)
    return f"{float(value):.6f}".rstrip("0").rstrip(".")
