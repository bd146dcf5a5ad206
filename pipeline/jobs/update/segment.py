"""The segment of a generation: the stages of a build over the passages that are new."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.components import tokens, vectors
from pipeline.components.memory import encode, recode
from pipeline.components.memory import version as memory_version
from pipeline.components.memory.version import CommitMemory, MemoryPlan
from pipeline.components.passages import number, read, select
from pipeline.components.passages.commit import CommitPassages
from pipeline.components.passages.read import ReadCounts
from pipeline.jobs import commit, job
from pipeline.jobs.update.bring import Wanted
from pipeline.jobs.update.inputs import Inputs
from pipeline.units.stages import Stages
from storage import codec_parameters, components, errors, run_statistics, vector_array
from storage.components import AnyComponent, MemoryCard
from storage.components.memory import version_name
from storage.files import FileEntry
from storage.folder import CorpusFolder

# The stages of a folder.
StagesOf = Callable[[CorpusFolder], Stages]
Cards = dict[str, dict[str, FileEntry]]


def make(
    inputs: Inputs, stages_of: StagesOf, dump: CorpusFolder, firsts: tuple[int, ...], count: int
) -> Cards:
    """Write all components of the segment but its index.

    Args:
        inputs: of the update.
        stages_of: the stages of a folder.
        dump: where the new dump was read.
        firsts: the first row of each of its splits.
        count: passages that are new.

    Returns:
        The cards, by noun and name.
    """
    cards = _passages_and_first(inputs, stages_of, dump, firsts, count)
    for wanted in inputs.chosen.versions[1:]:
        cards[components.MEMORY.noun] |= _version(inputs, stages_of, cards, wanted, count)
    return cards


def drop_origins(inputs: Inputs, cards: Cards) -> None:
    """Take away versions that were written for those that were recoded from them."""
    segment = inputs.segment({})
    for wanted in inputs.chosen.versions:
        if not wanted.kept and wanted.version in cards.get(components.MEMORY.noun, {}):
            del cards[components.MEMORY.noun][wanted.version]
            segment.remove_folder(components.MEMORY.folder(wanted.version))
            segment.forget_run(wanted.version)


def _passages_and_first(
    inputs: Inputs, stages_of: StagesOf, dump: CorpusFolder, firsts: tuple[int, ...], count: int
) -> Cards:
    """Passages, tokens, vectors and the memory of the first version: a build's stages, and its commit."""
    primary, segment = inputs.chosen.versions[0], inputs.segment({})
    work, cutter, settings = segment.work, inputs.opened.tokenizer, inputs.built
    plan = _plan(inputs, primary, count, None)
    card = inputs.home.card(components.VECTORS, inputs.vectors_fingerprint)
    embedding = vectors.VectorsPlan(
        retriever=inputs.opened.retriever,
        template=settings.retriever_template,
        layout=vector_array.VectorLayout(grid=plan.layout.grid, dim=card.layout.dim, dtype=card.layout.dtype),
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
    read.write_splits(work, splits, inputs.opened.paths)
    stages = stages_of(segment)
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
    numbering = number.NumberPassages(corpus=segment, offset=inputs.given)
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
            retriever=inputs.opened.retriever_model,
            folder=embedding.folder,
            layout=embedding.layout,
        ),
    )
    memory_version.make(stages, plan, shards)
    splitter = dict(inputs.home.card(components.PASSAGES).splitter)
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
            sources=tuple(str(Path(path).resolve()) for path in inputs.opened.paths),
            resumed=False,
        )


def _version(
    inputs: Inputs,
    stages_of: StagesOf,
    cards: Mapping[str, Mapping[str, FileEntry]],
    wanted: Wanted,
    count: int,
) -> dict[str, FileEntry]:
    """Write the memory of a further version. Returns its card's entry."""
    segment = inputs.segment(cards)
    there = commit.written(segment, [(components.MEMORY, wanted.version)], wanted.version)
    if there is not None:
        return there[components.MEMORY.noun]
    origin = None if wanted.card.origin is None else version_name(wanted.card.origin)
    from_card = None
    if wanted.model is None:
        assert origin is not None
        from_card = segment.memory(origin)
    plan = _plan(inputs, wanted, count, from_card)
    shards: encode.EncodeShards | recode.RecodeShards
    where: dict[str, Any]
    if wanted.model is None:
        assert origin is not None
        shards = recode.RecodeShards(
            corpus=segment,
            origin=origin,
            memory_folder=plan.folder,
            memory=plan.layout,
            limit_seconds=inputs.built.shard_timeout,
        )
        where = {"origin": origin}
    else:
        shards = encode.EncodeShards(
            corpus=segment,
            parts=segment.passages.parts,
            encoder=wanted.model,
            memory_folder=plan.folder,
            memory=plan.layout,
            limit_seconds=inputs.built.shard_timeout,
        )
        where = {"memory_encoder": wanted.model.name}
    commit.forget_others(segment, plan.folder, plan.layout.grid.shards)
    stages = stages_of(segment)
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


def _plan(inputs: Inputs, wanted: Wanted, count: int, origin: MemoryCard | None) -> MemoryPlan:
    """What is to be written. Parameters of a trained codec are the version's own."""
    plan = wanted.plan(count, inputs.built.shard_passages, origin)
    if not wanted.codec.trained:
        return plan
    card, folder = wanted.card, components.MEMORY.folder(wanted.version)
    source = inputs.home.folder.path(folder)
    coder = codec_parameters.read(source, wanted.codec, card.layout.width, card.codec_parameters)
    return replace(plan, parameters=coder.parameters)
