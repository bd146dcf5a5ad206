"""Which rows a fetch reads, and where they go: arithmetic, for all of its passages at once.

Where each passage's rows go in the result is known before anything is read, so every passage is read
straight to its place, in whatever order.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from storage import errors, files, shard_files
from storage.memory_files import Run, Span
from storage.memory_rows import Found, Integers

# Adjacent passages are read by one call, up to this much, so that there is work for all threads.
RUN_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """The rows that are wanted of each passage, int64 [k]: in its shard, and how many."""

    firsts: Integers
    stops: Integers
    lengths: Integers

    def of(self, places: npt.NDArray[np.intp]) -> Wanted:
        """Those of some passages."""
        return Wanted(self.firsts[places], self.stops[places], self.lengths[places])


def wanted_rows(found: Found, tokens: slice | None) -> Wanted:
    """The rows of `tokens`, taken as Python slices a list.

    Raises:
        CorpusError: the slice has a step.
    """
    lengths = found.stops - found.firsts
    if tokens is None:
        return Wanted(found.firsts, found.stops, lengths)
    if tokens.step not in (None, 1):
        raise errors.CorpusError(f"tokens is {tokens}, wanted a slice of step 1")
    begins, ends = (_bound(bound, lengths) for bound in (tokens.start, tokens.stop))
    if begins is None:
        begins = np.zeros_like(lengths)
    ends = lengths if ends is None else np.maximum(begins, ends)
    return Wanted(found.firsts + begins, found.firsts + ends, ends - begins)


def _bound(bound: int | None, lengths: Integers) -> Integers | None:
    """An end of a slice, of sequences of these lengths."""
    if bound is None:
        return None
    # As a list does it; no passage is so long that a bound of this size means anything else.
    at = max(-(1 << 40), min(operator.index(bound), 1 << 40))
    return np.maximum(at + lengths, 0) if at < 0 else np.minimum(at, lengths)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be read.

    Attributes:
        runs: in the order of their places.
        size: bytes of them.
        asides: (target, source) of parts that are read whole, aside, and copied when they are right.
        again: (target, source) of passages that are asked for again.
    """

    runs: list[Run]
    size: int
    asides: list[tuple[memoryview, memoryview]]
    again: list[tuple[memoryview, memoryview]]


def plan(
    passages: Integers,
    found: Found,
    rows: Wanted,
    *,
    data: memoryview,
    at: Integers,
    row_bytes: int,
    chunk_rows: int,
    trusted: npt.NDArray[np.bool_] | None,
) -> Plan:
    """Plan a fetch.

    Args:
        passages: ids [k].
        found: where they lie.
        rows: what is wanted of each.
        data: the bytes to read into.
        at: int64 [k], where in them each passage begins.
        row_bytes: of a stored row.
        chunk_rows: rows that lie together in a file.
        trusted: bool [k], passages whose bytes need no look at their checksum; None: no part of a passage is
            wanted. A passage has one checksum: of the others parts are read with the whole, aside.
    """
    # By place, which is by id: neighbours become one call, and a disk is read in one direction. Python's own
    # integers: of a few dozen passages, loops over NumPy's take several times as long.
    order = range(len(passages)) if len(passages) == 1 else passages.argsort(kind="stable").tolist()
    ids, shards, ends, sums = (
        column.tolist() for column in (passages, found.shards, found.ends, found.checksums)
    )
    firsts, stops, starts = rows.firsts.tolist(), rows.stops.tolist(), at.tolist()
    parts = None
    if trusted is not None:
        parts = (~trusted & (rows.lengths < found.stops - found.firsts)).tolist()
        from_, to = found.firsts.tolist(), found.stops.tolist()
        wholes = (rows.lengths == found.stops - found.firsts).tolist()
    runs: list[Run] = []
    asides: list[tuple[memoryview, memoryview]] = []
    again: list[tuple[memoryview, memoryview]] = []
    size = 0
    spans: list[Span] = []
    run_shard = run_stop = -1
    run_bytes = run_pieces = 0
    last, last_target = -1, data[:0]
    for k in order:
        row, stop, passage, begin = firsts[k], stops[k], ids[k], starts[k]
        length = (stop - row) * row_bytes
        target = data[begin : begin + length]
        if passage == last:
            again.append((target, last_target))
            continue
        last, last_target = passage, target
        if not length:
            continue
        whole = True
        if parts is not None:
            whole = wholes[k]
            if parts[k]:
                everything = files.bytes_of(np.empty((to[k] - from_[k]) * row_bytes, np.uint8))
                skipped = (row - from_[k]) * row_bytes
                asides.append((target, everything[skipped : skipped + length]))
                row, stop, target, whole = from_[k], to[k], everything, True
                length = len(target)
        size += length
        shard = shards[k]
        pieces = 2 * ((stop - row) // chunk_rows + 2)
        if (
            run_stop != row
            or run_shard != shard
            or run_bytes + length > RUN_BYTES
            or run_pieces + pieces > shard_files.MAX_PIECES
        ):
            spans = []
            runs.append((shard, ends[k], spans))
            run_bytes = run_pieces = 0
        spans.append((passage, row, stop, target, whole, sums[k]))
        run_shard, run_stop = shard, stop
        run_bytes += length
        run_pieces += pieces
    return Plan(runs, size, asides, again)
