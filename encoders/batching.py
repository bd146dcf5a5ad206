"""Which passages of a shard run together, and padded to what: arithmetic without I/O.

XLA compiles one program per shape, so shapes come from a short ladder of lengths, each with two fixed
numbers of rows. What is chosen depends on the lengths and the settings alone, never on the machine's mood:
it decides rounding, and the same shard must give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

# Of what `plan` makes of the same arguments. It is in a job's plan, since shards that were encoded in other
# batches differ by rounding: a change here, or of how `encoders.gtr` calls it, wants another number.
VERSION: Final = 1

# Two rows of 304 tokens, for a CPU's caches; accelerators want far more to be busy (16,384, say).
# `benchmarks.encoder --shapes` tells what suits a machine.
DEFAULT_TOKEN_BUDGET = 608

# Beside full batches there are those of a quarter of the rows, for what is left of a shard and for the few
# passages of a length that most have not. A batch of any size costs an eighth of a full one beside its
# tokens: so they are taken where they save that, and most shards need few shapes.
SMALL = 4
BATCH_COST = 1 / 8


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One batch of static shape [rows, length].

    Args:
        passages: indices into the lengths given, at most `rows` of them, longest first; rows
            beyond are filler whose output is dropped.
        rows: the number of rows of the shape.
        length: the number of tokens each row is padded to.
    """

    passages: npt.NDArray[np.int64]
    rows: int
    length: int


@dataclass(frozen=True, kw_only=True)
class Waste:
    """Tokens that batches hold beside those of their passages.

    Args:
        padding: behind the passages' own tokens, up to their batch's length.
        filler: of rows without a passage.
    """

    padding: int
    filler: int


def bucket_lengths(max_tokens: int) -> tuple[int, ...]:
    """The padded lengths in use, ascending: fine near `max_tokens`, twice as coarse below 5/8.

    Steps are about a fortieth of `max_tokens`, since most passages of a corpus that is cut at a
    fixed number of words are nearly as long as the longest. 304 gives 26 lengths: 16, 32, ..., 176,
    192, 200, 208, ..., 304.

    Raises:
        ValueError: max_tokens is not positive.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}, wanted a positive number")
    top = -(-max_tokens // 8) * 8
    step = max(8, -(-max_tokens // (40 * 8)) * 8)
    lengths = []
    length = top
    while length > 0:
        lengths.append(length)
        length -= step if length - step >= top * 5 / 8 else 2 * step
    return tuple(reversed(lengths))


def plan(
    lengths: Sequence[int] | npt.NDArray[np.integer], *, max_tokens: int, token_budget: int
) -> list[Batch]:
    """The cheapest batches that hold every passage exactly once, longest passages first.

    Passages are sorted by length (equal lengths stay in order) and cut into runs. A run takes the lowest
    bucket that holds its longest passage, and rows = max(1, token_budget // bucket) or a quarter of that;
    only a last run may be shorter than its rows. Of all such cuts the one with the least sum of

        rows * bucket + token_budget / 8

    is taken, by dynamic programming from the shortest passage up. What attention costs more for longer
    rows is left out: it would change no choice between runs of the same bucket, and few others.

    Args:
        lengths: tokens of each passage, each in 1..max_tokens.
        max_tokens: decides the buckets; see `bucket_lengths`.
        token_budget: tokens of a batch, filler and padding included; at least one row is taken.

    Returns:
        The batches. They depend on the arguments alone.

    Raises:
        ValueError: a length is outside 1..max_tokens, or the budget is not positive.
    """
    if token_budget < 1:
        raise ValueError(f"token_budget is {token_budget}, wanted a positive number")
    buckets = np.asarray(bucket_lengths(max_tokens))
    counts = np.asarray(lengths, dtype=np.int64).reshape(-1)
    wrong = np.flatnonzero((counts < 1) | (counts > max_tokens))
    if wrong.size:
        raise ValueError(f"passage {wrong[0]} has {counts[wrong[0]]:,} tokens, wanted 1 to {max_tokens:,}")
    # Descending, so that a run's first passage decides its bucket, and a run is known by where it begins.
    order = np.argsort(-counts, kind="stable")
    padded = buckets[np.searchsorted(buckets, counts[order])].tolist()
    # costs[i] is that of the passages from the i-th longest on, rows[i] those of the batch that it begins.
    total = len(padded)
    costs, rows = [0.0] * (total + 1), [0] * total
    for start in range(total - 1, -1, -1):
        full = max(1, token_budget // padded[start])
        choices = [
            (size * padded[start] + token_budget * BATCH_COST + costs[min(start + size, total)], size)
            for size in {full, max(1, full // SMALL)}
        ]
        # Of equal costs the fewer rows, whatever the order of the set: tuples compare by their second item.
        costs[start], rows[start] = min(choices)
    batches = []
    start = 0
    while start < total:
        stop = min(start + rows[start], total)
        batches.append(Batch(passages=order[start:stop], rows=rows[start], length=padded[start]))
        start = stop
    return batches


def capped(batch: Batch, most_tokens: int) -> list[Batch]:
    """A batch as batches of at most `most_tokens` tokens, or of one row, of the same length."""
    rows = max(1, min(batch.rows, most_tokens // batch.length))
    starts = range(0, len(batch.passages), rows)
    return [
        Batch(passages=batch.passages[start : start + rows], rows=rows, length=batch.length)
        for start in starts
    ]


def waste(batches: Sequence[Batch], lengths: npt.NDArray[np.integer]) -> Waste:
    """What `plan` made of these lengths costs beside their tokens."""
    filler = sum((batch.rows - len(batch.passages)) * batch.length for batch in batches)
    computed = sum(batch.rows * batch.length for batch in batches)
    return Waste(padding=computed - filler - int(np.sum(lengths)), filler=filler)
