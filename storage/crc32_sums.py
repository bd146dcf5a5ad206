"""The CRC-32 of bytes from those of their pieces, so that a piece can be trusted without reading the rest.

A CRC is a remainder of polynomials over GF(2). What follows a piece multiplies its remainder by x to the
number of bits that follow, and the remainders of pieces, so multiplied, add up (bitwise exclusive or) to that
of the whole. The polynomial is zlib's, whose `crc32_combine` Python does not hand out.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

# IEEE 802.3, its bits reversed, as zlib has them: the highest bit is the power 0.
_POLYNOMIAL: Final = np.uint32(0xEDB88320)
_ONE: Final = np.uint32(1 << 31)

Words = npt.NDArray[np.uint32]


def _products(a: Words, b: np.uint32 | Words) -> Words:
    """Of polynomials [n] with one, or one by one, modulo the polynomial."""
    total = np.zeros_like(a)
    power = np.broadcast_to(np.asarray(b, np.uint32), a.shape).copy()
    for bit in range(31, -1, -1):
        total ^= np.where(a >> np.uint32(bit) & np.uint32(1), power, np.uint32(0))
        power = np.where(power & np.uint32(1), power >> np.uint32(1) ^ _POLYNOMIAL, power >> np.uint32(1))
    return total


def _powers(counts: npt.NDArray[np.int64]) -> Words:
    """x to the power 8 x counts [n]."""
    found = np.full(len(counts), _ONE)
    square = np.array([_ONE >> np.uint32(8)], np.uint32)  # x to the power 8
    left = counts.copy()
    while left.any():
        odd = (left & 1).astype(bool)
        found[odd] = _products(found[odd], square[0])
        square = _products(square, square)
        left >>= 1
    return found


def combined(sums: npt.NDArray[np.uint32], lengths: npt.NDArray[np.int64]) -> int:
    """The CRC-32 of pieces [n] back to back, from the CRC-32 of each and its number of bytes."""
    behind = np.cumsum(lengths[::-1])[::-1] - lengths
    shifted = _products(_powers(behind), sums.astype(np.uint32))
    return int(np.bitwise_xor.reduce(shifted, initial=np.uint32(0)))
