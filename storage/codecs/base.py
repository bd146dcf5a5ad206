"""What all codecs share: the two interfaces, and the checks of what goes in and comes out.

A `Codec` is a name and a configuration: plain data, made without knowing any memory. Bound to a
width and to parameters (trained on a sample of the memory, or none), it is a `Coder`, which turns
rows of values [n, d] into stored rows [n, stored_width] and back.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from storage import errors, native
from storage.aliases import AnyArray, AnyDtype, Json
from storage.native import mapped

bfloat16: Final[AnyDtype] = np.dtype(ml_dtypes.bfloat16)
float32: Final[AnyDtype] = np.dtype("<f4")
float16: Final[AnyDtype] = np.dtype("<f2")
# Types of values that a codec takes: float32 holds each of them as it is.
TAKEN: Final = (float32, bfloat16, float16)
# Tokens that are coded at a time: their float32 intermediates stay in a core's second-level cache.
BLOCK_BYTES: Final = 1 << 19
# Rounding to bfloat16: half a unit of its last place, relative; and below its normal range, absolute.
BFLOAT16_RELATIVE: Final = 2.0**-8
BFLOAT16_ABSOLUTE: Final = 2.0**-134

Parameters = Mapping[str, AnyArray]
Shapes = dict[str, tuple[tuple[int, ...], AnyDtype]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Codec(abc.ABC):
    """How tokens are stored, before any is known.

    Attributes:
        name: as on the command line and in `memory.json`; it names the configuration too.
    """

    name: str

    # Which family of codecs, for those who implement it elsewhere (encoders.quantizing).
    kind: ClassVar[str]
    trained: ClassVar[bool] = False

    @property
    def dtype(self) -> AnyDtype:
        """Of decoded values."""
        return bfloat16

    @property
    def stored_dtype(self) -> AnyDtype:
        """Of stored rows: a type that every Zarr reader knows."""
        return np.dtype("u1")

    @property
    @abc.abstractmethod
    def configuration(self) -> Json:
        """What decides the stored bytes beside the parameters, as JSON."""

    @abc.abstractmethod
    def stored_width(self, width: int) -> int:
        """Columns of a stored row of `width` dimensions.

        Raises:
            CorpusError: the codec cannot store rows of this width.
        """

    @abc.abstractmethod
    def bind(self, width: int, parameters: Parameters) -> Coder:
        """The coder of rows of `width` dimensions.

        Raises:
            CorpusError: the width, or a parameter's name, shape, type or values are not the codec's.
        """

    def to_json(self) -> Json:
        return {"name": self.name, "configuration": self.configuration}

    def token_bytes(self, width: int) -> int:
        """Bytes of one stored token of `width` dimensions."""
        return self.stored_width(width) * self.stored_dtype.itemsize

    def parameter_shapes(self, width: int) -> Shapes:
        """Shape and type of each trained parameter, by name."""
        self.stored_width(width)
        return {}

    def sample_tokens(self, width: int) -> int:
        """Tokens that `train` makes good use of; more cost time and gain nothing."""
        return 0

    def train(self, sample: npt.NDArray[np.float32], seed: int = 0) -> dict[str, AnyArray]:
        """Parameters from a sample of the memory, float32 [n, d]; the same sample gives the same bytes.

        Raises:
            CorpusError: the sample is too small, or holds something that is not finite.
        """
        check_values(sample, sample.shape[-1])
        return {}

    def check_stored(self, stored: AnyArray, width: int) -> None:  # noqa: B027  (most have nothing to refuse)
        """Refuse stored rows [n, stored_width] that no coder writes, and that lead outside of its tables.

        `Coder.decode` refuses them itself; this is for rows that are decoded elsewhere.

        Raises:
            DamagedError: there is one.
        """

    def check_parameters(self, width: int, parameters: Parameters) -> None:
        """Refuse parameters of other names, shapes or types than `parameter_shapes` tells."""
        wanted = self.parameter_shapes(width)
        if set(parameters) != set(wanted):
            raise errors.CorpusError(
                f"codec {self.name} got parameters {sorted(parameters)}, wanted {sorted(wanted)}"
                + ("; train it on a sample of the memory" if wanted and not parameters else "")
            )
        for name, (shape, dtype) in wanted.items():
            found = parameters[name]
            if found.shape != shape or found.dtype != dtype:
                raise errors.CorpusError(
                    f"parameter {name} of codec {self.name} is {found.dtype} {found.shape}, "
                    f"wanted {dtype} {shape}"
                )


class Coder(abc.ABC):
    """A codec bound to a width and parameters. Thread-safe; arrays it is given are not kept.

    Attributes:
        codec: which.
        width: d, dimensions of a token.
        parameters: trained arrays by name; empty for codecs that are not trained.
        largest: magnitude of the largest value that can be stored, whatever the others of its token.
        view_only: stored rows are values already, in another type: `view` shows them, nothing is decoded.
    """

    view_only: ClassVar[bool] = False

    def __init__(self, codec: Codec, width: int, parameters: Parameters) -> None:
        codec.check_parameters(width, parameters)
        self.codec = codec
        self.width = width
        self.stored_width = codec.stored_width(width)
        self.parameters = dict(parameters)
        self.largest = float(ml_dtypes.finfo(codec.dtype).max)  # type: ignore[no-untyped-call]

    def encode(self, values: AnyArray) -> AnyArray:
        """Stored rows [n, stored_width] of values [n, d], float32, bfloat16 or float16.

        Raises:
            CorpusError: another shape or type, or a value that is not finite or too large.
        """
        check_values(values, self.width)
        out = np.empty((len(values), self.stored_width), self.codec.stored_dtype)
        for rows in blocks(len(values), self.width):
            block = np.ascontiguousarray(values[rows], float32)
            if (peak := float(np.abs(block).max())) > self.largest:
                raise errors.CorpusError(
                    f"a memory value of magnitude {peak:.6g} is beyond codec {self.codec.name}, which holds "
                    f"up to {self.largest:.6g}; store bfloat16 or float32"
                )
            self._encode(block, out[rows])
        return out

    def decode(self, stored: AnyArray, out: AnyArray) -> None:
        """Write the values of stored rows [n, stored_width] into `out` [n, d] of the codec's dtype.

        Raises:
            CorpusError: shapes or types are not the coder's, or `out` is not C-contiguous.
        """
        n = len(stored)
        if stored.shape != (n, self.stored_width) or stored.dtype != self.codec.stored_dtype:
            raise errors.CorpusError(
                f"stored rows are {stored.dtype} {stored.shape}, codec {self.codec.name} has "
                f"{self.codec.stored_dtype} [n, {self.stored_width}] at width {self.width}"
            )
        if out.shape != (n, self.width) or out.dtype != self.codec.dtype or not out.flags.c_contiguous:
            raise errors.CorpusError(
                f"out is {out.dtype} {out.shape}, wanted {self.codec.dtype} {(n, self.width)}, C-contiguous"
            )
        stored = np.ascontiguousarray(stored)
        # What native code does not take, such as codes that no coder writes, NumPy decodes, or says what is
        # wrong with it.
        library = native.library()
        if library is None or not out.flags.writeable or not self._decode_natively(library, stored, out):
            self._decode(stored, out)

    def decoded(self, stored: AnyArray) -> AnyArray:
        """The values of stored rows, [n, d]: a view where nothing is to be decoded."""
        if self.view_only:
            return self.view(stored)
        out = np.empty((len(stored), self.width), self.codec.dtype)
        self.decode(stored, out)
        return out

    def view(self, stored: AnyArray) -> AnyArray:
        """Stored rows as values, nothing copied; of coders that are `view_only`."""
        raise TypeError(f"rows of codec {self.codec.name} are codes; decode them")

    @abc.abstractmethod
    def error_bound(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Largest Euclidean distance [n] of the decoded rows from finite values [n, d]."""

    @abc.abstractmethod
    def _encode(self, values: npt.NDArray[np.float32], out: AnyArray) -> None:
        """Code one block of finite float32 rows into stored rows."""

    @abc.abstractmethod
    def _decode(self, stored: AnyArray, out: AnyArray) -> None:
        """Decode any number of rows in NumPy; both arrays are C-contiguous."""

    def _decode_natively(self, library: native.Library, stored: AnyArray, out: AnyArray) -> bool:
        """The same values, to the bit; False where native code does not decode these rows."""
        return False

    def recipe(self, library: native.Library) -> mapped.Recipe | None:
        """How native code decodes rows on their way out of a file; None where it decodes none of these."""
        return None


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of rows whose float32 values stay in the cache."""
    step = block_rows(width)
    return (slice(first, min(first + step, rows)) for first in range(0, rows, step))


def block_rows(width: int) -> int:
    return max(16, BLOCK_BYTES // (4 * max(1, width)))


def check_values(values: AnyArray, width: int) -> None:
    """Refuse what is not rows [n, width] of finite float32, bfloat16 or float16.

    Raises:
        CorpusError: naming the first row that is not finite.
    """
    if values.ndim != 2 or values.shape[1] != width or values.dtype not in TAKEN:
        raise errors.CorpusError(
            f"memory to store is {values.dtype} {values.shape}, wanted [n, {width}] of "
            "float32, bfloat16 or float16"
        )
    for rows in blocks(len(values), width):
        finite = np.isfinite(values[rows]).all(axis=1)
        if not finite.all():
            row = rows.start + int(np.flatnonzero(~finite)[0])
            raise errors.CorpusError(f"memory of token {row} is not finite; are the weights whole?")


def bfloat16_error(values: AnyArray) -> npt.NDArray[np.float64]:
    """Largest error of rounding each of `values` to bfloat16, float64."""
    magnitude = np.abs(values.astype(np.float64))
    return np.maximum(BFLOAT16_RELATIVE * magnitude, BFLOAT16_ABSOLUTE)


def row_norms(values: AnyArray) -> npt.NDArray[np.float64]:
    """Euclidean norm of each row, float64 [n]."""
    norms: npt.NDArray[np.float64] = np.linalg.norm(values.astype(np.float64), axis=1)
    return norms
