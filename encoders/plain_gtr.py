"""GTR in NumPy: for a question or two, when loading jax would take longer than all the rest.

The same model as `encoders.gtr`, a text at a time, so without padding; in float32, within rounding of it
(1e-5 of a vector of length 1). Source: Ni et al. 2022, section 3; Raffel et al. 2020.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from encoders import gtr, weights
from encoders.model_folder import ModelFolderError
from encoders.relative_positions import relative_position_buckets
from encoders.retriever_folder import RetrieverFolder
from encoders.t5_config import T5Config
from encoders.tokenizing import Read, Tokenizer

Floats = npt.NDArray[np.float32]


class Encoder:
    """A whole T5 encoder, its matrices as they are stored: [out, in].

    Args:
        config: its shape.
        tensors: by the names of `weights.tensor_shapes`.
    """

    def __init__(self, config: T5Config, tensors: dict[str, Floats]) -> None:
        self.config, self._tensors = config, tensors

    def __call__(self, ids: npt.NDArray[np.integer]) -> Floats:
        """The output of the last layer and its norm, [tokens, d_model], of one text's ids [tokens]."""
        config, tensors = self.config, self._tensors
        rows = relative_position_buckets(
            len(ids), buckets=config.relative_buckets, max_distance=config.relative_max_distance
        )
        bias = tensors[weights.RELATIVE_BIAS][rows].transpose(2, 0, 1)  # [heads, queries, keys]
        h = tensors[weights.EMBEDDING][ids]
        for layer in range(config.layers):
            name = f"block.{layer}.layer"
            h = h + self._attention(f"{name}.0", self._norm(f"{name}.0.layer_norm.weight", h), bias)
            h = h + self._feed_forward(
                f"{name}.1.DenseReluDense", self._norm(f"{name}.1.layer_norm.weight", h)
            )
        return self._norm(weights.FINAL_NORM, h)

    def _norm(self, name: str, x: Floats) -> Floats:
        mean_square = np.mean(np.square(x), axis=-1, keepdims=True)
        found: Floats = x / np.sqrt(mean_square + np.float32(self.config.norm_epsilon)) * self._tensors[name]
        return found

    def _times(self, name: str, x: Floats) -> Floats:
        found: Floats = x @ self._tensors[f"{name}.weight"].T
        return found

    def _attention(self, name: str, x: Floats, bias: Floats) -> Floats:
        heads, d_kv = self.config.heads, self.config.d_kv
        q, k, v = (
            self._times(f"{name}.SelfAttention.{matrix}", x).reshape(len(x), heads, d_kv).transpose(1, 0, 2)
            for matrix in "qkv"
        )
        scores = q @ k.transpose(0, 2, 1) + bias
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = shares / shares.sum(axis=-1, keepdims=True) @ v
        return self._times(f"{name}.SelfAttention.o", mixed.transpose(1, 0, 2).reshape(len(x), -1))

    def _feed_forward(self, name: str, x: Floats) -> Floats:
        if self.config.feed_forward == "gated-gelu":
            gate = self._times(f"{name}.wi_0", x)
            cubic = gate + np.float32(0.044715) * gate**3
            gelu = np.float32(0.5) * gate * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * cubic))
            inner = gelu * self._times(f"{name}.wi_1", x)
        else:
            inner = np.maximum(self._times(f"{name}.wi", x), 0)
        return self._times(f"{name}.wo", inner)


class Tower:
    """A retriever that `gtr.unfit` finds nothing against; see `gtr.Tower`.

    Raises:
        ModelFolderError: tensors do not fit the settings.
    """

    def __init__(self, folder: RetrieverFolder) -> None:
        if (reason := gtr.unfit(folder)) is not None:
            raise ModelFolderError(f"{folder.path} cannot be run in NumPy: {reason}")
        first = folder.place(folder.modules[0])
        config = weights.read_config(first)
        self._tokenizer = Tokenizer(first, max_tokens=folder.max_tokens)
        tensors = weights.find(first, config, config.layers)
        if self._tokenizer.size > config.vocab_size:
            raise ModelFolderError(
                f"{first} has a tokenizer of {self._tokenizer.size:,} tokens for an embedding of "
                f"{config.vocab_size:,} rows; do they belong together?"
            )
        self._encode = Encoder(
            config, {name: tensor.read().astype(np.float32) for name, tensor in tensors.items()}
        )
        self._steps = [gtr.step(folder.place(module), module) for module in folder.modules[2:]]
        given = next((len(step["weight"]) for step in reversed(self._steps) if step), config.d_model)
        self.dim = min(given, folder.truncate_dim or given)
        self._prompts = folder.prompts

    def batches(
        self, texts: Sequence[str], role: str, *, count: bool
    ) -> Iterator[tuple[npt.NDArray[np.int64], Floats, Read | None]]:
        """As `gtr.Tower.batches`, a text a batch."""
        tokens = self._tokenizer([self._prompts[role] + text for text in texts])
        for place, ids in enumerate(tokens.split()):
            vector = self._encode(ids).mean(axis=0)
            for step in self._steps:
                if step:
                    vector = step["weight"] @ vector + step.get("bias", np.float32(0))
                else:
                    vector = vector / np.maximum(np.linalg.norm(vector), np.float32(gtr.LEAST_NORM))
            places = np.array([place])
            yield (
                places,
                vector[None, : self.dim].astype(np.float32),
                tokens.read_of(places) if count else None,
            )
