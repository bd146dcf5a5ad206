"""`update`: a new dump, or changes by page, become a generation; what is unchanged is left as it is.

The new dump is read and cut as a build does it, and its passages are compared with those that are there. What
is new becomes a segment: a corpus of so many passages in a folder of its own, written by the stages of a
build. What has gone is listed. Then the manifest speaks of it, by one rename.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from encoders import fingerprint
from pipeline.components.index import extend
from pipeline.components.index.card import MILLION
from pipeline.components.passages import compare
from pipeline.components.passages.read import ReadCounts
from pipeline.jobs import job
from pipeline.jobs.update import bring, compared, inputs, segment
from pipeline.jobs.update.inputs import UpdateSettings
from pipeline.jobs.update.segment import Cards
from pipeline.units import engines, progress
from pipeline.units.engines import Engine
from pipeline.units.stages import Stages
from retrieval.index import EXACT_LIMIT
from storage import components, errors, tombstones
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.generations import ADDED, KEPT, NEW, OLD, VANISHED, Generation
from storage.manifest import Manifest

# Below the segment: where the whole dump is read.
_DUMP: Final = "work/dump"


@dataclass(frozen=True, kw_only=True)
class Updated:
    """What came of it.

    Attributes:
        generation: that the corpus has now.
        already: nothing was new, and nothing was done.
        counts: those of the generation; empty where nothing was compared.
        brought: versions that have memory of the new passages.
        left: why each other one has not.
        recall_at_10: of the index afterwards.
        retrained: it was trained again.
    """

    corpus: CorpusFolder
    generation: int
    already: bool
    seconds: float
    counts: Mapping[str, int] = field(default_factory=dict)
    brought: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    recall_at_10: float | None = None
    retrained: bool = False


def update(
    corpus: CorpusFolder,
    settings: UpdateSettings,
    *,
    engine: Engine | None = None,
    observer: progress.Observer | None = None,
    exact_limit: int = EXACT_LIMIT,
) -> Updated:
    """Add a generation, or finish one that was interrupted.

    Args:
        corpus: a finished one.
        settings: what to read.
        engine: deals the units out to workers; None: this process.
        observer: shown the progress.
        exact_limit: passages up to which the index is exact; see `retrieval.index`.

    Raises:
        CorpusError: bad input; the corpus is untouched.
        engines.WorkerDied: a worker process was killed; the same call goes on from there.
    """
    started = time.monotonic()
    job.check_names()
    job.require_local(corpus, "an update")
    corpus.refresh()
    running = _Update(corpus, settings, engine or engines.chosen(), observer, exact_limit)
    with corpus.alone():
        corpus.refresh()
        done = running.run()
    return replace(done, seconds=time.monotonic() - started)


class _Update:
    """An update under way."""

    def __init__(
        self,
        corpus: CorpusFolder,
        settings: UpdateSettings,
        engine: Engine,
        observer: progress.Observer | None,
        exact_limit: int,
    ) -> None:
        self._corpus, self._inputs = corpus, inputs.open_inputs(corpus, settings)
        self._engine, self._observer, self._exact_limit = engine, observer, exact_limit

    def run(self) -> Updated:
        """Under the lock."""
        if self._corpus.manifest != self._inputs.found:  # another job was here before the lock
            self._inputs = inputs.open_inputs(self._corpus, self._inputs.settings)
        if self._inputs.is_done:
            job.clear_finished(self._corpus)
            return Updated(
                corpus=self._corpus, generation=self._inputs.found.generation, already=True, seconds=0
            )
        self._begin()
        new = self._inputs.segment({})
        dump = new.segment(_DUMP, self._inputs.own({}))
        counts, reading, firsts = compared.compare_dump(self._inputs, self._stages(dump), self._clear)
        if not counts.vanished and not counts.added:
            self._clear()
            return self._outcome(self._inputs.found, counts, already=True)
        self._inputs.opened.require_unchanged()
        cards: Cards = {}
        if len(ids := compare.removed(dump.work)):
            tombstones.write(new.path(tombstones.NAME), ids)
        if counts.added:
            cards = segment.make(self._inputs, self._stages, dump, firsts, counts.added)
        pending = self._pending(cards, counts, reading)
        recall, retrained, entry = self._index(pending)
        if entry is not None:
            cards[components.INDEX.noun] = {self._inputs.vectors_fingerprint: entry}
        segment.drop_origins(self._inputs, cards)
        self._inputs.opened.require_unchanged()
        generation = replace(
            self._pending(cards, counts, reading).generations[-1],
            recall_at_10=recall,
        )
        self._corpus.refresh()
        now = self._corpus.manifest
        bring.require_versions(now, self._inputs.chosen.versions)
        whole = replace(now, generations=(*now.generations, generation))
        new.remove_leftovers()
        self._corpus.write_manifest(whole)
        self._clear()
        return replace(self._outcome(whole, counts), recall_at_10=recall, retrained=retrained)

    def _outcome(self, found: Manifest, counts: compare.CompareCounts, *, already: bool = False) -> Updated:
        return Updated(
            corpus=self._corpus,
            generation=found.generation,
            already=already,
            seconds=0,
            counts=dict(found.generations[-1].counts) if not already else _sums(counts),
            brought=tuple(w.version for w in self._inputs.chosen.versions if w.kept) if counts.added else (),
            left=dict(self._inputs.chosen.left) if counts.added else {},
        )

    def _begin(self) -> None:
        """Lay down the plan, or find that of an interrupted run of the same.

        Raises:
            MismatchError: another job is unfinished.
        """
        corpus = self._corpus
        planned = corpus.work.read_plan()
        if planned is not None and job.begun(corpus) is not None:
            different = fingerprint.differences(planned, self._inputs.identity)
            if different:
                raise errors.MismatchError(
                    f"{job.told(corpus)} is unfinished in {corpus}, and differs from this one in "
                    f"{different[0]}; finish it by the command that began it, or drop it by "
                    "`memcorpus gc --unfinished`"
                )
            return
        job.require_none_begun(corpus)
        corpus.work.write_plan(self._inputs.identity)
        # What was left there belongs to nothing; its cards must not be taken for those of this run.
        if corpus.path(self._inputs.prefix).exists():
            corpus.remove_folder(self._inputs.prefix)

    def _clear(self) -> None:
        """What led to the generation goes: the plan last, by which it is known."""
        folder = self._inputs.segment({})
        if self._inputs.number > self._corpus.manifest.generation:  # nothing came of it
            self._corpus.remove_folder(self._inputs.prefix)
        elif folder.work.path.exists():
            folder.work.remove()
        self._corpus.work.remove()

    def _stages(self, corpus: CorpusFolder) -> Stages:
        return Stages(corpus, self._engine, self._observer)

    def _pending(
        self,
        cards: Mapping[str, Mapping[str, FileEntry]],
        counts: compare.CompareCounts,
        reading: ReadCounts,
    ) -> Manifest:
        """The corpus's manifest with this generation, as far as it is written."""
        new = self._inputs.segment({})
        removed = new.path(tombstones.NAME)
        generation = Generation(
            number=self._inputs.number,
            folder=self._inputs.prefix,
            first_passage_id=self._inputs.given,
            added=counts.added,
            sources=tuple(self._inputs.opened.identity["sources"]),
            counts=_sums(counts)
            | {f"read: {name}": count for name, count in reading.to_json().items()}
            | ({} if self._inputs.changes is None else dict(self._inputs.changes.counts)),
            removed=new.entry(removed) if counts.vanished else None,
            cards={noun: dict(entries) for noun, entries in cards.items() if entries},
        )
        return replace(self._inputs.found, generations=(*self._inputs.found.generations, generation))

    def _index(self, pending: Manifest) -> tuple[float | None, bool, FileEntry | None]:
        """Add to the index, or train it again; see `extend.ExtendIndex`."""
        if not self._inputs.found.of(components.INDEX):
            return None, False, None
        new = self._inputs.segment({})
        new.work.make()
        stages = self._stages(new)
        extending = extend.ExtendIndex(
            corpus=new,
            whole=CorpusFolder(self._corpus.root, fixed=pending),
            fingerprint=self._inputs.vectors_fingerprint,
            exact_limit=self._exact_limit,
        )
        counts = stages.run(extend.EXTEND, extending, 1, total=pending.generations[-1].added, local=True)
        entry = extend.commit_extended(new, self._inputs.vectors_fingerprint)
        return counts.recall_millionths / MILLION, bool(counts.whole), entry


def _sums(counts: compare.CompareCounts) -> dict[str, int]:
    return {
        OLD: counts.old,
        KEPT: counts.kept,
        VANISHED: counts.vanished,
        NEW: counts.new,
        ADDED: counts.added,
        "unread": counts.unread,
    }
