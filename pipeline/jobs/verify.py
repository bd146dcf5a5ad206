"""`verify` as a job: its units are dealt out by an engine. In one process it is `storage.verify`'s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pipeline.jobs import checking, job
from pipeline.units import progress
from pipeline.units.engines import Engine
from pipeline.units.stages import Stages
from storage import errors, shard_numbers
from storage.aliases import Json
from storage.folder import CorpusFolder
from storage.shard_numbers import ShardNumbers
from storage.verify import Verification, verify_corpus

# What the plan of a verification says.
_PLAN: Final = "verify"


def verify(
    corpus: CorpusFolder,
    *,
    full: bool,
    shards: Sequence[str] = (),
    engine: Engine,
    observer: progress.Observer | None = None,
) -> Verification:
    """Check a corpus, as `storage.verify.verify_corpus` does, by workers.

    What an interrupted run has read is not read again, unless somebody has touched it since.

    Args:
        corpus: a finished one.
        full: every byte is read.
        shards: of these alone, as `ShardNumbers.parse` takes them.
        engine: deals the files out.
        observer: shown the progress.

    Raises:
        CorpusError: as `verify_corpus`; another job is at work or unfinished.
    """
    wanted = ShardNumbers.parse(shards) if shards else None
    if not _readable(corpus):
        return verify_corpus(corpus, full=full)
    if wanted is not None:
        shard_numbers.require_there(corpus, wanted)
    with corpus.alone(checking=True):
        corpus.refresh()
        made = checking.stretches(corpus)
        begin(corpus, {_PLAN: {**checking.plan_of(corpus, made, wanted), "full": full}})
        found = checking.check(Stages(corpus, engine, observer), made, full=full, shards=wanted)
        corpus.work.remove()
        return found


def begin(corpus: CorpusFolder, plan: Json) -> None:
    """Lay down what is to be done. What a run of the same plan has left is gone on with.

    Raises:
        CorpusError: another job is unfinished.
    """
    if corpus.work.read_plan() != plan:
        job.require_none_begun(corpus)
        corpus.work.write_plan(plan)


def _readable(corpus: CorpusFolder) -> bool:
    """Is there a manifest that tells what is to be checked?"""
    try:
        corpus.refresh()
    except errors.DamagedError:
        return False
    return True
