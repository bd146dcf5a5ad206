"""`open_writer`: what a caller wants written, against what is there; the plan comes before any shard."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from storage import codec_parameters, components, errors, locks, memory_store, remote
from storage.aliases import AnyArray
from storage.folder import CorpusFolder
from storage.passage_table import PassageTable
from storage.writer import given, memory_writer, shards
from storage.writer.given import Source
from storage.writer.memory_writer import MemoryWriter
from storage.writer.plan import Asked, WriterPlan, is_writers


def open_writer(
    folder: str | Path,
    *,
    width: int | None = None,
    max_tokens: int | None = None,
    encoder: str | Mapping[str, object] | None = None,
    codec: str | None = None,
    keys: Iterable[str] | None = None,
    texts: Iterable[str] | None = None,
    passages: int | None = None,
    shard_passages: int | None = None,
    sample: Any = None,
    parameters: Mapping[str, AnyArray] | None = None,
) -> MemoryWriter:
    """Begin to write a memory version, or go on with one that is begun: a new corpus, or one more version.

    Args:
        folder: the corpus, on a local disk: new or empty, unfinished by a writer, or finished by anybody.
        width: dimensions d of a token's states; of several layers together, layers times width.
        max_tokens: most tokens of a passage.
        encoder: what decides the states, in words or as an object that JSON holds: model, revision, layers.
            Version and fingerprint are made of it: other states want another description.
        codec: how states are stored, one of `storage.codecs.NAMES`; None: bfloat16.
        keys: of a new corpus: a text for each passage, in order of the ids, none twice. None: the ids.
        texts: of a new corpus: a text for each passage, where readers want it.
        passages: of a new corpus without keys and texts: how many there are.
        shard_passages: passages of a shard, the unit that is written, and done again after a kill; None: as
            many as make 512 MiB.
        sample: states [n, width] that the codec is trained on, where it is of those that are (int8, pq...),
            when the version is begun.
        parameters: such a codec's parameters instead, as `storage.codecs.by_name(codec).train(sample)` gives.

    Returns:
        The writer. While one is open no other job may change the corpus; other writers of the same may.

    Raises:
        CorpusError: something is missing or out of range, the folder holds something else, another job is at
            work; what was there is untouched.
        MismatchError: what is begun there was begun with other arguments.
        DamagedError: something that an earlier run wrote has changed.
    """
    asked = Asked(
        width=width, max_tokens=max_tokens, encoder=encoder, codec=codec, shard_passages=shard_passages
    )
    source = Source(keys=keys, texts=texts, passages=passages)
    if remote.is_remote(folder):
        raise errors.CorpusError(f"corpus {folder}: a writer wants a local folder")
    opened = remote.open_folder(folder)
    opened.require_folder()
    made = not opened.root.exists()
    opened.root.mkdir(parents=True, exist_ok=True)
    lock = locks.Shared(opened.root, f"another job is at work in {opened.root}; wait for it, or end it")
    try:
        # One at a time here; whoever waited finds the plan of the first.
        with locks.waiting(opened.work.path):
            try:
                return _open(opened, asked, source, sample, parameters, lock)
            finally:
                if opened.work.is_empty():
                    opened.work.path.rmdir()
    except BaseException:
        lock.release()
        if made and not opened.work.has_plan():
            shutil.rmtree(opened.root, ignore_errors=True)
        raise


def _open(
    corpus: CorpusFolder,
    asked: Asked,
    source: Source,
    sample: Any,
    parameters: Mapping[str, AnyArray] | None,
    lock: locks.Shared,
) -> MemoryWriter:
    begun = corpus.work.read_plan()
    if corpus.is_finished():
        corpus.refresh()
        if begun is None or begun.get("version") in corpus.manifest.versions:
            begun = None  # of a job that was killed after its commit
    if begun is not None:
        if not is_writers(begun):
            raise errors.CorpusError(
                f"another job is unfinished in {corpus}: finish it by the command that began it, or drop it "
                "by `memcorpus gc --unfinished`"
            )
        plan = WriterPlan.from_json(begun, f"the plan in {corpus}")
        asked.require_same(plan, str(corpus))
        if plan.new and source.said and source.digest() != given.Given.read(corpus).digest:
            raise errors.MismatchError(
                f"keys, texts or the number of passages are not those that {corpus} was begun with; give the "
                "same ones, or none, to go on"
            )
        if not plan.new:
            _require_own(corpus, source)
        return _writer(corpus, plan, lock, published=False)
    if corpus.is_finished():
        if corpus.manifest.generations:
            raise errors.CorpusError(
                f"{corpus} was updated: a writer's version is of the passages as they were built; write it "
                "before an update, or into a corpus that was built anew"
            )
        _require_own(corpus, source)
        plan = asked.plan(corpus.passages.passages, str(corpus), new=False)
        if plan.version in corpus.manifest.versions:
            plan = _published(corpus, plan)
            asked.require_same(plan, str(corpus), published=True)
            memory_writer.clear(corpus, plan.version)
            return _writer(corpus, plan, lock, published=True)
    else:
        others = {path.name for path in corpus.root.iterdir()} - {corpus.work.path.name}
        if others and not given.is_begun(corpus):
            raise errors.CorpusError(
                f"{corpus} holds {min(others)!r}, wanted a new or empty folder, or one that a writer began"
            )
        # Before anything else is written: what is wrong with these needs no keys.
        asked.plan(source.passages or 1, str(corpus), new=True)
    return _begin(corpus, asked, source, sample, parameters, lock)


def _begin(
    corpus: CorpusFolder,
    asked: Asked,
    source: Source,
    sample: Any,
    parameters: Mapping[str, AnyArray] | None,
    lock: locks.Shared,
) -> MemoryWriter:
    """Passages, arrays and codec; the plan last."""
    new = not corpus.is_finished()
    codec = asked.plan(1, str(corpus), new=new).layout.codec
    made = _parameters(asked, sample, parameters)
    if new:
        _forget(corpus)  # what a writer left that was killed here
    try:
        count = given.write(corpus, source).passages if new else corpus.passages.passages
        plan = asked.plan(count, str(corpus), new=new)
        folder = corpus.path(plan.folder)
        shutil.rmtree(folder, ignore_errors=True)  # of a writer that was killed here
        memory_store.create(folder, plan.layout)
        codec_parameters.write(folder, codec, made)
    except BaseException:
        if new:
            _forget(corpus)
        raise
    corpus.work.forget_stage(shards.STAGE)
    corpus.work.open_stage(shards.STAGE)
    corpus.work.write_plan(plan.to_json())
    return _writer(corpus, plan, lock, published=False)


def _forget(corpus: CorpusFolder) -> None:
    """Take away what a writer has begun and laid down no plan of."""
    for component in (components.MEMORY, components.PASSAGES):
        shutil.rmtree(corpus.path(component.noun), ignore_errors=True)
    given.forget(corpus)


def _parameters(asked: Asked, sample: Any, parameters: Mapping[str, AnyArray] | None) -> dict[str, AnyArray]:
    plan = asked.plan(1, "", new=True)
    codec, width = plan.layout.codec, plan.layout.width
    if not codec.trained:
        if parameters:
            raise errors.CorpusError(f"codec {codec.name} has no parameters; leave them out")
        return {}
    if parameters is None:
        if sample is None:
            raise errors.CorpusError(
                f"codec {codec.name} is trained: give `sample`, states [n, {width}] of this encoder, about "
                f"{codec.sample_tokens(width):,} tokens, or its `parameters`"
            )
        values = shards.states(sample, width, max(1, len(sample)), "the sample")
        parameters = codec.train(np.ascontiguousarray(values, np.float32))
    codec.bind(width, parameters)  # which judges them
    return dict(parameters)


def _published(corpus: CorpusFolder, plan: WriterPlan) -> WriterPlan:
    """The plan of a version that is there: its shards may be of another size."""
    layout = corpus.memory(plan.version).layout
    return WriterPlan(encoder=plan.encoder, layout=layout, new=False)


def _require_own(corpus: CorpusFolder, source: Source) -> None:
    """Passages that are there need not be given again; where they are, they must be the same.

    Raises:
        CorpusError: no writer made this corpus.
        MismatchError: they are others.
    """
    if not source.said:
        return
    digest = corpus.manifest.built.get(given.DIGEST)
    if digest is None:
        raise errors.CorpusError(f"{corpus} has passages of its own: leave out keys, texts and passages")
    if source.digest() != digest:
        raise errors.MismatchError(
            f"keys, texts or the number of passages are not those of {corpus}; leave them out, or take "
            "another folder"
        )


def _writer(corpus: CorpusFolder, plan: WriterPlan, lock: locks.Shared, *, published: bool) -> MemoryWriter:
    parts = given.Given.read(corpus).parts if plan.new else corpus.passages.parts
    layout = plan.layout
    parameters = codec_parameters.load(corpus.path(plan.folder), layout.codec, layout.width)
    return MemoryWriter(
        corpus,
        plan,
        PassageTable(corpus.root, parts),
        digests=codec_parameters.digests(parameters),
        published=published,
        lock=lock,
    )
