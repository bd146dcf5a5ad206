"""The stage of shards: a range of passage ids, whose vectors and memory one worker makes and writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from encoders.template import PassageTemplate
from encoders.tokenizing import Read
from pipeline.units.stage import Stage
from storage import components, receipts
from storage.files import FileEntry
from storage.receipts import Counts

# Begins the names of the counts of passages by their tokens: "tokens up to 32" are those of 17 to 32.
TOKENS_UP_TO: Final = "tokens up to "
# Bars of such a histogram, about.
BARS: Final = 20
# What happened on the way, in a shard's events.
COMPILED: Final = "programs compiled"
LOADED: Final = "programs loaded"
HALVED: Final = "batches halved"


@dataclass(frozen=True, kw_only=True)
class ShardCounts(Counts):
    """What a shard holds, and what it took.

    Attributes:
        passages, tokens: in it; `tokens_min` and `tokens_max` of its shortest and longest passage.
        vector_bytes, memory_bytes: of the passages' rows.
        vectors_stored_bytes, memory_stored_bytes: of the shard's files that stay.
        passages_cut, tokens_cut: at the token limit.
        tokens_unknown: those of `tokens` that the memory encoder's vocabulary lacks.
        passages_judged: passages whose unknown tokens were counted; fewer than `passages` where shards of an
            earlier release are gone on with.
        retriever_passages: passages whose tokens the retriever counted, likewise; and of its tokens
            `retriever_tokens`, `retriever_passages_cut`, `retriever_tokens_cut`, `retriever_tokens_unknown`.
        padding_tokens, filler_tokens: computed beside the passages' own.
        lengths: passages by their tokens; see `length_counts`.
    """

    optional = frozenset(
        {
            *("vector_bytes", "padding_tokens", "filler_tokens", "tokens_unknown", "passages_judged"),
            *("retriever_passages", "retriever_tokens", "retriever_passages_cut"),
            *("retriever_tokens_cut", "retriever_tokens_unknown"),
        }
    )

    passages: int = 0
    vector_bytes: int = 0
    tokens: int = 0
    memory_bytes: int = 0
    passages_cut: int = 0
    tokens_cut: int = 0
    tokens_unknown: int = 0
    passages_judged: int = 0
    retriever_passages: int = 0
    retriever_tokens: int = 0
    retriever_passages_cut: int = 0
    retriever_tokens_cut: int = 0
    retriever_tokens_unknown: int = 0
    padding_tokens: int = 0
    filler_tokens: int = 0
    vectors_stored_bytes: int = 0
    memory_stored_bytes: int = 0
    tokens_min: int = receipts.least()
    tokens_max: int = receipts.most()
    lengths: Mapping[str, int] = receipts.named(TOKENS_UP_TO)


STAGE: Final = Stage(name="shards", title="encode shards", counts=ShardCounts, measure="passages")


class LengthCounts(TypedDict):
    """Arguments of `ShardCounts`, of how long passages are."""

    tokens_min: int
    tokens_max: int
    lengths: Mapping[str, int]


class RetrieverCounts(TypedDict, total=False):
    """Arguments of `ShardCounts`, of what the retriever was given; none where it was given nothing."""

    retriever_passages: int
    retriever_tokens: int
    retriever_passages_cut: int
    retriever_tokens_cut: int
    retriever_tokens_unknown: int


class StoredCounts(TypedDict):
    """Arguments of `ShardCounts`, of files that stay."""

    vectors_stored_bytes: int
    memory_stored_bytes: int


def length_counts(tokens: npt.NDArray[np.integer], max_tokens: int) -> LengthCounts:
    """Passages by their tokens: shortest, longest, and a histogram.

    Args:
        tokens: of each passage, [passages], 1 to `max_tokens`.
        max_tokens: decides the bars, so that those of all shards can be added up.
    """
    step = max(1, -(-max_tokens // BARS))
    # A multiple of 8, as the lengths that batches are padded to.
    step = -(-step // 8) * 8
    bars = np.bincount((np.asarray(tokens) + step - 1) // step, minlength=-(-max_tokens // step) + 1)
    return {
        "tokens_min": int(tokens.min()),
        "tokens_max": int(tokens.max()),
        "lengths": {str(min(i * step, max_tokens)): int(bars[i]) for i in range(1, len(bars))},
    }


def retriever_counts(read: Read | None) -> RetrieverCounts:
    """What the retriever was given of a shard."""
    if read is None:
        return {}
    return {
        "retriever_passages": read.texts,
        "retriever_tokens": read.tokens,
        "retriever_passages_cut": read.texts_cut,
        "retriever_tokens_cut": read.tokens_cut,
        "retriever_tokens_unknown": read.tokens_unknown,
    }


def stored_counts(entries: Iterable[FileEntry]) -> StoredCounts:
    """Bytes of a shard's files that stay, by component."""
    sums = {components.VECTORS.noun: 0, components.MEMORY.noun: 0}
    for entry in entries:
        for noun in sums:
            sums[noun] += entry.bytes if entry.path.startswith(f"{noun}/") else 0
    return {
        "vectors_stored_bytes": sums[components.VECTORS.noun],
        "memory_stored_bytes": sums[components.MEMORY.noun],
    }


def render(template: str, table: pa.Table) -> list[str]:
    """Each passage of a table as a model reads it."""
    rows = table.select(["title", "section", "text"]).to_pylist()
    return PassageTemplate(template).render_rows(rows)
