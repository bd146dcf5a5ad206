"""A shard of states: rows that are checked, coded in blocks as they come, and written whole."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from storage import arrays, canaries, codecs, errors, files, memory_store, receipts
from storage.aliases import AnyArray
from storage.codecs import base
from storage.folder import CorpusFolder
from storage.memory_store import MemoryLayout
from storage.receipts import Counts, Receipt
from storage.work_folder import WorkFolder
from storage.writer.plan import WriterPlan

# The name of the stage, as builds have it: statistics and progress know it by that.
STAGE: Final = "shards"
_ROWS: Final = ".rows"
_CANARIES: Final = ".canaries"
# Rows that are coded together: whole blocks of the codec's own, so that bytes depend on the rows alone.
_BLOCKS: Final = 16


@dataclass(frozen=True, kw_only=True)
class WrittenCounts(Counts):
    """What a shard holds.

    Attributes:
        passages, tokens: in it; `tokens_min` and `tokens_max` of its shortest and longest passage.
        memory_bytes: of the passages' rows.
        memory_stored_bytes: of the file of values.
    """

    passages: int = 0
    tokens: int = 0
    memory_bytes: int = 0
    memory_stored_bytes: int = 0
    tokens_min: int = receipts.least()
    tokens_max: int = receipts.most()


def rows_file(work: WorkFolder, shard: int) -> Path:
    """Where a shard's rows of `offsets` and `checksums` wait to be joined."""
    return work.side_file(STAGE, shard, _ROWS)


def canaries_file(work: WorkFolder, shard: int) -> Path:
    """Where the canaries of a shard wait to be joined."""
    return work.side_file(STAGE, shard, _CANARIES)


def states(values: Any, width: int, max_tokens: int, what: str) -> AnyArray:
    """States of one passage as they are stored: [tokens, width] of a type that codecs take.

    Args:
        values: an array or tensor [tokens, width], or [tokens, layers, ...] whose last dimensions make the
            width together; of NumPy, JAX or PyTorch, on whatever device.
        width, max_tokens: of the layout.
        what: the passage, in errors.

    Raises:
        CorpusError: no tokens or too many, another width, another type, a value that is not finite.
    """
    found = _array(values)
    if not isinstance(found, np.ndarray) or found.dtype not in base.TAKEN:
        kind = found.dtype if isinstance(found, np.ndarray) else arrays.shown(values)
        raise errors.CorpusError(f"{what} has states of type {kind}, wanted float32, bfloat16 or float16")
    if found.ndim < 2 or int(np.prod(found.shape[1:])) != width:
        raise errors.CorpusError(
            f"{what} has states of shape {list(found.shape)}, wanted [tokens, {width}], or more dimensions "
            f"that make {width} together"
        )
    if not 1 <= len(found) <= max_tokens:
        rule = "wanted 1 or more" if len(found) == 0 else f"wanted up to {max_tokens}; cut them"
        raise errors.CorpusError(f"{what} has {len(found)} tokens, {rule}")
    return found.reshape(len(found), width)


def _array(values: Any) -> Any:
    """As NumPy; bfloat16 of PyTorch keeps its bits."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor) and values.dtype == torch.bfloat16:
        bits = values.detach().cpu().contiguous().view(torch.int16).numpy()
        return bits.view(base.bfloat16)
    try:
        return np.asarray(arrays.plain(values))
    except (TypeError, ValueError) as e:
        if isinstance(e, errors.CorpusError):
            raise
        return None


class _Coding:
    """Rows of a shard one after the other, coded a block at a time into the buffer of stored rows."""

    def __init__(self, layout: MemoryLayout, coder: codecs.Coder, passages: int) -> None:
        self._layout, self._coder = layout, coder
        # As if each were full: pages that are never written to are never there.
        self.buffer = memory_store.allocate(layout, passages * layout.max_tokens)
        self._block = np.empty((_BLOCKS * base.block_rows(layout.width), layout.width), np.float32)
        self._filled = self._coded = 0

    def add(self, values: AnyArray, what: str) -> None:
        peak = float(np.abs(values).max())
        # Written so that NaN fails too.
        if not peak <= self._coder.largest:
            if not np.isfinite(values).all():
                token = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
                raise errors.CorpusError(f"{what} has a value that is not finite, in token {token}")
            raise errors.CorpusError(
                f"{what} has a value of magnitude {peak:.6g}, codec {self._layout.codec.name} holds up to "
                f"{self._coder.largest:.6g}; store bfloat16 or float32"
            )
        at = 0
        while at < len(values):
            count = min(len(values) - at, len(self._block) - self._filled)
            self._block[self._filled : self._filled + count] = values[at : at + count]
            self._filled, at = self._filled + count, at + count
            if self._filled == len(self._block):
                self._code()

    def _code(self) -> None:
        stop = self._coded + self._filled
        self.buffer[self._coded : stop] = self._coder.encode(self._block[: self._filled])
        self._coded, self._filled = stop, 0

    def finish(self) -> AnyArray:
        """The buffer, cut to whole chunks."""
        self._code()
        chunk = self._layout.chunk_rows
        return self.buffer[: -(-self._coded // chunk) * chunk]


@dataclass(frozen=True, kw_only=True, slots=True)
class Coded:
    """A shard's stored rows: where each passage begins, the buffer, the canaries' bytes as given."""

    offsets: npt.NDArray[np.int64]
    buffer: AnyArray
    canaries: bytes


def code(layout: MemoryLayout, shard: int, values: Iterable[Any], coder: codecs.Coder) -> Coded:
    """Check and code the states of a shard's passages.

    Args:
        layout: of the version.
        shard: which.
        values: the states of each of its passages, in order; see `states`.
        coder: of the layout's codec.

    Raises:
        CorpusError: something is wrong with a passage's states, or there are fewer or more than passages.
    """
    first, stop = layout.grid.bounds(shard)
    kept: list[bytes] = []
    chosen = set(canaries.within(layout.grid.passages, first, stop))
    lengths: list[int] = []
    coding = _Coding(layout, coder, stop - first)
    for item in values:
        passage = first + len(lengths)
        if passage == stop:
            raise errors.CorpusError(
                f"shard {shard} got states for more than its {stop - first} passages, {first} to {stop - 1}"
            )
        found = states(item, layout.width, layout.max_tokens, f"passage {passage}")
        coding.add(found, f"passage {passage}")
        if passage in chosen:
            kept.append(canaries.stored_bytes(np.ascontiguousarray(found).astype(layout.codec.dtype)))
        lengths.append(len(found))
    if first + len(lengths) != stop:
        raise errors.CorpusError(
            f"shard {shard} got states for {len(lengths)} passages, wanted all of its {stop - first}, "
            f"{first} to {stop - 1}"
        )
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Coded(offsets=offsets, buffer=coding.finish(), canaries=b"".join(kept))


def write(
    corpus: CorpusFolder,
    plan: WriterPlan,
    shard: int,
    values: Iterable[Any],
    *,
    coder: codecs.Coder,
    notes: Sequence[dict[str, str]],
) -> None:
    """Write a shard: its values into the version's folder, what the commit needs, the receipt last.

    Args:
        corpus: that is written to.
        plan: of the version.
        shard, values, coder: see `code`.
        notes: what the receipt says of the codec's parameters.

    Raises:
        CorpusError: as `code`; nothing is written.
    """
    layout, work = plan.layout, corpus.work
    begun = time.perf_counter()
    coded = code(layout, shard, values, coder)
    written_from = time.perf_counter()
    written = memory_store.write_shard(
        corpus.path(plan.folder), layout, shard, offsets=coded.offsets, buffer=coded.buffer
    )
    entries = [
        written.measured.entry(corpus.root, written.path),
        _keep(corpus, rows_file(work, shard), written.rows.to_bytes()),
    ]
    if coded.canaries:
        entries.append(_keep(corpus, canaries_file(work, shard), coded.canaries))
    lengths, rows = np.diff(coded.offsets), int(coded.offsets[-1])
    receipt = Receipt(
        unit=shard,
        files=tuple(entries),
        counts=WrittenCounts(
            passages=len(lengths),
            tokens=rows,
            memory_bytes=rows * layout.row_bytes,
            memory_stored_bytes=entries[0].bytes,
            tokens_min=int(lengths.min()),
            tokens_max=int(lengths.max()),
        ),
        seconds={"quantizing": written_from - begun, "writing": time.perf_counter() - written_from},
        worker=f"{socket.gethostname()}-{os.getpid()}",
        notes=tuple(notes),
    )
    receipt.write(work.receipt_path(STAGE, shard))


def _keep(corpus: CorpusFolder, path: Path, data: bytes) -> files.FileEntry:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, data)
    return corpus.entry(path)
