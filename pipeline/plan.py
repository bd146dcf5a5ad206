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
# Pages read of a split: at least so many, and on to the next step of the reader's position, which moves
# by whole blocks of a compressed file; but never more than the second number.
SAMPLE_PAGES: Final = 40
MOST_SAMPLE_PAGES: Final = 2000


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
    texts: list[str] = []
    text_bytes = source_bytes = passage_count = 0
    for split in splits[::step][:SAMPLE_SPLITS]:
        sample = _sample_split(split, passage_words)
        texts += sample.texts
        text_bytes += sample.text_bytes
        passage_count += sample.passages
        source_bytes += sample.source_bytes
    return Sample(
        source_bytes=source_bytes, passages=passage_count, text_bytes=text_bytes, texts=tuple(texts)
    )


def _sample_split(split: sources.Split, passage_words: int) -> Sample:
    """What some bytes at the start of a split hold: of so many bytes, all passages."""
    reader = sources.read_split(split)
    texts: list[str] = []
    text_bytes = position = 0
    for number, page in enumerate(reader, 1):
        if reader.bytes_read != position:
            # The pages before this one are those of the bytes read until now.
            if number > SAMPLE_PAGES:
                break
            position = reader.bytes_read
        if number > MOST_SAMPLE_PAGES:
            break
        if isinstance(page, articles.Article):
            for passage in passages.passages(page, passage_words):
                texts.append(f"{page.title} {passage.text}")
                text_bytes += len(passage.text.encode())
    else:
        position = split.size_bytes
    return Sample(source_bytes=position, passages=len(texts), text_bytes=text_bytes, texts=tuple(texts))


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
