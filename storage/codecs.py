"""How a token's memory is stored: each codec a name, a configuration, and a stated error bound.

A stored token is one row of `stored_dtype`. Types that zarr-python cannot open are kept as unsigned
integers of the same width, with the logical type in the array's attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from storage import errors


@dataclass(frozen=True, kw_only=True, slots=True)
class Codec:
    """Plain rounding to a floating-point type.

    `relative_error` bounds |stored - computed| / |computed| for values in the type's normal range:
    half a unit in the last place, 2**-(mantissa bits + 1). Values too small for the normal range
    are off by at most `absolute_error`.
    """

    name: str
    dtype: np.dtype[Any]
    stored_dtype: np.dtype[Any]
    relative_error: float
    absolute_error: float

    @property
    def worst_error(self) -> float:
        """What canaries may be off when read back: nothing, having been rounded by the encoder."""
        return 0.0

    @property
    def configuration(self) -> dict[str, Any]:
        return {}

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": self.configuration}

    def token_bytes(self, width: int) -> int:
        """Bytes of one token of `width` model dimensions."""
        return width * self.stored_dtype.itemsize

    def stored(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """View values of `dtype` as they lie in the file."""
        if values.dtype != self.dtype:
            raise TypeError(f"codec {self.name} stores {self.dtype}, got {values.dtype}")
        return values.view(self.stored_dtype)

    def logical(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """View stored rows as values; nothing is copied."""
        return stored.view(self.dtype)


FLOAT32: Final = Codec(
    name="float32",
    dtype=np.dtype("<f4"),
    stored_dtype=np.dtype("<f4"),
    relative_error=0.0,
    absolute_error=0.0,
)
BFLOAT16: Final = Codec(
    name="bfloat16",
    dtype=np.dtype(ml_dtypes.bfloat16),
    stored_dtype=np.dtype("<u2"),
    relative_error=2.0**-8,
    absolute_error=2.0**-134,
)
# T5's residual stream reaches values that float16 cannot hold in large models; writing one raises.
FLOAT16: Final = Codec(
    name="float16",
    dtype=np.dtype("<f2"),
    stored_dtype=np.dtype("<f2"),
    relative_error=2.0**-11,
    absolute_error=2.0**-25,
)
CODECS: Final = {codec.name: codec for codec in (FLOAT32, BFLOAT16, FLOAT16)}


def by_name(name: str) -> Codec:
    """The codec of that name; an unknown one is an error that lists the known."""
    try:
        return CODECS[name]
    except KeyError:
        raise errors.CorpusError(f"unknown memory codec {name!r}; known are {', '.join(CODECS)}") from None


def from_json(value: Any) -> Codec:
    """Parse {name, configuration} as a manifest holds it."""
    if not isinstance(value, dict) or set(value) != {"name", "configuration"}:
        raise errors.CorpusError(f"memory codec {value!r} is not of the form name, configuration")
    codec = by_name(str(value["name"]))
    if value["configuration"] != codec.configuration:
        raise errors.CorpusError(
            f"memory codec {codec.name} has configuration {value['configuration']!r}, "
            f"this version knows {codec.configuration!r}; a newer memcorpus may read it"
        )
    return codec
