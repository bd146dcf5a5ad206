"""Neighbours: the card `neighbours/<table>/neighbours.json` of a table, its two arrays, its bytes foretold.

A table says of each passage which k passages of a database are nearest to it. The database is the corpus
itself, or another: then `ids` are passage ids of that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from storage import errors
from storage.aliases import Json
from storage.components.base import DIGEST, SHORT, Component, Content
from storage.fields import Fields
from storage.files import FileEntry
from storage.row_array import RowLayout
from storage.shards import ShardGrid

IDS: Final = "ids"
SCORES: Final = "scores"
SCORE_DTYPES: Final = ("float32", "float16")
# Of a passage, at most: a row is 6 KiB.
MOST: Final = 1024
CHUNK_ROWS: Final = 64
MIN_SHARDS: Final = 16
# Queries of a unit: what a killed worker has to search again.
MAX_SHARD_PASSAGES: Final = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighboursLayout:
    """Shapes and types of the two arrays: `k` int32 ids and scores for each passage of `grid`."""

    grid: ShardGrid
    k: int
    score_dtype: str = SCORE_DTYPES[0]

    def __post_init__(self) -> None:
        if self.score_dtype not in SCORE_DTYPES:
            raise errors.CorpusError(
                f"unknown type of scores {self.score_dtype!r:.40}; known are {', '.join(SCORE_DTYPES)}"
            )
        if not 1 <= self.k <= MOST:
            raise errors.CorpusError(f"k is {self.k}, wanted 1 to {MOST:,} neighbours")

    @classmethod
    def sized(cls, *, passages: int, k: int, score_dtype: str) -> NeighboursLayout:
        """Of a table to be written: depends on the corpus alone."""
        wanted = max(CHUNK_ROWS, min(-(-passages // MIN_SHARDS), MAX_SHARD_PASSAGES))
        grid = ShardGrid(passages=passages, shard_passages=1 << (wanted.bit_length() - 1))
        return cls(grid=grid, k=k, score_dtype=score_dtype)

    @property
    def arrays(self) -> dict[str, RowLayout]:
        """By the name of each array's folder."""
        return {IDS: self._array("int32"), SCORES: self._array(self.score_dtype)}

    def _array(self, dtype: str) -> RowLayout:
        return RowLayout(
            grid=self.grid,
            columns=self.k,
            dtype=dtype,
            # 64 rows of two ids are nothing: a thousand are read at once where rows are short.
            chunk_rows=min(max(CHUNK_ROWS, 1024 >> (self.k - 1).bit_length()), self.grid.shard_passages),
            names=("passage", "neighbour"),
        )

    def to_json(self) -> dict[str, int | str]:
        return {
            "passages": self.grid.passages,
            "shard_passages": self.grid.shard_passages,
            "k": self.k,
            "score_dtype": self.score_dtype,
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> NeighboursLayout:
        found = Fields(value, where)
        grid = ShardGrid(
            passages=found.integer("passages"), shard_passages=found.integer("shard_passages", least=1)
        )
        return cls(grid=grid, k=found.integer("k", least=1, most=MOST), score_dtype=found.text("score_dtype"))


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighbourTotals:
    """Of all passages of the table.

    Attributes:
        searched: passages.
        found: neighbours that are there; k for each passage, but for what is missing.
        missing: places of the table that hold no neighbour, -1.
        short: passages with such a place.
        excluded: passages of own documents that were kept out, summed over the passages searched.
    """

    searched: int
    found: int
    missing: int
    short: int
    excluded: int

    def to_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, fields: Fields) -> NeighbourTotals:
        return cls(**{name: fields.integer(name) for name in cls.__slots__})


@dataclass(frozen=True, kw_only=True, slots=True)
class Database:
    """The corpus whose passages the ids are, so that no other is taken for it.

    Attributes:
        name: its folder's name when the table was made, or "itself".
        passages: how many it has.
        content: SHA-256 over the cards of its passages and vectors.
        own: it is the corpus that holds the table.
    """

    name: str
    passages: int
    content: str
    own: bool

    def to_json(self) -> Json:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, fields: Fields) -> Database:
        return cls(
            name=fields.text("name"),
            passages=fields.integer("passages", least=1),
            content=fields.hexadecimal("content", DIGEST),
            own=fields.boolean("own"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighboursCard:
    """Whose neighbours, in which database, by which search; the layout, the counts and the recall.

    `fingerprint` is over everything that decides the table, which `search` says: k, rule, both corpora's
    vectors, the index and how it is searched. No seed and no sequence length is in it.
    `title` is a name for people. `recall` is the share of the exact neighbours that the table has, over
    `recall_queries` of its own rows; of a row that is short, all that there were.
    """

    fingerprint: str
    title: str | None
    search: Mapping[str, object]
    database: Database
    layout: NeighboursLayout
    counts: NeighbourTotals
    recall: float
    recall_queries: int
    files: FileEntry

    def to_json(self) -> Json:
        return {
            "fingerprint": self.fingerprint,
            "title": self.title,
            "search": dict(self.search),
            "database": self.database.to_json(),
            "layout": self.layout.to_json(),
            "counts": self.counts.to_json(),
            "recall": self.recall,
            "recall_queries": self.recall_queries,
            "files": self.files.to_json(),
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> NeighboursCard:
        fields = Fields(value, where)
        return cls(
            fingerprint=fields.hexadecimal("fingerprint", DIGEST),
            title=fields.text_or_none("title"),
            search=fields.object("search"),
            database=Database.from_json(fields.nested("database")),
            layout=NeighboursLayout.from_json(fields.object("layout"), f"{where}: layout"),
            counts=NeighbourTotals.from_json(fields.nested("counts")),
            recall=fields.number("recall", most=1),
            recall_queries=fields.integer("recall_queries"),
            files=FileEntry.from_json(fields.object("files")),
        )

    @property
    def name(self) -> str:
        return self.fingerprint[:SHORT]

    @property
    def label(self) -> str:
        return f"{self.layout.k} in {self.database.name}"

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        return ()

    @property
    def listed(self) -> FileEntry:
        return self.files

    @property
    def contents(self) -> tuple[Content, ...]:
        folder = NEIGHBOURS.folder(self.name)
        return tuple(Content(name=array, below=f"{folder}/{array}/c/") for array in self.layout.arrays)


NEIGHBOURS: Final = Component(noun="neighbours", field="neighbours", card=NeighboursCard, optional=True)


def foretold_bytes(layout: NeighboursLayout) -> int:
    """Bytes of the shard files: exact."""
    return sum(array.foretold_bytes for array in layout.arrays.values())
