"""What the device is, how fast it multiplies, and how fast bytes leave it for the host and the disk."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from benchmarks.device import work
from benchmarks.device.boxes import Box, Row
from benchmarks.store.writing import plain_write
from storage import files
from storage.writer import open_writer

MIB: Final = 1 << 20


def device(box: Box) -> None:
    """What jax sees."""
    first = jax.devices()[0]
    stats = first.memory_stats() or {}
    box.put(
        "device",
        {
            "platform": first.platform,
            "kind": first.device_kind,
            "devices": len(jax.devices()),
            "memory_bytes": stats.get("bytes_limit"),
        },
    )


def matrix_rate(box: Box) -> None:
    """Products [tokens, n] x [n, n], a chain of them in one program; the best is what the card can do."""
    tiny = box.settings["tiny"]
    sides = (128, 256, 512) if tiny else (1024, 2048, 4096, 8192)
    rows = (256, 1024) if tiny else (4096, 16_384, 65_536)
    # From the middle out: the best first, should time run out.
    shapes = sorted(((m, n) for m in rows for n in sides), key=lambda shape: -shape[0] * shape[1] ** 2)
    for m, n in shapes:
        box.entry(f"bfloat16, {m:,} x {n:,} x {n:,}", lambda m=m, n=n: _product(box, m, n, "bfloat16"))
    m, n = shapes[0]
    box.entry(f"float32 in full, {m:,} x {n:,} x {n:,}", lambda: _product(box, m, n, "float32"))


def _product(box: Box, m: int, n: int, dtype: str) -> Row:
    x = jax.random.normal(jax.random.key(0), (m, n), dtype)
    matrix = jax.random.normal(jax.random.key(1), (n, n), jnp.float32) * n**-0.5
    precision = lax.Precision.HIGHEST if dtype == "float32" else None

    @jax.jit
    def chain(x: Any, matrix: Any, count: Any) -> Any:
        def once(_: Any, x: Any) -> Any:
            wide = jnp.matmul(x, matrix, precision=precision, preferred_element_type=jnp.float32)
            return wide.astype(x.dtype)

        return lax.fori_loop(0, count, once, x)

    matrix = matrix.astype(dtype)
    one = work.seconds_of(box, lambda: chain(x, matrix, 2)) / 2
    count = int(max(2, min(10_000, box.settings["timing"] / 2 / one)))
    seconds = work.seconds_of(box, lambda: chain(x, matrix, count)) / count
    return {"dtype": dtype, "seconds": seconds, "flops_per_s": 2.0 * m * n * n / seconds}


def transfers(box: Box) -> None:
    """Host to device and back, and the corpus's writer beside one plain file."""
    for mib in (1, 8) if box.settings["tiny"] else (16, 64, 256):
        box.entry(f"device to host, {mib} MiB", lambda mib=mib: _to_host(mib, 1))
        box.entry(f"device to host, {mib} MiB, two under way", lambda mib=mib: _to_host(mib, 2))
        box.entry(f"host to device, {mib} MiB", lambda mib=mib: _to_device(box, mib))
    with tempfile.TemporaryDirectory(prefix="memcorpus-rates-", dir=box.settings["folder"]) as name:
        folder = Path(name)
        states = _states(box)
        box.entry("plain write() + fsync", lambda: _plain(folder, states))
        box.entry("memcorpus's writer, bfloat16", lambda: _writer(folder, states, "bfloat16"))


def _to_host(mib: int, under_way: int) -> Row:
    rows = 4 * under_way
    fresh = jax.jit(lambda x, i: x + i)
    base = jnp.zeros((mib * MIB // 2,), jnp.bfloat16)
    # Each an array of its own: jax keeps what came to the host of one.
    arrays = [jax.block_until_ready(fresh(base, i)) for i in range(rows)]
    np.asarray(fresh(base, rows))
    begun = time.perf_counter()
    for at, array in enumerate(arrays):
        for later in arrays[at : at + under_way]:
            later.copy_to_host_async()
        np.asarray(array)
    seconds = (time.perf_counter() - begun) / rows
    return {"seconds": seconds, "bytes_per_s": mib * MIB / seconds}


def _to_device(box: Box, mib: int) -> Row:
    values = np.zeros(mib * MIB // 2, ml_dtypes.bfloat16)
    seconds = work.seconds_of(box, lambda: jax.device_put(values))
    return {"seconds": seconds, "bytes_per_s": mib * MIB / seconds}


def _states(box: Box) -> np.ndarray:
    """Of passages [passages, tokens, d], whose bytes no disk compresses."""
    shape = (64, 64, 64) if box.settings["tiny"] else (1024, 256, 1024)
    some = np.random.default_rng(0).normal(size=(1 << 16) + 3).astype(np.float32).astype(ml_dtypes.bfloat16)
    return np.resize(some, shape)


def _plain(folder: Path, states: np.ndarray) -> Row:
    begun = time.perf_counter()
    plain_write(folder / "plain", files.bytes_of(states))
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "bytes_per_s": states.nbytes / seconds}


def _writer(folder: Path, states: np.ndarray, codec: str) -> Row:
    """From arrays to the published version: checksums, files, fsync, cards."""
    passages, tokens, width = states.shape
    begun = time.perf_counter()
    with open_writer(
        folder / "corpus", passages=passages, width=width, max_tokens=tokens, encoder="random", codec=codec
    ) as writer:
        for shard in writer.missing():
            writer.write(shard, states[shard.ids.start : shard.ids.stop])
        writer.publish()
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "bytes_per_s": states.nbytes / seconds}
