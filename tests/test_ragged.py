"""Ragged memory in other libraries' hands."""

from __future__ import annotations

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

from storage.ragged import MemoryArray, RaggedMemory


def ragged(dtype: str = "bfloat16") -> RaggedMemory:
    values = np.arange(24).reshape(6, 4).astype(np.dtype(dtype)).view(MemoryArray)
    return RaggedMemory(passage_ids=np.array([7, 3, 7]), offsets=np.array([0, 1, 4, 6]), values=values)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_torch_and_jax_take_the_values(dtype: str) -> None:
    memory = ragged(dtype)
    tensor = torch.from_dlpack(memory.values)
    assert tensor.dtype == getattr(torch, dtype)
    assert tensor.shape == (6, 4)
    assert tensor.float().tolist() == np.arange(24).reshape(6, 4).tolist()
    memory.values[2, 1] = 99
    assert tensor[2, 1] == 99  # the same memory, not a copy
    array = jnp.asarray(memory.values)
    assert array.dtype == dtype
    np.testing.assert_array_equal(np.asarray(array, np.float32), tensor.float().numpy())


def test_torch_keeps_the_memory_alive() -> None:
    tensor = torch.from_dlpack(ragged().values)
    assert tensor.float().sum() == sum(range(24))


def test_padded_fills_with_zeros_and_says_where() -> None:
    memory = ragged()
    values, mask = memory.padded()
    assert values.shape == (3, 3, 4)
    assert values.dtype == ml_dtypes.bfloat16
    assert mask.tolist() == [[True, False, False], [True, True, True], [True, True, False]]
    np.testing.assert_array_equal(values[1], memory[1])
    assert not values[0, 1:].any()
    assert torch.from_dlpack(values).shape == (3, 3, 4)


def test_padded_cuts_and_widens() -> None:
    values, mask = ragged().padded(2)
    assert mask.tolist() == [[True, False], [True, True], [True, True]]
    np.testing.assert_array_equal(values[1], ragged()[1][:2])
    values, mask = ragged().padded(5)
    assert values.shape == (3, 5, 4)
    assert mask.sum() == 6
    assert ragged().padded(0)[0].shape == (3, 0, 4)
    with pytest.raises(ValueError, match="0 or more"):
        ragged().padded(-1)


def test_items() -> None:
    memory = ragged()
    assert [len(rows) for rows in memory] == [1, 3, 2]
    np.testing.assert_array_equal(memory[-1], memory[2])
    with pytest.raises(IndexError):
        memory[3]
