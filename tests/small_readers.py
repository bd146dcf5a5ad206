"""Small readers in float32, and small batches for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from encoders.reader import folder, losses
from encoders.reader.config import ReaderConfig, preset
from encoders.reader.examples import Examples
from encoders.reader.folder import ReaderSettings
from encoders.reader.model import Pairs, Reader


def make(t5_folder: Path, system: str, **options: Any) -> Reader:
    """An untrained reader."""
    shape, layers = folder.read_t5(t5_folder)
    config = preset(system, shape, decoder_layers=layers, **options)
    opened = folder.from_t5(t5_folder, settings_of(config))
    return Reader(config, opened.tensor, compute_dtype="float32", memory_dtype="float32")


def settings_of(config: ReaderConfig) -> ReaderSettings:
    return ReaderSettings(
        config=config, compute_dtype="float32", retrieved=5, selected=2 if config.reranks else None
    )


def with_score(reader: Reader, seed: int = 0) -> Reader:
    """A score that tells pairs apart clearly, other than the one that a reader begins with."""
    assert reader.score is not None
    d = reader.config.t5.d_model
    reader.score.weight[...] = jnp.asarray(np.random.default_rng(seed).normal(size=d), jnp.float32)
    return reader


class Batch:
    """Questions with k passages each, ragged, one passage absent."""

    def __init__(self, *, batch: int = 3, passages: int = 5, seed: int = 0, vocab: int = 120) -> None:
        rng = np.random.default_rng(seed)
        self.questions = rng.integers(3, vocab, (batch, 7)).astype(np.int32)
        self.question_lengths = rng.integers(2, 8, batch).astype(np.int32)
        self.ids = rng.integers(3, vocab, (batch, passages, 11)).astype(np.int32)
        self.lengths = rng.integers(1, 12, (batch, passages)).astype(np.int32)
        self.lengths[0, -1] = 0
        self.targets = rng.integers(3, vocab, (batch, 5)).astype(np.int32)
        self.target_lengths = rng.integers(2, 6, batch).astype(np.int32)

    def examples(self) -> Examples:
        return Examples(
            questions=self.questions,
            question_lengths=self.question_lengths,
            passages=self.ids,
            lengths=self.lengths,
            targets=self.targets,
            target_lengths=self.target_lengths,
        )

    def pairs(self, reader: Reader) -> Pairs:
        memory = reader.remember(self.ids, self.lengths)
        return reader.pair(self.questions, self.question_lengths, memory, self.lengths)

    def logits(self, reader: Reader, selected: int | None = None) -> np.ndarray:
        read, _, _ = reader.read(self.pairs(reader), selected=selected)
        return np.asarray(reader.decoder(losses.inputs_of(self.targets), *read.fused()))
