"""Names for the types whose inside is known at run time only; everywhere else a type says what it holds."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

# An array whose dtype a card, a codec or a caller decides. bfloat16 among them, which numpy's own types do
# not have; functions that need one dtype name it instead.
AnyArray: TypeAlias = npt.NDArray[Any]
AnyDtype: TypeAlias = np.dtype[Any]
# A JSON object as a document holds it, either before `fields.Fields` has read it strictly, or as it is kept
# unread: an encoder's description, the settings of a build. A single value before it is read is `object`.
Json: TypeAlias = dict[str, Any]
