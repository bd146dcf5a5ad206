"""How a query and a passage are compared: by inner product, cosine or distance, as the retriever has it.

Vectors are stored as the retriever gives them. FAISS knows inner products and squared distances, so for the
cosine vectors are brought to length 1 on their way into the index, and queries on their way to it. Scores
are the similarity as sentence-transformers has it, the larger the nearer: a distance is negative.
"""

from __future__ import annotations

from typing import Any, Final

import faiss
import numpy as np
import numpy.typing as npt

from storage.components.vectors import COSINE, DOT, EUCLIDEAN

# Below torch's own, so that what a vector is divided by is the same.
_LEAST_NORM: Final = 1e-12


def metric(similarity: str) -> int:
    """FAISS's own word for it."""
    return int(faiss.METRIC_L2 if similarity == EUCLIDEAN else faiss.METRIC_INNER_PRODUCT)


def prepared(vectors: npt.NDArray[Any], similarity: str = DOT) -> npt.NDArray[np.float32]:
    """Vectors or queries [n, dim] as FAISS is given them."""
    found = np.ascontiguousarray(vectors, np.float32)
    if similarity != COSINE:
        return found
    lengths = np.linalg.norm(found.astype(np.float64), axis=1, keepdims=True)
    return np.ascontiguousarray(found / np.maximum(lengths, _LEAST_NORM), np.float32)


def scores(found: npt.NDArray[np.float32], similarity: str) -> npt.NDArray[np.float32]:
    """The similarity, of what FAISS has found."""
    return -np.sqrt(np.maximum(found, 0)) if similarity == EUCLIDEAN else found


def between(
    query: npt.NDArray[np.float32], passages: npt.NDArray[np.float32], similarity: str
) -> npt.NDArray[np.float32]:
    """Similarity [n] of a prepared query [dim] and prepared passages [n, dim]."""
    if similarity == EUCLIDEAN:
        result: npt.NDArray[np.float32] = -np.linalg.norm(passages - query, axis=1)
        return result
    return passages @ query
