"""Rows of memory out of mappings of their files: of passages whose bytes need no look at their checksum."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from retrieval import pools
from retrieval.memory_decoding import Decoding
from retrieval.memory_reading import TRIES
from storage import native
from storage.aliases import AnyArray
from storage.joined_memory import JoinedMemoryFiles
from storage.memory_files import Held, MemoryFiles
from storage.memory_rows import Integers
from storage.memory_store import MemoryLayout
from storage.native import mapped

_NOTHING: Final = np.zeros(0, np.intp)


class Mapped(NamedTuple):
    """Passages that come out of mappings, of which some may turn out to have to be read."""

    recipe: mapped.Recipe
    plan: mapped.Plan
    # What keeps the mappings.
    held: list[Held | bool]
    threads: pools.Pools

    def serve(self, values: AnyArray) -> npt.NDArray[np.intp]:
        """Put passages into `values` [n, width]; returns the places of those that are to be read."""
        recipe, plan, held, threads = self
        count = len(plan.offsets) - 1
        size = plan.total * recipe.value_bytes
        shares = min(pools.CACHE_THREADS, count, 1 + size // pools.CACHE_THREAD_BYTES)
        if shares <= 1:
            done = plan.serve(recipe, values, held)
        else:
            others = [threads.cache().submit(plan.serve, recipe, values, held) for _ in range(shares - 1)]
            try:
                done = plan.serve(recipe, values, held)
            finally:
                pools.raise_first([], started := [other for other in others if not other.cancel()])
            done += sum(other.result() for other in started)
        return _NOTHING if done == count else plan.left()


class Mappings:
    """Mappings of the files of one version, out of which rows come, decoded on the way. Thread-safe."""

    def __init__(
        self,
        opened: MemoryFiles | JoinedMemoryFiles,
        layout: MemoryLayout,
        decoding: Decoding,
        threads: pools.Pools,
        *,
        always: bool,
    ) -> None:
        """
        Args:
            opened: the version's files.
            layout: the version's.
            decoding, threads: of the reader.
            always: also what was never compared with its checksum.
        """
        self._files, self._decoding, self._threads, self._always = opened, decoding, threads, always
        self._row_bytes = layout.row_bytes
        # By whether rows are decoded.
        self._recipes: dict[bool, mapped.Recipe] = {}

    def plan(self, wanted: Integers, tokens: slice | None, decode: bool, apart: int) -> Mapped | None:
        """How those of the passages [k] that can come out of mappings do.

        Args:
            wanted: int64 [k]; the plan finds out whether they are there.
            tokens, decode: as of `MemoryReader.fetch`.
            apart: rows of the result from one passage to the next; 0: they lie back to back.

        Returns:
            None where none can, or one of them is not there, or `tokens` is no slice of step 1.
        """
        library = native.library()
        # A step is refused where rows are planned for reading.
        if library is None or (tokens is not None and tokens.step not in (None, 1)):
            return None
        recipe = self._recipes.get(decode)
        if recipe is None or recipe.library is not library:
            recipe = self._new_recipe(library, decode)
            if recipe is None:
                return None
        for _ in range(TRIES):
            plan = mapped.plan(
                library, self._files.segments(), wanted, tokens, apart=apart, always=self._always
            )
            if plan is None:
                return None
            held = [
                self._files.hold(segment, shard, address, library) for segment, shard, address in plan.shards
            ]
            if True in held:
                continue
            return Mapped(recipe, plan, held, self._threads) if any(held) else None
        return None

    def _new_recipe(self, library: native.Library, decode: bool) -> mapped.Recipe | None:
        """How rows come out of mappings; None where they are read and decoded one after the other."""
        coder = self._decoding.coder if decode else None
        if coder is None or coder.view_only:
            made: mapped.Recipe | None = mapped.copying(library, self._row_bytes)
        else:
            made = coder.recipe(library)
        if made is not None:
            self._recipes[decode] = made
        return made
