"""Real questions: SQuAD 2.0's paragraphs as a corpus, its questions as a KILT task, and what is retrieved.

    python -m benchmarks.squad FILE --retriever FOLDER --memory-encoder FOLDER [--out OUT]

FILE is SQuAD's JSON (dev-v2.0.json, or a part of it). OUT (default: squad) gets

    paragraphs.jsonl    the source of the corpus: each paragraph a page of its own
    questions.jsonl     the task: questions that have an answer, with it and with their paragraph
    everything.jsonl    the same with the unanswerable ones, which have a paragraph alone
    corpus/             `memcorpus build` of paragraphs.jsonl
    found.jsonl         predictions without answers: the paragraphs retrieved for everything.jsonl

and is printed how often the paragraph that a question was asked about is among the first k retrieved, beside
sentence-transformers' own search through the same passages (its vectors, its similarity, every passage
compared), and what drawing paragraphs at random would give. It fails where the two do not find passages of
the same similarity. `memcorpus evaluate OUT/everything.jsonl
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

import numpy as np
import numpy.typing as npt

from encoders.template import PassageTemplate
from encoders.transformers_output import silenced
from pipeline.readers import kilt
from pipeline.readers.kilt import Example, Output, Prediction, Provenance
from retrieval import Corpus, SearchResult, open_corpus

KS = (1, 5, 20, 100)
# Of similarities by the two: rounding, of backends too.
BOUND = 1e-4


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


def _pages(corpus: Corpus) -> list[Provenance]:
    """The page of each passage."""
    rows = corpus.passages(range(len(corpus))).select(["page_id", "title"]).to_pylist()
    return [Provenance(wikipedia_id=row["page_id"], title=row["title"]) for row in rows]


def _passages(corpus: Corpus) -> int:
    """How many to look for: long paragraphs are several passages, so more passages than pages are wanted."""
    return min(len(corpus), 2 * max(KS))


def ranked(
    pages: list[Provenance], examples: list[Example], found: npt.NDArray[np.int64]
) -> Iterator[Prediction]:
    """The pages of the passages nearest to each question, each page once."""
    for example, ids in zip(examples, found, strict=True):
        ranked: dict[str | None, Provenance] = {}
        for row in ids:
            ranked.setdefault(pages[row].wikipedia_id, pages[row])
        best = tuple(ranked.values())[: max(KS)]
        yield Prediction(id=example.id, input=example.input, answer=None, provenance=best)


def search_by_library(corpus: Corpus, folder: str, questions: list[str]) -> SearchResult:
    """The same search by sentence-transformers alone: its prompts, vectors and similarity, by brute force.

    Weights are computed with in float32, and texts cut at the limit that the corpus's vectors were made with.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    with silenced():
        model = SentenceTransformer(folder, model_kwargs={"dtype": torch.float32})
    encoder = corpus.vectors_card.encoder
    model.max_seq_length = encoder["max_tokens"]
    rows = corpus.passages(range(len(corpus))).to_pylist()
    template = PassageTemplate(corpus.manifest.built["retriever_template"])
    documents = model.encode_document(template.render_rows(rows), show_progress_bar=False)
    queries = model.encode_query(questions, show_progress_bar=False)
    best = model.similarity(queries, documents).topk(_passages(corpus), dim=1)
    return SearchResult(passage_ids=best.indices.numpy(), scores=best.values.numpy())


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
    questions, pages = [example.input for example in everything], _pages(corpus)
    ours = corpus.search(questions, _passages(corpus))
    found = list(ranked(pages, everything, ours.passage_ids))
    kilt.write_predictions(out / "found.jsonl", found)
    theirs = search_by_library(corpus, arguments.retriever, questions)
    apart = float(np.abs(ours.scores - theirs.scores).max())
    if not apart <= BOUND:
        raise SystemExit(f"sentence-transformers finds other passages: similarities are {apart:.1e} apart")
    library = list(ranked(pages, everything, theirs.passage_ids))
    print(f"{len(lines)} paragraphs of {len(articles)} articles, {len(corpus)} passages")
    print(f"{'':24}" + "".join(f"{name:>12}" for name in ("Rprec", *(f"recall@{k}" for k in KS))))
    for name, examples in (("questions", everything), ("with an answer", answerable)):
        ids = {example.id for example in examples}
        for who, predictions in ((f"{len(examples):6,} {name}", found), ("  by brute force", library)):
            scores = kilt.evaluate(examples, (one for one in predictions if one.id in ids), ks=KS).retrieval
            values = [scores["Rprec"], *(scores[f"recall@{k}"] for k in KS)]
            print(f"{who:24}" + "".join(f"{value:12.1%}" for value in values))
    chance = [min(1.0, k / len(lines)) for k in (1, *KS)]
    print(f"{'drawn at random':24}" + "".join(f"{value:12.1%}" for value in chance))


if __name__ == "__main__":
    main()
