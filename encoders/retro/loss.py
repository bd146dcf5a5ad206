"""What a RETRO is trained and judged by: the negative log-probability of each next token."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from encoders.retro.rows import Numbers


def token_losses(
    logits: Float[Array, "batch tokens vocab"], targets: Int[Numbers, "batch tokens"]
) -> Float[Array, "batch tokens"]:
    """-log p of each target, in nats; 0 where there is none (-1)."""
    targets = jnp.asarray(targets)
    each = jnp.take_along_axis(
        jax.nn.log_softmax(logits, axis=-1), jnp.maximum(targets, 0)[..., None], axis=-1
    )[..., 0]
    return jnp.where(targets >= 0, -each, 0.0)
