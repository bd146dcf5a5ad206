"""Arrays as callers have them, of any library, for NumPy."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np

from storage import errors


def plain(values: Any) -> Any:
    """`values` such that `np.asarray` gives what they hold, and nothing that they hide.

    Tensors of PyTorch leave their device and their gradient, and bfloat16 for float32, which NumPy knows.
    What is masked has no value, and NumPy would take the one beneath the mask.

    Raises:
        CorpusError: a masked place.
    """
    if type(values) is np.ndarray:
        return values
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.getmaskarray(values).any():
            raise errors.CorpusError("an array has masked places, wanted a value in each; leave those out")
        return np.ma.getdata(values)
    if hasattr(values, "detach") and hasattr(values, "cpu"):
        tensor = values.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    if isinstance(values, list | tuple) and any(isinstance(value, np.ma.MaskedArray) for value in values):
        return [plain(value) for value in values]
    return values


def shown(value: object) -> str:
    """What a caller gave, for a line of text: its type, and the beginning of what it holds."""
    return f"{type(value).__name__} {' '.join(reprlib.repr(value).split())[:60]}"
