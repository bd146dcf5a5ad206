"""`plan --update`: what an update would cost, from a sample of the new dump."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.accounts import facts
from pipeline.accounts.plan import sample
from pipeline.components import tokens
from pipeline.components.passages import compare, keys
from pipeline.jobs.update import UpdateSettings, changes, choose
from pipeline.text import sources
from storage import passage_table, segments
from storage.folder import CorpusFolder

_COLUMNS: Final = ("page_id", "title", "section", "ordinal", "text")


class UpdatePlan(TypedDict):
    """What an update would take; numbers are estimates from the pages of the sample.

    `versions` would be brought forward, `left` not, with the reason. `worker_seconds` are at the rate of the
    build, None where its statistics are gone; `share` is that of a full build. `whole`: every page was read.
    """

    kind: str
    corpus: str
    generation: int
    sampled_pages: int
    whole: bool
    passages: int
    kept: int
    vanished: int
    added: int
    share: float
    bytes: int
    rebuild_bytes: int
    worker_seconds: float | None
    rebuild_worker_seconds: float | None
    versions: list[str]
    left: dict[str, str]


def foretell(corpus: CorpusFolder, settings: UpdateSettings, *, share: float | None = None) -> UpdatePlan:
    """Read a sample of the new dump, and compare it with the corpus.

    Args:
        corpus: a finished one; nothing is written.
        settings: as the update's.
        share: of the pages to convert; None: as `plan` takes them.

    Raises:
        CorpusError: bad input.
    """
    every = segments.of(corpus)
    found = corpus.manifest
    chosen, built = choose(corpus, settings, every)
    opened = sources.open_sources(built.sources)
    named = changes.read(opened)
    splits = [split for source in opened for split in source.splits(built.split_bytes)]
    cutter = tokens.open_tokenizer(built)
    bounds = sample.Bounds() if share is None else sample.Bounds(share=share, least=1, most=None)
    if named is not None:  # of changes every page counts
        bounds = sample.Bounds(share=1.0, least=1, most=None)
    taken = sample.sample_source(
        splits,
        built.passage_words if cutter is None else cutter.cut,
        bounds,
        keep_sections=built.keep_sections,
        own=built.own_templates(),
    )
    pages = [[_row(row) for row in page.rows] for page in taken.pages]
    by_document = cutter is not None
    known = _known(corpus, every, {rows[0][0] for rows in pages if rows}, by_document=by_document)
    added = {}
    for page, rows in zip(taken.pages, pages, strict=True):
        new = compare.key_array(list(keys.passage_keys(rows, by_document=by_document)))
        added[id(page)] = int(np.count_nonzero(~compare.matched(known, new)[1]))
    old = segments.ids_given(every) - len(segments.removed(corpus, found, segments.ids_given(every)))
    came = round(taken.total(lambda page: added[id(page)]))
    total = round(taken.total(lambda page: len(page.rows)))
    kept = min(old, max(0, total - came))
    if named is not None:
        kept = old - _of_pages(corpus, every, named.pages) + kept
    rates = facts.rates(corpus)
    versions = [wanted.version for wanted in chosen.versions if wanted.kept]
    after = kept + came
    return {
        "kind": "update plan",
        "corpus": str(corpus),
        "generation": found.generation + 1,
        "sampled_pages": len(taken.pages),
        "whole": taken.whole,
        "passages": after,
        "kept": kept,
        "vanished": old - kept,
        "added": came,
        "share": came / after if after else 0.0,
        "bytes": rates.bytes(came, versions),
        "rebuild_bytes": rates.bytes(after, versions),
        "worker_seconds": rates.seconds(came, versions),
        "rebuild_worker_seconds": rates.seconds(after, versions),
        "versions": versions,
        "left": dict(chosen.left),
    }


def _row(row: object) -> keys.Row:
    found = dict(row)  # type: ignore[call-overload]
    return found["page_id"], found["title"], found["section"], found["ordinal"], found["text"]


def _rows(
    corpus: CorpusFolder, every: tuple[segments.Segment, ...], pages: pa.Array, columns: Sequence[str]
) -> Iterator[pa.Table]:
    """The rows of some pages that are there, a row group at a time."""
    gone = segments.removed(corpus, corpus.manifest, segments.ids_given(every))
    table = passage_table.PassageTable(corpus.root, segments.parts(every), ensure=corpus.ensure)
    for first in range(0, len(table), passage_table.ROW_GROUP):
        ids = gone.live(first, min(first + passage_table.ROW_GROUP, len(table)))
        if not len(ids):
            continue
        mask = pc.is_in(table.take(ids, columns=("page_id",)).column(0), pages).to_numpy()
        if mask.any():
            yield table.take(ids[mask], columns=columns)


def _known(
    corpus: CorpusFolder, every: tuple[segments.Segment, ...], pages: set[str], *, by_document: bool
) -> compare.Keys:
    """Keys of the passages of some pages."""
    found: list[bytes] = []
    rows: list[keys.Row] = []
    for table in _rows(corpus, every, pa.array(sorted(pages), pa.string()), _COLUMNS):
        columns = [table.column(name).to_pylist() for name in _COLUMNS]
        rows += list(zip(*columns, strict=True))
    found += keys.passage_keys(rows, by_document=by_document)
    return compare.key_array(found)


def _of_pages(corpus: CorpusFolder, every: tuple[segments.Segment, ...], named: bytes) -> int:
    """Passages of pages that are named by their keys."""
    chosen = compare.key_array([named])
    gone = segments.removed(corpus, corpus.manifest, segments.ids_given(every))
    table = passage_table.PassageTable(corpus.root, segments.parts(every), ensure=corpus.ensure)
    count = 0
    for first in range(0, len(table), passage_table.ROW_GROUP):
        ids = gone.live(first, min(first + passage_table.ROW_GROUP, len(table)))
        if len(ids):
            pages = [keys.page_key(name) for name in table.take(ids, columns=("page_id",))[0].to_pylist()]
            count += int(np.count_nonzero(compare.within(compare.key_array(pages), chosen)))
    return count
