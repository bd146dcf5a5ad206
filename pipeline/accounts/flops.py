"""FLOPs of the readers by the papers' formulas, and of the encoders by their weights. No I/O.

Two units, never mixed in one sum:

- the papers' (LUMEN, section 3; GLIMMER, section 3): a multiply and its add count once, an encoder layer
  as 12d² a token, attention scores ignored. `Reader` counts in it, and so does break-even in FLOPs.
- the hardware's: a multiply and an add are two, and each weight counts, whatever d_ff is. Data sheets
  give TFLOP/s in it, so hours are computed in it. `HARDWARE` turns the first into the second.

Symbols: L layers of the encoder (and of the decoder), d width, α live proportion, β rerank proportion,
k retrieved passages, m selected, n_p tokens of question and passage, n_t tokens of the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from encoders.memory_spec import MAX_TOKENS
from encoders.retro.config import CONDITIONED, GATED, LanguageConfig, RetroConfig
from encoders.t5_config import PUBLISHED_SIZES, T5Config
from storage import errors

TERA: Final = 1e12
# Hardware FLOPs in one of the papers' FLOPs.
HARDWARE: Final = 2
# GLIMMER, section 4: tokens of the question and of a passage; together one input of the encoder.
QUESTION_TOKENS: Final = 48
PASSAGE_TOKENS: Final = MAX_TOKENS
# With 352 tokens an input, FiD's and LUMEN's points of GLIMMER's Figure 2 leave the same remainder for
# the decoder, 0.8633 TFLOP at XXL: 153 tokens of 14Ld².
ANSWER_TOKENS: Final = 153

FID, MEMORY_FID, LUMEN, GLIMMER = "FiD", "MemoryFiD", "LUMEN", "GLIMMER"
READERS: Final = (FID, MEMORY_FID, LUMEN, GLIMMER)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """One reader and how it is asked.

    Attributes:
        name: one of `READERS`.
        layers, width: L and d.
        retrieved: k, passages whose memory is fetched.
        selected: m, passages kept after reranking (GLIMMER; the others read all k).
        live_proportion, rerank_proportion: α and β.
        input_tokens, answer_tokens: n_p and n_t.
    """

    name: str
    layers: int
    width: int
    retrieved: int
    selected: int
    live_proportion: Fraction
    rerank_proportion: Fraction = Fraction(1, 4)
    input_tokens: int = QUESTION_TOKENS + PASSAGE_TOKENS
    answer_tokens: int = ANSWER_TOKENS

    def __post_init__(self) -> None:
        if self.name not in READERS:
            raise errors.CorpusError(f"unknown reader {self.name!r}; known are {', '.join(READERS)}")
        if self.retrieved < 1 or not 1 <= self.selected <= self.retrieved:
            raise errors.CorpusError(
                f"{self.selected} passages selected of {self.retrieved} retrieved: "
                "wanted 1 or more, and no more than are retrieved"
            )
        for name, share in (("live", self.live_proportion), ("rerank", self.rerank_proportion)):
            if not 0 <= share <= 1:
                raise errors.CorpusError(f"{name} proportion is {share}, wanted 0 to 1")

    @property
    def alpha(self) -> Fraction:
        """α of the formulas: FiD runs every layer live, MemoryFiD none."""
        return {FID: Fraction(1), MEMORY_FID: Fraction(0)}.get(self.name, self.live_proportion)

    @property
    def flops(self) -> float:
        """Live FLOPs of one question, in the papers' unit.

        FiD       k·n_p·L·14d² + n_t·L·14d²
        LUMEN     k·n_p·αL·12d² + k·n_p·L·2d² + n_t·L·14d²; MemoryFiD is α = 0, FiD α = 1
        GLIMMER   LUMEN(m) + (k - m)·n_p·βαL·12d²
        """
        layer = self.layers * self.width**2
        read = self.selected if self.name == GLIMMER else self.retrieved
        total = read * self.input_tokens * layer * (12 * self.alpha + 2) + self.answer_tokens * layer * 14
        if self.name == GLIMMER:
            skipped = self.retrieved - self.selected
            total += skipped * self.input_tokens * layer * 12 * self.alpha * self.rerank_proportion
        return float(total)

    @property
    def samples_per_tflop(self) -> float:
        """Questions answered with 10¹² of the papers' FLOPs (GLIMMER, Figure 2)."""
        return TERA / self.flops

    @property
    def reads_memory(self) -> bool:
        return self.name != FID

    def memory_flops(self, tokens: float) -> float:
        """What is computed beforehand for `tokens` of passages: (1-α)·L·12d² each, in the papers' unit."""
        if not self.reads_memory:
            return 0.0
        return float(tokens * self.layers * 12 * self.width**2 * (1 - self.alpha))


def layer_weights(config: T5Config) -> int:
    """Weights of one encoder layer: four attention matrices, and two or three of the feed-forward."""
    matrices = 3 if config.feed_forward == "gated-gelu" else 2
    return 4 * config.d_model * config.inner + matrices * config.d_model * config.d_ff


def encoder_weights(config: T5Config, layers: int) -> int:
    """Weights of an encoder's first layers and its embedding, as they lie in a worker's memory."""
    return config.vocab_size * config.d_model + layers * layer_weights(config)


def encoder_flops(config: T5Config, layers: int) -> int:
    """Hardware FLOPs of one token through the first layers: two a weight, attention scores ignored.

    At XXL and 304 tokens the scores would add 1.3 %.
    """
    return HARDWARE * layers * layer_weights(config)


def size(name: str) -> T5Config:
    """A published size of T5.1.1 by its name.

    Raises:
        CorpusError: an unknown one; the known are listed.
    """
    try:
        return PUBLISHED_SIZES[name.lower()]
    except KeyError:
        raise errors.CorpusError(
            f"unknown model size {name!r}; known are {', '.join(PUBLISHED_SIZES)}, "
            "or give a folder with --memory-encoder"
        ) from None


SIZES: Final = "|".join(PUBLISHED_SIZES)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetroChunk:
    """Hardware FLOPs of a RETRO for one chunk of m tokens, but for the search and the head.

    Attributes:
        language: the decoder: two a weight and token.
        reading: cross-attention: its queries a token, its keys and values a place of the neighbours.
        encoding: the neighbours' encoder; 0 where states are stored.
        read_bytes: of stored states in bfloat16; 0 where an encoder runs.
    """

    language: int
    reading: int
    encoding: int
    read_bytes: int

    @property
    def total(self) -> int:
        return self.language + self.reading + self.encoding


def retro_chunk(config: RetroConfig, *, neighbours: int | None = None) -> RetroChunk:
    """What a RETRO computes for a chunk.

    Attention scores are ignored, and so are the maps of distances, which are applied once a program.

    Args:
        config: its shape.
        neighbours: k; as in training if not given.

    Source: Borgeaud et al. 2021, sections 2.4 and 2.5.
    """
    language, m = config.language, config.chunk_tokens
    places = (config.neighbours if neighbours is None else neighbours) * config.neighbour_tokens
    d, inner, width = language.d_model, language.inner, config.width
    reading = len(config.cca_layers) * (2 * d * inner * m + 2 * width * inner * places)
    encoding = 0
    if config.encoder is not None:
        encoder = config.encoder.as_language(language.vocab_size)
        encoding = encoder.layers * language_layer_weights(encoder) * places
        if config.encoding == CONDITIONED:
            encoding += 2 * encoder.d_model * encoder.inner * places + 2 * d * encoder.inner * m
    return RetroChunk(
        language=HARDWARE * language.layers * language_layer_weights(language) * m,
        reading=HARDWARE * reading,
        encoding=HARDWARE * encoding,
        read_bytes=0 if config.encoder is not None else 2 * places * width,
    )


def language_layer_weights(config: LanguageConfig) -> int:
    """Weights of one layer of a decoder-only model that each token meets."""
    matrices = 3 if config.feed_forward == GATED else 2
    attention = 2 * config.d_model * (config.inner + config.key_inner)
    return attention + matrices * config.d_model * config.d_ff
