"""What a contender is: rows of passages by id, into an array that is ready."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from benchmarks.store.truth import Truth


class Contender:
    """One way to store and fetch the rows. Opened once; `fetch` is called from several threads.

    Attributes:
        name: in the tables.
        checked: what is compared with a checksum at every fetch.
        paths: the files it reads.
        growing: those of them that grow with the corpus.
        row_bytes: of a stored row, without anything around it.
        dtype: of the values fetched.
        comparable: whether its rows are the true ones at all, or rounded; codes may be random.
    """

    name: str
    checked: str = "nothing"
    paths: tuple[Path, ...]
    row_bytes: int
    dtype: np.dtype[Any] = np.dtype(np.uint16)
    comparable: bool = True
    package: ClassVar[str] = ""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.row_bytes = truth.row_bytes
        self.lengths: list[int] = truth.lengths.tolist()
        self.starts: list[int] = truth.starts.tolist()

    @property
    def growing(self) -> tuple[Path, ...]:
        return self.paths

    def view(self, ready: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Bytes that are ready, as rows of this contender's type."""
        row_bytes = self.truth.width * self.dtype.itemsize
        rows = len(ready) // row_bytes
        return ready[: rows * row_bytes].view(self.dtype).reshape(rows, self.truth.width)

    def expected(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """What `fetch` must give, bit by bit."""
        return self.truth.rows_of(ids)

    def fetch(self, ids: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Put the passages' rows into `out`, back to back in the order asked; returns that part of it."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of files and threads."""


def put(pieces: Iterable[npt.NDArray[Any]], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Copy pieces into `out` back to back; returns the part that was filled."""
    at = 0
    for piece in pieces:
        stop = at + len(piece)
        out[at:stop] = piece
        at = stop
    return out[:at]
