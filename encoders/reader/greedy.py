"""Greedy decoding with a key-value cache, for a batch at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from encoders.reader.decoder import Cache, T5Decoder

# Of every published T5: the decoder starts with the padding token, and ends with </s>.
START, EOS = 0, 1


def greedy(
    decoder: T5Decoder,
    encoded: Float[Array, "batch keys d"],
    real: Bool[Array, "batch keys"],
    *,
    tokens: int,
) -> tuple[Int[Array, "batch tokens"], Float[Array, " batch"]]:
    """The likeliest token at every step, until all answers have ended.

    Args:
        decoder: of a reader.
        encoded, real: states of the passages, as for the decoder.
        tokens: the most an answer may have, EOS included; static.

    Returns:
        Token ids, with EOS and then 0 behind an answer that ended in time; and the log-probability of
        each answer.
    """
    batch = encoded.shape[0]

    def unfinished(state: tuple[Array, Array, Array, Array, Array, Cache]) -> Array:
        at, _, _, ended, _, _ = state
        return (at < tokens) & ~ended.all()

    def step(
        state: tuple[Array, Array, Array, Array, Array, Cache],
    ) -> tuple[Array, Array, Array, Array, Array, Cache]:
        at, last, answers, ended, total, cache = state
        logits, cache = decoder.step(last, at, cache, real)
        best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        gained = jnp.max(logits, axis=-1) - jax.nn.logsumexp(logits, axis=-1)
        best = jnp.where(ended, 0, best)
        total = total + jnp.where(ended, 0.0, gained)
        answers = lax.dynamic_update_slice_in_dim(answers, best[:, None], at, axis=1)
        return at + 1, best, answers, ended | (best == EOS), total, cache

    start = (
        jnp.int32(0),
        jnp.full(batch, START, jnp.int32),
        jnp.zeros((batch, tokens), jnp.int32),
        jnp.zeros(batch, bool),
        jnp.zeros(batch, jnp.float32),
        decoder.start(encoded, tokens=tokens),
    )
    _, _, answers, _, total, _ = lax.while_loop(unfinished, step, start)
    return answers, total
