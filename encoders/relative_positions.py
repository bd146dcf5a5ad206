"""T5's relative positions: which row of its table belongs to a query and a key. NumPy alone."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int


def relative_position_buckets(
    length: int, *, buckets: int = 32, max_distance: int = 128, causal: bool = False
) -> Int[np.ndarray, "queries keys"]:
    """Row of the relative-position table for every pair (query i, key j).

    For an encoder half of the buckets are for keys after the query. Of each half, half are for exact
    distances, and the rest grow logarithmically up to max_distance:

        bucket(r) = [r > 0] * B/2 + (|r| if |r| < B/4
                    else min(B/2 - 1, B/4 + floor(log(4|r|/B) / log(4 max/B) * B/4)))

    For a decoder (`causal`) all buckets are for keys up to the query, by the same rule with B twice as
    large; keys after it have bucket 0 and are to be masked.

    Source: Raffel et al. 2020, section 2.1; the formula is that of Mesh TensorFlow.
    """
    relative = np.arange(length)[None, :] - np.arange(length)[:, None]
    if causal:
        return bucket_of(np.minimum(relative, 0), buckets=2 * buckets, max_distance=max_distance)
    return bucket_of(relative, buckets=buckets, max_distance=max_distance)


def bucket_of(
    relative: Int[np.ndarray, "*shape"], *, buckets: int, max_distance: int
) -> Int[np.ndarray, "*shape"]:
    """Bucket of each relative position, key minus query."""
    half = buckets // 2
    exact = half // 2
    distance = np.abs(relative)
    # Nearer ones take the other branch below; here they must only not be logarithms of 0.
    far = np.log(np.maximum(distance, exact) / exact) / math.log(max_distance / exact)
    logarithmic = np.minimum(exact + (far * (half - exact)).astype(np.int32), half - 1)
    near = np.where(distance < exact, distance, logarithmic)
    rows: Int[np.ndarray, "*shape"] = ((relative > 0) * half + near).astype(np.int32)
    return rows
