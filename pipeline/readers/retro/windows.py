"""Rows of l chunks out of a corpus: drawn for training, or sliding so that each token is judged once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from encoders.retro.rows import Rows
from pipeline.readers.retro import chunks as chunks_of
from pipeline.readers.retro.chunks import Chunks, Ids
from storage import errors

# How often rows of a step are drawn before they are given up.
DRAWS: Final = 100


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some rows, and which tokens are judged.

    Args:
        ids: int64 [batch, l], the chunks; outside the corpus where there is none.
        rows: their arrays; targets of other tokens than those that are judged are -1.
        judged: int64 [batch, l * m], the chunk of each target, -1 where there is none.
        own: int64, the chunks of the corpus whose tokens' successors are judged; over all windows each once.
    """

    ids: Ids
    rows: Rows
    judged: Ids
    own: Ids


def rows_of(chunks: Chunks, ids: Ids, *, judged: npt.NDArray[np.bool_] | None = None) -> Window:
    """Rows of given chunks, which follow each other in each row.

    Args:
        chunks: the corpus.
        ids: int64 [batch, l], rising by 1.
        judged: [l], chunks whose tokens' successors are to be predicted; all if not given.

    Raises:
        CorpusError: a chunk is short, though its document goes on.
    """
    batch, length = ids.shape
    m = chunks.width
    # One more, for what follows the last token of a row.
    wider = np.concatenate([ids, ids[:, -1:] + 1], axis=1)
    tokens, lengths, documents = chunks_of.tokens_of(chunks, wider)
    for row in range(batch):
        there = documents[row] >= 0
        chunks_of.require_full(lengths[row][there], documents[row][there], m)
    places = np.arange(m)
    targets = np.full((batch, length, m), -1, np.int32)
    targets[:, :, :-1] = np.where(places[:-1] + 1 < lengths[:, :-1, None], tokens[:, :-1, 1:], -1)
    goes_on = (documents[:, :-1] == documents[:, 1:]) & (documents[:, :-1] >= 0)
    targets[:, :, -1] = np.where(goes_on & (lengths[:, :-1] == m), tokens[:, 1:, 0], -1)
    if judged is None:
        judged = np.ones(length, bool)
    targets[:, ~judged] = -1
    own = ids[:, judged]
    of = np.repeat(ids[:, :, None], m, axis=2)
    of[:, :, -1] += 1
    of = np.where(targets >= 0, of, -1)
    # Documents as small numbers, so that they fit the device's integers: by the place of their first chunk.
    small = np.where(documents >= 0, documents - ids[:, :1] + length, -1)
    small = np.where(documents >= 0, np.maximum(small, 0), -1)
    return Window(
        ids=ids,
        rows=Rows(
            tokens=tokens[:, :-1].reshape(batch, length * m),
            lengths=lengths[:, :-1],
            documents=small[:, :-1].astype(np.int32),
            targets=targets.reshape(batch, length * m),
        ),
        judged=of.reshape(batch, length * m),
        own=own[documents[:, :-1][:, judged] >= 0],
    )


def drawn(chunks: Chunks, *, length: int, rows: int, seed: int, step: int) -> Window:
    """Rows of a step: each begins with a chunk that is drawn, with replacement.

    They hang on the seed and the step alone, so a run that is resumed sees the same. Where none of them has a
    token to predict, which documents of one token have not, they are drawn again.

    Raises:
        CorpusError: nothing is found to predict.
    """
    rng = np.random.default_rng([seed, step])
    for _ in range(DRAWS):
        # Of a whole row where the corpus has one.
        starts = rng.integers(max(len(chunks) - length, 0) + 1, size=rows)
        window = rows_of(chunks, starts[:, None] + np.arange(length))
        if (window.rows.targets >= 0).any():
            return window
    raise errors.CorpusError(
        f"{DRAWS} times {rows} rows of {length} chunks were drawn, and none has a token to predict: a "
        "document's first token is given; wanted documents of two tokens and more"
    )


def require_predictable(chunks: Chunks) -> None:
    """Refuse a text of which no token goes before another in its document: a document's first is given.

    Raises:
        CorpusError: every document has one token, or there is none.
    """
    for window in sliding(chunks, length=1, stride=1, rows=64):
        if (window.rows.targets >= 0).any():
            return
    raise errors.CorpusError(
        f"{len(chunks):,} chunks have no token to predict: a document's first token is given; wanted "
        "documents of two tokens and more"
    )


def sliding(chunks: Chunks, *, length: int, stride: int, rows: int) -> Iterator[Window]:
    """Windows over all chunks, each of which is judged once, in the last `stride` of a row: with at least
    length - stride chunks before it, as far as its document has them.

    Args:
        chunks: the corpus.
        length: l, chunks of a row.
        stride: chunks from one window to the next; 1 to l.
        rows: of a batch; those beyond the last window are empty.

    Raises:
        CorpusError: one is out of range.

    Source: Borgeaud et al. 2021, section 2.6: windows of 2,048 tokens, 1,024 apart.
    """
    if length < 1 or rows < 1:
        raise errors.CorpusError(f"{rows} rows of {length} chunks, wanted 1 or more of both")
    if not 1 <= stride <= length:
        raise errors.CorpusError(f"a stride of {stride} chunks, wanted 1 to {length}, those of a row")
    judged = np.arange(length) >= length - stride
    starts = np.arange(stride - length, len(chunks) - length + stride, stride)
    for begin in range(0, len(starts), rows):
        some = starts[begin : begin + rows]
        # Beyond the corpus there is nothing: no token, no target.
        some = np.concatenate([some, np.full(rows - len(some), len(chunks))])
        yield rows_of(chunks, some[:, None] + np.arange(length), judged=judged)
