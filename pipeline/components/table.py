"""The table of stages: every kind of unit there is, in the order a build runs them."""

from __future__ import annotations

from typing import Any, Final

from pipeline.components import index, shards, vectors
from pipeline.components.memory import train_codec
from pipeline.components.passages import number, read
from pipeline.units.stage import Stage

STAGES: Final[tuple[Stage[Any], ...]] = (
    read.STAGE,
    number.STAGE,
    train_codec.STAGE,
    shards.STAGE,
    vectors.STAGE,
    index.STAGE,
)
# Stages as people name them, by the names in statistics.
TITLES: Final = {stage.name: stage.title for stage in STAGES}
