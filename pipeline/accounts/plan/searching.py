"""What a table of neighbours takes of a core, as arithmetic on how many vectors each query is compared with.

Rates are of one core with 768 dimensions, by the table of docs/retro.md (`benchmarks.retro_search`), in
proportion to the dimensions; that of product codes is of 4 bits. They tell orders of magnitude.
"""

from __future__ import annotations

from typing import Final

from retrieval import index as index_module
from retrieval.index import CODE_BYTES, IndexShape
from retrieval.nearest import MATRIX
from storage.components.neighbours import NeighboursLayout

# Vectors compared with a query in a second of a core: all of them; of lists turned round, and of lists that
# are scanned for each query, with 8 bits a dimension or as product codes.
EXACT: Final = 60e6
TURNED_ROUND: Final = 29e6
SCALAR: Final = 8.7e6
PRODUCT: Final = 10e6
_DIM: Final = 768


def seconds_a_query(shape: IndexShape, passages: int, dim: int, *, shard: int, probes: int | None) -> float:
    """Of one core.

    Args:
        shape: of the index.
        passages: in the database.
        dim: of a vector; all but product codes are as dear as they have dimensions.
        shard: queries that are searched at once.
        probes: lists that are looked into; None: as many as the index has been given.
    """
    wide = dim / _DIM
    if not shape.lists:
        return passages * wide / EXACT
    probes = min(probes or shape.probes, shape.lists)
    scanned = passages * probes / shape.lists
    coarse = shape.lists * wide / EXACT
    if shard * probes >= MATRIX * shape.lists:
        # Every list is decoded once a shard, which takes about as long as comparing it with two queries.
        return coarse + (scanned + 2 * passages / shard) * wide / TURNED_ROUND
    if shape.kind.startswith(f"OPQ{CODE_BYTES}"):
        return coarse + scanned / PRODUCT
    return coarse + scanned * wide / SCALAR


def core_hours(passages: int, dim: int, *, exact_limit: int, probes: int | None = None) -> float:
    """Of a table of a corpus's own passages."""
    shape = index_module.choose(passages, dim, exact_limit=exact_limit)
    layout = NeighboursLayout.sized(passages=passages, k=1, score_dtype="float32")
    shard = min(layout.grid.shard_passages, passages)
    return passages * seconds_a_query(shape, passages, dim, shard=shard, probes=probes) / 3600
