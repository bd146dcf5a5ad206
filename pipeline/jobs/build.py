"""`build`: from sources to a committed corpus, in stages that each resume where they were stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from encoders import memory_spec
from pipeline.accounts.plan import from_source
from pipeline.components import tokens, vectors
from pipeline.components.index import build as index
from pipeline.components.index.card import CommitIndex
from pipeline.components.memory import encode
from pipeline.components.memory import version as memory_version
from pipeline.components.memory.version import CommitMemory, MemoryPlan
from pipeline.components.passages import number, read
from pipeline.components.passages.commit import CommitPassages
from pipeline.components.passages.read import ReadCounts
from pipeline.components.settings import BuildSettings
from pipeline.jobs import commit, job, opened
from pipeline.jobs.opened import Opened
from pipeline.text import chunks, passages, sources
from pipeline.units import engines, progress
from pipeline.units.engines import Engine
from pipeline.units.same import require_same
from pipeline.units.stages import Stages
from retrieval.index_building import TARGET_RECALL
from retrieval.index_shape import EXACT_LIMIT
from storage import (
    codecs,
    components,
    costs,
    errors,
    files,
    manifest,
    memory_store,
    run_statistics,
    stored_file,
    vector_array,
)
from storage.folder import CorpusFolder
from storage.manifest import Manifest


def build(
    settings: BuildSettings,
    corpus: CorpusFolder,
    *,
    engine: Engine | None = None,
    observer: progress.Observer | None = None,
    exact_limit: int = EXACT_LIMIT,
) -> job.Outcome:
    """Build a corpus, or finish one that was interrupted.

    Args:
        settings: what to build.
        corpus: the folder; new, empty, or that of an earlier run of the same build.
        engine: deals the units out to workers; None: this process.
        observer: shown the progress.
        exact_limit: passages up to which the index is exact; see `retrieval.index`.

    Raises:
        CorpusError: bad input; what was in the folder is untouched.
        DamagedError: something that an earlier stage wrote has changed.
        engines.WorkerDied: a worker process was killed; the same call goes on from there.
    """
    started = time.monotonic()
    job.check_names()
    stages = Stages(corpus, engine or engines.chosen(), observer)
    corpus.require_folder()
    inputs = opened.open_inputs(settings)
    running = _Build(replace(settings, memory=inputs.memory), inputs, stages, exact_limit)
    already = running.is_built()
    if already:
        running.remove_old_work()
    else:
        running.run()
    return job.Outcome(corpus=corpus, already=already, seconds=time.monotonic() - started)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What the passages decided: the shapes of all that is made of them."""

    passages: int
    vectors: vectors.VectorsPlan
    memory: MemoryPlan
    tokens: tokens.TokensPlan | None


class _Build:
    """A build under way: its settings, what they name, opened, and the folder that it goes to."""

    def __init__(self, settings: BuildSettings, opened: Opened, stages: Stages, exact_limit: int) -> None:
        self._settings, self._opened, self._stages = settings, opened, stages
        self._exact_limit = exact_limit
        self._corpus, self._work = stages.corpus, stages.corpus.work

    def is_built(self) -> bool:
        """Is the corpus there, by the same settings?

        Raises:
            MismatchError: it is, by others.
        """
        if not self._corpus.is_finished():
            return False
        found = self._corpus.manifest
        built = {**found.settings, "sources": list(found.sources)}
        # Nothing more is to be written: batches that no shard will be mixed with do not matter, nor does what
        # ran the retriever when there was no choice.
        now = self._opened.identity["settings"]
        built["settings"] = {
            "retriever_backend": now["retriever_backend"],
            **found.built,
            memory_spec.BATCHING: now[memory_spec.BATCHING],
        }
        require_same(self._corpus, built, self._opened.identity, "was built")
        return True

    def remove_old_work(self) -> None:
        """What a build that was killed after its commit left; anything else in `work/` is another job's."""
        if self._work.is_empty() or "sources" in (self._work.read_plan() or {}):
            with self._corpus.alone():
                self._work.remove()

    def run(self) -> None:
        """Build, or go on with what was interrupted."""
        resumed = self._is_begun()
        job.require_codec(codecs.by_name(self._settings.codec), self._settings.device)
        splits = self._splits(resumed=resumed)
        need = from_source.corpus_bytes(splits, self._settings, self._opened.own)
        from_source.require_room(need, self._corpus.disk(), already=self._corpus.bytes_on_disk())
        self._work.make()
        with self._corpus.alone():
            # Another build may have been here between the look at the folder and the lock.
            if self._corpus.is_finished() or self._is_begun() != resumed:
                raise errors.CorpusError(
                    f"another build has just worked in {self._corpus}; run the command again"
                )
            read.write_splits(self._work, splits, self._opened.paths)
            if not resumed:
                self._work.write_plan(self._opened.identity)
            plan = self._make(splits)
            self._opened.require_unchanged()
            with commit.clearing(self._corpus):
                self._commit(plan, need=need, resumed=resumed)

    def _is_begun(self) -> bool:
        """True where an interrupted run of the same build is to be gone on with."""
        plan = self._work.read_plan()
        if plan is None:
            if held := self._corpus.foreign(_is_ours):
                raise errors.CorpusError(
                    f"output folder {self._corpus} holds something else ({held}, ...), "
                    "wanted one that is new, empty, or a corpus; nothing was changed"
                )
            return False
        require_same(self._corpus, plan, self._opened.identity, "was begun")
        return True

    def _splits(self, *, resumed: bool) -> list[sources.Split]:
        """The plan's splits; made once, since finding the streams of a dump may mean reading it.

        A resume reads the files that it was given, which have the digests of the plan's, wherever the
        interrupted run found those.
        """
        opened = self._opened
        if resumed:
            now = dict(zip(read.read_paths(self._work), opened.paths, strict=True))
            return [replace(split, path=now[split.path]) for split in read.read_splits(self._work)]
        return [split for source in opened.sources for split in source.splits(self._settings.split_bytes)]

    def _make(self, splits: Sequence[sources.Split]) -> _Plan:
        """All stages, one after the other."""
        stages, corpus, opened = self._stages, self._corpus, self._opened
        counts = stages.run(
            read.STAGE,
            read.ReadPassages(
                corpus=corpus,
                passage_words=self._settings.passage_words,
                keep_sections=self._settings.keep_sections,
                own=opened.own,
                tokens=None if opened.tokenizer is None else opened.tokenizer.cut,
            ),
            len(splits),
            total=sum(split.size_bytes for split in splits),
        )
        opened.require_unchanged()
        self._check_budget(counts, len(splits))
        receipts = self._work.receipts(read.STAGE.name, range(len(splits)), ReadCounts)
        written = number.write_parts(self._work, receipts)
        stages.run(number.STAGE, number.NumberPassages(corpus=corpus), written, total=counts.passages)

        plan = self._plan(counts.passages)
        if plan.tokens is not None:
            folder = components.TOKENS.folder("")
            tokens.create(corpus, plan.tokens.layout, folder)
            storing = tokens.StoreTokens(corpus=corpus, plan=plan.tokens, folder=folder)
            stages.run(tokens.STAGE, storing, plan.tokens.layout.grid.shards, total=counts.passages)
        parts = tuple(number.parts(self._work))
        embed = vectors.EmbedShards(
            corpus=corpus,
            parts=parts,
            retriever=opened.retriever_model,
            folder=plan.vectors.folder,
            layout=plan.vectors.layout,
        )
        corpus.publish([vector_array.create(corpus.path(plan.vectors.folder), plan.vectors.layout)])
        memory_version.make(
            stages,
            plan.memory,
            encode.EncodeShards(
                corpus=corpus,
                parts=parts,
                encoder=opened.memory_model,
                memory_folder=plan.memory.folder,
                memory=plan.memory.layout,
                limit_seconds=self._settings.shard_timeout,
                embed=embed,
            ),
        )
        recall = self._settings.index_recall
        indexing = index.IndexPlan(
            corpus=corpus,
            fingerprint=plan.vectors.fingerprint,
            vectors=plan.vectors.layout,
            similarity=opened.similarity,
            exact_limit=self._exact_limit,
            target=TARGET_RECALL if recall is None else recall,
        )
        index.make(stages, indexing)
        return plan

    def _check_budget(self, counts: ReadCounts, splits: int) -> None:
        """Give up where so many pages are unreadable that something else is wrong, or nothing is left."""
        if counts.passages == 0:
            why = self._why_none(counts, splits)
            self._work.remove()  # nothing to go on with, and another source may come to this folder
            raise errors.CorpusError(
                f"no passages in {', '.join(self._settings.sources)}: {why}; is it the right format?"
            )
        allowed = job.allowed_quarantined(self._settings.max_quarantined, counts.pages)
        if counts.quarantined > allowed:
            raise errors.CorpusError(
                f"{counts.quarantined:,} of {counts.pages:,} pages cannot be read, allowed are {allowed:,}; "
                f"the first: {self._first_note(splits)}; raise --max-quarantined if that is as it should be"
            )

    def _why_none(self, counts: ReadCounts, splits: int) -> str:
        reasons = [f"{count:,} {reason}" for reason, count in counts.dropped.items() if count]
        if counts.quarantined:
            reasons.append(f"{counts.quarantined:,} cannot be read, the first: {self._first_note(splits)}")
        return f"of {counts.pages:,} pages {', '.join(reasons)}" if reasons else "it has no pages"

    def _first_note(self, splits: int) -> str:
        """Title and reason of the first page that was quarantined."""
        receipts = self._work.receipts(read.STAGE.name, range(splits), ReadCounts)
        first = next(note for receipt in receipts for note in receipt.notes)
        return f"{first['title']!r}: {first['reason']}"

    def _plan(self, count: int) -> _Plan:
        settings, opened = self._settings, self._opened
        memory = memory_store.MemoryLayout.sized(
            passages=count,
            width=opened.width,
            max_tokens=settings.memory.max_tokens,
            codec=codecs.by_name(settings.codec),
            shard_passages=settings.shard_passages,
        )
        return _Plan(
            passages=count,
            vectors=vectors.VectorsPlan(
                retriever=opened.retriever,
                template=settings.retriever_template,
                layout=vector_array.VectorLayout(
                    grid=memory.grid, dim=opened.dim, dtype=settings.vector_dtype
                ),
            ),
            memory=MemoryPlan.of(
                encoder=opened.memory_encoder,
                memory=settings.memory.to_json(),
                layout=memory,
                parameters=opened.codec_parameters,
            ),
            tokens=None if opened.tokenizer is None else opened.tokenizer.plan(count),
        )

    def _commit(self, plan: _Plan, *, need: costs.CorpusBytes, resumed: bool) -> None:
        """Make the corpus visible. Everything before the manifest can be repeated."""
        settings, corpus = self._settings, self._corpus
        splitter = passages.splitter(settings.passage_words)
        if plan.tokens is not None:
            cut = plan.tokens.cut
            splitter = chunks.splitter(cut.passage_tokens, cut.fingerprint)
        cards = commit.commit(
            self._stages,
            (
                CommitPassages(corpus, splitter=splitter, planned=plan.passages),
                *(() if plan.tokens is None else (tokens.CommitTokens(corpus, plan.tokens),)),
                vectors.CommitVectors(corpus, plan.vectors),
                CommitMemory(corpus, plan.memory),
                CommitIndex(corpus, plan.vectors.fingerprint),
            ),
            run=run_statistics.BUILD,
            version=plan.memory.version,
            retriever=job.location(settings.retriever),
            memory_encoder=job.location(settings.memory_encoder),
            tokenizer=None if settings.tokenizer is None else job.location(settings.tokenizer),
            sources=tuple(str(stored_file.at(path).resolve()) for path in self._opened.paths),
            resumed=resumed,
            planned_bytes=need.to_json(),
        )
        identity = dict(self._opened.identity)
        corpus.write_manifest(
            Manifest(
                sources=tuple(identity.pop("sources")),
                settings=identity,
                cards=cards,
                aliases={manifest.CURRENT: plan.memory.version},
            )
        )
        self._work.remove()


def _is_ours(name: str) -> bool:
    """What a build that was stopped before its plan was written may have left in `work/`."""
    return name == read.SPLITS or name.endswith(files.PARTIAL_SUFFIX)
