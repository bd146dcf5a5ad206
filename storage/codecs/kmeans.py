"""k-means of small vectors, many codes: k-means++ start, dead codes reset, bounded cost, deterministic."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from storage.codecs import products

Floats = npt.NDArray[np.float32]

ITERATIONS: Final = 12
# Multiplications of one group's training beyond which iterations are left out.
MOST_WORK: Final = 1 << 38
# From so many codes on, the start is made in two levels: codes of codes.
FLAT_CODES: Final = 1024
# Distances that are held at a time: 2 MB, what a core's second-level cache or a share of it holds.
_BLOCK: Final = 1 << 19


def nearest(values: Floats, codes: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """Index of the nearest code [n] to each value [n, dims], the lowest of equals, and (distance^2 -
    |value|^2) / 2 [n], which orders values of one code only."""
    values = np.ascontiguousarray(values)
    transposed = np.ascontiguousarray(codes.T)
    halves = np.square(codes).sum(axis=1) / 2
    index = np.empty(len(values), np.intp)
    score = np.empty(len(values), np.float32)
    # Fewer rows would make the product wait for memory.
    step = max(64, _BLOCK // len(codes))
    buffer = np.empty((min(step, len(values)), len(codes)), np.float32)
    for first in range(0, len(values), step):
        rows = slice(first, first + step)
        # |v - c|^2 / 2 without |v|^2 / 2, which is the same for all codes: one product, and one subtraction.
        scores = buffer[: len(values[rows])]
        products.multiply(values[rows], transposed, scores)
        np.subtract(halves, scores, out=scores)
        scores.argmin(axis=1, out=index[rows])
        score[rows] = np.take_along_axis(scores, index[rows, None], axis=1)[:, 0]
    return index, score


def train(values: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Codes [count, dims] that are near to all of values [n, dims]; n >= count.

    Lloyd's iterations, at most `ITERATIONS` and as many as `MOST_WORK` allows; a code that no value is
    nearest to is put on one of the values that lie furthest from theirs.
    """
    start = _spread if count <= FLAT_CODES else _two_levels
    codes = start(values, count, rng)
    work = max(1, values.size * count)
    # None, where one iteration is too much already: then the start, which was trained on two levels, stays.
    for _ in range(min(ITERATIONS, MOST_WORK // work)):
        index, score = nearest(values, codes)
        updated = _means(values, index, codes, score)
        # Nothing will move any more.
        if np.array_equal(updated, codes):
            break
        codes = updated
    return codes


def _means(values: Floats, index: npt.NDArray[np.intp], codes: Floats, score: Floats) -> Floats:
    """The mean of each code's values; dead codes go where the error is largest."""
    counts = np.bincount(index, minlength=len(codes))
    # By bincount, which adds in float64 and in the order of the rows: the same sums on any machine.
    sums = np.stack(
        [np.bincount(index, values[:, i], minlength=len(codes)) for i in range(values.shape[1])], axis=1
    )
    means = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    dead = np.flatnonzero(counts == 0)
    if len(dead):
        errors = 2 * score + np.square(values).sum(axis=1)
        # Only so many different values may lie off their codes; what is left over keeps its place.
        far = np.argsort(-errors, kind="stable")[: len(dead)]
        means[dead] = codes[dead]
        means[dead[: len(far)]] = values[far]
    return means


def _spread(values: Floats, count: int, rng: np.random.Generator) -> Floats:
    """k-means++: each code is a value, drawn by its squared distance to the nearest code so far.

    Source: Arthur and Vassilvitskii 2007. Drawn from at most 64 values a code, which is what keeps the
    start cheaper than an iteration.
    """
    if len(values) > 64 * count:
        values = values[np.sort(rng.choice(len(values), 64 * count, replace=False))]
    codes = np.empty((count, values.shape[1]), np.float32)
    codes[0] = values[rng.integers(len(values))]
    squares = np.square(values).sum(axis=1)
    distances = np.full(len(values), np.inf, np.float32)
    for i in range(1, count):
        last = codes[i - 1]
        away = squares - 2 * (values @ last) + np.square(last).sum()
        np.minimum(distances, np.maximum(away, 0), out=distances)
        total = np.cumsum(distances, dtype=np.float64)
        # From the right: a value at distance 0 adds nothing to the running sum, and is never drawn. Where all
        # values are codes already, any will do.
        drawn = np.searchsorted(total, rng.random() * total[-1], side="right") if total[-1] > 0 else i
        codes[i] = values[min(int(drawn), len(values) - 1)]
    return codes


def _two_levels(values: Floats, count: int, rng: np.random.Generator) -> Floats:
    """A start for many codes: few coarse codes, then the values of each get their share of the codes.

    It costs n * 2 sqrt(count) distances an iteration where one level costs n * count: for 65,536 codes,
    a hundredth.
    """
    coarse = train(values, 1 << (count.bit_length() - 1) // 2, rng)
    index = nearest(values, coarse)[0]
    members = np.bincount(index, minlength=len(coarse))
    order = np.argsort(index, kind="stable")
    starts = np.concatenate([[0], np.cumsum(members)])
    shares = _shares(members, count)
    return np.concatenate(
        [
            train(values[order[starts[i] : starts[i + 1]]], int(shares[i]), rng)
            for i in range(len(coarse))
            if shares[i]
        ]
    )


def _shares(members: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.int64]:
    """`count` dealt out in proportion to `members`, by largest remainders, none above its members."""
    exact = members * (count / members.sum())
    shares = np.minimum(np.floor(exact).astype(np.int64), members)
    while (left := count - int(shares.sum())) > 0:
        room = shares < members
        order = np.argsort(np.where(room, shares - exact, np.inf), kind="stable")
        shares[order[: min(left, int(room.sum()))]] += 1
    return np.asarray(shares, np.int64)
