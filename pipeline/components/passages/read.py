"""Stage 1: a split of a source becomes a Parquet part of passages, which have no ids yet."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from pipeline.text import articles, passages, sources
from pipeline.units import work
from storage import files, ids, passage_table
from storage.receipts import Receipt

STAGE: Final = "splits"
SPLITS: Final = "splits.json"
# One name in every count, so that reports and reconciliation need not guess.
DROPPED: Final = "dropped: "
# What every split counts: pages by outcome; words of the articles kept, and words of their passages.
COUNTS: Final = (
    "pages",
    "kept",
    *(DROPPED + reason for reason in articles.DROP_REASONS),
    "quarantined",
    "passages",
    "words",
    "article_words",
    "text_bytes",
    "source_bytes",
    "xml_bytes",
)


def write_splits(root: Path, splits: list[sources.Split], paths: list[str]) -> None:
    """Lay down the plan's splits, and the files they were made of in the sources' order."""
    value = {"paths": paths, "splits": [asdict(split) for split in splits]}
    files.write_json(work.folder(root) / SPLITS, value)


def read_paths(root: Path) -> list[str]:
    return [str(path) for path in files.read_json(work.folder(root) / SPLITS)["paths"]]


def read_splits(root: Path) -> tuple[sources.Split, ...]:
    """The splits of the plan."""
    value = files.read_json(work.folder(root) / SPLITS)
    return tuple(sources.Split(**split) for split in value["splits"])


def unnumbered_path(root: Path, unit: int) -> Path:
    return work.folder(root) / STAGE / f"{unit:06d}.parquet"


def reconcile(counts: Mapping[str, int]) -> None:
    """Pages read = kept + dropped + quarantined; words kept = words in passages. Else something is lost."""
    dropped = sum(n for name, n in counts.items() if name.startswith(DROPPED))
    pages = (counts["kept"], dropped, counts["quarantined"])
    if counts["pages"] != sum(pages) or counts["article_words"] != counts["words"]:
        raise AssertionError(f"counts do not reconcile: {counts}")


@dataclass(frozen=True, kw_only=True)
class ReadPassages:
    """Reads splits, cuts their articles into passages and writes a part for each split."""

    root: Path
    passage_words: int
    stage: str = STAGE

    @functools.cached_property
    def _splits(self) -> tuple[sources.Split, ...]:
        return read_splits(self.root)

    def run(self, unit: int, meter: work.Meter) -> Receipt:
        meter.counts.update(dict.fromkeys(COUNTS, 0))
        quarantine: list[dict[str, str]] = []
        path = unnumbered_path(self.root, unit)
        path.parent.mkdir(parents=True, exist_ok=True)
        batches = self._batches(unit, meter, quarantine)
        with meter.time("writing"):
            passage_table.write_part(path, passage_table.UNNUMBERED, batches)
        # The time spent in the generator was spent inside the writer's.
        meter.seconds["writing"] -= meter.seconds["reading"] + meter.seconds["splitting"]
        reconcile(meter.counts)
        return Receipt(
            unit=unit,
            files=(files.entry_of(self.root, path),),
            counts=dict(meter.counts),
            seconds=dict(meter.seconds),
            worker=work.worker_name(),
            notes=tuple(quarantine),
        )

    def _batches(
        self, unit: int, meter: work.Meter, quarantine: list[dict[str, str]]
    ) -> Iterator[pa.RecordBatch]:
        rows: list[dict[str, Any]] = []
        reader = sources.read_split(self._splits[unit])
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
                yield _batch(rows[: passage_table.ROW_GROUP])
                del rows[: passage_table.ROW_GROUP]
        if rows:
            yield _batch(rows)

    def _rows(self, article: articles.Article, meter: work.Meter) -> list[dict[str, Any]]:
        rows = passage_rows(article, self.passage_words)
        if not rows:
            meter.count(DROPPED + articles.EMPTY)
            return rows
        meter.count("kept")
        meter.count("passages", len(rows))
        meter.count("words", sum(row["words"] for row in rows))
        meter.count("article_words", passages.article_words(article))
        meter.count("text_bytes", sum(len(row["text"].encode()) for row in rows))
        return rows


def passage_rows(article: articles.Article, passage_words: int) -> list[dict[str, Any]]:
    """The passages of an article as rows of the passage table, which have no ids yet."""
    splitter = json.dumps(passages.splitter(passage_words), sort_keys=True)
    rows: list[dict[str, Any]] = []
    for passage in passages.passages(article, passage_words):
        key = ids.passage_key(
            article.page_id,
            passage.section,
            passage.ordinal,
            text=passage.text,
            splitter=splitter,
        )
        rows.append(
            {
                "passage_key": key,
                "page_id": article.page_id,
                "title": article.title,
                "section": list(passage.section),
                "ordinal": passage.ordinal,
                "text": passage.text,
                "words": passage.words,
            }
        )
    return rows


def _batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=passage_table.UNNUMBERED)
