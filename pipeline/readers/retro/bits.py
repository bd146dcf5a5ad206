"""Bits per byte of a RETRO on a corpus, with what is retrieved on, off, stale or shuffled, and by overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jax
import numpy as np
import numpy.typing as npt
from flax import nnx

from encoders.errors import DivergedError
from encoders.retro.loss import token_losses
from encoders.retro.model import Retro
from encoders.retro.rows import Neighbours, Rows
from encoders.token_bytes import TokenBytes
from pipeline.readers.retro import chunks as chunks_of
from pipeline.readers.retro import overlap, windows
from pipeline.readers.retro.chunks import Chunks, Ids
from pipeline.readers.retro.retrieval import Retrieval
from pipeline.readers.retro.windows import Window

# Nearest chunks of the database that a chunk is compared with (Borgeaud et al. 2021, section 2.6).
COMPARED: Final = 10

# Losses [batch, tokens] of rows, in nats.
Losses = Callable[[Rows, Neighbours | None], jax.Array]


@dataclass
class Sums:
    """What is added up over chunks."""

    nats: float = 0.0
    bytes: int = 0
    tokens: int = 0
    unknown: int = 0
    chunks: int = 0

    @property
    def bits_per_byte(self) -> float:
        """NaN where nothing was counted."""
        return self.nats / math.log(2) / self.bytes if self.bytes else math.nan

    @property
    def unknown_share(self) -> float:
        """Of the tokens, those that the vocabulary has no piece for."""
        return self.unknown / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, kw_only=True)
class Bits:
    """How well a model predicts a text.

    Attributes:
        all: over all tokens but the first of each document, which nothing goes before.
        within: by α, over the chunks whose longest run in common with their nearest chunks of the database is
            at most α m tokens long.
        compared: how many nearest chunks these were.
    """

    all: Sums
    within: dict[float, Sums] = field(default_factory=dict)
    compared: int = 0


def measure(
    model: Retro,
    chunks: Chunks,
    counts: TokenBytes,
    *,
    retrieval: Retrieval | None,
    window: int,
    stride: int,
    rows: int = 8,
    overlaps: Sequence[float] = (),
    nearest: Retrieval | None = None,
    on_batch: Callable[[int, npt.NDArray[np.float64], Ids], None] | None = None,
    losses_of: Losses | None = None,
) -> Bits:
    """Bits per byte of all tokens of a corpus, each predicted once.

    Args:
        model: of the chunks' width.
        chunks: the text.
        counts: bytes of the vocabulary's tokens.
        retrieval: what the model reads; None with retrieval off.
        window: l, chunks of a row.
        stride: chunks from one row to the next.
        rows: computed at a time.
        overlaps: each α to filter by.
        nearest: what the filter compares with: the table as it is, in any mode of `retrieval`; needed with
            `overlaps`. Also where retrieval is off the chunks must be the same.
        on_batch: called with the chunks done, the losses [rows * l * m] of a batch in nats and the chunk of
            each, -1 where there is none.
        losses_of: what `compiled` gave of the model, where it is measured more than once: a program that was
            compiled is not compiled again.

    Raises:
        CorpusError: the text has tokens that the model's vocabulary has not, or none to predict; or the
            stride is out of range.
        DivergedError: a loss is not finite.
    """
    if overlaps and nearest is None:
        raise ValueError("a filter by overlap without the nearest chunks")
    windows.require_predictable(chunks)
    found = Bits(
        all=Sums(),
        within={float(alpha): Sums() for alpha in overlaps},
        compared=0 if nearest is None else nearest.neighbours,
    )
    losses_of = compiled(model) if losses_of is None else losses_of
    done = 0
    vocabulary = min(model.config.language.vocab_size, len(counts.counts))
    for batch in windows.sliding(chunks, length=window, stride=stride, rows=rows):
        chunks_of.require_known(np.asarray(batch.rows.tokens), vocabulary, "the text")
        neighbours = None if retrieval is None else retrieval.known(batch.ids, vocabulary)
        losses = np.asarray(losses_of(batch.rows, neighbours), np.float64).reshape(-1)
        judged = batch.judged.reshape(-1)
        if not np.isfinite(losses).all():
            wrong = int(np.argmin(np.isfinite(losses)))
            raise DivergedError(
                f"a token of chunk {judged[wrong]} has a loss of {losses[wrong]} nats, wanted finite ones; "
                "are the model's weights whole, or did its training diverge?"
            )
        _add(found, chunks, counts, nearest, losses, batch)
        done += len(batch.own)
        if on_batch is not None:
            on_batch(done, losses, judged)
    return found


def compiled(model: Retro) -> Losses:
    """Losses [batch, tokens] of the model as it is now, one program a shape."""
    graph, state = nnx.split(model)

    @jax.jit
    def run(state: Any, rows: Rows, neighbours: Neighbours | None) -> jax.Array:
        return token_losses(nnx.merge(graph, state)(rows, neighbours), rows.targets)

    return lambda rows, neighbours: run(state, rows, neighbours)


def _add(
    found: Bits,
    chunks: Chunks,
    counts: TokenBytes,
    nearest: Retrieval | None,
    losses: npt.NDArray[np.float64],
    batch: Window,
) -> None:
    """Add a batch to all sums, by the chunk that each predicted token is of."""
    judged, targets = batch.judged.reshape(-1), np.asarray(batch.rows.targets).reshape(-1)
    there = judged >= 0
    of, predicted = judged[there], targets[there]
    ids = np.unique(np.concatenate([of, batch.own]))
    if not len(ids):
        return
    places = np.searchsorted(ids, of)

    def by_chunk(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        return np.bincount(places, values, len(ids)).astype(np.float64)

    # The first token of a chunk may be predicted one window earlier than the rest.
    whole = np.isin(ids, batch.own)
    unknown = predicted == (-1 if counts.unknown is None else counts.unknown)
    sums = (
        by_chunk(losses[there]),
        by_chunk(counts.counts[predicted]),
        by_chunk(np.ones(len(of))),
        by_chunk(unknown),
        whole,
    )
    _into(found.all, np.ones(len(ids), bool), *sums)
    if not found.within:
        return
    assert nearest is not None
    shares = shared(chunks, nearest, ids) / chunks.width
    for alpha, held in found.within.items():
        _into(held, shares <= alpha, *sums)


def shared(chunks: Chunks, nearest: Retrieval, ids: Ids) -> npt.NDArray[np.int64]:
    """Tokens of the longest run that each chunk has in common with its nearest ones and their
    continuations."""
    own, lengths, _ = chunks_of.tokens_of(chunks, ids)
    near = nearest.ids(ids)
    both = np.stack([near, nearest.database.continuations(near)], axis=-1)
    others, held, _ = chunks_of.tokens_of(nearest.database, both)
    real = np.arange(others.shape[-1]) < held[..., None]
    shape = (*near.shape, -1)
    return overlap.longest_common(own, lengths, others.reshape(shape), real.reshape(shape))


def _into(sums: Sums, kept: npt.NDArray[np.bool_], *values: npt.NDArray[np.generic]) -> None:
    nats, size, tokens, unknown, chunks = (float(one[kept].sum()) for one in values)
    sums.nats += nats
    sums.bytes += int(size)
    sums.tokens += int(tokens)
    sums.unknown += int(unknown)
    sums.chunks += int(chunks)
