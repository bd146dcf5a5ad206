"""Memory by passage id out of a service: a `MemoryReader` like that of a folder.

Rows come as they are stored and are decoded here, so that the network carries a codec's bytes; of codecs
whose rows are values already they come straight to where the caller wants them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from retrieval import wire
from retrieval.memory import MemoryReader
from retrieval.service_client import Body, ServiceClient
from storage import codec_parameters, codecs, errors
from storage.components import MemoryCard
from storage.memory_files import MemoryFiles
from storage.memory_store import MemoryLayout
from storage.ragged import MemoryArray, PaddedMemory, RaggedMemory
from storage.tombstones import Tombstones

_ARRAYS: Final = ["passage_ids", "offsets", "values"]


class _NoFiles(MemoryFiles):
    """In place of files: whoever would read them finds none."""

    transfers = True

    def __init__(self, layout: MemoryLayout) -> None:
        self.layout = layout
        self.folder = Path()


class ServedMemory(MemoryReader):
    """One memory version out of a service. Thread-safe."""

    def __init__(
        self,
        client: ServiceClient,
        card: MemoryCard,
        *,
        state: str,
        limits: dict[str, int],
        check: str,
        tombstones: Tombstones,
        reopen: tuple[Any, ...],
    ) -> None:
        """Made by `ServedCorpus.memory`.

        Args:
            client: of the service.
            card: of the version.
            state: of the corpus, as it was opened.
            limits: that the service told of.
            check: as in `MemoryReader`; the service checks what it reads once, and every answer is checked
                here against what was sent.
            tombstones: the ids that were given, and those of them that are gone.
            reopen: as in `MemoryReader`.
        """
        super().__init__(
            _NoFiles(card.layout),
            card,
            check=check,
            passages=tombstones.passages,
            require_live=tombstones.require_live,
            reopen=reopen,
            load_coder=partial(_read_coder, client, card, state),
        )
        self._client, self._state, self._limits = client, state, limits

    def fetch(
        self,
        passage_ids: npt.ArrayLike,
        *,
        tokens: slice | None = None,
        out: npt.NDArray[Any] | None = None,
        decode: bool = True,
    ) -> RaggedMemory:
        """As `MemoryReader.fetch`.

        Raises:
            UnreadableError: the service cannot be reached.
        """
        wanted = self._wanted(passage_ids)
        if tokens is not None and len(wanted) and tokens.step not in (None, 1):
            raise errors.CorpusError(f"tokens is {tokens}, wanted a slice of step 1")
        layout = self.card.layout
        direct = not decode or self.coder.view_only
        # One request, where it surely is not too much for one; else the lengths are asked for first.
        row = layout.width * layout.codec.dtype.itemsize if direct and decode else layout.row_bytes
        if (
            len(wanted) <= self._limits["ids"]
            and self._bytes(len(wanted), row) <= self._limits["answer_bytes"]
        ):
            pieces = [slice(0, len(wanted))]
            offsets = np.zeros(len(wanted) + 1, np.int64)
            target: npt.NDArray[Any] | None = None
        else:
            offsets = self._offsets(wanted, tokens)
            pieces = self._pieces(offsets, row)
            target = self._room(int(offsets[-1]), out, decode=decode, direct=direct)
        for piece in pieces:
            target = self._receive(wanted, piece, tokens, offsets, target, out, decode=decode, direct=direct)
        if target is None:  # nothing was asked for
            target = self._room(0, out, decode=decode, direct=direct)
        if direct:
            values = target
        else:
            values = self._target(out, int(offsets[-1]), decode)
            self._decoding.rows(target, values)
        if not decode:
            layout.codec.check_stored(values, layout.width)
        return RaggedMemory(passage_ids=wanted, offsets=offsets, values=values.view(MemoryArray))

    def padded(
        self, passage_ids: npt.ArrayLike, max_tokens: int, *, out: npt.NDArray[Any] | None = None
    ) -> PaddedMemory:
        """As `MemoryReader.padded`, by one more copy: a service sends rows back to back."""
        if isinstance(max_tokens, bool) or max_tokens < 1:
            raise errors.CorpusError(f"max_tokens is {max_tokens!r:.40}, wanted 1 or more")
        memory = self.fetch(passage_ids, tokens=slice(0, int(max_tokens)))
        values = self._rectangle(out, len(memory), int(max_tokens))
        for place, rows in enumerate(memory):
            values[place, : len(rows)] = rows
            values[place, len(rows) :] = 0
        return PaddedMemory(
            passage_ids=memory.passage_ids,
            lengths=np.diff(memory.offsets),
            values=values.view(MemoryArray),
        )

    def tokens(self, passage_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """As `MemoryReader.tokens`."""
        wanted = self._wanted(passage_ids)
        parts = [np.zeros(0, np.int64)]
        for first in range(0, len(wanted), self._limits["ids"]):
            part = wanted[first : first + self._limits["ids"]]

            def read(body: Body, part: npt.NDArray[np.int64] = part) -> npt.NDArray[np.int64]:
                self._require_version(body)
                found = wire.unpack(body.whole(len(part) * 8 + wire.MAX_HEADER_BYTES)).get("tokens")
                if found is None or found.shape != part.shape or found.dtype != np.int64:
                    raise self._wrong("lengths of other passages")
                return np.array(found)

            parts.append(
                self._client.post(
                    "/v1/memory/lengths",
                    {"ids": part.tolist(), "version": self.version},
                    read,
                    accept=wire.SAFETENSORS,
                    memcorpus_state=self._state,
                )
            )
        return np.concatenate(parts)

    def _bytes(self, passages: int, row: int) -> int:
        return passages * self.card.layout.max_tokens * row

    def _offsets(self, wanted: npt.NDArray[np.int64], tokens: slice | None) -> npt.NDArray[np.int64]:
        lengths = self.tokens(wanted)
        if tokens is not None:
            lengths = np.array([len(range(*tokens.indices(n))) for n in lengths.tolist()], np.int64)
        offsets = np.zeros(len(wanted) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return offsets

    def _pieces(self, offsets: npt.NDArray[np.int64], row: int) -> list[slice]:
        """Passages that are asked for together: as many as the service gives at once."""
        pieces, first = [], 0
        most = self._limits["answer_bytes"] // row
        while first < len(offsets) - 1:
            stop = int(np.searchsorted(offsets, offsets[first] + most, side="right")) - 1
            stop = max(first + 1, min(stop, first + self._limits["ids"], len(offsets) - 1))
            pieces.append(slice(first, stop))
            first = stop
        return pieces

    def _room(
        self, rows: int, out: npt.NDArray[Any] | None, *, decode: bool, direct: bool
    ) -> npt.NDArray[Any]:
        """Where rows are received: the result itself, or a buffer of codes."""
        if direct:
            return self._target(out, rows, decode)
        layout = self.card.layout
        return self._buffers.take(rows, layout.stored_width, layout.codec.stored_dtype)

    def _receive(
        self,
        wanted: npt.NDArray[np.int64],
        piece: slice,
        tokens: slice | None,
        offsets: npt.NDArray[np.int64],
        target: npt.NDArray[Any] | None,
        out: npt.NDArray[Any] | None,
        *,
        decode: bool,
        direct: bool,
    ) -> npt.NDArray[Any] | None:
        """Receive some passages' rows into their place; where that is not made yet, they are all."""
        if piece.stop == piece.start:
            return target
        asked = wanted[piece]
        given = {
            "ids": asked.tolist(),
            "version": self.version,
            "decode": decode and direct,
            "tokens": None if tokens is None else [_whole(tokens.start), _whole(tokens.stop)],
        }

        def read(body: Body) -> npt.NDArray[Any]:
            self._require_version(body)
            header = wire.read_header(body.fill, most_bytes=self._limits["answer_bytes"] + (1 << 24))
            if list(header) != _ARRAYS:
                raise self._wrong("other arrays")
            found, begun = (header[name].empty() for name in _ARRAYS[:2])
            for array, like in ((found, asked), (begun, np.zeros(len(asked) + 1, np.int64))):
                if (array.dtype, array.shape) != (like.dtype, like.shape):
                    raise self._wrong("other arrays")
                body.fill(array.view(np.uint8).data)
            values = header["values"]
            rows = int(begun[-1])
            ascending = begun[0] == 0 and bool((np.diff(begun) >= 0).all())
            if not np.array_equal(found, asked) or not ascending or values.shape[:1] != (rows,):
                raise self._wrong("other passages")
            if target is None:
                room = self._room(rows, out, decode=decode, direct=direct)
                offsets[:] = begun
            else:
                first, stop = int(offsets[piece.start]), int(offsets[piece.stop])
                if not np.array_equal(begun, offsets[piece.start : piece.stop + 1] - first):
                    raise self._wrong("passages of other lengths")
                room = target[first:stop]
            if (room.dtype, room.shape) != (values.dtype, values.shape):
                raise self._wrong(f"rows {values.dtype} {list(values.shape)}")
            if rows:
                body.fill(room.view(np.uint8).reshape(-1).data)
            body.end()
            return room

        room = self._client.post(
            "/v1/memory", given, read, accept=wire.SAFETENSORS, memcorpus_state=self._state
        )
        return room if target is None else target

    def _require_version(self, body: Body) -> None:
        if body.headers.get(wire.FINGERPRINT) != self.fingerprint:
            found = body.headers.get(wire.VERSION, "none")[:16]
            raise errors.MismatchError(
                f"service {self._client} answered with memory version {found}, wanted {self.version}"
            )

    def _wrong(self, what: str) -> errors.DamagedError:
        return errors.DamagedError(f"service {self._client} answered with {what}, not what was asked for")


def _whole(bound: Any) -> int | None:
    """An end of a slice as JSON has it; NumPy's integers too."""
    return None if bound is None else int(bound)


def _read_coder(client: ServiceClient, card: MemoryCard, state: str) -> codecs.Coder:
    """What decodes the rows of a version; a trained codec's parameters are asked for."""
    layout = card.layout
    parameters: dict[str, Any] = {}
    if card.codec_parameters:
        shapes = layout.codec.parameter_shapes(layout.width)
        most = sum(int(np.prod(shape)) * kind.itemsize for shape, kind in shapes.values()) + (1 << 20)

        def read(body: Body) -> dict[str, Any]:
            return {name: np.array(one) for name, one in wire.unpack(body.whole(most)).items()}

        path = f"/v1/memory/{card.version}/parameters"
        parameters = client.get(path, read, accept=wire.SAFETENSORS, memcorpus_state=state)
    if codec_parameters.digests(parameters) != dict(card.codec_parameters):
        raise errors.DamagedError(
            f"service {client} gave other codec parameters than version {card.version} has"
        )
    return layout.codec.bind(layout.width, parameters)
