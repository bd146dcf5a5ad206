"""What the stages of passages count: known to whoever shows them, without what reads sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from pipeline.units.stage import Stage
from storage import receipts
from storage.receipts import Counts

# One name in every count, so that reports and reconciliation need not guess.
DROPPED: Final = "dropped: "


@dataclass(frozen=True, kw_only=True)
class ReadCounts(Counts):
    """Pages by outcome; words of the articles kept, and words of their passages. docs/format.md has each."""

    # Corpora that were built before sections were left out have no count of them.
    optional: ClassVar[frozenset[str]] = frozenset(("left_out_sections", "left_out_words"))

    pages: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = receipts.named(DROPPED)
    quarantined: int = 0
    passages: int = 0
    words: int = 0
    article_words: int = 0
    left_out_sections: int = 0
    left_out_words: int = 0
    text_bytes: int = 0
    source_bytes: int = 0
    xml_bytes: int = 0

    def reconcile(self) -> None:
        """Pages read = kept + dropped + quarantined, words = in passages + left out, or something is lost."""
        pages = self.kept + sum(self.dropped.values()) + self.quarantined
        if self.pages != pages or self.article_words != self.words + self.left_out_words:
            raise AssertionError(f"counts do not reconcile: {self}")


READ: Final = Stage(name="splits", title="read passages", counts=ReadCounts, measure="source_bytes")


@dataclass(frozen=True, kw_only=True)
class NumberedCounts(Counts):
    """Passages that have their ids."""

    numbered: int = 0


NUMBER: Final = Stage(name="parts", title="number passages", counts=NumberedCounts, measure="numbered")
