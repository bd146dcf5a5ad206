"""What every contender encodes: the same passages, with the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from encoders.memory_spec import MAX_TOKENS as MAX_TOKENS
from encoders.t5_config import PUBLISHED_SIZES, T5Config
from pipeline.accounts import flops

Ids = npt.NDArray[np.int32]


def passage_lengths(count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Tokens of passages of up to 200 words: 245 on average, three of four nearly full, at most 304."""
    rng = np.random.default_rng(seed)
    many = 1 << 14
    full = np.clip(rng.normal(275, 20, many), 8, MAX_TOKENS)
    drawn = np.where(rng.random(many) < 0.75, full, rng.uniform(40, 275, many))
    # Evenly spaced quantiles, so that a few passages have the same distribution as many.
    lengths = np.quantile(drawn, (np.arange(count) + 0.5) / count).astype(np.int64)
    return rng.permutation(lengths)


def model_flops(config: T5Config, layers: int, lengths: npt.NDArray[np.int64]) -> float:
    """Of passages of these lengths, attention's scores included: 4 n^2 heads d_kv a layer and passage."""
    matrices = float(lengths.sum()) * flops.encoder_flops(config, layers)
    return matrices + 4.0 * float((lengths**2).sum()) * config.inner * layers


@dataclass(frozen=True, kw_only=True)
class Work:
    """Passages, and the encoder to run them through: the first `layers` of a size, and the final norm.

    Attributes:
        config: of an encoder that has these layers and no more.
        model: transformers' T5EncoderModel in float32, with random weights.
        passages: token ids of each.
    """

    config: T5Config
    model: Any
    passages: list[Ids]

    @classmethod
    def make(cls, size: str, layers: int, count: int) -> Work:
        return cls.of(PUBLISHED_SIZES[size], layers, count)

    @classmethod
    def of(cls, published: T5Config, layers: int, count: int) -> Work:
        from transformers import T5Config as HfConfig

        from tests.small_models import random_t5

        raw = HfConfig(
            vocab_size=published.vocab_size,
            d_model=published.d_model,
            d_kv=published.d_kv,
            d_ff=published.d_ff,
            num_layers=layers,
            num_heads=published.heads,
            feed_forward_proj=published.feed_forward,
        )
        rng = np.random.default_rng(1)
        passages = [rng.integers(3, published.vocab_size, n).astype(np.int32) for n in passage_lengths(count)]
        model = random_t5(raw)
        return cls(config=T5Config.from_hugging_face(raw.to_dict()), model=model, passages=passages)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.array([len(ids) for ids in self.passages])

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def model_flops(self) -> float:
        """Of the real tokens alone."""
        return model_flops(self.config, self.config.layers, self.lengths)

    def padded(self, indices: Sequence[int] | npt.NDArray[np.int64], length: int) -> tuple[Ids, Ids]:
        """ids [rows, length] and mask [rows, length] of some passages."""
        ids = np.zeros((len(indices), length), np.int32)
        mask = np.zeros_like(ids)
        for row, index in enumerate(indices):
            ids[row, : len(self.passages[index])] = self.passages[index]
            mask[row, : len(self.passages[index])] = 1
        return ids, mask

    def reference(self) -> list[npt.NDArray[np.float32]]:
        """Each passage alone through transformers in float32, [tokens, d]."""
        model = self.model.float()
        with torch.inference_mode():
            return [
                model(input_ids=torch.tensor(ids)[None].long()).last_hidden_state[0].numpy()
                for ids in self.passages
            ]
