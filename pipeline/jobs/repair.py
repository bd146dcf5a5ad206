"""`repair`: damaged files are made again from what is whole, and put in place if they come out the same.

Bytes depend on the plan alone, so a shard that is encoded again on the same kind of machine is the shard
that was there. What comes out different is not put in place: then a library or the machine has changed,
and the version is to be encoded again as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pipeline.components import neighbours, tokens, vectors
from pipeline.components.base import Remaking
from pipeline.components.index import build as index
from pipeline.components.index import extend
from pipeline.components.memory import version as memory
from pipeline.jobs import checking, job, verify
from pipeline.units import engines, failures, progress
from pipeline.units.engines import Engine
from pipeline.units.stages import Stages
from storage import components, segments, shard_numbers
from storage.components import Component
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.segments import Home
from storage.shard_numbers import ShardNumbers

# How each component makes its files again: the names of the damaged ones of one folder. In this order: the
# index is made from vectors. What is not here is restored from a copy alone.
_REMAKE: Final[tuple[tuple[Component[Any], Callable[[Remaking, str, list[str]], None]], ...]] = (
    (components.TOKENS, tokens.remake),
    (components.VECTORS, vectors.remake),
    (components.MEMORY, memory.remake),
    (components.INDEX, index.remake),
    (components.NEIGHBOURS, neighbours.remake),
)
# What the plan of a repair says.
_PLAN: Final = "repair"


@dataclass(kw_only=True)
class Repaired:
    """`repaired` are paths of files that are as they were again; `left` says of each other why not."""

    repaired: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def repair(
    corpus: CorpusFolder,
    *,
    memory_encoder: str | None = None,
    retriever: str | None = None,
    tokenizer: str | None = None,
    database: str | None = None,
    shards: Sequence[str] = (),
    engine: Engine | None = None,
    observer: progress.Observer | None = None,
) -> Repaired:
    """Find what is damaged, and make it again.

    What an interrupted repair has read and made is gone on with.

    Args:
        corpus: a finished one.
        memory_encoder, retriever, tokenizer: where these are, if not where the build found them.
        database: where the corpus is in which tables of neighbours were searched, if not where it was.
        shards: look at these alone, as `ShardNumbers.parse` takes them; none: at every file.
        engine: deals the units out to workers, those of the search for damage too; None: this process.
        observer: shown the progress.

    Raises:
        CorpusError: the manifest itself is damaged, there are no such shards, or another job is at work or
            unfinished.
    """
    job.check_names()
    wanted = ShardNumbers.parse(shards) if shards else None
    stages = Stages(corpus, engine or engines.chosen(), observer)
    with corpus.alone():
        corpus.refresh()
        if wanted is not None:
            shard_numbers.require_there(corpus, wanted)
        made = checking.stretches(corpus)
        verify.begin(corpus, {_PLAN: checking.plan_of(corpus, made, wanted)})
        found = checking.check(stages, made, full=True, shards=wanted)
        if not found.damaged:
            job.clear(corpus)
            return Repaired(left=found.unreadable)
        models = {
            "memory_encoder": memory_encoder,
            "retriever": retriever,
            "tokenizer": tokenizer,
            "database": database,
        }
        given = {what: name for what, name in models.items() if name is not None}
        known = {entry.path for entry in found.entries}
        repaired: list[str] = []
        left: list[str] = []
        broken = False
        # In order: an index is made from those before it. What lies in no generation is the build's.
        homes = list(segments.homes(corpus))
        others = tuple(home.path("") for home in homes if home.prefix)
        for home in homes:
            prefix = home.path("")
            own = [
                entry
                for entry in found.entries
                if entry.path.startswith(prefix) and (prefix or not entry.path.startswith(others))
            ]
            if not own:
                continue
            entries = [replace(entry, path=entry.path.removeprefix(prefix)) for entry in own]
            if home.prefix:  # by which workers see that they see the folder
                home.folder.work.write_plan({_PLAN: home.number})
            remaking = Remaking(
                corpus=home.folder,
                stages=Stages(home.folder, stages.engine, stages.observer),
                wanted={entry.path: entry for entry in entries},
                models=given,
                compacted=corpus.manifest.compacted is not None,
            )
            broken |= _remake(remaking, entries, home, corpus)
            for path in list(remaking.wanted):
                remaking.give_up(path, "cannot be made again from the rest; restore it from a copy")
            repaired += map(home.path, remaking.repaired)
            left += map(home.path, remaking.left)
        left += [line for line in found.damaged if line.split(" ")[0] not in known]
        left += found.unreadable
        if not broken:
            job.clear(corpus)
        return Repaired(repaired=repaired, left=left)


def _remake(remaking: Remaking, damaged: Iterable[FileEntry], home: Home, whole: CorpusFolder) -> bool:
    """Have each component make its files again.

    Returns:
        Whether a machine or a store failed: then what is made stays, for the next repair.
    """
    corpus = remaking.corpus
    paths = [entry.path for entry in damaged]
    broken = False
    for component, remake in _REMAKE:
        names: Mapping[str, FileEntry] = home.manifest.of(component)
        # Versions before those that were recoded from them.
        for name in sorted(names, key=lambda name: memory.recodings(corpus, name)):
            prefix = f"{component.folder(name)}/"
            own = [path for path in paths if path.startswith(prefix) and path != component.card_path(name)]
            if not own:
                continue
            # One kind of damage that cannot be repaired must not keep others from being.
            try:
                if component is components.INDEX and home.number:
                    extend.remake_extended(remaking, name, own, whole, home.number)
                else:
                    remake(remaking, name, own)
            except Exception as e:
                kind, why = failures.kind(e), failures.message(e)
                if kind == failures.BUG:
                    raise
                if kind == failures.FAILED:
                    broken = True
                    why = f"{why}; what is made is kept: run the same command again"
                for path in own:
                    remaking.give_up(path, why)
    return broken
