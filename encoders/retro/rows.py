"""Batches of a RETRO as arrays: rows of chunks, and what was retrieved for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

Numbers = jax.Array | np.ndarray


@jax.tree_util.register_dataclass
@dataclass
class Rows:
    """Rows of l chunks of m tokens, of one or several documents, each chunk of one.

    Args:
        tokens: [batch, l * m] token ids; what stands from a chunk's length on is ignored.
        lengths: [batch, l] real tokens of each chunk; 0 where there is none. Only the last chunk of a
            document may be short.
        documents: [batch, l] a number for each chunk's document: tokens see those of their own alone.
        targets: [batch, l * m] the token that follows each in its document; -1 where none does, or where it
            is not to be predicted.
    """

    tokens: Int[Numbers, "batch tokens"]
    lengths: Int[Numbers, "batch chunks"]
    documents: Int[Numbers, "batch chunks"]
    targets: Int[Numbers, "batch tokens"]

    def cut(self, begin: int, end: int) -> Rows:
        """Some of the rows."""
        return cast(Rows, jax.tree.map(lambda array: array[begin:end], self))

    @property
    def size(self) -> int:
        return int(self.tokens.shape[0])


@jax.tree_util.register_dataclass
@dataclass
class Neighbours:
    """What was retrieved for each chunk of `Rows`: token ids, or states that were computed beforehand.

    Args:
        tokens: [batch, l, k, r] of each neighbour with its continuation, or None.
        states: [batch, l, k, r, d'] of the same, or None.
        real: [batch, l, k, r], False for padding, and for all of a neighbour that is absent: where the table
            has -1, and where a continuation would cross a document.
    """

    tokens: Int[Numbers, "batch chunks neighbours places"] | None
    states: Float[Numbers, "batch chunks neighbours places width"] | None
    real: Bool[Numbers, "batch chunks neighbours places"]

    def cut(self, begin: int, end: int) -> Neighbours:
        """Those of some of the rows."""
        return cast(Neighbours, jax.tree.map(lambda array: array[begin:end], self))
