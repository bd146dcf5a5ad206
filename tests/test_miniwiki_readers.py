"""The reader that is shipped: it answers the demo's questions, and its score finds what tells the answer."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from encoders.memory_spec import MemorySpec
from encoders.reader import open_reader
from examples.miniwiki import demo, export, readers, retriever, tasks
from pipeline.components.settings import BuildSettings
from pipeline.jobs import build
from pipeline.readers import questions
from pipeline.readers.answers import QuestionAnswerer
from retrieval import open_corpus
from retrieval.corpus import Corpus
from storage.folder import CorpusFolder

READER = demo.MODELS / readers.GLIMMER_NAME
GTR = demo.MODELS / retriever.GTR_NAME


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's corpus and the tasks about it."""
    place = tmp_path_factory.mktemp("miniwiki")
    tasks.write_tasks(place / "tasks")
    settings = BuildSettings(
        sources=(f"mediawiki:{export.write_dump(place).path}",),
        retriever=str(GTR),
        memory_encoder=str(READER),
        memory=MemorySpec(live_proportion=Fraction(readers.LIVE), max_tokens=readers.MAX_TOKENS),
        passage_words=readers.PASSAGE_WORDS,
    )
    build.build(settings, CorpusFolder(place / "corpus"))
    return place


@pytest.fixture(scope="module")
def corpus(place: Path) -> Corpus:
    return open_corpus(place / "corpus")


def told(corpus: Corpus, task: questions.Task) -> np.ndarray:
    """Whether each passage retrieved is of a page of the provenance and holds an answer: [examples, k]."""
    wanted = np.unique(task.passage_ids)
    rows = dict(zip(wanted.tolist(), corpus.passages(wanted).to_pylist(), strict=True))
    return np.array(
        [
            [
                str(rows[i]["page_id"]) in {p.wikipedia_id for o in e.outputs for p in o.provenance or ()}
                and any(answer in rows[i]["text"] for answer in e.answers)
                for i in ids
            ]
            for e, ids in zip(task.examples, task.passage_ids.tolist(), strict=True)
        ]
    )


def test_the_demos_questions_are_answered_from_memory(corpus: Corpus) -> None:
    found = list(QuestionAnswerer(corpus, READER, selected=1).answer(demo.QUESTIONS))
    assert [answer.text for answer in found] == ["Ulaanbaatar", "8,849", "Black Sea"]


def test_the_score_finds_what_tells_the_answer(place: Path, corpus: Corpus) -> None:
    """On entities that it was not trained on, and better than the order of retrieval."""
    settings = open_reader(READER).settings
    assert settings.selected is not None
    assert settings.selected < settings.retrieved
    task = questions.load_task(
        "slots",
        place / "tasks" / "slots-test.jsonl",
        corpus,
        retrieved=settings.retrieved,
        keep_in=place / "found",
    )
    there = told(corpus, task)
    # Where the retriever's order does not decide it alone: some tell the answer, some do not.
    mixed = there.any(1) & ~there.all(1)
    answerer = QuestionAnswerer(corpus, READER, batch=32)
    inputs = [example.input for example in task.examples]
    scores = np.array([[p.score for p in a.passages] for a in answerer.answer(inputs, task.passage_ids)])
    best = there[np.arange(len(there)), scores.argmax(1)][mixed].mean()
    first = there[mixed, 0].mean()
    chance = there[mixed].mean()
    assert mixed.sum() > 100
    print(f"best by score {best:.3f}, first as retrieved {first:.3f}, chance {chance:.3f}")
    assert best > first + 0.05
    assert best > chance + 0.2


@pytest.mark.slow
def test_the_models_are_made_by_one_call_that_can_be_repeated(tmp_path: Path) -> None:
    recipe = readers.Recipe(
        invented=20,
        vocabulary=600,
        whole_steps=3,
        split_steps=2,
        ranked_steps=2,
        fine_steps=2,
        batch=8,
        many_batch=4,
    )
    scores = readers.make_readers(tmp_path, GTR, recipe)
    assert list(scores) == ["whole", "split", "ranked", "fine"]
    made = open_reader(tmp_path / readers.GLIMMER_NAME)
    assert made.settings.retrieved == readers.RETRIEVED
    assert made.settings.selected == readers.SELECTED
    card = (tmp_path / readers.GLIMMER_NAME / "README.md").read_text()
    assert "2 steps" in card
    assert f"{readers.RETRIEVED} passages" in card
    assert json.loads((tmp_path / readers.T5_NAME / "config.json").read_text())["num_layers"] == 4
    assert readers.make_readers(tmp_path, GTR, recipe) == {}
