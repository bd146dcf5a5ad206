"""The JSON of what a corpus is: `info` and `versions` print it, and type checkers know its keys.

Keys stand in the order in which they are printed. Forms of reports and plans lie beside those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from pipeline.accounts.reading import Reading


class Vectors(TypedDict):
    """Vectors of one retriever; `read` is None where nobody counted what it was given of the passages."""

    dim: int
    dtype: str
    shard_passages: int
    bytes: int
    similarity: str
    max_tokens: int | None
    read: Reading | None


class Index(TypedDict):
    """One FAISS index: its kind in FAISS's words, and its recall against exact search."""

    kind: str
    parameters: Mapping[str, int]
    recall_at_10: float
    recall_queries: int
    bytes: int


class Memory(TypedDict):
    """One memory version. `counts` are the card's, `quality` the codec's; `read` as in `Vectors`.

    `passages` are those that `counts` are of; None where an update removed some, whose rows may be there.
    """

    passages: int | None
    codec: str
    width: int
    layers: int | None
    compute_dtype: str | None
    max_tokens: int
    shards: int
    shard_passages: int
    encoder_fingerprint: str
    counts: Mapping[str, int]
    read: Reading | None
    quality: Mapping[str, float]
    bytes: int


class Tokens(TypedDict):
    """Tokens of chunks: the tokenizer's fingerprint, and the card's counts."""

    tokenizer: str
    vocabulary: int
    passage_tokens: int
    dtype: str
    documents: int
    tokens: int
    unknown: int
    special: int
    short: int
    bytes: int


class Table(TypedDict):
    """A table of neighbours; counts are the card's. `left_behind`: an update came since, and no reader takes
    the table but one of generation 0."""

    title: str | None
    k: int
    database: str
    rule: str
    method: str
    probes: int | None
    searched: int
    found: int
    missing: int
    short: int
    excluded: int
    recall: float
    recall_queries: int
    bytes: int
    left_behind: bool


class Update(TypedDict):
    """An update. `counts` reconcile: old = kept + vanished, new = kept + added (docs/format.md).

    `versions` have memory of what it added; `bytes` are those of its segment, `worker_seconds` were spent
    in encoding it. `rebuild_bytes` and `rebuild_worker_seconds` are what as many passages as there were after
    it take at the build's rate; seconds are None where the build's are not known.
    """

    generation: int
    first_passage_id: int
    counts: Mapping[str, int]
    recall_at_10: float | None
    versions: list[str]
    bytes: int
    worker_seconds: float
    rebuild_bytes: int
    rebuild_worker_seconds: float | None


class Summary(TypedDict):
    """A corpus in figures.

    `warnings` are of what the models could not read of the passages, a line each.
    `counts` reconcile (docs/format.md); vectors and index are by fingerprint, memory by version, bytes by
    part. `tokens` and `neighbours` are there where the corpus has them. What else is not required is of the
    build, and absent where its statistics are damaged.
    """

    corpus: str
    format: int
    passages: int
    words: int
    counts: Mapping[str, int]
    sources: Sequence[Mapping[str, object]]
    vectors: Mapping[str, Vectors]
    index: Mapping[str, Index]
    memory: Mapping[str, Memory]
    tokens: NotRequired[Tokens]
    neighbours: NotRequired[Mapping[str, Table]]
    updates: NotRequired[list[Update]]
    aliases: Mapping[str, str]
    bytes: Mapping[str, int]
    warnings: Sequence[str]
    worker_seconds: NotRequired[Mapping[str, Mapping[str, float]]]
    stage_seconds: NotRequired[Mapping[str, float]]
    worker_waited: NotRequired[Mapping[str, Mapping[str, float]]]
    bottleneck: NotRequired[str | None]
    computed_tokens: NotRequired[Mapping[str, int]]
    events: NotRequired[Mapping[str, int]]


class Version(TypedDict):
    """A row of `versions`.

    `origin` is the version it was recoded from, `encoder` a fingerprint, `quality` the codec's (see
    `canaries.Difference`), `seconds` of the shards' work, where known.
    """

    version: str
    aliases: list[str]
    codec: str
    origin: str | None
    encoder: str
    layers: int | None
    compute_dtype: str | None
    tokens: int
    bytes: int
    quality: Mapping[str, float]
    seconds: float | None
