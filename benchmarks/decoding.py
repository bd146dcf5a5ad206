"""Codes decoded on the host, or behind the bus: bytes that cross, and CPU seconds of a batch, by codec.

    python -m benchmarks.decoding FOLDER [--width 1024] [--passages 256] [--rounds 8]

A corpus of random states is written to FOLDER in every codec. Batches of 16 random passages, padded, go
through PyTorch's loader (`memcorpus.torch`) and JAX's (`memcorpus.jax`), decoded by the store or by the
framework on its device. Both give the same values. The cache is warm; CPU seconds of all threads, the median
of passes, the ways in turns. Where the device is this machine's CPU nothing crosses a bus: bytes are those
that would.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np
import torch
from torch.utils.data import DataLoader

import memcorpus
import memcorpus.jax
import memcorpus.torch
from benchmarks.device.codes import coder_of
from benchmarks.store.report import columns
from benchmarks.timing import interleaved
from storage import codecs
from storage.writer import open_writer

TOKENS: Final = 256
BATCH: Final = 16
HOST, DEVICE = "host", "device"


def states_of(i: int, width: int) -> np.ndarray:
    random = np.random.default_rng(i)
    return random.normal(size=(random.integers(TOKENS // 2, TOKENS + 1), width)).astype(np.float32)


def write(folder: Path, codec: str, width: int, passages: int) -> Path:
    where = folder / codec
    with open_writer(
        where,
        passages=passages,
        width=width,
        max_tokens=TOKENS,
        encoder="random",
        codec=codec,
        parameters=coder_of(codec, width).parameters or None,
    ) as writer:
        for shard in writer.missing():
            writer.write(shard, (states_of(i, width) for i in shard.ids))
        writer.publish()
    return where


def by_torch(where: Path, decode: str, order: list[int]) -> Iterator[tuple[Any, int]]:
    """Values on the device, and bytes that crossed, batch by batch."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = memcorpus.torch.MemoryDataset(where, order, decode=decode)
    loader = DataLoader(
        data, batch_size=BATCH, collate_fn=memcorpus.torch.Collate("padded", max_tokens=TOKENS)
    )
    decoder = data.decoder().to(device) if decode == DEVICE else None
    for batch in loader:
        sent = batch.to(device)
        yield (sent if decoder is None else sent.decoded(decoder)).values, batch.values.nbytes


def by_jax(where: Path, decode: str, order: list[int]) -> Iterator[tuple[Any, int]]:
    reader = memcorpus.open(where).memory()
    row = reader.card.layout.row_bytes if decode == DEVICE else 2 * reader.width
    batches = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
    for batch in memcorpus.jax.batches_on_device(reader, batches, max_tokens=TOKENS, decode=decode):
        yield batch.values, BATCH * TOKENS * row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--passages", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5, help="passes over the passages")
    parser.add_argument(
        "--codecs", nargs="+", default=["bfloat16", "int8", "turbo4", "turbo2", "pq8x8", "rq64x8"]
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    order = np.random.default_rng(0).permutation(asked.passages).tolist()
    print(f"torch on {'cuda' if torch.cuda.is_available() else 'cpu'}, jax on {jax.default_backend()}")
    rows = [
        ["", "MB of a batch", *(f"{kind}, {at}, ms" for kind in ("torch", "jax") for at in (HOST, DEVICE))]
    ]
    for name in asked.codecs:
        where = write(asked.folder, codecs.by_name(name).name, asked.width, asked.passages)
        ways = {
            f"{kind}, {decode}": partial(function, where, decode, order)
            for kind, function in (("torch", by_torch), ("jax", by_jax))
            for decode in (HOST, DEVICE)
        }
        crossed: dict[str, int] = {}
        first: dict[str, np.ndarray] = {}

        def run(way: str, ways: Any = ways, crossed: Any = crossed, first: Any = first) -> None:
            for values, size in ways[way]():
                crossed[way] = size
                if not isinstance(values, torch.Tensor):
                    values.block_until_ready()
                elif values.is_cuda:
                    torch.cuda.synchronize()
                if way not in first:
                    on_host = values.float().cpu() if isinstance(values, torch.Tensor) else values
                    first[way] = np.asarray(on_host, np.float32)

        # Whole passes: what reads ahead for one is not to be counted as another's.
        seconds = interleaved({way: partial(run, way) for way in ways}, asked.rounds, clock=time.process_time)
        for way, values in first.items():
            np.testing.assert_allclose(values, first["torch, host"], rtol=2.0**-7, atol=1e-5, err_msg=way)
        batches = -(-asked.passages // BATCH)
        sizes = [crossed[f"torch, {decode}"] / 1e6 for decode in (HOST, DEVICE)]
        medians = [f"{1e3 * statistics.median(values) / batches:.1f}" for values in seconds.values()]
        rows.append([name, f"{sizes[0]:.2f} to {sizes[1]:.2f}", *medians])
    print(columns(rows))


if __name__ == "__main__":
    main()
