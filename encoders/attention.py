"""Attention of the encoder, for inference, by several kernels: which suits a device is measured there.

All compute, for every row of a batch and every head, over the row's real tokens,

    softmax(q k^T + bias) v

without 1/sqrt(d_kv), as T5 has it (see `encoders.t5`). A kernel takes

    qkv   [rows, tokens, 3, heads * d_kv], of the compute dtype: q, k and v side by side
    real  bool [rows, tokens], a row's first tokens
    bias  float32 [heads, tokens, tokens]
    d_kv  width of a head

and gives [rows, tokens, heads * d_kv] of the compute dtype. Scores, bias, softmax and sums are float32, but
for cuDNN, which takes the bias in the compute dtype. What stands at tokens that are not real is meaningless.

`CHOSEN` says which runs where. Another choice changes a memory's last bits, as another machine does.
`benchmarks.accelerator` compares them on the device that is there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

# Row after row: a row's scores stay in a CPU's cache. All rows at once: what keeps accelerators busy.
ROW_BY_ROW: Final = "row by row"
AT_ONCE: Final = "at once"
CUDNN: Final = "cudnn"
PALLAS: Final = "pallas"

# By jax's name of the platform. Unmeasured but for CPUs: no accelerator was to be had.
CHOSEN: Final[Mapping[str, str]] = {"cpu": ROW_BY_ROW, "gpu": AT_ONCE, "tpu": AT_ONCE}

# Queries, and keys, of a tile of the Pallas kernel. Triton wants powers of two, 16 or more.
TILE: Final = 64
LEAST_WIDTH: Final = 16
# The lowest float, not -inf: its exponential is exactly 0 beside any real key, and no NaN can come of it.
LOWEST: Final = float(np.finfo(np.float32).min)


class Kernel(Protocol):
    def __call__(
        self,
        qkv: Float[Array, "rows tokens 3 inner"],
        real: Bool[Array, "rows tokens"],
        *,
        bias: Float[Array, "heads tokens tokens"],
        d_kv: int,
    ) -> Float[Array, "rows tokens inner"]: ...


def kernel(name: str) -> Kernel:
    """A kernel by its name.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in KERNELS:
        raise ValueError(f"unknown attention kernel {name!r}; known are {', '.join(KERNELS)}")
    return KERNELS[name]


def chosen(platform: str) -> str:
    """The name of the kernel that runs on a platform."""
    return CHOSEN.get(platform, AT_ONCE)


def dot(a: Array, b: Array, dimensions: lax.DotDimensionNumbers) -> Array:
    """A product, accumulated in float32; of float32 in full float32."""
    # HIGHEST on bfloat16 inputs would send XLA:CPU to the float32 kernels, at half the speed.
    precision = lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return lax.dot_general(a, b, dimensions, precision=precision, preferred_element_type=jnp.float32)


def attend(
    qkv: Float[Array, "tokens 3 inner"],
    real: Bool[Array, " tokens"],
    *,
    bias: Float[Array, "heads tokens tokens"],
    d_kv: int,
) -> Float[Array, "tokens inner"]:
    """Attention of one row, in XLA's own operations."""
    tokens = len(qkv)
    q, k, v = qkv.reshape(tokens, 3, -1, d_kv).transpose(1, 2, 0, 3)  # [heads, tokens, d_kv]
    scores = dot(q, k, (((2,), (2,)), ((0,), (0,))))
    scores = jnp.where(real, scores + bias, LOWEST)
    # In float32 up to here; the shares meet v in the type that v is in.
    shares = jax.nn.softmax(scores, axis=-1).astype(qkv.dtype)
    mixed = dot(shares, v, (((2,), (1,)), ((0,), (0,)))).astype(qkv.dtype)
    return mixed.transpose(1, 0, 2).reshape(tokens, -1)


def row_by_row(qkv: Array, real: Array, *, bias: Array, d_kv: int) -> Array:
    mixed: Array = lax.map(lambda row: attend(*row, bias=bias, d_kv=d_kv), (qkv, real))
    return mixed


def at_once(qkv: Array, real: Array, *, bias: Array, d_kv: int) -> Array:
    return jax.vmap(functools.partial(attend, bias=bias, d_kv=d_kv))(qkv, real)


def by_jax(
    qkv: Array, real: Array, *, bias: Array, d_kv: int, implementation: Literal["xla", "cudnn"]
) -> Array:
    """By `jax.nn.dot_product_attention`: "cudnn" is flash attention of NVIDIA's library, for bfloat16."""
    rows, tokens = real.shape
    q, k, v = (qkv[:, :, i].reshape(rows, tokens, -1, d_kv) for i in range(3))
    mixed: Array = jax.nn.dot_product_attention(
        q,
        k,
        v,
        bias=bias[None].astype(qkv.dtype),
        scale=1.0,
        key_value_seq_lengths=jnp.sum(real, axis=1, dtype=jnp.int32),
        implementation=implementation,
    )
    return mixed.reshape(rows, tokens, -1)


def tiled(qkv: Array, real: Array, *, bias: Array, d_kv: int, interpret: bool = False) -> Array:
    """Flash attention in tiles, as a Pallas kernel for NVIDIA GPUs (through Triton).

    A program computes a tile of queries of one head and row: it goes over the real keys tile by tile, and
    keeps the largest score and the sum of exponentials so far. So no scores are written to memory, and tiles
    of padding alone are not computed. Source: Dao 2023 (2307.08691), section 3.1.

    Args:
        qkv, real, bias, d_kv: see the module.
        interpret: run it in XLA's operations on any device, slowly.

    Raises:
        ValueError: d_kv is no power of two of 16 or more, which Triton's tiles must be.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    if d_kv < LEAST_WIDTH or d_kv & (d_kv - 1):
        raise ValueError(f"heads are {d_kv} wide, the Pallas kernel wants a power of two of 16 or more")
    rows, tokens = real.shape
    parts = qkv.reshape(rows, tokens, 3, -1, d_kv)
    heads = parts.shape[3]

    def part(which: int) -> Any:
        return pl.BlockSpec((None, tokens, None, None, d_kv), lambda row, head, _: (row, 0, which, head, 0))

    mixed: Array = pl.pallas_call(
        functools.partial(_tile, tokens=tokens),
        grid=(rows, heads, pl.cdiv(tokens, TILE)),
        in_specs=[
            pl.BlockSpec((None,), lambda row, head, _: (row,)),
            *(part(which) for which in range(3)),
            pl.BlockSpec((None, tokens, tokens), lambda row, head, _: (head, 0, 0)),
        ],
        out_specs=pl.BlockSpec((None, tokens, None, d_kv), lambda row, head, _: (row, 0, head, 0)),
        out_shape=jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call]
            (rows, tokens, heads, d_kv), qkv.dtype
        ),
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="t5_attention",
    )(jnp.sum(real, axis=1, dtype=jnp.int32), parts, parts, parts, bias)
    return mixed.reshape(rows, tokens, -1)


def _tile(length: Any, q: Any, k: Any, v: Any, bias: Any, out: Any, *, tokens: int) -> None:
    """One tile of queries; arguments are what Pallas calls references."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    first = pl.program_id(2) * TILE
    queries = pl.dslice(first, TILE)
    asked = (first + jnp.arange(TILE) < tokens)[:, None]
    q_tile = triton.load(q.at[queries, :], mask=asked, other=0.0)
    real = length[...]
    # In full float32 where that is the type: by default Triton takes TF32.
    precision = lax.Precision.HIGHEST if q.dtype == jnp.float32 else None

    def over(number: Array, so_far: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        mixed, total, largest = so_far
        begin = number * TILE
        keys = pl.dslice(begin, TILE)
        there = begin + jnp.arange(TILE) < real
        k_tile = triton.load(k.at[keys, :], mask=there[:, None], other=0.0)
        v_tile = triton.load(v.at[keys, :], mask=there[:, None], other=0.0)
        biases = triton.load(bias.at[queries, keys], mask=asked & there[None, :], other=0.0)
        scores = triton.dot(q_tile, k_tile.T, precision=precision).astype(jnp.float32) + biases
        scores = jnp.where(there[None, :], scores, LOWEST)
        now = jnp.maximum(largest, jnp.max(scores, axis=1))
        # What was summed under a smaller maximum is brought to the new one.
        before = jnp.exp(largest - now)
        shares = jnp.exp(scores - now[:, None])
        part = triton.dot(shares.astype(v_tile.dtype), v_tile, precision=precision).astype(jnp.float32)
        return mixed * before[:, None] + part, total * before + jnp.sum(shares, axis=1), now

    begun = (
        jnp.zeros((TILE, q.shape[-1]), jnp.float32),
        jnp.zeros(TILE, jnp.float32),
        jnp.full(TILE, LOWEST, jnp.float32),
    )
    mixed, total, _ = lax.fori_loop(0, lax.div(real + TILE - 1, TILE), over, begun)
    triton.store(out.at[queries, :], (mixed / total[:, None]).astype(out.dtype), mask=asked)


KERNELS: Final[Mapping[str, Kernel]] = {
    ROW_BY_ROW: row_by_row,
    AT_ONCE: at_once,
    CUDNN: functools.partial(by_jax, implementation="cudnn"),
    PALLAS: tiled,
}
