"""Longest common token substring: how much of a chunk could have been copied from what was retrieved."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.integer]


def longest_common(
    chunks: Tokens, lengths: Tokens, others: Tokens, real: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Tokens of the longest run that a chunk shares with any of its others, [q]; 0 where nothing is shared.

    Args:
        chunks, lengths, others, real: as of `common_runs`.

    Source: Borgeaud et al. 2021, section 2.6.
    """
    longest: npt.NDArray[np.int64] = common_runs(chunks, lengths, others, real).max(axis=1, initial=0)
    return longest


def common_runs(
    chunks: Tokens, lengths: Tokens, others: Tokens, real: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """For each token of a chunk, how long a run that ends with it occurs in one of the chunk's others.

    Args:
        chunks: [q, m] token ids.
        lengths: [q] real tokens of each.
        others: [q, k, r] token ids, each a sequence of its own.
        real: [q, k, r], False for padding, which no run goes through.

    Returns:
        [q, m]; 0 of a token that none of the others has. Runs begin within the chunk.

    Source: L(i, j) = [a_i = b_j] (L(i-1, j-1) + 1), one i at a time for all.
    """
    q, m = chunks.shape
    run = np.zeros(others.shape, np.int64)
    best = np.zeros((q, m), np.int64)
    for i in range(m):
        same = (others == chunks[:, i, None, None]) & real & (i < lengths)[:, None, None]
        before = np.zeros_like(run)
        before[..., 1:] = run[..., :-1]
        run = np.where(same, before + 1, 0)
        best[:, i] = run.max(axis=(1, 2), initial=0)
    return best
