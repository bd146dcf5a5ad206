"""A RETRO writes on: token by token, with a search at each chunk's end, or hidden behind the next chunk.

The last token of a chunk is the first that attends to what is found for the chunk, and it gives the very next
token: a search stands in the way of each m tokens. Stale, the search for chunk u runs while chunk u + 1 is
written, and what was found is read one chunk late, moved on by a chunk: continuations for neighbours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import nnx

from encoders.errors import DivergedError
from encoders.retro.model import Cache, Retro
from encoders.retro.rows import Neighbours
from encoders.t5_config import require_seed
from pipeline.readers.retro import chunks as chunks_of
from pipeline.readers.retro.chunks import Chunks, Ids
from pipeline.readers.retro.retrieval import MODES, OFF, ON, STALE, Encodings, Retrieval
from storage import errors

# Neighbours of one chunk's tokens: their ids in the database, best first.
Search = Callable[[npt.NDArray[np.int32]], Ids]


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What was written.

    Attributes:
        tokens: int32, behind the prompt, with the end token where one came.
        log_probability: of these.
        neighbours: for each chunk that ended, the ids that were read from its end on.
        waited: seconds that the writing stood still for a search.
    """

    tokens: npt.NDArray[np.int32]
    log_probability: float
    neighbours: list[list[int]]
    waited: float


class Writer:
    """A RETRO with a database to read.

    Args:
        model: the model.
        database: its chunks.
        search: finds neighbours of a chunk; called with full chunks alone.
        mode: "on", "off" or "stale".
        encodings: of the database, for a model that reads states.
        end: the token that ends a text; None for none.

    Raises:
        CorpusError: another mode.
    """

    def __init__(
        self,
        model: Retro,
        database: Chunks,
        search: Search,
        *,
        mode: str = ON,
        encodings: Encodings | None = None,
        end: int | None = None,
    ) -> None:
        if mode not in (ON, OFF, STALE):
            raise errors.CorpusError(f"retrieval is {mode!r}, wanted {ON}, {OFF} or {STALE} of {MODES}")
        self._model, self._database, self._search = model, database, search
        self._mode, self._end, self._encodings = mode, end, encodings
        self._graph, self._state = nnx.split(model)
        self._step = jax.jit(self._stepped, donate_argnums=3)

    def write(
        self,
        prompt: npt.NDArray[np.int32],
        *,
        tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Generated:
        """Write on from a prompt.

        Args:
            prompt: one or more tokens, which begin a document.
            tokens: the most that are written.
            temperature: 0 takes the likeliest token; else tokens are drawn by softmax(logits / temperature).
            seed: of the drawing.

        Raises:
            CorpusError: an empty prompt, a token that the model has not, or an argument out of range.
            EncoderError: the seed is out of range.
            DivergedError: the model gives nothing finite.
        """
        if not len(prompt) or tokens < 1 or not 0 <= temperature < math.inf:
            raise errors.CorpusError(
                f"a prompt of {len(prompt)} tokens, {tokens} to write at temperature {temperature}; wanted 1 "
                "or more of both, and 0 or more"
            )
        require_seed(seed)
        chunks_of.require_known(prompt, self._model.config.language.vocab_size, "the prompt")
        m = self._model.config.chunk_tokens
        # Whole chunks of room: rooms of many lengths would be programs of many shapes.
        room = -(-(len(prompt) + tokens) // m) * m
        cache = self._model.start(1, room, retrieval=self._mode != OFF)
        rng = np.random.default_rng(seed)
        written = [int(token) for token in prompt]
        total, waited = 0.0, 0.0
        read: list[list[int]] = []
        searching: Future[Ids] | None = None
        with ThreadPoolExecutor(1, "search") as pool:
            for at in range(len(prompt) + tokens - 1):
                neighbours = None
                if self._mode != OFF and at % m == m - 1:
                    chunk = np.array(written[at - m + 1 : at + 1], np.int32)
                    began = time.perf_counter()
                    if self._mode == ON:
                        ids = self._search(chunk)
                    else:
                        ids = self._moved_on(searching)
                        searching = pool.submit(self._search, chunk)
                    waited += time.perf_counter() - began
                    read.append([int(one) for one in ids if one >= 0])
                    neighbours = self._fetch(ids)
                logits, cache = self._step(
                    self._state, jnp.asarray(written[at : at + 1]), jnp.int32(at), cache, neighbours
                )
                if at + 1 < len(prompt):
                    continue
                token, gained = _chosen(np.asarray(logits[0], np.float64), temperature, rng)
                written.append(token)
                total += gained
                if token == self._end:
                    break
        return Generated(
            tokens=np.array(written[len(prompt) :], np.int32),
            log_probability=total,
            neighbours=read,
            waited=waited,
        )

    def _stepped(
        self, state: Any, tokens: jax.Array, at: jax.Array, cache: Cache, neighbours: Neighbours | None
    ) -> tuple[jax.Array, Cache]:
        found: tuple[jax.Array, Cache] = nnx.merge(self._graph, state).step(tokens, at, cache, neighbours)
        return found

    def _moved_on(self, searching: Future[Ids] | None) -> Ids:
        """What was found for the chunk before, one chunk later; nothing at the end of the first chunk."""
        if searching is None:
            return np.full(self._model.config.neighbours, chunks_of.NONE, np.int64)
        return self._database.continuations(searching.result())

    def _fetch(self, ids: Ids) -> Neighbours:
        """Neighbours [1, k, ...] of the model's k."""
        k = self._model.config.neighbours
        row = np.full(k, chunks_of.NONE, np.int64)
        row[: len(ids[:k])] = ids[:k]
        # A table of one row, so that continuations and padding are made in one place.
        table = chunks_of.ArrayTable(values=row[None])
        retrieval = Retrieval(
            chunks=_OneChunk(self._database.width),
            database=self._database,
            table=table,
            neighbours=k,
            encodings=self._encodings,
        )
        found: Neighbours = jax.tree.map(
            lambda array: array[:, 0],
            retrieval.known(np.zeros((1, 1), np.int64), self._model.config.language.vocab_size),
        )
        return found


@dataclass(frozen=True)
class _OneChunk:
    """A text of one chunk that is being written: nothing of it is in the database."""

    width: int

    def __len__(self) -> int:
        return 1

    def tokens(self, ids: Ids) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        return np.zeros((len(ids), self.width), np.int32), np.zeros(len(ids), np.int32)

    def documents(self, ids: Ids) -> Ids:
        return np.zeros(len(ids), np.int64)

    def continuations(self, ids: Ids) -> Ids:
        return np.full(ids.shape, chunks_of.NONE, np.int64)


def _chosen(
    logits: npt.NDArray[np.float64], temperature: float, rng: np.random.Generator
) -> tuple[int, float]:
    """A token and its log-probability under the model, whatever the temperature.

    Raises:
        DivergedError: there is no likeliest token.
    """
    if not np.isfinite(logits).all():
        raise DivergedError(
            "the model gives logits that are not finite; are its weights whole, or did its training diverge?"
        )
    logs = logits - logits.max()
    logs -= np.log(np.exp(logs).sum())
    if temperature == 0:
        token = int(np.argmax(logs))
    else:
        scaled = logs / temperature
        shares = np.exp(scaled - scaled.max())
        token = int(rng.choice(len(logs), p=shares / shares.sum()))
    return token, float(logs[token])
