"""Which passages of a shard run together, and padded to what: arithmetic without I/O.

XLA compiles one program per shape, so shapes come from a short ladder of lengths, each with one
fixed number of rows. On a CPU, batches of similar length beat both packing and padding to the
longest (MEASURED: The encoder on this CPU).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# CPUs: 608 and 1,216 tokens a batch were alike on one with AMX, and 608 was 1.1 times as fast on one
# with AVX-512 only. Accelerators want far more to be busy (16,384, say; not measured here).
DEFAULT_TOKEN_BUDGET = 1216


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


def bucket_lengths(max_tokens: int) -> tuple[int, ...]:
    """The padded lengths in use, ascending: fine near `max_tokens`, twice as coarse below 5/8.

    Steps are about a twentieth of `max_tokens`, since most passages of a corpus that is cut at a
    fixed number of words are nearly as long as the longest. 304 gives 13 lengths: 32, 64, 96, 128,
    160, 192, 208, ..., 304.

    Raises:
        ValueError: max_tokens is not positive.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}, wanted a positive number")
    top = -(-max_tokens // 8) * 8
    step = max(8, -(-max_tokens // (20 * 8)) * 8)
    lengths = []
    length = top
    while length > 0:
        lengths.append(length)
        length -= step if length - step >= top * 5 / 8 else 2 * step
    return tuple(reversed(lengths))


def plan(
    lengths: Sequence[int] | npt.NDArray[np.integer], *, max_tokens: int, token_budget: int
) -> list[Batch]:
    """Batches that hold every passage exactly once, longest passages first.

    Passages are sorted by length (equal lengths stay in order). A batch takes the longest left,
    pads to the lowest bucket that holds it, and is filled with the next ones, whatever their own
    bucket: so only the very last batch has filler rows, and a shape is decided by its length
    alone, rows = max(1, token_budget // length).

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
    order = np.argsort(-counts, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        length = int(buckets[np.searchsorted(buckets, counts[order[start]])])
        rows = max(1, token_budget // length)
        batches.append(Batch(passages=order[start : start + rows], rows=rows, length=length))
        start += rows
    return batches
