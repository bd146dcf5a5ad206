"""Stored rows served out of mappings of their files, and decoded on the way: see `mapped.h`.

It does what it can, and tells what it could not do: what is not in the page cache, what a disk or somebody's
`truncate` took away, codes that no coder writes. That is read as ever, which finds out what is wrong.
"""

from __future__ import annotations

import ctypes
import operator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from storage import native

# As mapped.h numbers them.
_COPY, _INT8, _GATHER, _TURBO, _ADD = range(5)
# Numbers of a span there, and of a shard that spans are of.
_SPAN, _DONE = 6, 5
_SHARD: Final = 3
# No passage is so long that a bound of this size means anything else.
_FAR: Final = 1 << 40

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
        ("steps", ctypes.c_int64),
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


def copying(library: native.Library, row_bytes: int) -> Recipe:
    """Stored rows are what is wanted."""
    return Recipe(library, _Numbers(kind=_COPY, isa=library.isa, row_bytes=row_bytes, value_bytes=row_bytes))


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


def add(library: native.Library, books: _Array) -> Recipe:
    """As `Library.add`; books [groups, steps, codes, dims] of bfloat16."""
    groups, steps, codes, dims = books.shape
    numbers = _Numbers(
        kind=_ADD,
        row_bytes=groups * steps,
        groups=groups,
        steps=steps,
        codes=codes,
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


class Segments(NamedTuple):
    """Where the passages of each generation lie, as in `mapped.h`: address, count, and what is there."""

    address: int
    generations: int
    numbers: npt.NDArray[np.int64]
    kept: object

    @classmethod
    def of(cls, numbers: npt.NDArray[np.int64], kept: object) -> Segments:
        """Of int64 [n, 7]; `kept` has what they point to."""
        return cls(numbers.ctypes.data, len(numbers), numbers, kept)


class Plan:
    """Which rows are wanted of which files: where they go, and what has been served.

    Attributes:
        total: rows of the result.
        offsets: int64 [k + 1], where each passage begins, back to back.
        shards: (segment, shard, address of its mapping or 0), of the passages that may be served; some twice.
    """

    __slots__ = ("_following", "_room", "_spans", "offsets", "shards", "total")

    def __init__(
        self, total: int, offsets: npt.NDArray[np.int64], room: npt.NDArray[np.int64], at: int
    ) -> None:
        """`room` begins with spans, and `at` is its address."""
        count = len(offsets) - 1
        self.total, self.offsets, self._room, self._spans = total, offsets, room, at
        first = count * _SPAN
        stop = first + count * _SHARD
        met = room.item(stop)
        self.shards = room[first : first + _SHARD * met].reshape(-1, _SHARD).tolist()
        # The span that is served next, whichever thread does.
        self._following = at + 8 * (stop + 1)

    def serve(self, recipe: Recipe, values: _Array, *_held: object) -> int:
        """Serve what nobody else has begun, into `values` [total or more, d]; returns how many passages.

        Several threads may do so at once, each keeping the mappings meanwhile, which are `_held`.
        """
        count = len(self.offsets) - 1
        return int(
            recipe.library.serve(self._spans, count, self._following, recipe.address, values.ctypes.data)
        )

    def left(self) -> npt.NDArray[np.intp]:
        """Of k passages the places of those that were not served."""
        count = len(self.offsets) - 1
        return np.flatnonzero(self._room[: count * _SPAN].reshape(-1, _SPAN)[:, _DONE] == 0)


def plan(
    library: native.Library,
    segments: Segments,
    wanted: npt.NDArray[np.int64],
    tokens: slice | None,
    *,
    apart: int = 0,
    always: bool = False,
) -> Plan | None:
    """Plan a fetch of passages [k].

    Args:
        segments: where passages lie.
        tokens: which of each passage, as Python slices a list, step 1; None: all.
        apart: rows of the result from one passage to the next; 0: they lie back to back.
        always: serve without asking which passages were compared with their checksum.

    Returns:
        None where a passage is not there, or nobody knows yet where it lies.
    """
    count = len(wanted)
    begin, end = 0, _FAR
    if tokens is not None:
        begin = 0 if tokens.start is None else max(-_FAR, min(operator.index(tokens.start), _FAR))
        end = _FAR if tokens.stop is None else max(-_FAR, min(operator.index(tokens.stop), _FAR))
    # Spans, shards, their number, the next span; and the offsets, whose address is asked for no second time.
    first = count * (_SPAN + _SHARD) + 2
    room = np.empty(first + count + 1, np.int64)
    at = room.ctypes.data
    shards = at + 8 * count * _SPAN
    total = library.plan(
        *(segments[0], segments[1], wanted.ctypes.data, count, begin, end, apart, always),
        *(at, at + 8 * first, shards, shards + 8 * count * _SHARD),
    )
    return None if total < 0 else Plan(int(total), room[first:], room, at)


def copied(library: native.Library, out: _Array, address: int) -> bool:
    """Fill `out` from an address in a mapping; False where the bytes are not there, and nobody is killed."""
    return bool(library.copied(library.isa, out.ctypes.data, address, out.nbytes))
