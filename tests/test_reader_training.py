"""Steps of a reader's training: sums of micro-batches, devices, what is frozen, and that it learns."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from encoders.errors import EncoderError
from encoders.reader import tensors
from encoders.reader.answering import answer
from encoders.reader.examples import Examples
from encoders.reader.model import Reader
from encoders.reader.training import Trainer, TrainingSettings
from tests.small_models import make_t5_folder
from tests.small_readers import Batch, make, with_score

GLIMMER = {"live_proportion": Fraction(2, 3), "rerank_proportion": Fraction(1, 2)}
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_t5_folder(tmp_path_factory.mktemp("training") / "t5", decoder=True, layers=3)


def settings(**changes: Any) -> TrainingSettings:
    values: dict[str, Any] = {"selected": 2, "batch": 8, "micro_batch": 8, "dropout": 0.0}
    return TrainingSettings(**values | {"learning_rate": 1e-3} | changes)


def weights_of(reader: Reader) -> dict[str, np.ndarray]:
    whole, extra = tensors.named(reader)
    return whole | extra


def largest_difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def examples(seed: int = 0, batch: int = 8) -> Examples:
    return Batch(batch=batch, seed=seed).examples()


def trained(
    reader: Reader, chosen: TrainingSettings, *, steps: int = 2
) -> tuple[Trainer, list[dict[str, float]]]:
    trainer = Trainer(reader, chosen, devices=jax.local_devices()[:1])
    return trainer, [trainer.step(examples(seed)) for seed in range(steps)]


def test_every_step_runs_the_program_of_the_first(t5_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = Trainer(with_score(make(t5_folder, "glimmer", **GLIMMER)), settings())
    trainer.step(examples())
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        trainer.step(examples(1))
        trainer.step(examples(2))
    compiled = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling")]
    assert compiled == []


def test_micro_batches_add_up_to_the_batch(t5_folder: Path) -> None:
    before = weights_of(with_score(make(t5_folder, "glimmer", **GLIMMER)))
    found = {}
    for micro in (8, 2):
        reader = with_score(make(t5_folder, "glimmer", **GLIMMER))
        trainer, told = trained(reader, settings(micro_batch=micro))
        found[micro] = (weights_of(trainer.reader), told)
    whole, parts = found[8], found[2]
    assert largest_difference(before, whole[0]) > 1e-3, "something was learned"
    for one, other in zip(whole[1], parts[1], strict=True):
        assert one["distillation"] > 1e-3
        assert one == pytest.approx(other, rel=1e-4)
    assert largest_difference(whole[0], parts[0]) <= 1e-4


def test_the_reader_that_was_given_stays_as_it_was(t5_folder: Path) -> None:
    reader = with_score(make(t5_folder, "glimmer", **GLIMMER))
    before = weights_of(reader)
    trained(reader, settings(), steps=1)
    assert largest_difference(before, weights_of(reader)) == 0


def test_rows_that_fill_up_do_not_count(t5_folder: Path) -> None:
    full = examples()
    filled = examples()
    filled.target_lengths[6:] = 0
    told = []
    for batch, rows in ((filled, 8), (full.rows(0, 6), 6)):
        trainer = Trainer(
            with_score(make(t5_folder, "glimmer", **GLIMMER)), settings(batch=rows, micro_batch=rows)
        )
        told.append((trainer.step(batch), weights_of(trainer.reader)))
    assert told[0][0] == pytest.approx(told[1][0], rel=1e-4)
    assert largest_difference(told[0][1], told[1][1]) <= 1e-4


@pytest.mark.parametrize(
    ("system", "own_embedding"), [("lumen", True), ("memory-fid", False), ("glimmer", False)]
)
def test_a_frozen_memory_encoder_stays(t5_folder: Path, system: str, own_embedding: bool) -> None:
    """The decoder shares the embedding of what encodes questions, be that the memory encoder itself."""
    options: dict[str, Any] = {"lumen": {"live_proportion": Fraction(2, 3)}, "glimmer": GLIMMER}.get(
        system, {}
    )
    reader = make(t5_folder, system, **options)
    before = weights_of(reader)
    memory = [name for name in before if name.startswith("shared")]
    memory += [
        name
        for name in before
        for layer in range(reader.config.memory_layers)
        if name.startswith(f"encoder.block.{layer}.")
    ]
    assert len(memory) > 2
    selected = 2 if system == "glimmer" else None
    for frozen in (True, False):
        chosen = settings(memory_encoder="frozen" if frozen else "trained", selected=selected)
        after = weights_of(trained(reader, chosen, steps=1)[0].reader)
        for name in memory:
            changed = not np.array_equal(before[name], after[name])
            assert changed != frozen, (name, frozen)
        assert not np.array_equal(before["lm_head.weight"], after["lm_head.weight"])
        if own_embedding:
            name = "question.shared.weight"
            assert not np.array_equal(before[name], after[name])


def test_dropout_is_drawn_anew_each_step_and_the_same_again(t5_folder: Path) -> None:
    told = []
    for dropout in (0.0, 0.1, 0.1):
        reader = with_score(make(t5_folder, "glimmer", **GLIMMER))
        trainer = Trainer(reader, settings(dropout=dropout, learning_rate=1e-12))
        told.append([trainer.step(examples())["loss"] for _ in range(3)])
    plain, dropped, again = told
    assert plain[0] == pytest.approx(plain[1], rel=1e-5), "nothing is learned at this rate"
    assert len({round(loss, 4) for loss in dropped}) == 3
    assert dropped == again


@pytest.mark.parametrize("system", ["fid", "memory-fid", "lumen", "glimmer"])
def test_a_handful_of_questions_is_learned_by_heart(t5_folder: Path, system: str) -> None:
    options: dict[str, Any] = {"lumen": {"live_proportion": Fraction(2, 3)}, "glimmer": GLIMMER}.get(
        system, {}
    )
    selected = 2 if system == "glimmer" else None
    batch = Batch(batch=8, passages=3, seed=1)
    batch.targets[np.arange(8), batch.target_lengths - 1] = 1
    batch.lengths[:] = np.maximum(batch.lengths, 1)
    trainer = Trainer(
        make(t5_folder, system, **options),
        settings(selected=selected, learning_rate=1e-2, distillation=float(system == "glimmer")),
    )
    told = [trainer.step(batch.examples()) for _ in range(60)]
    assert told[0]["answer"] > 3
    assert told[-1]["answer"] < 0.1
    found = answer(trainer.reader, batch.examples(), selected=selected, tokens=5)
    for row, count in enumerate(batch.target_lengths):
        assert found.tokens[row, :count].tolist() == batch.targets[row, :count].tolist()
    if system == "glimmer":
        assert np.mean([step["distillation"] for step in told[-10:]]) < told[0]["distillation"]


EIGHT = """
import sys
from pathlib import Path
import jax
import numpy as np
from encoders.reader.training import Trainer
from tests import test_reader_training as here
from tests.small_readers import make, with_score

assert len(jax.local_devices()) == 8
reader = with_score(make(Path(sys.argv[1]), "glimmer", **here.GLIMMER))
trainer = Trainer(reader, here.settings())
for seed in range(2):
    told = trainer.step(here.examples(seed))
np.savez(sys.argv[2], loss=told["loss"], **here.weights_of(trainer.reader))
"""


def test_eight_devices_are_one(t5_folder: Path, tmp_path: Path) -> None:
    trainer, told = trained(with_score(make(t5_folder, "glimmer", **GLIMMER)), settings())
    flags = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EIGHT, str(t5_folder), str(tmp_path / "eight.npz")],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    eight = dict(np.load(tmp_path / "eight.npz"))
    assert float(eight.pop("loss")) == pytest.approx(told[-1]["loss"], rel=1e-4)
    one = weights_of(trainer.reader)
    assert set(eight) == set(one)
    assert largest_difference(eight, one) <= 1e-4


def test_refused(t5_folder: Path) -> None:
    reader = make(t5_folder, "lumen", live_proportion=Fraction(2, 3))
    with pytest.raises(ValueError, match="2 passages selected by a reader that scores none"):
        Trainer(reader, settings())
    trainer = Trainer(reader, settings(selected=None))
    with pytest.raises(ValueError, match="4 questions, wanted a batch of 8"):
        trainer.step(examples(batch=4))
    with pytest.raises(ValueError, match="no whole number of micro-batches"):
        settings(micro_batch=3)
    with pytest.raises(ValueError, match="temperature 0"):
        settings(temperature=0.0)


def test_a_loss_that_is_not_finite_changes_nothing(t5_folder: Path) -> None:
    reader = make(t5_folder, "fid")
    reader.decoder.head[...] *= np.inf
    trainer = Trainer(reader, settings(selected=None))
    before = weights_of(trainer.reader)
    with pytest.raises(FloatingPointError, match=r"at step 0; are the weights whole\?"):
        trainer.step(examples())
    after = weights_of(trainer.reader)
    assert all(np.array_equal(before[name], after[name], equal_nan=True) for name in before)


@pytest.mark.parametrize("changes", [{"seed": -1}, {"seed": 1 << 32}, {"learning_rate": float("inf")}])
def test_numbers_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(EncoderError):
        settings(**changes)
