"""A decoder-only language model: blocks of self-attention and feed-forward, and a head."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from encoders import t5, t5_config
from encoders.retro import names
from encoders.retro.attention import Attention, Block, Seen, kernel, mask_of
from encoders.retro.config import LanguageConfig
from encoders.retro.rows import Numbers, Rows
from encoders.t5 import Drop, TensorSource, keep, matmul


@jax.tree_util.register_dataclass
@dataclass
class Past:
    """What one layer has seen, with room for what is to come, and its table of distances."""

    seen: Seen
    distances: Float[Array, "heads count d_head"] | None


class LanguageModel(nnx.Module):  # type: ignore[misc]
    """The language model alone; a RETRO without retrieval is this, to the bit.

    Args:
        config: its shape.
        tensor: gives each tensor of `names.language_shapes` by name.
        compute_dtype: of the products, "float32" or "bfloat16"; accumulated in float32, as all else is.
        stored_dtype: what kernels are kept in.
    """

    def __init__(
        self,
        config: LanguageConfig,
        tensor: TensorSource,
        *,
        compute_dtype: str = "float32",
        stored_dtype: str | None = None,
    ) -> None:
        t5_config.require_compute_dtype(compute_dtype)
        dtype, stored = jnp.dtype(compute_dtype), jnp.dtype(stored_dtype or compute_dtype)
        self.config, self.dtype = config, dtype
        self.embedding = nnx.Param(jnp.asarray(tensor(names.EMBEDDING), jnp.float32))
        self.blocks = nnx.List(
            [
                Block(config, tensor, names.layer(number), dtype=dtype, stored=stored)
                for number in range(config.layers)
            ]
        )
        self.final_norm = t5.RMSNorm(tensor(names.FINAL_NORM), epsilon=config.norm_epsilon)
        self.head = None if config.tied else kernel([tensor(names.HEAD)], stored)

    def __call__(self, rows: Rows, drop: Drop = keep) -> Float[Array, "batch tokens vocab"]:
        """Logits of the token that follows each."""
        h = drop(self.embed(rows.tokens))
        mask = causal_mask(rows)
        for block in self.blocks:
            h = block.feed(block.attend(h, mask, drop), drop)
        return self.logits(h, drop)

    def embed(self, tokens: Int[Numbers, "*rows"]) -> Float[Array, "*rows d"]:
        """Embeddings, float32; nothing is added and nothing scaled."""
        found: Float[Array, "*rows d"] = self.embedding[...][tokens]
        return found

    def logits(self, h: Float[Array, "*rows d"], drop: Drop = keep) -> Float[Array, "*rows vocab"]:
        """The head's product with the final norm of the residual stream, float32."""
        x = drop(self.final_norm(h))
        if self.head is None:
            return matmul(x, self.embedding[...].T, self.dtype)
        return matmul(x, self.head[...], self.dtype)

    def start(self, batch: int, room: int) -> list[Past]:
        """What each layer has seen before the first step: nothing, with room for `room` tokens."""
        return [_empty(block.attention, batch, room, self.dtype) for block in self.blocks]

    def attend_step(
        self, number: int, h: Float[Array, "batch 1 d"], at: Int[Array, ""], past: Past
    ) -> tuple[Float[Array, "batch 1 d"], Past]:
        """The first half of a layer for one more token.

        Args:
            number: of the layer, from 0.
            h: the token's residual stream.
            at: how many tokens came before.
            past: what the layer has seen of them.
        """
        block = self.blocks[number]
        room = past.seen.keys.shape[2]
        x = block.attention_norm(h)
        new = block.attention.see(x, at)
        seen = Seen(
            lax.dynamic_update_slice_in_dim(past.seen.keys, new.keys, at, axis=2),
            lax.dynamic_update_slice_in_dim(past.seen.values, new.values, at, axis=2),
        )
        # Over all the room, what is not yet filled being masked: one program runs every step.
        mask = mask_of((jnp.arange(room) <= at)[None, None])
        read = block.attention(x, seen, mask, past.distances, first=at, row=at, rows=room)
        return h + read, Past(seen, past.distances)


def causal_mask(rows: Rows) -> Float[Array, "batch 1 tokens tokens"]:
    """Each token sees those of its own document up to itself, and no padding."""
    real, documents = token_documents(rows)
    tokens = rows.tokens.shape[1]
    before = jnp.tril(jnp.ones((tokens, tokens), bool))
    same = documents[:, :, None] == documents[:, None, :]
    return mask_of(before & same & real[:, None, :])


def token_documents(rows: Rows) -> tuple[Bool[Array, "batch tokens"], Int[Array, "batch tokens"]]:
    """Of each token, whether it is real, and its document."""
    batch, chunks = rows.lengths.shape
    m = rows.tokens.shape[1] // chunks
    real = (jnp.arange(m) < jnp.asarray(rows.lengths)[:, :, None]).reshape(batch, chunks * m)
    return real, jnp.repeat(jnp.asarray(rows.documents), m, axis=1)


def _empty(attention: Attention, batch: int, room: int, dtype: jnp.dtype) -> Past:
    shape = (batch, attention.key_heads, room, attention.d_head)
    return Past(nothing_seen(shape, dtype), attention.distances(room, room))


def nothing_seen(shape: tuple[int, ...], dtype: jnp.dtype) -> Seen:
    """Keys and values of nothing yet; two arrays, so that a step can be given both to write in."""
    return Seen(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
