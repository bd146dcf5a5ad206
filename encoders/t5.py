"""The lower layers of a T5.1.1 encoder, in Flax, for training; `encoders.inference` computes the same faster.

For residual stream h [tokens, d_model] of one text, layer l computes

    h <- h + Attention(norm(h));   h <- h + FeedForward(norm(h))
    norm(x) = scale * x / sqrt(mean(x^2) + epsilon)
    Attention: per head, softmax(q k^T + bias[bucket(j - i)]) v, without 1/sqrt(d_kv) (it is folded
        into the initialisation) and without biases; one relative-position table for all layers
    FeedForward: wo(gelu(wi_0 x) * (wi_1 x)) with the tanh form of GELU, or wo(relu(wi x))

What is stored as memory is h after layer n, before any norm; only if all layers are run does the
final norm belong to them. Source: PAPERS: The reader family; Raffel et al. 2020; Shazeer 2020.

Precision. Kernels and the activations that meet them are in the compute dtype; every product is
accumulated and returned in float32; the residual stream, norms, softmax, gate and relative bias
are float32. With compute dtype float32, products are computed in full float32 on every backend
(without TF32 or bf16 passes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from encoders import weights
from encoders.relative_positions import bucket_of as bucket_of
from encoders.relative_positions import relative_position_buckets as relative_position_buckets
from encoders.t5_config import T5Config, require_compute_dtype

# A tensor by its canonical name, as in `weights.tensor_shapes`: matrices are [out, in].
TensorSource = Callable[[str], np.ndarray]

# What training does to activations at the places where T5 drops some; see `encoders.reader.dropout`.
Drop = Callable[[Array], Array]


def keep(x: Array) -> Array:
    """Drops nothing."""
    return x


def masked_bias(
    table: Float[Array, "buckets heads"],
    rows: Int[np.ndarray, "queries keys"],
    real: Bool[Array, "*batch keys"],
) -> Float[Array, "*batch heads queries keys"]:
    """The relative bias of all layers, and the lowest float where a key is padding.

    The lowest float, not -inf: its exponential is exactly 0 beside any real key, and no NaN can come of
    it.
    """
    bias = table.T[:, rows]
    return jnp.where(real[..., None, None, :], bias, float(np.finfo(np.float32).min))


def matmul(
    x: Float[Array, "*rows in"], kernel: Float[Array, "in out"], dtype: jnp.dtype
) -> Float[Array, "*rows out"]:
    """x @ kernel with inputs in `dtype`, accumulated in float32."""
    return jnp.matmul(
        x.astype(dtype),
        kernel.astype(dtype),
        precision=precision_of(dtype),
        preferred_element_type=jnp.float32,
    )


def precision_of(dtype: jnp.dtype) -> lax.Precision | None:
    # HIGHEST on bfloat16 inputs would send XLA:CPU to the float32 kernels, at half the speed.
    return lax.Precision.HIGHEST if dtype == jnp.float32 else None


class RMSNorm(nnx.Module):  # type: ignore[misc]
    """scale * x / sqrt(mean(x^2) + epsilon), in float32."""

    def __init__(self, scale: Float[np.ndarray, " d"], *, epsilon: float) -> None:
        self.scale = nnx.Param(jnp.asarray(scale, jnp.float32))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*rows d"]) -> Float[Array, "*rows d"]:
        mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        scale: Float[Array, " d"] = self.scale[...]
        return x * lax.rsqrt(mean_square + self.epsilon) * scale


def attend(
    q: Float[Array, "batch heads queries d_kv"],
    k: Float[Array, "batch heads keys d_kv"],
    v: Float[Array, "batch heads keys d_kv"],
    bias: Float[Array, "#batch #heads #queries keys"],
    drop: Drop,
    *,
    dtype: jnp.dtype,
) -> Float[Array, "batch queries inner"]:
    """softmax(q k^T + bias) v of every head, the heads side by side; products take `dtype`."""
    precision = precision_of(dtype)
    # Batched dots over (batch, heads): an einsum in the [batch, tokens, heads, d_kv] layout
    # is several times slower on XLA:CPU.
    scores = lax.dot_general(
        q, k, (((3,), (3,)), ((0, 1), (0, 1))), precision=precision, preferred_element_type=jnp.float32
    )
    shares = drop(jax.nn.softmax(scores + bias, axis=-1)).astype(dtype)
    mixed = lax.dot_general(
        shares, v, (((3,), (2,)), ((0, 1), (0, 1))), precision=precision, preferred_element_type=jnp.float32
    )
    return mixed.astype(dtype).transpose(0, 2, 1, 3).reshape(q.shape[0], q.shape[2], -1)


class SelfAttention(nnx.Module):  # type: ignore[misc]
    """Attention over the texts' real tokens, with the relative bias given."""

    def __init__(
        self, config: T5Config, tensor: TensorSource, prefix: str, *, dtype: jnp.dtype, stored: jnp.dtype
    ) -> None:
        self.heads, self.d_kv, self.dtype = config.heads, config.d_kv, dtype
        # One product for q, k and v: [d, 3 * heads * d_kv].
        self.qkv = kernel([tensor(f"{prefix}.{name}.weight") for name in "qkv"], stored)
        self.out = kernel([tensor(f"{prefix}.o.weight")], stored)

    def __call__(
        self,
        x: Float[Array, "batch tokens d"],
        bias: Float[Array, "batch heads tokens tokens"],
        drop: Drop = keep,
    ) -> Float[Array, "batch tokens d"]:
        batch, tokens, _ = x.shape
        qkv = matmul(x, self.qkv[...], self.dtype).astype(self.dtype)
        qkv = qkv.reshape(batch, tokens, 3, self.heads, self.d_kv).transpose(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]  # [batch, heads, tokens, d_kv]
        mixed = attend(q, k, v, bias, drop, dtype=self.dtype)
        return matmul(mixed, self.out[...], self.dtype)


class FeedForward(nnx.Module):  # type: ignore[misc]
    """wo(gelu(wi_0 x) * (wi_1 x)), or wo(relu(wi x))."""

    def __init__(
        self, config: T5Config, tensor: TensorSource, prefix: str, *, dtype: jnp.dtype, stored: jnp.dtype
    ) -> None:
        self.gated, self.dtype = config.feed_forward == "gated-gelu", dtype
        names = ("wi_0", "wi_1") if self.gated else ("wi",)
        self.wi = kernel([tensor(f"{prefix}.{name}.weight") for name in names], stored)
        self.wo = kernel([tensor(f"{prefix}.wo.weight")], stored)

    def __call__(self, x: Float[Array, "*rows d"], drop: Drop = keep) -> Float[Array, "*rows d"]:
        inner = matmul(x, self.wi[...], self.dtype)
        if self.gated:
            gate, linear = jnp.split(inner, 2, axis=-1)
            # Hugging Face's "gelu_new", which its T5 takes where a configuration says "gated-gelu".
            inner = jax.nn.gelu(gate, approximate=True) * linear
        else:
            inner = jax.nn.relu(inner)
        return matmul(drop(inner), self.wo[...], self.dtype)


class Block(nnx.Module):  # type: ignore[misc]
    """One layer: attention, then feed-forward, each after a norm and added to its input."""

    def __init__(
        self, config: T5Config, tensor: TensorSource, layer: int, *, dtype: jnp.dtype, stored: jnp.dtype
    ) -> None:
        name, epsilon = f"block.{layer}.layer", config.norm_epsilon
        kind = {"dtype": dtype, "stored": stored}
        self.attention_norm = RMSNorm(tensor(f"{name}.0.layer_norm.weight"), epsilon=epsilon)
        self.attention = SelfAttention(config, tensor, f"{name}.0.SelfAttention", **kind)
        self.feed_forward_norm = RMSNorm(tensor(f"{name}.1.layer_norm.weight"), epsilon=epsilon)
        self.feed_forward = FeedForward(config, tensor, f"{name}.1.DenseReluDense", **kind)

    def __call__(
        self,
        h: Float[Array, "batch tokens d"],
        bias: Float[Array, "batch heads tokens tokens"],
        drop: Drop = keep,
    ) -> Float[Array, "batch tokens d"]:
        h = h + drop(self.attention(self.attention_norm(h), bias, drop))
        return h + drop(self.feed_forward(self.feed_forward_norm(h), drop))


class T5Encoder(nnx.Module):  # type: ignore[misc]
    """The first `layers` layers of a T5 encoder; see the module's docstring.

    Args:
        config: shape of the whole encoder.
        tensor: gives each tensor of `weights.tensor_shapes(config, layers)` by name, once.
        layers: how many to run, 0 (the embedding alone) to config.layers (and the final norm).
        compute_dtype: "float32", or "bfloat16" for the kernels and what meets them.
        stored_dtype: what the kernels are kept in, for training in another than they are computed in.

    Raises:
        ValueError: layers or compute_dtype is none of these.
    """

    def __init__(
        self,
        config: T5Config,
        tensor: TensorSource,
        *,
        layers: int,
        compute_dtype: str = "float32",
        stored_dtype: str | None = None,
    ) -> None:
        config.require_layers(layers)
        require_compute_dtype(compute_dtype)
        dtype = jnp.dtype(compute_dtype)
        stored = jnp.dtype(stored_dtype or compute_dtype)
        self.config = config
        # In float32 whatever is computed in: it begins the residual stream, and no product takes it.
        self.embedding = nnx.Param(jnp.asarray(tensor(weights.EMBEDDING), jnp.float32))
        self.relative_bias = (
            nnx.Param(jnp.asarray(tensor(weights.RELATIVE_BIAS), jnp.float32)) if layers else None
        )
        self.blocks = nnx.List(
            [Block(config, tensor, layer, dtype=dtype, stored=stored) for layer in range(layers)]
        )
        self.final_norm = (
            RMSNorm(tensor(weights.FINAL_NORM), epsilon=config.norm_epsilon)
            if layers == config.layers
            else None
        )

    def __call__(
        self, ids: Int[Array, "batch tokens"], lengths: Int[Array, " batch"], drop: Drop = keep
    ) -> Float[Array, "batch tokens d"]:
        """The memory of each token, float32.

        Args:
            ids: token ids; what stands from a row's length on is ignored.
            lengths: real tokens of each row, at least 1.

        Returns:
            The residual stream after the last layer that is run, after the final norm if that is
            the encoder's last. Rows of tokens beyond a text's length are meaningless.
        """
        *_, h = self._stream(ids, lengths, drop)
        return h if self.final_norm is None else drop(self.final_norm(h))

    def residuals(
        self, ids: Int[Array, "batch tokens"], lengths: Int[Array, " batch"]
    ) -> list[Float[Array, "batch tokens d"]]:
        """The residual stream before the first layer and after each, never normed."""
        return list(self._stream(ids, lengths, keep))

    def _stream(
        self, ids: Int[Array, "batch tokens"], lengths: Int[Array, " batch"], drop: Drop
    ) -> Iterator[Float[Array, "batch tokens d"]]:
        h = drop(self.embedding[...][ids])
        yield h
        if self.relative_bias is None:
            return
        rows = relative_position_buckets(
            ids.shape[1],
            buckets=self.config.relative_buckets,
            max_distance=self.config.relative_max_distance,
        )
        real = jnp.arange(ids.shape[1]) < lengths[:, None]
        # Once for all layers: T5 keeps one table, stored with the lowest.
        bias = masked_bias(self.relative_bias[...], rows, real)
        for block in self.blocks:
            h = block(h, bias, drop)
            yield h


def kernel(matrices: list[np.ndarray], dtype: jnp.dtype) -> nnx.Param:
    """PyTorch's [out, in] matrices, put side by side, as one [in, out] kernel."""
    return nnx.Param(jnp.asarray(np.concatenate(matrices).T, dtype))
