"""Codes decoded in PyTorch and JAX: the store's values to the bit, codec by codec, whatever the rows hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy
from torch.utils.data import DataLoader

import memcorpus
import memcorpus.jax
import memcorpus.torch as loading
from encoders import compiling
from storage import codecs, errors
from storage.writer import open_writer
from tests.test_codecs import FAST, WIDTH, coder_of, states

# 8 dimensions to 9 bits take two bytes, of which seven bits are never set.
NAMES = (*FAST, "pq16x4")
# A power of two, and one with an odd part.
WIDTHS = (WIDTH, 96)
TINIEST = np.float32(2.0**-126)


def by_torch(coder: codecs.Coder, stored: np.ndarray) -> np.ndarray:
    decoded = loading.Decoder(coder)(torch.from_numpy(np.array(stored)))
    assert decoded.dtype == getattr(torch, str(coder.codec.dtype))
    if decoded.dtype == torch.bfloat16:
        return np.asarray(decoded.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.asarray(decoded.numpy())


_apply = jax.jit(lambda decode, stored: decode(stored))


def by_jax(coder: codecs.Coder, stored: np.ndarray) -> np.ndarray:
    with jax.numpy_dtype_promotion("strict"):
        return np.asarray(_apply(memcorpus.jax.decoder(coder), jnp.asarray(stored)))


def require_the_bits(coder: codecs.Coder, got: np.ndarray, expected: np.ndarray) -> None:
    assert got.dtype == expected.dtype == coder.codec.dtype
    np.testing.assert_array_equal(got.view(np.uint8), expected.view(np.uint8))


def require_jax(coder: codecs.Coder, got: np.ndarray, expected: np.ndarray) -> None:
    """To the bit, but for what `encoders.quantizing` says of it."""
    assert got.dtype == expected.dtype == coder.codec.dtype
    a, b = got.astype(np.float32), expected.astype(np.float32)
    if coder.codec.kind in ("float", "pq"):  # moved, whatever it is
        require_the_bits(coder, got, expected)
        return
    bound = np.full(b.shape, TINIEST * (coder.width**2 if coder.codec.kind == "turbo" else 1))
    if coder.codec.kind == "turbo" and coder.width & (coder.width - 1):
        bound = np.maximum(
            bound, 2.0**-7 * np.abs(b) + 1e-6 * np.abs(b).max(axis=1, keepdims=True, initial=0)
        )
    wrong = np.argwhere(~((a == b) | (np.abs(a - b) <= bound)))
    told = [(place.tolist(), a[tuple(place)], b[tuple(place)]) for place in wrong[:3]]
    assert not told, f"place, here, in the store: {told} of rows up to {np.abs(b).max(axis=1)}"


rows_of_any_values = hypothesis_numpy.arrays(
    np.float32,
    st.tuples(st.integers(0, 4), st.just(WIDTH)),
    elements=st.floats(-60000, 60000, width=32)
    | st.sampled_from([0.0, -0.0, 1e-40, -1e-30, 60000.0, 2.0**-120]),
)


@pytest.mark.parametrize("name", NAMES)
@given(values=rows_of_any_values)
@example(values=np.zeros((3, WIDTH), np.float32))
@example(values=np.zeros((0, WIDTH), np.float32))
@settings(deadline=None, max_examples=25)
def test_any_values_are_the_stores(name: str, values: np.ndarray) -> None:
    coder = coder_of(name)
    stored = coder.encode(values)
    expected = np.array(coder.decoded(stored))
    require_the_bits(coder, by_torch(coder, stored), expected)
    # One shape, so that it is compiled once.
    padded = np.zeros((4, coder.stored_width), coder.codec.stored_dtype)
    padded[: len(stored)] = stored
    require_jax(coder, by_jax(coder, padded)[: len(stored)], expected)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_states_are_the_stores(name: str, width: int) -> None:
    if name.startswith("pq") and width > WIDTH:
        pytest.skip("its groups know nothing of the width, and training takes time")
    coder = coder_of(name, width)
    values = states(700, width, seed=4)
    values[3] = 0
    values[4] *= np.float32(1e-36)  # near where float32 ends
    if name != "float16":
        values[5] *= np.float32(1e30)
    stored = coder.encode(values)
    expected = np.array(coder.decoded(stored))
    require_the_bits(coder, by_torch(coder, stored), expected)
    require_jax(coder, by_jax(coder, stored), expected)
    # In any number of dimensions, as batches have them.
    cube = loading.Decoder(coder)(torch.from_numpy(stored.reshape(7, 100, -1)))
    assert torch.equal(cube.reshape(700, width), loading.Decoder(coder)(torch.from_numpy(stored)))


@pytest.mark.parametrize("width", [768, 1024])
def test_turbo_at_widths_of_models(width: int) -> None:
    """A program of fifteen stages, which XLA must neither fuse into one nor take minutes to compile."""
    coder = coder_of("turbo4", width)
    stored = coder.encode(states(64, width))
    expected = np.array(coder.decoded(stored))
    require_the_bits(coder, by_torch(coder, stored), expected)
    got = by_jax(coder, stored)
    if width == 1024:
        require_the_bits(coder, got, expected)
    require_jax(coder, got, expected)


def test_codes_that_no_coder_writes() -> None:
    """They are refused on the host, and give NaN on a device: never a value of another code or place."""
    coder = coder_of("pq8x9")
    stored = coder.encode(states(6))
    stored[2, 1] = 512
    with pytest.raises(errors.DamagedError, match="a code of 512 is stored"):
        coder.codec.check_stored(stored, WIDTH)
    coder.codec.check_stored(stored[3:], WIDTH)
    for values in (by_torch(coder, stored), by_jax(coder, stored)):
        wrong = np.isnan(values.astype(np.float32))
        assert wrong[2, 8:16].all()
        assert wrong.sum() == 8
    turbo = coder_of("turbo4")
    stored = turbo.encode(states(6))
    stored[4, -1] = 0x80
    with pytest.raises(errors.DamagedError, match="rows of codec turbo4 here have width 32"):
        turbo.codec.check_stored(stored, WIDTH)
    # The same place twice: the last counts, as in the store.
    stored[1, -8:] = np.array([7, 7, 9, 9], "<u2").view(np.uint8)
    for values in (by_torch(turbo, stored), by_jax(turbo, stored)):
        wrong = np.isnan(values.astype(np.float32))
        assert wrong[4].all()
        assert wrong.sum() == WIDTH
        require_the_bits(turbo, values[:4], turbo.decoded(stored[:4]))


def test_a_decoder_goes_where_a_model_goes() -> None:
    coder = coder_of("int8")
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), loading.Decoder(coder))
    assert set(model.state_dict()) == {"0.weight", "0.bias"}
    stored = torch.from_numpy(coder.encode(states(9)))
    expected = model[1](stored)
    model = model.half().to("cpu")
    assert model[0].weight.dtype == torch.float16
    assert torch.equal(model[1](stored), expected)
    with pytest.raises(memcorpus.CorpusError, match=r"stored rows are torch\.uint8 \[9, 8\], codec int8 has"):
        model[1](stored[:, :8])
    with pytest.raises(memcorpus.CorpusError, match=r"stored rows are torch\.int8"):
        model[1](stored.view(torch.int8))


PASSAGES = 40


def states_of(i: int) -> np.ndarray:
    return states(1 + i % 7, seed=i)


@pytest.fixture(scope="module", params=["bfloat16", "int8", "turbo4", "pq8x9"])
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "c"
    with open_writer(
        folder,
        passages=PASSAGES,
        width=WIDTH,
        max_tokens=7,
        encoder="random",
        codec=request.param,
        shard_passages=16,
        parameters=coder_of(request.param).parameters or None,
    ) as writer:
        for shard in writer.missing():
            writer.write(shard, map(states_of, shard.ids))
        writer.publish()
    return folder


@pytest.mark.parametrize("form", ["packed", "padded"])
def test_torch_loaders_decode_on_the_device(corpus: Path, form: str) -> None:
    most = None if form == "packed" else 5
    collate = loading.Collate(form, max_tokens=most)
    batches: dict[str, list[Any]] = {}
    crossed = {}
    for decode in ("host", "device"):
        data = loading.MemoryDataset(corpus, decode=decode)
        loader = DataLoader(data, batch_size=8, collate_fn=collate)
        crossed[decode] = sum(batch.values.nbytes for batch in loader)
        decoder = data.decoder() if decode == "device" else None
        batches[decode] = list(loading.OnDevice(loader, "cpu", decoder=decoder))
        # Items one by one, put together by the same function.
        assert torch.equal(collate([data[3], data[1]]).values, collate(data.__getitems__([3, 1])).values)
        stream = loading.MemoryStream(corpus, batch_size=8, form=form, max_tokens=most, decode=decode)
        decoder = stream.decoder() if decode == "device" else None
        batches[f"stream, {decode}"] = list(loading.OnDevice(stream, "cpu", decoder=decoder))
    expected = batches.pop("host")
    assert len(expected) == 5
    for found in batches.values():
        for one, other in zip(expected, found, strict=True):
            assert one.values.dtype == other.values.dtype == torch.bfloat16
            for name in ("passage_ids", "values", "offsets" if form == "packed" else "mask"):
                assert torch.equal(getattr(one, name), getattr(other, name)), name
    codec = codecs.by_name(_codec(corpus))
    assert crossed["device"] * 2 * WIDTH == crossed["host"] * codec.token_bytes(WIDTH)


def _codec(corpus: Path) -> str:
    return memcorpus.open(corpus).memory().card.layout.codec.name


def test_jax_batches_decode_on_the_device(corpus: Path) -> None:
    reader = memcorpus.open(corpus).memory()
    asked = [[1, 2, 3], [39, 0, 39], [20, 6, 5]]
    host, device = (
        list(memcorpus.jax.batches_on_device(reader, asked, max_tokens=5, decode=decode))
        for decode in ("host", "device")
    )
    for one, other in zip(host, device, strict=True):
        assert one.passage_ids.tolist() == other.passage_ids.tolist()
        np.testing.assert_array_equal(np.asarray(one.mask), np.asarray(other.mask))
        assert one.values.dtype == other.values.dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.asarray(one.values), np.asarray(other.values))
    with compiling.counted() as programs:  # an epoch more: nothing is compiled again
        list(memcorpus.jax.batches_on_device(reader, asked, max_tokens=5, decode="device"))
    assert programs.compiled == 0
    # By hand, in one call.
    codes = reader.fetch([4, 9], decode=False)
    values = memcorpus.jax.decoder(reader.coder)(jnp.asarray(codes.values))
    np.testing.assert_array_equal(np.asarray(values), reader.fetch([4, 9]).values)
    values = loading.Decoder(reader.coder)(torch.from_dlpack(codes.values))
    assert torch.equal(values, torch.from_dlpack(reader.fetch([4, 9]).values))
    with pytest.raises(memcorpus.CorpusError, match="decode is 'gpu', wanted 'host' or 'device'"):
        next(memcorpus.jax.batches_on_device(reader, asked, max_tokens=5, decode="gpu"))
    with pytest.raises(memcorpus.CorpusError, match="decode is 'gpu', wanted 'host' or 'device'"):
        loading.MemoryDataset(corpus, decode="gpu")


SPLIT = """
import sys
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import memcorpus, memcorpus.jax

reader = memcorpus.open(sys.argv[1]).memory()
mesh = Mesh(np.array(jax.devices()), ("data",))
rows = NamedSharding(mesh, PartitionSpec("data"))
asked = [[1, 2, 3, 4], [39, 0, 39, 7]]
host, device = (
    list(memcorpus.jax.batches_on_device(reader, asked, max_tokens=5, sharding=rows, decode=decode))
    for decode in ("host", "device")
)
for one, other in zip(host, device, strict=True):
    assert other.values.sharding.is_equivalent_to(one.values.sharding, 3), other.values.sharding
    assert len(other.values.sharding.device_set) == 4
    np.testing.assert_array_equal(np.asarray(one.values), np.asarray(other.values))
print("the same on", len(jax.devices()))
"""


@pytest.mark.slow  # a process more for each codec
def test_jax_batches_split_over_devices(corpus: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SPLIT, str(corpus)],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "the same on 4\n", done.stderr
