"""A fixed orthogonal rotation of d dimensions that costs O(d sqrt d), and can be written down in a line.

from storage.aliases import AnyArray
It makes any vector's coordinates look like independent normal ones (of variance |x|^2 / d), so that one
scalar quantizer serves all of them. With d = p * q, as `factors` gives, x written as a matrix
X [p, q] row by row, and . the product of elements:

    rotate(X)  = A (S2 . ((S1 . X) H)) H
    restore(Y) = S1 . ((S2 . ((A^T Y) H)) H)

    H [q, q]  Hadamard matrix by Sylvester's construction, divided by sqrt(q); it is its own inverse
    A [p, p]  kron(C, H'), H' the Hadamard matrix of order p / m, C [m, m] the orthonormal DCT-II for the
              odd part m of d:  C[i, j] = sqrt((2 if i else 1) / m) cos(pi (2 j + 1) i / (2 m))
    S1, S2    signs [p, q], row by row, from splitmix64 (`signs`)

`rotate` multiplies by these matrices; its rounding decides between codes that are as near. But what stored
codes mean must not depend on the order in which somebody's matrix product sums. So `restore` has an order of
its own, and float32 arithmetic gives the same bits everywhere:

    1. A^T Y: stages h = q, 2 q, 4 q, .. of each block of d / m values, where stage h makes of x[i] and
       x[i + h] their sum and their difference, for every i whose bit h is 0 (the Hadamard transform without
       its norm); then, where m > 1, block b becomes C[0, b] x[block 0] + C[1, b] x[block 1] + .., each
       product rounded, and each sum, from the left.
    2. H: stages h = 1, 2, 4, .. q / 2. Times S2. H once more. Times S1.
    3. The norms, 1 / (q sqrt(p / m)), are left to who multiplies by a token's scale.

One round of signs and Hadamard is not enough for T5: a token's energy lies in one channel or a few, and
one channel alone becomes a vector of two values, +-|x| / sqrt(d). The second round, over half of the
dimensions, turns them into sums of q random signs. docs/benchmarks.md compares numbers of rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from storage import native

_GOLDEN: Final = 0x9E3779B97F4A7C15


def factors(width: int) -> tuple[int, int, int]:
    """(p, q, m): width = p * q, q a power of two of about sqrt(width), m the odd part of width."""
    # q is the root of the largest power of two in the width, rounded up, so that no product is much dearer
    # than the others: those with h take d * q multiplications each, that with a takes d * p.
    twos = (width & -width).bit_length() - 1
    q = 1 << (twos + 1) // 2
    return width // q, q, width >> twos


def signs(count: int, seed: int) -> npt.NDArray[np.float32]:
    """+1 or -1 by splitmix64's top bit: of its `seed * 2**32 + 1`-th output and those that follow.

    Output i (from 1) of splitmix64 started at 0: z = i * 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9; z = (z ^ z >> 27) * 0x94D049BB133111EB; z ^ z >> 31;
    all modulo 2**64. Source: Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators.
    """
    # Streams of two seeds are 2**32 outputs apart, far more than a width; arrays of uint64 wrap.
    z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(_GOLDEN)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.where(z >> np.uint64(63), np.float32(-1), np.float32(1))


def hadamard(order: int) -> npt.NDArray[np.float64]:
    """Sylvester's Hadamard matrix of a power of two, orthonormal."""
    matrix = np.ones((1, 1))
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    normed: npt.NDArray[np.float64] = matrix / np.sqrt(order)
    return normed


def cosines(order: int) -> npt.NDArray[np.float64]:
    """The orthonormal DCT-II [order, order]."""
    i, j = np.arange(order)[:, None], np.arange(order)
    matrix: npt.NDArray[np.float64] = np.cos(np.pi * (2 * j + 1) * i / (2 * order))
    matrix *= np.sqrt(np.where(i, 2, 1) / order)
    return matrix


@dataclass(frozen=True, eq=False)
class Rotation:
    """The rotation of one width, its matrices in float32.

    A product is of one token's matrix [p, q], not of many tokens' rows at once: so a token's values are the
    same, to the bit, whatever others are coded with it, and BLAS shares none among threads.

    Attributes:
        a: [p, p].
        h: [q, q].
        first, second: signs [p, q].
        norm: by which a restored row is yet to be multiplied.
        turn: what native code restores with.
    """

    a: npt.NDArray[np.float32]
    h: npt.NDArray[np.float32]
    first: npt.NDArray[np.float32]
    second: npt.NDArray[np.float32]
    turn: native.Turn

    @property
    def norm(self) -> np.float32:
        return np.float32(self.turn.norm)

    @classmethod
    def of(cls, width: int, seed: int = 0) -> Rotation:
        """Signs of the first round from `2 * seed`, of the second from `2 * seed + 1`."""
        p, q, m = factors(width)
        mix = cosines(m)
        first, second = signs(width, 2 * seed), signs(width, 2 * seed + 1)
        return cls(
            a=np.kron(mix, hadamard(p // m)).astype(np.float32),
            h=hadamard(q).astype(np.float32),
            first=first.reshape(p, q),
            second=second.reshape(p, q),
            turn=native.Turn(
                block=width // m,
                run=q,
                norm=float(np.float32(1 / (q * np.sqrt(p // m)))),
                mix=mix.astype(np.float32),
                first=first,
                second=second,
            ),
        )

    def rotate(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Rotate rows [n, d]; returns a new array."""
        # Two arrays in turn, as matmul cannot write over what it reads.
        work = values.reshape(-1, *self.first.shape) * self.first
        other = np.empty_like(work)
        np.matmul(work, self.h, out=other)
        other *= self.second
        np.matmul(other, self.h, out=work)
        rotated: npt.NDArray[np.float32] = np.matmul(self.a, work, out=other).reshape(values.shape)
        return rotated

    def restore(
        self, values: npt.NDArray[np.float32], scratch: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Undo it, but for `norm`, for columns [p, q, n]; both arrays are overwritten.

        Returns:
            [q, p, n], one of the two: the dimensions are the other way round.
        """
        p, q, n = values.shape
        m = len(self.turn.mix)
        work, other = _transformed(values, scratch, m)
        if m > 1:
            before, after = (x.reshape(m, -1) for x in (work, other))
            for block, factors_ in zip(after, self.turn.mix.T, strict=True):
                np.multiply(before[0], factors_[0], out=block)
                for part, factor in zip(before[1:], factors_[1:], strict=True):
                    block += part * factor
            work, other = other, work
        # Turned, so that the stages are of the slow dimension again: sums of few long pieces.
        turned, work = other.reshape(q, p, n), work.reshape(q, p, n)
        np.copyto(turned, work.reshape(p, q, n).transpose(1, 0, 2))
        work, other = _transformed(turned, work, 1)
        work *= self.second.T[:, :, None]
        work, other = _transformed(work, other, 1)
        work *= self.first.T[:, :, None]
        return work


def _transformed(
    values: npt.NDArray[np.float32], scratch: npt.NDArray[np.float32], parts: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The Hadamard transform, without its norm, of each of `parts` parts of the first dimension, whose length
    is a power of two: (the result, the other array), both C-contiguous and overwritten."""
    h, rest = 1, values[0].size
    while h < len(values) // parts:
        before, after = (x.reshape(-1, 2, h * rest) for x in (values, scratch))
        np.add(before[:, 0], before[:, 1], out=after[:, 0])
        np.subtract(before[:, 0], before[:, 1], out=after[:, 1])
        values, scratch = scratch, values
        h *= 2
    return values, scratch
