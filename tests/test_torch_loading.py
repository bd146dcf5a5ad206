"""PyTorch's DataLoader over memory: values are the store's, whatever the workers; nothing hangs or leaks."""

from __future__ import annotations

import gc
import pickle
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import memcorpus
import memcorpus.jax
import memcorpus.torch as loading
from storage.writer import open_writer
from tests.commands import program

PASSAGES = 150


def states_of(i: int) -> np.ndarray:
    return np.random.default_rng(i).normal(size=(1 + i % 11, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("states") / "c"
    with open_writer(
        folder, passages=PASSAGES, width=8, max_tokens=11, encoder="random", shard_passages=32
    ) as writer:
        for shard in writer.missing():
            writer.write(shard, map(states_of, shard.ids))
        writer.publish()
    return folder


@pytest.mark.parametrize(
    ("form", "method", "workers"),
    [
        ("map", "fork", 0),
        ("stream", "fork", 0),
        ("map", "fork", 2),
        ("stream", "fork", 2),
        pytest.param("map", "spawn", 2, marks=pytest.mark.slow),  # each worker imports torch: 20 s
        ("stream", "spawn", 1),
    ],
)
def test_a_loader_gives_every_passage_as_the_store_has_it(
    states: Path, form: str, method: str, workers: int
) -> None:
    asked = ("tests.torch_reading", form, method, workers, states)
    status, said = program(*asked, seconds=200, OMP_NUM_THREADS="1")
    assert said.endswith(f"{PASSAGES} passages, each 3 times\n"), (status, said)


def test_items_and_what_other_collates_make_of_them(states: Path) -> None:
    chosen = [9, 3, 3, 140]
    data = loading.MemoryDataset(states, chosen)
    assert len(data) == 4
    assert [item["passage_id"] for item in data] == chosen  # ends by IndexError
    np.testing.assert_array_equal(data[-1]["values"].float(), states_of(140).astype("bfloat16").astype("f4"))
    with pytest.raises(IndexError, match="place 4 is outside the 4"):
        data[4]
    whole = data.__getitems__([0, 1, 3])
    assert len(whole) == 3
    # As a sampler's batch in one fetch, or item by item: the same batches.
    for form, most in (("packed", None), ("padded", None), ("padded", 4)):
        collate = loading.Collate(form, max_tokens=most)
        one, other = collate(whole), collate([data[0], data[1], data[3]])
        assert type(one) is type(other)
        for name in ("passage_ids", "values", "offsets" if form == "packed" else "mask"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
            assert getattr(one, name).dtype == getattr(other, name).dtype
    shuffled = DataLoader(
        loading.MemoryDataset(states),
        batch_size=16,
        shuffle=True,
        generator=torch.Generator().manual_seed(3),
        collate_fn=loading.Collate(),
    )
    found = torch.cat([batch.passage_ids for batch in shuffled]).tolist()
    assert sorted(found) == list(range(PASSAGES)) != found


def test_shuffled_streams_and_their_parts(states: Path) -> None:
    def order(epoch: int, part: int = 0, parts: int = 1) -> list[list[int]]:
        stream = loading.MemoryStream(
            states, range(0, 150, 2), batch_size=10, shuffle=True, seed=5, part=part, parts=parts
        )
        stream.set_epoch(epoch)
        batches = [batch.passage_ids.tolist() for batch in stream]
        assert len(stream) == len(batches)
        return batches

    first = order(0)
    assert first == order(0) != order(1)
    assert (
        sorted(chain.from_iterable(first)) == sorted(chain.from_iterable(order(1))) == list(range(0, 150, 2))
    )
    assert [len(batch) for batch in first] == [10] * 7 + [5]
    assert order(0, 0, 2) == first[::2]
    assert order(0, 1, 2) == first[1::2]


def test_a_reader_and_a_corpus_travel_to_another_process(states: Path) -> None:
    corpus = memcorpus.open(states)
    reader = corpus.memory(check="always")
    again = pickle.loads(pickle.dumps(reader))
    assert (again.version, again._check, again.passages) == (reader.version, "always", PASSAGES)
    np.testing.assert_array_equal(again.fetch([4, 9]).values, reader.fetch([4, 9]).values)
    assert len(pickle.dumps(reader)) < 1000
    assert pickle.loads(pickle.dumps(corpus)).passages([3]).num_rows == 1


def test_a_dataset_stays_at_the_version_it_was_made_with(states: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(states, tmp_path / "c")
    data = loading.MemoryDataset(folder)
    with open_writer(folder, width=8, max_tokens=11, encoder="other", shard_passages=32) as writer:
        for shard in writer.missing():
            writer.write(shard, (states_of(i) + 1 for i in shard.ids))
        assert writer.publish(use=True) != data.version
    again = pickle.loads(pickle.dumps(data))
    assert again.version == data.version != loading.MemoryDataset(folder).version
    np.testing.assert_array_equal(again[3]["values"].float(), states_of(3).astype("bfloat16").astype("f4"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c: loading.MemoryDataset(c, [150]), "unknown passage id 150"),
        (lambda c: loading.MemoryDataset(c, version="x"), "no memory version 'x'"),
        (lambda c: loading.MemoryDataset(c / "none"), "holds no corpus"),
        (lambda c: loading.MemoryStream(c, batch_size=0), "batch_size is 0"),
        (lambda c: loading.MemoryStream(c, batch_size=1, part=2, parts=2), "part is 2 of 2"),
        (lambda c: loading.MemoryStream(c, batch_size=1, form="flat"), "form of batches is 'flat'"),
        (lambda c: loading.Collate("packed", max_tokens=3), "of padded batches"),
        (lambda c: loading.Collate("padded", max_tokens=0), "max_tokens is 0"),
    ],
)
def test_what_makes_no_dataset(states: Path, make: Any, message: str) -> None:
    with pytest.raises(memcorpus.CorpusError, match=message):
        make(states)


def test_memory_for_jax(states: Path) -> None:
    reader = memcorpus.open(states).memory()
    batches = [[1, 2, 3], [149, 0, 149], [7, 8, 9], [20, 10, 5]]
    found = list(memcorpus.jax.batches_on_device(reader, batches, max_tokens=6, ahead=2))
    assert [batch.passage_ids.tolist() for batch in found] == batches
    for batch, ids in zip(found, batches, strict=True):
        values, mask = reader.fetch(ids).padded(6)
        np.testing.assert_array_equal(np.asarray(batch.values), values)
        np.testing.assert_array_equal(np.asarray(batch.mask), mask)
    with pytest.raises(memcorpus.CorpusError, match="ahead is 0"):
        next(memcorpus.jax.batches_on_device(reader, batches, max_tokens=6, ahead=0))


@pytest.mark.slow
def test_nothing_grows_with_what_is_fetched(states: Path) -> None:
    """100,000 fetches: neither open files, nor threads, nor resident memory."""
    import threading

    import psutil

    data = loading.MemoryDataset(states)
    collate = loading.Collate("padded", max_tokens=11)
    random = np.random.default_rng(0)
    process = psutil.Process()

    def fetch(times: int) -> tuple[int, int, int]:
        for _ in range(times):
            collate(data.__getitems__(random.integers(0, PASSAGES, 4).tolist()))
        gc.collect()
        return process.memory_info().rss, process.num_fds(), threading.active_count()

    before = fetch(5_000)
    after = fetch(100_000)
    assert after[0] - before[0] < 8 << 20
    assert after[1:] == before[1:]
