"""Decoding in native code, where it was built: the same bits as NumPy's, several times as fast.

`decode.c` beside this file is compiled when memcorpus is installed and there is a compiler (`building`). One
shared library serves every Python, loaded with ctypes, which lets go of the GIL. Which instructions it uses
is decided here, when it is loaded, by what the processor has. Without it everything works, in NumPy.

MEMCORPUS_NATIVE says what may be used: `off` nothing, `plain`, `avx2` or `avx512` no more than that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from storage import errors
from storage.native import building

VARIABLE: Final = "MEMCORPUS_NATIVE"
OFF: Final = "off"
# As decode.c numbers them.
INSTRUCTIONS: Final = ("plain", "avx2", "avx512")
REMEDY: Final = "`python -m storage.native` builds it"

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Turn:
    """A rotation as decode.c takes it; `storage.codecs.rotation.Rotation` says what each is.

    Attributes:
        block, run: powers of two; run divides block, and block the width.
        norm: what restored rows are multiplied by, with their scales.
        mix: float32 [width / block, width / block].
        first, second: float32 [width].
    """

    block: int
    run: int
    norm: float
    mix: _Floats
    first: _Floats
    second: _Floats


class Library:
    """Kernels for one set of instructions. Thread-safe.

    Every function looks at the lengths of what it is given and returns False where they do not fit, or where
    stored rows hold what no coder writes; then NumPy is to decode, and to say what is wrong.

    Attributes:
        instructions: which; `isa` is their number.
    """

    def __init__(self, path: Path, most: str = INSTRUCTIONS[-1]) -> None:
        """Load.

        Args:
            most: instructions beyond these are not used, and none that the processor lacks.

        Raises:
            OSError: it does not load, or was made of other sources than lie here.
        """
        library = ctypes.CDLL(str(path))
        try:
            library.memcorpus_source.restype = ctypes.c_uint64
            source = int(library.memcorpus_source())
        except AttributeError:
            source = -1
        # A library of other sources may take other arguments.
        if source != building.source_digest():
            raise OSError(f"{path} was built of other sources")
        self.isa = min(INSTRUCTIONS.index(most), int(library.memcorpus_widest()))
        self.instructions = INSTRUCTIONS[self.isa]
        pointer, size, isa = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
        self._int8 = library.memcorpus_int8
        self._int8.argtypes = (isa, pointer, pointer, size, size, pointer)
        self._gather = library.memcorpus_gather
        self._gather.argtypes = (isa, pointer, pointer, *[size] * 5, pointer)
        self._add = library.memcorpus_add
        self._add.argtypes = (isa, pointer, pointer, *[size] * 5, pointer)
        self._turbo = library.memcorpus_turbo
        self._turbo.argtypes = (
            *(isa, pointer, pointer, size, size, pointer, size, size, size),
            *(ctypes.c_float, pointer, pointer, pointer, pointer),
        )
        # For `mapped`, which serves rows out of mappings of their files.
        self.map, self.unmap = library.memcorpus_map, library.memcorpus_unmap
        self.map.restype, self.map.argtypes = pointer, (size, size)
        self.unmap.restype, self.unmap.argtypes = None, (pointer, size)
        self.serve = library.memcorpus_serve
        self.serve.restype, self.serve.argtypes = size, (pointer, size, *[pointer] * 3)
        self.copied = library.memcorpus_copied
        self.copied.restype, self.copied.argtypes = isa, (size, pointer, pointer, size)
        # Under the GIL: nobody changes meanwhile what it looks at.
        self.plan = ctypes.PyDLL(str(path)).memcorpus_plan
        self.plan.restype = size
        self.plan.argtypes = (pointer, size, pointer, *[size] * 5, *[pointer] * 4)

    def int8(self, stored: _Array, out: _Array, scales: _Floats) -> bool:
        """Rows [n, d + 4] of codes and a token's scale, into bfloat16 [n, d]; scales of channels [d]."""
        n, width = out.shape
        if not _fit(stored, n * (width + 4)) or not _fit(out, 2 * n * width) or not _fit(scales, 4 * width):
            return False
        return bool(self._int8(self.isa, _at(stored), _at(out), n, width, _at(scales)))

    def gather(self, stored: _Array, out: _Array, books: _Array) -> bool:
        """Codes [n, groups], uint8 or uint16, into two-byte values [n, groups * dims] of books
        [groups, codes, dims]."""
        groups, codes, dims = books.shape
        n, wide = len(stored), stored.dtype.itemsize
        if (
            wide not in (1, 2)
            or not _fit(stored, n * groups * wide)
            or not _fit(out, 2 * n * groups * dims)
            or not _fit(books, 2 * groups * codes * dims)
        ):
            return False
        return bool(
            self._gather(
                self.isa, _at(stored), _at(out), n, groups, codes, wide, 2 * dims, _at(books)
            )
        )  # fmt: skip

    def add(self, stored: _Array, out: _Array, books: _Array) -> bool:
        """Codes uint8 [n, groups * steps] into bfloat16 [n, groups * dims], sums over the steps of books
        [groups, steps, codes, dims]."""
        groups, steps, codes, dims = books.shape
        n = len(stored)
        if (
            not _fit(stored, n * groups * steps)
            or not _fit(out, 2 * n * groups * dims)
            or not _fit(books, 2 * groups * steps * codes * dims)
        ):
            return False
        return bool(self._add(self.isa, _at(stored), _at(out), n, groups, steps, codes, dims, _at(books)))

    def turbo(self, stored: _Array, out: _Array, levels: _Floats, turn: Turn) -> bool:
        """Rows [n, d * bits / 8 + 20] of codes, scale and values kept aside, into bfloat16 [n, d]; levels
        [2**bits], bits 2 or 4."""
        n, width = out.shape
        bits, blocks = len(levels).bit_length() - 1, width // turn.block
        if (
            bits not in (2, 4)
            or len(levels) != 1 << bits
            or blocks * turn.block != width
            or width * bits % 8
            or not _fit(stored, n * (width * bits // 8 + 20))
            or not _fit(out, 2 * n * width)
            or not _fit(levels, 4 << bits)
            or not _fit(turn.mix, 4 * blocks * blocks)
            or not all(_fit(signs, 4 * width) for signs in (turn.first, turn.second))
        ):
            return False
        scratch = np.empty(2 * width, np.float32)
        return bool(
            self._turbo(
                *(self.isa, _at(stored), _at(out), n, bits, _at(levels)),
                *(blocks, turn.block, turn.run, turn.norm),
                *(_at(turn.mix), _at(turn.first), _at(turn.second), _at(scratch)),
            )
        )


def _fit(array: _Array, size: int) -> bool:
    return array.nbytes == size and array.flags.c_contiguous


def _at(array: _Array) -> int:
    return array.ctypes.data


class _State(NamedTuple):
    library: Library | None
    # Why there is none.
    reason: str


_state: _State | None = None


def library() -> Library | None:
    """What decodes in this process, or None: then NumPy does. Loaded when first asked for.

    Raises:
        CorpusError: MEMCORPUS_NATIVE holds what is none of its values.
    """
    return _loaded().library


def description() -> str:
    """Who decodes, for people: "native code (avx512)", or "NumPy" and why."""
    found = _loaded()
    if found.library is not None:
        return f"native code ({found.library.instructions})"
    return f"NumPy ({found.reason})"


@contextlib.contextmanager
def using(library: Library | None) -> Iterator[None]:
    """For tests and benchmarks: decode with this in the whole process, or with NumPy."""
    global _state
    before, _state = _state, _State(library, "not wanted here")
    try:
        yield
    finally:
        _state = before


def _loaded() -> _State:
    global _state
    # Threads that come here at once load it more than once, which is harmless.
    if _state is None:
        _state = _load()
    return _state


def _load() -> _State:
    most = os.environ.get(VARIABLE) or INSTRUCTIONS[-1]
    if most in (OFF, "0"):
        return _State(None, f"{VARIABLE} is {most}")
    if most not in INSTRUCTIONS:
        raise errors.CorpusError(f"{VARIABLE} is {most!r}, wanted {OFF} or one of {', '.join(INSTRUCTIONS)}")
    path = building.path()
    if not path.is_file():
        return _State(None, f"native code was not built; {REMEDY}")
    try:
        return _State(Library(path, most), "")
    except OSError as e:
        return _State(None, f"native code does not load: {str(e)[:200]}; {REMEDY}")
