"""Memory: the card `memory/<version>/memory.json` of a version, and its bytes foretold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from storage import canaries, errors, memory_store, shard_files
from storage.aliases import Json
from storage.canaries import CanaryCard
from storage.components.base import DIGEST, SHORT, Component, Content
from storage.components.read_counts import ReadCounts
from storage.fields import Fields
from storage.files import FileEntry
from storage.memory_store import MemoryLayout

_ROW_INDEX_BYTES: Final = 4
_OPTIONAL: Final = "tokens_unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryCounts:
    """Tokens of a version's passages.

    Attributes:
        tokens: of all passages.
        tokens_min, tokens_max: of the shortest and the longest passage.
        memory_bytes: of all tokens' stored rows.
        passages_cut, tokens_cut: at the token limit, when they were encoded.
        tokens_unknown: those of `tokens` that stand for text that the encoder's vocabulary lacks; None where
            nobody counted, in corpora of an earlier release and what is recoded of them.
    """

    tokens: int
    memory_bytes: int
    passages_cut: int
    tokens_cut: int
    tokens_min: int
    tokens_max: int
    tokens_unknown: int | None = None

    def to_json(self) -> dict[str, int]:
        counts = {name: getattr(self, name) for name in self.__slots__}
        return {name: count for name, count in counts.items() if count is not None}

    @classmethod
    def from_json(cls, fields: Fields) -> MemoryCounts:
        names = [name for name in cls.__slots__ if name != _OPTIONAL or name in fields]
        return cls(**{name: fields.integer(name) for name in names})

    def __add__(self, other: MemoryCounts) -> MemoryCounts:
        """Of both together."""
        unknown = None
        if self.tokens_unknown is not None and other.tokens_unknown is not None:
            unknown = self.tokens_unknown + other.tokens_unknown
        return MemoryCounts(
            tokens=self.tokens + other.tokens,
            memory_bytes=self.memory_bytes + other.memory_bytes,
            passages_cut=self.passages_cut + other.passages_cut,
            tokens_cut=self.tokens_cut + other.tokens_cut,
            tokens_min=min(self.tokens_min, other.tokens_min),
            tokens_max=max(self.tokens_max, other.tokens_max),
            tokens_unknown=unknown,
        )

    @property
    def read(self) -> ReadCounts | None:
        """What the encoder was given; None where not all of it was counted."""
        if self.tokens_unknown is None:
            return None
        return ReadCounts(
            tokens=self.tokens,
            passages_cut=self.passages_cut,
            tokens_cut=self.tokens_cut,
            tokens_unknown=self.tokens_unknown,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryCard:
    """The encoder, the layout with the codec, and the counts.

    `fingerprint` is over the encoder and the codec, `encoder_fingerprint` over the encoder alone.
    `settings` are those of the build or re-encoding that decide its bytes beside the model and the
    codec. `codec_parameters` are the SHA-256 of the codec's trained parameters by name.
    `origin` is the fingerprint of the version that this one was recoded from, if it was. `rows` are
    the files of `offsets` and `checksums`; `files` lists all others. `quality` is what the codec lost
    on the canaries; see `canaries.Difference`.
    """

    version: str
    fingerprint: str
    encoder_fingerprint: str
    encoder: Mapping[str, object]
    settings: Mapping[str, object]
    origin: str | None
    layout: MemoryLayout
    codec_parameters: Mapping[str, str]
    counts: MemoryCounts
    rows: tuple[FileEntry, ...]
    canaries: CanaryCard
    quality: Mapping[str, float]
    files: FileEntry

    def to_json(self) -> Json:
        return {
            "version": self.version,
            "fingerprint": self.fingerprint,
            "encoder_fingerprint": self.encoder_fingerprint,
            "encoder": dict(self.encoder),
            "settings": dict(self.settings),
            "origin": self.origin,
            "layout": self.layout.to_json(),
            "codec_parameters": dict(self.codec_parameters),
            "counts": self.counts.to_json(),
            "rows": [entry.to_json() for entry in self.rows],
            "canaries": self.canaries.to_json(),
            "quality": dict(self.quality),
            "files": self.files.to_json(),
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> MemoryCard:
        fields = Fields(value, where)
        quality = fields.nested("quality")
        card = cls(
            version=fields.hexadecimal("version", SHORT),
            fingerprint=fields.hexadecimal("fingerprint", DIGEST),
            encoder_fingerprint=fields.hexadecimal("encoder_fingerprint", DIGEST),
            encoder=_encoder(fields),
            settings=fields.object("settings"),
            origin=None if fields.text_or_none("origin") is None else fields.hexadecimal("origin", DIGEST),
            layout=MemoryLayout.from_json(fields.object("layout"), f"{where}: layout"),
            codec_parameters=fields.texts_by_name("codec_parameters"),
            counts=MemoryCounts.from_json(fields.nested("counts")),
            rows=fields.each("rows", FileEntry.from_json),
            canaries=CanaryCard.from_json(fields.object("canaries"), f"{where}: canaries"),
            quality={
                "relative_error": quality.number("relative_error"),
                "cosine": quality.number("cosine", least=-1.001, most=1.001),
                "largest": quality.number("largest"),
            },
            files=FileEntry.from_json(fields.object("files")),
        )
        if version_name(card.fingerprint) != card.version:
            raise errors.CorpusError(
                f"{where}: version {card.version} is not how fingerprint {card.fingerprint} begins"
            )
        return card

    @property
    def name(self) -> str:
        return self.version

    @property
    def label(self) -> str:
        return self.layout.codec.name

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        return (*self.rows, self.canaries.file)

    @property
    def listed(self) -> FileEntry:
        return self.files

    @property
    def contents(self) -> tuple[Content, ...]:
        below = f"{MEMORY.folder(self.version)}/{memory_store.VALUES}/c/"
        return (
            Content(name=memory_store.VALUES, below=below),
            Content(name="offsets and checksums", entries=self.rows),
            Content(name="canaries", entries=(self.canaries.file,)),
        )


def _encoder(fields: Fields) -> Json:
    """What a card says of the encoder. An encoder of another kind may say other things, and none of these."""
    described = fields.nested("encoder")
    if "layers" in described:
        described.integer("layers")
    if "compute_dtype" in described:
        described.text("compute_dtype")
    if "architecture" in described:
        described.figures_by_name("architecture")
    return fields.object("encoder")


MEMORY: Final = Component(noun="memory", field="memory", card=MemoryCard)


def version_name(fingerprint: str) -> str:
    """A memory version's name, from its fingerprint."""
    return fingerprint[:SHORT]


def foretold_bytes(layout: MemoryLayout, tokens: float) -> float:
    """Bytes of a version, its card and lists aside."""
    return array_bytes(layout, tokens) + _canary_bytes(layout, tokens)


def array_bytes(layout: MemoryLayout, tokens: float) -> float:
    """Bytes of a version's three arrays, and of its codec's parameters.

    A shard's values are whole chunks of `chunk_rows` rows, each under a CRC-32C, and the shard's
    index, which has an entry for every chunk that the shard could have. The last chunk of a shard is
    on average half empty. What a codec was trained to (code books) is stored once a version.
    """
    grid = layout.grid
    chunks = min(
        tokens / layout.chunk_rows + grid.shards * (layout.chunk_rows - 1) / (2 * layout.chunk_rows),
        grid.shards * layout.chunks,
    )
    values = chunks * (layout.chunk_rows * layout.row_bytes + shard_files.CRC_BYTES)
    index = grid.shards * (layout.chunks * shard_files.INDEX_ENTRY_BYTES + shard_files.CRC_BYTES)
    rows = sum(
        shard_files.file_bytes(grid.shards, chunk_bytes=count * _ROW_INDEX_BYTES, total=max(grid.shards, 1))
        for count in (grid.shard_passages + 1, grid.shard_passages)
    )
    return values + index + rows + _parameter_bytes(layout)


def _canary_bytes(layout: MemoryLayout, tokens: float) -> float:
    """Bytes of a version's canaries: so many passages of the average length, not coded."""
    share = min(1, canaries.PASSAGES / max(1, layout.grid.passages))
    return tokens * share * layout.width * layout.codec.dtype.itemsize


def _parameter_bytes(layout: MemoryLayout) -> int:
    """Bytes of a codec's trained parameters; most codecs have none."""
    shapes = layout.codec.parameter_shapes(layout.width)
    return sum(math.prod(shape) * kind.itemsize for shape, kind in shapes.values())
