"""Samples a second through PyTorch's DataLoader: memory, a folder of safetensors, and one np.memmap.

    python -m benchmarks.loaders FOLDER [--samples 2000] [--workers 0 2]

FOLDER gets the same random states [32 to 160 tokens, 2048] in bfloat16 three times. Batches of 16, drawn at
random, are padded; torch has one thread, as in its workers. The cache is warm; medians of three passes.
Without workers seconds are of CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler

from memcorpus.torch import Collate, MemoryDataset
from storage.writer import open_writer

WIDTH, BATCH, PASSES = 2048, 16, 3


def states_of(i: int) -> np.ndarray:
    random = np.random.default_rng(i)
    rows = random.integers(32, 161)
    return random.normal(size=(rows, WIDTH)).astype(np.float32).astype(ml_dtypes.bfloat16)


class Safetensors(Dataset):  # type: ignore[misc,type-arg]
    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.safetensors"), key=lambda path: int(path.stem))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"passage_id": i, "values": load_file(self.paths[i])["hidden_states"]}


class Memmap(Dataset):  # type: ignore[misc,type-arg]
    def __init__(self, folder: Path) -> None:
        self.offsets = np.load(folder / "offsets.npy")
        self.values = np.memmap(folder / "values.bin", np.int16, "r").reshape(-1, WIDTH)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> dict[str, Any]:
        rows = np.array(self.values[self.offsets[i] : self.offsets[i + 1]])
        return {"passage_id": i, "values": torch.from_numpy(rows).view(torch.bfloat16)}


def make(folder: Path, samples: int) -> dict[str, Any]:
    """The three stores, where they are not there."""
    single = folder / "safetensors"
    if not single.exists():
        single.mkdir(parents=True)
        offsets = [0]
        with (folder / "values.bin").open("wb") as file:
            for i in range(samples):
                values = states_of(i)
                save_file({"hidden_states": values}, single / f"{i}.safetensors")
                file.write(values.tobytes())
                offsets.append(offsets[-1] + len(values))
        np.save(folder / "offsets.npy", np.array(offsets))
    found: dict[str, Any] = {"safetensors": Safetensors(single), "np.memmap": Memmap(folder)}
    for codec in ("bfloat16", "int8"):
        where = folder / f"corpus-{codec}"
        with open_writer(
            where,
            passages=samples,
            width=WIDTH,
            max_tokens=160,
            encoder="random",
            codec=codec,
            sample=np.concatenate([states_of(i) for i in range(64)]),
        ) as writer:
            for shard in writer.missing():
                writer.write(shard, map(states_of, shard.ids))
            writer.publish()
        found[f"memcorpus {codec}"] = MemoryDataset(where)
    return found


def rate(data: Any, workers: int, seed: int) -> float:
    loader = DataLoader(
        data,
        batch_size=BATCH,
        sampler=SubsetRandomSampler(range(len(data)), torch.Generator().manual_seed(seed)),
        num_workers=workers,
        collate_fn=Collate("padded", max_tokens=160),
        multiprocessing_context="fork" if workers else None,
    )
    batches = iter(loader)
    count = len(next(batches))  # workers start, and files are opened
    # Without workers all is done in this process, whose CPU time tells more on a shared machine.
    clock = time.perf_counter if workers else time.process_time
    begun = clock()
    for batch in batches:
        count += len(batch)
    assert count == len(data)
    return (count - BATCH) / (clock() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    contenders = make(asked.folder, asked.samples)
    print(f"{'':22}" + "".join(f"{f'{workers} workers':>14}" for workers in asked.workers))
    found: dict[tuple[str, int], list[float]] = {}
    for number in range(PASSES + 1):
        for name, data in contenders.items():
            for workers in asked.workers:
                measured = rate(data, workers, number)
                if number:  # the first pass warms the cache
                    found.setdefault((name, workers), []).append(measured)
    for name in contenders:
        medians = (statistics.median(found[name, workers]) for workers in asked.workers)
        print(f"{name:22}" + "".join(f"{median:12,.0f}/s" for median in medians))


if __name__ == "__main__":
    main()
