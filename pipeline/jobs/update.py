"""`update`: a new dump, or changes by page, become a generation; what is unchanged is left as it is.

The new dump is read and cut as a build does it, and its passages are compared with those that are there. What
is new becomes a segment: a corpus of so many passages in a folder of its own, written by the stages of a
build. What has gone is listed. Then the manifest speaks of it, by one rename.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from encoders import fingerprint
from encoders.retriever import SENTENCE_TRANSFORMERS
from pipeline.components import index, tokens, vectors
from pipeline.components.base import built_with
from pipeline.components.memory import encode, recode
from pipeline.components.memory import version as memory_version
from pipeline.components.memory.version import CommitMemory, MemoryPlan
from pipeline.components.passages import compare, keys, number, read, select
from pipeline.components.passages.commit import CommitPassages
from pipeline.components.passages.read import ReadCounts
from pipeline.components.settings import MAX_QUARANTINED, SPLIT_BYTES, BuildSettings
from pipeline.components.vectors import BACKEND
from pipeline.jobs import bring, changes, commit, job, opened
from pipeline.jobs.bring import Chosen, Wanted
from pipeline.units import engines, progress
from pipeline.units.engines import Engine
from pipeline.units.stages import Stages
from retrieval.index import EXACT_LIMIT
from storage import (
    codec_parameters,
    components,
    errors,
    run_statistics,
    segments,
    tombstones,
    vector_array,
)
from storage.aliases import Json
from storage.components import AnyComponent, MemoryCard
from storage.components.memory import version_name
from storage.fields import Fields
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.generations import ADDED, KEPT, NEW, OLD, VANISHED, Generation, folder_of
from storage.manifest import Manifest
from storage.writer.plan import WRITER

# Of the passages before, at most so many may go, or the source is taken for a part of a dump.
MAX_VANISHED: Final = 0.5
# Below the segment: where the whole dump is read.
_DUMP: Final = "work/dump"


@dataclass(frozen=True, kw_only=True)
class UpdateSettings:
    """What an update is told; all else is as the corpus was built.

    Attributes:
        sources: FORMAT:PATH each: a whole dump, or JSON lines of changes by page.
        versions: which memory versions are brought forward: `bring.NAMED` or `bring.CURRENT`.
        retriever, memory_encoder, tokenizer: where these are, if not where the build found them; the
            encoder is the current version's.
        templates: the file of the wiki's own templates, if the corpus was built with one.
        max_vanished: share of the passages that may go; a dump that lacks more is taken for none.
        split_bytes, max_quarantined, shard_timeout, device, model_parallel: as in `BuildSettings`.
    """

    sources: tuple[str, ...]
    versions: str = bring.NAMED
    retriever: str | None = None
    memory_encoder: str | None = None
    tokenizer: str | None = None
    templates: str | None = None
    max_vanished: float = MAX_VANISHED
    split_bytes: int = SPLIT_BYTES
    max_quarantined: float = MAX_QUARANTINED
    shard_timeout: float | None = None
    device: str | None = None
    model_parallel: int | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise errors.CorpusError("no source given; add --source FORMAT:PATH")
        if self.versions not in bring.CHOICES:
            raise errors.CorpusError(f"versions is {self.versions!r}, wanted {' or '.join(bring.CHOICES)}")
        if not 0 <= self.max_vanished <= 1:
            raise errors.CorpusError(f"max vanished is {self.max_vanished}, wanted a share from 0 to 1")


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


def build_settings(corpus: CorpusFolder, settings: UpdateSettings, primary: Wanted) -> BuildSettings:
    """The settings of a build that would make the new passages."""
    built = Fields(corpus.manifest.built, "the build's settings")
    chunks = "passage_tokens" in built
    home = segments.of(corpus)[0].folder
    assert primary.model is not None
    cutting: Json = {}
    if chunks:
        cutting = {
            "passage_tokens": built.integer("passage_tokens"),
            "tokenizer": settings.tokenizer or built_with(home, "tokenizer"),
        }
    else:
        cutting = {"passage_words": built.integer("passage_words")}
    return BuildSettings(
        sources=settings.sources,
        retriever=settings.retriever or built_with(home, "retriever"),
        memory_encoder=primary.model.name,
        memory=primary.memory,
        codec=primary.codec.name,
        # Corpora of before sections were left out have them.
        keep_sections=built.boolean("keep_sections") if "keep_sections" in built else True,
        templates=settings.templates,
        retriever_template=built.text("retriever_template"),
        vector_dtype=built.text("vector_dtype"),
        retriever_backend=built.text(BACKEND) if BACKEND in built else SENTENCE_TRANSFORMERS,
        split_bytes=settings.split_bytes,
        max_quarantined=settings.max_quarantined,
        shard_timeout=settings.shard_timeout,
        device=settings.device or "all",
        model_parallel=settings.model_parallel,
        **cutting,
    )


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
        self._corpus, self._settings = corpus, settings
        self._engine, self._observer, self._exact_limit = engine, observer, exact_limit
        self._segments = segments.of(corpus)
        self._home = self._segments[0]
        self._stamp_cards()

    def _stamp_cards(self) -> None:
        """What is there, and what is wanted of it, before anything is written."""
        corpus, settings = self._corpus, self._settings
        self._found: Manifest = corpus.manifest
        if WRITER in self._found.built:
            raise errors.CorpusError(
                f"the passages of {corpus} were given to a writer, not read of a source: they have no update"
            )
        self._number = self._found.generation + 1
        self._prefix = folder_of(self._number)
        self._chosen: Chosen = bring.choose(
            self._home,
            self._found,
            which=settings.versions,
            memory_encoder=settings.memory_encoder,
            device=settings.device,
            model_parallel=settings.model_parallel,
            last=self._segments[-1],
        )
        self._built = build_settings(corpus, settings, self._chosen.versions[0])
        self._opened = opened.open_inputs(self._built)
        self._check_models()
        self._changes = changes.read(self._opened.sources)
        self._identity: Json = {
            job.GENERATION: self._number,
            "sources": self._opened.identity["sources"],
            "settings": {
                name: value
                for name, value in self._opened.identity["settings"].items()
                if name not in ("codec", "shard_passages")
            },
            "versions": [wanted.version for wanted in self._chosen.versions],
        }

    def _check_models(self) -> None:
        """
        Raises:
            MismatchError: a model, or the templates, are not those that the corpus was built with.
        """
        for fingerprint_ in self._found.of(components.VECTORS):
            card = self._home.card(components.VECTORS, fingerprint_)
            if self._opened.retriever.hex != card.encoder_fingerprint:
                other = fingerprint.differences(card.encoder, self._opened.retriever.description)
                raise errors.MismatchError(
                    f"retriever {self._built.retriever} is not the one that the corpus was built with: they "
                    f"differ in {', '.join(other[:3])}; name the folder of that one by --retriever"
                )
        cutter = self._opened.tokenizer
        if cutter is not None:
            stored = self._home.card(components.TOKENS)
            if cutter.fingerprint.hex != stored.tokenizer:
                raise errors.MismatchError(
                    f"tokenizer {self._built.tokenizer} is not the one that cut the corpus's passages; name "
                    "the folder of that one by --tokenizer"
                )
        digest = self._found.built.get("templates")
        if self._opened.own.digest != digest:
            raise errors.MismatchError(
                "the corpus was built with other templates of the wiki's own "
                f"({'none' if digest is None else str(digest)[:16]}); give the same file by --templates"
            )

    # --- the whole

    def run(self) -> Updated:
        """Under the lock."""
        if self._corpus.manifest != self._found:  # another job was here before the lock
            self._segments = segments.of(self._corpus)
            self._home = self._segments[0]
            self._stamp_cards()
        if self._is_done():
            job.clear_finished(self._corpus)
            return Updated(corpus=self._corpus, generation=self._found.generation, already=True, seconds=0)
        self._begin()
        segment = self._segment({})
        dump = segment.segment(_DUMP, self._own({}))
        counts, reading, firsts = self._compare(dump)
        if not counts.vanished and not counts.added:
            self._clear()
            return self._outcome(self._found, counts, already=True)
        self._opened.require_unchanged()
        cards: dict[str, dict[str, FileEntry]] = {}
        recall: float | None = None
        self._write_removed(segment, dump)
        if counts.added:
            cards = self._make(dump, firsts, counts.added)
        pending = self._pending(cards, counts, reading)
        recall, retrained, entry = self._index(pending)
        if entry is not None:
            cards[components.INDEX.noun] = {self._vectors_fingerprint(): entry}
        self._drop_origins(cards)
        self._opened.require_unchanged()
        generation = replace(
            self._pending(cards, counts, reading).generations[-1],
            recall_at_10=recall,
        )
        self._corpus.refresh()
        now = self._corpus.manifest
        bring.require_versions(now, self._chosen.versions)
        new = replace(now, generations=(*now.generations, generation))
        self._segment({}).remove_leftovers()
        self._corpus.write_manifest(new)
        self._clear()
        return replace(self._outcome(new, counts), recall_at_10=recall, retrained=retrained)

    def _outcome(self, found: Manifest, counts: compare.CompareCounts, *, already: bool = False) -> Updated:
        return Updated(
            corpus=self._corpus,
            generation=found.generation,
            already=already,
            seconds=0,
            counts=dict(found.generations[-1].counts) if not already else _sums(counts),
            brought=tuple(w.version for w in self._chosen.versions if w.kept) if counts.added else (),
            left=dict(self._chosen.left) if counts.added else {},
        )

    def _is_done(self) -> bool:
        """Was this very source the last that was read?"""
        found = self._found
        last = found.generations[-1].sources if found.generations else found.sources
        return bool(list(last) == self._opened.identity["sources"])

    def _begin(self) -> None:
        """Lay down the plan, or find that of an interrupted run of the same.

        Raises:
            MismatchError: another job is unfinished.
        """
        corpus = self._corpus
        planned = corpus.work.read_plan()
        if planned is not None and job.begun(corpus) is not None:
            different = fingerprint.differences(planned, self._identity)
            if different:
                raise errors.MismatchError(
                    f"{job.told(corpus)} is unfinished in {corpus}, and differs from this one in "
                    f"{different[0]}; finish it by the command that began it, or drop it by "
                    "`memcorpus gc --unfinished`"
                )
            return
        job.require_none_begun(corpus)
        corpus.work.write_plan(self._identity)
        # What was left there belongs to nothing; its cards must not be taken for those of this run.
        if corpus.path(self._prefix).exists():
            corpus.remove_folder(self._prefix)

    def _clear(self) -> None:
        """What led to the generation goes: the plan last, by which it is known."""
        folder = self._segment({})
        if self._number > self._corpus.manifest.generation:  # nothing came of it
            self._corpus.remove_folder(self._prefix)
        elif folder.work.path.exists():
            folder.work.remove()
        self._corpus.work.remove()

    # --- the segment as a corpus

    def _own(self, cards: Mapping[str, Mapping[str, FileEntry]]) -> Manifest:
        """The manifest of the segment, as far as it is written."""
        return replace(
            self._found,
            sources=tuple(self._opened.identity["sources"]),
            cards={c.noun: dict(cards.get(c.noun, {})) for c in components.TABLE},
            aliases={},
            generations=(),
            compacted=None,
        )

    def _segment(self, cards: Mapping[str, Mapping[str, FileEntry]]) -> CorpusFolder:
        folder = self._corpus.segment(self._prefix, self._own(cards))
        folder.root.mkdir(parents=True, exist_ok=True)
        return folder

    def _stages(self, corpus: CorpusFolder) -> Stages:
        return Stages(corpus, self._engine, self._observer)

    def _given(self) -> int:
        return segments.ids_given(self._segments)

    # --- comparing

    def _compare(self, dump: CorpusFolder) -> tuple[compare.CompareCounts, ReadCounts, tuple[int, ...]]:
        """Read the dump, and compare its passages with those that are there."""
        corpus, work, built = self._corpus, dump.work, self._built
        work.make()
        stages = self._stages(dump)
        if work.has_plan():
            splits = list(read.read_splits(work))
            now = dict(zip(read.read_paths(work), self._opened.paths, strict=True))
            splits = [replace(split, path=now[split.path]) for split in splits]
        else:
            splits = [s for source in self._opened.sources for s in source.splits(built.split_bytes)]
        read.write_splits(work, splits, self._opened.paths)
        work.write_plan({"splits": len(splits)})
        cutter = self._opened.tokenizer
        counts = stages.run(
            read.STAGE,
            read.ReadPassages(
                corpus=dump,
                passage_words=built.passage_words,
                keep_sections=built.keep_sections,
                own=self._opened.own,
                tokens=None if cutter is None else cutter.cut,
            ),
            len(splits),
            total=sum(split.size_bytes for split in splits),
        )
        self._opened.require_unchanged()
        self._check_budget(counts)
        parts = segments.parts(self._segments)
        by_document = cutter is not None
        stages.run(
            keys.OLD,
            keys.KeyPassages(
                corpus=dump, stage=keys.OLD, by_document=by_document, source=corpus, parts=parts
            ),
            len(parts),
            total=self._given(),
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
        gone = segments.removed(corpus, self._found, self._given())
        compared = stages.run(
            compare.STAGE,
            compare.ComparePassages(
                corpus=dump,
                old_units=len(parts),
                new_units=len(splits),
                tombstones=gone,
                only=None if self._changes is None else self._changes.pages,
                never=b"".join(sorted(unread)),
            ),
            1,
            total=self._given() - len(gone),
            local=True,
        )
        self._check_vanished(compared)
        return compared, counts, select.firsts(rows)

    def _check_budget(self, counts: ReadCounts) -> None:
        allowed = job.allowed_quarantined(self._settings.max_quarantined, counts.pages)
        if counts.quarantined > allowed:
            self._clear()
            raise errors.CorpusError(
                f"{counts.quarantined:,} of {counts.pages:,} pages cannot be read, allowed are {allowed:,}; "
                "raise --max-quarantined if that is as it should be"
            )
        if self._changes is None and counts.passages == 0:
            self._clear()
            raise errors.CorpusError(
                f"no passages in {', '.join(self._settings.sources)}: of {counts.pages:,} pages; is it the "
                'right format? Changes by page have an "op" in each line'
            )

    def _check_vanished(self, counts: compare.CompareCounts) -> None:
        """Refuse what would take out so many passages that the source is none of a whole dump."""
        if counts.new == 0:
            self._clear()
            raise errors.CorpusError("the update would leave no passage in the corpus; nothing was changed")
        most = self._settings.max_vanished
        if self._changes is None and counts.vanished > most * counts.old:
            self._clear()
            raise errors.CorpusError(
                f"{counts.vanished:,} of {counts.old:,} passages are not in "
                f"{', '.join(self._settings.sources)}, allowed is a share of {most:g}: is it a whole dump? "
                'Changes by page have an "op" in each line; raise --max-vanished if that is as it should be'
            )

    def _write_removed(self, segment: CorpusFolder, dump: CorpusFolder) -> None:
        ids = compare.removed(dump.work)
        if len(ids):
            tombstones.write(segment.path(tombstones.NAME), ids)

    # --- making the segment

    def _make(
        self, dump: CorpusFolder, firsts: tuple[int, ...], count: int
    ) -> dict[str, dict[str, FileEntry]]:
        """Write all components of the segment but its index. Returns their cards."""
        cards = self._passages_and_first(dump, firsts, count)
        made: dict[str, MemoryCard] = {}
        for wanted in self._chosen.versions[1:]:
            cards[components.MEMORY.noun] |= self._version(cards, wanted, count, made)
        return cards

    def _passages_and_first(
        self, dump: CorpusFolder, firsts: tuple[int, ...], count: int
    ) -> dict[str, dict[str, FileEntry]]:
        """Passages, tokens, vectors and the memory of the first version: a build's stages, and its commit."""
        primary, segment = self._chosen.versions[0], self._segment({})
        work, cutter, settings = segment.work, self._opened.tokenizer, self._built
        plan = self._plan(primary, count, None)
        card = self._home.card(components.VECTORS, self._vectors_fingerprint())
        embedding = vectors.VectorsPlan(
            retriever=self._opened.retriever,
            template=settings.retriever_template,
            layout=vector_array.VectorLayout(
                grid=plan.layout.grid, dim=card.layout.dim, dtype=card.layout.dtype
            ),
        )
        if embedding.fingerprint != card.fingerprint:
            raise errors.MismatchError(
                f"vectors of the corpus have fingerprint {card.fingerprint[:16]}, this memcorpus makes "
                f"{embedding.fingerprint[:16]} of the same settings; use the memcorpus that built it"
            )
        cut_ = None if cutter is None else cutter.plan(count)
        nouns: list[AnyComponent] = [components.PASSAGES, components.VECTORS, components.MEMORY]
        names = {
            components.PASSAGES.noun: "",
            components.TOKENS.noun: "",
            components.VECTORS.noun: card.fingerprint,
            components.MEMORY.noun: primary.version,
        }
        if cut_ is not None:
            nouns.insert(1, components.TOKENS)
        there = commit.written(segment, [(c, names[c.noun]) for c in nouns], run_statistics.BUILD)
        if there is not None:
            return there
        work.make()
        splits = list(read.read_splits(dump.work))
        read.write_splits(work, splits, self._opened.paths)
        stages = self._stages(segment)
        stages.run(
            select.STAGE,
            select.SelectPassages(
                corpus=segment,
                source=dump,
                firsts=firsts,
                tokens=None if cutter is None else cutter.cut,
            ),
            len(splits),
            total=count,
        )
        receipts = work.receipts(read.STAGE.name, range(len(splits)), ReadCounts)
        written = number.write_parts(work, receipts)
        numbering = number.NumberPassages(corpus=segment, offset=self._given())
        stages.run(number.STAGE, numbering, written, total=count)
        if cut_ is not None:
            folder = components.TOKENS.folder("")
            tokens.create(segment, cut_.layout, folder)
            storing = tokens.StoreTokens(corpus=segment, plan=cut_, folder=folder)
            stages.run(tokens.STAGE, storing, cut_.layout.grid.shards, total=count)
        parts = tuple(number.parts(work))
        vector_array.create(segment.path(embedding.folder), embedding.layout)
        assert primary.model is not None
        shards = encode.EncodeShards(
            corpus=segment,
            parts=parts,
            encoder=primary.model,
            memory_folder=plan.folder,
            memory=plan.layout,
            limit_seconds=settings.shard_timeout,
            embed=vectors.EmbedShards(
                corpus=segment,
                parts=parts,
                retriever=self._opened.retriever_model,
                folder=embedding.folder,
                layout=embedding.layout,
            ),
        )
        memory_version.make(stages, plan, shards)
        splitter = dict(self._home.card(components.PASSAGES).splitter)
        with commit.clearing(segment):
            return commit.commit(
                stages,
                (
                    CommitPassages(segment, splitter=splitter, planned=count),
                    *(() if cut_ is None else (tokens.CommitTokens(segment, cut_),)),
                    vectors.CommitVectors(segment, embedding),
                    CommitMemory(segment, plan),
                ),
                run=run_statistics.BUILD,
                version=primary.version,
                retriever=job.location(settings.retriever),
                memory_encoder=primary.model.name,
                tokenizer=None if settings.tokenizer is None else job.location(settings.tokenizer),
                sources=tuple(str(Path(path).resolve()) for path in self._opened.paths),
                resumed=False,
            )

    def _version(
        self,
        cards: Mapping[str, Mapping[str, FileEntry]],
        wanted: Wanted,
        count: int,
        made: dict[str, MemoryCard],
    ) -> dict[str, FileEntry]:
        """Write the memory of a further version. Returns its card's entry."""
        segment = self._segment(cards)
        there = commit.written(segment, [(components.MEMORY, wanted.version)], wanted.version)
        if there is not None:
            return there[components.MEMORY.noun]
        origin = None if wanted.card.origin is None else version_name(wanted.card.origin)
        from_card = None
        if wanted.model is None:
            assert origin is not None
            from_card = segment.memory(origin)
        plan = self._plan(wanted, count, from_card)
        shards: encode.EncodeShards | recode.RecodeShards
        where: dict[str, Any]
        if wanted.model is None:
            assert origin is not None
            shards = recode.RecodeShards(
                corpus=segment,
                origin=origin,
                memory_folder=plan.folder,
                memory=plan.layout,
                limit_seconds=self._built.shard_timeout,
            )
            where = {"origin": origin}
        else:
            shards = encode.EncodeShards(
                corpus=segment,
                parts=segment.passages.parts,
                encoder=wanted.model,
                memory_folder=plan.folder,
                memory=plan.layout,
                limit_seconds=self._built.shard_timeout,
            )
            where = {"memory_encoder": wanted.model.name}
        commit.forget_others(segment, plan.folder, plan.layout.grid.shards)
        stages = self._stages(segment)
        memory_version.make(stages, plan, shards)
        with commit.clearing(segment):
            found = commit.commit(
                stages,
                (CommitMemory(segment, plan),),
                run=wanted.version,
                version=wanted.version,
                resumed=False,
                **where,
            )
        return found[components.MEMORY.noun]

    def _plan(self, wanted: Wanted, count: int, origin: MemoryCard | None) -> MemoryPlan:
        """What is to be written. Parameters of a trained codec are the version's own."""
        plan = wanted.plan(count, self._built.shard_passages, origin)
        if not wanted.codec.trained:
            return plan
        card, folder = wanted.card, components.MEMORY.folder(wanted.version)
        source = self._home.folder.path(folder)
        coder = codec_parameters.read(source, wanted.codec, card.layout.width, card.codec_parameters)
        return replace(plan, parameters=coder.parameters)

    def _drop_origins(self, cards: dict[str, dict[str, FileEntry]]) -> None:
        """Take away versions that were written for those that were recoded from them."""
        segment = self._segment({})
        for wanted in self._chosen.versions:
            if not wanted.kept and wanted.version in cards.get(components.MEMORY.noun, {}):
                del cards[components.MEMORY.noun][wanted.version]
                segment.remove_folder(components.MEMORY.folder(wanted.version))
                segment.forget_run(wanted.version)

    # --- the index, and the manifest

    def _vectors_fingerprint(self) -> str:
        return next(iter(self._found.of(components.VECTORS)))

    def _pending(
        self,
        cards: Mapping[str, Mapping[str, FileEntry]],
        counts: compare.CompareCounts,
        reading: ReadCounts,
    ) -> Manifest:
        """The corpus's manifest with this generation, as far as it is written."""
        segment = self._segment({})
        removed = segment.path(tombstones.NAME)
        generation = Generation(
            number=self._number,
            folder=self._prefix,
            first_passage_id=self._given(),
            added=counts.added,
            sources=tuple(self._opened.identity["sources"]),
            counts=_sums(counts)
            | {f"read: {name}": count for name, count in reading.to_json().items()}
            | ({} if self._changes is None else dict(self._changes.counts)),
            removed=segment.entry(removed) if counts.vanished else None,
            cards={noun: dict(entries) for noun, entries in cards.items() if entries},
        )
        return replace(self._found, generations=(*self._found.generations, generation))

    def _index(self, pending: Manifest) -> tuple[float | None, bool, FileEntry | None]:
        """Add to the index, or train it again; see `index.ExtendIndex`."""
        if not self._found.of(components.INDEX):
            return None, False, None
        segment = self._segment({})
        segment.work.make()
        stages = self._stages(segment)
        extending = index.ExtendIndex(
            corpus=segment,
            whole=CorpusFolder(self._corpus.root, fixed=pending),
            fingerprint=self._vectors_fingerprint(),
            exact_limit=self._exact_limit,
        )
        counts = stages.run(index.EXTEND, extending, 1, total=pending.generations[-1].added, local=True)
        entry = index.commit_extended(segment, self._vectors_fingerprint())
        return counts.recall_millionths / index.MILLION, bool(counts.whole), entry


def _sums(counts: compare.CompareCounts) -> dict[str, int]:
    return {
        OLD: counts.old,
        KEPT: counts.kept,
        VANISHED: counts.vanished,
        NEW: counts.new,
        ADDED: counts.added,
        "unread": counts.unread,
    }
