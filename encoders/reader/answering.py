"""A reader put to work: questions with their passages in, greedy answers out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from flax import nnx

from encoders.reader.examples import Examples
from encoders.reader.greedy import greedy
from encoders.reader.model import Reader


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a reader says.

    Args:
        tokens: int32 [batch, answer_tokens], with EOS, and 0 behind it.
        log_probabilities: float32 [batch], of each answer.
        scores: float32 [batch, passages], -inf for absent ones; None if the reader scores none.
        chosen: int32 [batch, selected], which passages were read; None where all were.
    """

    tokens: npt.NDArray[np.int32]
    log_probabilities: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32] | None
    chosen: npt.NDArray[np.int32] | None


def answer(reader: Reader, examples: Examples, *, selected: int | None, tokens: int) -> Answers:
    """Answer a batch; compiled once a shape, whatever the weights.

    Args:
        reader: the model.
        examples: the questions; their targets are not looked at.
        selected: m; None for all passages.
        tokens: the most an answer may have, EOS included.
    """
    graph, state = nnx.split(reader)
    found, totals, scores, chosen = _answer(graph, state, examples, selected, tokens)
    return Answers(
        tokens=np.asarray(found),
        log_probabilities=np.asarray(totals),
        scores=None if scores is None else np.asarray(scores),
        chosen=None if chosen is None else np.asarray(chosen),
    )


@partial(jax.jit, static_argnums=(0, 3, 4))
def _answer(
    graph: Any, state: nnx.State, examples: Examples, selected: int | None, tokens: int
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]:
    reader = nnx.merge(graph, state)
    memory = examples.passages
    if memory.ndim == 3:
        memory = reader.remember(memory, examples.lengths)
    pairs = reader.pair(examples.questions, examples.question_lengths, memory, examples.lengths)
    read, chosen, scores = reader.read(pairs, selected=selected)
    answers, totals = greedy(reader.decoder, *read.fused(), tokens=tokens)
    return answers, totals, scores, chosen
