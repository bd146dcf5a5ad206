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
from pipeline.accounts.plan import from_source as plan
from pipeline.components import index as index_vectors
from pipeline.components import vectors as embed_shards
from pipeline.components.memory import encode as encode_shards
from pipeline.components.memory import version as memory_version
from pipeline.components.memory.version import MemoryPlan
from pipeline.components.passages import number as number_passages
from pipeline.components.passages import read as read_passages
from pipeline.components.settings import BuildSettings
from pipeline.jobs import commit
from pipeline.text import passages, sources
from pipeline.units import progress, work
from pipeline.units import stages as jobs
from retrieval import index
from storage import codecs, costs, errors, files, manifest, memory_store, shards, vector_array
from storage.receipts import Receipt

# Pages that may be quarantined whatever their share: small sources have few pages.
FREE_QUARANTINED: Final = 10


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """Sources and models, opened and fingerprinted; nothing is written yet."""

    sources: tuple[sources.Source, ...]
    retriever: fingerprint.Fingerprint
    memory_encoder: fingerprint.Fingerprint
    retriever_model: embed_shards.RetrieverModel
    memory_model: encode_shards.MemoryModel
    dim: int
    width: int
    identity: dict[str, Any]
    stamps: tuple[tuple[int, int], ...]


def build(
    settings: BuildSettings,
    out: Path,
    *,
    beam_options: Sequence[str] = (),
    observer: progress.Observer | None = None,
    exact_limit: int = index.EXACT_LIMIT,
) -> jobs.Outcome:
    """Build a corpus, or finish one that was interrupted.

    Args:
        settings: what to build.
        out: the corpus folder; new, empty, or that of an earlier run of the same build.
        beam_options: Beam's own options.
        observer: shown the progress.
        exact_limit: passages up to which the index is exact; see `retrieval.index`.

    Raises:
        CorpusError: bad input; what was in `out` is untouched.
        DamagedError: something that an earlier stage wrote has changed.
        runner.WorkerDied: a worker process was killed; the same call goes on from there.
    """
    started = time.monotonic()
    jobs.check_names()
    stages = jobs.Stages(out, beam_options, observer)
    _require_folder(out)
    opened = _open(settings)
    if _already_built(out, opened.identity):
        _remove_old_work(out)
        return jobs.Outcome(root=out, already=True, seconds=time.monotonic() - started)
    resumed = _check_folder(out, opened.identity)
    splits = _splits(out, opened, settings, resumed=resumed)
    need = _require_room(out, splits, settings)
    work.folder(out).mkdir(parents=True, exist_ok=True)
    with jobs.lock(out):
        # Another build may have been here between the look at the folder and the lock.
        if (out / manifest.NAME).exists() or _check_folder(out, opened.identity) != resumed:
            raise errors.CorpusError(f"another build has just worked in {out}; run the command again")
        read_passages.write_splits(out, splits, _paths(opened))
        if not resumed:
            files.write_json(work.folder(out) / work.PLAN, opened.identity)
        committed = _run_stages(settings, opened, splits, stages, exact_limit)
        where = {
            "retriever": jobs.location(settings.retriever),
            "memory_encoder": jobs.location(settings.memory_encoder),
            "sources": [str(file.resolve()) for source in opened.sources for file in source.files],
            "stage_seconds": stages.seconds,
            "resumed": resumed,
            "planned_bytes": need.to_json(),
            "beam_options": list(beam_options),
        }
        _require_unchanged(opened)
        commit.commit(out, committed, run=where)
    return jobs.Outcome(root=out, already=False, seconds=time.monotonic() - started)


def _open(settings: BuildSettings) -> _Opened:
    opened = tuple(sources.open_source(spec) for spec in settings.sources)
    stamps = tuple(_stamp(file) for source in opened for file in source.files)
    encoder = memory_fingerprint(settings.memory_encoder, settings.memory)
    retriever = retriever_fingerprint(settings.retriever)
    # Named in the plan, so that an interrupted build goes on with the same.
    backend = settings.retriever_backend or default_backend(settings.retriever)
    described = [
        {
            "format": source.format,
            "files": [
                {
                    "name": file.name,
                    "bytes": file.stat().st_size,
                    "sha256": fingerprint.digest_file(file),
                }
                for file in source.files
            ],
        }
        for source in opened
    ]
    return _Opened(
        sources=opened,
        stamps=stamps,
        retriever=retriever,
        memory_encoder=encoder,
        retriever_model=embed_shards.RetrieverModel(
            name=settings.retriever,
            fingerprint=retriever.hex,
            template=settings.retriever_template,
            backend=backend,
            device=settings.device,
        ),
        memory_model=encode_shards.MemoryModel(
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
            "sources": described,
            "retriever": retriever.description,
            "memory_encoder": encoder.description,
        },
    )


def _paths(opened: _Opened) -> list[str]:
    return [str(file) for source in opened.sources for file in source.files]


def _stamp(file: Path) -> tuple[int, int]:
    """Size and time of change, which tell that a file is not the one that was digested."""
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def _require_unchanged(opened: _Opened) -> None:
    """Refuse to put sources' digests beside passages of other bytes."""
    for path, stamp in zip(_paths(opened), opened.stamps, strict=True):
        if not Path(path).is_file() or _stamp(Path(path)) != stamp:
            raise errors.MismatchError(
                f"source {path} was changed while it was read; build from a copy that stays as it is, "
                "in another folder"
            )


def _require_folder(out: Path) -> None:
    existing = next(path for path in (out, *out.resolve().parents) if path.exists())
    if not existing.is_dir():
        raise errors.CorpusError(f"output {existing} is a file, wanted a folder that is new or empty")


def _remove_old_work(out: Path) -> None:
    """What a build that was killed after its commit left; anything else in `work/` is another job's."""
    plan_file = work.folder(out) / work.PLAN
    if plan_file.exists() and "sources" in files.read_json(plan_file):
        with jobs.lock(out):
            commit.remove_work(out)


def _already_built(out: Path, identity: Mapping[str, Any]) -> bool:
    if not (out / manifest.NAME).exists():
        return False
    found = manifest.Manifest.read(out)
    built = {**found.settings, "sources": list(found.sources)}
    # Nothing more is to be written: batches that no shard will be mixed with do not matter, nor does what
    # ran the retriever when there was no choice.
    now = identity["settings"]
    built["settings"] = {
        "retriever_backend": now["retriever_backend"],
        **built["settings"],
        memory_spec.BATCHING: now[memory_spec.BATCHING],
    }
    jobs.require_same(out, built, identity, "was built")
    return True


def _check_folder(out: Path, identity: Mapping[str, Any]) -> bool:
    """True where an interrupted run of the same build is to be gone on with."""
    if not (work.folder(out) / work.PLAN).exists():
        held = [path for path in out.iterdir() if path.name != manifest.WORK] if out.exists() else []
        if work.folder(out).exists():
            held += [path for path in work.folder(out).iterdir() if not _is_ours(path)]
        if held:
            raise errors.CorpusError(
                f"output folder {out} holds something else ({held[0].name}, ...), "
                "wanted one that is new, empty, or a corpus; nothing was changed"
            )
        return False
    jobs.require_same(out, files.read_json(work.folder(out) / work.PLAN), identity, "was begun")
    return True


def _is_ours(path: Path) -> bool:
    """What a build that was stopped before its plan was written may have left in `work/`."""
    return path.name == read_passages.SPLITS or path.name.endswith(files.PARTIAL_SUFFIX)


def _splits(out: Path, opened: _Opened, settings: BuildSettings, *, resumed: bool) -> list[sources.Split]:
    """The plan's splits; made once, since finding the streams of a dump may mean reading it.

    A resume reads the files that it was given, which have the digests of the plan's, wherever the
    interrupted run found those.
    """
    if resumed:
        before = read_passages.read_paths(out)
        now = dict(zip(before, _paths(opened), strict=True))
        return [replace(split, path=now[split.path]) for split in read_passages.read_splits(out)]
    return [split for source in opened.sources for split in source.splits(settings.split_bytes)]


def _require_room(out: Path, splits: Sequence[sources.Split], settings: BuildSettings) -> costs.CorpusBytes:
    """What the build is expected to take; refused where the disk cannot hold it."""
    need = plan.corpus_bytes(splits, settings)
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) if out.exists() else 0
    plan.require_room(need, out, already=written)
    return need


def _run_stages(
    settings: BuildSettings,
    opened: _Opened,
    splits: Sequence[sources.Split],
    stages: jobs.Stages,
    exact_limit: int,
) -> commit.Committed:
    root = stages.root
    stages.run(
        read_passages.ReadPassages(root=root, passage_words=settings.passage_words),
        len(splits),
        measure="source_bytes",
        total=sum(split.size_bytes for split in splits),
    )
    _require_unchanged(opened)
    receipts = list(work.read_receipts(root, read_passages.STAGE, len(splits)))
    _check_budget(receipts, settings.max_quarantined)
    count = sum(receipt.counts["passages"] for receipt in receipts)
    if count == 0:
        raise errors.CorpusError(f"no passages in {', '.join(settings.sources)}; is it the right format?")
    written = number_passages.write_parts(root, receipts)
    stages.run(number_passages.NumberPassages(root=root), written, measure="numbered", total=count)

    codec = codecs.by_name(settings.codec)
    grid = shards.ShardGrid(
        passages=count,
        shard_passages=settings.shard_passages
        or shards.choose_shard_passages(
            passages=count,
            max_tokens=settings.memory.max_tokens,
            token_bytes=codec.token_bytes(opened.width),
        ),
    )
    vectors_print = fingerprint.of(
        {
            "retriever": opened.retriever.hex,
            "template": settings.retriever_template,
            "dtype": settings.vector_dtype,
        }
    ).hex
    memory = MemoryPlan.of(
        encoder=opened.memory_encoder,
        memory=settings.memory,
        layout=memory_store.MemoryLayout(
            grid=grid, width=opened.width, max_tokens=settings.memory.max_tokens, codec=codec
        ),
    )
    committed = commit.Committed(
        identity=opened.identity,
        passage_words=settings.passage_words,
        vectors_fingerprint=vectors_print,
        retriever_fingerprint=opened.retriever.hex,
        vectors=vector_array.VectorLayout(grid=grid, dim=opened.dim, dtype=settings.vector_dtype),
        memory=memory,
    )
    parts = tuple(number_passages.parts(root))
    job = encode_shards.EncodeShards(
        root=root,
        parts=parts,
        encoder=opened.memory_model,
        memory_folder=memory.folder,
        memory=memory.layout,
        limit_seconds=settings.shard_timeout,
        embed=embed_shards.EmbedShards(
            root=root,
            parts=parts,
            retriever=opened.retriever_model,
            folder=manifest.vectors_folder(vectors_print),
            layout=committed.vectors,
        ),
    )
    vector_array.create(root / manifest.vectors_folder(vectors_print), committed.vectors)
    memory_version.encode(stages, memory, job)
    stages.run(
        index_vectors.IndexVectors(
            root=root, fingerprint=vectors_print, vectors=committed.vectors, exact_limit=exact_limit
        ),
        1,
        measure="passages",
        total=count,
        local=True,
    )
    return committed


def _check_budget(receipts: Sequence[Receipt], share: float) -> None:
    """Give up where so many pages are unreadable that something else must be wrong."""
    pages = sum(receipt.counts["pages"] for receipt in receipts)
    quarantined = sum(receipt.counts["quarantined"] for receipt in receipts)
    allowed = max(FREE_QUARANTINED, int(share * pages)) if share else 0
    if quarantined > allowed:
        first = next(note for receipt in receipts for note in receipt.notes)
        raise errors.CorpusError(
            f"{quarantined:,} of {pages:,} pages cannot be read, allowed are {allowed:,}; the first: "
            f"{first['title']!r}: {first['reason']}; raise --max-quarantined if that is as it should be"
        )
