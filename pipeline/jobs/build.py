"""`build`: from sources to a committed corpus, in stages that each resume where they were stopped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from encoders import fingerprint, memory_spec, model_folder, weights
from encoders.memory_encoder import memory_fingerprint
from encoders.retriever import default_backend, retriever_dim, retriever_fingerprint
from pipeline.accounts.plan import from_source
from pipeline.components import index, vectors
from pipeline.components.memory import encode
from pipeline.components.memory import version as memory_version
from pipeline.components.memory.version import CommitMemory, MemoryPlan
from pipeline.components.passages import number, read
from pipeline.components.passages.commit import CommitPassages
from pipeline.components.passages.read import ReadCounts
from pipeline.components.settings import BuildSettings
from pipeline.jobs import job
from pipeline.jobs.commit import commit
from pipeline.text import passages, sources
from pipeline.units import progress
from pipeline.units.same import require_same
from pipeline.units.stages import Stages
from retrieval.index import EXACT_LIMIT
from storage import codecs, costs, errors, files, manifest, memory_store, run_statistics, vector_array
from storage.folder import CorpusFolder
from storage.manifest import Manifest
from storage.shards import ShardGrid, choose_shard_passages
from storage.work_folder import WorkFolder

# Pages that may be quarantined whatever their share: small sources have few pages.
FREE_QUARANTINED: Final = 10


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """Sources and models, opened and fingerprinted; nothing is written yet."""

    sources: tuple[sources.Source, ...]
    retriever: fingerprint.Fingerprint
    memory_encoder: fingerprint.Fingerprint
    retriever_model: vectors.RetrieverModel
    memory_model: encode.MemoryModel
    dim: int
    width: int
    identity: dict[str, Any]
    stamps: tuple[tuple[int, int], ...]

    @property
    def paths(self) -> list[str]:
        """The sources' files."""
        return [str(file) for source in self.sources for file in source.files]

    def require_unchanged(self) -> None:
        """Refuse to put sources' digests beside passages of other bytes."""
        for path, stamp in zip(self.paths, self.stamps, strict=True):
            if not Path(path).is_file() or _stamp(Path(path)) != stamp:
                raise errors.MismatchError(
                    f"source {path} was changed while it was read; build from a copy that stays as it is, "
                    "in another folder"
                )


def build(
    settings: BuildSettings,
    corpus: CorpusFolder,
    *,
    beam_options: Sequence[str] = (),
    observer: progress.Observer | None = None,
    exact_limit: int = EXACT_LIMIT,
) -> job.Outcome:
    """Build a corpus, or finish one that was interrupted.

    Args:
        settings: what to build.
        corpus: the folder; new, empty, or that of an earlier run of the same build.
        beam_options: Beam's own options.
        observer: shown the progress.
        exact_limit: passages up to which the index is exact; see `retrieval.index`.

    Raises:
        CorpusError: bad input; what was in the folder is untouched.
        DamagedError: something that an earlier stage wrote has changed.
        runner.WorkerDied: a worker process was killed; the same call goes on from there.
    """
    started = time.monotonic()
    job.check_names()
    stages = Stages(corpus, beam_options, observer)
    _require_folder(corpus)
    opened = _open(settings)
    if _already_built(corpus, opened.identity):
        _remove_old_work(corpus)
        return job.Outcome(corpus=corpus, already=True, seconds=time.monotonic() - started)
    resumed = _check_folder(corpus, opened.identity)
    splits = _splits(corpus.work, opened, settings, resumed=resumed)
    need = from_source.corpus_bytes(splits, settings)
    from_source.require_room(need, corpus.root, already=corpus.bytes_on_disk())
    corpus.work.make()
    with corpus.alone():
        # Another build may have been here between the look at the folder and the lock.
        if corpus.is_finished() or _check_folder(corpus, opened.identity) != resumed:
            raise errors.CorpusError(f"another build has just worked in {corpus}; run the command again")
        read.write_splits(corpus.work, splits, opened.paths)
        if not resumed:
            corpus.work.write_plan(opened.identity)
        plan = _run_stages(settings, opened, splits, stages, exact_limit)
        opened.require_unchanged()
        _commit(stages, opened, settings, plan, need=need, resumed=resumed)
    return job.Outcome(corpus=corpus, already=False, seconds=time.monotonic() - started)


def _open(settings: BuildSettings) -> _Opened:
    opened = tuple(sources.open_source(spec) for spec in settings.sources)
    stamps = tuple(_stamp(file) for source in opened for file in source.files)
    encoder = memory_fingerprint(settings.memory_encoder, settings.memory)
    retriever = retriever_fingerprint(settings.retriever)
    # Named in the plan, so that an interrupted build goes on with the same.
    backend = settings.retriever_backend or default_backend(settings.retriever)
    return _Opened(
        sources=opened,
        stamps=stamps,
        retriever=retriever,
        memory_encoder=encoder,
        retriever_model=vectors.RetrieverModel(
            name=settings.retriever,
            fingerprint=retriever.hex,
            template=settings.retriever_template,
            backend=backend,
            device=settings.device,
        ),
        memory_model=encode.MemoryModel(
            name=settings.memory_encoder,
            fingerprint=encoder.hex,
            memory=settings.memory,
            device=settings.device,
            model_parallel=settings.model_parallel,
        ),
        dim=retriever_dim(settings.retriever),
        width=weights.read_config(model_folder.resolve(settings.memory_encoder)).d_model,
        identity={
            "settings": settings.deciding()
            | {
                "splitter": passages.VERSION,
                "retriever_backend": backend,
                memory_spec.BATCHING: settings.memory.batching,
            },
            "sources": [{"format": s.format, "files": [_described(f) for f in s.files]} for s in opened],
            "retriever": retriever.description,
            "memory_encoder": encoder.description,
        },
    )


def _described(file: Path) -> dict[str, Any]:
    return {"name": file.name, "bytes": file.stat().st_size, "sha256": fingerprint.digest_file(file)}


def _stamp(file: Path) -> tuple[int, int]:
    """Size and time of change, which tell that a file is not the one that was digested."""
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def _require_folder(corpus: CorpusFolder) -> None:
    existing = next(path for path in (corpus.root, *corpus.root.resolve().parents) if path.exists())
    if not existing.is_dir():
        raise errors.CorpusError(f"output {existing} is a file, wanted a folder that is new or empty")


def _remove_old_work(corpus: CorpusFolder) -> None:
    """What a build that was killed after its commit left; anything else in `work/` is another job's."""
    if "sources" in (corpus.work.read_plan() or {}):
        with corpus.alone():
            corpus.work.remove()


def _already_built(corpus: CorpusFolder, identity: Mapping[str, Any]) -> bool:
    if not corpus.is_finished():
        return False
    found = corpus.manifest
    built = {**found.settings, "sources": list(found.sources)}
    # Nothing more is to be written: batches that no shard will be mixed with do not matter, nor does what
    # ran the retriever when there was no choice.
    now = identity["settings"]
    built["settings"] = {
        "retriever_backend": now["retriever_backend"],
        **found.built,
        memory_spec.BATCHING: now[memory_spec.BATCHING],
    }
    require_same(corpus, built, identity, "was built")
    return True


def _check_folder(corpus: CorpusFolder, identity: Mapping[str, Any]) -> bool:
    """True where an interrupted run of the same build is to be gone on with."""
    plan = corpus.work.read_plan()
    if plan is None:
        held = [path for path in _content(corpus.root) if path != corpus.work.path]
        held += [path for path in _content(corpus.work.path) if not _is_ours(path)]
        if held:
            raise errors.CorpusError(
                f"output folder {corpus} holds something else ({held[0].name}, ...), "
                "wanted one that is new, empty, or a corpus; nothing was changed"
            )
        return False
    require_same(corpus, plan, identity, "was begun")
    return True


def _content(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def _is_ours(path: Path) -> bool:
    """What a build that was stopped before its plan was written may have left in `work/`."""
    return path.name == read.SPLITS or path.name.endswith(files.PARTIAL_SUFFIX)


def _splits(
    work: WorkFolder, opened: _Opened, settings: BuildSettings, *, resumed: bool
) -> list[sources.Split]:
    """The plan's splits; made once, since finding the streams of a dump may mean reading it.

    A resume reads the files that it was given, which have the digests of the plan's, wherever the
    interrupted run found those.
    """
    if resumed:
        now = dict(zip(read.read_paths(work), opened.paths, strict=True))
        return [replace(split, path=now[split.path]) for split in read.read_splits(work)]
    return [split for source in opened.sources for split in source.splits(settings.split_bytes)]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What the passages decided: the shapes of all that is made of them."""

    passages: int
    vectors: vectors.VectorsPlan
    memory: MemoryPlan


def _run_stages(
    settings: BuildSettings,
    opened: _Opened,
    splits: Sequence[sources.Split],
    stages: Stages,
    exact_limit: int,
) -> _Plan:
    corpus = stages.corpus
    counts = stages.run(
        read.STAGE,
        read.ReadPassages(corpus=corpus, passage_words=settings.passage_words),
        len(splits),
        total=sum(split.size_bytes for split in splits),
    )
    opened.require_unchanged()
    _check_budget(corpus.work, counts, settings, len(splits))
    receipts = corpus.work.receipts(read.STAGE.name, range(len(splits)), ReadCounts)
    written = number.write_parts(corpus.work, receipts)
    stages.run(number.STAGE, number.NumberPassages(corpus=corpus), written, total=counts.passages)

    plan = _plan(settings, opened, counts.passages)
    parts = tuple(number.parts(corpus.work))
    embed = vectors.EmbedShards(
        corpus=corpus,
        parts=parts,
        retriever=opened.retriever_model,
        folder=plan.vectors.folder,
        layout=plan.vectors.layout,
    )
    vector_array.create(corpus.path(plan.vectors.folder), plan.vectors.layout)
    memory_version.make(
        stages,
        plan.memory,
        encode.EncodeShards(
            corpus=corpus,
            parts=parts,
            encoder=opened.memory_model,
            memory_folder=plan.memory.folder,
            memory=plan.memory.layout,
            limit_seconds=settings.shard_timeout,
            embed=embed,
        ),
    )
    indexing = index.IndexVectors(
        corpus=corpus,
        fingerprint=plan.vectors.fingerprint,
        vectors=plan.vectors.layout,
        exact_limit=exact_limit,
    )
    stages.run(index.STAGE, indexing, 1, total=plan.passages, local=True)
    return plan


def _plan(settings: BuildSettings, opened: _Opened, count: int) -> _Plan:
    codec, max_tokens = codecs.by_name(settings.codec), settings.memory.max_tokens
    grid = ShardGrid(
        passages=count,
        shard_passages=settings.shard_passages
        or choose_shard_passages(
            passages=count, max_tokens=max_tokens, token_bytes=codec.token_bytes(opened.width)
        ),
    )
    return _Plan(
        passages=count,
        vectors=vectors.VectorsPlan(
            retriever=opened.retriever,
            template=settings.retriever_template,
            layout=vector_array.VectorLayout(grid=grid, dim=opened.dim, dtype=settings.vector_dtype),
        ),
        memory=MemoryPlan.of(
            encoder=opened.memory_encoder,
            memory=settings.memory,
            layout=memory_store.MemoryLayout(
                grid=grid, width=opened.width, max_tokens=max_tokens, codec=codec
            ),
        ),
    )


def _commit(
    stages: Stages,
    opened: _Opened,
    settings: BuildSettings,
    plan: _Plan,
    *,
    need: costs.CorpusBytes,
    resumed: bool,
) -> None:
    """Make the corpus visible. Everything before the manifest can be repeated."""
    corpus = stages.corpus
    cards = commit(
        stages,
        (
            CommitPassages(corpus, passage_words=settings.passage_words, planned=plan.passages),
            vectors.CommitVectors(corpus, plan.vectors),
            CommitMemory(corpus, plan.memory),
            index.CommitIndex(corpus, plan.vectors.fingerprint),
        ),
        run=run_statistics.BUILD,
        version=plan.memory.version,
        retriever=job.location(settings.retriever),
        memory_encoder=job.location(settings.memory_encoder),
        sources=tuple(str(Path(path).resolve()) for path in opened.paths),
        resumed=resumed,
        planned_bytes=need.to_json(),
    )
    identity = dict(opened.identity)
    corpus.write_manifest(
        Manifest(
            sources=tuple(identity.pop("sources")),
            settings=identity,
            cards=cards,
            aliases={manifest.CURRENT: plan.memory.version},
        )
    )
    corpus.work.remove()


def _check_budget(work: WorkFolder, counts: ReadCounts, settings: BuildSettings, splits: int) -> None:
    """Give up where so many pages are unreadable that something else must be wrong, or nothing is left."""
    share = settings.max_quarantined
    allowed = max(FREE_QUARANTINED, int(share * counts.pages)) if share else 0
    if counts.quarantined > allowed:
        receipts = work.receipts(read.STAGE.name, range(splits), ReadCounts)
        first = next(note for receipt in receipts for note in receipt.notes)
        raise errors.CorpusError(
            f"{counts.quarantined:,} of {counts.pages:,} pages cannot be read, allowed are {allowed:,}; "
            f"the first: {first['title']!r}: {first['reason']}; raise --max-quarantined if that is as it "
            "should be"
        )
    if counts.passages == 0:
        raise errors.CorpusError(f"no passages in {', '.join(settings.sources)}; is it the right format?")
