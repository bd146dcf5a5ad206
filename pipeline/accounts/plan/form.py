"""The form of a plan, for type checkers: docs/plan.schema.json says the same to whoever reads its JSON.

Keys stand in the order in which they are printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

from pipeline.accounts.prices import Listed
from pipeline.accounts.reading import Reading
from pipeline.accounts.report.form import Serving
from storage.costs import BytesByPart


class Basis(TypedDict):
    """Where the counts come from. `words` is for people; the rest is of a sample."""

    kind: str
    words: str
    sources: NotRequired[list[str]]
    source_bytes: NotRequired[int]
    skimmed_bytes: NotRequired[int]
    pieces: NotRequired[int]
    skimmed_pages: NotRequired[int]
    converted_pages: NotRequired[int]
    whole: NotRequired[bool]


class Counts(TypedDict):
    """What there is to encode; see `inputs.Counts`."""

    passages: float
    tokens: float
    text_bytes: float
    pages: float | None
    passage_bytes: float | None
    parts: int
    left_out_words: float | None
    spread: Mapping[str, float | None]
    tokens_per_passage: float


class ReadByModels(TypedDict):
    """Tokens as the models would read them; None where nobody counted, as with counts that were given."""

    memory: Reading | None
    retriever: Reading | None


class Rates(TypedDict):
    """Seconds of each step as measured; see `inputs.Rates`."""

    reading: float
    numbering_per_passage: float
    loading: float
    compiling: float
    embedding_per_passage: float
    tokenizing_per_token: float
    encoding_per_token: float
    writing_per_byte: float
    indexing: float
    passages: int
    tokens: int


class Machines(TypedDict):
    """On what is built. Device and utilisation are None where rates were measured in place of them."""

    workers: int
    device: str | None
    utilisation: float | None
    storage: str
    free_bytes: int | None
    rates: Rates | None


class Indexing(TypedDict):
    """What the index takes; see `indexing.Indexing`."""

    kind: str
    training_core_hours: float
    adding_core_hours: float
    units: int
    training_ram_bytes: int
    bytes: int


class Launching(TypedDict):
    """What the launching process and readers take; see `launching`.

    RAM of the launcher, CPU seconds and calls of the file system of a resume, of a commit and of a
    verification of sizes, core-hours of one of every byte, and what an open reader keeps of all passages.
    """

    ram_bytes: int
    resume_seconds: float
    commit_seconds: float
    commit_requests: int
    verify_seconds: float
    verify_requests: int
    verify_full_core_hours: float
    reader_ram_bytes: int


class Estimate(TypedDict):
    """One way of building; see `estimate.Estimate`."""

    model: str
    live_proportion: str | None
    codec: str
    layers: int
    memory_layers: int
    width: int
    token_bytes: int
    shards: int
    shard_passages: int
    bytes: BytesByPart
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
    indexing: Indexing
    launching: Launching
    chunk_encodings: ChunkEncodings | None
    refused: list[str]
    wall_seconds: float
    limit: str


class ChunkEncodings(TypedDict):
    """What a RETRO's encoder would store of all chunks; see `encodings.Encodings`."""

    bytes: float
    flops: float
    accelerator_hours: float | None


class Way(Estimate):
    """With dollars a month by storage class, and what questions cost; None where no memory is stored."""

    month: Mapping[str, float]
    serving: Serving | None


class Plan(TypedDict):
    """All of it."""

    kind: str
    schema: int
    basis: Basis
    counts: Counts
    max_tokens: int
    read: ReadByModels
    machines: Machines
    ways: list[Way]
    prices_by_name: list[str]
    prices: Listed
    warnings: list[str]
    refused: list[str]
