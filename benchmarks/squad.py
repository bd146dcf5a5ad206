"""Real questions: SQuAD 2.0's paragraphs as a corpus, its questions as a KILT task, and what is retrieved.

    python -m benchmarks.squad FILE --retriever FOLDER --memory-encoder FOLDER [--out OUT]

FILE is SQuAD's JSON (dev-v2.0.json, or a part of it). OUT (default: squad) gets

    paragraphs.jsonl    the source of the corpus: each paragraph a page of its own
    questions.jsonl     the task: questions that have an answer, with it and with their paragraph
    everything.jsonl    the same with the unanswerable ones, which have a paragraph alone
    corpus/             `memcorpus build` of paragraphs.jsonl
    found.jsonl         predictions without answers: the paragraphs retrieved for everything.jsonl

and is printed how often the paragraph that a question was asked about is among the first k retrieved,
beside what drawing paragraphs at random would give. `memcorpus evaluate OUT/everything.jsonl
OUT/found.jsonl` gives the same scores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.readers import kilt
from pipeline.readers.kilt import Example, Output, Prediction, Provenance
from retrieval import Corpus, open_corpus

KS = (1, 5, 20, 100)


def paragraphs(articles: list[dict[str, Any]]) -> Iterator[tuple[Provenance, dict[str, Any]]]:
    """Each paragraph with the page that it becomes: its id is the article's title and its place."""
    for article in articles:
        for place, paragraph in enumerate(article["paragraphs"]):
            title = article["title"].replace("_", " ")
            yield Provenance(wikipedia_id=f"{article['title']}/{place}", title=title), paragraph


def source(articles: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """The records of a `jsonl:` source."""
    for page, paragraph in paragraphs(articles):
        yield {"id": str(page.wikipedia_id), "title": page.title, "text": paragraph["context"]}


def task(articles: list[dict[str, Any]]) -> Iterator[Example]:
    """The questions; those without an answer have an output of provenance alone."""
    for page, paragraph in paragraphs(articles):
        for asked in paragraph["qas"]:
            answers = dict.fromkeys(answer["text"] for answer in asked["answers"])
            yield Example(
                id=asked["id"],
                input=asked["question"].strip(),
                outputs=tuple(Output(answer=text, provenance=(page,)) for text in answers)
                or (Output(provenance=(page,)),),
            )


def retrieve(corpus: Corpus, examples: list[Example]) -> Iterator[Prediction]:
    """The pages of the passages nearest to each question, each page once."""
    rows = corpus.passages(range(len(corpus))).select(["page_id", "title"]).to_pylist()
    pages = [Provenance(wikipedia_id=row["page_id"], title=row["title"]) for row in rows]
    # Long paragraphs are several passages, so more passages than pages are wanted.
    k = min(len(corpus), 2 * max(KS))
    found = corpus.search([example.input for example in examples], k)
    for example, ids in zip(examples, found.passage_ids, strict=True):
        ranked: dict[str | None, Provenance] = {}
        for row in ids:
            ranked.setdefault(pages[row].wikipedia_id, pages[row])
        best = tuple(ranked.values())[: max(KS)]
        yield Prediction(id=example.id, input=example.input, answer=None, provenance=best)


def main(given: Sequence[str] | None = None) -> None:
    """Do all of it; prints the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--retriever", required=True)
    parser.add_argument("--memory-encoder", required=True)
    parser.add_argument("--live-proportion", default="1/3")
    parser.add_argument("--out", type=Path, default=Path("squad"))
    arguments = parser.parse_args(given)
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    articles = json.loads(arguments.file.read_bytes())["data"]
    everything = list(task(articles))
    answerable = [example for example in everything if example.answers]
    kilt.write_examples(out / "everything.jsonl", everything)
    kilt.write_examples(out / "questions.jsonl", answerable)
    lines = [json.dumps(record) + "\n" for record in source(articles)]
    (out / "paragraphs.jsonl").write_text("".join(lines), encoding="ascii")
    command = [sys.executable, "-m", "pipeline", "build", "--out", str(out / "corpus")]
    command += ["--source", f"jsonl:{out / 'paragraphs.jsonl'}", "--retriever", arguments.retriever]
    command += ["--memory-encoder", arguments.memory_encoder]
    subprocess.run([*command, "--live-proportion", arguments.live_proportion], check=True)
    corpus = open_corpus(out / "corpus", retriever=arguments.retriever)
    found = list(retrieve(corpus, everything))
    kilt.write_predictions(out / "found.jsonl", found)
    print(f"{len(lines)} paragraphs of {len(articles)} articles, {len(corpus)} passages")
    print(f"{'':24}" + "".join(f"{name:>12}" for name in ("Rprec", *(f"recall@{k}" for k in KS))))
    for name, examples in (("questions", everything), ("with an answer", answerable)):
        ids = {example.id for example in examples}
        scores = kilt.evaluate(examples, (one for one in found if one.id in ids), ks=KS).retrieval
        values = [scores["Rprec"], *(scores[f"recall@{k}"] for k in KS)]
        print(f"{len(examples):6,} {name:17}" + "".join(f"{value:12.1%}" for value in values))
    chance = [min(1.0, k / len(lines)) for k in (1, *KS)]
    print(f"{'drawn at random':24}" + "".join(f"{value:12.1%}" for value in chance))


if __name__ == "__main__":
    main()
