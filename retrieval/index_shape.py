"""Which FAISS index a corpus gets, by its size; what it takes, as arithmetic. Loads no FAISS."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

# Up to here every search looks at every vector: 600 MB at 768 dimensions, tens of milliseconds.
EXACT_LIMIT: Final = 200_000
# Up to here vectors are kept as 8-bit numbers behind inverted lists; beyond, as 64-byte product codes.
SCALAR_LIMIT: Final = 5_000_000
# FAISS's k-means asks for 39 or more points a centroid, and uses at most 256.
TRAINING_POINTS: Final = 64
# Product codes have so many centroids of their own to train.
CODE_CENTROIDS: Final = 256
CODE_BYTES: Final = 64
# Candidates that are compared again by their stored vectors, for each passage wanted. Codes of 8 bits a
# dimension misplace few by more than a place or two; product codes of 12 dimensions a byte misplace many.
SCALAR_REFINED: Final = 2
PRODUCT_REFINED: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexShape:
    """Which index a corpus of this size gets: FAISS's factory string, lists, lists probed at most."""

    kind: str
    lists: int
    probes: int

    @property
    def parameters(self) -> dict[str, int]:
        return {"lists": self.lists, "probes": self.probes}

    @property
    def has_product_codes(self) -> bool:
        return self.kind.startswith("OPQ")

    @property
    def refined(self) -> int:
        """As the function of this name."""
        return refined(self.kind, self.lists)

    def training_points(self, passages: int) -> int:
        """Vectors that the index is trained on."""
        return min(passages, max(self.lists, CODE_CENTROIDS) * TRAINING_POINTS) if self.lists else 0

    def training_bytes(self, passages: int, dim: int) -> int:
        """RAM of training, at most: the sample, as it was read and as k-means works on it."""
        return 2 * self.training_points(passages) * dim * 4

    def file_bytes(self, passages: int, dim: int) -> int:
        """Bytes of the index file, its header of some hundred bytes aside."""
        if not self.lists:
            return passages * dim * 4
        # Each vector's code and its number of 8 bytes; the lists' centroids and lengths.
        lists = passages * 8 + self.lists * (dim * 4 + 8)
        if self.has_product_codes:
            return lists + passages * CODE_BYTES + dim * dim * 4 + CODE_CENTROIDS * dim * 4
        return lists + passages * dim + 2 * dim * 4


def refined(kind: str, lists: int) -> int:
    """Candidates for each passage wanted; 0 where the index holds the vectors themselves."""
    if not lists:
        return 0
    return PRODUCT_REFINED if kind.startswith("OPQ") else SCALAR_REFINED


def choose(passages: int, dim: int, *, exact_limit: int = EXACT_LIMIT) -> IndexShape:
    """The index for `passages` vectors of `dim`: about 4 * sqrt(passages) lists, at most a sixteenth probed.

    `np`: FAISS would train product codes to be compared by their bits too (polysemous), which takes longer
    than all the rest of their training, and which no search here makes use of.
    """
    if passages <= exact_limit:
        return IndexShape(kind="Flat", lists=0, probes=0)
    lists = 1 << round(math.log2(4 * math.sqrt(passages)))
    probes = max(16, lists // 16)
    if passages <= SCALAR_LIMIT or dim % CODE_BYTES:
        kind = f"IVF{lists},SQ8"
    else:
        kind = f"OPQ{CODE_BYTES},IVF{lists},PQ{CODE_BYTES}np"
    return IndexShape(kind=kind, lists=lists, probes=probes)
