"""Ways to make memory smaller that are no codec of the store, in answers of the miniwiki's test split.

    python -m benchmarks.codec_trials [--reader FOLDER] [--seed 0]

The reader was trained on none of them. Memory of all passages is read in bfloat16, changed as a scheme says,
and questions are answered from it, as `benchmarks.codec_answers` has them answered from codecs.

    16x   product codes of 8 dims (the store's pq8x8), these after a rotation that was trained for them (OPQ;
          Ge et al. 2013), residual codes of 16 dims in two steps, and of the whole token in d / 8 steps
    32x   product codes of 16 dims (pq16x8), of 8 dims in 4 bits, residual codes of the whole token in d / 16
    less  half of the tokens: the first, drawn ones, those of the rarer pieces, the mean of each two; in
          bfloat16, and in pq8x8 beside

Quantizers are FAISS's, trained on the same tokens as the store's. Bytes are of codes, without a version's
other files.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import ml_dtypes
import numpy as np
import numpy.typing as npt

from benchmarks import codec_answers
from benchmarks.store.report import columns
from encoders.reader import open_reader
from encoders.reader.folder import ReaderFolder
from encoders.reader.model import Reader
from examples.miniwiki import demo, readers, tasks
from pipeline.readers import answers, kilt, questions
from pipeline.readers.collate import Collator
from retrieval import open_corpus
from retrieval.corpus import Corpus

Tokens = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

BATCH = 32
# Tokens that quantizers are trained on.
SAMPLE = 65_536


@dataclass(frozen=True)
class Held:
    """Memory of passages by id, as a reader of answers asks for it."""

    of: dict[int, Tokens]
    width: int

    def require_encoder(self, fingerprint: str) -> None:
        """It is the reader's own."""

    def fetch(self, passage_ids: Ids) -> Found:
        return Found([self.of[i].astype(ml_dtypes.bfloat16) for i in passage_ids.tolist()])


@dataclass(frozen=True)
class Found:
    passages: list[npt.NDArray[np.generic]]

    @property
    def values(self) -> npt.NDArray[np.generic]:
        return np.concatenate(self.passages)

    @property
    def offsets(self) -> Ids:
        return np.cumsum([0, *map(len, self.passages)])

    def __iter__(self) -> Iterator[npt.NDArray[np.generic]]:
        return iter(self.passages)


@dataclass(frozen=True)
class Scheme:
    """A way to make memory smaller.

    Args:
        name: for the table.
        bits: of a dimension of a token that is kept.
        change: of all tokens [n, d], given tokens [m, d] to train on; None: they stay.
        keep: of a passage: its tokens from all of them, given their pieces.
    """

    name: str
    bits: float
    change: Callable[[Tokens, Tokens], Tokens] | None = None
    keep: Callable[[Tokens, npt.NDArray[np.int32]], Tokens] | None = None


def coded(quantizer: Callable[[int], object]) -> Callable[[Tokens, Tokens], Tokens]:
    def change(values: Tokens, sample: Tokens) -> Tokens:
        made: Any = quantizer(values.shape[1])
        made.train(sample)
        found: Tokens = made.decode(made.compute_codes(values))
        return found

    return change


def product(dims: int, bits: int) -> Callable[[int], object]:
    return lambda d: faiss.ProductQuantizer(d, d // dims, bits)


def residual(dims: int | None, share: int) -> Callable[[int], object]:
    """Steps of a byte for each `share` dims, of runs of `dims`; None: of the whole token."""

    def make(d: int) -> object:
        run = dims or d
        made: object = faiss.ProductResidualQuantizer(d, d // run, run // share, 8)
        return made

    return make


def rotated(values: Tokens, sample: Tokens) -> Tokens:
    """Product codes of 8 dims after OPQ's rotation."""
    d = values.shape[1]
    rotation: Any = faiss.OPQMatrix(d, d // 8)
    rotation.train(sample)
    found = coded(product(8, 8))(rotation.apply(values), rotation.apply(sample))
    back: Tokens = rotation.reverse_transform(found)
    return back


def pairs(values: Tokens, pieces: npt.NDArray[np.int32]) -> Tokens:
    """The mean of each two tokens, the last alone where they are odd."""
    ends = range(0, len(values), 2)
    return np.stack([values[i : i + 2].mean(axis=0) for i in ends])


def half(score: Callable[[npt.NDArray[np.int32]], npt.NDArray[np.floating]]) -> Callable[..., Tokens]:
    """The half of a passage's tokens with the highest scores, in their order."""

    def keep(values: Tokens, pieces: npt.NDArray[np.int32]) -> Tokens:
        best = np.argsort(-score(pieces), kind="stable")[: (len(values) + 1) // 2]
        return values[np.sort(best)]

    return keep


def schemes(counts: Counter[int], seed: int) -> list[Scheme]:
    rng = np.random.default_rng(seed)
    keeps = {
        "the first half": half(lambda pieces: -np.arange(len(pieces), dtype=float)),
        "half, drawn": half(lambda pieces: rng.random(len(pieces))),
        "the rarer half": half(lambda pieces: -np.array([counts[int(i)] for i in pieces], float)),
        "means of two": pairs,
    }
    codes = coded(product(8, 8))
    return [
        Scheme("bfloat16", 16),
        Scheme("pq8x8", 1, codes),
        Scheme("a rotation, pq8x8", 1, rotated),
        Scheme("residual, 16 dims, 2 bytes", 1, coded(residual(16, 8))),
        Scheme("residual, whole, d / 8 bytes", 1, coded(residual(None, 8))),
        Scheme("pq16x8", 0.5, coded(product(16, 8))),
        Scheme("pq8x4", 0.5, coded(product(8, 4))),
        Scheme("residual, whole, d / 16 bytes", 0.5, coded(residual(None, 16))),
        *(Scheme(name, 16, keep=keep) for name, keep in keeps.items()),
        *(Scheme(f"{name}, pq8x8", 1, codes, keep) for name, keep in keeps.items()),
    ]


def changed(scheme: Scheme, memory: dict[int, Tokens], pieces: dict[int, npt.NDArray[np.int32]]) -> Held:
    """The memory of a scheme: tokens are chosen or merged, then coded."""
    kept = memory
    if scheme.keep is not None:
        kept = {i: scheme.keep(values, pieces[i]) for i, values in memory.items()}
    width = next(iter(memory.values())).shape[1]
    if scheme.change is not None:
        rows = np.concatenate(list(kept.values()))
        sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64)]
        ends = np.cumsum([len(one) for one in kept.values()])[:-1]
        kept = dict(zip(kept, np.split(scheme.change(rows, sample), ends), strict=True))
    return Held(kept, width)


def read(corpus: Corpus, collate: Collator) -> tuple[dict[int, Tokens], dict[int, npt.NDArray[np.int32]]]:
    """Memory of every passage, and its pieces."""
    every = np.arange(len(corpus))
    fetched = corpus.memory().fetch(every)
    memory = {int(i): np.asarray(one, np.float32) for i, one in zip(every, fetched, strict=True)}
    tokens, lengths = collate.read(every[:, None])
    return memory, {int(i): tokens[i, 0, : lengths[i, 0]] for i in every}


def answered(
    reader: Reader, opened: ReaderFolder, corpus: Corpus, held: Held, asked: dict[str, questions.Task]
) -> tuple[dict[str, float], list[str]]:
    """Exact match of each task in percent, and all answers."""
    collate = Collator(corpus, opened.settings, opened.path, memory=held)  # type: ignore[arg-type]
    scores, said = {}, []
    for name, task in asked.items():
        found: list[str] = []
        for start in range(0, len(task.examples), BATCH):
            some = task.examples[start : start + BATCH]
            ids = task.passage_ids[start : start + BATCH]
            inputs = [example.input for example in some]
            selected = opened.settings.selected
            found += [
                one.text
                for one in answers.read_batch(reader, collate, inputs, ids, selected=selected, rows=BATCH)
            ]
        scores[name] = 100 * statistics.fmean(
            kilt.evaluate([example], [kilt.Prediction(id=example.id, answer=text)]).downstream["em"]
            for example, text in zip(task.examples, found, strict=True)
        )
        said += found
    return scores, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--reader", type=Path, default=demo.MODELS / readers.GLIMMER_NAME)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="memcorpus-trials-") as scratch:
        place = Path(scratch)
        corpus = open_corpus(codec_answers.make(place, options.reader, 0))
        asked = codec_answers.load(place, corpus, options.reader)
        opened = open_reader(options.reader)
        reader = Reader(
            opened.settings.config,
            opened.tensor,
            compute_dtype=opened.settings.compute_dtype,
            memory_dtype="bfloat16",
        )
        memory, pieces = read(corpus, Collator(corpus, opened.settings, opened.path))
        counts = Counter(int(piece) for one in pieces.values() for piece in one)
        tokens = sum(map(len, memory.values()))
        rows = [
            ["scheme", "bytes a token", "smaller", "error", *tasks.TASKS, "mean", "of bfloat16's", "same"]
        ]
        plain: tuple[float, list[str]] | None = None
        for scheme in schemes(counts, options.seed):
            held = changed(scheme, memory, pieces)
            scores, said = answered(reader, opened, corpus, held, asked)
            means = [scores[task] for task in tasks.TASKS]
            mean = statistics.fmean(means)
            plain = plain or (mean, said)
            size = sum(map(len, held.of.values())) * scheme.bits * held.width / 8 / tokens
            same = statistics.fmean(one == other for one, other in zip(said, plain[1], strict=True))
            rows.append(
                [
                    scheme.name,
                    f"{size:.1f}",
                    f"{2 * held.width / size:.1f}",
                    error(held, memory) if scheme.keep is None else "",
                    *(f"{one:.1f}" for one in means),
                    f"{mean:.1f}",
                    f"{mean / plain[0]:.3f}",
                    f"{100 * same:.0f} %",
                ]
            )
        print(columns(rows))


def error(held: Held, memory: dict[int, Tokens]) -> str:
    """Root mean square, relative."""
    off = sum(float(np.square(held.of[i] - memory[i]).sum()) for i in memory)
    return f"{np.sqrt(off / sum(float(np.square(one).sum()) for one in memory.values())):.3f}"


if __name__ == "__main__":
    main()
