"""Products of matrices that stay in the calling thread.

OpenBLAS shares a large product among threads of its own, which wait in a busy loop for each other: where
the cores have other work (a reader's threads, JAX's, other workers), that takes a tenth to a sixth of the
speed, and where they have none, it gains little on matrices as slim as the codecs'.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# Multiplications of a product that OpenBLAS leaves in one thread (interface/gemm.c: 65,536 times 4).
UNTHREADED: Final = 1 << 18
# Products of fewer rows than this are slower alone than shared.
FEWEST_ROWS: Final = 16


def multiply(x: Floats, matrix: Floats, out: Floats) -> None:
    """out = x @ matrix for C-contiguous x [n, k], matrix [k, m], out [n, m], in pieces of some rows."""
    (n, k), m = x.shape, matrix.shape[1]
    rows = UNTHREADED // (k * m)
    if rows < FEWEST_ROWS:
        np.matmul(x, matrix, out=out)
        return
    whole = n - n % rows
    np.matmul(x[:whole].reshape(-1, rows, k), matrix, out=out[:whole].reshape(-1, rows, m))
    np.matmul(x[whole:], matrix, out=out[whole:])
