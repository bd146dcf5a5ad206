"""What sections share: sizes, weights out of nothing, and seconds of what runs on a device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import jax
import numpy as np
import numpy.typing as npt

from benchmarks.device.boxes import Box
from encoders import attention, inference, sharding, weights
from encoders.t5_config import PUBLISHED_SIZES, T5Config

TINY: Final = "tiny"
SIZES: Final[Mapping[str, T5Config]] = MappingProxyType(
    {TINY: T5Config(vocab_size=512, d_model=64, d_kv=16, d_ff=128, layers=3, heads=4), **PUBLISHED_SIZES}
)
# Kernels that a platform can run, the one that runs there by default first.
TRIED: Final[Mapping[str, tuple[str, ...]]] = {
    "cpu": (attention.ROW_BY_ROW, attention.AT_ONCE),
    "gpu": (attention.AT_ONCE, attention.CUDNN, attention.PALLAS, attention.ROW_BY_ROW),
    "tpu": (attention.AT_ONCE, attention.ROW_BY_ROW),
}
REPEATS: Final = 3
MOST_RUNS: Final = 2000


def platform() -> str:
    return str(jax.devices()[0].platform)


def tried() -> tuple[str, ...]:
    return TRIED.get(platform(), TRIED["tpu"])


def layers_of(config: T5Config) -> int:
    """Of the memory encoder at α = 1/3, or the next below that a size has: small has 8 layers."""
    return config.layers - config.layers // 3


def tensor_source(config: T5Config, layers: int) -> Callable[[str], npt.NDArray[np.float32]]:
    """Random weights by name, of the sizes that keep the residual stream in bounds; quick at any size."""
    shapes = weights.tensor_shapes(config, layers)
    # Of a length that no row is a multiple of.
    block = np.random.default_rng(0).normal(size=(1 << 20) + 7).astype(np.float32)

    def tensor(name: str) -> npt.NDArray[np.float32]:
        shape = shapes[name]
        if len(shape) == 1:  # a norm's scale
            return 1 + np.resize(block, shape) / 10
        if name in (weights.EMBEDDING, weights.RELATIVE_BIAS):
            return np.resize(block, shape)
        return np.resize(block * np.float32(shape[-1] ** -0.5), shape)

    return tensor


def encoder(config: T5Config, dtype: str) -> inference.Encoder:
    """The memory encoder of a size, on one device."""
    layers = layers_of(config)
    mesh = sharding.mesh_for(config, layers, dtype, devices=jax.devices()[:1])
    return inference.Encoder(
        config, tensor_source(config, layers), layers=layers, compute_dtype=dtype, mesh=mesh
    )


def seconds_of(box: Box, run: Callable[[], Any]) -> float:
    """Seconds of one call of what gives arrays of jax: the median of some timings of many calls.

    Calls are not waited for one by one, so that the device is never idle between them. The first, which
    compiles, is not counted. With little time left there are fewer.
    """
    left = box.left
    jax.block_until_ready(run())
    begun = time.perf_counter()
    jax.block_until_ready(run())
    one = max(time.perf_counter() - begun, 1e-7)
    each = min(box.settings["timing"], left / (2 * REPEATS))
    calls = int(min(MOST_RUNS, max(1, each // one)))
    timings = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        result = None
        for _ in range(calls):
            result = run()
        jax.block_until_ready(result)
        timings.append((time.perf_counter() - begun) / calls)
        if sum(timings) * calls > left:
            break
    return statistics.median(timings)


def peak_rate(earlier: Mapping[str, Mapping[str, Any]], dtype: str = "bfloat16") -> float | None:
    """FLOP/s of matrices, as the section before measured it."""
    rates = [
        row["flops_per_s"]
        for row in earlier.get("matrix rate", {}).values()
        if row.get("dtype") == dtype and "flops_per_s" in row
    ]
    return max(rates, default=None)


def best_kernel(earlier: Mapping[str, Mapping[str, Any]], size: str) -> str:
    """The fastest right one of a size, as the section before measured it; else the default."""
    rows: Sequence[Any] = [
        row
        for row in earlier.get("attention", {}).values()
        if row.get("size") == size and row.get("right") and "seconds" in row
    ]
    if not rows:
        return attention.chosen(platform())
    return str(min(rows, key=lambda row: row["seconds"])["kernel"])


def memory_peak() -> int | None:
    """Bytes of the device's memory that this process has had at once; None where it does not tell."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
