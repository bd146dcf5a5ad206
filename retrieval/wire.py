"""What travels between a service and its clients: arrays as the bytes of a safetensors file.

A safetensors file is eight bytes, a header in JSON that long, and then the arrays back to back. So a reply is
its header and the arrays' own memory, and whoever reads it can have an array's bytes put where he wants them.
The format's rules that are held here: https://github.com/huggingface/safetensors (little-endian, C order, no
gaps, names of types as below).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import ml_dtypes
import numpy as np

from storage import errors, files
from storage.aliases import AnyArray, AnyDtype

# What a service's description of its corpus says first; a plain web server says none of it.
SERVICE: Final = "memcorpus"
PROTOCOL: Final = 1
DESCRIPTION_PATH: Final = "/v1/corpus"

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
# Nobody has registered a name for it.
SAFETENSORS: Final = "application/vnd.safetensors"
ARROW: Final = "application/vnd.apache.arrow.stream"

# Headers: which corpus an answer is of, and which memory.
STATE: Final = "memcorpus-state"
VERSION: Final = "memcorpus-version"
FINGERPRINT: Final = "memcorpus-fingerprint"
ENCODER: Final = "memcorpus-encoder"
CODEC: Final = "memcorpus-codec"
# The environment's variable with the token of a service.
TOKEN: Final = "MEMCORPUS_TOKEN"

MAX_HEADER_BYTES: Final = 1 << 20
_LENGTH_BYTES: Final = 8
_TYPES: Final[dict[str, AnyDtype]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
}
_NAMES: Final = {dtype: name for name, dtype in _TYPES.items()}


def pack(tensors: Mapping[str, AnyArray], metadata: Mapping[str, str] | None = None) -> list[memoryview]:
    """Arrays as the parts of a safetensors file, nothing of them copied; joined they are the file."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts: list[memoryview] = []
    at = 0
    for name, array in tensors.items():
        data = files.bytes_of(np.ascontiguousarray(array))
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [at, at + len(data)],
        }
        parts.append(data)
        at += len(data)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % _LENGTH_BYTES)
    return [memoryview(len(head).to_bytes(_LENGTH_BYTES, "little") + head), *parts]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """An array that is announced: its type and shape."""

    dtype: AnyDtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def empty(self) -> AnyArray:
        return np.empty(self.shape, self.dtype)


def read_header(fill: Callable[[memoryview], None], *, most_bytes: int) -> dict[str, Tensor]:
    """The arrays that follow, in their order.

    Args:
        fill: reads exactly as many bytes as it is given room for.
        most_bytes: that all arrays together may have.

    Raises:
        CorpusError: these bytes are no safetensors, or announce more than that.
    """
    length = bytearray(_LENGTH_BYTES)
    fill(memoryview(length))
    size = int.from_bytes(length, "little")
    if not 2 <= size <= MAX_HEADER_BYTES:
        raise _malformed(f"a header of {size:,} bytes")
    head = bytearray(size)
    fill(memoryview(head))
    try:
        fields = json.loads(head)
        fields.pop("__metadata__", None)
        found = {
            str(name): (
                _TYPES[one["dtype"]],
                tuple(int(n) for n in one["shape"]),
                tuple(int(n) for n in one["data_offsets"]),
            )
            for name, one in fields.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as e:
        raise _malformed(f"a header that makes no sense ({type(e).__name__})") from None
    tensors = {}
    at = 0
    for name, (dtype, shape, offsets) in sorted(found.items(), key=lambda item: item[1][2]):
        tensor = Tensor(dtype=dtype, shape=shape)
        if min(shape, default=0) < 0 or offsets != (at, at + tensor.bytes):
            raise _malformed(f"array {name[:40]!r} at other bytes than its shape takes")
        at += tensor.bytes
        tensors[name] = tensor
    if at > most_bytes:
        raise _malformed(f"{at:,} bytes of arrays, wanted {most_bytes:,} at most")
    return tensors


def unpack(data: bytes | bytearray | memoryview) -> dict[str, AnyArray]:
    """The arrays of a whole file in memory; views of it.

    Raises:
        CorpusError: these bytes are no safetensors, end early or go on too long.
    """
    view = memoryview(data)
    at = 0

    def fill(target: memoryview) -> None:
        nonlocal at
        if at + len(target) > len(view):
            raise _malformed("fewer bytes than it announces")
        target[:] = view[at : at + len(target)]
        at += len(target)

    found = {}
    for name, tensor in read_header(fill, most_bytes=len(view)).items():
        if at + tensor.bytes > len(view):
            raise _malformed("fewer bytes than it announces")
        found[name] = np.frombuffer(view[at : at + tensor.bytes], tensor.dtype).reshape(tensor.shape)
        at += tensor.bytes
    if at != len(view):
        raise _malformed("more bytes than it announces")
    return found


def _malformed(what: str) -> errors.CorpusError:
    return errors.CorpusError(f"what came is no safetensors: {what}")
