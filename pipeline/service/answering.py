"""The answers: passages as JSON or Arrow, memory as safetensors or Arrow, what they are of in headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.service import problems
from pipeline.service.states import Rows
from retrieval import wire
from retrieval.memory import MemoryReader
from retrieval.searching import SearchResult
from storage.aliases import Json
from storage.components import MemoryCard
from storage.ragged import BFLOAT16, RaggedMemory


def passages_as_json(table: pa.Table) -> list[Json]:
    """Rows of the passage table for JSON."""
    return [
        {**row, **({"passage_key": row["passage_key"].hex()} if "passage_key" in row else {})}
        for row in table.to_pylist()
    ]


def found_as_json(rows: Rows, found: SearchResult, *, passages: bool) -> list[Json]:
    """For each query its hits, best first; their texts are read once for all."""
    texts = rows.take(np.unique(found.passage_ids).tolist()) if passages else {}
    return [
        {
            "passages": [
                {**texts.get(one, {}), "passage_id": one, "score": score}
                for one, score in zip(ids.tolist(), scores.tolist(), strict=True)
            ]
        }
        for ids, scores in zip(found.passage_ids, found.scores, strict=True)
    ]


def memory_headers(card: MemoryCard) -> dict[str, str]:
    """Which memory an answer is: version, fingerprint of encoder and codec, of the encoder, the codec."""
    return {
        wire.VERSION: card.version,
        wire.FINGERPRINT: card.fingerprint,
        wire.ENCODER: card.encoder_fingerprint,
        wire.CODEC: card.layout.codec.name,
    }


def memory_bytes(reader: MemoryReader, tokens: int, *, decode: bool) -> int:
    """Bytes of the values of so many tokens."""
    layout = reader.card.layout
    return tokens * (layout.width * layout.codec.dtype.itemsize if decode else layout.row_bytes)


def lengths(reader: MemoryReader, ids: npt.NDArray[np.int64], tokens: slice | None) -> npt.NDArray[np.int64]:
    """Tokens of each passage that are asked for."""
    with problems.of_version(reader.version):
        found = reader.tokens(ids)
    if tokens is None:
        return found
    return np.array([len(range(*tokens.indices(n))) for n in found.tolist()], np.int64)


def memory_parts(memory: RaggedMemory, card: MemoryCard) -> list[memoryview]:
    """As safetensors: `passage_ids`, `offsets`, `values`, the bytes as they lie."""
    arrays = {
        "passage_ids": memory.passage_ids,
        "offsets": memory.offsets,
        "values": np.asarray(memory.values),
    }
    return wire.pack(arrays, memory_headers(card))


def memory_as_arrow(memory: RaggedMemory, card: MemoryCard) -> memoryview:
    """As an Arrow stream of one batch: `passage_id`, and `states`, a list of lists of `width` numbers.

    Arrow has no bfloat16. Such numbers are uint16 of the same bits, and the field's metadata say so.
    """
    values = np.asarray(memory.values)
    name = values.dtype.name
    plain = values.view(np.uint16) if values.dtype == BFLOAT16 else values
    flat = pa.array(plain.reshape(-1))
    states = pa.LargeListArray.from_arrays(
        pa.array(memory.offsets), pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    )
    schema = pa.schema(
        [
            pa.field("passage_id", pa.int64(), nullable=False),
            pa.field("states", states.type, nullable=False, metadata={"dtype": name}),
        ],
        metadata=memory_headers(card),
    )
    return arrow([pa.RecordBatch.from_arrays([pa.array(memory.passage_ids), states], schema=schema)], schema)


def table_as_arrow(table: pa.Table) -> memoryview:
    """A table as an Arrow stream."""
    return arrow(table.to_batches(), table.schema)


def arrow(batches: Sequence[Any], schema: pa.Schema) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return memoryview(sink.getvalue())
