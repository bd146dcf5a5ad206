"""Late interaction: passages ranked by MaxSim, from the vectors of their tokens as memory holds them.

    score(q, p) = sum over the question's vectors i of  max over the passage's vectors j of  q_i . p_j

Khattab and Zaharia 2020, section 3.3. In NumPy: a reader loads no framework for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from retrieval.memory import MemoryReader
from storage import errors
from storage.aliases import AnyArray
from storage.ragged import RaggedMemory


def scores(query: AnyArray, memory: RaggedMemory) -> npt.NDArray[np.float32]:
    """MaxSim of one question with passages.

    Args:
        query: [n, d], the question's vectors.
        memory: of k passages, [tokens, d].

    Returns:
        float32 [k]; -inf of a passage without a vector.

    Raises:
        CorpusError: they are of other dimensions.
    """
    values = np.asarray(memory.values, np.float32)
    vectors = np.asarray(query, np.float32)
    if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != values.shape[1]:
        raise errors.CorpusError(
            f"a question's vectors are {list(vectors.shape)}, wanted [1 or more, {values.shape[1]}] as the "
            "memory's are; are both of one model?"
        )
    lengths = np.diff(memory.offsets)
    found = np.full(len(lengths), -np.inf, np.float32)
    there = lengths > 0
    if there.any():
        # Runs without a vector have no place of their own in `reduceat`.
        each = np.maximum.reduceat(vectors @ values.T, np.asarray(memory.offsets[:-1])[there], axis=1)
        found[there] = each.sum(axis=0)
    return found


def rerank(
    queries: Sequence[AnyArray],
    passage_ids: npt.NDArray[np.int64],
    memory: MemoryReader,
    *,
    mean: bool = False,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The passages found for questions, best first by MaxSim. Of equals the one that was found first.

    Args:
        queries: of each question its vectors, [n, d].
        passage_ids: [questions, k].
        memory: of a version that holds the same model's vectors.
        mean: divide a question's scores by the number of its vectors.

    Returns:
        Ids and scores, [questions, k] both.

    Raises:
        CorpusError: not as many questions, or vectors of other dimensions.
    """
    if len(queries) != len(passage_ids):
        raise errors.CorpusError(
            f"{len(queries)} questions' vectors for passages of {len(passage_ids)}; wanted as many"
        )
    ranked = np.empty_like(passage_ids)
    found = np.empty(passage_ids.shape, np.float32)
    for row, (query, ids) in enumerate(zip(queries, passage_ids, strict=True)):
        own = scores(query, memory.fetch(ids))
        if mean:
            own /= len(query)
        order = np.argsort(-own, kind="stable")
        ranked[row], found[row] = ids[order], own[order]
    return ranked, found
