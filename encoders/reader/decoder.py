"""The decoder of T5.1.1, reading any number of encoded passages at once (fusion in the decoder).

For the decoder's residual stream h [tokens, d_model], layer l computes

    h <- h + SelfAttention(norm(h));   h <- h + CrossAttention(norm(h), E);   h <- h + FeedForward(norm(h))

with E the encoder's states of all passages one after the other. Self-attention is causal, with one
relative-position table for all layers; cross-attention has no positions, so the order of the passages
makes no difference. Logits are the head's product with the final norm of h; the head is not tied to the
embedding (T5.1.1). Source: Izacard & Grave 2021, section 3; Raffel et al. 2020; PAPERS: The reader family.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from encoders import t5, weights
from encoders.t5 import Drop, FeedForward, RMSNorm, TensorSource, keep, kernel, matmul
from encoders.t5_config import T5Config

_LOWEST = float(np.finfo(np.float32).min)


@jax.tree_util.register_dataclass
@dataclass
class Seen:
    """What attention has seen: keys and values, [batch, heads, tokens, d_kv] each, in the compute dtype."""

    keys: Float[Array, "batch heads tokens d_kv"]
    values: Float[Array, "batch heads tokens d_kv"]


@jax.tree_util.register_dataclass
@dataclass
class Cache:
    """A decoder's state between steps: per layer the tokens so far, and the passages."""

    past: list[Seen]
    passages: list[Seen]


class Attention(nnx.Module):  # type: ignore[misc]
    """Attention of one sequence over another, or over its own past."""

    def __init__(
        self, config: T5Config, tensor: TensorSource, prefix: str, *, dtype: jnp.dtype, stored: jnp.dtype
    ) -> None:
        self.heads, self.d_kv, self.dtype = config.heads, config.d_kv, dtype
        self.query = kernel([tensor(f"{prefix}.q.weight")], stored)
        self.key_value = kernel([tensor(f"{prefix}.{name}.weight") for name in "kv"], stored)
        self.out = kernel([tensor(f"{prefix}.o.weight")], stored)

    def see(self, x: Float[Array, "batch tokens d"]) -> Seen:
        """Keys and values of a sequence."""
        kv = matmul(x, self.key_value[...], self.dtype).astype(self.dtype)
        kv = kv.reshape(*x.shape[:2], 2, self.heads, self.d_kv).transpose(2, 0, 3, 1, 4)
        return Seen(kv[0], kv[1])

    def __call__(
        self,
        x: Float[Array, "batch queries d"],
        seen: Seen,
        bias: Float[Array, "#batch #heads #queries keys"],
        drop: Drop = keep,
    ) -> Float[Array, "batch queries d"]:
        batch, queries, _ = x.shape
        q = matmul(x, self.query[...], self.dtype).astype(self.dtype)
        q = q.reshape(batch, queries, self.heads, self.d_kv).transpose(0, 2, 1, 3)
        mixed = t5.attend(q, seen.keys, seen.values, bias, drop, dtype=self.dtype)
        return matmul(mixed, self.out[...], self.dtype)


class DecoderBlock(nnx.Module):  # type: ignore[misc]
    """One layer: attention to the past, to the passages, then feed-forward, each after a norm."""

    def __init__(
        self, config: T5Config, tensor: TensorSource, layer: int, *, dtype: jnp.dtype, stored: jnp.dtype
    ) -> None:
        name, epsilon = f"decoder.block.{layer}.layer", config.norm_epsilon
        kind = {"dtype": dtype, "stored": stored}
        self.past_norm = RMSNorm(tensor(f"{name}.0.layer_norm.weight"), epsilon=epsilon)
        self.past = Attention(config, tensor, f"{name}.0.SelfAttention", **kind)
        self.passages_norm = RMSNorm(tensor(f"{name}.1.layer_norm.weight"), epsilon=epsilon)
        self.passages = Attention(config, tensor, f"{name}.1.EncDecAttention", **kind)
        self.feed_forward_norm = RMSNorm(tensor(f"{name}.2.layer_norm.weight"), epsilon=epsilon)
        self.feed_forward = FeedForward(config, tensor, f"{name}.2.DenseReluDense", **kind)

    def read(
        self,
        h: Float[Array, "batch tokens d"],
        passages: Seen,
        mask: Float[Array, "batch 1 1 keys"],
        drop: Drop = keep,
    ) -> Float[Array, "batch tokens d"]:
        """The second half of the layer: cross-attention and feed-forward."""
        h = h + drop(self.passages(self.passages_norm(h), passages, mask, drop))
        return h + drop(self.feed_forward(self.feed_forward_norm(h), drop))


class T5Decoder(nnx.Module):  # type: ignore[misc]
    """The decoder; see the module's docstring.

    Args:
        config: shape of the encoder, whose widths the decoder shares.
        tensor: gives each tensor of `weights.decoder_shapes` by name, once.
        layers: blocks of the decoder.
        embedding: that of the question encoder, which the decoder shares.
        compute_dtype, stored_dtype: as for `t5.T5Encoder`.
    """

    def __init__(
        self,
        config: T5Config,
        tensor: TensorSource,
        *,
        layers: int,
        embedding: nnx.Param,
        compute_dtype: str,
        stored_dtype: str | None = None,
    ) -> None:
        dtype, stored = jnp.dtype(compute_dtype), jnp.dtype(stored_dtype or compute_dtype)
        self.config, self.dtype = config, dtype
        self.embedding = embedding
        self.relative_bias = nnx.Param(jnp.asarray(tensor(weights.DECODER_RELATIVE_BIAS), jnp.float32))
        self.blocks = nnx.List(
            [DecoderBlock(config, tensor, layer, dtype=dtype, stored=stored) for layer in range(layers)]
        )
        self.final_norm = RMSNorm(tensor(weights.DECODER_FINAL_NORM), epsilon=config.norm_epsilon)
        self.head = kernel([tensor(weights.HEAD)], stored)

    def __call__(
        self,
        inputs: Int[Array, "batch tokens"],
        encoded: Float[Array, "batch keys d"],
        real: Bool[Array, "batch keys"],
        drop: Drop = keep,
    ) -> Float[Array, "batch tokens vocab"]:
        """Logits of every next token, the inputs being given (teacher forcing).

        Args:
            inputs: the start token, then the answer's tokens but the last.
            encoded: states of all passages, one after the other.
            real: False where a state is padding.
        """
        # No positions are added and nothing is scaled: T5 has its positions in the biases alone.
        h = drop(self.embedding[...][inputs])
        tokens = inputs.shape[1]
        causal = jnp.tril(jnp.ones((tokens, tokens), bool))
        # Keys after the query share bucket 0, and must not be seen: their bias is replaced.
        bias = jnp.where(causal, self._relative(tokens), _LOWEST)[None]
        mask = _mask(real)
        for block in self.blocks:
            normed = block.past_norm(h)
            h = h + drop(block.past(normed, block.past.see(normed), bias, drop))
            h = block.read(h, block.passages.see(encoded), mask, drop)
        return self._logits(h, drop)

    def start(self, encoded: Float[Array, "batch keys d"], *, tokens: int) -> Cache:
        """The cache before the first step, with room for `tokens` steps."""
        batch = encoded.shape[0]
        empty = jnp.zeros((batch, self.config.heads, tokens, self.config.d_kv), self.dtype)
        return Cache(
            past=[Seen(empty, empty) for _ in self.blocks],
            # Once an answer, not once a token: keys and values of all states, which may be thousands.
            passages=[block.passages.see(encoded) for block in self.blocks],
        )

    def step(
        self,
        inputs: Int[Array, " batch"],
        at: Int[Array, ""],
        cache: Cache,
        real: Bool[Array, "batch keys"],
    ) -> tuple[Float[Array, "batch vocab"], Cache]:
        """Logits after one more token, and the cache that has seen it.

        Args:
            inputs: the token at position `at`, the start token at 0.
            at: how many steps came before.
            cache: of `start`, or of the last step.
            real: as in a call.
        """
        h = self.embedding[...][inputs][:, None]
        # Attention goes over all the room, what is not yet filled being masked: every step has the same
        # shapes, so one program runs them all.
        room = cache.past[0].keys.shape[2]
        row = lax.dynamic_index_in_dim(self._relative(room), at, axis=1)  # [heads, 1, room]
        bias = jnp.where(jnp.arange(room) <= at, row, _LOWEST)[None]
        mask = _mask(real)
        past = []
        for block, before, passages in zip(self.blocks, cache.past, cache.passages, strict=True):
            normed = block.past_norm(h)
            new = block.past.see(normed)
            seen = Seen(
                lax.dynamic_update_slice_in_dim(before.keys, new.keys, at, axis=2),
                lax.dynamic_update_slice_in_dim(before.values, new.values, at, axis=2),
            )
            past.append(seen)
            h = h + block.past(normed, seen, bias)
            h = block.read(h, passages, mask)
        return self._logits(h, keep)[:, 0], Cache(past, cache.passages)

    def _relative(self, tokens: int) -> Float[Array, "heads tokens tokens"]:
        rows = t5.relative_position_buckets(
            tokens,
            buckets=self.config.relative_buckets,
            max_distance=self.config.relative_max_distance,
            causal=True,
        )
        table: Float[Array, "buckets heads"] = self.relative_bias[...]
        return table.T[:, rows]

    def _logits(self, h: Float[Array, "batch tokens d"], drop: Drop) -> Float[Array, "batch tokens vocab"]:
        # Not scaled by 1/sqrt(d) first: that is for T5 1.0, whose head is the embedding.
        return matmul(drop(self.final_norm(h)), self.head[...], self.dtype)


def _mask(real: Bool[Array, "batch keys"]) -> Float[Array, "batch 1 1 keys"]:
    """0 for what may be read, the lowest float for padding."""
    return jnp.where(real, 0.0, _LOWEST)[:, None, None, :]
