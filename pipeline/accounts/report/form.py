"""The form of a report, for type checkers: docs/report.schema.json says the same to whoever reads its JSON.

Keys stand in the order in which they are printed. None stands for what nothing tells: an encoder of another
kind, statistics of an earlier release, a break-even that never comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

from pipeline.accounts.form import Table, Tokens
from pipeline.accounts.prices import Listed
from pipeline.accounts.reading import Reading
from storage.aliases import Json
from storage.run_statistics import ShardBytesJson, WorkerJson


class Size(TypedDict):
    """Files that hold the same thing, summed up; see `contents.Size`."""

    part: str
    version: str
    codec: str
    content: str
    files: int
    bytes: int


class Version(TypedDict):
    """A memory version. `architecture` is the encoder's as the card has it."""

    version: str
    codec: str
    width: int
    memory_layers: int | None
    encoder_fingerprint: str
    max_tokens: int
    passages: int
    tokens: int
    tokens_min: int
    tokens_max: int
    passages_cut: int
    tokens_cut: int
    read: Reading | None
    bytes: int
    bytes_by_content: Mapping[str, int]
    bytes_per_passage: float
    bytes_per_token: float
    token_bytes: int
    padding_avoided_bytes: int
    compression_against_bfloat16: float
    shards: int
    shard_passages: int
    shard_bytes: ShardBytesJson
    tokens_histogram: list[list[int]]
    architecture: Json
    aliases: list[str]
    current: bool
    finished: str | None
    encode_seconds: float | None


class Vectors(TypedDict):
    """Vectors of one retriever, and what it was given of the passages; None where nobody counted."""

    fingerprint: str
    dim: int
    dtype: str
    similarity: str
    max_tokens: int | None
    read: Reading | None


class Index(TypedDict):
    """A FAISS index, and its recall against exact search."""

    fingerprint: str
    kind: str
    parameters: Mapping[str, int]
    bytes: int
    recall_at_10: float
    recall_queries: int


class Planned(TypedDict):
    """Bytes of a part as the build foretold them, and as they are."""

    part: str
    planned: int
    bytes: int


class Encoded(TypedDict, total=False):
    """How fast a run encoded the version that it wrote; empty where it wrote none."""

    version: str
    tokens_per_second: float | None
    passages_per_second: float | None
    memory_bytes_per_second: float | None
    memory_flops: float
    flops_per_second: float | None
    device: str | None
    utilisation: float | None


class Time(TypedDict):
    """A run: the build, or what added a version. Seconds by stage, and by step or by who waited for whom."""

    run: str
    finished: str | None
    machine: str | None
    cpus: int | None
    peak_rss_bytes: int | None
    stage_seconds: Mapping[str, float]
    worker_seconds: Mapping[str, Mapping[str, float]]
    worker_waited: Mapping[str, Mapping[str, float]]
    bottleneck: str | None
    computed_tokens: Mapping[str, int]
    events: Mapping[str, int]
    workers: Mapping[str, WorkerJson]
    encoded: Encoded


class StorageClass(TypedDict):
    """Dollars of a class of storage: a month, and a million passages fetched."""

    storage: str
    month: float
    million_fetches: float | None


class Kept(TypedDict):
    """So many versions as large as the current."""

    versions: int
    bytes: int
    month: float


class Keeping(TypedDict):
    """What more versions take, and what `gc` would free."""

    shared_bytes: int
    version_bytes: int
    versions: list[Kept]
    storage: str
    gc_versions: list[str]
    gc_bytes: int


class Past(TypedDict):
    """A version in the history of versions."""

    version: str
    finished: str | None
    codec: str
    bytes: int
    bytes_per_token: float
    encode_seconds: float | None
    aliases: list[str]


class Question(TypedDict):
    """One question to one reader; see `serving.Question`. `up_front_price` is spent before the first."""

    reader: str
    retrieved: int
    selected: int
    live_proportion: str
    flops: float
    samples_per_tflop: float
    fetched_bytes: float
    seconds: float
    price: float
    up_front_price: float


class BreakEven(TypedDict):
    """Questions until memory has cost no more than FiD; see `serving.BreakEven`."""

    reader: str
    flops: float | None
    hours: float | None
    money: float | None
    monthly: float | None


class Serving(TypedDict):
    """Readers side by side on one site, in a report and in each way of a plan."""

    questions: list[Question]
    break_even: list[BreakEven]
    hours: float
    months: float
    device: str
    utilisation: float
    storage: str


class CorpusServing(Serving):
    """With the layers that the encoder of a corpus must have had altogether."""

    layers: int


class Codec(TypedDict):
    """The passages' memory in a codec, at a published size."""

    size: str
    width: int
    codec: str
    bytes: int
    month: float


class Updated(TypedDict):
    """An update, and what it saved against building the corpus anew; None where it is not known."""

    generation: int
    kept: int
    vanished: int
    added: int
    recall_at_10: float | None
    bytes: int
    saved_bytes: int
    worker_seconds: float
    saved_worker_seconds: float | None
    saved_dollars: float | None


class Report(TypedDict):
    """All of it. `serving` is None and `codecs` empty where a corpus has no memory; `tokens` and `neighbours`
    are there where it has them."""

    kind: str
    schema: int
    corpus: str
    passages: int
    words: int
    counts: Mapping[str, int]
    files: int
    bytes: int
    bytes_by_part: Mapping[str, int]
    parts: list[Size]
    versions: list[Version]
    vectors: list[Vectors]
    indexes: list[Index]
    tokens: NotRequired[Tokens]
    neighbours: NotRequired[Mapping[str, Table]]
    planned: list[Planned]
    time: list[Time]
    storage_classes: list[StorageClass]
    keeping: Keeping
    history: list[Past]
    updates: list[Updated]
    serving: CorpusServing | None
    codecs: list[Codec]
    warnings: list[str]
    prices: Listed
