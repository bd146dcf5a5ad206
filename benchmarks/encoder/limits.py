"""The limit: how fast the machine multiplies matrices of the encoder's shapes, by jax and by torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from encoders.t5_config import T5Config


class Gemm:
    """The products of one layer on `tokens` tokens, in both libraries; the best rate seen is the peak."""

    def __init__(self, config: T5Config, dtype: str, tokens: int) -> None:
        d, inner, ff = config.d_model, config.inner, config.d_ff
        self.rates: dict[str, list[float]] = {}
        self._products: dict[str, tuple[float, Callable[[], Any]]] = {}
        for rows, columns in ((d, 3 * inner), (inner, d), (d, 2 * ff), (ff, d)):
            rng = np.random.default_rng(0)
            x = rng.normal(size=(tokens, rows)).astype(np.float32)
            kernel = rng.normal(size=(rows, columns)).astype(np.float32)
            work = 2.0 * tokens * rows * columns
            name = f"[{tokens:,}, {rows:,}] x [{rows:,}, {columns:,}]"
            self._products[f"jax {name}"] = (work, _jax(x, kernel, dtype))
            self._products[f"torch {name}"] = (work, _torch(x, kernel, dtype))

    def run(self) -> None:
        """Each product a few times."""
        for name, (work, product) in self._products.items():
            for _ in range(5):
                start = time.perf_counter()
                product()
                self.rates.setdefault(name, []).append(work / (time.perf_counter() - start))

    @property
    def peak(self) -> tuple[str, float]:
        """The product with the highest median rate, and that rate, FLOP/s."""
        medians = {name: float(np.median(rates)) for name, rates in self.rates.items()}
        best = max(medians, key=medians.__getitem__)
        return best, medians[best]


def _jax(x: Any, kernel: Any, dtype: str) -> Callable[[], Any]:
    precision = lax.Precision.HIGHEST if dtype == "float32" else None
    a, b = jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision, preferred_element_type=jnp.float32))
    return lambda: product(a, b).block_until_ready()


def _torch(x: Any, kernel: Any, dtype: str) -> Callable[[], Any]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.tensor(m, device=device).to(getattr(torch, dtype)) for m in (x, kernel.T.copy()))

    def product() -> None:
        with torch.inference_mode():
            torch.nn.functional.linear(a, b)
        if device == "cuda":
            torch.cuda.synchronize()

    return product
