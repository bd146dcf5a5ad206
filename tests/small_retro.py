"""Small RETROs in float32, and small batches for them, ragged as corpora are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from flax import nnx

from encoders.retro import names
from encoders.retro.config import (
    CONDITIONED,
    GATED,
    ROTARY,
    EncoderConfig,
    LanguageConfig,
    RetroConfig,
)
from encoders.retro.model import Retro
from encoders.retro.rows import Neighbours, Rows

VOCAB, M, L, K, R, WIDTH = 50, 4, 5, 2, 6, 12
ENCODER = EncoderConfig(d_model=WIDTH, d_head=6, d_ff=20, layers=2, heads=3)


def language(**changes: Any) -> LanguageConfig:
    shape: dict[str, Any] = {"vocab_size": VOCAB, "d_model": 16, "d_head": 8, "d_ff": 24}
    return LanguageConfig(**shape | {"layers": 4, "heads": 2} | changes)


def llama(**changes: Any) -> LanguageConfig:
    return language(feed_forward=GATED, positions=ROTARY, heads=4, key_heads=2, **changes)


def config(encoding: str = CONDITIONED, **changes: Any) -> RetroConfig:
    values: dict[str, Any] = {
        "language": language(),
        "encoding": encoding,
        "chunk_tokens": M,
        "neighbours": K,
        "neighbour_tokens": R,
        "cca_layers": (2, 4),
    }
    if encoding in ("conditioned", "unconditioned"):
        values["encoder"] = ENCODER
    else:
        values["memory_width"] = WIDTH
    return RetroConfig(**values | changes)


def tensors(chosen: RetroConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of which every part matters: no zeros, and attention far from uniform."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in (names.language_shapes(chosen.language) | names.retrieval_shapes(chosen)).items():
        if "norm." in name:
            found[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        elif name.endswith("_bias"):
            found[name] = rng.normal(0, 0.5, shape).astype(np.float32)
        else:
            scale = 2.0 if name.endswith(("q_proj.weight", "r_proj.weight")) else 1.0
            found[name] = rng.normal(0, scale * shape[-1] ** -0.5, shape).astype(np.float32)
    return found


def make(chosen: RetroConfig, seed: int = 0) -> Retro:
    return Retro(chosen, tensors(chosen, seed).__getitem__)


def batch(*, documents: list[list[int]] | None = None, lengths: Any = None, seed: int = 0) -> Rows:
    """Two rows of L chunks: the first of two documents, the first of which ends in a short chunk."""
    rng = np.random.default_rng(seed)
    of = np.array(documents or [[7, 7, 7, 9, 9], [3] * L], np.int32)
    held = np.array(lengths if lengths is not None else [[4, 4, 2, 4, 3], [4] * L], np.int32)
    tokens = rng.integers(3, VOCAB, (len(of), L * M)).astype(np.int32)
    targets = np.full(tokens.shape, -1, np.int32)
    for row in range(len(of)):
        places = [(u, u * M + t) for u in range(L) for t in range(held[row, u])]
        for (u, one), (v, other) in pairwise(places):
            if of[row, u] == of[row, v]:
                targets[row, one] = tokens[row, other]
    return Rows(tokens=tokens, lengths=held, documents=of, targets=targets)


def retrieved(chosen: RetroConfig, *, rows: int = 2, seed: int = 1) -> Neighbours:
    """Neighbours of every chunk, one of which is absent, some short, and one chunk without any."""
    rng = np.random.default_rng(seed)
    shape = (rows, L, K, R)
    held = rng.integers(2, R + 1, shape[:3])
    held[0, 1, 1] = 0
    held[-1, 2] = 0
    real = np.arange(R) < held[..., None]
    if chosen.encodes:
        tokens = rng.integers(3, VOCAB, shape).astype(np.int32)
        return Neighbours(tokens=tokens, states=None, real=real)
    states = rng.normal(0, 1, (*shape, chosen.width)).astype(np.float32)
    return Neighbours(tokens=None, states=states, real=real)


def logits(model: Retro, rows: Rows, neighbours: Neighbours | None) -> np.ndarray:
    """Of one compiled program a shape."""
    return np.asarray(_run(model)(rows, neighbours))


def _run(model: Retro) -> Callable[..., jax.Array]:
    if id(model) not in _PROGRAMS:
        graph, state = nnx.split(model)
        run = jax.jit(lambda state, rows, found: nnx.merge(graph, state)(rows, found))
        # With the model, so that no other one takes its place in memory.
        _PROGRAMS[id(model)] = (model, lambda rows, found: run(state, rows, found))
    found: Callable[..., jax.Array] = _PROGRAMS[id(model)][1]
    return found


_PROGRAMS: dict[int, Any] = {}
