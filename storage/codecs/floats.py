"""float32, bfloat16, float16: plain rounding to a floating-point type.

Types that zarr-python cannot open are kept as unsigned integers of the same width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from storage.aliases import AnyArray, AnyDtype, Json
from storage.codecs import base


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatCodec(base.Codec):
    """Rounding to `logical`, once, from float32.

    `relative_error` bounds |stored - computed| / |computed| for values in the type's normal range:
    half a unit in the last place, 2**-(mantissa bits + 1). Values too small for the normal range
    are off by at most `absolute_error`.
    """

    logical_dtype: AnyDtype
    stored_as: AnyDtype
    relative_error: float
    absolute_error: float

    kind: ClassVar[str] = "float"

    @property
    def dtype(self) -> AnyDtype:
        return self.logical_dtype

    @property
    def stored_dtype(self) -> AnyDtype:
        return self.stored_as

    @property
    def configuration(self) -> Json:
        return {}

    def stored_width(self, width: int) -> int:
        return width

    def bind(self, width: int, parameters: base.Parameters) -> FloatCoder:
        return FloatCoder(self, width, parameters)

    def stored(self, values: AnyArray) -> AnyArray:
        """View values of `dtype` as they lie in the file."""
        if values.dtype != self.dtype:
            raise TypeError(f"codec {self.name} stores {self.dtype}, got {values.dtype}")
        return values.view(self.stored_dtype)

    def logical(self, stored: AnyArray) -> AnyArray:
        """View stored rows as values; nothing is copied."""
        return stored.view(self.dtype)


class FloatCoder(base.Coder):
    """Stored rows are the values, bit for bit."""

    codec: FloatCodec
    view_only: ClassVar[bool] = True

    def view(self, stored: AnyArray) -> AnyArray:
        return self.codec.logical(stored)

    def error_bound(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        # Half a unit of the last place, or, among the subnormal numbers, half of the smallest of them (2**-24
        # of float16, 2**-133 of bfloat16), whichever is more.
        magnitude = np.abs(values.astype(np.float64))
        error = np.maximum(self.codec.relative_error * magnitude, self.codec.absolute_error)
        return base.row_norms(error)

    def _encode(self, values: npt.NDArray[np.float32], out: AnyArray) -> None:
        # To nearest, halves to even, in one step. What becomes subnormal or 0 is within the absolute error;
        # what would become infinite has been refused by `encode`.
        with np.errstate(under="ignore"):
            np.copyto(out.view(self.codec.dtype), values, casting="unsafe")

    def _decode(self, stored: AnyArray, out: AnyArray) -> None:
        np.copyto(out, self.codec.logical(stored))


FLOAT32: Final = FloatCodec(
    name="float32",
    logical_dtype=base.float32,
    stored_as=base.float32,
    relative_error=0.0,
    absolute_error=0.0,
)
BFLOAT16: Final = FloatCodec(
    name="bfloat16",
    logical_dtype=base.bfloat16,
    stored_as=np.dtype("<u2"),
    relative_error=base.BFLOAT16_RELATIVE,
    absolute_error=base.BFLOAT16_ABSOLUTE,
)
# T5's residual stream reaches values that float16 cannot hold in large models; storing one raises.
FLOAT16: Final = FloatCodec(
    name="float16",
    logical_dtype=base.float16,
    stored_as=base.float16,
    relative_error=2.0**-11,
    absolute_error=2.0**-25,
)
