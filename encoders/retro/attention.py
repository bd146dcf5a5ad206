"""Attention of RETRO: relative logits of cosine vectors as in Transformer-XL, or rotary positions as in
Llama.

    logit(i, j) = ((q_i + u) k_j + (q_i + v) W_r cos(d(i, j))) / sqrt(d_head)

with cos(d) the vector of sines and cosines of the distance d, W_r a linear map of each attention, and u, v
learned a head. Keys and values may be of another sequence, and of another width.

Source: Borgeaud et al. 2021, section B.1.2; Dai et al. 2019 (Transformer-XL), section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from encoders import t5
from encoders.retro.config import GATED, ROTARY, LanguageConfig
from encoders.t5 import Drop, TensorSource, keep, matmul, precision_of

LOWEST = float(np.finfo(np.float32).min)


@jax.tree_util.register_dataclass
@dataclass
class Seen:
    """Keys and values of a sequence, [batch, heads, tokens, d_head] each, in the compute dtype."""

    keys: Float[Array, "batch heads tokens d_head"]
    values: Float[Array, "batch heads tokens d_head"]


def mask_of(allowed: Bool[Array, "batch _ keys"]) -> Float[Array, "batch 1 _ keys"]:
    """0 where a query may see a key, the lowest float elsewhere: its exponential is exactly 0 beside any key
    that may be seen, and no NaN can come of it."""
    return jnp.where(allowed, 0.0, LOWEST)[:, None]


def cosine_vectors(distances: Int[np.ndarray, " count"], width: int) -> Float[np.ndarray, "count width"]:
    """[sin(d f); cos(d f)] with f = 10000^(-2i / width), i from 0 to width / 2 - 1."""
    frequencies = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angles = distances[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def falling_distances(queries: int, keys: int, offset: int) -> Int[np.ndarray, " count"]:
    """d(i, j) = i - j + offset of all pairs, once each, from the largest to the smallest: that of query i and
    key j stands at place queries - 1 - i + j."""
    return np.arange(queries - 1 + offset, offset - keys, -1)


def skew(
    by_distance: Float[Array, "batch heads queries count"], keys: int
) -> Float[Array, "batch heads queries keys"]:
    """Logits by distance, as `falling_distances` has them, to logits by key.

    Row i begins at place queries - 1 - i. Read as one line, the rows of a matrix that is one narrower begin
    just there, one after the other.
    """
    batch, heads, queries, count = by_distance.shape
    if queries == 1:
        return by_distance[..., :keys]
    line = by_distance.reshape(batch, heads, queries * count)[..., queries - 1 :]
    line = line[..., : queries * (count - 1)]
    return line.reshape(batch, heads, queries, count - 1)[..., :keys]


def rotated(
    x: Float[Array, "batch heads tokens d_head"], first: int | Int[Array, ""], theta: float
) -> Float[Array, "batch heads tokens d_head"]:
    """Rotary positions from `first` on, halves of a head turned against each other as transformers' Llama."""
    _, _, tokens, d = x.shape
    frequencies = jnp.asarray(1.0 / theta ** (np.arange(0, d, 2, dtype=np.float32) / d), jnp.float32)
    angles = (first + jnp.arange(tokens)).astype(jnp.float32)[:, None] * frequencies
    angles = jnp.concatenate([angles, angles], axis=-1)
    half = jnp.concatenate([-x[..., d // 2 :], x[..., : d // 2]], axis=-1)
    return x * jnp.cos(angles) + half * jnp.sin(angles)


def kernel(matrices: Sequence[np.ndarray | Array], dtype: jnp.dtype) -> nnx.Param:
    """[out, in] matrices, put side by side, as one [in, out] kernel; traced ones stay traced."""
    return nnx.Param(jnp.concatenate([jnp.asarray(matrix, dtype) for matrix in matrices]).T)


class Attention(nnx.Module):  # type: ignore[misc]
    """Attention over the own past or over another sequence; see the module's docstring.

    Args:
        config: of the widths; `d_model` is the queries'.
        tensor: gives tensors by name.
        prefix: of the names.
        relative: cosine vectors, else rotary positions.
        grouped: keys have `config.key_heads` heads, else as many as queries.
        dtype, stored: of the products, and of the kernels.
    """

    def __init__(
        self,
        config: LanguageConfig,
        tensor: TensorSource,
        prefix: str,
        *,
        relative: bool,
        grouped: bool = True,
        dtype: jnp.dtype,
        stored: jnp.dtype,
    ) -> None:
        self.heads, self.d_head, self.d_model = config.heads, config.d_head, config.d_model
        self.key_heads = (config.key_heads or config.heads) if grouped else config.heads
        self.theta, self.dtype = config.rotary_theta, dtype
        self.query = kernel([tensor(f"{prefix}.q_proj.weight")], stored)
        self.key_value = kernel([tensor(f"{prefix}.{name}_proj.weight") for name in "kv"], stored)
        self.out = kernel([tensor(f"{prefix}.o_proj.weight")], stored)
        self.position = kernel([tensor(f"{prefix}.r_proj.weight")], stored) if relative else None
        self.content_bias, self.position_bias = (
            nnx.Param(jnp.asarray(tensor(f"{prefix}.{name}_bias"), jnp.float32)) if relative else None
            for name in ("content", "position")
        )

    def see(self, x: Float[Array, "batch tokens d"], first: int | Int[Array, ""] = 0) -> Seen:
        """Keys and values of a sequence whose first token stands at `first`."""
        kv = matmul(x, self.key_value[...], self.dtype)
        kv = kv.reshape(*x.shape[:2], 2, self.key_heads, self.d_head).transpose(2, 0, 3, 1, 4)
        keys = kv[0] if self.position is not None else rotated(kv[0], first, self.theta)
        return Seen(keys.astype(self.dtype), kv[1].astype(self.dtype))

    def distances(
        self, queries: int, keys: int, offset: int = 0
    ) -> Float[Array, "heads count d_head"] | None:
        """W_r cos(d) of all distances of these queries and keys; None with rotary positions."""
        if self.position is None:
            return None
        vectors = jnp.asarray(cosine_vectors(falling_distances(queries, keys, offset), self.d_model))
        mapped = matmul(vectors, self.position[...], self.dtype).astype(self.dtype)
        return mapped.reshape(-1, self.heads, self.d_head).transpose(1, 0, 2)

    def __call__(
        self,
        x: Float[Array, "batch queries d"],
        seen: Seen,
        mask: Float[Array, "batch 1 #queries keys"],
        distances: Float[Array, "heads count d_head"] | None,
        drop: Drop = keep,
        *,
        first: int | Int[Array, ""] = 0,
        row: Int[Array, ""] | None = None,
        rows: int = 0,
        repeats: int = 1,
    ) -> Float[Array, "batch queries d"]:
        """What the queries read.

        Args:
            x: the queries' sequence.
            seen: of the sequence read.
            mask: of `mask_of`.
            distances: of `self.distances`.
            drop: of the shares.
            first: where the first query stands, for rotary positions.
            row, rows: for a single query, which of the `rows` queries of `distances` it is.
            repeats: how often the keys are the same sequence of places again: k neighbours, one after the
                other, all at the same distances.
        """
        batch, queries, _ = x.shape
        scale = 1 / math.sqrt(self.d_head)
        q = matmul(x, self.query[...], self.dtype)
        q = q.reshape(batch, queries, self.heads, self.d_head).transpose(0, 2, 1, 3)
        bias = mask
        if distances is None:
            content = rotated(q, first, self.theta)
        else:
            assert self.content_bias is not None
            assert self.position_bias is not None
            content = q + self.content_bias[...][:, None]
            placed = ((q + self.position_bias[...][:, None]) * scale).astype(self.dtype)
            keys = seen.keys.shape[2] // repeats
            if row is not None:
                distances = lax.dynamic_slice_in_dim(distances, rows - 1 - row, keys, axis=1)
            by_distance = jnp.einsum(
                "bhqd,hcd->bhqc",
                placed,
                distances,
                precision=precision_of(self.dtype),
                preferred_element_type=jnp.float32,
            )
            bias = jnp.tile(skew(by_distance, keys), (1, 1, 1, repeats)) + mask
        groups = self.heads // self.key_heads
        keys_of, values_of = (jnp.repeat(a, groups, axis=1) for a in (seen.keys, seen.values))
        content = (content * scale).astype(self.dtype)
        mixed = t5.attend(content, keys_of, values_of, bias, drop, dtype=self.dtype)
        return matmul(mixed, self.out[...], self.dtype)


class FeedForward(nnx.Module):  # type: ignore[misc]
    """down(gelu(up x)), or down(silu(gate x) * up x)."""

    def __init__(
        self,
        config: LanguageConfig,
        tensor: TensorSource,
        prefix: str,
        *,
        dtype: jnp.dtype,
        stored: jnp.dtype,
    ) -> None:
        self.gated, self.dtype = config.feed_forward == GATED, dtype
        ups = ("gate", "up") if self.gated else ("up",)
        self.up = kernel([tensor(f"{prefix}.{name}_proj.weight") for name in ups], stored)
        self.down = kernel([tensor(f"{prefix}.down_proj.weight")], stored)

    def __call__(self, x: Float[Array, "*rows d"], drop: Drop = keep) -> Float[Array, "*rows d"]:
        inner = matmul(x, self.up[...], self.dtype)
        if self.gated:
            gate, up = jnp.split(inner, 2, axis=-1)
            inner = jax.nn.silu(gate) * up
        else:
            inner = jax.nn.gelu(inner, approximate=True)
        return matmul(drop(inner), self.down[...], self.dtype)


class Block(nnx.Module):  # type: ignore[misc]
    """Self-attention and feed-forward, each after a norm and added to its input; what stands between them is
    for others to add."""

    def __init__(
        self,
        config: LanguageConfig,
        tensor: TensorSource,
        prefix: str,
        *,
        dtype: jnp.dtype,
        stored: jnp.dtype,
    ) -> None:
        kind: dict[str, jnp.dtype] = {"dtype": dtype, "stored": stored}
        epsilon = config.norm_epsilon
        self.attention_norm = t5.RMSNorm(tensor(f"{prefix}.input_layernorm.weight"), epsilon=epsilon)
        self.attention = Attention(
            config,
            tensor,
            f"{prefix}.self_attn",
            relative=config.positions != ROTARY,
            dtype=dtype,
            stored=stored,
        )
        self.feed_norm = t5.RMSNorm(tensor(f"{prefix}.post_attention_layernorm.weight"), epsilon=epsilon)
        self.feed_forward = FeedForward(config, tensor, f"{prefix}.mlp", **kind)

    def attend(
        self,
        h: Float[Array, "batch tokens d"],
        mask: Float[Array, "batch 1 #tokens tokens"],
        drop: Drop = keep,
    ) -> Float[Array, "batch tokens d"]:
        """The first half: self-attention."""
        tokens = h.shape[1]
        x = self.attention_norm(h)
        table = self.attention.distances(tokens, tokens)
        return h + drop(self.attention(x, self.attention.see(x), mask, table, drop))

    def feed(self, h: Float[Array, "batch tokens d"], drop: Drop = keep) -> Float[Array, "batch tokens d"]:
        """The second half: feed-forward."""
        return h + drop(self.feed_forward(self.feed_norm(h), drop))
