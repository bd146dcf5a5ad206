"""The table of stages: every kind of unit there is, in the order a build runs them."""

from __future__ import annotations

from typing import Final

from pipeline.components import neighbours, shards, tokens, vectors
from pipeline.components.base import AnyStage
from pipeline.components.index import build as index
from pipeline.components.memory import train_codec
from pipeline.components.passages import number, read

STAGES: Final[tuple[AnyStage, ...]] = (
    read.STAGE,
    number.STAGE,
    tokens.STAGE,
    train_codec.STAGE,
    shards.STAGE,
    vectors.STAGE,
    index.TRAIN,
    index.ADD,
    index.STAGE,
    neighbours.STAGE,
    neighbours.RECALL_STAGE,
)
# Stages as people name them, by the names in statistics.
TITLES: Final = {stage.name: stage.title for stage in STAGES}
