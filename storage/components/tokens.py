"""Tokens of chunks: the card `tokens/tokens.json`, three arrays, and their bytes foretold.

A corpus has them where its passages are runs of so many tokens. `values` holds the tokens, `lengths` how many
of each row are some, `ordinals` where in its document a chunk stands: 0 begins one, so passage i's document
begins at i - ordinals[i] and ends before the next 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from storage import errors, zarr_arrays
from storage.aliases import Json
from storage.components.base import DIGEST, Component, Content
from storage.fields import Fields
from storage.files import FileEntry
from storage.row_array import RowLayout
from storage.shards import ShardGrid

VALUES: Final = "values"
LENGTHS: Final = "lengths"
ORDINALS: Final = "ordinals"
DTYPES: Final = ("uint16", "uint32")
# Tokens of a passage, at most; RETRO has 64.
MOST_TOKENS: Final = 4096
# Rows of a chunk of `values` that are read at once: 8 KiB of 64 tokens. Of the other two, a shard's.
CHUNK_ROWS: Final = 64
MIN_SHARDS: Final = 16
MAX_SHARD_PASSAGES: Final = 1 << 16


def token_dtype(vocabulary: int) -> str:
    """The smaller of the two types that holds every id of a vocabulary."""
    return DTYPES[0] if vocabulary <= 1 << 16 else DTYPES[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class TokensLayout:
    """Shapes and types of the three arrays: `passage_tokens` of `dtype` for each passage of `grid`."""

    grid: ShardGrid
    passage_tokens: int
    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES or not 1 <= self.passage_tokens <= MOST_TOKENS:
            raise errors.CorpusError(
                f"rows of {self.passage_tokens} tokens in {self.dtype!r:.40}: "
                f"wanted 1 to {MOST_TOKENS:,}, in {' or '.join(DTYPES)}"
            )

    @classmethod
    def sized(cls, *, passages: int, passage_tokens: int, vocabulary: int) -> TokensLayout:
        """Of a corpus to be written: depends on the corpus and its tokenizer alone."""
        wanted = max(CHUNK_ROWS, min(-(-passages // MIN_SHARDS), MAX_SHARD_PASSAGES))
        grid = ShardGrid(passages=passages, shard_passages=1 << (wanted.bit_length() - 1))
        return cls(grid=grid, passage_tokens=passage_tokens, dtype=token_dtype(vocabulary))

    @property
    def values(self) -> RowLayout:
        return RowLayout(
            grid=self.grid,
            columns=self.passage_tokens,
            dtype=self.dtype,
            chunk_rows=min(CHUNK_ROWS, self.grid.shard_passages),
            names=("passage", "token"),
        )

    @property
    def lengths(self) -> RowLayout:
        return self._places("uint16")

    @property
    def ordinals(self) -> RowLayout:
        return self._places("int32")

    @property
    def arrays(self) -> dict[str, RowLayout]:
        """By the name of each array's folder."""
        return {VALUES: self.values, LENGTHS: self.lengths, ORDINALS: self.ordinals}

    def _places(self, dtype: str) -> RowLayout:
        rows = self.grid.shard_passages
        return RowLayout(grid=self.grid, columns=None, dtype=dtype, chunk_rows=rows, names=("passage",))

    def to_json(self) -> dict[str, int | str]:
        return {
            "passages": self.grid.passages,
            "shard_passages": self.grid.shard_passages,
            "passage_tokens": self.passage_tokens,
            "dtype": self.dtype,
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> TokensLayout:
        found = Fields(value, where)
        grid = ShardGrid(
            passages=found.integer("passages"), shard_passages=found.integer("shard_passages", least=1)
        )
        return cls(
            grid=grid,
            passage_tokens=found.integer("passage_tokens", least=1, most=MOST_TOKENS),
            dtype=found.text("dtype"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenTotals:
    """Of all chunks.

    Attributes:
        documents: that they are cut from.
        tokens: in them.
        unknown: tokens that stand for what the vocabulary does not have.
        special: tokens left out because a text spelled a special one.
        short: chunks of fewer tokens than a row holds: each is the last of its document.
    """

    documents: int
    tokens: int
    unknown: int
    special: int
    short: int

    def __add__(self, other: TokenTotals) -> TokenTotals:
        """Of both together."""
        return TokenTotals(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})

    def to_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, fields: Fields) -> TokenTotals:
        return cls(**{name: fields.integer(name) for name in cls.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class TokensCard:
    """The tokenizer, the arrays' layout, and the counts.

    `tokenizer` is the fingerprint of the tokenizer's files, `tokenizer_files` the SHA-256 of each by its
    name; `vocabulary` is one more than the largest id that it gives.
    """

    tokenizer: str
    tokenizer_files: Mapping[str, str]
    vocabulary: int
    layout: TokensLayout
    counts: TokenTotals
    files: FileEntry

    def to_json(self) -> Json:
        return {
            "tokenizer": self.tokenizer,
            "tokenizer_files": dict(self.tokenizer_files),
            "vocabulary": self.vocabulary,
            "layout": self.layout.to_json(),
            "counts": self.counts.to_json(),
            "files": self.files.to_json(),
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> TokensCard:
        fields = Fields(value, where)
        card = cls(
            tokenizer=fields.hexadecimal("tokenizer", DIGEST),
            tokenizer_files=fields.texts_by_name("tokenizer_files"),
            vocabulary=fields.integer("vocabulary", least=1),
            layout=TokensLayout.from_json(fields.object("layout"), f"{where}: layout"),
            counts=TokenTotals.from_json(fields.nested("counts")),
            files=FileEntry.from_json(fields.object("files")),
        )
        if card.vocabulary > 1 << (8 * np.dtype(card.layout.dtype).itemsize):
            raise errors.CorpusError(
                f"{where}: a vocabulary of {card.vocabulary:,} does not fit {card.layout.dtype}"
            )
        return card

    @property
    def passage_tokens(self) -> int:
        """Tokens of a full chunk."""
        return self.layout.passage_tokens

    @property
    def name(self) -> str:
        return ""

    @property
    def label(self) -> str:
        return self.layout.dtype

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        return ()

    @property
    def listed(self) -> FileEntry:
        return self.files

    @property
    def contents(self) -> tuple[Content, ...]:
        folder = TOKENS.folder("")
        return tuple(Content(name=array, below=f"{folder}/{array}/c/") for array in self.layout.arrays)


TOKENS: Final = Component(noun="tokens", field="tokens", card=TokensCard, single=True, optional=True)


def foretold_bytes(layout: TokensLayout) -> int:
    """Bytes of the shard files: exact."""
    return sum(array.foretold_bytes for array in layout.arrays.values())


def metadata_paths(layout: TokensLayout) -> list[str]:
    """The arrays' metadata, below the component's folder."""
    return [f"{name}/{zarr_arrays.METADATA}" for name in layout.arrays]
