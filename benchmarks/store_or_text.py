"""Seconds of reading a question with memory from the store, and with passages encoded live, by k.

    python -m benchmarks.store_or_text [--size base --retrieved 5 10 20 --questions 4 --rounds 5]

A GLIMMER of random weights (α = 1/3, β = 1/4, a fifth of the passages kept) reads the longest passages of the
miniwiki, both ways in turns, from the question and the passages' ids to the words: nothing is retrieved. How
many answers are the same is printed; random weights find many words equally good, and a rounding decides, so
that is no test (tests/test_reader_runs.py is), and most answers end at once: the decoder hardly counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.store.report import columns, spread
from benchmarks.timing import interleaved
from encoders import PUBLISHED_SIZES
from encoders.reader import ReaderSettings, folder, preset
from encoders.reader.model import Reader
from examples.miniwiki.export import write_dump
from pipeline.components.settings import BuildSettings
from pipeline.jobs import build
from pipeline.readers.answers import STORE, TEXT, QuestionAnswerer
from retrieval import open_corpus
from retrieval.corpus import Corpus
from storage.folder import CorpusFolder

ALPHA, BETA = Fraction(1, 3), Fraction(1, 4)
KEPT = 5  # one passage of so many
ANSWER_TOKENS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=["base", "large", "xl", "xxl"], default="base")
    parser.add_argument("--articles", type=int, default=120)
    parser.add_argument("--retrieved", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--questions", type=int, default=4, help="of a batch")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="memcorpus-reading-") as place:
        corpus, reader = make(Path(place), options.size, options.articles)
        lengths = corpus.memory().tokens(np.arange(len(corpus)))
        longest = np.argsort(-lengths, kind="stable")
        print(f"{options.size}, {options.questions} questions at a time")
        rows = [["k to m", "tokens a passage", "store", "text", "text / store (quartiles)", "same"]]
        for k in options.retrieved:
            ids = np.resize(longest[: max(k, 64)], (options.questions, k))
            rows.append(measure(corpus, reader, ids, lengths, options.rounds))
        print(columns(rows))


def make(place: Path, size: str, articles: int) -> tuple[Corpus, Path]:
    """A corpus with the memory of a reader, and the reader."""
    from tests import small_models

    shape = PUBLISHED_SIZES[size]
    dump = write_dump(place, articles=articles).path
    gtr = small_models.make_gtr_folder(place / "gtr")
    t5 = small_models.make_t5_folder(
        place / "t5",
        layers=shape.layers,
        decoder_layers=shape.layers,
        d_model=shape.d_model,
        d_ff=shape.d_ff,
        heads=shape.heads,
        d_kv=shape.d_kv,
        embedding_rows=shape.vocab_size,
        decoder=True,
    )
    config, layers = folder.read_t5(t5)
    settings = ReaderSettings(
        config=preset(
            "glimmer", config, decoder_layers=layers, live_proportion=ALPHA, rerank_proportion=BETA
        ),
        answer_tokens=ANSWER_TOKENS,
        selected=1,
    )
    begun = folder.from_t5(t5, settings)
    reader = place / "reader"
    folder.save(Reader(settings.config, begun.tensor), settings, reader, like=t5)
    build.build(
        BuildSettings(
            sources=(f"mediawiki:{dump}",),
            retriever=str(gtr),
            memory_encoder=str(reader),
            memory=settings.memory,
        ),
        CorpusFolder(place / "corpus"),
    )
    return open_corpus(place / "corpus", retriever=str(gtr)), reader


def measure(corpus: Corpus, reader: Path, ids: Any, lengths: Any, rounds: int) -> list[str]:
    """A row of the table."""
    questions, k = ids.shape
    kept = max(1, k // KEPT)
    asked = [f"What is told of number {number}?" for number in range(questions)]
    ways = {
        source: QuestionAnswerer(corpus, reader, source=source, retrieved=k, selected=kept, batch=questions)
        for source in (STORE, TEXT)
    }
    said = {source: [a.text for a in way.answer(asked, ids)] for source, way in ways.items()}
    same = sum(a == b for a, b in zip(said[STORE], said[TEXT], strict=True))
    seconds = interleaved(
        {source: (lambda w=way: list(w.answer(asked, ids))) for source, way in ways.items()}, rounds
    )
    ratio = spread(seconds[TEXT], seconds[STORE])
    each = {source: statistics.median(values) / questions for source, values in seconds.items()}
    return [
        f"{k} to {kept}",
        f"{lengths[ids].mean():.0f}",
        f"{each[STORE]:.2f} s",
        f"{each[TEXT]:.2f} s",
        f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
        f"{same} of {questions}",
    ]


if __name__ == "__main__":
    main()
