"""The codecs on the device: quantizing inside the encoder's program, so that codes leave the device.

`quantizer(coder)` and `dequantizer(coder)` give functions of jax arrays that do what the coder's `encode`
and `decode` do in NumPy. They are pytrees: their tables are arguments of a program that is compiled with
them, not constants in it (a codebook of 65,536 codes has 134 MB at large size).

The arithmetic is the same, in float32, but sums may run in another order: so where a value lies within
rounding of a boundary between two codes (int8: halfway; turbo: a middle of two levels; pq and rq: equally far
from two codes), NumPy may take the one and the device the other, and both are as near.

Decoding is the store's to the bit: values are looked up, or come of single products and sums in the store's
order. Two exceptions. Where a width has an odd part (768 = 3 * 256), turbo's sums over it may be rounded once
where the store rounds twice, as compilers join a product and a sum: a value may then be its neighbour in
bfloat16. And XLA on CPUs takes what is below 2**-126 for 0, what turbo scales a token by as well: there up to
d**2 * 2**-126 may be missing. Codes that no coder writes give NaN.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax
from jaxtyping import Array, Float, Shaped

from encoders import codebooks
from encoders.aliases import AnyDtype
from encoders.codebooks import Tables

Function = Callable[[Array], Array]


class CodecLike(Protocol):
    """What is asked of a `storage.codecs.Codec`."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def stored_dtype(self) -> AnyDtype: ...


class CoderLike(Protocol):
    """What is asked of a `storage.codecs.Coder`, which this package does not import."""

    @property
    def codec(self) -> CodecLike: ...
    @property
    def width(self) -> int: ...
    @property
    def stored_width(self) -> int: ...
    @property
    def largest(self) -> float: ...
    @property
    def view_only(self) -> bool: ...
    @property
    def parameters(self) -> Mapping[str, np.ndarray]: ...


def quantizer(coder: CoderLike) -> Function:
    """A function h [..., d] float32 -> stored rows [..., stored_width] of the codec's stored dtype."""
    return _function(coder, _QUANTIZERS)


def dequantizer(coder: CoderLike) -> Function:
    """A function of stored rows [..., stored_width] -> values [..., d] of the codec's dtype."""
    return _function(coder, _DEQUANTIZERS)


def kind_of(coder: CoderLike) -> str:
    """By which name the functions for a coder are known here.

    Raises:
        ValueError: there are none.
    """
    key = coder.codec.name if coder.view_only else coder.codec.kind
    if key not in _QUANTIZERS:
        raise ValueError(f"codec {coder.codec.name} has no form for devices")
    return key


def encode(kind: str, tables: Tables, h: Float[Array, "*rows d"]) -> Shaped[Array, "*rows stored"]:
    """What `quantizer` does, with the tables given."""
    return _QUANTIZERS[kind](tables, h)


def decode(kind: str, tables: Tables, stored: Shaped[Array, "*rows stored"]) -> Shaped[Array, "*rows d"]:
    """What `dequantizer` does, with the tables given."""
    return _DEQUANTIZERS[kind](tables, stored)


def _function(coder: CoderLike, functions: Mapping[str, Callable[..., Array]]) -> Function:
    bound: Function = jax.tree_util.Partial(  # type: ignore[no-untyped-call]
        functions[kind_of(coder)], tables_of(coder)
    )
    return bound


def tables_of(coder: Any) -> Tables:
    """A coder's tables on the device, by name; none for the floating-point codecs."""
    kind = coder.codec.kind
    if kind == "int8":
        return {"scales": jnp.asarray(coder.scales), "inverse": jnp.asarray(coder.inverse)}
    if kind == "turbo":
        turn = coder.rotation
        named = {"a": turn.a, "h": turn.h, "first": turn.first, "second": turn.second, "levels": coder.levels}
        named["mix"] = turn.turn.mix
        return {name: jnp.asarray(table) for name, table in named.items()}
    if kind in ("pq", "rq"):
        return {
            "books": jnp.asarray(coder.codebooks),
            "centres": jnp.asarray(coder.centres),
            "shrink": jnp.asarray(coder.shrink),
        }
    return {}


def _bytes(values: Shaped[Array, "*rows n"]) -> Shaped[Array, "*rows bytes"]:
    """Each value's bytes, little-endian."""
    split = lax.bitcast_convert_type(values, jnp.uint8)
    *rows, n = values.shape
    return split.reshape(*rows, n * values.dtype.itemsize)


def _from_bytes(stored: Shaped[Array, "*rows bytes"], dtype: npt.DTypeLike) -> Shaped[Array, "*rows n"]:
    *rows, n = stored.shape
    kind = np.dtype(dtype)
    return lax.bitcast_convert_type(stored.reshape(*rows, n // kind.itemsize, kind.itemsize), kind)


# Floating-point codecs


def _as_float32(tables: Tables, h: Array) -> Array:
    return h


def _as_float16(tables: Tables, h: Array) -> Array:
    return h.astype(jnp.float16)


def _as_bfloat16(tables: Tables, h: Array) -> Array:
    return lax.bitcast_convert_type(h.astype(jnp.bfloat16), jnp.uint16)


def _from_bfloat16(tables: Tables, stored: Array) -> Array:
    return lax.bitcast_convert_type(stored, jnp.bfloat16)


def _as_stored(tables: Tables, stored: Array) -> Array:
    return stored


# int8


def _int8(tables: Tables, h: Float[Array, "*rows d"]) -> Shaped[Array, "*rows stored"]:
    scaled = h * tables["inverse"]
    peaks = jnp.max(jnp.abs(scaled), axis=-1, keepdims=True)
    # The same bound as storage.codecs.int8.SMALLEST.
    scales = jnp.where(peaks < 1e-30, 0.0, peaks * np.float32(1 / 127))
    # Halves to even, as `np.rint`.
    codes = jnp.rint(scaled * jnp.where(scales == 0, 0.0, 1 / jnp.where(scales == 0, 1.0, scales)))
    codes = jnp.clip(codes, -127, 127).astype(jnp.int8)
    return jnp.concatenate([lax.bitcast_convert_type(codes, jnp.uint8), _bytes(scales)], axis=-1)


def _from_int8(tables: Tables, stored: Shaped[Array, "*rows stored"]) -> Shaped[Array, "*rows d"]:
    width = tables["scales"].shape[0]
    codes = lax.bitcast_convert_type(stored[..., :width], jnp.int8).astype(jnp.float32)
    scales = _from_bytes(stored[..., width:], jnp.float32)
    return (codes * tables["scales"] * scales).astype(jnp.bfloat16)


# turbo

OUTLIERS = 4  # as storage.codecs.turbo.OUTLIERS


def _turbo(tables: Tables, h: Float[Array, "*rows d"]) -> Shaped[Array, "*rows stored"]:
    p, q = tables["first"].shape
    # Of equals `top_k` takes the first, as the coder does.
    places = jnp.sort(lax.top_k(jnp.abs(h), OUTLIERS)[1], axis=-1)
    kept = jnp.take_along_axis(h, places, axis=-1).astype(jnp.bfloat16)
    aside = (jnp.arange(p * q) == places[..., None]).any(axis=-2)
    rest = jnp.where(aside, 0.0, h)
    peaks = jnp.max(jnp.abs(rest), axis=-1, keepdims=True)
    rest = rest / jnp.where(peaks == 0, 1.0, peaks)
    rotated = rest.reshape(*h.shape[:-1], p, q) * tables["first"]
    rotated = _times(_times(rotated, tables["h"]) * tables["second"], tables["h"])
    rotated = jnp.matmul(tables["a"], rotated, precision=lax.Precision.HIGHEST).reshape(h.shape)
    norms = jnp.sqrt(jnp.sum(jnp.square(rotated), axis=-1, keepdims=True))
    size = np.float32(np.sqrt(p * q))
    rotated = rotated * (size / jnp.where(norms == 0, 1.0, norms))
    levels = tables["levels"]
    codes = jnp.zeros(h.shape, jnp.uint8)
    nearest = jnp.full(h.shape, levels[0])
    # Boundaries that are passed are counted: `searchsorted(..., side="right")` of the coder.
    for low, high in itertools.pairwise(levels):
        above = rotated >= (low + high) / 2
        codes += above.astype(jnp.uint8)
        nearest = jnp.where(above, high, nearest)
    fit = jnp.sum(rotated * nearest, axis=-1) / jnp.sum(jnp.square(nearest), axis=-1)
    scales = fit[..., None] * (norms * peaks) / size
    return jnp.concatenate(
        [_packed(codes, len(levels)), _bytes(scales), _bytes(kept), _bytes(places.astype(jnp.uint16))],
        axis=-1,
    )


def _packed(codes: Array, levels: int) -> Array:
    """From each byte's low bits up."""
    bits = levels.bit_length() - 1
    *rows, n = codes.shape
    split = codes.reshape(*rows, n * bits // 8, 8 // bits)
    shifts = jnp.arange(8 // bits, dtype=jnp.uint8) * jnp.uint8(bits)
    return jnp.sum(split << shifts, axis=-1, dtype=jnp.uint8)


def _from_turbo(tables: Tables, stored: Shaped[Array, "*rows stored"]) -> Shaped[Array, "*rows d"]:
    levels, (p, q), m = tables["levels"], tables["first"].shape, len(tables["mix"])
    d = p * q
    bits = len(levels).bit_length() - 1
    codes, tail = jnp.split(stored, [d * bits // 8], axis=-1)
    scales, kept, places = jnp.split(tail, [4, 4 + 2 * OUTLIERS], axis=-1)
    shifts = jnp.arange(8 // bits, dtype=jnp.uint8) * jnp.uint8(bits)
    unpacked = (codes[..., None] >> shifts) & jnp.uint8(len(levels) - 1)
    values = _stages(levels[unpacked].reshape(*stored.shape[:-1], d), q, d // m)
    if m > 1:
        parts = values.reshape(*values.shape[:-1], m, d // m)
        mixed = []
        for factors in tables["mix"].T:
            total = parts[..., 0, :] * factors[0]
            for i in range(1, m):
                total = total + parts[..., i, :] * factors[i]
            mixed.append(total)
        values = jnp.concatenate(mixed, axis=-1)
    values = _stages(values, 1, q) * tables["second"].reshape(-1)
    values = _stages(values, 1, q) * tables["first"].reshape(-1)
    # The norms of both transforms, rounded once, before values are multiplied.
    norm = np.float32(1 / (q * math.sqrt(d // m // q)))
    values = (values * (_from_bytes(scales, jnp.float32) * norm)).astype(jnp.bfloat16)
    kept, at = _from_bytes(kept, jnp.bfloat16), _from_bytes(places, jnp.uint16).astype(jnp.int32)
    for i in range(OUTLIERS):
        values = jnp.where(jnp.arange(d) == at[..., i : i + 1], kept[..., i : i + 1], values)
    wrong = jnp.any(at >= d, axis=-1, keepdims=True)
    return jnp.where(wrong, jnp.bfloat16(jnp.nan), values)


def _stages(values: Float[Array, "*rows d"], first: int, end: int) -> Float[Array, "*rows d"]:
    """Stages first, 2 * first, .. end / 2 of a Hadamard transform, without norms.

    x[i], x[i + h] = x[i] + x[i + h], x[i] - x[i + h], in the order of `storage.codecs.rotation`.
    """
    *rows, d = values.shape
    h = first
    while h < end:
        pairs = values.reshape(*rows, d // (2 * h), 2, h)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        # Not as one sum with a copy that is turned round: XLA would fuse all stages into one, in which each
        # computes those before it again, twice over.
        values = jnp.stack([a + b, a - b], axis=-2).reshape(*rows, d)
        h *= 2
    return values


def _times(x: Array, matrix: Array) -> Array:
    # By default accelerators multiply float32 in fewer bits (TF32, bfloat16), and codes would be others.
    return jnp.matmul(x, matrix, precision=lax.Precision.HIGHEST)


_QUANTIZERS: Mapping[str, Callable[..., Array]] = {
    "float32": _as_float32,
    "float16": _as_float16,
    "bfloat16": _as_bfloat16,
    "int8": _int8,
    "turbo": _turbo,
    "pq": codebooks.pq,
    "rq": codebooks.rq,
}
_DEQUANTIZERS: Mapping[str, Callable[..., Array]] = {
    "float32": _as_stored,
    "float16": _as_stored,
    "bfloat16": _from_bfloat16,
    "int8": _from_int8,
    "turbo": _from_turbo,
    "pq": codebooks.from_pq,
    "rq": codebooks.from_rq,
}
