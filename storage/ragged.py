"""Ragged arrays: the memory of k passages back to back, and how other libraries take it over."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from storage.aliases import AnyArray

BFLOAT16: Final = np.dtype(ml_dtypes.bfloat16)
_DLPACK_BFLOAT: Final = 4  # kDLBfloat in dlpack.h


class _DLTensor(ctypes.Structure):
    """The head of dlpack.h's DLTensor, down to its type code."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("type_code", ctypes.c_uint8),
    )


class MemoryArray(np.ndarray[Any, Any]):
    """A NumPy array that also gives bfloat16 to `torch.from_dlpack`, without copying.

    NumPy itself refuses to export ml_dtypes' bfloat16, so the same bytes are exported as uint16 and
    the type code in the capsule is set to bfloat.
    """

    def __dlpack__(self, **_options: Any) -> Any:
        # The options (stream, max_version, ...) ask for at most something; a plain unversioned
        # capsule of CPU memory is always allowed as the answer.
        plain = self.view(np.ndarray)
        if self.dtype != BFLOAT16:
            return plain.__dlpack__()
        capsule = plain.view(np.uint16).__dlpack__()
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype = ctypes.c_void_p
        pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
        _DLTensor.from_address(pointer(capsule, b"dltensor")).type_code = _DLPACK_BFLOAT
        return capsule


@dataclass(frozen=True, kw_only=True, slots=True)
class RaggedMemory:
    """Memory of k passages, in the order asked for.

    Attributes:
        passage_ids: int64 [k].
        offsets: int64 [k + 1]; passage j holds rows offsets[j] to offsets[j + 1] of `values`.
        values: [tokens, d] float32, bfloat16 (ml_dtypes) or float16.
    """

    passage_ids: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    values: MemoryArray

    def __len__(self) -> int:
        return len(self.passage_ids)

    def __getitem__(self, j: int) -> AnyArray:
        """Memory of the j-th passage asked for, [tokens, d]; a view."""
        if not -len(self) <= j < len(self):
            raise IndexError(f"position {j} is outside the {len(self)} passages fetched")
        j %= len(self)
        return self.values[self.offsets[j] : self.offsets[j + 1]]

    def __iter__(self) -> Iterator[AnyArray]:
        return (self[j] for j in range(len(self)))

    def padded(self, max_tokens: int | None = None) -> tuple[AnyArray, npt.NDArray[np.bool_]]:
        """One rectangle for readers with static shapes.

        Args:
            max_tokens: T; passages are padded with zeros or cut to it. Default: the longest's tokens.

        Returns:
            values [k, T, d] and mask [k, T], True where a token is.
        """
        lengths = np.diff(self.offsets)
        if max_tokens is None:
            max_tokens = int(lengths.max(initial=0))
        elif max_tokens < 0:
            raise ValueError(f"max_tokens is {max_tokens}, wanted 0 or more")
        mask = np.arange(max_tokens) < lengths[:, None]
        values = np.zeros((len(self), max_tokens, self.values.shape[1]), self.values.dtype)
        for j, rows in enumerate(self):
            values[j, : len(rows)] = rows[:max_tokens]
        return values.view(MemoryArray), mask


@dataclass(frozen=True, kw_only=True, slots=True)
class PaddedMemory:
    """Memory of k passages in one rectangle, for readers with static shapes.

    Attributes:
        passage_ids: int64 [k].
        lengths: int64 [k], tokens of each, T at most.
        values: [k, T, d]; zeros behind a passage's tokens.
    """

    passage_ids: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    values: MemoryArray

    def __len__(self) -> int:
        return len(self.passage_ids)

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """[k, T], True where a token is."""
        return np.arange(self.values.shape[1]) < self.lengths[:, None]
