"""A real English Wikipedia export, from its XML to fetched memory. Skipped where the data are not there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, T5EncoderModel

from encoders.memory_spec import MemorySpec
from pipeline.components.settings import BuildSettings
from retrieval import Corpus, open_corpus
from tests.jobs import build

# What no passage of prose holds, and markup that was not understood does.
LEFTOVER = re.compile(
    r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|''|</?ref|\|-|\bthumb\|"
    r"|\b(?:File|Image|Category):\S|&(?:nbsp|lt|gt|amp|quot);|</?(?:br|div|span|table|small)\b|__[A-Z]+__",
)


@pytest.fixture(scope="module")
def real(shared_data: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    dumps = shared_data / "enwiki"
    settings = BuildSettings(
        sources=(
            f"mediawiki:{dumps / 'enwiki-pages-articles-excerpt.xml.bz2'}",
            f"mediawiki:{dumps / 'enwiki-table-markup.xml.bz2'}",
        ),
        retriever=str(models / "gtr"),
        memory_encoder=str(models / "t5"),
        memory=MemorySpec(compute_dtype="float32"),
    )
    return open_corpus(build(settings, tmp_path_factory.mktemp("real") / "corpus").corpus.root)


def test_every_page_is_accounted_for(real: Corpus) -> None:
    counts = real.counts
    assert counts["pages"] == 206 + 5
    assert counts["dropped: redirect"] == 99 + 0
    assert counts["dropped: other namespace"] == 1
    assert counts["quarantined"] == 0
    assert counts["kept"] == 106 + 5
    assert counts["words"] + counts["left_out_words"] == counts["article_words"] > 400_000
    assert 0.02 < counts["left_out_words"] / counts["article_words"] < 0.2


def test_no_markup_is_left(real: Corpus) -> None:
    left = [
        (row["title"], found[0], row["text"][max(0, found.start() - 30) : found.end() + 30])
        for row in real.passages(np.arange(len(real))).to_pylist()
        if (found := LEFTOVER.search(row["text"]))
    ]
    # Of 3,500 passages a handful quote markup or programs; the share is what is held.
    assert len(left) <= len(real) // 500, left


def test_passages_hold_up_to_200_words_of_one_section(real: Corpus) -> None:
    table = real.passages(np.arange(len(real)))
    words = np.array(table.column("words"))
    assert words.max() == 200
    assert words.min() >= 1
    texts = table.column("text").to_pylist()
    assert [len(text.split()) for text in texts[:500]] == words[:500].tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_memory_of_a_hundred_passages_is_that_of_transformers(real: Corpus, models: Path) -> None:
    ids = np.random.default_rng(0).choice(len(real), 100, replace=False)
    tokenizer = AutoTokenizer.from_pretrained(models / "t5")
    model = T5EncoderModel.from_pretrained(models / "t5").eval()
    fetched = real.memory().fetch(ids)
    worst = 0.0
    for row, values in zip(real.passages(ids).to_pylist(), fetched, strict=True):
        text = f"title: {row['title']} context: {row['text']}"
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=304)
        with torch.no_grad():
            states = model(**tokens, output_hidden_states=True).hidden_states[4][0].numpy()
        error = np.abs(values.astype(np.float32) - states)
        assert (error <= 2.0**-8 * np.abs(states) + 1e-5 * np.abs(states).max()).all()
        worst = max(worst, float(error.max() / np.abs(states).max()))
    assert 0 < worst < 2.0**-8


def test_search_is_brute_force(real: Corpus) -> None:
    vectors = real.vectors().read(0, len(real))
    ids = np.arange(0, len(real), 100)
    result = real.search(vectors[ids], 10)
    exact = -np.sort(-(vectors[ids].astype(np.float64) @ vectors.T), axis=1)[:, :10]
    np.testing.assert_allclose(result.scores, exact, atol=1e-5)
