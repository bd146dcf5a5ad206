"""Names and shapes of a reader's tensors that a T5 has no name for: those of `reader.safetensors`."""

from __future__ import annotations

from typing import Final

from encoders import weights
from encoders.reader.config import SEPARATE, ReaderConfig

LIVE_BIAS: Final = "live.relative_attention_bias.weight"
SCORE_NORM: Final = "score.norm.weight"
SCORE_WEIGHT: Final = "score.weight"
SCORE_BIAS: Final = "score.bias"
QUESTION: Final = "question."


def extra_shapes(config: ReaderConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of `reader.safetensors`."""
    d = config.t5.d_model
    shapes: dict[str, tuple[int, ...]] = {}
    if config.live_layers and config.memory_layers:
        shapes[LIVE_BIAS] = (config.t5.relative_buckets, config.t5.heads)
    if config.reranks:
        shapes |= {SCORE_NORM: (d,), SCORE_WEIGHT: (d,), SCORE_BIAS: ()}
    if config.question_encoder == SEPARATE:
        encoder = weights.tensor_shapes(config.t5, config.memory_layers)
        shapes |= {QUESTION + name: shape for name, shape in encoder.items()}
    return shapes
