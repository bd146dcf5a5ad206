"""What an estimate is made of: counts, a model, a codec's name, machines. Each checks itself. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from encoders.memory_spec import MemorySpec
from encoders.t5_config import T5Config, memory_layers
from pipeline.accounts import flops, retrievers
from pipeline.accounts.plan import form
from pipeline.accounts.prices import Device, Storage
from pipeline.accounts.retrievers import RetrieverShape
from pipeline.components.tokens import OpenedTokenizer
from storage import errors
from storage.components.tokens import TokensLayout

# Bytes of English text a token of T5, where only tokens are given (3,467 passages of a real dump: 3.3,
# whose titles and markers count as tokens too).
BYTES_PER_TOKEN: Final = 3.3
_FLOAT32: Final = 4
_BYTES: Final = {"bfloat16": 2, "float32": _FLOAT32}
# Pieces of T5's SentencePiece, with its sentinels.
T5_VOCABULARY: Final = 32_100


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadEstimate:
    """Tokens of a source as a model reads them, from a sample; as `storage.components.ReadCounts`."""

    tokens: float
    passages_cut: float
    tokens_cut: float
    tokens_unknown: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What there is to encode.

    Attributes:
        passages, tokens, text_bytes: how many; tokens after the limit.
        pages: of the source, None where only passages were given.
        passage_bytes: of the Parquet parts, None where they were not measured.
        parts: Parquet parts, one a split.
        memory_read, retriever_read: tokens as the two models read them; None where nobody counted.
        left_out_words: of the articles' sections that are no prose; None where only passages were given.
        spread: standard error of each estimate as a share of it; None where it cannot be told, absent
            for counts that were given.
    """

    passages: float
    tokens: float
    text_bytes: float
    pages: float | None = None
    passage_bytes: float | None = None
    parts: int = 1
    memory_read: ReadEstimate | None = None
    retriever_read: ReadEstimate | None = None
    left_out_words: float | None = None
    spread: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("passages", "tokens", "text_bytes"):
            if not 0 <= getattr(self, name) < 1e18:  # NaN fails too
                raise errors.CorpusError(f"{name} is {getattr(self, name)}, wanted 0 or more, below 1e18")
        if self.passages < 1 or self.tokens < self.passages:
            raise errors.CorpusError(
                f"{self.passages:,.0f} passages of {self.tokens:,.0f} tokens altogether: "
                "wanted 1 passage or more, and 1 token or more in each"
            )

    def to_json(self) -> form.Counts:
        return {
            "passages": self.passages,
            "tokens": self.tokens,
            "text_bytes": self.text_bytes,
            "pages": self.pages,
            "passage_bytes": self.passage_bytes,
            "parts": self.parts,
            "left_out_words": self.left_out_words,
            "spread": dict(self.spread),
            "tokens_per_passage": self.tokens / self.passages,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunks:
    """Passages that are runs of so many tokens, of a vocabulary of so many.

    Attributes:
        passage_tokens: of a chunk.
        vocabulary: of the tokenizer; T5's where none is named.
    """

    passage_tokens: int
    vocabulary: int = T5_VOCABULARY

    @classmethod
    def of(cls, opened: OpenedTokenizer) -> Chunks:
        return cls(passage_tokens=opened.cut.passage_tokens, vocabulary=opened.vocabulary)

    def layout(self, passages: int) -> TokensLayout:
        return TokensLayout.sized(
            passages=passages, passage_tokens=self.passage_tokens, vocabulary=self.vocabulary
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """A table of the k nearest of each passage, searched in so many lists; None: as many as the index has."""

    k: int
    probes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherEncoder:
    """A memory encoder that is no T5, as a cost. All its layers are run, and no reader runs any live.

    Attributes:
        layers: how many it has.
        width: of a row of memory.
        weights: that a worker holds, in float32.
        token_weights: that each token goes through.
    """

    layers: int
    width: int
    weights: int
    token_weights: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A memory encoder and a retriever by their shapes, and what makes the memory."""

    name: str
    config: T5Config | OtherEncoder
    memory: MemorySpec
    retriever: RetrieverShape = retrievers.GTR_BASE
    vector_dtype: str = "float32"

    @property
    def layers(self) -> int:
        """Layers of the memory encoder that are run."""
        if isinstance(self.config, OtherEncoder) or self.memory.live_proportion is None:
            return self.config.layers
        return memory_layers(self.config.layers, self.memory.live_proportion)

    @property
    def width(self) -> int:
        """Of a row of memory."""
        return self.config.width if isinstance(self.config, OtherEncoder) else self.config.d_model

    @property
    def token_flops(self) -> int:
        """Hardware FLOPs of a token."""
        if isinstance(self.config, OtherEncoder):
            return flops.HARDWARE * self.config.token_weights
        return flops.encoder_flops(self.config, self.layers)

    @property
    def weight_bytes(self) -> int:
        """Of RAM that the encoder takes: a T5's embedding is float32, its layers are as they compute."""
        if isinstance(self.config, OtherEncoder):
            return _FLOAT32 * self.config.weights
        layers = self.layers * flops.layer_weights(self.config) * _BYTES[self.memory.compute_dtype]
        return layers + _FLOAT32 * self.config.vocab_size * self.config.d_model


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds that a build's steps took on a sample, in one process of this machine.

    `reading` is of the whole source, `indexing` of the whole index; loading and compiling happen once
    in every process.
    """

    reading: float
    numbering_per_passage: float
    loading: float
    compiling: float
    embedding_per_passage: float
    tokenizing_per_token: float
    encoding_per_token: float
    writing_per_byte: float
    indexing: float
    passages: int
    tokens: int

    def to_json(self) -> form.Rates:
        return {
            "reading": self.reading,
            "numbering_per_passage": self.numbering_per_passage,
            "loading": self.loading,
            "compiling": self.compiling,
            "embedding_per_passage": self.embedding_per_passage,
            "tokenizing_per_token": self.tokenizing_per_token,
            "encoding_per_token": self.encoding_per_token,
            "writing_per_byte": self.writing_per_byte,
            "indexing": self.indexing,
            "passages": self.passages,
            "tokens": self.tokens,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Machines:
    """What the build is given.

    Attributes:
        workers: processes, each with one accelerator where there are any.
        storage: where the corpus is written.
        device, utilisation: the accelerator, and the share of its peak that the encoders reach.
        rates: measured in place of the two.
        free_bytes: of the disk, None where it is not one of this machine.
    """

    workers: int
    storage: Storage
    device: Device | None = None
    utilisation: float = 0.4
    rates: Rates | None = None
    free_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise errors.CorpusError(f"workers is {self.workers}, wanted 1 or more")
        if not 0 < self.utilisation <= 1:
            raise errors.CorpusError(f"utilisation is {self.utilisation}, wanted a share above 0 and up to 1")
        if self.device is None and self.rates is None:
            raise errors.CorpusError(
                "nothing tells how long encoding takes; name a --device, or give --memory-encoder and "
                "--retriever so that it can be measured"
            )

    def to_json(self) -> form.Machines:
        return {
            "workers": self.workers,
            "device": self.device.name if self.device else None,
            "utilisation": self.utilisation if self.device else None,
            "storage": self.storage.name,
            "free_bytes": self.free_bytes,
            "rates": self.rates.to_json() if self.rates else None,
        }
