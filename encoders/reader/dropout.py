"""Dropout as T5 has it: after the embedding, of attention's shares, inside and after every sublayer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PRNGKeyArray


class Dropout:
    """Zeroes each value with probability `rate` and scales the rest by 1 / (1 - rate).

    Every call draws from a key of its own, so one object serves a whole pass; within `jax.jit` the calls
    are counted while tracing.

    Args:
        key: of this pass.
        rate: 0 keeps everything.

    Raises:
        ValueError: rate is not in 0..1, 1 excluded.

    Source: Raffel et al. 2020, section 3.1.2 (rate 0.1 in fine-tuning); PAPERS: Training.
    """

    def __init__(self, key: PRNGKeyArray, rate: float) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"dropout rate is {rate}, wanted 0 or more and below 1")
        self.rate = rate
        self._key = key
        self._calls = 0

    def __call__(self, x: Array) -> Array:
        if not self.rate:
            return x
        self._calls += 1
        # 16 bits a value are enough for a rate, and half as many as a uniform float takes.
        bits = jax.random.bits(jax.random.fold_in(self._key, self._calls), x.shape, jnp.uint16)
        kept = bits >= jnp.uint16(min(round(self.rate * 65536), 65535))
        return lax.select(kept, x / (1 - self.rate), jnp.zeros_like(x))
