"""A codec within the reader: memory computed from text comes as a store gives it, coded and decoded.

    remember(P) = decode(encode(MemEnc(P)))

So a reader learns to read what it will be given. Its gradient goes straight through, to the states that were
coded (van den Oord et al. 2017, section 3.2). The codebooks of product quantization follow the states while
those move, by moving averages of how many tokens take a code, n, and of their sum, s, over steps:

    n <- γ n + (1 - γ) n_step;   s <- γ s + (1 - γ) s_step;   code = s / n

and a code that hardly any token takes is put where a token of the batch is. There is no commitment loss.
Those of residual quantization follow in each step what the steps before leave of the states.
Source: MEMORY-VQ (Zemlyanskiy et al. 2023, 2308.14903), section 3; van den Oord et al. 2017, appendix A.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import numpy.typing as npt
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from encoders import codebooks, quantizing
from encoders.quantizing import CoderLike

PQ: Final = "pq"
RQ: Final = "rq"
BOOKS: Final = "books"
# A code that tokens take less than this share of as often as the average code is dead.
DEAD: Final = 0.01


class Table(nnx.Variable):  # type: ignore[misc]
    """What a codec computes with; no weight, and without a gradient."""


@jax.tree_util.register_dataclass
@dataclass
class Taken:
    """What the tokens of some passages made of the codes.

    Args:
        counts: tokens that took each code, of each group, or of each group's steps.
        sums: of their states, or of what was left of those.
        tokens: states of tokens drawn from them, one for each code that may be dead.
    """

    counts: Float[Array, "*books codes"]
    sums: Float[Array, "*books codes dims"]
    tokens: Float[Array, "*books codes dims"]

    def plus(self, other: Taken) -> Taken:
        """Of both; tokens stay those of the first."""
        return Taken(self.counts + other.counts, self.sums + other.sums, self.tokens)


class Codes(nnx.Module):  # type: ignore[misc]
    """A codec with its parameters.

    Args:
        coder: the store's, of the memory's width.
    """

    def __init__(self, coder: CoderLike) -> None:
        self.codec = coder.codec.name
        self.kind = quantizing.kind_of(coder)
        tables = quantizing.tables_of(coder)
        # Beside its averages a book needs nothing: what else the tables hold follows from it.
        kept = [BOOKS] if self.follows else list(tables)
        self.tables = nnx.Dict({name: Table(tables[name]) for name in kept})
        self.parameters = nnx.Dict({name: Table(jnp.asarray(v)) for name, v in coder.parameters.items()})
        # As if each code had been taken as often as any until now: the first steps move none of them far.
        books = tables[BOOKS].astype(jnp.float32) if self.follows else None
        self.counts = None if books is None else Table(jnp.ones(books.shape[:-1]))
        self.sums = None if books is None else Table(books)

    @property
    def follows(self) -> bool:
        """Whether its codes follow the states while those move."""
        return self.kind in (PQ, RQ)

    def __call__(self, h: Float[Array, "*rows d"]) -> Float[Array, "*rows d"]:
        """h as a store gives it back, in float32."""
        stored = quantizing.encode(self.kind, self._tables(), h)
        decoded = quantizing.decode(self.kind, self._tables(), stored).astype(jnp.float32)
        # h - h is 0, and its gradient 1: so the values are the store's to the bit.
        return jax.lax.stop_gradient(decoded) + (h - jax.lax.stop_gradient(h))

    def taken(self, h: Float[Array, "rows d"], real: Bool[Array, " rows"], key: PRNGKeyArray) -> Taken:
        """What these tokens take, of those that are real."""
        h = jax.lax.stop_gradient(h)
        tables = self._tables()
        # Codes of one step, or of several.
        books = tables[BOOKS] if self.kind == RQ else tables[BOOKS][:, None]
        *_, codes, dims = books.shape
        weights = jnp.ones(len(h))
        # With replacement: dead codes are few, and of equal ones all but one die again.
        share = real / jnp.maximum(real.sum(), 1)
        rows = jax.random.choice(key, len(h), books.shape[:-1], p=share)

        def take(found: Array, left: Array, rows: Array) -> tuple[Array, Array, Array]:
            # Padding takes a code beyond the last, which no array has.
            at = jnp.where(real, found, codes)
            counts = jnp.zeros(codes).at[at].add(weights, mode="drop")
            sums = jnp.zeros((codes, dims)).at[at].add(left, mode="drop")
            return counts, sums, left[rows]

        found = codebooks.by_step({**tables, BOOKS: books}, h, take, rows)
        shape = self.tables[BOOKS].shape
        return Taken(found[0].reshape(shape[:-1]), *(one.reshape(shape) for one in found[1:]))

    def followed(self, taken: Taken, decay: float) -> None:
        """Move the codes by what a step's tokens took."""
        if self.counts is None or self.sums is None:
            raise ValueError(f"codec {self.codec} has no codes that follow")
        total = taken.counts.sum(axis=-1, keepdims=True)  # the same in all
        codes = taken.counts.shape[-1]
        # In shares of the average code, so that averages do not hang on how many tokens a step has.
        unit = jnp.where(total > 0, codes / jnp.maximum(total, 1), 0.0)
        counts = decay * self.counts[...] + (1 - decay) * taken.counts * unit
        sums = decay * self.sums[...] + (1 - decay) * taken.sums * unit[..., None]
        dead = (counts < DEAD) & (total > 0)
        counts = jnp.where(dead, 1.0, counts)
        sums = jnp.where(dead[..., None], taken.tokens, sums)
        # A step without a token moves nothing.
        there = total > 0
        self.counts[...] = jnp.where(there, counts, self.counts[...])
        self.sums[...] = jnp.where(there[..., None], sums, self.sums[...])
        self.tables[BOOKS][...] = (self.sums[...] / self.counts[...][..., None]).astype(jnp.bfloat16)

    def _tables(self) -> Mapping[str, Array]:
        tables = {name: table[...] for name, table in self.tables.items()}
        if self.kind == RQ:
            return codebooks.rq_tables(tables[BOOKS])
        return codebooks.pq_tables(tables[BOOKS]) if self.kind == PQ else tables

    def stored_parameters(self) -> dict[str, npt.NDArray[np.generic]]:
        """The codec's trained parameters as a store has them, by name."""
        if self.follows:
            books = np.asarray(jax.device_get(self.tables[BOOKS][...]))
            return {"codebooks": np.ascontiguousarray(books.astype(ml_dtypes.bfloat16)).view("<u2")}
        return {name: np.asarray(jax.device_get(table[...])) for name, table in self.parameters.items()}
