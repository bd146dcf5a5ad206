"""Passages, first stage: a split of a source becomes a Parquet part of passages, which have no ids yet."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from pipeline.components.passages import counts, cut
from pipeline.components.passages.counts import DROPPED as DROPPED
from pipeline.components.passages.counts import ReadCounts as ReadCounts
from pipeline.components.passages.cut import PassageRow, TokenCut
from pipeline.text import articles, passages, sources
from pipeline.text.wikitext import own_templates
from pipeline.text.wikitext.own_templates import OwnTemplates
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from storage import passage_table
from storage.folder import CorpusFolder
from storage.receipts import Receipt
from storage.work_folder import WorkFolder

SPLITS: Final = "splits.json"
_PART: Final = ".parquet"
STAGE: Final = counts.READ
_NONE: Final = ReadCounts(dropped=dict.fromkeys(articles.DROP_REASONS, 0)).to_json()


def write_splits(work: WorkFolder, splits: list[sources.Split], paths: list[str]) -> None:
    """Lay down the plan's splits, and the files they were made of in the sources' order."""
    work.write(SPLITS, {"paths": paths, "splits": [asdict(split) for split in splits]})


def read_paths(work: WorkFolder) -> list[str]:
    return [str(path) for path in work.read(SPLITS)["paths"]]


def read_splits(work: WorkFolder) -> tuple[sources.Split, ...]:
    """The splits of the plan."""
    return tuple(sources.Split(**split) for split in work.read(SPLITS)["splits"])


def unnumbered_path(work: WorkFolder, unit: int) -> Path:
    return work.side_file(STAGE.name, unit, _PART)


@dataclass(frozen=True, kw_only=True)
class ReadPassages:
    """Reads splits, cuts their articles into passages and writes a part for each split.

    With `tokens`, passages are runs of tokens, which are left beside the part.
    """

    corpus: CorpusFolder
    passage_words: int
    keep_sections: bool = False
    own: OwnTemplates = own_templates.NONE
    tokens: TokenCut | None = None
    stage: Stage[ReadCounts] = STAGE

    @functools.cached_property
    def _splits(self) -> tuple[sources.Split, ...]:
        return read_splits(self.corpus.work)

    def run(self, unit: int, meter: Meter) -> Receipt[ReadCounts]:
        meter.counts.update(_NONE)
        quarantine: list[dict[str, str]] = []
        path = unnumbered_path(self.corpus.work, unit)
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = self._batches(unit, meter, quarantine)
        written = [path]
        with meter.time("writing"):
            if self.tokens is None:
                passage_table.write_part(path, passage_table.UNNUMBERED, map(_batch, rows))
            else:
                beside = cut.tokens_path(self.corpus.work, unit)
                with cut.writing_tokens(beside, self.tokens) as write:
                    passage_table.write_part(
                        path, passage_table.UNNUMBERED, (_batch(write(group)) for group in rows)
                    )
                written.append(beside)
        # The time spent in the generator was spent inside the writer's.
        meter.seconds["writing"] -= meter.seconds["reading"] + meter.seconds["splitting"]
        read = ReadCounts.from_json(dict(meter.counts))
        read.reconcile()
        return Receipt(
            unit=unit,
            files=tuple(map(self.corpus.entry, written)),
            counts=read,
            seconds=dict(meter.seconds),
            worker=worker_name(),
            notes=tuple(quarantine),
        )

    def _batches(
        self, unit: int, meter: Meter, quarantine: list[dict[str, str]]
    ) -> Iterator[Sequence[PassageRow]]:
        """The rows of a split, as many at a time as are written together."""
        rows: list[PassageRow] = []
        reader = sources.read_split(self._splits[unit], self.own)
        pages = iter(reader)
        while True:
            with meter.time("reading"):
                page = next(pages, None)
            meter.counts["source_bytes"] = reader.bytes_read
            meter.counts["xml_bytes"] = reader.xml_bytes
            meter.show()
            if page is None:
                break
            meter.count("pages")
            if isinstance(page, articles.Dropped):
                meter.count(DROPPED + page.reason)
            elif isinstance(page, articles.Quarantined):
                meter.count("quarantined")
                quarantine.append(asdict(page))
            else:
                with meter.time("splitting"):
                    rows.extend(self._rows(page, meter))
            while len(rows) >= passage_table.ROW_GROUP:
                yield rows[: passage_table.ROW_GROUP]
                del rows[: passage_table.ROW_GROUP]
        if rows:
            yield rows

    def _rows(self, article: articles.Article, meter: Meter) -> Sequence[PassageRow]:
        kept, left_out = (article, ()) if self.keep_sections else articles.part(article)
        rows = cut.passage_rows(kept, self.tokens or self.passage_words)
        if not rows:
            meter.count(DROPPED + articles.EMPTY)
            return rows
        meter.count("kept")
        meter.count("passages", len(rows))
        meter.count("words", sum(row["words"] for row in rows))
        words = passages.article_words(article)
        meter.count("article_words", words)
        if left_out:
            meter.count("left_out_sections", len(left_out))
            meter.count("left_out_words", words - passages.article_words(kept))
        meter.count("text_bytes", sum(len(row["text"].encode()) for row in rows))
        return rows


def _batch(rows: Sequence[PassageRow]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=passage_table.UNNUMBERED)
