"""A program that reads a corpus by `memcorpus.torch` and compares every value with the store's.

    python -m tests.torch_reading FORM METHOD WORKERS CORPUS

FORM is "map" or "stream", METHOD "fork" or "spawn". The corpus has been read from when workers start.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

import memcorpus
import memcorpus.torch as loading

BATCH = 7


def check(batch: Any, reader: Any) -> list[int]:
    """The ids of a batch whose values are the store's; raises where they are not."""
    ids = batch.passage_ids.tolist()
    wanted = reader.fetch(ids)
    values = np.asarray(wanted.values, np.float32)
    if isinstance(batch, loading.PackedMemory):
        np.testing.assert_array_equal(batch.offsets.numpy(), wanted.offsets)
        np.testing.assert_array_equal(batch.values.float().numpy(), values)
    else:
        padded, mask = wanted.padded(batch.values.shape[1])
        np.testing.assert_array_equal(batch.mask.numpy(), mask)
        np.testing.assert_array_equal(batch.values.float().numpy(), np.asarray(padded, np.float32))
    assert batch.values.dtype == torch.bfloat16
    return [int(i) for i in ids]


def main(form: str, method: str, workers: str, where: str) -> None:
    reader = memcorpus.open(where).memory()
    reader.fetch(range(20))  # so that threads, pools and buffers are there at the fork
    count = int(workers)
    options: dict[str, Any] = {"num_workers": count, "timeout": 60 if count else 0}
    if count:
        options["multiprocessing_context"] = method
    seen: list[list[int]] = []
    for kind, most in (("packed", None), ("padded", None), ("padded", 5)):
        if form == "map":
            data = loading.MemoryDataset(where)
            loader = DataLoader(
                data, batch_size=BATCH, collate_fn=loading.Collate(kind, max_tokens=most), **options
            )
        else:
            stream = loading.MemoryStream(where, batch_size=BATCH, form=kind, max_tokens=most)
            loader = DataLoader(stream, batch_size=None, **options)
        seen.append([i for batch in loading.OnDevice(loader, "cpu") for i in check(batch, reader)])
    whole = list(range(reader.passages))
    assert seen == [whole] * 3, [len(ids) for ids in seen]
    print(f"{len(whole)} passages, each 3 times", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
