"""Stored rows served out of mappings of their files, and decoded on the way: see `mapped.h`.

It does what it can, and tells what it could not do: what is not in the page cache, what a disk or somebody's
`truncate` took away, codes that no coder writes. That is read as ever, which finds out what is wrong.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from storage import native

# As mapped.h numbers them.
_COPY, _INT8, _GATHER, _TURBO = range(4)
# Numbers of a span there: the file's address, first row, the row behind the last, where they go, done.
FILE, FIRST, STOP, OUT, DONE = range(5)
COLUMNS: Final = 5

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float32]


class _Turn(ctypes.Structure):
    _fields_ = (
        ("blocks", ctypes.c_int64),
        ("block", ctypes.c_int64),
        ("run", ctypes.c_int64),
        ("norm", ctypes.c_float),
        ("mix", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        ("second", ctypes.c_void_p),
    )


class _Numbers(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int64),
        ("isa", ctypes.c_int64),
        ("row_bytes", ctypes.c_int64),
        ("value_bytes", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("table", ctypes.c_void_p),
        ("groups", ctypes.c_int64),
        ("codes", ctypes.c_int64),
        ("code_bytes", ctypes.c_int64),
        ("item_bytes", ctypes.c_int64),
        ("bits", ctypes.c_int64),
        ("turn", _Turn),
    )


class Recipe:
    """How stored rows become values. Never changed, and so thread-safe.

    Attributes:
        library: whose kernels decode.
        value_bytes: of a row of values.
    """

    def __init__(self, library: native.Library, numbers: _Numbers, kept: tuple[_Array, ...] = ()) -> None:
        self.library, self.value_bytes = library, int(numbers.value_bytes)
        self._numbers, self._kept = numbers, kept
        self.address = ctypes.addressof(numbers)
        self.scratch_bytes = int(library.scratch(self.address))


def copying(library: native.Library, row_bytes: int) -> Recipe:
    """Stored rows are what is wanted."""
    return Recipe(library, _Numbers(kind=_COPY, row_bytes=row_bytes, value_bytes=row_bytes))


def int8(library: native.Library, scales: _Floats) -> Recipe:
    """As `Library.int8`; scales of channels [d]."""
    width = len(scales)
    numbers = _Numbers(kind=_INT8, row_bytes=width + 4, width=width, **_common(library, width, scales))
    return Recipe(library, numbers, (scales,))


def gather(library: native.Library, code_bytes: int, books: _Array) -> Recipe:
    """As `Library.gather`; books [groups, codes, dims] of two-byte values."""
    groups, codes, dims = books.shape
    numbers = _Numbers(
        kind=_GATHER,
        row_bytes=groups * code_bytes,
        groups=groups,
        codes=codes,
        code_bytes=code_bytes,
        item_bytes=2 * dims,
        **_common(library, groups * dims, books),
    )
    return Recipe(library, numbers, (books,))


def turbo(library: native.Library, width: int, levels: _Floats, turn: native.Turn) -> Recipe:
    """As `Library.turbo`; levels [2**bits]."""
    bits = len(levels).bit_length() - 1
    arrays = (levels, turn.mix, turn.first, turn.second)
    rotation = _Turn(width // turn.block, turn.block, turn.run, turn.norm, *map(_at, arrays[1:]))
    numbers = _Numbers(
        kind=_TURBO,
        row_bytes=width * bits // 8 + 20,
        width=width,
        bits=bits,
        turn=rotation,
        **_common(library, width, levels),
    )
    return Recipe(library, numbers, arrays)


def _common(library: native.Library, width: int, table: _Array) -> dict[str, Any]:
    return {"isa": library.isa, "value_bytes": 2 * width, "table": _at(table)}


def _at(array: _Array) -> int:
    if not array.flags.c_contiguous:
        raise ValueError("a table of a codec does not lie in one piece")
    return array.ctypes.data


class Mapping:
    """A file of values, mapped for as long as this lives.

    Attributes:
        address: of its numbers, for a span.
    """

    __slots__ = ("_library", "_numbers", "address")

    def __init__(self, library: native.Library, map_address: int, numbers: tuple[int, int, int]) -> None:
        self._library = library
        self._numbers = (ctypes.c_int64 * 4)(map_address, *numbers)
        self.address = ctypes.addressof(self._numbers)

    @classmethod
    def of(cls, library: native.Library, descriptor: int, size: int, chunk_rows: int) -> Mapping | None:
        """Map an open file of this size, whose chunks have so many rows; None where it cannot be mapped, or
        belongs to somebody else, of whose files the system does not say what is in the page cache.

        The descriptor must be open as long as rows are served.
        """
        address = library.map(descriptor, size)
        return None if not address else cls(library, address, (size, descriptor, chunk_rows))

    def __del__(self) -> None:
        self._library.unmap(self._numbers[0], self._numbers[1])


def serve(spans: npt.NDArray[np.int64], following: npt.NDArray[np.int64], recipe: Recipe) -> None:
    """Copy or decode rows to where they go, and set `DONE` of those spans that are done.

    Args:
        spans: int64 [n, 5], C-contiguous; who calls keeps the files' mappings, and has checked that there is
            room for the rows where they go.
        following: int64 [1], the span to begin with: 0. Threads that are given the same two arrays share
            the work.
    """
    # From an address that is a multiple of 64.
    scratch = np.empty(recipe.scratch_bytes + 64, np.uint8)
    address = -(-scratch.ctypes.data // 64) * 64
    recipe.library.serve(spans.ctypes.data, len(spans), following.ctypes.data, recipe.address, address)
