"""Every attention kernel against the formula in float64, and the encoder by each of them.

Kernels for NVIDIA GPUs run here in XLA's operations, or are lowered for CUDA: what Triton and cuDNN refuse by
shape or type is refused then.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoders import attention, batching, inference, sharding
from encoders.memory_spec import MAX_TOKENS
from encoders.t5_config import PUBLISHED_SIZES
from tests import small_models
from tests.test_inference import fast, memory
from tests.test_t5 import distance, hf_config, texts

RUN_HERE = {
    attention.ROW_BY_ROW: attention.row_by_row,
    attention.AT_ONCE: attention.at_once,
    attention.CUDNN: functools.partial(attention.by_jax, implementation="xla"),
    attention.PALLAS: functools.partial(attention.tiled, interpret=True),
}


def test_every_kernel_is_tried_here() -> None:
    assert set(RUN_HERE) == set(attention.KERNELS)
    assert set(attention.CHOSEN.values()) <= set(attention.KERNELS)
    assert attention.chosen("cpu") == attention.ROW_BY_ROW
    assert attention.chosen("something new") == attention.AT_ONCE


def exact(qkv: np.ndarray, lengths: np.ndarray, bias: np.ndarray, d_kv: int) -> list[np.ndarray]:
    """[length, heads * d_kv] of each row, in float64."""
    found = []
    for row, length in zip(qkv.astype(np.float64), lengths, strict=True):
        q, k, v = row[:length].reshape(length, 3, -1, d_kv).transpose(1, 2, 0, 3)
        scores = np.einsum("hqd,hkd->hqk", q, k) + bias[:, :length, :length]
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        found.append(np.einsum("hqk,hkd->qhd", shares, v).reshape(length, -1))
    return found


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 3e-6), ("bfloat16", 0.02)])
@pytest.mark.parametrize("name", list(RUN_HERE))
def test_a_kernel_is_the_formula(name: str, dtype: str, bound: float) -> None:
    """Rows of one token, of a tile and a token more, and full ones; some batches are shorter than a tile."""
    for rows, tokens, heads, d_kv, lengths in (
        (4, 2 * attention.TILE + 8, 2, 16, [1, attention.TILE, attention.TILE + 1, 136]),
        (2, 24, 3, 32, [24, 7]),
    ):
        random = np.random.default_rng(tokens)
        qkv = random.normal(size=(rows, tokens, 3, heads * d_kv)).astype(np.float32)
        qkv = np.array(jnp.asarray(qkv, dtype).astype(jnp.float32))  # what the type holds
        bias = random.normal(size=(heads, tokens, tokens)).astype(np.float32)
        expected = exact(qkv, np.array(lengths), bias, d_kv)
        for row, length in enumerate(lengths):
            qkv[row, length:] = 1e4  # what stands in the padding must not matter
        real = np.arange(tokens) < np.array(lengths)[:, None]
        got = RUN_HERE[name](jnp.asarray(qkv, dtype), jnp.asarray(real), bias=jnp.asarray(bias), d_kv=d_kv)
        assert got.dtype == dtype
        assert got.shape == (rows, tokens, heads * d_kv)
        for row, wanted in enumerate(expected):
            error = np.abs(np.asarray(got[row, : len(wanted)], np.float32) - wanted).max()
            assert error / np.abs(wanted).max() < bound
        assert np.isfinite(np.asarray(got, np.float32)).all()


@pytest.mark.parametrize("name", [attention.CUDNN, attention.PALLAS])
def test_the_encoder_by_kernels_for_gpus(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "KERNELS", RUN_HERE)
    config = hf_config(d_kv=16, num_layers=2)
    encoder = fast(config, small_models.random_t5(config), layers=2)
    ids, lengths = texts(3, 70, config.vocab_size)
    mesh, kind = encoder.mesh, encoder.compute_dtype
    run = inference.program(
        encoder.config, 2, compute_dtype=kind, mesh=mesh, finish=lambda h, real: h, kernel=name
    )
    got = np.asarray(run(encoder.weights, ids, lengths))
    assert distance(got, memory(encoder, ids, lengths), lengths)[0] < 1e-5


def lowered(kernel: Any, rows: int, tokens: int, heads: int, dtype: str, d_kv: int = 64) -> str:
    qkv = jax.ShapeDtypeStruct((rows, tokens, 3, heads * d_kv), dtype)
    real = jax.ShapeDtypeStruct((rows, tokens), jnp.bool_)
    bias = jax.ShapeDtypeStruct((heads, tokens, tokens), jnp.float32)
    function = jax.jit(lambda qkv, real, bias: kernel(qkv, real, bias=bias, d_kv=d_kv))
    return str(function.trace(qkv, real, bias).lower(lowering_platforms=("cuda",)).as_text())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_pallas_kernel_is_one_for_cuda(dtype: str) -> None:
    lengths = batching.bucket_lengths(MAX_TOKENS)
    for tokens, heads in ((lengths[0], 6), (lengths[-2], 32), (MAX_TOKENS, 64)):
        assert "xla.gpu.triton" in lowered(attention.tiled, 3, tokens, heads, dtype)
    with pytest.raises(ValueError, match="heads are 8 wide"):
        attention.tiled(jnp.zeros((1, 4, 3, 8)), jnp.ones((1, 4), bool), bias=jnp.zeros((1, 4, 4)), d_kv=8)


def test_cudnn_takes_our_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    # What asks the library and the card that are not here.
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91200)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(cudnn, "is_cuda_compute_capability_equal", lambda capability: False)
    kernel = attention.kernel(attention.CUDNN)
    for size in PUBLISHED_SIZES.values():
        program = lowered(kernel, 3, MAX_TOKENS, size.heads, "bfloat16", size.d_kv)
        assert "cudnn$fmhaScaleBiasSoftmax" in program
        assert "PADDING" in program
    with pytest.raises(NotImplementedError, match="fp16/bf16"):
        lowered(kernel, 3, MAX_TOKENS, 4, "float32")


def test_an_unknown_kernel() -> None:
    config = PUBLISHED_SIZES["small"]
    mesh = sharding.mesh_for(config, 1, "float32")
    with pytest.raises(ValueError, match="unknown attention kernel 'flash'; known are row by row, at once"):
        inference.program(
            config, 1, compute_dtype="float32", mesh=mesh, finish=lambda h, real: h, kernel="flash"
        )
