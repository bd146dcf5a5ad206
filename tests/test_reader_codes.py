"""A codec within the reader: what it reads is what a store gives, and codebooks follow the states."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoders.reader import folder
from encoders.reader.codes import DEAD, Codes, Taken
from encoders.reader.config import preset
from encoders.reader.model import Reader
from encoders.reader.training import Trainer, TrainingSettings
from storage import codecs
from tests.small_models import make_t5_folder
from tests.small_readers import Batch, settings_of, with_score

GLIMMER = {"live_proportion": Fraction(2, 3), "rerank_proportion": Fraction(1, 2)}


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_t5_folder(tmp_path_factory.mktemp("codes") / "t5", decoder=True, layers=3)


def coder(name: str, width: int, seed: int = 0) -> codecs.Coder:
    """Trained on Gaussians."""
    codec = codecs.by_name(name)
    tokens = max(2048, getattr(codec, "fewest_tokens", 0))
    sample = np.random.default_rng(seed).normal(size=(tokens, width)).astype(np.float32)
    return codec.bind(width, codec.train(sample))


def reader_of(t5_folder: Path, name: str | None, **changes: Any) -> Reader:
    shape, layers = folder.read_t5(t5_folder)
    config = preset("glimmer", shape, decoder_layers=layers, **GLIMMER)
    opened = folder.from_t5(t5_folder, settings_of(config))
    given = None if name is None else coder(name, shape.d_model)
    return with_score(Reader(config, opened.tensor, compute_dtype="float32", coder=given, **changes))


def settings(**changes: Any) -> TrainingSettings:
    values: dict[str, Any] = {"selected": 2, "batch": 8, "micro_batch": 8, "dropout": 0.0}
    return TrainingSettings(**values | {"learning_rate": 1e-3} | changes)


def trainer_of(reader: Reader, **changes: Any) -> Trainer:
    return Trainer(reader, settings(**changes), devices=jax.local_devices()[:1])


def books(reader: Reader) -> np.ndarray:
    assert reader.codes is not None
    return reader.codes.stored_parameters()["codebooks"].view(codecs.BFLOAT16.dtype).astype(np.float32)


@pytest.mark.parametrize(
    "name", ["float32", "bfloat16", "float16", "int8", "turbo4", "turbo2", "pq4x4", "pq8x9", "rq16x2"]
)
def test_memory_is_what_the_store_gives(t5_folder: Path, name: str) -> None:
    """To the bit where no token lies between two codes, which at this seed none does."""
    plain, coded = reader_of(t5_folder, None, memory_dtype="float32"), reader_of(t5_folder, name)
    batch = Batch(batch=2)
    states = np.asarray(plain.states(batch.ids, batch.lengths))
    store = coder(name, states.shape[-1])
    rows = states.reshape(-1, states.shape[-1])
    wanted = store.decoded(store.encode(rows)).astype(np.float32)
    found = np.asarray(coded.remember(batch.ids, batch.lengths)).reshape(rows.shape)
    if name in ("float32", "bfloat16", "float16", "pq4x4", "pq8x9", "rq16x2"):
        np.testing.assert_array_equal(found, wanted)
    else:  # the scale of a token is a division, which may round otherwise
        np.testing.assert_allclose(found, wanted, rtol=2**-6, atol=1e-3)


def test_the_gradient_goes_straight_through(t5_folder: Path) -> None:
    codes = Codes(coder("pq8x4", 32))
    h = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5, 32)), jnp.float32)
    weight = jnp.asarray(np.random.default_rng(2).normal(size=(3, 5, 32)), jnp.float32)
    found = jax.grad(lambda x: jnp.sum(codes(x) * weight))(h)
    np.testing.assert_array_equal(found, weight)


def test_taken_is_counted_as_by_brute_force() -> None:
    store = coder("pq8x4", 32)
    codes = Codes(store)
    rng = np.random.default_rng(3)
    h = rng.normal(size=(50, 32)).astype(np.float32)
    real = rng.random(50) < 0.7
    taken = codes.taken(jnp.asarray(h), jnp.asarray(real), jax.random.key(0))
    counts, sums = np.zeros((4, 16)), np.zeros((4, 16, 8))
    for row, stored in zip(h[real], store.encode(h[real]), strict=True):
        for group, code in enumerate(stored):
            counts[group, code] += 1
            sums[group, code] += row[group * 8 : group * 8 + 8]
    np.testing.assert_array_equal(taken.counts, counts)
    np.testing.assert_allclose(taken.sums, sums, rtol=1e-5, atol=1e-5)
    # Drawn are real tokens alone, each in its own group.
    parts = h[real].reshape(-1, 4, 8)
    for group in range(4):
        for drawn in np.asarray(taken.tokens)[group]:
            assert (parts[:, group] == drawn).all(axis=1).any()


def test_steps_take_what_the_steps_before_left() -> None:
    store = coder("rq16x2", 32)
    codes = Codes(store)
    assert codes.follows
    rng = np.random.default_rng(3)
    h = rng.normal(size=(50, 32)).astype(np.float32)
    real = rng.random(50) < 0.7
    taken = codes.taken(jnp.asarray(h), jnp.asarray(real), jax.random.key(0))
    table = store.parameters["codebooks"].view(codecs.BFLOAT16.dtype).astype(np.float32)
    counts, sums = np.zeros((2, 2, 256)), np.zeros((2, 2, 256, 16))
    lefts: dict[tuple[int, int], list[np.ndarray]] = {}
    for row, stored in zip(h[real], store.encode(h[real]).reshape(-1, 2, 2), strict=True):
        for group in range(2):
            left = row[group * 16 : group * 16 + 16].copy()
            for step, code in enumerate(stored[group]):
                counts[group, step, code] += 1
                sums[group, step, code] += left
                lefts.setdefault((group, step), []).append(left.copy())
                left -= table[group, step, code]
    np.testing.assert_array_equal(taken.counts, counts)
    np.testing.assert_allclose(taken.sums, sums, rtol=1e-5, atol=1e-5)
    for (group, step), parts in lefts.items():
        drawn = np.asarray(taken.tokens)[group, step]
        assert (np.abs(drawn[:, None] - np.array(parts)).max(axis=2).min(axis=1) < 1e-5).all()
    before = codes.stored_parameters()["codebooks"].view(codecs.BFLOAT16.dtype).astype(np.float32)
    np.testing.assert_array_equal(before, table)
    codes.followed(taken, 0.5)
    after = codes.stored_parameters()["codebooks"].view(codecs.BFLOAT16.dtype).astype(np.float32)
    # Halfway in weight: a code that had a share of 1 and now has its tokens'.
    unit = 256 / counts.sum(axis=-1, keepdims=True)
    wanted = (table + sums * unit[..., None]) / (1 + counts * unit)[..., None]
    np.testing.assert_allclose(after, wanted, rtol=2**-7, atol=1e-6)


def test_codes_follow_the_means_of_their_tokens_and_dead_ones_move() -> None:
    codes = Codes(coder("pq8x4", 32))
    before = codes.stored_parameters()["codebooks"].view(codecs.BFLOAT16.dtype).astype(np.float64)
    counts = np.full((4, 16), 4.0)
    counts[:, 0] = 0  # taken by none
    sums = np.random.default_rng(4).normal(size=(4, 16, 8)) * counts[..., None]
    tokens = np.full((4, 16, 8), 7.0)
    step = Taken(*(jnp.asarray(x, jnp.float32) for x in (counts, sums, tokens)))
    decay, n, s = 0.5, np.ones((4, 16)), before.copy()
    unit = 16 / counts.sum(axis=1)[:, None]
    for _ in range(8):
        codes.followed(step, decay)
        n, s = decay * n + (1 - decay) * counts * unit, decay * s + (1 - decay) * (sums * unit[..., None])
        if (dead := n < DEAD).any():
            assert dead[:, 0].all()
            assert dead.sum() == 4
            n[dead], s[dead] = 1, 7
    after = codes.stored_parameters()["codebooks"].view(codecs.BFLOAT16.dtype).astype(np.float64)
    np.testing.assert_allclose(after, s / n[..., None], rtol=2**-7)
    np.testing.assert_allclose(after[:, 1:], (sums / np.maximum(counts, 1)[..., None])[:, 1:], atol=0.05)
    nobody = Taken(jnp.zeros((4, 16)), jnp.zeros((4, 16, 8)), jnp.zeros((4, 16, 8)))
    codes.followed(nobody, decay)
    np.testing.assert_array_equal(
        codes.stored_parameters()["codebooks"].view(codecs.BFLOAT16.dtype).astype(np.float64), after
    )


def test_training_moves_the_codes_after_the_states(t5_folder: Path) -> None:
    """After many steps a book is about as near to the states of now as one that is trained on them."""
    reader = reader_of(t5_folder, "pq8x4")
    trainer = trainer_of(reader, code_decay=0.9)
    batch = Batch(batch=8)
    for _ in range(30):
        told = trainer.step(batch.examples())
    now = trainer.reader
    states = np.asarray(now.states(batch.ids, batch.lengths))
    real = np.arange(states.shape[2]) < batch.lengths[:, :, None]

    def error(given: Reader) -> float:
        assert given.codes is not None
        return float(np.square(np.asarray(given.codes(jnp.asarray(states))) - states)[real].mean())

    codec = codecs.by_name("pq8x4")
    fresh = codec.bind(states.shape[-1], codec.train(np.repeat(states[real], 4, axis=0)))
    best = float(
        np.square(fresh.decoded(fresh.encode(states[real])).astype(np.float32) - states[real]).mean()
    )
    assert best < error(now) < 1.1 * best < 0.8 * error(reader)
    assert np.isfinite(told["loss"])
    # The parameters that are saved, bound to the store's codec, decode as the reader's own do.
    assert now.codes is not None
    width = states.shape[-1]
    store = codec.bind(width, now.codes.stored_parameters())
    rows = states[real]
    np.testing.assert_array_equal(
        store.decoded(store.encode(rows)).astype(np.float32), np.asarray(now.codes(jnp.asarray(rows)))
    )


def test_under_a_frozen_encoder_the_codes_stay(t5_folder: Path) -> None:
    reader = reader_of(t5_folder, "pq8x4")
    trainer = trainer_of(reader, memory_encoder="frozen")
    trainer.step(Batch(batch=8).examples())
    np.testing.assert_array_equal(books(trainer.reader), books(reader))


def test_micro_batches_move_the_codes_as_the_batch_does(t5_folder: Path) -> None:
    whole, parts = (trainer_of(reader_of(t5_folder, "pq8x4"), micro_batch=m, code_decay=0.5) for m in (8, 2))
    for seed in range(2):
        for trainer in (whole, parts):
            trainer.step(Batch(batch=8, seed=seed).examples())
    np.testing.assert_allclose(books(whole.reader), books(parts.reader), rtol=2**-6, atol=1e-5)
    assert not np.array_equal(books(whole.reader), books(reader_of(t5_folder, "pq8x4")))


def test_steps_compile_once(t5_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = trainer_of(reader_of(t5_folder, "pq8x4"))
    trainer.step(Batch(batch=8).examples())
    with jax.log_compiles(), caplog.at_level("WARNING"):
        trainer.step(Batch(batch=8, seed=1).examples())
    assert "Compiling" not in caplog.text


def test_a_codec_of_another_width_or_without_memory_is_refused(t5_folder: Path) -> None:
    shape, layers = folder.read_t5(t5_folder)
    fid = preset("fid", shape, decoder_layers=layers)
    opened = folder.from_t5(t5_folder, settings_of(fid))
    with pytest.raises(ValueError, match="codec pq8x4 of width 32 for fid"):
        Reader(fid, opened.tensor, coder=coder("pq8x4", 32))
