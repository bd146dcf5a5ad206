"""The new dump read and cut, and its passages compared with those that are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipeline.components.passages import compare, keys, read, select
from pipeline.components.passages.read import ReadCounts
from pipeline.jobs import job
from pipeline.jobs.update.inputs import Inputs
from pipeline.units.stages import Stages
from storage import errors, segments

Clear = Callable[[], None]


def compare_dump(
    inputs: Inputs, stages: Stages, clear: Clear
) -> tuple[compare.CompareCounts, ReadCounts, tuple[int, ...]]:
    """Read the dump, and compare its passages with those that are there.

    Args:
        inputs: of the update.
        stages: of the folder that the dump is read into.
        clear: takes away what was done, where the dump is refused.

    Returns:
        What the comparison counted, what reading counted, and the first row of each split.

    Raises:
        CorpusError: pages that cannot be read, or a source that is none of a whole dump.
    """
    dump, built = stages.corpus, inputs.built
    work = dump.work
    work.make()
    if work.has_plan():
        splits = list(read.read_splits(work))
        now = dict(zip(read.read_paths(work), inputs.opened.paths, strict=True))
        splits = [replace(split, path=now[split.path]) for split in splits]
    else:
        splits = [s for source in inputs.opened.sources for s in source.splits(built.split_bytes)]
    read.write_splits(work, splits, inputs.opened.paths)
    work.write_plan({"splits": len(splits)})
    cutter = inputs.opened.tokenizer
    counts = stages.run(
        read.STAGE,
        read.ReadPassages(
            corpus=dump,
            passage_words=built.passage_words,
            keep_sections=built.keep_sections,
            own=inputs.opened.own,
            tokens=None if cutter is None else cutter.cut,
        ),
        len(splits),
        total=sum(split.size_bytes for split in splits),
    )
    inputs.opened.require_unchanged()
    _check_budget(inputs, counts, clear)
    parts = segments.parts(inputs.segments)
    by_document = cutter is not None
    stages.run(
        keys.OLD,
        keys.KeyPassages(
            corpus=dump, stage=keys.OLD, by_document=by_document, source=inputs.corpus, parts=parts
        ),
        len(parts),
        total=inputs.given,
    )
    stages.run(
        keys.NEW,
        keys.KeyPassages(corpus=dump, stage=keys.NEW, by_document=by_document),
        len(splits),
        total=counts.passages,
    )
    rows, unread = [], set()
    for receipt in work.receipts(read.STAGE.name, range(len(splits)), ReadCounts):
        rows.append(receipt.counts.passages)
        unread |= {keys.page_key(note["page_id"]) for note in receipt.notes if note.get("page_id")}
    gone = segments.removed(inputs.corpus, inputs.found, inputs.given)
    compared = stages.run(
        compare.STAGE,
        compare.ComparePassages(
            corpus=dump,
            old_units=len(parts),
            new_units=len(splits),
            tombstones=gone,
            only=None if inputs.changes is None else inputs.changes.pages,
            never=b"".join(sorted(unread)),
        ),
        1,
        total=inputs.given - len(gone),
        local=True,
    )
    _check_vanished(inputs, compared, clear)
    return compared, counts, select.firsts(rows)


def _check_budget(inputs: Inputs, counts: ReadCounts, clear: Clear) -> None:
    allowed = job.allowed_quarantined(inputs.settings.max_quarantined, counts.pages)
    if counts.quarantined > allowed:
        clear()
        raise errors.CorpusError(
            f"{counts.quarantined:,} of {counts.pages:,} pages cannot be read, allowed are {allowed:,}; "
            "raise --max-quarantined if that is as it should be"
        )
    if inputs.changes is None and counts.passages == 0:
        clear()
        raise errors.CorpusError(
            f"no passages in {', '.join(inputs.settings.sources)}: of {counts.pages:,} pages; is it the "
            'right format? Changes by page have an "op" in each line'
        )


def _check_vanished(inputs: Inputs, counts: compare.CompareCounts, clear: Clear) -> None:
    """Refuse what would take out so many passages that the source is none of a whole dump."""
    if counts.new == 0:
        clear()
        raise errors.CorpusError("the update would leave no passage in the corpus; nothing was changed")
    most = inputs.settings.max_vanished
    if inputs.changes is None and counts.vanished > most * counts.old:
        clear()
        raise errors.CorpusError(
            f"{counts.vanished:,} of {counts.old:,} passages are not in "
            f"{', '.join(inputs.settings.sources)}, allowed is a share of {most:g}: is it a whole dump? "
            'Changes by page have an "op" in each line; raise --max-vanished if that is as it should be'
        )
