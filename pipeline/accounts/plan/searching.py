"""What a table of neighbours takes of a core, as arithmetic on how many vectors each query is compared with.

Rates are of one core with 768 dimensions, as `python -m benchmarks.retro_search` prints them; they hold for
machines like the one that docs/retro.md names, and tell orders of magnitude elsewhere.
"""

from __future__ import annotations

from typing import Final

from retrieval import index as index_module
from retrieval.index import CODE_BYTES, IndexShape

# Vectors compared with a query in a second of a core.
EXACT: Final = 40e6
SCALAR: Final = 7e6
PRODUCT: Final = 20e6
# Centroids of lists, of which few queries at a time are compared with all.
CENTROIDS: Final = 7e6
_DIM: Final = 768


def seconds_a_query(shape: IndexShape, passages: int, dim: int, probes: int | None = None) -> float:
    """Of one core.

    Args:
        shape: of the index.
        passages: in the database.
        dim: of a vector; all but product codes are as dear as they have dimensions.
        probes: lists that are looked into; None: as many as the index has been given.
    """
    wide = dim / _DIM
    if not shape.lists:
        return passages * wide / EXACT
    scanned = passages * min(1.0, (probes or shape.probes) / shape.lists)
    coarse = shape.lists * wide / CENTROIDS
    if shape.kind.startswith(f"OPQ{CODE_BYTES}"):
        return coarse + scanned / PRODUCT
    return coarse + scanned * wide / SCALAR


def core_hours(passages: int, dim: int, *, exact_limit: int, probes: int | None = None) -> float:
    """Of a table of a corpus's own passages."""
    shape = index_module.choose(passages, dim, exact_limit=exact_limit)
    return passages * seconds_a_query(shape, passages, dim, probes) / 3600
