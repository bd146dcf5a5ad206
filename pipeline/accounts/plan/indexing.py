"""What building an index takes, as arithmetic on products of matrices.

Rates are of one core, by `benchmarks.index` (docs/benchmarks.md); they tell orders of magnitude. A machine
with other instructions for products of matrices has others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.accounts.plan import form
from retrieval.exact import RECALL_AT, RECALL_QUERIES
from retrieval.index_building import UNIT_PASSAGES
from retrieval.index_shape import CODE_BYTES, EXACT_LIMIT, IndexShape, choose

# Operations of a core in a second: of k-means over a sample, and of finding each vector's list.
TRAINING: Final = 102e9
ADDING: Final = 79e9
# Of k-means; FAISS's.
ITERATIONS: Final = 10
_HOUR: Final = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Indexing:
    """What an index takes.

    Attributes:
        kind: FAISS's factory string.
        training_core_hours: of its one unit, which may use all cores of a machine.
        adding_core_hours: of all units together, which any worker may do.
        units: that vectors are added by.
        training_ram_bytes: of the worker that trains it, libraries aside.
        bytes: of the file.
    """

    kind: str
    training_core_hours: float
    adding_core_hours: float
    units: int
    training_ram_bytes: int
    bytes: int

    @property
    def core_hours(self) -> float:
        return self.training_core_hours + self.adding_core_hours

    def to_json(self) -> form.Indexing:
        return {
            "kind": self.kind,
            "training_core_hours": self.training_core_hours,
            "adding_core_hours": self.adding_core_hours,
            "units": self.units,
            "training_ram_bytes": self.training_ram_bytes,
            "bytes": self.bytes,
        }


def foretold(passages: int, dim: int, *, exact_limit: int = EXACT_LIMIT) -> Indexing:
    """What the index of so many vectors takes."""
    shape = choose(passages, dim, exact_limit=exact_limit)
    # Every vector is compared with the queries too, by which the recall is measured; of an exact index twice.
    compared = 2.0 * passages * dim * RECALL_QUERIES * (1 if shape.lists else 2)
    found = 2.0 * passages * dim * shape.lists
    return Indexing(
        kind=shape.kind,
        training_core_hours=_training(shape, passages, dim) / TRAINING / _HOUR,
        adding_core_hours=(found + compared) / ADDING / _HOUR,
        units=-(-passages // UNIT_PASSAGES) if shape.lists else 0,
        training_ram_bytes=shape.training_bytes(passages, dim),
        bytes=shape.file_bytes(passages, dim),
    )


def parts_bytes(shape: IndexShape, passages: int, dim: int, *, unit_passages: int = UNIT_PASSAGES) -> int:
    """Bytes in `work/` that the index is put together from: its training, parts, and nearest of queries."""
    if not shape.lists:
        return 0
    code = CODE_BYTES if shape.has_product_codes else dim
    units = -(-passages // unit_passages)
    queries = min(RECALL_QUERIES, passages)
    # Of a query its vector, and in each unit scores and ids of twice as many as are counted.
    nearest = queries * 2 * RECALL_AT * 12
    parts = passages * (code + 4) + units * (4 * shape.lists + nearest)
    return shape.file_bytes(0, dim) + queries * dim * 4 + parts


def _training(shape: IndexShape, passages: int, dim: int) -> float:
    return 2.0 * shape.training_points(passages) * dim * shape.lists * ITERATIONS
