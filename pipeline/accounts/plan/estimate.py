"""What one way of building a corpus costs, as arithmetic on counts, a model, a codec and machines. No I/O.

`estimate` is one row of a plan; a plan of several codecs, sizes and live proportions is one row for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from pipeline.accounts import flops
from pipeline.accounts.plan import encodings, form, indexing, launching, searching
from pipeline.accounts.plan.indexing import Indexing
from pipeline.accounts.plan.inputs import Chunks, Counts, Machines, Model, Neighbours, Rates
from retrieval import index_shape
from storage import codecs, costs
from storage.components.neighbours import NeighboursLayout
from storage.memory_store import MemoryLayout
from storage.vector_array import VectorLayout

HOUR: Final = 3600.0
# Passages a second that one core makes of a real dump (docs/benchmarks.md), where nothing was measured.
READ_PASSAGES_PER_SECOND: Final = 5500.0
# Bytes of the libraries of a build's worker, JAX, PyTorch and Beam (docs/benchmarks.md: 1,064 MiB with
# models of a megabyte).
WORKER_BASE_BYTES: Final = 1060 << 20


def codec_names() -> tuple[str, ...]:
    """Every codec that this version knows by a name of its own."""
    names: tuple[str, ...] = getattr(codecs, "NAMES", ()) or tuple(getattr(codecs, "CODECS", {}))
    return names


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """One row of a plan. Times in seconds, money in dollars, FLOPs in hardware FLOPs.

    `retriever_flops` is None where the retriever's architecture is not known to the cost model: then times
    and prices that are computed leave it out. `live_proportion` is None for an encoder that is no T5.
    """

    model: str
    live_proportion: Fraction | None
    codec: str
    layers: int
    memory_layers: int
    width: int
    token_bytes: int
    shards: int
    shard_passages: int
    bytes: costs.CorpusBytes
    memory_flops: float
    retriever_flops: float | None
    accelerator_hours: float | None
    seconds: Mapping[str, float]
    write_needed: float
    write_given: float
    waiting: float
    build_price: float | None
    worker_ram_bytes: int
    neighbour_core_hours: float | None
    index: Indexing
    launching: form.Launching
    chunk_encodings: encodings.Encodings | None
    refused: tuple[str, ...]

    @property
    def wall_seconds(self) -> float:
        return sum(self.seconds.values())

    @property
    def limit(self) -> str:
        """What the encoding stage waits for."""
        return "storage" if self.waiting > 0 else "encoder"

    def to_json(self) -> form.Estimate:
        return {
            "model": self.model,
            "live_proportion": None if self.live_proportion is None else str(self.live_proportion),
            "codec": self.codec,
            "layers": self.layers,
            "memory_layers": self.memory_layers,
            "width": self.width,
            "token_bytes": self.token_bytes,
            "shards": self.shards,
            "shard_passages": self.shard_passages,
            "bytes": self.bytes.to_json(),
            "memory_flops": self.memory_flops,
            "retriever_flops": self.retriever_flops,
            "accelerator_hours": self.accelerator_hours,
            "seconds": dict(self.seconds),
            "write_needed": self.write_needed,
            "write_given": self.write_given,
            "waiting": self.waiting,
            "build_price": self.build_price,
            "worker_ram_bytes": self.worker_ram_bytes,
            "neighbour_core_hours": self.neighbour_core_hours,
            "indexing": self.index.to_json(),
            "launching": self.launching,
            "chunk_encodings": None if self.chunk_encodings is None else self.chunk_encodings.to_json(),
            "refused": list(self.refused),
            "wall_seconds": self.wall_seconds,
            "limit": self.limit,
        }


def estimate(
    counts: Counts,
    model: Model,
    codec_name: str,
    machines: Machines,
    *,
    shard_passages: int | None = None,
    exact_limit: int = index_shape.EXACT_LIMIT,
    chunks: Chunks | None = None,
    neighbours: Neighbours | None = None,
) -> Estimate:
    """One way of building the corpus.

    Args:
        counts: what there is to encode.
        model, codec_name: how.
        machines: on what, and into which storage.
        shard_passages: None: as a build sizes them.
        exact_limit: see `retrieval.index`.
        chunks: passages cut by tokens; None: by words.
        neighbours: a table of their neighbours, if one is wanted.

    Raises:
        CorpusError: an unknown codec, or numbers that fit no corpus.
        ValueError: α gives no whole number of layers.
    """
    layers = model.layers
    memory, _ = layouts(round(counts.passages), model, codec_name, shard_passages=shard_passages)
    size = corpus_bytes(
        counts,
        model,
        codec_name,
        shard_passages=shard_passages,
        exact_limit=exact_limit,
        chunks=chunks,
        neighbours=neighbours,
    )
    index = indexing.foretold(memory.grid.passages, model.retriever.dim, exact_limit=exact_limit)
    memory_flops = counts.tokens * model.token_flops
    # Where nobody counted what it reads, it is taken to read what the memory encoder does.
    read = counts.retriever_read
    retriever_flops = model.retriever.flops(counts.passages, read.tokens if read else counts.tokens)
    written = size.memory + size.vectors
    given = machines.storage.write_bytes_per_second(machines.workers)
    if machines.rates is not None:
        seconds = _measured(counts, size, machines.rates, machines.workers, index)
        # Measured writing is among the seconds already; what is asked of the storage is the same.
        computing = seconds["encode shards"]
    else:
        assert machines.device is not None  # Machines sees to it
        rate = machines.workers * machines.device.tflops * flops.TERA * machines.utilisation
        computing = (memory_flops + (retriever_flops or 0.0)) / rate
        seconds = {
            "read passages": counts.passages / READ_PASSAGES_PER_SECOND / machines.workers,
            "encode shards": max(computing, written / given),
        }
    needed = written / max(computing, 1e-9)
    waiting = max(0.0, 1 - given / needed)
    hours = None
    price = None
    if machines.device is not None:
        hours = machines.workers * seconds["encode shards"] / HOUR
        price = hours * machines.device.price_per_hour + machines.storage.writes(size.files)
    return Estimate(
        model=model.name,
        live_proportion=model.memory.live_proportion,
        codec=codec_name,
        layers=model.config.layers,
        memory_layers=layers,
        width=model.width,
        token_bytes=memory.row_bytes,
        shards=memory.grid.shards,
        shard_passages=memory.grid.shard_passages,
        bytes=size,
        memory_flops=memory_flops,
        retriever_flops=retriever_flops,
        accelerator_hours=hours,
        seconds=seconds,
        write_needed=needed / machines.workers,
        write_given=given / machines.workers,
        waiting=waiting,
        build_price=price,
        worker_ram_bytes=worker_ram(model, memory),
        neighbour_core_hours=None
        if neighbours is None
        else searching.core_hours(
            memory.grid.passages, model.retriever.dim, exact_limit=exact_limit, probes=neighbours.probes
        ),
        index=index,
        launching=launching.launching(memory.grid.shards, memory.grid.passages, size),
        chunk_encodings=None
        if neighbours is None or chunks is None
        else encodings.estimate(
            round(counts.passages),
            chunks.passage_tokens,
            codecs.by_name(codec_name),
            flops_per_second=machines.device.tflops * flops.TERA * machines.utilisation
            if machines.device is not None
            else None,
        ),
        refused=tuple(_refused(size, machines, needed, given, waiting)),
    )


def corpus_bytes(
    counts: Counts,
    model: Model,
    codec_name: str,
    *,
    shard_passages: int | None = None,
    exact_limit: int = index_shape.EXACT_LIMIT,
    chunks: Chunks | None = None,
    neighbours: Neighbours | None = None,
) -> costs.CorpusBytes:
    """Bytes of the corpus alone; arguments as for `estimate`."""
    passages = round(counts.passages)
    memory, vectors = layouts(passages, model, codec_name, shard_passages=shard_passages)
    plan = index_shape.choose(passages, model.retriever.dim, exact_limit=exact_limit)
    return costs.corpus_bytes(
        memory=memory,
        vectors=vectors,
        tokens=counts.tokens,
        index_bytes=plan.file_bytes(passages, model.retriever.dim),
        index_parts=indexing.parts_bytes(plan, passages, model.retriever.dim),
        text_bytes=counts.text_bytes,
        passage_bytes=counts.passage_bytes,
        parts=counts.parts,
        chunks=None if chunks is None else chunks.layout(passages),
        table=None
        if neighbours is None
        else NeighboursLayout.sized(passages=passages, k=neighbours.k, score_dtype="float32"),
    )


def layouts(
    passages: int, model: Model, codec_name: str, *, shard_passages: int | None = None
) -> tuple[MemoryLayout, VectorLayout]:
    """The arrays that a build of so many passages would write, sized as it sizes them."""
    memory = MemoryLayout.sized(
        passages=passages,
        width=model.width,
        max_tokens=model.memory.max_tokens,
        codec=codecs.by_name(codec_name),
        shard_passages=shard_passages,
    )
    return memory, VectorLayout(grid=memory.grid, dim=model.retriever.dim, dtype=model.vector_dtype)


def worker_ram(model: Model, memory: MemoryLayout) -> int:
    """Bytes of RAM of a worker at most: libraries, both models, a shard as computed and as stored.

    The retriever's weights are float32.
    """
    weights = model.weight_bytes + 4 * model.retriever.weights
    rows = memory.grid.shard_passages * memory.max_tokens
    return WORKER_BASE_BYTES + weights + rows * (2 * model.width + memory.row_bytes)


def _measured(
    counts: Counts, size: costs.CorpusBytes, rates: Rates, workers: int, index: Indexing
) -> dict[str, float]:
    """Seconds of each stage at the measured rates, units dealt out evenly to `workers` processes.

    An index of lists is larger than what was tried: it is trained and added to at the rates of `indexing`.
    """
    lists = {}
    if index.units:
        lists = {
            "train index": HOUR * index.training_core_hours / workers,
            "add to index": HOUR * index.adding_core_hours / workers,
        }
    encoding = (
        counts.passages * rates.embedding_per_passage
        + counts.tokens * (rates.tokenizing_per_token + rates.encoding_per_token)
        + (size.memory + size.vectors) * rates.writing_per_byte
    )
    return {
        "read passages": rates.reading / workers,
        "number passages": counts.passages * rates.numbering_per_passage / workers,
        "encode shards": rates.loading + rates.compiling + encoding / workers,
        **lists,
        "index vectors": rates.indexing,
    }


def _refused(
    size: costs.CorpusBytes, machines: Machines, needed: float, given: float, waiting: float
) -> list[str]:
    """What cannot be: no room on the disk, or a storage that the encoders outrun."""
    refused = []
    if machines.free_bytes is not None and size.peak > machines.free_bytes:
        refused.append(
            f"no room: the disk has {machines.free_bytes:,} bytes free, the build needs {size.peak:,}"
        )
    if waiting > 0:
        refused.append(
            f"no bandwidth: {machines.workers:,} workers would write {needed / 1e6:,.0f} MB/s, "
            f"{machines.storage.name} takes {given / 1e6:,.0f} MB/s; "
            f"they would wait {waiting:.0%} of the time"
        )
    return refused
