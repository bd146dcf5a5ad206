"""How fast this machine builds: the steps of every stage, run on sampled passages with the models at hand.

Each step is run as the build runs it, by the same functions, into a temporary folder.
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import ml_dtypes
import numpy as np
import pyarrow as pa

from pipeline.accounts.plan.inputs import Rates
from pipeline.accounts.plan.sample import Sample
from pipeline.components.passages.cut import PassageRow
from pipeline.components.settings import BuildSettings
from pipeline.components.shards import render
from retrieval import exact, index, index_building
from storage import passage_table, vector_array
from storage.aliases import AnyArray
from storage.shards import ShardGrid

if TYPE_CHECKING:
    from encoders.retriever import Retriever
    from encoders.token_encoder import TokenEncoder
    from encoders.tokenizing import Tokens

# Encoding takes about so long, and never more passages than this.
SECONDS: Final = 10.0
MOST_PASSAGES: Final = 1024
_FIRST_PASSAGES: Final = 128
_RUNS: Final = 3
# Of the array that is written to see how fast that goes.
_WRITTEN_BYTES: Final = 32 << 20
_Result = TypeVar("_Result")


def passage_parquet(sample: Sample) -> tuple[float, float]:
    """Bytes of Parquet for each byte of text, and seconds a passage, of the sample's own passages.

    A part's fixed bytes, of which a small sample would be full, are left out of the ratio.
    """
    rows = [row for page in sample.pages for row in page.rows]
    if not rows:
        return 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        part, numbered, empty = (Path(folder) / name for name in ("part", "numbered", "empty"))
        size = passage_table.ROW_GROUP

        def write() -> int:
            batches = (
                pa.RecordBatch.from_pylist(rows[i : i + size], schema=passage_table.UNNUMBERED)
                for i in range(0, len(rows), size)
            )
            passage_table.write_part(part, passage_table.UNNUMBERED, batches)
            return passage_table.number_part(part, numbered, 0)

        _, seconds = _timed(write)
        one = pa.RecordBatch.from_pylist(rows[:1], schema=passage_table.UNNUMBERED)
        passage_table.write_part(empty, passage_table.UNNUMBERED, iter([one]))
        written = max(0, numbered.stat().st_size - empty.stat().st_size)
    return written / sum(len(row["text"].encode()) for row in rows), seconds / len(rows)


def calibrate(sample: Sample, settings: BuildSettings, *, passages: float) -> Rates:
    """Measure a build's steps on a sample.

    Args:
        sample: of the source.
        settings: with the models, the templates and the codec.
        passages: of the whole source, for the index.

    Raises:
        CorpusError, ModelFolderError: a model cannot be loaded.
    """
    rows = self_weighted(sample, MOST_PASSAGES)
    table = pa.Table.from_pylist(rows, schema=passage_table.UNNUMBERED)
    (retriever, encoder), loading = _timed(lambda: _load(settings))

    def embed(part: pa.Table) -> AnyArray:
        texts = render(settings.retriever_template, part)
        return retriever.encode(texts, dtype=settings.vector_dtype)

    def encode(tokens: Tokens) -> None:
        """As `EncodeShards.run`, all passages as one shard; what a codec adds is left out."""
        rows = int(encoder.offsets(tokens)[-1])
        encoder.encode(tokens, np.empty((rows, encoder.width), ml_dtypes.bfloat16))

    # A first look at the speed decides how many passages are worth it; a first run also compiles.
    few = table.slice(0, _FIRST_PASSAGES)
    tokens = encoder.tokenize(render(settings.memory.template, few))
    embed(few.slice(0, 32))
    _, first = _timed(lambda: encode(tokens))
    _, again = _timed(lambda: encode(tokens))
    _, embedding = _timed(lambda: embed(few))
    affordable = SECONDS / max(1e-9, (_RUNS * again + embedding) / few.num_rows)
    table = table.slice(0, int(min(table.num_rows, max(_FIRST_PASSAGES, affordable))))

    # Medians, since others may use the machine for a moment.
    vectors, embedding = _embed_all(embed, table)
    rendered = render(settings.memory.template, table)
    tokens, tokenizing = _timed(lambda: encoder.tokenize(rendered))
    _, cold = _timed(lambda: encode(tokens))
    warm = statistics.median(_timed(lambda: encode(tokens))[1] for _ in range(_RUNS))
    writing, indexing = _write_and_index(vectors, passages)
    _, parquet = passage_parquet(sample)
    return Rates(
        reading=sample.scale * sample.skim_seconds
        + sample.total(lambda page: page.seconds)
        + passages * parquet / 2,
        numbering_per_passage=parquet / 2,
        loading=loading,
        compiling=max(0.0, first - again) + max(0.0, cold - warm),
        embedding_per_passage=embedding,
        tokenizing_per_token=tokenizing / len(tokens.ids),
        encoding_per_token=warm / len(tokens.ids),
        writing_per_byte=writing,
        indexing=indexing,
        passages=table.num_rows,
        tokens=len(tokens.ids),
    )


def self_weighted(sample: Sample, most: int) -> list[PassageRow]:
    """Passages of which each of the source is as likely as any other, at most so many.

    The sample's pages were taken by their bytes, so those of short pages stand for more: here a
    passage is taken at each so much of weight, some more than once.
    """
    pairs = [(page.weight, row) for page in sample.pages for row in page.rows]
    if not pairs:
        return []
    total = sum(weight for weight, _ in pairs)
    step = total / min(most, len(pairs))
    taken: list[PassageRow] = []
    passed, following = 0.0, step / 2
    for weight, row in pairs:
        passed += weight
        while passed > following:
            taken.append(row)
            following += step
    # In order of size no more: the first of them must be like the rest.
    return [taken[i] for i in np.random.default_rng(0).permutation(len(taken))]


def _embed_all(embed: Callable[[pa.Table], AnyArray], table: pa.Table) -> tuple[AnyArray, float]:
    """All vectors [passages, dim], and seconds a passage: the median over pieces."""
    pieces = []
    for first in range(0, table.num_rows, _FIRST_PASSAGES):
        piece = table.slice(first, _FIRST_PASSAGES)
        pieces.append((piece.num_rows, *_timed(functools.partial(embed, piece))))
    vectors = np.concatenate([vectors for _, vectors, _ in pieces])
    return vectors, statistics.median(seconds / rows for rows, _, seconds in pieces)


def _load(settings: BuildSettings) -> tuple[Retriever, TokenEncoder]:
    from encoders.memory_encoders import open_encoder
    from encoders.retriever import Retriever

    retriever = Retriever.load(settings.retriever, backend=settings.retriever_backend, device=settings.device)
    opened = open_encoder(settings.memory_encoder, settings.memory)
    return retriever, opened.load(device=settings.device, model_parallel=settings.model_parallel)


def _write_and_index(vectors: AnyArray, passages: float) -> tuple[float, float]:
    """Seconds of writing a byte, and of the whole index, from the sample's vectors [passages, dim]."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many = np.resize(vectors, (max(len(vectors), _WRITTEN_BYTES // vectors[0].nbytes), vectors.shape[1]))
        layout = _one_shard(many)
        vector_array.create(folder / "many", layout)

        def write() -> None:
            # Arrays of every kind are written by the same function.
            vector_array.write_shard(folder / "many", layout, 0, many)

        _, writing = _timed(write)
        layout = _one_shard(vectors)
        vector_array.create(folder / "vectors", layout)
        vector_array.write_shard(folder / "vectors", layout, 0, vectors)
        array = vector_array.VectorArray(folder / "vectors", layout)
        plan = index.choose(*vectors.shape)
        _, building = _timed(lambda: index_building.build(array, plan, folder / "index"))
    # Looking at the queries' neighbours one by one costs the same at any size; searching grows with
    # the passages.
    queries = min(exact.RECALL_QUERIES, passages) / min(exact.RECALL_QUERIES, len(vectors))
    return writing / many.nbytes, building * queries + _search_seconds(vectors) * passages


def _one_shard(vectors: AnyArray) -> vector_array.VectorLayout:
    shard = -(-len(vectors) // vector_array.CHUNK_ROWS) * vector_array.CHUNK_ROWS
    grid = ShardGrid(passages=len(vectors), shard_passages=shard)
    return vector_array.VectorLayout(grid=grid, dim=vectors.shape[1], dtype=vectors.dtype.name)


def _search_seconds(vectors: AnyArray) -> float:
    """Seconds that measuring recall takes a passage: two searches of every query through all vectors."""
    rows = np.ascontiguousarray(np.resize(vectors, (16384, vectors.shape[1])), np.float32)
    queries = rows[: exact.RECALL_QUERIES]
    batches = iter([(0, rows)])
    _, seconds = _timed(lambda: exact.search(batches, queries, exact.RECALL_AT))
    return 2 * seconds / len(rows)


def _timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started
