"""Training a RETRO: micro-batches, what is frozen stays to the bit, and that neighbours are learned from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from encoders import errors
from encoders.retro import tensors
from encoders.retro.config import RetroConfig
from encoders.retro.loss import token_losses
from encoders.retro.model import Retro
from encoders.retro.rows import Neighbours, Rows
from encoders.retro.training import RetroTrainer, RetroTraining
from tests import small_retro
from tests.small_retro import K, L, M, config, logits, make, retrieved


def settings(**changes: Any) -> RetroTraining:
    values: dict[str, Any] = {"steps": 20, "warmup": 1, "batch": 2, "micro_batch": 2, "learning_rate": 1e-3}
    return RetroTraining(**values | changes)


def weights_of(model: Retro) -> tuple[dict[str, bytes], dict[str, bytes]]:
    language, extra = tensors.named(model)
    return (
        {name: tensor.tobytes() for name, tensor in language.items()},
        {name: tensor.tobytes() for name, tensor in extra.items()},
    )


def trained(
    chosen: RetroConfig, steps: int = 3, **changes: Any
) -> tuple[RetroTrainer, list[dict[str, float]]]:
    trainer = RetroTrainer(make(chosen), settings(**changes), devices=jax.local_devices()[:1])
    told = []
    for step in range(steps):
        rows = small_retro.batch(seed=step)
        found = None if trainer.settings.learns == "language" else retrieved(chosen, seed=step)
        told.append(trainer.step(rows, found))
    return trainer, told


@pytest.mark.parametrize("encoding", ["conditioned", "stored"])
def test_retro_fitting_leaves_the_language_model_to_the_bit(encoding: str) -> None:
    chosen = config(encoding)
    before = weights_of(make(chosen))
    trainer, _ = trained(chosen, learns="retrieval", dropout=0.1)
    after = weights_of(trainer.model)
    assert before[0] == after[0]
    assert {name for name in before[1] if before[1][name] == after[1][name]} == set()
    rows = small_retro.batch()
    np.testing.assert_array_equal(logits(make(chosen), rows, None), logits(trainer.model, rows, None))


def test_a_shared_embedding_is_frozen_with_the_language_model() -> None:
    import dataclasses

    encoder = dataclasses.replace(small_retro.ENCODER, d_model=16, shared_embedding=True)
    chosen = config(encoder=encoder)
    before = weights_of(make(chosen))
    after = weights_of(trained(chosen, learns="retrieval")[0].model)
    assert before[0] == after[0]


def test_the_language_model_alone_leaves_the_rest_to_the_bit() -> None:
    chosen = config()
    before = weights_of(make(chosen))
    after = weights_of(trained(chosen, learns="language")[0].model)
    assert before[1] == after[1]
    assert {name for name in before[0] if before[0][name] == after[0][name]} == set()


def test_micro_batches_add_up_to_the_batch() -> None:
    """Weighed by their targets, of which the two rows have unequally many."""
    chosen = config()
    rows = small_retro.batch()
    assert len(set((rows.targets >= 0).sum(1).tolist())) == 2
    found = {micro: trained(chosen, steps=1, micro_batch=micro) for micro in (2, 1)}
    assert found[2][1][0] == pytest.approx(found[1][1][0], rel=1e-4)
    # Adam's moments are the gradient's own; a step divides by its size, also where that is rounding.
    whole, parts = (jax.tree.leaves(found[micro][0].state.optimizer) for micro in (2, 1))
    largest = max(float(np.abs(leaf).max()) for leaf in whole if leaf.ndim)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-5 * largest, rtol=1e-3)


def test_the_loss_is_the_mean_over_targets() -> None:
    chosen = config()
    rows, found = small_retro.batch(), retrieved(chosen)
    model = make(chosen)
    each = np.asarray(token_losses(logits(model, rows, found), rows.targets))
    trainer = RetroTrainer(model, settings(), devices=jax.local_devices()[:1])
    told = trainer.step(rows, found)
    assert told["loss"] == pytest.approx(each.sum() / (rows.targets >= 0).sum(), rel=1e-5)
    assert told["tokens"] == (rows.targets >= 0).sum()


@pytest.mark.parametrize("encoding", ["conditioned", "unconditioned", "stored", "vectors"])
def test_it_learns_to_copy_from_its_neighbours(encoding: str) -> None:
    """The next chunk is random and stands in a neighbour's continuation: it can be told from there alone."""
    chosen = config(encoding, neighbour_tokens=2 * M)
    learns = settings(steps=150, warmup=5, batch=32, micro_batch=32, learning_rate=1e-2, weight_decay=0.0)
    trainer = RetroTrainer(make(chosen), learns, devices=jax.local_devices()[:1])
    table = np.random.default_rng(9).normal(0, 1, (small_retro.VOCAB, chosen.width)).astype(np.float32)
    losses = {"on": [], "off": []}
    for step in range(150):
        rows, found = copied(chosen, table, step)
        losses["on"].append(trainer.step(rows, found)["loss"])
    rows, found = copied(chosen, table, 1000)
    model = trainer.model
    on, off = (
        np.asarray(token_losses(logits(model, rows, f), rows.targets)).sum() / (rows.targets >= 0).sum()
        for f in (found, None)
    )
    chance = np.log(8)
    assert off > chance - 0.1
    assert on < 0.75 * chance, (encoding, on, losses["on"][-1])


def copied(chosen: RetroConfig, table: np.ndarray, seed: int) -> tuple[Rows, Neighbours]:
    """Rows of random tokens, of eight kinds, with neighbours whose continuation is the next chunk."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, 11, (32, (L + 1) * M)).astype(np.int32)
    inputs, targets = tokens[:, : L * M], tokens[:, 1 : L * M + 1].copy()
    # Within the first chunk nothing was retrieved.
    targets[:, : M - 1] = -1
    shape = (32, L)
    rows = Rows(
        tokens=inputs,
        lengths=np.full(shape, M, np.int32),
        documents=np.zeros(shape, np.int32),
        targets=targets,
    )
    chunks = tokens.reshape(32, L + 1, M)
    pair = np.concatenate([chunks[:, :-1], chunks[:, 1:]], 2)[:, :, None].repeat(K, 2)
    real = np.ones(pair.shape, bool)
    if chosen.encodes:
        return rows, Neighbours(tokens=pair, states=None, real=real)
    return rows, Neighbours(tokens=None, states=table[pair], real=real)


def test_a_loss_that_is_not_finite_stops_it() -> None:
    chosen = config("stored")
    trainer = RetroTrainer(make(chosen), settings(), devices=jax.local_devices()[:1])
    found = retrieved(chosen)
    assert found.states is not None
    found.states[:] = np.inf
    with pytest.raises(errors.DivergedError, match="weights whole"):
        trainer.step(small_retro.batch(), found)
    assert int(trainer.state.step) == 0


def test_the_rate_rises_and_falls_to_a_tenth() -> None:
    from encoders import optimizers

    weights = {"matrix": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
    made = optimizers.adamw(1e-2, warmup=10, steps=100, weight_decay=0.0, clip=1e9)
    state = made.init(weights)
    sizes = []
    for _ in range(101):
        updates, state = made.update(jax.tree.map(np.ones_like, weights), state, weights)
        sizes.append(float(np.abs(updates["bias"][0])))
    # Under a constant gradient a step of Adam is the rate.
    assert sizes[0] == 0
    assert sizes[5] == pytest.approx(5e-3, rel=1e-3)
    assert sizes[10] == pytest.approx(1e-2, rel=1e-3)
    assert sizes[55] == pytest.approx(0.55e-2, rel=1e-2)
    assert sizes[100] == pytest.approx(1e-3, rel=1e-2)


def test_matrices_alone_decay() -> None:
    """Norms and biases have no weight decay, those of positions neither, which have a row a head."""
    from flax import nnx

    from encoders import optimizers

    weights = nnx.state(make(config()), nnx.Param)
    shapes = {jax.tree_util.keystr(path): leaf.ndim for path, leaf in jax.tree.leaves_with_path(weights)}
    decayed = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree.leaves_with_path(optimizers.decayed(weights))
    }
    still = {name for name in shapes if not decayed[name]}
    assert still == {name for name in shapes if "bias" in name or "scale" in name}
    assert any(shapes[name] == 2 for name in still)
    assert all(shapes[name] == 2 for name in shapes.keys() - still)
    # Under no gradient a step is the decay.
    few = {name: np.ones((2, 2), np.float32) for name in ("kernel", "position_bias")}
    made = optimizers.adamw(1e-2, warmup=0, steps=10, weight_decay=0.5, clip=1.0)
    updates, _ = made.update(jax.tree.map(np.zeros_like, few), made.init(few), few)
    assert float(updates["kernel"][0, 0]) == pytest.approx(-0.005)
    assert float(updates["position_bias"][0, 0]) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"learns": "some"},
        {"steps": 0},
        {"learning_rate": 0.0},
        {"batch": 3},
        {"dropout": 1.0},
        {"weight_decay": float("nan")},
        {"clip": 0.0},
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(errors.EncoderError):
        settings(**changes)


EIGHT = """
import json
import jax, numpy as np
from encoders.retro import tensors
from encoders.retro.training import RetroTrainer
from tests import small_retro
from tests.test_retro_training import settings

assert len(jax.devices()) == 8
found = {}
for devices in (1, 8):
    trainer = RetroTrainer(
        small_retro.make(small_retro.config()),
        settings(batch=16, micro_batch=8, dropout=0.0),
        devices=jax.devices()[:devices],
    )
    told = []
    for step in range(2):
        rows = small_retro.batch(
            documents=[[7, 7, 7, 9, 9], [3] * 5] * 8, lengths=[[4, 4, 2, 4, 3], [4] * 5] * 8, seed=step
        )
        told.append(trainer.step(rows, small_retro.retrieved(small_retro.config(), rows=16, seed=step)))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(trainer.state.optimizer)]
    language, extra = tensors.named(trainer.model)
    placed = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(trainer.state.weights)}
    found[devices] = told, leaves, language | extra, placed
(told, moments, weights, one), (told8, moments8, weights8, eight) = found[1], found[8]
before = tensors.named(small_retro.make(small_retro.config()))
before = before[0] | before[1]
largest = max(float(np.abs(leaf).max()) for leaf in moments if leaf.ndim)
apart = {name: np.abs(weights[name] - weights8[name]) for name in weights}
print(json.dumps({
    "told": [told, told8],
    "devices": [sorted(one), sorted(eight)],
    "moments": max(float(np.abs(a - b).max()) for a, b in zip(moments, moments8, strict=True)) / largest,
    "moved": min(float(np.abs(weights[name] - before[name]).max()) for name in weights),
    "largest": max(float(a.max()) for a in apart.values()),
    "apart": float(np.mean(np.concatenate([a.reshape(-1) > 2e-4 for a in apart.values()]))),
}))
"""


@pytest.mark.slow  # compiles a step for one device, and one for eight: 40 s
def test_eight_devices_are_one() -> None:
    """The loss and gradients of one device, and its weights after two steps of two micro-batches each."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EIGHT],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["devices"] == [[1], [8]]
    for one, eight in zip(*found["told"], strict=True):
        assert eight == pytest.approx(one, rel=1e-4)
    assert found["told"][0][0]["tokens"] > 100
    # Adam's moments are the gradient's own; a step divides by its size, also where that is rounding: there a
    # weight may go the other way, by two learning rates a step.
    assert found["moments"] < 1e-5
    assert found["moved"] > 5e-4
    assert found["apart"] < 0.005
    assert found["largest"] < 4e-3
