"""RETRO's model: against NumPy, causal, aligned, masked, of the paper's sizes, and the language model
without."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders import errors
from encoders.retro import attention, names
from encoders.retro.config import (
    ENCODINGS,
    PUBLISHED_SIZES,
    STORED,
    RetroConfig,
    default_cca_layers,
    every_third,
)
from encoders.retro.language import LanguageModel
from encoders.retro.loss import token_losses
from encoders.retro.model import Retro
from encoders.retro.rows import Neighbours, Rows
from tests import plain_retro, small_retro
from tests.small_retro import K, L, M, R, batch, config, logits, make, retrieved

# Borgeaud et al. 2021, Tables 2 and 10: millions of parameters without embeddings, of RETRO and its baseline.
PAPER = {"172m": (172, 132), "425m": (425, 368), "1.5b": (1451, 1309), "7.5b": (7532, 6982)}


def parameters(chosen: RetroConfig) -> tuple[float, float]:
    """Millions of parameters without embeddings, all and the language model's, by shapes alone."""
    shapes = names.language_shapes(chosen.language) | names.retrieval_shapes(chosen)
    model = nnx.eval_shape(lambda: Retro(chosen, lambda name: jnp.zeros(shapes[name])))

    def count(part: Any) -> int:
        leaves = [leaf for _, leaf in nnx.iter_graph(part) if isinstance(leaf, nnx.Param)]
        assert all(isinstance(leaf.get_value(), jax.ShapeDtypeStruct) for leaf in leaves), "nothing was made"
        return sum(int(np.prod(leaf.shape)) for leaf in leaves)

    tables = [np.prod(shapes[name]) for name in shapes if "embed_tokens" in name or name == names.HEAD]
    ours = [np.prod(shapes[name]) for name in (names.EMBEDDING, names.HEAD)]
    return (count(model) - sum(tables)) / 1e6, (count(model.language) - sum(ours)) / 1e6


@pytest.mark.parametrize("size", PAPER)
def test_parameters_are_the_papers(size: str) -> None:
    found = parameters(PUBLISHED_SIZES[size])
    assert found == pytest.approx(PAPER[size], rel=0.005)


def test_the_papers_two_rules_for_layers() -> None:
    """Table 10 prints [9, 12, ...] for 24 and 32 layers; it counts the parameters of the text's rule."""
    assert default_cca_layers(12) == (6, 9, 12)
    assert default_cca_layers(24) == (9, 12, 15, 18, 21, 24)
    assert default_cca_layers(32)[:2] == (9, 12)
    assert default_cca_layers(4) == (2,)
    assert every_third(24, 6) == (6, 9, 12, 15, 18, 21, 24)
    printed = dataclasses.replace(PUBLISHED_SIZES["1.5b"], cca_layers=default_cca_layers(24))
    assert parameters(printed)[0] == pytest.approx(1435, abs=1), "1.1 % less than the 1,451 it counts"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_it_is_what_plain_numpy_computes(encoding: str) -> None:
    chosen = config(encoding)
    model, rows, found = make(chosen), batch(), retrieved(chosen)
    out = logits(model, rows, found)
    weights = small_retro.tensors(chosen)
    assert found.real.any(-1).sum() < found.real[..., 0].size, "a neighbour is absent"
    for row in range(2):
        values = (found.tokens if chosen.encodes else found.states)[row]
        wanted = plain_retro.retro(
            chosen,
            weights,
            rows.tokens[row],
            rows.lengths[row],
            rows.documents[row],
            (values, found.real[row]),
        )
        real = ~np.isnan(wanted[:, 0])
        assert real.sum() == rows.lengths[row].sum()
        np.testing.assert_allclose(out[row][real], wanted[real], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", ["llama", "tied"])
def test_other_language_models_are_what_plain_numpy_computes(shape: str) -> None:
    language = small_retro.llama() if shape == "llama" else small_retro.language(tied=True)
    chosen = config(language=language, cca_layers=(1, 3))
    model, rows, found = make(chosen), batch(), retrieved(chosen)
    out = logits(model, rows, found)
    wanted = plain_retro.retro(
        chosen,
        small_retro.tensors(chosen),
        rows.tokens[1],
        rows.lengths[1],
        rows.documents[1],
        (found.tokens[1], found.real[1]),
    )
    np.testing.assert_allclose(out[1], wanted, atol=2e-4, rtol=1e-4)


def test_a_shared_embedding_is_one() -> None:
    encoder = dataclasses.replace(small_retro.ENCODER, d_model=16, shared_embedding=True)
    chosen = config(encoder=encoder)
    model = make(chosen)
    assert names.ENCODER_EMBEDDING not in small_retro.tensors(chosen)
    assert model.encoder is not None
    assert model.encoder.embedding is model.language.embedding
    rows, found = batch(), retrieved(chosen)
    wanted = plain_retro.retro(
        chosen,
        small_retro.tensors(chosen),
        rows.tokens[1],
        rows.lengths[1],
        rows.documents[1],
        (found.tokens[1], found.real[1]),
    )
    np.testing.assert_allclose(logits(model, rows, found)[1], wanted, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_token_moves_a_logit_before_it(encoding: str) -> None:
    chosen = config(encoding)
    model, found = make(chosen), retrieved(chosen)
    rows = batch(documents=[[3] * L], lengths=[[M] * L])
    found = found.cut(1, 2)
    before = logits(model, rows, found)
    for place in range(L * M):
        changed = dataclasses.replace(rows, tokens=rows.tokens.copy())
        changed.tokens[0, place] += 1 if changed.tokens[0, place] < 49 else -1
        after = logits(model, changed, found)
        np.testing.assert_array_equal(before[0, :place], after[0, :place])
        assert np.abs(before[0, place] - after[0, place]).max() > 1e-3


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_neighbours_move_nothing_before_the_end_of_their_chunk(encoding: str) -> None:
    """Those of chunk u, counted from 1, first move the logits at u m - 1, the chunk's last token."""
    chosen = config(encoding)
    model = make(chosen)
    rows = batch(documents=[[3] * L], lengths=[[M] * L])
    found = retrieved(chosen).cut(0, 1)
    found.real[:] = True
    before = logits(model, rows, found)
    for u in range(1, L + 1):
        other = perturbed(found, u - 1)
        moved = np.abs(before - logits(model, rows, other)).max(-1)[0]
        np.testing.assert_array_equal(moved[: u * M - 1], 0)
        assert (moved[u * M - 1 :] > 1e-4).all()


def perturbed(found: Neighbours, u: int) -> Neighbours:
    if found.tokens is not None:
        tokens = found.tokens.copy()
        tokens[:, u] = np.where(tokens[:, u] < 49, tokens[:, u] + 1, 3)
        return dataclasses.replace(found, tokens=tokens)
    assert found.states is not None
    states = found.states.copy()
    states[:, u] += 1
    return dataclasses.replace(found, states=states)


def test_each_chunk_reads_the_neighbours_of_the_one_before_it_alone() -> None:
    """In the first layer of cross-attention: H_u+ is the last token of chunk u and m - 1 of the next."""
    chosen = config(STORED, language=small_retro.language(layers=1), cca_layers=(1,))
    model = make(chosen)
    rows = batch(documents=[[3] * L], lengths=[[M] * L])
    found = retrieved(chosen).cut(0, 1)
    found.real[:] = True
    before = logits(model, rows, found)
    for u in range(L):
        moved = np.abs(before - logits(model, rows, perturbed(found, u))).max(-1)[0] > 0
        assert np.flatnonzero(moved).tolist() == [
            p for p in range(u * M + M - 1, u * M + 2 * M - 1) if p < L * M
        ]


def test_a_document_reads_nothing_of_another() -> None:
    """Neither its tokens nor what was retrieved for it: the last chunk of a document serves no successor."""
    chosen = config()
    model = make(chosen)
    rows, found = batch(), retrieved(chosen)
    before = logits(model, rows, found)
    first = slice(0, 3 * M)
    changed = dataclasses.replace(rows, tokens=rows.tokens.copy())
    changed.tokens[0, first] = 5
    other = found
    for u in range(3):
        other = perturbed(other, u)
    after = logits(model, changed, other)
    np.testing.assert_array_equal(before[0, 3 * M : 4 * M + 3], after[0, 3 * M : 4 * M + 3])
    assert np.abs(before[0, :M] - after[0, :M]).max() > 0.1


def test_padding_moves_nothing() -> None:
    """Of short chunks and of neighbours: other tokens there, the same logits, to the bit."""
    for encoding in ENCODINGS:
        chosen = config(encoding)
        model, rows, found = make(chosen), batch(), retrieved(chosen)
        before = logits(model, rows, found)
        real = np.arange(M) < rows.lengths[..., None]
        real = real.reshape(2, -1)
        changed = dataclasses.replace(rows, tokens=np.where(real, rows.tokens, 11).astype(np.int32))
        if chosen.encodes:
            there = dataclasses.replace(found, tokens=np.where(found.real, found.tokens, 12))
        else:
            there = dataclasses.replace(
                found, states=np.where(found.real[..., None], found.states, np.float32(9))
            )
        after = logits(model, changed, there)
        np.testing.assert_array_equal(before[real], after[real])


@pytest.mark.parametrize("shape", ["relative", "llama"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_without_neighbours_it_is_the_language_model_to_the_bit(encoding: str, shape: str) -> None:
    """Retrieval off, and all neighbours -1, against the language model alone as it is compiled alone."""
    chosen = config(encoding, language=small_retro.llama() if shape == "llama" else small_retro.language())
    weights = small_retro.tensors(chosen)
    model, rows, found = make(chosen), batch(), retrieved(chosen)
    alone = LanguageModel(chosen.language, weights.__getitem__)
    graph, state = nnx.split(alone)
    wanted = np.asarray(jax.jit(lambda state, rows: nnx.merge(graph, state)(rows))(state, rows))
    np.testing.assert_array_equal(logits(model, rows, None), wanted)
    real = (np.arange(M) < rows.lengths[..., None]).reshape(2, -1)
    nobody = dataclasses.replace(found, real=np.zeros_like(found.real))
    np.testing.assert_array_equal(logits(model, rows, nobody)[real], wanted[real])
    assert np.abs(logits(model, rows, found)[real] - wanted[real]).max() > 0.1


def test_the_order_of_neighbours_makes_no_difference() -> None:
    """All stand at the same distances (a bias over the flattened keys would tell them apart)."""
    chosen = config()
    model, rows, found = make(chosen), batch(), retrieved(chosen)
    turned = Neighbours(tokens=found.tokens[:, :, ::-1], states=None, real=found.real[:, :, ::-1])
    real = (np.arange(M) < rows.lengths[..., None]).reshape(2, -1)
    np.testing.assert_allclose(logits(model, rows, found)[real], logits(model, rows, turned)[real], atol=1e-4)


def test_more_neighbours_than_in_training_can_be_read() -> None:
    chosen = config()
    model, rows, found = make(chosen), batch(), retrieved(chosen)
    absent = Neighbours(
        tokens=np.concatenate([found.tokens, found.tokens], 2),
        states=None,
        real=np.concatenate([found.real, np.zeros_like(found.real)], 2),
    )
    real = (np.arange(M) < rows.lengths[..., None]).reshape(2, -1)
    np.testing.assert_allclose(logits(model, rows, found)[real], logits(model, rows, absent)[real], atol=1e-4)


@pytest.mark.parametrize("retrieval", [True, False])
@pytest.mark.parametrize("shape", ["relative", "llama"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tokens_one_by_one_are_the_whole_row(encoding: str, shape: str, retrieval: bool) -> None:
    chosen = config(encoding, language=small_retro.llama() if shape == "llama" else small_retro.language())
    model = make(chosen)
    rows = batch(documents=[[3] * L, [4] * L], lengths=[[M] * L] * 2)
    found = retrieved(chosen)
    wanted = logits(model, rows, found if retrieval else None)
    graph, state = nnx.split(model)
    step = jax.jit(lambda state, *given: nnx.merge(graph, state).step(*given))
    cache = model.start(2, L * M, retrieval=retrieval)
    for at in range(L * M):
        ends = retrieval and at % M == M - 1
        here = jax.tree.map(lambda a, u=at // M: a[:, u], found) if ends else None
        out, cache = step(state, rows.tokens[:, at], jnp.int32(at), cache, here)
        np.testing.assert_allclose(np.asarray(out), wanted[:, at], atol=3e-4, rtol=1e-4)


def test_losses_are_of_targets_alone() -> None:
    chosen = config()
    rows = batch()
    out = logits(make(chosen), rows, None)
    found = np.asarray(token_losses(out, rows.targets))
    for row, place in np.ndindex(*rows.targets.shape):
        target = rows.targets[row, place]
        scores = out[row, place].astype(np.float64)
        wanted = np.log(np.exp(scores).sum()) - scores[target] if target >= 0 else 0.0
        assert found[row, place] == pytest.approx(wanted, abs=1e-4)
    assert (rows.targets[0] >= 0).sum() == rows.lengths[0].sum() - 2, "but for the last of two documents"


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 7), st.integers(1, 9), st.integers(-3, 12))
def test_logits_by_distance_go_to_their_keys(queries: int, keys: int, offset: int) -> None:
    distances = attention.falling_distances(queries, keys, offset)
    by_distance = np.broadcast_to(distances, (1, 1, queries, len(distances)))
    wanted = np.arange(queries)[:, None] - np.arange(keys)[None, :] + offset
    np.testing.assert_array_equal(np.asarray(attention.skew(jnp.asarray(by_distance), keys))[0, 0], wanted)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cca_layers": ()}, "one or more layers"),
        ({"cca_layers": (2, 2)}, "rising"),
        ({"cca_layers": (2, 5)}, "from 1 to 4"),
        ({"encoding": "raw"}, "wanted one of"),
        ({"encoding": "stored", "encoder": small_retro.ENCODER}, "has no encoder"),
        ({"encoder": None}, "needs an encoder"),
        ({"memory_width": 8}, "its encoder's width"),
        ({"chunk_tokens": 1}, "2 or more"),
        ({"encoder": dataclasses.replace(small_retro.ENCODER, shared_embedding=True)}, "share the embedding"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.EncoderError, match=said):
        config(**changes)
    with pytest.raises(errors.EncoderError):
        RetroConfig.from_json({**config().to_json(), "unknown": 1})


def test_settings_survive_json() -> None:
    for encoding in ENCODINGS:
        chosen = config(encoding)
        assert RetroConfig.from_json(chosen.to_json()) == chosen


def test_states_for_an_encoder_are_refused() -> None:
    rows = batch()
    with pytest.raises(ValueError, match="tokens, and got states"):
        make(config())(rows, retrieved(config(STORED)))
    with pytest.raises(ValueError, match="states, and got tokens"):
        make(config(STORED))(rows, retrieved(config()))


def test_the_cases_are_not_trivial() -> None:
    rows = batch()
    assert isinstance(rows, Rows)
    assert (rows.lengths < M).any()
    assert len(set(rows.documents[0].tolist())) == 2
    assert retrieved(config()).real.shape == (2, L, K, R)
