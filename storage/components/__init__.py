"""The components of a corpus: for each its layout, its card, its files, its bytes foretold.

`TABLE` is what everything that concerns all components loops over: the manifest, `verify`, `gc`, reports.
A new component is a module here, a row of the table, and a module of the same name in `pipeline.components`.
"""

from __future__ import annotations

from typing import Final

from storage.components.base import AnyComponent as AnyComponent
from storage.components.base import Card as Card
from storage.components.base import Component as Component
from storage.components.base import Content as Content
from storage.components.index import INDEX as INDEX
from storage.components.index import IndexCard as IndexCard
from storage.components.memory import MEMORY as MEMORY
from storage.components.memory import MemoryCard as MemoryCard
from storage.components.memory import MemoryCounts as MemoryCounts
from storage.components.neighbours import NEIGHBOURS as NEIGHBOURS
from storage.components.neighbours import NeighboursCard as NeighboursCard
from storage.components.passages import PASSAGES as PASSAGES
from storage.components.passages import PassagesCard as PassagesCard
from storage.components.tokens import TOKENS as TOKENS
from storage.components.tokens import TokensCard as TokensCard
from storage.components.vectors import VECTORS as VECTORS
from storage.components.vectors import VectorsCard as VectorsCard

TABLE: Final[tuple[AnyComponent, ...]] = (PASSAGES, TOKENS, VECTORS, INDEX, MEMORY, NEIGHBOURS)
