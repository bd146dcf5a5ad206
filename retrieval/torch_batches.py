"""Batches of memory as PyTorch tensors: packed or padded, collated of what was fetched, sent to a device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Generic, TypeVar

import numpy as np
import torch

from retrieval.torch_decoding import Decoder
from storage import errors, ragged
from storage.ragged import RaggedMemory

PACKED: Final = "packed"
PADDED: Final = "padded"

B = TypeVar("B", bound="_Batch")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    """What batches have in common: tensors, that can be pinned and sent to a device together."""

    passage_ids: torch.Tensor
    values: torch.Tensor

    def _each(self: B, function: Any) -> B:
        return type(self)(**{field.name: function(getattr(self, field.name)) for field in fields(self)})

    def __len__(self) -> int:
        return len(self.passage_ids)

    def pin_memory(self: B) -> B:
        """In page-locked memory; a DataLoader with `pin_memory=True` calls it."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self: B, device: Any, *, non_blocking: bool = False) -> B:
        """On a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    @property
    def nbytes(self) -> int:
        """Of all tensors: what crosses the bus."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))

    def decoded(self: B, decoder: Decoder) -> B:
        """With values in place of codes; behind a passage's tokens stay zeros."""
        values = decoder(self.values)
        mask = getattr(self, "mask", None)
        if mask is not None:
            values = values.masked_fill(~mask[:, :, None], 0)
        return replace(self, values=values)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedMemory(_Batch):
    """Memory of k passages back to back, without padding.

    Attributes:
        passage_ids: int64 [k].
        values: [tokens, d], of the version's dtype.
        offsets: int32 [k + 1]; passage j holds rows offsets[j] to offsets[j + 1]. Attention over
            variable lengths calls it cu_seqlens.
    """

    offsets: torch.Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class PaddedMemory(_Batch):
    """Memory of k passages in one rectangle.

    Attributes:
        passage_ids: int64 [k].
        values: [k, T, d]; zeros behind a passage's tokens.
        mask: bool [k, T], True where a token is.
    """

    mask: torch.Tensor


class Fetched(Sequence[dict[str, Any]]):
    """The items of one fetch; each is `passage_id` and `values` [tokens, d]. `Collate` takes it whole."""

    def __init__(self, memory: RaggedMemory) -> None:
        self.memory = memory

    def __len__(self) -> int:
        return len(self.memory)

    def __getitem__(self, j: Any) -> Any:
        if isinstance(j, slice):
            return [self[i] for i in range(len(self))[j]]
        return {"passage_id": int(self.memory.passage_ids[j]), "values": tensor(self.memory[j])}


def tensor(values: Any) -> torch.Tensor:
    """A tensor of the same bytes as fetched values, nothing copied."""
    return torch.from_dlpack(values)


class Collate:
    """Makes a batch of the items of a `MemoryDataset`: `DataLoader(..., collate_fn=Collate("padded"))`.

    Args:
        form: "packed", a `PackedMemory`, or "padded", a `PaddedMemory`.
        max_tokens: of the padded: T; longer passages are cut. None: the longest's of the batch.
    """

    def __init__(self, form: str = PACKED, *, max_tokens: int | None = None) -> None:
        if form not in (PACKED, PADDED):
            raise errors.CorpusError(f"form of batches is {form!r:.40}, wanted {PACKED!r} or {PADDED!r}")
        if max_tokens is not None and (form == PACKED or isinstance(max_tokens, bool) or max_tokens < 1):
            raise errors.CorpusError(f"max_tokens is {max_tokens!r:.40}, wanted 1 or more, of padded batches")
        self.form, self.max_tokens = form, max_tokens

    def __call__(self, items: Sequence[dict[str, Any]]) -> PackedMemory | PaddedMemory:
        if isinstance(items, Fetched):
            return self.batch(items.memory)
        lengths = torch.tensor([len(item["values"]) for item in items])
        passage_ids = torch.tensor([item["passage_id"] for item in items])
        if self.form == PACKED:
            values = torch.cat([item["values"] for item in items])
            return PackedMemory(passage_ids=passage_ids, values=values, offsets=_offsets(lengths))
        width = int(lengths.max()) if self.max_tokens is None else self.max_tokens
        first = items[0]["values"]
        padded = first.new_zeros(len(items), width, first.shape[1])
        for j, item in enumerate(items):
            padded[j, : len(item["values"])] = item["values"][:width]
        return PaddedMemory(
            passage_ids=passage_ids, values=padded, mask=torch.arange(width) < lengths[:, None]
        )

    def batch(self, memory: RaggedMemory) -> PackedMemory | PaddedMemory:
        """The batch of what was fetched at once. Packed, its values are those bytes; padded, a copy."""
        passage_ids = torch.from_numpy(memory.passage_ids)
        if self.form == PACKED:
            offsets = torch.from_numpy(memory.offsets.astype(np.int32))
            return PackedMemory(passage_ids=passage_ids, values=tensor(memory.values), offsets=offsets)
        values, mask = memory.padded(self.max_tokens)
        return PaddedMemory(passage_ids=passage_ids, values=tensor(values), mask=torch.from_numpy(mask))

    @staticmethod
    def rectangle(memory: ragged.PaddedMemory) -> PaddedMemory:
        """The batch of what was fetched as one rectangle: those bytes."""
        return PaddedMemory(
            passage_ids=torch.from_numpy(memory.passage_ids),
            values=tensor(memory.values),
            mask=torch.from_numpy(memory.mask),
        )


def _offsets(lengths: torch.Tensor) -> torch.Tensor:
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    offsets[1:] = torch.cumsum(lengths, 0)
    return offsets


class OnDevice(Generic[B]):
    """Batches on a device, the next `ahead` being copied while one is used: wraps a DataLoader.

    With CUDA copies run on a stream of their own, from pinned memory. Elsewhere they are what `to` does.

        data = MemoryDataset("corpus", decode="device")
        for batch in OnDevice(DataLoader(data, ..), "cuda", decoder=data.decoder()):
            batch.values  # bfloat16, of codes that were decoded there

    Args:
        batches: a DataLoader, or what gives batches.
        device: where they go.
        ahead: 1 or more.
        decoder: of a dataset whose batches hold codes: they are decoded on the device, when their turn comes.
    """

    def __init__(
        self, batches: Iterable[B], device: Any, *, ahead: int = 2, decoder: Decoder | None = None
    ) -> None:
        if ahead < 1:
            raise errors.CorpusError(f"ahead is {ahead}, wanted 1 or more")
        self._batches, self._device, self._ahead = batches, torch.device(device), ahead
        self._decoder = None if decoder is None else decoder.to(self._device)

    def _decoded(self, batch: B) -> B:
        return batch if self._decoder is None else batch.decoded(self._decoder)

    def __iter__(self) -> Iterator[B]:
        if self._device.type != "cuda":
            yield from (self._decoded(batch.to(self._device)) for batch in self._batches)
            return
        stream = torch.cuda.Stream(self._device)
        sent: deque[tuple[B, B, Any]] = deque()

        def ready() -> B:
            batch, _, event = sent.popleft()
            torch.cuda.current_stream(self._device).wait_event(event)
            # Freed memory must not be given out again before the user's stream is done with it.
            batch._each(lambda one: one.record_stream(torch.cuda.current_stream(self._device)))
            return self._decoded(batch)

        for batch in self._batches:
            with torch.cuda.stream(stream):
                copied = batch.to(self._device, non_blocking=True)
                event = torch.cuda.Event()
                event.record(stream)
            sent.append((copied, batch, event))  # the source is kept until the copy is done
            if len(sent) > self._ahead:
                yield ready()
        while sent:
            yield ready()
