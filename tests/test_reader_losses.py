"""The losses of a reader against transformers, and against NumPy on one passage at a time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from transformers import T5ForConditionalGeneration

from encoders.reader import losses
from encoders.reader.model import Reader, select
from encoders.transformers_output import silenced
from tests.small_models import make_t5_folder
from tests.small_readers import Batch, make, with_score

GLIMMER = {"live_proportion": Fraction(2, 3), "rerank_proportion": Fraction(1, 2)}
TEMPERATURE = 0.7


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_t5_folder(tmp_path_factory.mktemp("losses") / "t5", decoder=True, layers=3)


def of(reader: Reader, batch: Batch, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    found = losses.losses(reader, batch.pairs(reader), batch.targets, batch.target_lengths, **options)
    return np.asarray(found[0]), np.asarray(found[1])


def alone(batch: Batch, passage: int) -> Batch:
    one = Batch(seed=0)
    vars(one).update(vars(batch))
    one.ids, one.lengths = batch.ids[:, passage : passage + 1], batch.lengths[:, passage : passage + 1]
    return one


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def test_the_answer_loss_is_that_of_transformers(t5_folder: Path) -> None:
    with silenced():
        theirs = T5ForConditionalGeneration.from_pretrained(t5_folder).eval()
    batch = Batch(passages=1, batch=4, seed=2)
    batch.lengths[:] = np.maximum(batch.lengths, 1)
    answer, distilled = of(make(t5_folder, "fid"), batch, selected=None, temperature=None)
    assert len(set(batch.target_lengths.tolist())) > 1
    assert not distilled.any()
    for row in range(4):
        text = [
            *batch.questions[row, : batch.question_lengths[row]],
            *batch.ids[row, 0, : batch.lengths[row, 0]],
        ]
        labels = batch.targets[row, : batch.target_lengths[row]]
        with torch.no_grad():
            wanted = theirs(input_ids=torch.tensor([text]), labels=torch.tensor([labels.tolist()])).loss
        assert answer[row] == pytest.approx(float(wanted) * len(labels), abs=1e-3)


@pytest.mark.parametrize("selected", [2, 5])
def test_distillation_is_that_of_one_passage_at_a_time(t5_folder: Path, selected: int) -> None:
    """p_LM of each passage by a reader that is given it alone; the divergence in NumPy."""
    reader = with_score(make(t5_folder, "glimmer", **GLIMMER))
    batch = Batch(seed=3)
    _, distilled = of(reader, batch, selected=selected, temperature=TEMPERATURE)
    _, _, scores = reader.read(batch.pairs(reader), selected=selected)
    judged = np.full((3, 5), -np.inf)
    for passage in range(5):
        one = alone(batch, passage)
        logits = one.logits(reader, selected=1)
        for row in range(3):
            judged[row, passage] = sum(
                log_softmax(logits[row, place])[batch.targets[row, place]]
                for place in range(batch.target_lengths[row])
            )
    for row in range(3):
        there = batch.lengths[row] > 0
        rank = log_softmax(np.asarray(scores)[row, there] / TEMPERATURE)
        judge = log_softmax(judged[row, there] / TEMPERATURE)
        wanted = float((np.exp(judge) * (judge - rank)).sum())
        assert wanted > 0.05, "the two distributions differ"
        assert distilled[row] == pytest.approx(wanted, rel=1e-4)
    assert (batch.lengths[0] > 0).sum() == 4, "one passage was absent"


def gradients(reader: Reader, batch: Batch, *, distilled: bool) -> dict[str, float]:
    """The largest gradient in each part of the reader, of the mean of one of the two losses."""
    graph, state = nnx.split(reader)

    def mean(state: nnx.State) -> jax.Array:
        merged = nnx.merge(graph, state)
        pairs = batch.pairs(merged)
        found = losses.losses(
            merged, pairs, batch.targets, batch.target_lengths, selected=2, temperature=TEMPERATURE
        )
        return jnp.mean(found[1 if distilled else 0])

    largest: dict[str, float] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(mean))(state)):
        names = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
        part = names[0]
        if part == "live" and "blocks" in names:
            layer = int(names[names.index("blocks") + 1])
            part = "live A" if layer < reader.config.rerank_layers else "live B"
        elif names[-1] == "embedding" or "embedding" in names:
            part = "embedding"
        elif part == "live":
            part = f"live {names[1]}"
        size = float(jnp.abs(leaf).max())
        assert np.isfinite(size), names
        largest[part] = max(largest.get(part, 0.0), size)
    return largest


def test_distillation_reaches_what_ranks_and_not_the_judge(t5_folder: Path) -> None:
    found = gradients(with_score(make(t5_folder, "glimmer", **GLIMMER)), Batch(seed=4), distilled=True)
    for part in ("memory_encoder", "score", "live A", "live relative_bias"):
        assert found[part] > 1e-5, part
    for part in ("decoder", "live B", "live final_norm"):
        assert found[part] == 0, part


def test_the_answer_reaches_all_but_the_score(t5_folder: Path) -> None:
    """Selection has no gradient: without distillation the score would never learn."""
    found = gradients(with_score(make(t5_folder, "glimmer", **GLIMMER)), Batch(seed=4), distilled=False)
    assert found.pop("score") == 0
    assert min(found.values()) > 1e-5, found


@pytest.mark.parametrize("distilled", [True, False])
def test_fewer_passages_than_are_selected_give_finite_gradients(t5_folder: Path, distilled: bool) -> None:
    batch = Batch(seed=5)
    batch.lengths[0, 1:] = 0  # one passage, two selected
    batch.lengths[1] = 0  # none at all
    found = gradients(with_score(make(t5_folder, "glimmer", **GLIMMER)), batch, distilled=distilled)
    assert max(found.values()) > 1e-5


def test_absent_passages_are_selected_last() -> None:
    scores = jnp.array([[-np.inf, -5.0, -np.inf, -9.0]])
    assert select(scores, 2).tolist() == [[1, 3]]
    assert select(scores, 3).tolist() == [[0, 1, 3]]


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_score_has_no_gradient_where_a_passage_is_absent(t5_folder: Path, pooling: str) -> None:
    reader = with_score(make(t5_folder, "glimmer", pooling=pooling, **GLIMMER))
    batch = Batch(seed=6)

    def total(h: jax.Array) -> jax.Array:
        pairs = batch.pairs(reader)
        pairs.h = h
        _, scores = reader.rank(pairs)
        zeros = jnp.zeros_like(scores)
        return losses.distillation(scores, zeros, pairs.present, temperature=1.0).sum()

    found = np.asarray(jax.grad(total)(batch.pairs(reader).h))
    assert np.isfinite(found).all()
    assert not found[0, -1].any()
    assert np.abs(found[0, :-1]).max() > 1e-6
