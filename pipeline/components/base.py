"""What the components of a corpus have in common when they are committed, and when they are made again."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np

from encoders import batching
from encoders.memory_spec import BATCHING
from pipeline.components import stored_models as stored_models
from pipeline.components.shards import ShardCounts
from pipeline.units.stage import Stage
from storage import errors, passage_table, work_folder
from storage.components import AnyComponent
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Receipt
from storage.shards import ShardGrid

if TYPE_CHECKING:
    from pipeline.units.engines import AnyJob
    from pipeline.units.stages import Stages

# Whatever its units count: of those who run, watch or list stages and look into no count of their own.
AnyStage: TypeAlias = Stage[Any]
# Where things are made again before they are put in place.
STAGED: Final = f"{work_folder.NAME}/repair"
# Why a file that is made again may be another one.
CHANGED: Final = (
    "a library, driver or the kind of machine has changed since it was written: repair it where it was "
    "written, or re-encode the corpus"
)
# Beside a stage's receipts: which folder its units are made in.
_INTO: Final = "into.json"


class Commit(Protocol):
    """A component that is about to be committed. It sees every shard's receipt once, and keeps sums."""

    @property
    def component(self) -> AnyComponent:
        """Whose row of the table this is."""

    def add(self, receipt: Receipt[ShardCounts]) -> None:
        """Take note of a shard; in order.

        Raises:
            CorpusError: the shard is not as it was planned.
            DamagedError: what it wrote does not go with the rest.
        """

    def finish(self) -> tuple[str, FileEntry]:
        """Write what speaks of the whole component, its card last. Returns its name and the card's entry."""


@dataclass(kw_only=True)
class Remaking:
    """Damaged files that are made again, and where.

    Each component makes its own where `staged` says, from what is whole, and offers what it has made: it is
    put in place if it comes out as the file that was there.

    Attributes:
        corpus: whose files they are.
        stages: runs what makes them.
        wanted: the damaged files that are neither repaired nor given up yet, by path.
        models: names or folders of the "memory_encoder", the "retriever" and the "tokenizer", where they are
            not to be those that the build found, and of the "database" of a table of neighbours.
        compacted: has a compaction dropped what passages said? Then what was made of that cannot be again.
    """

    corpus: CorpusFolder
    stages: Stages
    wanted: dict[str, FileEntry]
    models: Mapping[str, str]
    compacted: bool = False
    repaired: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def staged(self, name: str) -> str:
        """Where a file or folder of the corpus is made again, below the corpus."""
        return f"{STAGED}/{name}"

    def model(self, what: str, version: str) -> str:
        """Where a model is: as named, or where the run that wrote a version found it."""
        return self.models.get(what) or built_with(self.corpus, what, version)

    def run(self, stage: AnyStage, job: AnyJob, shards: Sequence[int], units: int, into: str) -> None:
        """Run some of a stage's units, whose files go below `into`; those that an interrupted repair has made
        are not made again."""
        work = self.corpus.work
        begun, marked = {"into": into}, f"{stage.name}-{_INTO}"
        try:
            same = work.read(marked) == begun
        except (FileNotFoundError, errors.CorpusError):
            same = False
        if not same:
            # Receipts of another version's shards must not be taken for these.
            work.forget_stage(stage.name)
            work.write(marked, begun)
        self.stages.run(stage, job, units, total=len(shards), only=shards)

    def gone(self, grid: ShardGrid, shard: int) -> int:
        """How many passages of a shard a compaction has emptied."""
        if not self.compacted:
            return 0
        first, stop = grid.bounds(shard)
        rows = self._table.take(np.arange(first, stop), columns=list(passage_table.EMPTIED))
        return int(passage_table.emptied(rows).sum())

    @functools.cached_property
    def _table(self) -> passage_table.PassageTable:
        corpus = self.corpus
        return passage_table.PassageTable(corpus.root, corpus.passages.parts, ensure=corpus.ensure)

    def give_up_emptied(self, grid: ShardGrid, damaged: Mapping[str, int]) -> list[int]:
        """Give up files that hold something of each passage, gone or not, where text of some is gone.

        Args:
            grid: of the shards.
            damaged: files, by their paths the shards that they are of.

        Returns:
            The shards that can be made again, ascending.
        """
        gone = {shard: self.gone(grid, shard) for shard in sorted(set(damaged.values()))}
        for path, shard in damaged.items():
            if gone[shard]:
                self.give_up(
                    path,
                    f"shard {shard} has rows of {gone[shard]:,} passages whose text a compaction dropped, "
                    "and they cannot be made again; restore it from a copy, or build the corpus anew",
                )
        return [shard for shard, count in gone.items() if not count]

    def give_up(self, path: str, why: str) -> None:
        if self.wanted.pop(path, None) is not None:
            self.left.append(f"{path}: {why}")

    def offer(self, path: str, made: Path, otherwise: str = CHANGED) -> None:
        """Put a file in place, if it is wanted and is the one that was there.

        Args:
            path: of the file.
            made: what was made again.
            otherwise: why it may be another one.
        """
        entry = self.wanted.get(path)
        if entry is None:
            return
        if not self.corpus.take(made, entry):
            self.give_up(path, f"made again it is another file; {otherwise}")
            return
        del self.wanted[path]
        self.repaired.append(path)


def built_with(corpus: CorpusFolder, what: str, version: str | None = None) -> str:
    """Where a model was found, when a version or the corpus was written.

    Args:
        corpus: the corpus.
        what: "memory_encoder", "retriever" or "tokenizer".
        version: of the memory, which may have been written later; None: the build.

    Raises:
        CorpusError: it is not known.
    """
    runs = [None if version is None else corpus.run(version), corpus.run()]
    for run in runs:
        if run is not None and (found := getattr(run, what)) is not None:
            return str(found)
    raise errors.CorpusError(f"it is not known where the {what} of {corpus} lies; name it")


def require_batching(settings: Mapping[str, object]) -> None:
    """Refuse what other batches would round differently, before it is computed for nothing.

    Of what was written before they were numbered it is tried: its bytes will tell.
    """
    written = settings.get(BATCHING, batching.VERSION)
    if written != batching.VERSION:
        raise errors.CorpusError(
            f"it was computed in batches of version {written}, this memcorpus makes version "
            f"{batching.VERSION}, which round differently: repair it with the memcorpus that wrote it, or "
            "encode the corpus again"
        )
