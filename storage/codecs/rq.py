"""rq<dims>x<steps>: residual quantization. Each group of `dims` dimensions becomes a sum of `steps` codes.

    r = x[g * dims : (g + 1) * dims]
    for each step:  code[g, step] = argmin over k of |r - codebooks[g, step, k]|^2
                    r = r - codebooks[g, step, code[g, step]]

A token's states are mostly what it is, and then what it stands beside: the first code of many dimensions says
the first, and the others correct it. So as many bytes say more than those of `pq`, whose groups know nothing
of each other. Every step has its own codebook of 256 codes, trained by k-means on what the steps before left
of a sample, and stored as bfloat16. Encoding takes in each step the nearest code, the lowest of equals, and
looks no step ahead. Decoding adds a group's codes in float32, in the order of the steps, and rounds once.
Source: Chen, Guan and Wang 2010, "Approximate nearest neighbor search by residual vector quantization",
section 3. Trained with its reader as `pq` is (encoders.reader.codes).

A stored row is the codes, uint8 [d / dims, steps].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from storage import errors, native
from storage.aliases import AnyArray, Json
from storage.codecs import base, kmeans, pq
from storage.native import mapped

CODEBOOKS: Final = pq.CODEBOOKS
# Of a step: a code is a byte.
CODES: Final = 256
MAX_DIMS: Final = 1024
MAX_STEPS: Final = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class RQ(base.Codec):
    """Bound: no step takes a code that is worse than its code 0."""

    dims: int
    steps: int

    kind: ClassVar[str] = "rq"
    trained: ClassVar[bool] = True

    @property
    def configuration(self) -> Json:
        return {"dims": self.dims, "steps": self.steps}

    def _groups(self, width: int) -> int:
        return pq.groups(self.name, self.dims, width)

    def stored_width(self, width: int) -> int:
        return self._groups(width) * self.steps

    def parameter_shapes(self, width: int) -> base.Shapes:
        return {CODEBOOKS: ((self._groups(width), self.steps, CODES, self.dims), np.dtype("<u2"))}

    @property
    def fewest_tokens(self) -> int:
        """Tokens below which `train` refuses a sample."""
        return CODES * pq.FEWEST_TOKENS

    def sample_tokens(self, width: int) -> int:
        """As many as fit into `pq.SAMPLE_BYTES` of float32, if those are enough."""
        return max(self.fewest_tokens, min(CODES * pq.MOST_TOKENS, pq.SAMPLE_BYTES // (4 * width)))

    def bind(self, width: int, parameters: base.Parameters) -> RQCoder:
        return RQCoder(self, width, parameters)

    def train(self, sample: npt.NDArray[np.float32], seed: int = 0) -> dict[str, AnyArray]:
        """Codebooks, group by group and step by step, each with random numbers from `seed` and its place."""
        groups = self._groups(sample.shape[-1])
        base.check_values(sample, sample.shape[-1])
        pq.check_sample(self.name, CODES, len(sample), self.fewest_tokens)
        books = np.empty((groups, self.steps, CODES, self.dims), base.bfloat16)
        for group in range(groups):
            left = np.ascontiguousarray(sample[:, group * self.dims : (group + 1) * self.dims], np.float32)
            # Centred, since distances are differences of squares; and of a size at which none overflows.
            centre = left.mean(axis=0, dtype=np.float64).astype(np.float32)
            left -= centre
            for step in range(self.steps):
                peak = np.float32(max(float(np.abs(left).max()), float(np.finfo(np.float32).tiny)))
                rng = np.random.default_rng([seed, group, step])
                trained = kmeans.train(left / peak, CODES, rng) * peak
                # As they are stored, so that later steps correct their rounding as well.
                books[group, step] = trained + centre
                codes = books[group, step].astype(np.float32) - centre
                left -= codes[kmeans.nearest(left / peak, codes / peak)[0]]
                centre = np.zeros_like(centre)
        return {CODEBOOKS: books.view("<u2")}


class RQCoder(base.Coder):
    """A gather from the codebooks of all groups and steps laid end to end, and sums."""

    codec: RQ

    def __init__(self, codec: RQ, width: int, parameters: base.Parameters) -> None:
        super().__init__(codec, width, parameters)
        books = np.ascontiguousarray(self.parameters[CODEBOOKS])
        self.codebooks: AnyArray = books.view(base.bfloat16)  # [groups, steps, codes, dims]
        wide = self.codebooks.astype(np.float32)
        # Of every step the largest: a sum of codes is no larger.
        sums = np.abs(wide).max(axis=2).astype(np.float64).sum(axis=1)
        if not sums.max(initial=0.0) <= self.largest:
            raise errors.CorpusError(
                f"codebooks of codec {codec.name} hold, or add up to, what is not finite"
            )
        # As in pq: distances are taken from the middle of the first codes, and at a size at which no square
        # overflows, by a power of two.
        self.centres = wide[:, 0].mean(axis=1, dtype=np.float64).astype(np.float32)  # [groups, dims]
        peaks = np.abs(wide[:, 0] - self.centres[:, None]).max(axis=(1, 2))
        peaks = np.maximum(peaks, np.abs(wide[:, 1:]).max(axis=(1, 2, 3), initial=0))
        self.shrink = np.array([2.0 ** -max(0, math.frexp(peak)[1] - 40) for peak in peaks], np.float32)
        # float32, as sums are: [groups * steps * codes, dims].
        self._table = wide.reshape(-1, codec.dims)
        groups = width // codec.dims
        self._first = np.arange(groups * codec.steps, dtype=np.intp).reshape(groups, codec.steps) * CODES

    def error_bound(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        # Code 0 in the first step leaves x - c; in a later one it makes what is left longer by its own length
        # at most. A step takes what leaves no more.
        books = self.codebooks.astype(np.float64)
        dims, zeros = self.codec.dims, books[:, 0, 0]
        parts = values.astype(np.float64).reshape(len(values), len(books), dims)
        longer = np.linalg.norm(books[:, 1:, 0], axis=2).sum(axis=1)
        left = np.linalg.norm(parts - zeros, axis=2) + longer  # [n, groups]
        # Distances are compared in float32, of squares up to those of the values and codes; sums are rounded.
        largest = np.sqrt(np.square(np.linalg.norm(books, axis=3).max(axis=2).sum(axis=1)).sum())
        slack = 2.0**-8 * (base.row_norms(values) + largest)
        bound: npt.NDArray[np.float64] = np.linalg.norm(left, axis=1) + slack
        return bound

    def _encode(self, values: npt.NDArray[np.float32], out: AnyArray) -> None:
        dims, steps = self.codec.dims, self.codec.steps
        for group, shrink in enumerate(self.shrink):
            left = values[:, group * dims : (group + 1) * dims].copy()
            middle = self.centres[group]
            for step in range(steps):
                codes = self.codebooks[group, step].astype(np.float32)
                # As in pq: so far out, the nearest code is the same or as bad.
                near = np.clip((left - middle) * shrink, -pq.FAR, pq.FAR)
                found = kmeans.nearest(near, (codes - middle) * shrink)[0]
                out[:, group * steps + step] = found
                left -= codes[found]
                middle = np.zeros_like(middle)

    def _decode(self, stored: AnyArray, out: AnyArray) -> None:
        (groups, steps), dims = self._first.shape, self.codec.dims
        codes = stored.reshape(len(stored), groups, steps)
        values = out.reshape(len(stored), groups, dims)
        block = min(len(stored), base.block_rows(self.width))
        total, part = np.empty((2, block, groups, dims), np.float32)
        for rows in base.blocks(len(stored), self.width):
            n = rows.stop - rows.start
            places = codes[rows] + self._first
            # In range, as a code is a byte; "wrap" is the mode that checks least.
            np.take(self._table, places[:, :, 0], axis=0, out=total[:n], mode="wrap")
            for step in range(1, steps):
                np.take(self._table, places[:, :, step], axis=0, out=part[:n], mode="wrap")
                total[:n] += part[:n]
            values[rows] = total[:n]

    def _decode_natively(self, library: native.Library, stored: AnyArray, out: AnyArray) -> bool:
        return library.add(stored, out, self.codebooks)

    def recipe(self, library: native.Library) -> mapped.Recipe | None:
        return mapped.add(library, self.codebooks)
