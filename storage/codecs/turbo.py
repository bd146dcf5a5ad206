"""turbo4, turbo2: a random rotation, then four or two bits a coordinate, without any training.

    z = x without its four largest values, which are kept as they are
    y = rotate(z);  code[c] = nearest level to y[c] * sqrt(d) / |z|;  z ~ scale * restore(level[code])

After the rotation every coordinate is nearly normal with variance |z|^2 / d, whatever z is, so that the
best scalar quantizer is known beforehand: Lloyd and Max's for the normal distribution. Its mean square
error, relative to |z|^2, is 0.0095 with four bits and 0.1175 with two.
Source: TurboQuant (Zandieh et al. 2025, 2504.19874), section 3.1, the variant for mean square error. Where
it stores |z|, here stands the scale that fits the chosen levels best, (y . level) / (level . level): never
worse, and then the error of a row can never exceed the row itself.

The rotation spreads the error over all dimensions alike, in proportion to |z|. In T5's residual stream a
few channels hold most of |x|, so their error would drown the others (as the paper, section 4.3, treats
outlier channels on their own). Kept aside, they cost 16 bytes a token and no training.

A stored row is the codes, packed from each byte's low bits up; the scale, float32; the values kept aside,
4 bfloat16; their places, 4 uint16; all little-endian: uint8 [d * bits / 8 + 20]. docs/format.md decodes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from storage import errors, native
from storage.aliases import AnyArray, Json
from storage.codecs import base, rotation
from storage.codecs.int8 import SCALE_BYTES
from storage.native import mapped

# Lloyd-Max levels of the standard normal distribution, the positive half; a test solves for them.
# They agree with Max 1960, table I.
POSITIVE_LEVELS: Final = {
    2: (0.45278003, 1.51041761),
    4: (0.12839503, 0.38804830, 0.65675912, 0.94234046, 1.25623120, 1.61804639, 2.06901723, 2.73258957),
}
# Relative mean square error on normal values.
DISTORTION: Final = {2: 0.117482, 4: 0.009501}
OUTLIERS: Final = 4
_VALUES: Final = SCALE_BYTES  # where the values kept aside begin, after the codes; then their places
_PLACES: Final = _VALUES + 2 * OUTLIERS
TAIL_BYTES: Final = _PLACES + 2 * OUTLIERS


@dataclass(frozen=True, kw_only=True, slots=True)
class Turbo(base.Codec):
    """Bound: the error of a row is at most the row (and the rounding to bfloat16); its mean square over
    rows is `DISTORTION` of theirs, whatever the rows, as far as their rotated coordinates are normal."""

    bits: int
    seed: int = 0

    kind: ClassVar[str] = "turbo"

    @property
    def configuration(self) -> Json:
        return {"bits": self.bits, "outliers": OUTLIERS, "rotation": "hadamard", "seed": self.seed}

    @property
    def packed(self) -> int:
        """Codes in a byte."""
        return 8 // self.bits

    def stored_width(self, width: int) -> int:
        if width % self.packed or not OUTLIERS <= width <= 1 << 16:
            raise errors.CorpusError(
                f"codec {self.name} packs {self.packed} dimensions into a byte, the memory's width is "
                f"{width}, wanted a multiple from {OUTLIERS} to 65,536; take int8 or bfloat16"
            )
        return width // self.packed + TAIL_BYTES

    def bind(self, width: int, parameters: base.Parameters) -> TurboCoder:
        return TurboCoder(self, width, parameters)

    def check_stored(self, stored: AnyArray, width: int) -> None:
        # They index the result: of bytes that were read unchecked they may be anything.
        places = np.ascontiguousarray(stored[:, width // self.packed + _PLACES :]).view("<u2")
        if places.size and places.max() >= width:
            raise errors.DamagedError(
                f"a stored value has place {places.max()}, rows of codec {self.name} here have width {width}"
            )


def levels(bits: int) -> npt.NDArray[np.float32]:
    """The 2**bits levels, ascending; code 0 is the lowest."""
    positive = np.array(POSITIVE_LEVELS[bits], np.float32)
    return np.concatenate([-positive[::-1], positive])


def _largest(values: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Places [n, OUTLIERS] of each row's largest magnitudes, ascending; of equals, the first."""
    # By argmax, one after the other, since `argpartition` would take any of equals, and the device's `top_k`
    # takes the first, as argmax does.
    magnitudes = np.abs(values)
    places = np.empty((len(values), OUTLIERS), np.intp)
    for i in range(OUTLIERS):
        places[:, i] = magnitudes.argmax(axis=1)
        # Below every magnitude, also where all are 0: no place is taken twice.
        np.put_along_axis(magnitudes, places[:, i : i + 1], np.float32(-1), axis=1)
    # So that the same values are stored as the same bytes, whatever their order by size.
    places.sort(axis=1)
    return places


@lru_cache(maxsize=8)
def _rotation(width: int, seed: int) -> rotation.Rotation:
    return rotation.Rotation.of(width, seed)


class TurboCoder(base.Coder):
    """Rotated, and each coordinate rounded to the nearest level."""

    codec: Turbo

    def __init__(self, codec: Turbo, width: int, parameters: base.Parameters) -> None:
        super().__init__(codec, width, parameters)
        # The norm of a token must not overflow; twice, as the fit may lengthen it.
        self.largest /= 2 * np.sqrt(width)
        self.rotation = _rotation(width, codec.seed)
        self.levels = levels(codec.bits)
        # A value on a boundary gets the upper level.
        self.boundaries: npt.NDArray[np.float32] = (
            (self.levels[1:] + self.levels[:-1]) / np.float32(2)
        ).astype(np.float32)
        self._code_bytes = width // codec.packed
        # [codes in a byte, 256]: the levels that each byte stands for.
        shifts = np.arange(codec.packed)[:, None] * codec.bits
        codes = np.arange(256) >> shifts & (1 << codec.bits) - 1
        self._table = self.levels[codes]

    def error_bound(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        norms = base.row_norms(values)
        # The row itself, a thousandth for the arithmetic in float32, and bfloat16 twice over.
        return norms * (1.001 + 2 * base.BFLOAT16_RELATIVE) + base.BFLOAT16_ABSOLUTE * self.width

    def _encode(self, values: npt.NDArray[np.float32], out: AnyArray) -> None:
        places = _largest(values)
        kept = np.take_along_axis(values, places, axis=1).astype(base.bfloat16)
        # The block may be the caller's own array.
        values = values.copy()
        np.put_along_axis(values, places, np.float32(0), axis=1)
        # Brought to a peak of 1 first, so that no square overflows or vanishes.
        peaks = np.abs(values).max(axis=1, keepdims=True)
        ones = np.float32(1)
        values /= np.where(peaks == 0, ones, peaks)
        rotated = self.rotation.rotate(values)
        # Of what was rotated, not of the values: the levels are for the coordinates as they came out.
        norms = np.sqrt(np.square(rotated).sum(axis=1, keepdims=True))
        rotated *= np.float32(np.sqrt(self.width)) / np.where(norms == 0, ones, norms)
        codes = np.searchsorted(self.boundaries, rotated, side="right")
        nearest = self.levels[codes]
        # Least squares: the factor by which the chosen levels are nearest to the row. No level is 0, so the
        # divisor is not either; a row of zeros gets the scale 0.
        fit = (rotated * nearest).sum(axis=1) / np.square(nearest).sum(axis=1)
        with np.errstate(under="ignore"):
            scales = fit * (norms * peaks)[:, 0] / np.float32(np.sqrt(self.width))
        packed = np.zeros((len(values), self._code_bytes), np.uint8)
        # Coordinate `place` of each byte's in one sweep; neighbours share a byte, as the table expects.
        for place in range(self.codec.packed):
            packed |= (codes[:, place :: self.codec.packed] << place * self.codec.bits).astype(np.uint8)
        tail = out[:, self._code_bytes :]
        out[:, : self._code_bytes] = packed
        tail[:, :_VALUES] = scales.astype("<f4")[:, None].view(np.uint8)
        tail[:, _VALUES:_PLACES] = kept.view(np.uint8)
        tail[:, _PLACES:] = places.astype("<u2").view(np.uint8)

    def _decode(self, stored: AnyArray, out: AnyArray) -> None:
        # The tail is copied field by field: within a row nothing is aligned.
        codes, tail = stored[:, : self._code_bytes], stored[:, self._code_bytes :]
        scales = np.ascontiguousarray(tail[:, :_VALUES]).view("<f4")
        kept = np.ascontiguousarray(tail[:, _VALUES:_PLACES]).view(base.bfloat16)
        places = np.ascontiguousarray(tail[:, _PLACES:]).view("<u2")
        self.codec.check_stored(stored, self.width)
        # Tokens side by side, a coordinate a row: each step of the transform is then a few long sums.
        p, q = self.rotation.first.shape
        step = min(len(stored), base.block_rows(self.width))
        room, back = np.empty((2, self.width * step), np.float32), np.empty((step, self.width), np.float32)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            # Rounded once, before values are multiplied by it, as in native code.
            scales = scales * self.rotation.norm
            for rows in base.blocks(len(stored), self.width):
                n = rows.stop - rows.start
                values, scratch = room[:, : self.width * n].reshape(2, p, q, n)
                by_byte = values.reshape(self._code_bytes, self.codec.packed, n)
                # NumPy gathers by its own integers.
                indices = codes[rows].T.astype(np.intp)
                for place, table in enumerate(self._table):
                    by_byte[:, place] = table[indices]
                restored = self.rotation.restore(values, scratch)
                # Turned back on the way, as rounding what lies apart takes three times as long.
                turned = back[:n].reshape(n, p, q)
                np.multiply(restored.transpose(2, 1, 0), scales[rows, :, None], out=turned)
                np.copyto(out[rows], back[:n], casting="unsafe")
        # Last: the rotation leaves something of the other dimensions in their places.
        out[np.arange(len(out))[:, None], places] = kept

    def _decode_natively(self, library: native.Library, stored: AnyArray, out: AnyArray) -> bool:
        return library.turbo(stored, out, self.levels, self.rotation.turn)

    def recipe(self, library: native.Library) -> mapped.Recipe | None:
        return mapped.turbo(library, self.width, self.levels, self.rotation.turn)


TURBO4: Final = Turbo(name="turbo4", bits=4)
TURBO2: Final = Turbo(name="turbo2", bits=2)
