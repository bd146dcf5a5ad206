"""Late interaction on real questions: SQuAD's paragraphs as one vector finds them, ranked by MaxSim.

    python -m benchmarks.maxsim FILE [--model FOLDER] [--colbert FOLDER] [--codec CODEC]
                                [--questions N] [--out OUT]

FILE is SQuAD's JSON (dev-v2.0.json, or a part of it). The retriever is `--model`, a SentenceTransformer
(default: all-MiniLM-L6-v2 of `benchmarks.minilm`). The multi-vector retriever is `--colbert`; by default it
is made of the same model, with nothing trained: the states of its tokens, without punctuation, at length 1.

OUT (default: maxsim) gets the corpus, whose memory is the multi-vector retriever's. Printed is how often the
paragraph that a question was asked about is among the first k, as found and as ranked again; bytes of the
memory, time a question, and how far scores from memory are from the library's own MaxSim, on 100 questions.
It fails where a score computed from the library's own vectors is another than the library's.
"""

from __future__ import annotations

import argparse
import json
import string
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks import minilm, squad
from encoders.transformers_output import silenced
from retrieval import Corpus, maxsim, open_corpus
from storage.ragged import RaggedMemory

KS: Final = (1, 5, 20)
# Passages that are found for a question, and ranked again.
CANDIDATES: Final = 50
CHECKED: Final = 100
BOUND: Final = 1e-4


def make_colbert(model: str, folder: Path) -> Path:
    """A multi-vector retriever of a SentenceTransformer's token states, untrained."""
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    with silenced():
        transformer = SentenceTransformer(model, device="cpu")[0]
        modules = [
            transformer,
            MultiVectorMask(skiplist_words=list(string.punctuation)),
            Normalize(module_input_name="token_embeddings"),
        ]
        MultiVectorEncoder(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    return folder


def recall(pages: Sequence[str], wanted: Sequence[str], found: npt.NDArray[np.int64]) -> list[float]:
    """Share of questions whose page is among the first k distinct pages found, for each of `KS`."""
    hits = np.zeros(len(KS))
    for page, ids in zip(wanted, found, strict=True):
        ranked = list(dict.fromkeys(pages[i] for i in ids))
        place = ranked.index(page) if page in ranked else len(pages)
        hits += [place < k for k in KS]
    return (hits / len(wanted)).tolist()


def check(corpus: Corpus, colbert: str, questions: list[str], found: npt.NDArray[np.int64]) -> float:
    """The largest relative difference of scores from memory to the library's own; fails where MaxSim itself
    is another."""
    from sentence_transformers import MultiVectorEncoder

    with silenced():
        model: Any = MultiVectorEncoder(colbert, device="cpu")
    encoder = corpus.memory().card.encoder
    ids = np.unique(found)
    rows = corpus.passages(ids).to_pylist()
    template = str(encoder["template"])
    texts = [template.format(title=r["title"], section=r["section"], text=r["text"]) for r in rows]
    documents = model.encode_document(texts, convert_to_numpy=True, show_progress_bar=False)
    queries = model.encode_query(questions, convert_to_numpy=True, show_progress_bar=False)
    theirs = model.similarity(queries, documents).numpy()
    offsets = np.concatenate([[0], np.cumsum([len(d) for d in documents])]).astype(np.int64)
    exact = RaggedMemory(passage_ids=ids, offsets=offsets, values=np.concatenate(documents))
    stored = corpus.memory().fetch(ids)
    apart = 0.0
    for query, own in zip(queries, theirs, strict=True):
        if not np.abs(maxsim.scores(query, exact) - own).max() <= BOUND * np.abs(own).max():
            raise SystemExit("MaxSim is another than sentence-transformers'")
        apart = max(apart, float(np.abs(maxsim.scores(query, stored) / own - 1).max()))
    return apart


def main(given: Sequence[str] | None = None) -> None:
    """Do all of it; prints the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--colbert")
    parser.add_argument("--codec", default="int8")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("maxsim"))
    arguments = parser.parse_args(given)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    articles = json.loads(arguments.file.read_bytes())["data"]
    model = arguments.model or str(minilm.unpack(minilm.default_folder()))
    colbert = arguments.colbert or str(out / "colbert")
    if not Path(colbert).exists():
        make_colbert(model, Path(colbert))
    lines = [json.dumps(record) + "\n" for record in squad.source(articles)]
    (out / "paragraphs.jsonl").write_text("".join(lines), encoding="ascii")
    command = [sys.executable, "-m", "pipeline", "build", "--out", str(out / "corpus")]
    command += ["--source", f"jsonl:{out / 'paragraphs.jsonl'}", "--retriever", model]
    command += ["--memory-encoder", colbert, "--codec", arguments.codec, "--compute-dtype", "float32"]
    subprocess.run(command, check=True)

    corpus = open_corpus(out / "corpus", retriever=model)
    asked = [example for example in squad.task(articles) if example.answers]
    places = np.unique(np.linspace(0, len(asked) - 1, min(arguments.questions, len(asked))).astype(int))
    asked = [asked[place] for place in places]
    questions = [example.input for example in asked]
    wanted = [str(example.outputs[0].provenance[0].wikipedia_id) for example in asked]
    pages = [str(page) for page in corpus.passages(range(len(corpus)))["page_id"].to_pylist()]
    among = min(CANDIDATES, len(corpus))
    found = corpus.search(questions, among).passage_ids
    reranker = corpus.reranker()
    started = time.perf_counter()
    queries = reranker.queries(questions)
    reading = time.perf_counter() - started
    started = time.perf_counter()
    ranked, _ = maxsim.rerank(queries, found, reranker.memory)
    ranking = time.perf_counter() - started
    card = corpus.memory().card
    print(f"{len(lines)} paragraphs, {len(corpus)} passages")
    vectors = f"{card.counts.tokens:,} vectors of {card.layout.width}"
    print(f"memory: {vectors}, {card.counts.memory_bytes:,} bytes in {card.layout.codec.name}")
    print(f"{len(questions):,} questions{'':14}" + "".join(f"{f'recall@{k}':>12}" for k in KS))
    for name, ids in (("one vector", found), (f"MaxSim of the {among} found", ranked)):
        print(f"{name:30}" + "".join(f"{value:12.1%}" for value in recall(pages, wanted, ids)))
    print(
        f"a question: {1000 * reading / len(questions):.1f} ms for its vectors, "
        f"{1000 * ranking / len(questions):.1f} ms to fetch and rank {among} passages"
    )
    apart = check(corpus, colbert, questions[:CHECKED], found[:CHECKED, : KS[-1]])
    checked = min(CHECKED, len(questions))
    print(f"MaxSim of {checked} questions is sentence-transformers'; from memory it is {apart:.2%} off")


if __name__ == "__main__":
    main()
