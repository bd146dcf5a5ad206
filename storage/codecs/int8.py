"""int8: eight bits a value, scaled by channel and by token.

    token_scale = max over c of |x[c] / channel_scale[c]|, / 127
    code[c] = rint(x[c] / channel_scale[c] / token_scale),  in -127 .. 127
    x[c] ~ code[c] * channel_scale[c] * token_scale

A few channels of T5's residual stream are tens to thousands of times as large as the others, the same
for all tokens (Dettmers et al. 2022, 2208.07339, section 4): with a scale for each token alone, those
few set it, and the others are rounded away. So channels are first brought to one size, by scales that
are trained on a sample.

A stored row is the codes, then the token's scale as a little-endian float32:
uint8 [d + 4], the codes as two's complement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from storage import errors, native
from storage.aliases import AnyArray, Json
from storage.codecs import base
from storage.native import mapped

SCALE_BYTES: Final = 4
CHANNEL_SCALE: Final = "channel_scale"
LARGEST: Final = 127
SHARE: Final = np.float32(1 / LARGEST)
# Tokens whose largest scaled value is below this are stored as zeros: dividing by less overflows.
SMALLEST: Final = 1e-30
SAMPLE_TOKENS: Final = 16384
# Exponents of the norms that are tried for a channel's size. A low one follows the bulk of its values, a
# high one the rare large ones, None the largest alone; which of them errs least, the sample tells.
_NORMS: Final = (2, 4, 8, 16, None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8(base.Codec):
    """Bound: each value is off by at most half a step, channel_scale * token_scale / 2, and the rounding
    of the decoded value to bfloat16 (2**-8 of it)."""

    kind: ClassVar[str] = "int8"
    trained: ClassVar[bool] = True

    @property
    def configuration(self) -> Json:
        return {"token_scale": "float32"}

    def stored_width(self, width: int) -> int:
        return width + SCALE_BYTES

    def parameter_shapes(self, width: int) -> base.Shapes:
        return {CHANNEL_SCALE: ((width,), base.float32)}

    def sample_tokens(self, width: int) -> int:
        return SAMPLE_TOKENS

    def bind(self, width: int, parameters: base.Parameters) -> Int8Coder:
        return Int8Coder(self, width, parameters)

    def train(self, sample: npt.NDArray[np.float32], seed: int = 0) -> dict[str, AnyArray]:
        """Channel scales: of several norms of a channel, the one with the least error on the sample.

        A channel's error counts relative to its own mean square, since a large channel is not a more
        important one: T5 brings channels to one size by the scales of its norms.
        """
        if not len(sample):
            raise errors.CorpusError(f"codec {self.name} cannot be trained on no tokens")
        base.check_values(sample, sample.shape[-1])
        peak = np.maximum(np.abs(sample).max(axis=0), SMALLEST)  # [d]
        best, least = peak, np.inf
        for norm in _NORMS:
            scales = peak
            if norm is not None:
                # Of shares of the peak, whose 16th powers overflow for no memory.
                total = np.zeros(peak.shape, np.float64)
                for rows in base.blocks(*sample.shape):
                    total += ((np.abs(sample[rows]) / peak).astype(np.float64) ** norm).sum(axis=0)
                scales = (peak * (total / len(sample)) ** (1 / norm)).astype(np.float32)
            # A channel that is silent in the sample must not set the step of a token that uses it.
            scales = np.maximum(scales, np.float32(np.median(scales) * 1e-3))
            scales = np.maximum(scales, np.float32(SMALLEST))
            error = _relative_error(sample, scales)
            if error < least:
                best, least = scales, error
        return {CHANNEL_SCALE: np.ascontiguousarray(best, np.float32)}


def _relative_error(sample: npt.NDArray[np.float32], scales: npt.NDArray[np.float32]) -> float:
    """Mean over channels of (error's mean square / values' mean square), uniform rounding assumed."""
    # Rounding to steps of s errs by s**2 / 12 in mean square, and a step is scales[c] / 127 times the token's
    # largest scaled value. So the sum over tokens and channels falls apart into a product of two; the factors
    # 12 and 127**2, which change no comparison, are left out.
    steps = energy = 0.0
    for rows in base.blocks(*sample.shape):
        values = sample[rows].astype(np.float64)
        steps += ((np.abs(values) / scales).max(axis=1) ** 2).sum()
        energy = energy + (values**2).sum(axis=0)
    silent = energy == 0
    shares = np.where(silent, 0.0, scales.astype(np.float64) ** 2 / np.where(silent, 1.0, energy))
    return float(steps * shares.mean())


class Int8Coder(base.Coder):
    """Eight bits a value."""

    def __init__(self, codec: Int8, width: int, parameters: base.Parameters) -> None:
        super().__init__(codec, width, parameters)
        self.scales: npt.NDArray[np.float32] = np.ascontiguousarray(self.parameters[CHANNEL_SCALE])
        if not (np.isfinite(self.scales) & (self.scales >= np.float32(SMALLEST))).all():
            raise errors.CorpusError("channel scales of codec int8 hold what is no positive number")
        # Multiplied by, here and on the device: compilers are free in how they divide.
        self.inverse: npt.NDArray[np.float32] = np.float32(1) / self.scales
        # A value divided by its channel's scale must not overflow.
        self.largest = min(self.largest, float(self.scales.min()) * self.largest)

    def token_scales(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """[n]; 0 for a token that is stored as zeros."""
        peaks = np.abs(values * self.inverse).max(axis=1, initial=0)
        scales: npt.NDArray[np.float32] = np.where(peaks < SMALLEST, 0, peaks * SHARE)
        return scales

    def error_bound(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        steps = self.token_scales(values).astype(np.float64)[:, None] * self.scales
        # A thousandth for the arithmetic in float32; SMALLEST for tokens stored as zeros.
        half = 0.501 * steps + SMALLEST * self.scales
        return base.row_norms(half + base.bfloat16_error(np.abs(values) + half))

    def _encode(self, values: npt.NDArray[np.float32], out: AnyArray) -> None:
        scales = self.token_scales(values)
        ones = np.float32(1)
        scaled = values * self.inverse
        # By the reciprocal, as on the device; a token without a scale is multiplied by 0, not divided by it.
        scaled *= np.where(scales == 0, np.float32(0), ones / np.where(scales == 0, ones, scales))[:, None]
        # Halves go to the even code, as on the device. Codes are symmetric: -128 is never stored.
        np.rint(scaled, out=scaled)
        # The largest value, divided by its own scale, may come out a little above 127.
        np.clip(scaled, -LARGEST, LARGEST, out=scaled)
        np.copyto(out[:, : self.width].view(np.int8), scaled, casting="unsafe")
        out[:, self.width :] = scales.astype("<f4")[:, None].view(np.uint8)

    def _decode(self, stored: AnyArray, out: AnyArray) -> None:
        # A view of a slice, not contiguous: the scales lie between the rows' codes.
        codes = stored[:, : self.width].view(np.int8)
        scales = token_floats(stored, self.width)
        # One block of float32 for all, which stays in the cache; only its rounding goes to memory.
        work = np.empty((min(len(stored), base.block_rows(self.width)), self.width), np.float32)
        # Rows of nobody's codes (a damaged file read unchecked) may overflow; NumPy is not to warn of it.
        # In this order here and on the device: (code * token scale) * channel scale would round differently.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for rows in base.blocks(len(stored), self.width):
                values = work[: rows.stop - rows.start]
                # In this order, as on the device: float32 products do not associate.
                np.multiply(codes[rows], self.scales, out=values)
                np.multiply(values, scales[rows, None], out=values)
                np.copyto(out[rows], values, casting="unsafe")

    def _decode_natively(self, library: native.Library, stored: AnyArray, out: AnyArray) -> bool:
        return library.int8(stored, out, self.scales)

    def recipe(self, library: native.Library) -> mapped.Recipe | None:
        return mapped.int8(library, self.scales)


def token_floats(stored: AnyArray, at: int) -> npt.NDArray[np.float32]:
    """The float32 [n] that begins at byte `at` of each row."""
    # Copied: bytes at any place in a row are not aligned for float32.
    floats: npt.NDArray[np.float32] = np.ascontiguousarray(stored[:, at : at + SCALE_BYTES]).view("<f4")[:, 0]
    return floats


INT8: Final = Int8(name="int8")
