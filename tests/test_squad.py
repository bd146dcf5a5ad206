"""SQuAD and NQ-open as corpora and KILT tasks: every paragraph and question is there, and what is found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import nq_open, squad
from pipeline.readers import kilt
from retrieval import open_corpus

WORDS = "the norse came from denmark to normandy and built a castle on the river".split()


def article(title: str, *contexts: str) -> dict[str, object]:
    def asked(place: int, context: str) -> list[dict[str, object]]:
        answer = {"text": context.split()[0], "answer_start": 0}
        found = {
            "question": f" what of {context[:30]}?",
            "id": f"{title}{place}",
            "answers": [answer, answer],
        }
        return [found, {"question": "why?", "id": f"{title}{place}x", "answers": [], "is_impossible": True}]

    paragraphs = [{"context": c, "qas": asked(place, c)} for place, c in enumerate(contexts)]
    return {"title": title, "paragraphs": paragraphs}


def test_paragraphs_are_built_and_found(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    long = " ".join(WORDS[i % 14] + str(i // 14) for i in range(450))
    short = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(6)]
    articles = [article("A_b", long, *short[:2]), article("C", *short[2:])]
    (tmp_path / "squad.json").write_text(json.dumps({"version": "v2.0", "data": articles}))
    out = tmp_path / "out"
    options = ["--retriever", str(models / "gtr"), "--memory-encoder", str(models / "t5"), "--out", str(out)]
    squad.main([str(tmp_path / "squad.json"), *options])
    said = capfd.readouterr().out
    assert "7 paragraphs of 2 articles, 9 passages" in said

    corpus = open_corpus(out / "corpus")
    rows = corpus.passages(range(len(corpus))).to_pylist()
    assert {(row["page_id"], row["title"]) for row in rows} == {
        *((f"A_b/{i}", "A b") for i in range(3)),
        *((f"C/{i}", "C") for i in range(4)),
    }
    everything = list(kilt.read_examples(out / "everything.jsonl"))
    answerable = list(kilt.read_examples(out / "questions.jsonl"))
    assert (len(everything), len(answerable)) == (14, 7)
    assert answerable[0].input == f"what of {long[:30]}?"
    assert answerable[0].answers == (long.split()[0],)
    assert {page.title for task in everything[:6] for page in task.outputs[0].provenance or ()} == {"A b"}
    # By hand: a page ranks by its best passage.
    predictions = list(kilt.read_predictions(out / "found.jsonl"))
    result = corpus.search([task.input for task in everything], len(corpus))
    hits = 0
    for task, prediction, ids, values in zip(
        everything, predictions, result.passage_ids, result.scores, strict=True
    ):
        best = {row["page_id"]: -np.inf for row in rows}
        for number, value in zip(ids, values, strict=True):
            best[rows[number]["page_id"]] = max(best[rows[number]["page_id"]], value)
        assert prediction.id == task.id
        assert [page.wikipedia_id for page in prediction.provenance] == sorted(best, key=lambda p: -best[p])
        hits += prediction.provenance[0] == (task.outputs[0].provenance or ())[0]
    line = next(line for line in said.splitlines() if line.startswith("    14 questions"))
    assert line.split()[2] == line.split()[3] == f"{hits / 14:.1%}"
    assert line.split()[4:] == [f"{s:.1%}" for s in _recall(everything, predictions, (5, 20, 100))]


def _recall(
    examples: list[kilt.Example], predictions: list[kilt.Prediction], ks: tuple[int, ...]
) -> list[float]:
    places = []
    for task, prediction in zip(examples, predictions, strict=True):
        ids = [page.wikipedia_id for page in prediction.provenance]
        places.append(ids.index((task.outputs[0].provenance or ())[0].wikipedia_id))
    return [float(np.mean(np.array(places) < k)) for k in ks]


def test_the_real_files_are_whole(shared_data: Path) -> None:
    articles = json.loads((shared_data / "squad" / "squad-v2-dev-half.json").read_bytes())["data"]
    records = list(squad.source(articles))
    examples = list(squad.task(articles))
    answerable = [example for example in examples if example.answers]
    assert (len(records), len(examples), len(answerable)) == (646, 6078, 2910)
    texts = {record["id"]: record["text"] for record in records}
    assert len(texts) == len(records)
    for example in answerable:
        for output in example.outputs:
            (page,) = output.provenance or ()
            assert (output.answer or "") in texts[page.wikipedia_id or ""]
    with (shared_data / "nq" / "NQ-open.dev.jsonl").open(encoding="utf-8") as lines:
        questions = list(nq_open.task(lines))
    assert len(questions) == len({question.id for question in questions}) == 3610
    assert questions[0].answers == ("14 December 1972 UTC", "December 1972")
    assert all(question.answers for question in questions)
