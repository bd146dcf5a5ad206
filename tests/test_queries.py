"""Queries and ids in every form that callers have them: the right answer, or one plain error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from retrieval import open_corpus, queries
from retrieval.corpus import Corpus
from storage import errors

TEXTS = ["Where does the Danube end?", "Who wrote it?"]


@pytest.fixture(scope="module")
def opened(corpus: Path) -> Corpus:
    return open_corpus(corpus)


@pytest.mark.parametrize(
    "form",
    [
        np.int64, np.int32, np.uint8, int,
        lambda k: np.array(k), lambda k: torch.tensor(k), lambda k: jnp.array(k),
    ],
)  # fmt: skip
def test_k(form: Callable[[int], Any], opened: Corpus) -> None:
    vectors = opened.vectors().take(np.arange(2))
    assert (
        opened.search(vectors, form(3)).passage_ids.tolist() == opened.search(vectors, 3).passage_ids.tolist()
    )


@pytest.mark.parametrize(
    "k", [2.0, "2", None, True, np.bool_(True), np.float32(2), [2], np.array([2, 3]), 0, -1, 10**9]
)
def test_k_of_another_kind(k: Any, opened: Corpus) -> None:
    with pytest.raises(errors.CorpusError, match=f"wanted (a whole number from )?1 to {len(opened)}"):
        opened.search(opened.vectors().take(np.arange(2)), k)


VECTORS: dict[str, Callable[[Any], Any]] = {
    "float64": lambda v: v.astype(np.float64),
    "float16": lambda v: v.astype(np.float16),
    "bfloat16": lambda v: v.astype(ml_dtypes.bfloat16),
    "fortran": np.asfortranarray,
    "torch": torch.tensor,
    "torch bfloat16": lambda v: torch.tensor(v).bfloat16(),
    "torch float16": lambda v: torch.tensor(v).half(),
    "torch with a gradient": lambda v: torch.tensor(v, requires_grad=True),
    "jax": jnp.asarray,
    "jax bfloat16": lambda v: jnp.asarray(v, jnp.bfloat16),
    "lists": lambda v: v.tolist(),
    "tuples": lambda v: tuple(map(tuple, v.tolist())),
    "list of arrays": list,
    "list of tensors": lambda v: [torch.tensor(row) for row in v],
    "list of bfloat16 tensors": lambda v: [torch.tensor(row).bfloat16() for row in v],
    "array of arrays": lambda v: np.array([*v.tolist()], object),
    "no masked place": lambda v: np.ma.array(v),
    "a frame": pd.DataFrame,
    "a column of lists": lambda v: pa.array(v.tolist(), pa.list_(pa.float32())),
    "a generator": lambda v: (row for row in v),
}


@pytest.mark.parametrize("form", VECTORS.values(), ids=VECTORS)
def test_vectors(form: Callable[[Any], Any], opened: Corpus) -> None:
    vectors = opened.vectors().take(np.arange(1, 4))
    found = opened.search(form(vectors), 1)
    scores = vectors @ opened.vectors().take(np.arange(len(opened))).T
    np.testing.assert_allclose(found.scores[:, 0], scores.max(axis=1), atol=2e-2)


def test_one_vector_and_none(opened: Corpus) -> None:
    vector = opened.vectors().take(np.arange(1))[0]
    wanted = opened.search(vector, 4).passage_ids.tolist()
    for one in (torch.tensor(vector), vector.tolist(), jnp.asarray(vector)):
        assert opened.search(one, 4).passage_ids.tolist() == wanted
    for none in ([], np.zeros((0, len(vector)), np.float32), torch.zeros(0, len(vector))):
        assert opened.search(none, 4).passage_ids.shape == (0, 4)


@pytest.mark.parametrize(
    "form",
    [
        list, tuple, np.array, lambda t: np.array(t, object), lambda t: list(np.array(t)), pd.Series,
        pa.array, lambda t: pa.chunked_array([t]), iter, lambda t: pd.Series(t, dtype="string"), pd.Index,
        lambda t: pd.Series(t, dtype="category"),
    ],
)  # fmt: skip
def test_texts(form: Callable[[Any], Any]) -> None:
    assert queries.read(form(TEXTS), 3) == TEXTS
    assert queries.read(form(TEXTS[:1]), 3) == TEXTS[:1]


def test_texts_are_encoded(opened: Corpus) -> None:
    wanted = opened.search(TEXTS, 3).passage_ids.tolist()
    assert opened.search(np.array(TEXTS), 3).passage_ids.tolist() == wanted
    assert opened.search(np.array(TEXTS[0]), 3).passage_ids.tolist() == wanted[:1]
    torn = opened.search("smile \ud83d end?", 3)
    assert torn.passage_ids.tolist() == opened.search("smile \ufffd end?", 3).passage_ids.tolist()


@pytest.mark.parametrize(
    "bad",
    [
        None, b"text", {"a": 1}, {"a"}, [TEXTS[0], None], [TEXTS[0], 1.0], [None],
        pd.Series([TEXTS[0], None]),
        pa.array([TEXTS[0], None]), [[TEXTS[0]]], [[1.0, 2.0], [1.0]], 3, object(), np.array([b"text"]),
        [True, False, True], np.ones((2, 3), bool), np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]),
        [np.ma.masked, 1, 2],
        [[1.0, np.nan, 1.0]], [[1.0, 1e300, 1.0]], np.ones((2, 3), complex), np.ones((1, 2, 3)), [1.0, 2.0],
        np.array([TEXTS]), np.array(["2020-01-01"] * 3, "M8[D]"), ["1.0", 2.0, 3.0], [10**400, 1, 1],
    ],
)  # fmt: skip
def test_what_is_neither(bad: Any) -> None:
    with pytest.raises(errors.CorpusError) as caught:
        queries.read(bad, 3)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


RAGGED = [
    [[1], [2, 3]], [1, [2]], [[1], 2], np.ma.array([0, 1], mask=[0, 1]), [0, np.ma.masked],
    [np.ma.array(1, mask=True), 0], pd.array([0, None], "Int64"), pa.array([0, None]), [0, None], [0, 1.0],
    torch.tensor([0.0]), "01", {0, 1}, {0: 1}, None, iter([0, 1]), torch.tensor([[0]]),
    torch.tensor([1.0]).bfloat16(),
]  # fmt: skip


@pytest.mark.parametrize("bad", RAGGED)
def test_ids_that_are_none(bad: Any, opened: Corpus) -> None:
    reader = opened.memory()
    for ask in (
        reader.fetch,
        reader.tokens,
        opened.passages,
        lambda ids: reader.prefetch(ids).result(),
        lambda ids: list(reader.batches([ids])),
    ):
        with pytest.raises(errors.CorpusError, match=r"whole numbers|masked") as caught:
            ask(bad)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "form",
    [list, tuple, np.array, torch.tensor, jnp.array, pd.Series, pa.array, np.ma.array, pd.Index,
     lambda ids: torch.tensor(ids).to(torch.uint8), lambda ids: [np.int64(i) for i in ids]],
)  # fmt: skip
def test_ids(form: Callable[[Any], Any], opened: Corpus) -> None:
    reader = opened.memory()
    wanted = [3, 1, 3, 0]
    again = [
        reader.fetch(form(wanted)),
        reader.prefetch(form(wanted)).result(),
        *reader.batches([form(wanted)]),
    ]
    for memory in again:
        assert memory.passage_ids.tolist() == wanted
        np.testing.assert_array_equal(np.asarray(memory.values), np.asarray(reader.fetch(wanted).values))


def test_ids_may_change_while_they_are_fetched(opened: Corpus) -> None:
    ids = np.array([3, 1])
    waiting = opened.memory().prefetch(ids)
    ids[:] = 0
    assert waiting.result().passage_ids.tolist() == [3, 1]
