"""`repair`: damaged files are made again from what is whole, and put in place if they come out the same.

Bytes depend on the plan alone, so a shard that is encoded again on the same kind of machine is the shard
that was there. What comes out different is not put in place: then a library or the machine has changed,
and the version is to be encoded again as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.components import index, neighbours, tokens, vectors
from pipeline.components.base import Remaking
from pipeline.components.memory import version as memory
from pipeline.jobs import job
from pipeline.units import failures, progress
from pipeline.units.stages import Stages
from storage import components
from storage.components import Component
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.verify import verify_corpus

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
    beam_options: Sequence[str] = (),
    observer: progress.Observer | None = None,
) -> Repaired:
    """Find what is damaged, and make it again.

    Args:
        corpus: a finished one.
        memory_encoder, retriever, tokenizer: where these are, if not where the build found them.
        beam_options: Beam's own options.
        observer: shown the progress.

    Raises:
        CorpusError: the manifest itself is damaged, or another job is at work or unfinished.
    """
    job.check_names()
    stages = Stages(corpus, beam_options, observer)
    with corpus.alone():
        job.require_none_begun(corpus)
        found = verify_corpus(corpus, full=True)
        if not found.damaged:
            return Repaired(left=found.unreadable)
        corpus.work.write_plan({_PLAN: True})
        models = {"memory_encoder": memory_encoder, "retriever": retriever, "tokenizer": tokenizer}
        remaking = Remaking(
            corpus=corpus,
            stages=stages,
            wanted={entry.path: entry for entry in found.entries},
            models={what: name for what, name in models.items() if name is not None},
        )
        _remake(remaking, found.entries)
        for path in list(remaking.wanted):
            remaking.give_up(path, "cannot be made again from the rest; restore it from a copy")
        known = {entry.path for entry in found.entries}
        left = [*remaking.left, *(line for line in found.damaged if line.split(" ")[0] not in known)]
        left += found.unreadable
        corpus.work.remove()
        return Repaired(repaired=remaking.repaired, left=left)


def _remake(remaking: Remaking, damaged: Iterable[FileEntry]) -> None:
    corpus = remaking.corpus
    paths = [entry.path for entry in damaged]
    for component, remake in _REMAKE:
        names: Mapping[str, FileEntry] = corpus.manifest.of(component)
        # Versions before those that were recoded from them.
        for name in sorted(names, key=lambda name: memory.recodings(corpus, name)):
            prefix = f"{component.folder(name)}/"
            own = [path for path in paths if path.startswith(prefix) and path != component.card_path(name)]
            if not own:
                continue
            # One kind of damage that cannot be repaired must not keep others from being.
            try:
                remake(remaking, name, own)
            except Exception as e:
                if failures.kind(e) == failures.BUG:
                    raise
                for path in own:
                    remaking.give_up(path, failures.message(e))
