"""pq<dims>x<bits>: product quantization. Each group of `dims` dimensions becomes one of 2**bits codes.

    code[g] = argmin over k of |x[g * dims : (g + 1) * dims] - codebooks[g, k]|^2

Each group has its own codebook, trained by k-means on a sample of the memory, and stored as bfloat16, so
that decoding is a plain gather. Encoding takes the nearest of the codes as they are stored, the lowest
of equals. Source: MEMORY-VQ (Zemlyanskiy et al. 2023, 2308.14903), which compresses 16x with groups of 16
dimensions and 65,536 codes; Jégou et al. 2011.

A stored row is the codes: uint8 [d / dims] up to 8 bits, uint16 beyond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from storage import errors, native
from storage.aliases import AnyArray, AnyDtype, Json
from storage.codecs import base, kmeans
from storage.native import mapped

CODEBOOKS: Final = "codebooks"
MAX_DIMS: Final = 256
MAX_BITS: Final = 16
# Tokens a code that training wants, and the fewest it takes. 256 and 39 are FAISS's
# (Clustering.h: max_points_per_centroid, min_points_per_centroid); for books of more than 8 bits so many
# would be millions of tokens, and then fewer are taken.
MOST_TOKENS: Final = 256
FEWEST_TOKENS: Final = 39
FEWEST_TOKENS_LARGE: Final = 4
SAMPLE_BYTES: Final = 1 << 30
# Further than this from a codebook's middle, 2**20 times as far as its codes, a value is cut to this.
FAR: Final = np.float32(2.0**61)


@dataclass(frozen=True, kw_only=True, slots=True)
class PQ(base.Codec):
    """Bound: a row is at most as far off as from the row of any other codes, such as all zeros.

    How far that is depends on the memory: see `relative_error` in the benchmark.
    """

    dims: int
    bits: int

    kind: ClassVar[str] = "pq"
    trained: ClassVar[bool] = True

    @property
    def configuration(self) -> Json:
        return {"dims": self.dims, "bits": self.bits}

    @property
    def codes(self) -> int:
        """Codes of a group."""
        return 1 << self.bits

    @property
    def stored_dtype(self) -> AnyDtype:
        return np.dtype("u1" if self.bits <= 8 else "<u2")

    def stored_width(self, width: int) -> int:
        return groups(self.name, self.dims, width)

    def parameter_shapes(self, width: int) -> base.Shapes:
        return {CODEBOOKS: ((self.stored_width(width), self.codes, self.dims), np.dtype("<u2"))}

    @property
    def fewest_tokens(self) -> int:
        """Tokens below which `train` refuses a sample."""
        return self.codes * (FEWEST_TOKENS if self.bits <= 8 else FEWEST_TOKENS_LARGE)

    def sample_tokens(self, width: int) -> int:
        """As many as fit into `SAMPLE_BYTES` of float32, if those are enough."""
        return max(self.fewest_tokens, min(self.codes * MOST_TOKENS, SAMPLE_BYTES // (4 * width)))

    def bind(self, width: int, parameters: base.Parameters) -> PQCoder:
        return PQCoder(self, width, parameters)

    def check_stored(self, stored: AnyArray, width: int) -> None:
        # Where a code's type holds more than there are codes, it might lead into the next group's book.
        if self.bits not in (8, 16) and stored.size and stored.max() >= self.codes:
            raise errors.DamagedError(
                f"a code of {stored.max()} is stored, codec {self.name} has {self.codes} codes"
            )

    def train(self, sample: npt.NDArray[np.float32], seed: int = 0) -> dict[str, AnyArray]:
        """Codebooks, group by group, each with its own random numbers, from `seed` and the group."""
        count = self.stored_width(sample.shape[-1])
        base.check_values(sample, sample.shape[-1])
        check_sample(self.name, self.codes, len(sample), self.fewest_tokens)
        books = np.empty((count, self.codes, self.dims), base.bfloat16)
        for group in range(count):
            values = np.ascontiguousarray(sample[:, group * self.dims : (group + 1) * self.dims], np.float32)
            # Centred, since distances are differences of squares; and of a size at which none overflows.
            centre = values.mean(axis=0, dtype=np.float64).astype(np.float32)
            values -= centre
            peak = np.float32(max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny)))
            # Of each group, so that its book does not depend on how many others were trained before.
            rng = np.random.default_rng([seed, group])
            books[group] = kmeans.train(values / peak, self.codes, rng) * peak + centre
        return {CODEBOOKS: books.view("<u2")}


def groups(name: str, dims: int, width: int) -> int:
    """Groups of `dims` dimensions in a row.

    Raises:
        CorpusError: they do not divide the width.
    """
    if width < 1 or width % dims:
        raise errors.CorpusError(
            f"codec {name} cuts rows into groups of {dims} dimensions, which do not divide the "
            f"memory's width {width}; take a group size that does"
        )
    return width // dims


def check_sample(name: str, codes: int, tokens: int, fewest: int) -> None:
    """Refuse a sample that is too small for so many codes.

    Raises:
        CorpusError: it is.
    """
    if tokens < fewest:
        raise errors.CorpusError(
            f"codec {name} has {codes:,} codes a group, for which {tokens:,} tokens are "
            f"too small a sample, wanted {fewest:,}; take fewer bits, or int8"
        )


class PQCoder(base.Coder):
    """A gather from all codebooks laid end to end."""

    codec: PQ

    def __init__(self, codec: PQ, width: int, parameters: base.Parameters) -> None:
        super().__init__(codec, width, parameters)
        books = np.ascontiguousarray(self.parameters[CODEBOOKS])
        self.codebooks: AnyArray = books.view(base.bfloat16)  # [groups, codes, dims]
        if not np.isfinite(self.codebooks).all():
            raise errors.CorpusError(f"a codebook of codec {codec.name} holds what is not finite")
        # Distances are differences of squares, so they are taken from the codes' mean; and all is brought
        # to a size at which no square overflows, by a power of two, which changes no comparison.
        self.centres = np.empty((self.stored_width, codec.dims), np.float32)
        self.shrink = np.ones(self.stored_width, np.float32)
        for group, book in enumerate(self.codebooks):
            codes = book.astype(np.float32)
            self.centres[group] = codes.mean(axis=0, dtype=np.float64)
            peak = float(np.abs(codes - self.centres[group]).max())
            self.shrink[group] = 2.0 ** -max(0, math.frexp(peak)[1] - 40)
        # One item for a code's dims values: NumPy moves it as a whole.
        self._item = np.dtype(f"V{2 * codec.dims}")
        self._table = books.reshape(-1, codec.dims).view(self._item)[:, 0]
        # Where each group's book begins in the table.
        self._first = np.arange(self.stored_width, dtype=np.intp) * codec.codes

    def error_bound(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        # The row whose codes are all 0: the nearest codes are no further off than these.
        zeros = self.codebooks[:, 0].astype(np.float64).reshape(-1)
        # Distances are compared in float32, of squares up to those of the values and codes.
        largest = np.sqrt(np.square(self.codebooks.astype(np.float64)).sum(axis=2).max(axis=1).sum())
        slack = 2.0**-9 * (base.row_norms(values) + largest)
        bound: npt.NDArray[np.float64] = base.row_norms(values - zeros) + slack
        return bound

    def _encode(self, values: npt.NDArray[np.float32], out: AnyArray) -> None:
        dims = self.codec.dims
        # Group by group: the distances to one book at a time fit the cache, those to all do not.
        for group in range(self.stored_width):
            part = values[:, group * dims : (group + 1) * dims] - self.centres[group]
            codes = self.codebooks[group].astype(np.float32) - self.centres[group]
            # Shrunk, codes are within 2**40 of the middle, and values, cut, within 2**61: no product over up
            # to 256 dimensions reaches 2**128, where float32 ends. So far out the nearest code is the same or
            # as bad.
            part = np.clip(part * self.shrink[group], -FAR, FAR)
            out[:, group] = kmeans.nearest(part, codes * self.shrink[group])[0]

    def _decode(self, stored: AnyArray, out: AnyArray) -> None:
        # The gather writes straight into the result: no float32 on the way, no pass for rounding.
        items = out.view(self._item)  # [n, groups]
        step = min(len(stored), base.block_rows(self.stored_width))
        places = np.empty((step, self.stored_width), np.intp)
        for rows in base.blocks(len(stored), self.stored_width):
            here = places[: rows.stop - rows.start]
            # Code c of group g is row g * codes + c of the table.
            np.add(stored[rows], self._first, out=here)
            self.codec.check_stored(stored[rows], self.width)
            # In range, as a code has no more bits than its type; "wrap" is the mode that checks least.
            np.take(self._table, here, out=items[rows], mode="wrap")

    def _decode_natively(self, library: native.Library, stored: AnyArray, out: AnyArray) -> bool:
        return library.gather(stored, out, self.codebooks)

    def recipe(self, library: native.Library) -> mapped.Recipe | None:
        return mapped.gather(library, self.codec.stored_dtype.itemsize, self.codebooks)
