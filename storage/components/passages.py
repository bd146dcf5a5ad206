"""Passages: the card `passages/passages.json`, and their bytes foretold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from storage.aliases import Json
from storage.components.base import Component, Content
from storage.fields import Fields
from storage.files import FileEntry
from storage.passage_table import Part

QUARANTINE: Final = "quarantine.jsonl"

# Parquet with zstd keeps English text at about 0.45 of its bytes; keys, ids and titles add 40 a row.
# A plan from a sample measures both together instead, with the writer itself.
TEXT_RATIO: Final = 0.5
ROW_BYTES: Final = 40
# A part's schema and footer.
PART_BYTES: Final = 4_600


@dataclass(frozen=True, kw_only=True, slots=True)
class PassagesCard:
    """The parts in order, the splitter, the reconciled counts."""

    passages: int
    words: int
    splitter: Mapping[str, object]
    counts: Mapping[str, int]
    parts: tuple[Part, ...]
    quarantine: FileEntry

    def to_json(self) -> Json:
        return {
            "passages": self.passages,
            "words": self.words,
            "splitter": dict(self.splitter),
            "counts": dict(self.counts),
            "quarantine": self.quarantine.to_json(),
            "parts": [part.to_json() for part in self.parts],
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> PassagesCard:
        fields = Fields(value, where)
        return cls(
            passages=fields.integer("passages"),
            words=fields.integer("words"),
            splitter=fields.object("splitter"),
            counts=fields.integers_by_name("counts"),
            parts=fields.each("parts", Part.from_json),
            quarantine=FileEntry.from_json(fields.object("quarantine")),
        )

    @property
    def name(self) -> str:
        return ""

    @property
    def label(self) -> str:
        return ""

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        return (self.quarantine, *(part.file for part in self.parts))

    @property
    def listed(self) -> None:
        return None

    @property
    def contents(self) -> tuple[Content, ...]:
        return (Content(name="Parquet parts", entries=tuple(part.file for part in self.parts)),)


PASSAGES: Final = Component(noun="passages", field="passages", card=PassagesCard, single=True)


def foretold_bytes(*, passages: int, text_bytes: float) -> float:
    """Bytes of the parts of so many passages with so many bytes of UTF-8 text."""
    return text_bytes * TEXT_RATIO + passages * ROW_BYTES
