"""Optimizers, in the one file that knows optax: Adafactor for readers, AdamW for language models."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import jax
import optax  # type: ignore[import-untyped]

Optimizer: TypeAlias = optax.GradientTransformation

apply_updates: Final = optax.apply_updates
global_norm: Final = optax.tree.norm


def adafactor(learning_rate: float, *, warmup: int) -> Optimizer:
    """Adafactor with steps relative to each matrix's scale, as T5 is trained with.

    Args:
        learning_rate: constant, after the warm-up.
        warmup: steps over which it rises from 0.

    Source: Shazeer & Stern 2018; PAPERS: Training.
    """
    # Optax's other defaults are the paper's: no first moment, updates cut to a root mean square of 1, second
    # moments that decay by 1 - t**-0.8.
    rate = optax.schedules.warmup_constant_schedule(0.0, learning_rate, warmup)
    return optax.adafactor(rate if warmup else learning_rate, min_dim_size_to_factor=128)


def adamw(learning_rate: float, *, warmup: int, steps: int, weight_decay: float, clip: float) -> Optimizer:
    """AdamW whose rate rises linearly from 0 and falls by a cosine to a tenth.

    Args:
        learning_rate: the highest.
        warmup: steps until then.
        steps: after which it has fallen, the warm-up among them.
        weight_decay: of matrices; norms and biases have none.
        clip: gradients are scaled to this norm where theirs is larger.

    Source: Borgeaud et al. 2021, section C.1: decay .1, warm-up of 750 steps, cosine to a tenth. β2 = .95 and
    the clipping are GPT-3's (Brown et al. 2020, appendix B).
    """
    rate = optax.schedules.warmup_cosine_decay_schedule(
        0.0, learning_rate, warmup, max(steps, warmup + 1), learning_rate / 10
    )

    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.adamw(rate, b1=0.9, b2=0.95, weight_decay=weight_decay, mask=decayed),
    )


def decayed(weights: Any) -> Any:
    """Which weights decay: matrices, embeddings among them. A bias has none though it may have a row a head,
    as the two of relative positions."""

    def of(path: tuple[Any, ...], leaf: Any) -> bool:
        return leaf.ndim > 1 and "bias" not in jax.tree_util.keystr(path)

    return jax.tree_util.tree_map_with_path(of, weights)
