"""What a build will need, from a sample of its sources, before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline import articles, passages, sources
from storage import costs, errors

SAMPLE_SPLITS: Final = 6
SAMPLE_PAGES: Final = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A source's yield for each byte of it on the disk, from a few pages of a few splits."""

    source_bytes: int
    passages: int
    text_bytes: int
    texts: tuple[str, ...]

    def scaled(self, count: float, total_bytes: int) -> float:
        return count * total_bytes / max(1, self.source_bytes)


def sample_source(splits: Sequence[sources.Split], passage_words: int) -> Sample:
    """Read the first pages of evenly spaced splits. A damaged source shows its error here already."""
    step = max(1, len(splits) // SAMPLE_SPLITS)
    found: list[str] = []
    text_bytes = source_bytes = 0
    for split in splits[::step][:SAMPLE_SPLITS]:
        reader = sources.read_split(split)
        for number, page in enumerate(reader, 1):
            if isinstance(page, articles.Article):
                for passage in passages.passages(page, passage_words):
                    found.append(f"{page.title} {passage.text}")
                    text_bytes += len(passage.text.encode())
            if number >= SAMPLE_PAGES:
                break
        source_bytes += reader.bytes_read
    return Sample(source_bytes=source_bytes, passages=len(found), text_bytes=text_bytes, texts=tuple(found))


def estimate(
    splits: Sequence[sources.Split],
    *,
    passage_words: int,
    count_tokens: Callable[[Sequence[str]], int],
    dim: int,
    vector_bytes: int,
    token_bytes: int,
) -> costs.DiskNeed:
    """Bytes that a build of these splits will need; `count_tokens` gives the tokens of texts."""
    sample = sample_source(splits, passage_words)
    total = sum(split.size_bytes for split in splits)
    return costs.disk_need(
        passages=sample.scaled(sample.passages, total),
        tokens=sample.scaled(count_tokens(sample.texts) if sample.texts else 0, total),
        text_bytes=sample.scaled(sample.text_bytes, total),
        dim=dim,
        vector_bytes=vector_bytes,
        token_bytes=token_bytes,
    )


def require_room(need: costs.DiskNeed, folder: Path, *, already: int = 0) -> None:
    """Refuse a build that the disk cannot hold.

    Args:
        need: what the whole build takes.
        folder: where it is to lie; its nearest existing parent names the disk.
        already: bytes of it that an interrupted build has written.

    Raises:
        CorpusError: with the bytes needed and free.
    """
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    missing = need.total - already
    if missing > free:
        raise errors.CorpusError(
            f"the disk of {existing} has {free:,} bytes free, the corpus needs about {missing:,} "
            f"(memory {need.memory:,}, vectors {need.vectors:,}, index {need.index:,}, "
            f"passages {need.passages:,}); free some, or build on another disk"
        )
