"""The shape of a RETRO: a language model, its neighbours' encoder, and where they meet. Pure data.

Symbols: n tokens of a sequence, m of a chunk, l chunks of a sequence, k neighbours, r tokens of a neighbour
with its continuation, d width of the language model, d' of what it attends to. Loads neither jax nor torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final

from encoders import errors
from encoders.aliases import Json
from encoders.t5_config import require_whole

# Positions: cosine vectors of distances, mapped linearly, as in Transformer-XL (the paper); or rotary ones
# (Llama). Chunked cross-attention and the encoder always have the former.
RELATIVE, ROTARY = "relative", "rotary"
POSITIONS: Final = (RELATIVE, ROTARY)
PLAIN, GATED = "gelu", "gated-silu"
FEED_FORWARDS: Final = (PLAIN, GATED)

# What a neighbour is encoded by: an encoder that sees the chunk that asked (the paper), one that does not,
# one that was run beforehand and whose states are stored, or the retriever, whose vector is a memory of one
# token.
CONDITIONED, UNCONDITIONED, STORED, VECTORS = "conditioned", "unconditioned", "stored", "vectors"
ENCODINGS: Final = (CONDITIONED, UNCONDITIONED, STORED, VECTORS)


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """Shape of a decoder-only language model.

    Args:
        vocab_size: rows of the embedding.
        d_model: d, even.
        d_head: width of a head; heads * d_head need not be d. Even.
        d_ff: width of the feed-forward layer.
        layers: blocks.
        heads: of the queries.
        key_heads: of keys and values; None for as many. Each serves heads / key_heads queries' heads.
        feed_forward: "gelu", down(gelu(up x)), or "gated-silu", down(silu(gate x) * up x).
        positions: "relative" or "rotary".
        rotary_theta: the base of rotary frequencies.
        norm_epsilon: added to the mean square in RMS norm.
        tied: the head is the embedding.

    Raises:
        EncoderError: one is out of range.

    Source: Borgeaud et al. 2021, section 2.4 and Table 10; transformers' Llama for rotary and gated.
    """

    vocab_size: int
    d_model: int
    d_head: int
    d_ff: int
    layers: int
    heads: int
    key_heads: int | None = None
    feed_forward: str = PLAIN
    positions: str = RELATIVE
    rotary_theta: float = 10_000.0
    norm_epsilon: float = 1e-6
    tied: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "d_head", "d_ff", "layers", "heads"):
            require_whole(name, getattr(self, name), 1)
        for name in ("d_model", "d_head"):
            if getattr(self, name) % 2:
                raise errors.EncoderError(f"{name} is {getattr(self, name)}, wanted an even number")
        if self.key_heads is not None:
            require_whole("key_heads", self.key_heads, 1)
            if self.heads % self.key_heads:
                raise errors.EncoderError(f"{self.heads} heads are no multiple of {self.key_heads} key heads")
        _require_one_of("feed_forward", self.feed_forward, FEED_FORWARDS)
        _require_one_of("positions", self.positions, POSITIONS)
        if not 0 < self.norm_epsilon < 1:
            raise errors.EncoderError(f"norm_epsilon is {self.norm_epsilon!r}, wanted a number in (0, 1)")
        if not 1 < self.rotary_theta < math.inf:
            raise errors.EncoderError(f"rotary_theta is {self.rotary_theta!r}, wanted a number above 1")

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * self.d_head

    @property
    def key_inner(self) -> int:
        """Width of all keys' heads together."""
        return (self.key_heads or self.heads) * self.d_head


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape of the neighbours' encoder; by default the paper's, whatever the decoder's size.

    Source: Borgeaud et al. 2021, section 2.4 and Table 10: two layers of width 896, conditioned in the first.
    """

    d_model: int = 896
    d_head: int = 64
    d_ff: int = 3584
    layers: int = 2
    heads: int = 16
    shared_embedding: bool = False

    def __post_init__(self) -> None:
        _ = self.as_language(1)
        if not isinstance(self.shared_embedding, bool):
            raise errors.EncoderError(f"shared_embedding is {self.shared_embedding!r}, wanted true or false")

    def as_language(self, vocab_size: int) -> LanguageConfig:
        """The same widths as a language model's: the blocks are made of the same parts."""
        return LanguageConfig(
            vocab_size=vocab_size,
            d_model=self.d_model,
            d_head=self.d_head,
            d_ff=self.d_ff,
            layers=self.layers,
            heads=self.heads,
        )


@dataclass(frozen=True, kw_only=True)
class RetroConfig:
    """A RETRO's shape.

    Args:
        language: the decoder.
        encoding: what neighbours are encoded by; one of `ENCODINGS`.
        encoder: of "conditioned" and "unconditioned"; None otherwise.
        memory_width: d' of "stored" states and of "vectors"; None otherwise.
        chunk_tokens: m.
        neighbours: k, of training; any number can be read.
        neighbour_tokens: r, tokens of a neighbour with its continuation; of "vectors" 2, one for each.
        cca_layers: after whose self-attention chunked cross-attention stands, counted from 1 and rising.

    Raises:
        EncoderError: one is out of range, or they do not go together.

    Source: Borgeaud et al. 2021, section 2.4.
    """

    language: LanguageConfig
    encoding: str = CONDITIONED
    encoder: EncoderConfig | None = None
    memory_width: int | None = None
    chunk_tokens: int = 64
    neighbours: int = 2
    neighbour_tokens: int = 128
    cca_layers: tuple[int, ...]

    def __post_init__(self) -> None:
        _require_one_of("encoding", self.encoding, ENCODINGS)
        require_whole("chunk_tokens", self.chunk_tokens, 2)
        require_whole("neighbours", self.neighbours, 1)
        require_whole("neighbour_tokens", self.neighbour_tokens, 1)
        layers = self.language.layers
        for layer in self.cca_layers:
            require_whole("a layer of cross-attention", layer, 1)
        if not self.cca_layers or list(self.cca_layers) != sorted(set(self.cca_layers)):
            raise errors.EncoderError(
                f"cca_layers are {list(self.cca_layers)}, wanted one or more layers, rising"
            )
        if self.cca_layers[-1] > layers:
            raise errors.EncoderError(
                f"cca_layers are {list(self.cca_layers)}, wanted layers from 1 to {layers}, the model's last"
            )
        if self.encodes != (self.encoder is not None):
            raise errors.EncoderError(
                f"encoding {self.encoding} " + ("needs an encoder" if self.encodes else "has no encoder")
            )
        if self.encodes == (self.memory_width is not None):
            raise errors.EncoderError(
                f"encoding {self.encoding} "
                + ("has its encoder's width" if self.encodes else "needs the width of what is attended to")
            )
        if self.memory_width is not None:
            require_whole("memory_width", self.memory_width, 1)
        if self.encoder and self.encoder.shared_embedding and self.encoder.d_model != self.language.d_model:
            raise errors.EncoderError(
                f"an encoder of width {self.encoder.d_model} cannot share the embedding of a model of width "
                f"{self.language.d_model}; wanted the same width, or an embedding of its own"
            )

    @property
    def encodes(self) -> bool:
        """Whether an encoder is part of the model."""
        return self.encoding in (CONDITIONED, UNCONDITIONED)

    @property
    def width(self) -> int:
        """d', the width of what is attended to."""
        return self.encoder.d_model if self.encoder is not None else int(self.memory_width or 0)

    def to_json(self) -> Json:
        """What `from_json` reads."""
        return asdict(self) | {"cca_layers": list(self.cca_layers)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> RetroConfig:
        """Raises:
        EncoderError: a field is missing, unknown, or out of range.
        """
        values = dict(raw)
        try:
            values["language"] = LanguageConfig(**values["language"])
            if values["encoder"] is not None:
                values["encoder"] = EncoderConfig(**values["encoder"])
            values["cca_layers"] = tuple(values["cca_layers"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise errors.EncoderError(f"no RETRO's settings: {error}") from error


def every_third(layers: int, first: int) -> tuple[int, ...]:
    """first, first + 3, ... up to the last layer; the middle layer where there are fewer than `first`."""
    return tuple(range(first, layers + 1, 3)) or ((layers + 1) // 2,)


def default_cca_layers(layers: int) -> tuple[int, ...]:
    """Where cross-attention stands by the paper's Table 10: from layer 6 with up to 15 layers, else from 9.

    The bound between the two is Megatron-LM's. A model of fewer than 6 layers has it in the middle, which
    costs next to nothing (Table 13: one layer in the middle .823, the paper's three .822 bits per byte).
    """
    return every_third(layers, 6 if layers <= 15 else 9)


def _require_one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise errors.EncoderError(f"{name} is {value!r}, wanted one of {', '.join(known)}")


def _published(d: int, layers: int, heads: int, d_head: int) -> RetroConfig:
    language = LanguageConfig(
        vocab_size=128_000, d_model=d, d_head=d_head, d_ff=4 * d, layers=layers, heads=heads
    )
    # Not Table 10's [9, 12, ...] for 24 and 32 layers: the parameters that Tables 2 and 10 count are those of
    # "every third layer from 6", as the text says (1,451 M and 7,532 M against 1,435 M and 7,474 M).
    return RetroConfig(language=language, encoder=EncoderConfig(), cca_layers=every_third(layers, 6))


# Borgeaud et al. 2021, Tables 2 and 10; by their parameters without embeddings.
PUBLISHED_SIZES: Mapping[str, RetroConfig] = MappingProxyType(
    {
        "172m": _published(896, 12, 16, 64),
        "425m": _published(1536, 12, 12, 128),
        "1.5b": _published(2048, 24, 16, 128),
        "7.5b": _published(4096, 32, 32, 128),
    }
)
