"""What two programs owe each other that compute the same: not the same bits, but the same roundings."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

# Of float32, between two programs or two processors, relative to the largest value.
NOISE = 2e-6


def require_rounded_once(got: npt.NDArray[Any], exact: npt.NDArray[np.float32]) -> None:
    """`got`, of a smaller type, are `exact` rounded once, though another program computed them.

    So the bound is half a unit of the last place and float32's own noise, and where that noise lies across
    a middle, which few values do, either neighbour is right.
    """
    half_unit = float(ml_dtypes.finfo(got.dtype).eps) / 2  # type: ignore[no-untyped-call]
    off = np.abs(got.astype(np.float64) - exact.astype(np.float64))
    assert (off <= half_unit * np.abs(exact) + NOISE * np.abs(exact).max()).all()
    assert (got != exact.astype(got.dtype)).mean() < 0.01
    # Not trivial: the type does not hold most of the values.
    assert (off > 0).mean() > 0.5
