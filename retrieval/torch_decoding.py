"""Codes into values in PyTorch, on the device that they lie on.

A store's codes are 2 to 32 times smaller than the values. Read with `fetch(decode=False)`, or by a dataset
with `decode="device"`, they cross the bus as they are stored, and become values behind it.

Values are those of the store's own decoder, to the bit, on any device: what is only looked up and moved (pq,
and the floating-point codecs); and what is multiplied or added one operation after the other, each rounded as
IEEE 754 has it (int8, rq, turbo). Codes that no coder writes give NaN, never a value that looks like one.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from storage import errors
from storage.codecs import Coder
from storage.codecs.floats import FloatCodec
from storage.codecs.int8 import Int8
from storage.codecs.pq import PQ
from storage.codecs.rq import CODES, RQ
from storage.codecs.turbo import OUTLIERS, Turbo

_TYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Decoder(torch.nn.Module):  # type: ignore[misc]
    """A codec's decoder as a module without weights: its tables go where `to` sends it.

        decode = Decoder(reader.coder).to("cuda")
        values = decode(torch.from_dlpack(reader.fetch(ids, decode=False).values).cuda())  # [tokens, d]

    Args:
        coder: of a reader, which holds the version's scales or codebooks.

    Raises:
        CorpusError: there is no decoder for this codec here.
    """

    def __init__(self, coder: Coder) -> None:
        super().__init__()
        self.codec, self.width = coder.codec, coder.width
        self.dtype = _TYPES[str(coder.codec.dtype)]
        self.stored_dtype, self.stored_width = coder.codec.stored_dtype, coder.stored_width
        if isinstance(coder.codec, FloatCodec):
            self._decode = self._plain
        elif isinstance(coder.codec, Int8):
            self._decode = self._int8
            self._table("scales", coder.scales)  # type: ignore[attr-defined]
        elif isinstance(coder.codec, PQ):
            self._decode = self._pq
            books = np.ascontiguousarray(coder.parameters["codebooks"])
            self._dims, self._codes, self._bits = coder.codec.dims, coder.codec.codes, coder.codec.bits
            self._table("books", books.view(np.int16).reshape(-1, self._dims))
            self._buffers["books"] = self._buffers["books"].view(torch.bfloat16)
            self._table("first", np.arange(coder.stored_width, dtype=np.int32) * coder.codec.codes)
        elif isinstance(coder.codec, RQ):
            self._decode = self._rq
            books = np.ascontiguousarray(coder.parameters["codebooks"])
            self._dims, self._steps = coder.codec.dims, coder.codec.steps
            self._table("books", books.view(np.int16).reshape(-1, self._dims))
            self._buffers["books"] = self._buffers["books"].view(torch.bfloat16)
            self._table("first", np.arange(coder.stored_width, dtype=np.int32) * CODES)
        elif isinstance(coder.codec, Turbo):
            self._decode = self._turbo
            self._packed, self._bits = coder.codec.packed, coder.codec.bits
            turn = coder.rotation.turn  # type: ignore[attr-defined]
            self._run, self._block = turn.run, turn.block
            self._table("levels", coder.levels)  # type: ignore[attr-defined]
            self._table("first", turn.first)
            self._table("second", turn.second)
            self._table("mix", turn.mix)
            self._table("norm", np.array(turn.norm, np.float32))
            shifts = np.arange(self._packed, dtype=np.uint8) * self._bits
            self._table("shifts", shifts)
        else:
            raise errors.CorpusError(
                f"codec {coder.codec.name} has no decoder in PyTorch; decode on the host"
            )

    def _table(self, name: str, values: Any) -> None:
        # Not persistent: they are the corpus's, and are not to be saved with a model's weights.
        self.register_buffer(name, torch.from_numpy(np.array(values)), persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        # `model.half()` and the like are meant for weights; in another type these tables would be others.
        kept = {name: table.dtype for name, table in self._buffers.items()}
        moved = {name: fn(table) for name, table in self._buffers.items()}
        for name, table in moved.items():
            same = table.dtype == kept[name]
            self._buffers[name] = table if same else self._buffers[name].to(table.device)
        return self

    def forward(self, stored: torch.Tensor) -> torch.Tensor:
        """Values [..., d] of stored rows [..., stored_width], on their device, of the codec's dtype.

        Raises:
            CorpusError: rows of another width or type.
        """
        wanted = getattr(torch, str(np.dtype(self.stored_dtype)))
        plain = isinstance(self.codec, FloatCodec) and stored.dtype == self.dtype
        if stored.shape[-1:] != (self.stored_width,) or not (plain or stored.dtype == wanted):
            raise errors.CorpusError(
                f"stored rows are {stored.dtype} {list(stored.shape)}, codec {self.codec.name} has {wanted} "
                f"[..., {self.stored_width}] at width {self.width}"
            )
        values: torch.Tensor = self._decode(stored)
        return values

    def _plain(self, stored: torch.Tensor) -> torch.Tensor:
        return stored.view(self.dtype)

    def _int8(self, stored: torch.Tensor) -> torch.Tensor:
        values = stored[..., : self.width].view(torch.int8).float()
        # In the store's order: float32 products do not associate.
        values *= self.scales
        values *= _from_bytes(stored[..., self.width :], torch.float32)
        return values.to(torch.bfloat16)

    def _pq(self, stored: torch.Tensor) -> torch.Tensor:
        codes = stored.to(torch.int32)
        most = self._codes
        places = (codes.clamp(max=most - 1) + self.first).reshape(-1)
        values = self.books.index_select(0, places).reshape(*stored.shape, self._dims)
        if self._bits not in (8, 16):  # else a code's type holds no more than there are
            values = values.masked_fill((codes >= most)[..., None], torch.nan)
        return values.reshape(*stored.shape[:-1], self.width)

    def _rq(self, stored: torch.Tensor) -> torch.Tensor:
        places = (stored.to(torch.int32) + self.first).reshape(-1, self._steps)

        def codes(step: int) -> torch.Tensor:
            return self.books.index_select(0, places[:, step]).float()

        total = codes(0)
        for step in range(1, self._steps):
            total += codes(step)
        return total.to(torch.bfloat16).reshape(*stored.shape[:-1], self.width)

    def _turbo(self, stored: torch.Tensor) -> torch.Tensor:
        rows = stored.reshape(-1, self.stored_width)
        packed = self.width // self._packed
        codes = (rows[:, :packed, None] >> self.shifts) & ((1 << self._bits) - 1)
        values = self.levels[codes.reshape(-1).int()].reshape(len(rows), self.width)
        tail = rows[:, packed:]
        scales = _from_bytes(tail[:, :4], torch.float32) * self.norm
        kept = _from_bytes(tail[:, 4 : 4 + 2 * OUTLIERS], torch.bfloat16)
        places = _from_bytes(tail[:, 4 + 2 * OUTLIERS :], torch.int16).long() & 0xFFFF
        restored = (self._restored(values) * scales).to(torch.bfloat16)
        wrong = (places >= self.width).any(dim=1, keepdim=True)
        places = places.clamp(max=self.width - 1)
        # One after the other, as of several at one place the store's decoder takes the last.
        for i in range(OUTLIERS):
            restored.scatter_(1, places[:, i : i + 1], kept[:, i : i + 1])
        restored.masked_fill_(wrong, torch.nan)
        return restored.reshape(*stored.shape[:-1], self.width)

    def _restored(self, values: torch.Tensor) -> torch.Tensor:
        """The rotation undone, but for its norm, in the order that `storage.codecs.rotation` tells."""
        rows = len(values)
        values = _stages(values, self._run, self._block)
        if self._block < self.width:
            parts = values.reshape(rows, self.width // self._block, self._block)
            mixed = []
            for factors in self.mix.T:
                total = parts[:, 0] * factors[0]
                for i in range(1, parts.shape[1]):
                    # Two roundings, as there: no `addcmul`, which may make them one.
                    total = total + parts[:, i] * factors[i]
                mixed.append(total)
            values = torch.stack(mixed, dim=1).reshape(rows, self.width)
        values = _stages(values, 1, self._run) * self.second
        return _stages(values, 1, self._run) * self.first


def _stages(values: torch.Tensor, first: int, end: int) -> torch.Tensor:
    """Stages first, 2 * first, .. end / 2 of a Hadamard transform, without norms."""
    h, shape = first, values.shape
    while h < end:
        pairs = values.reshape(shape[0], shape[1] // (2 * h), 2, h)
        a, b = pairs[:, :, 0], pairs[:, :, 1]
        values = torch.stack([a + b, a - b], dim=2)
        h *= 2
    return values.reshape(shape)


def _from_bytes(stored: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Values [..., n] of bytes [..., n * itemsize]; within a row nothing is aligned."""
    if not stored.numel():  # whose strides no view takes
        *rows, n = stored.shape
        return torch.empty((*rows, n // dtype.itemsize), dtype=dtype, device=stored.device)
    return stored.contiguous().view(dtype)
