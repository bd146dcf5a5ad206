"""The codecs of codebooks on the device, pq and rq: the nearest code of a book for each group of dimensions.

What they owe NumPy's, `encoders.quantizing` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

Tables = Mapping[str, Array]

# Distances that are held at a time: 64 MiB of float32.
BLOCK_DISTANCES = 1 << 24
# The same bound as storage.codecs.pq.FAR.
FAR = 2.0**61


def pq_tables(books: Shaped[Array, "groups codes dims"]) -> Tables:
    """The tables of codebooks that change: as `storage.codecs.pq.PQCoder` makes them of its own.

    The centres are means in float32, there in float64: they bring distances near to zero, and change none.
    """
    codes = books.astype(jnp.float32)
    centres = codes.mean(axis=1)
    peaks = jnp.abs(codes - centres[:, None]).max(axis=(1, 2))
    return {"books": books, "centres": centres, "shrink": _shrink(peaks)}


def rq_tables(books: Shaped[Array, "groups steps codes dims"]) -> Tables:
    """The same, as `storage.codecs.rq.RQCoder` makes them."""
    codes = books.astype(jnp.float32)
    centres = codes[:, 0].mean(axis=1)
    peaks = jnp.abs(codes.at[:, 0].add(-centres[:, None])).max(axis=(1, 2, 3))
    return {"books": books, "centres": centres, "shrink": _shrink(peaks)}


def _shrink(peaks: Float[Array, " groups"]) -> Float[Array, " groups"]:
    return jnp.exp2(-jnp.maximum(0, jnp.frexp(peaks)[1] - 40).astype(jnp.float32))


def pq(tables: Tables, h: Float[Array, "*rows d"]) -> Shaped[Array, "*rows groups"]:
    """The nearest code of each group's book."""
    groups, codes, dims = tables["books"].shape
    n = math.prod(h.shape[:-1])
    parts = h.reshape(n, groups, dims).transpose(1, 0, 2)  # [groups, n, dims]
    index = jnp.uint8 if codes <= 256 else jnp.uint16

    def code(group: tuple[Array, Array, Array, Array]) -> Array:
        part, book, centre, shrink = group
        part = jnp.clip((part - centre) * shrink, -FAR, FAR)
        return _nearest(part, (book.astype(jnp.float32) - centre) * shrink).astype(index)

    # Group after group: distances of all groups to all codes are held by no device.
    stored: Array = lax.map(code, (parts, tables["books"], tables["centres"], tables["shrink"]))
    return stored.T.reshape(*h.shape[:-1], groups)


def rq(tables: Tables, h: Float[Array, "*rows d"]) -> Shaped[Array, "*rows groups_steps"]:
    """Step after step, the nearest code to what is left of each group."""
    groups, steps, _, _ = tables["books"].shape
    taken: Array = by_step(tables, h, lambda found, left: found.astype(jnp.uint8))  # [groups, steps, n]
    return taken.transpose(2, 0, 1).reshape(*h.shape[:-1], groups * steps)


def by_step(tables: Tables, h: Float[Array, "*rows d"], visit: Callable[..., Any], *extra: Array) -> Any:
    """Residual quantization, and what `visit` makes of each step, stacked: [groups, steps, ...].

    Args:
        tables: of books [groups, steps, codes, dims].
        h: n rows in all.
        visit: of the codes taken, int32 [n], and of what was left before the step, float32 [n, dims].
        extra: [groups, steps, ...]; each step's goes to `visit` as well.
    """
    groups, _, _, dims = tables["books"].shape
    parts = h.reshape(-1, groups, dims).transpose(1, 0, 2)  # [groups, n, dims]

    def code(group: tuple[Array, Array, Array, Array, tuple[Array, ...]]) -> Any:
        part, books, centre, shrink, more = group
        middles = jnp.zeros((len(books), dims)).at[0].set(centre)

        def step(left: Array, at: tuple[Array, Array, tuple[Array, ...]]) -> tuple[Array, Any]:
            book, middle, given = at
            codes = book.astype(jnp.float32)
            near = jnp.clip((left - middle) * shrink, -FAR, FAR)
            found = _nearest(near, (codes - middle) * shrink)
            return left - jnp.take(codes, found, axis=0), visit(found, left, *given)

        return lax.scan(step, part, (books, middles, more))[1]

    # Group after group: distances of all groups to all codes are held by no device.
    return lax.map(code, (parts, tables["books"], tables["centres"], tables["shrink"], extra))


def _nearest(part: Float[Array, "n dims"], book: Float[Array, "codes dims"]) -> Shaped[Array, " n"]:
    """Index of the nearest code to each, int32, the lowest of equals."""
    codes, dims = book.shape
    block = _block(codes, len(part))

    def among(best: tuple[Array, Array], at: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        first, some = at
        halves = jnp.sum(jnp.square(some), axis=1) / 2
        # [block, n], so that the least is taken over the slow dimension, which vectorizes.
        scores = halves[:, None] - jnp.matmul(some, part.T, precision=lax.Precision.HIGHEST)
        least = jnp.min(scores, axis=0)
        place = jnp.where(scores == least, jnp.arange(block, dtype=jnp.int32)[:, None], block)
        # Strictly: of codes in several blocks that are equally near, the lowest stays.
        nearer = least < best[0]
        found = jnp.min(place, axis=0) + first
        return (jnp.where(nearer, least, best[0]), jnp.where(nearer, found, best[1])), None

    none = (jnp.full(len(part), jnp.inf), jnp.zeros(len(part), jnp.int32))
    firsts = jnp.arange(0, codes, block, dtype=jnp.int32)
    (_, found), _ = lax.scan(among, none, (firsts, book.reshape(-1, block, dims)))
    return found


def _block(codes: int, rows: int) -> int:
    """Codes compared at a time: a power of two that divides `codes`."""
    block = codes
    while block > 1 and block * rows > BLOCK_DISTANCES:
        block //= 2
    return block


def from_pq(tables: Tables, stored: Shaped[Array, "*rows groups"]) -> Shaped[Array, "*rows d"]:
    """Values of codes that `pq` gives."""
    books = tables["books"]
    groups, codes, dims = books.shape
    index = stored.astype(jnp.int32)
    places = index + jnp.arange(groups, dtype=jnp.int32) * codes
    values: Array = jnp.take(books.reshape(-1, dims), places, axis=0)
    if codes < 1 << 8 * stored.dtype.itemsize:  # else a code's type holds no more than there are
        # Beyond a group's codes stand the next group's.
        values = jnp.where((index < codes)[..., None], values, jnp.asarray(jnp.nan, values.dtype))
    return values.reshape(*stored.shape[:-1], groups * dims)


def from_rq(tables: Tables, stored: Shaped[Array, "*rows groups_steps"]) -> Shaped[Array, "*rows d"]:
    """Values of codes that `rq` gives."""
    books = tables["books"]
    groups, steps, codes, dims = books.shape
    first = jnp.arange(groups * steps, dtype=jnp.int32).reshape(groups, steps) * codes
    places = stored.reshape(*stored.shape[:-1], groups, steps).astype(jnp.int32) + first
    flat = books.reshape(-1, dims)
    total = jnp.take(flat, places[..., 0], axis=0).astype(jnp.float32)
    for step in range(1, steps):
        # In the order of the steps: float32 sums do not associate.
        total = total + jnp.take(flat, places[..., step], axis=0).astype(jnp.float32)
    return total.astype(jnp.bfloat16).reshape(*stored.shape[:-1], groups * dims)
