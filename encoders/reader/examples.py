"""A batch of questions with their passages, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import jax
import numpy as np
from jaxtyping import Int, Shaped

Rows = jax.Array | np.ndarray


@jax.tree_util.register_dataclass
@dataclass
class Examples:
    """Questions with their passages and answers, padded; see `Reader.pair`.

    Args:
        questions, question_lengths: [batch, question_tokens] token ids, left-aligned, and [batch].
        passages: [batch, passages, passage_tokens] token ids, or their memory with a last axis of d.
        lengths: [batch, passages] real tokens; 0 where a passage is absent.
        targets, target_lengths: [batch, answer_tokens] token ids with EOS, and [batch]; a length of 0
            marks a row that fills the batch up and does not count.
    """

    questions: Int[Rows, "batch question_tokens"]
    question_lengths: Int[Rows, " batch"]
    passages: Shaped[Rows, "batch passages passage_tokens *d"]
    lengths: Int[Rows, "batch passages"]
    targets: Int[Rows, "batch answer_tokens"]
    target_lengths: Int[Rows, " batch"]

    def rows(self, begin: int, end: int) -> Examples:
        """Some of the questions."""
        return cast(Examples, jax.tree.map(lambda array: array[begin:end], self))

    @property
    def size(self) -> int:
        return int(self.questions.shape[0])
