"""The rows that every contender must give back: synthetic memory of passages of real lengths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from encoders.memory_spec import MAX_TOKENS as MAX_TOKENS

BFLOAT16: Final = np.dtype(ml_dtypes.bfloat16)
# T5 tokens of 200-word passages of English Wikipedia: most are full, none is longer than the limit.
MEAN_TOKENS: Final = 272
SPREAD_TOKENS: Final = 42
# The rows are drawn from a pool: random numbers for all of them would take longer than the benchmark.
_POOL_ROWS: Final = 4096


def passage_lengths(passages: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Tokens of each passage, int64 [passages]; the mean is about 265."""
    return np.clip(rng.normal(MEAN_TOKENS, SPREAD_TOKENS, passages), 8, MAX_TOKENS).astype(np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """Every passage's rows in one plain file, without anything between them.

    Attributes:
        path: the file.
        lengths: int64 [passages], tokens of each.
        starts: int64 [passages + 1], the first row of each.
        values: uint16 [tokens, width], bfloat16 as its bits, mapped.
    """

    path: Path
    lengths: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    values: npt.NDArray[np.uint16]

    @property
    def passages(self) -> int:
        return len(self.lengths)

    @property
    def width(self) -> int:
        return int(self.values.shape[1])

    @property
    def row_bytes(self) -> int:
        return self.width * 2

    @property
    def raw_bytes(self) -> int:
        """tokens x width x 2: what a store without any overhead would take."""
        return int(self.starts[-1]) * self.row_bytes

    def passage(self, i: int) -> npt.NDArray[np.uint16]:
        """Rows of passage i, [tokens, width]; a view."""
        return self.values[self.starts[i] : self.starts[i + 1]]

    def rows_of(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        """Rows of several passages back to back; a copy."""
        return np.concatenate([self.passage(int(i)) for i in ids])

    @classmethod
    def create(cls, folder: Path, *, passages: int, width: int, seed: int = 0) -> Truth:
        """Write the file: Gaussian rows with a few channels a hundred times as large, as T5's states have."""
        rng = np.random.default_rng(seed)
        lengths = passage_lengths(passages, rng)
        scale = np.ones(width, np.float32)
        scale[rng.choice(width, max(1, width // 256), replace=False)] = 100.0
        pool = (rng.standard_normal((_POOL_ROWS, width), np.float32) * scale).astype(BFLOAT16)
        path = folder / "rows"
        with path.open("wb") as file:
            for length in lengths:
                file.write(pool[rng.integers(0, _POOL_ROWS, length)].tobytes())
        return cls(
            path=path,
            lengths=lengths,
            starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            # A plain array over the mapping: slicing np.memmap itself costs several times as much.
            values=np.asarray(np.memmap(path, np.uint16, "r")).reshape(-1, width),
        )
