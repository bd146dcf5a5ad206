"""Names for the types whose inside is known at run time only; everywhere else a type says what it holds."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

# A NumPy array whose dtype a checkpoint, a codec or a caller decides: bfloat16 among them, which numpy's own
# types do not have. Arrays of jax have jaxtyping's shapes instead.
AnyArray: TypeAlias = npt.NDArray[Any]
AnyDtype: TypeAlias = np.dtype[Any]
# A JSON object of a model's folder, or what a fingerprint is taken of: it is kept and compared, and whoever
# reads a field checks it.
Json: TypeAlias = dict[str, Any]
