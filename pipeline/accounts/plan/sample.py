"""A sample of a source: all pages of many splits are counted and weighed, few of them are converted.

Cutting pages out of a dump is cheap, converting their wikitext is not. So a sample has two phases
(double sampling: Cochran, Sampling Techniques, 3rd edition, chapters 9A and 12):

1. *Skim.* Of evenly spaced splits, `SKIM_BYTES` altogether, every page is found and its bytes counted. A
   smaller source is skimmed whole.
2. *Convert.* The skimmed pages are ordered by their bytes and one is taken at each so many bytes
   (systematic sampling with probability proportional to size): a page of b bytes is taken with
   probability π = b/step, and with certainty from one step on. What is found in it counts 1/π times.

Since what a page holds is nearly proportional to its bytes, 2 % of the pages tell tokens within about
1 % where a source has ten thousand pages. Small sources are converted whole.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.components.passages import cut as passages_cut
from pipeline.components.passages.cut import PassageRow, TokenCut
from pipeline.text import articles, sources

# Bytes on the disk that are skimmed at most, and the pieces they are spread over.
SKIM_BYTES: Final = 32 << 20
SKIM_PIECES: Final = 16
# Share of the skimmed pages that is converted; at least, and at most, so many.
SHARE: Final = 0.02
LEAST_PAGES: Final = 400
MOST_PAGES: Final = 4000
# Where between two steps the first page is taken; any value from 0 to 1 is as good.
_START: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """How many of the skimmed pages are converted: a share, at least and at most so many."""

    share: float = SHARE
    least: int = LEAST_PAGES
    most: int | None = MOST_PAGES

    def pages(self, skimmed: int) -> int:
        wanted = max(self.least, round(self.share * skimmed))
        return wanted if self.most is None else min(self.most, wanted)


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledPage:
    """A page that was converted: `rows` of the passage table, none where it is no article.

    It stands for `weight` pages of the skimmed bytes; `piece` is where it lay, `seconds` what its
    conversion took.
    """

    piece: int
    size: int
    weight: float
    kept: bool
    rows: tuple[PassageRow, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What was skimmed and converted of a source.

    Attributes:
        source_bytes: of the source on the disk.
        pieces: bytes on the disk of each piece that was skimmed.
        piece_pages: pages found in each.
        pages: those converted, in order of their bytes.
        skim_seconds: one pass over the pieces.
    """

    source_bytes: int
    pieces: tuple[int, ...]
    piece_pages: tuple[int, ...]
    pages: tuple[SampledPage, ...]
    skim_seconds: float

    @property
    def skimmed_bytes(self) -> int:
        return sum(self.pieces)

    @property
    def skimmed_pages(self) -> int:
        return sum(self.piece_pages)

    @property
    def scale(self) -> float:
        """How many times the skimmed bytes the source is."""
        return self.source_bytes / max(1, self.skimmed_bytes)

    @property
    def whole(self) -> bool:
        """Was the whole source converted?"""
        return self.skimmed_bytes == self.source_bytes and len(self.pages) == self.skimmed_pages

    def total(self, count: Callable[[SampledPage], float]) -> float:
        """The source's total of something that each page has some of."""
        return self.scale * sum(page.weight * count(page) for page in self.pages)

    def spread(self, count: Callable[[SampledPage], float]) -> float | None:
        """Standard error of `total`, as a share of it; None where a single piece stands for the source.

        Of the second phase by differences between neighbours in order of size, of the first by how
        far the pieces are from their common rate (Cochran, sections 8.11 and 6.3).
        """
        total = sum(page.weight * count(page) for page in self.pages)
        if total <= 0:
            return None
        pieces: dict[int, float] = defaultdict(float)
        for page in self.pages:
            pieces[page.piece] += page.weight * count(page)
        rest = 1 - 1 / self.scale
        between = 0.0
        if rest > 0:
            if len(self.pieces) < 2:
                return None
            rate = total / self.skimmed_bytes
            residues = (pieces[i] - rate * size for i, size in enumerate(self.pieces))
            between = rest * len(self.pieces) / (len(self.pieces) - 1) * sum(r * r for r in residues)
        drawn = [page.weight * count(page) for page in self.pages if page.weight > 1]
        within = 0.0
        if len(drawn) > 1:
            steps = sum((a - b) ** 2 for a, b in itertools.pairwise(drawn))
            within = len(drawn) / (2 * (len(drawn) - 1)) * steps
        return math.sqrt(between + within) / total

    def page_total(self) -> float:
        """Pages of the source: counted, not estimated, where it was skimmed whole."""
        return self.scale * self.skimmed_pages


def draw(sizes: Sequence[int], wanted: int) -> dict[int, float]:
    """Systematic sampling with probability proportional to size, over the items in order of size.

    Args:
        sizes: of each item, 1 or more.
        wanted: items to take, about.

    Returns:
        The items taken, in order of size, each with its weight, 1 / probability.
    """
    order = sorted(range(len(sizes)), key=lambda i: (sizes[i], i))
    if wanted >= len(order):
        return dict.fromkeys(order, 1.0)
    # Items of a step or more are taken anyway, which makes the step of the others shorter.
    certain = 0
    left = float(sum(sizes))
    while certain < wanted and sizes[order[-1 - certain]] >= left / (wanted - certain):
        left -= sizes[order[-1 - certain]]
        certain += 1
    taken: dict[int, float] = {}
    small = order[: len(order) - certain]
    if wanted > certain and small:
        step = left / (wanted - certain)
        passed, following = 0.0, step * _START
        for item in small:
            passed += sizes[item]
            if passed > following:
                taken[item] = step / sizes[item]
                following += step
    return taken | dict.fromkeys(order[len(order) - certain :], 1.0)


def sample_source(
    splits: Sequence[sources.Split],
    cut: int | TokenCut,
    bounds: Bounds | None = None,
    *,
    skim_bytes: int = SKIM_BYTES,
) -> Sample:
    """Sample a source. One that is damaged shows it here already, where it is skimmed.

    Args:
        splits: of the source.
        cut: words of a passage, at most; or how to cut tokens.
        bounds: how many of the skimmed pages to convert.
        skim_bytes: bytes on the disk to skim.

    Raises:
        SourceError: what was skimmed is cut off or damaged.
    """
    pieces = list(_pieces(splits, skim_bytes))
    started = time.perf_counter()
    found = [_skim(split, limit) for split, limit in pieces]
    skim_seconds = time.perf_counter() - started
    places = [(piece, page) for piece, (_, sizes) in enumerate(found) for page in range(len(sizes))]
    sizes = [size for _, piece_sizes in found for size in piece_sizes]
    taken = draw(sizes, (bounds or Bounds()).pages(len(sizes)))
    weights: dict[int, dict[int, float]] = defaultdict(dict)
    for item, weight in taken.items():
        piece, page = places[item]
        weights[piece][page] = weight
    pages = [
        page
        for piece, chosen in sorted(weights.items())
        for page in _convert(pieces[piece][0], piece, chosen, cut)
    ]
    return Sample(
        source_bytes=sum(split.size_bytes for split in splits),
        pieces=tuple(read for read, _ in found),
        piece_pages=tuple(len(piece_sizes) for _, piece_sizes in found),
        pages=tuple(sorted(pages, key=lambda page: page.size)),
        skim_seconds=skim_seconds,
    )


def _pieces(splits: Sequence[sources.Split], skim_bytes: int) -> Iterator[tuple[sources.Split, int]]:
    """Evenly spaced splits, each with the bytes to skim of it."""
    if sum(split.size_bytes for split in splits) <= skim_bytes:
        yield from ((split, split.size_bytes) for split in splits)
        return
    # Of many small splits, more of them; of few large ones, more of each.
    typical = max(1, sum(split.size_bytes for split in splits) // len(splits))
    wanted = min(len(splits), max(SKIM_PIECES, skim_bytes // typical))
    step = len(splits) / wanted
    for i in range(wanted):
        yield splits[int((i + 0.5) * step)], skim_bytes // wanted


def _skim(split: sources.Split, limit: int) -> tuple[int, list[int]]:
    """Bytes on the disk that were skimmed of a split, about `limit`, and the size of each page in them."""
    skimmer = sources.skim_split(split)
    sizes: list[int] = []
    position = 0
    for page in skimmer:
        if skimmer.bytes_read != position:
            # The reader's position moves by whole blocks; the pages before this one are those of the
            # bytes read until now.
            if sizes and position >= limit:
                return position, sizes
            position = skimmer.bytes_read
        sizes.append(page.size)
    return split.size_bytes, sizes


def _convert(
    split: sources.Split, piece: int, chosen: dict[int, float], cut: int | TokenCut
) -> Iterator[SampledPage]:
    """The chosen pages of a piece, by their place in it."""
    left = set(chosen)
    for number, skimmed in enumerate(sources.skim_split(split)):
        if number in left:
            left.remove(number)
            started = time.perf_counter()
            page = skimmed.parse()
            rows = passages_cut.passage_rows(page, cut) if isinstance(page, articles.Article) else ()
            yield SampledPage(
                piece=piece,
                size=skimmed.size,
                weight=chosen[number],
                kept=bool(rows),
                rows=tuple(rows),
                seconds=time.perf_counter() - started,
            )
        if not left:
            return
