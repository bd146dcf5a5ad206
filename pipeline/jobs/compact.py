"""`compact`: the bytes of what updates took out are dropped, and ids stay.

Each segment that holds tombstones is written anew beside the old one: parts and shards that lose something
are written, all else is linked. Then the manifest speaks of the new folders, by one rename, and the old ones
go as soon as nobody reads them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.components.memory import drop
from pipeline.jobs import job, versions
from pipeline.units import engines, progress
from pipeline.units.engines import Engine
from pipeline.units.stages import Stages
from retrieval.corpus import Corpus
from storage import components, passage_table, segments, tombstones
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.generations import Compaction, folder_of
from storage.manifest import Manifest
from storage.segments import Segment
from storage.tombstones import Tombstones

Cards = dict[str, dict[str, FileEntry]]


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """What came of it, or would.

    Attributes:
        generation: up to which tombstones are dropped.
        passages: that lose their bytes.
        memory_bytes: of shards' files that go: exact.
        text_bytes: of the passages' files: about.
        freed: bytes of folders that are gone; less where a reader holds them.
        held: bytes of folders that readers hold; `memcorpus gc` removes them later.
    """

    generation: int
    passages: int
    memory_bytes: int
    text_bytes: int
    freed: int = 0
    held: int = 0


def compact(
    corpus: CorpusFolder,
    *,
    dry_run: bool = False,
    engine: Engine | None = None,
    observer: progress.Observer | None = None,
) -> Compacted:
    """Drop the bytes of tombstones, or say how many there are.

    Args:
        corpus: a finished one.
        dry_run: only say it.
        engine: deals the shards out to workers; None: this process.
        observer: shown the progress.

    Raises:
        CorpusError: another job is at work or unfinished.
    """
    job.check_names()
    job.require_local(corpus, "a compaction")
    with corpus.alone():
        corpus.refresh()
        job.require_none_begun(corpus)
        found = corpus.manifest
        every = segments.of(corpus)
        gone = segments.removed(corpus, found, segments.ids_given(every))
        done = 0 if found.compacted is None else found.compacted.generation
        lists = {part.number: _new(part, found, gone, corpus, done) for part in every}
        told = _foretold(every, lists, found.generation)
        if dry_run or not told.passages:
            return told
        cards: dict[int, tuple[str, Cards]] = {}
        for part in every:
            if len(lists[part.number]):
                cards[part.number] = _write(
                    corpus, part, lists[part.number], found, engine or engines.chosen(), observer
                )
        drop.release()
        gc.collect()  # readers of this very process, which hold what they have read
        before = corpus.bytes_on_disk()
        corpus.write_manifest(_with(found, cards))
        job.clear(corpus)
        held = versions.remove_replaced(corpus)
        return replace(told, freed=max(0, before - corpus.bytes_on_disk()), held=held)


def _new(
    part: Segment, found: Manifest, gone: Tombstones, corpus: CorpusFolder, done: int
) -> npt.NDArray[np.int64]:
    """The segment's own ids that have gone since the last compaction."""
    ids = [
        tombstones.read(corpus.path(entry.path), entry, stop=generation.first_passage_id)
        for generation in found.generations
        if generation.number > done and (entry := generation.removed_entry) is not None
    ]
    new = np.sort(np.concatenate([np.zeros(0, np.int64), *ids]))
    own = new[(new >= part.first) & (new < part.stop)] - part.first
    cards = [part.card(components.MEMORY, name) for name in part.manifest.of(components.MEMORY)]
    spared = [place for card in cards if (place := drop.spared(card, own)) is not None]
    return np.setdiff1d(own, np.array(spared, np.int64))


def _foretold(
    every: tuple[Segment, ...], lists: dict[int, npt.NDArray[np.int64]], generation: int
) -> Compacted:
    memory = text = 0
    for part in every:
        here = lists[part.number]
        if not len(here):
            continue
        opened = Corpus(part.folder)
        for name in part.manifest.of(components.MEMORY):
            reader = opened.memory(name)
            grid = reader.card.layout.grid
            for shard in np.unique(here // grid.shard_passages).tolist():
                first, stop = grid.bounds(shard)
                own = here[(here >= first) & (here < stop)] - first
                memory += drop.foretold(reader.card, reader.tokens(np.arange(first, stop)), own)
        for one in part.card(components.PASSAGES).parts:
            stop = one.first_passage_id + one.rows
            count = int(np.count_nonzero((here >= one.first_passage_id) & (here < stop)))
            text += one.file.bytes * count // one.rows
    passages = sum(map(len, lists.values()))
    return Compacted(generation=generation, passages=passages, memory_bytes=memory, text_bytes=text)


def _write(
    corpus: CorpusFolder,
    part: Segment,
    gone: npt.NDArray[np.int64],
    found: Manifest,
    engine: Engine,
    observer: progress.Observer | None,
) -> tuple[str, Cards]:
    """Write a segment anew. Returns its folder and its cards."""
    prefix = folder_of(part.number, found.generation)
    if corpus.path(prefix).exists():  # by one that was killed
        corpus.remove_folder(prefix)
    own = replace(part.manifest, sources=())
    target = corpus.segment(prefix, own)
    cards: Cards = {noun: dict(entries) for noun, entries in part.manifest.cards.items()}
    # Tables of neighbours are of the corpus as it was built, which can be opened no more.
    cards[components.NEIGHBOURS.noun] = {}
    kept = (components.TOKENS, components.VECTORS, components.INDEX)
    for component in kept:
        for name in part.manifest.of(component):
            for entry in part.folder.files_of(component, name):
                target.link(part.folder, entry.path)
    for name in part.folder.run_files():
        target.link(part.folder, name)
    if part.number and (removed := found.generations[part.number - 1].removed) is not None:
        target.link(part.folder, removed.path)
    cards[components.PASSAGES.noun] = {"": _passages(part, target, gone)}
    for name in part.manifest.of(components.MEMORY):
        card = part.card(components.MEMORY, name)
        target.work.forget_stage(drop.STAGE.name)
        target.work.make()
        drop.create(part.folder, target, card)
        stages = Stages(target, engine, observer)
        dropping = drop.DropShards(corpus=target, source=part.folder, version=name, gone=gone)
        stages.run(drop.STAGE, dropping, card.layout.grid.shards, total=part.passages)
        cards[components.MEMORY.noun][name] = drop.commit(part.folder, target, card, gone)
    target.work.forget_stage(drop.STAGE.name)
    target.remove_folder(target.relative(target.work.path))
    return prefix, cards


def _passages(part: Segment, target: CorpusFolder, gone: npt.NDArray[np.int64]) -> FileEntry:
    """Write parts without the text of what has gone; link the others. Returns the card's entry."""
    card = part.card(components.PASSAGES)
    target.link(part.folder, card.quarantine.path)
    parts = []
    for one in card.parts:
        first, stop = one.first_passage_id, one.first_passage_id + one.rows
        here = gone[(gone >= first) & (gone < stop)] - first
        if not len(here):
            target.link(part.folder, one.file.path)
            parts.append(one)
            continue
        table = passage_table.PassageTable(part.folder.root, card.parts, ensure=part.folder.ensure)
        path = target.path(one.file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        passage_table.write_part(path, passage_table.SCHEMA, _emptied(table, first, stop, here))
        parts.append(replace(one, file=target.entry(path)))
    return target.write_card(components.PASSAGES, replace(card, parts=tuple(parts)))


def _emptied(
    table: passage_table.PassageTable, first: int, stop: int, gone: npt.NDArray[np.int64]
) -> Iterator[pa.RecordBatch]:
    """The rows of a part, a row group at a time, those that have gone without what they said."""
    size = passage_table.ROW_GROUP
    for at in range(first, stop, size):
        rows = table.read(at, min(at + size, stop)).to_pylist()
        for place in gone[(gone >= at - first) & (gone < at - first + size)].tolist():
            rows[place - (at - first)] |= passage_table.EMPTIED
        yield from pa.Table.from_pylist(rows, schema=passage_table.SCHEMA).combine_chunks().to_batches()


def _with(found: Manifest, cards: dict[int, tuple[str, Cards]]) -> Manifest:
    """A manifest that speaks of the new folders."""
    folder = "" if found.compacted is None else found.compacted.folder
    base = found
    if 0 in cards:
        folder, own = cards[0]
        base = replace(found, cards=own)
    generations = tuple(
        g
        if g.number not in cards
        else replace(
            g,
            folder=cards[g.number][0],
            cards={noun: entries for noun, entries in cards[g.number][1].items() if entries},
        )
        for g in found.generations
    )
    compacted = Compaction(generation=found.generation, folder=folder)
    return replace(base, generations=generations, compacted=compacted)
