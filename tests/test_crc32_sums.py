"""The CRC-32 of a whole from those of its pieces: zlib's of the bytes."""

from __future__ import annotations

import zlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from storage import crc32_sums


@given(st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 100_000).map(bytes)), max_size=12))
def test_pieces_add_up_to_the_whole(pieces: list[bytes]) -> None:
    sums = np.array([zlib.crc32(piece) for piece in pieces], np.uint32)
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    assert crc32_sums.combined(sums, lengths) == zlib.crc32(b"".join(pieces))
    if any(lengths):
        # And one that is not that of its piece is noticed, wherever it stands.
        place = int(lengths.argmax())
        wrong = sums.copy()
        wrong[place] ^= 1 << len(pieces) % 32
        assert crc32_sums.combined(wrong, lengths) != zlib.crc32(b"".join(pieces))
