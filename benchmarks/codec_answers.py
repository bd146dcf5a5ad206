"""What a codec costs in answers: the miniwiki's test split, read from memory in each codec.

    python -m benchmarks.codec_answers [--reader FOLDER] [--codecs int8 turbo4 ...] [--invented 3000]

A corpus of the miniwiki is built with the reader's own memory encoder, recoded to every codec, and all test
questions are answered from each version, from the same passages. Beside exact match: how many answers are
those of bfloat16, and how many of the right ones each of the two has alone, which tells how far the
difference may be chance.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.store.report import columns
from encoders.reader import open_reader
from examples.miniwiki import demo, export, readers, retriever, tasks
from pipeline.accounts import facts
from pipeline.components.settings import BuildSettings
from pipeline.jobs import build, reencode
from pipeline.jobs.reencode import ReencodeSettings
from pipeline.readers import answers, kilt, questions
from retrieval import open_corpus
from retrieval.corpus import Corpus
from storage import manifest
from storage.folder import CorpusFolder

PLAIN = "bfloat16"
DEFAULT = ("int8", "turbo4", "turbo2", "pq4x8", "pq8x8", "pq16x8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--reader", type=Path, default=demo.MODELS / readers.GLIMMER_NAME)
    parser.add_argument("--codecs", nargs="+", default=DEFAULT)
    parser.add_argument("--invented", type=int, default=0, help="entities beside those of the tables")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="memcorpus-answers-") as place:
        root = make(Path(place), options.reader, options.invented)
        asked = load(Path(place), open_corpus(root), options.reader)
        corpus = CorpusFolder(root)
        stored = {PLAIN: manifest.CURRENT}
        for codec in options.codecs:
            _, stored[codec] = reencode.reencode(
                corpus, ReencodeSettings(origin=manifest.CURRENT, codec=codec)
            )
        found = {codec: right(root, options.reader, asked, name) for codec, name in stored.items()}
        listed = {row["codec"]: row for row in facts.versions(facts.read(corpus))}
        rows = [["codec", "bytes a token", "smaller", *tasks.TASKS, "mean", "same", "right alone"]]
        for codec, (scores, said) in found.items():
            size = listed[codec]["bytes"] / listed[codec]["tokens"]
            plain_scores, plain_said = found[PLAIN]
            means = [100 * statistics.fmean(scores[task]) for task in tasks.TASKS]
            pairs = [
                (one, other)
                for task in tasks.TASKS
                for one, other in zip(scores[task], plain_scores[task], strict=True)
            ]
            gained, lost = (
                sum(one > other for one, other in pairs),
                sum(one < other for one, other in pairs),
            )
            same = statistics.fmean(one == other for one, other in zip(said, plain_said, strict=True))
            rows.append(
                [
                    codec,
                    f"{size:.1f}",
                    f"{listed[PLAIN]['bytes'] / listed[PLAIN]['tokens'] / size:.2f}",
                    *(f"{mean:.1f}" for mean in means),
                    f"{statistics.fmean(means):.1f}",
                    f"{100 * same:.1f} %",
                    f"{gained} : {lost}",
                ]
            )
        print(columns(rows))


def make(place: Path, reader: Path, invented: int) -> Path:
    """A corpus whose memory is the reader's."""
    settings = open_reader(reader).settings
    dump = export.write_dump(place, invented=invented).path
    tasks.write_tasks(place / "tasks", invented=invented)
    build.build(
        BuildSettings(
            sources=(f"mediawiki:{dump}",),
            retriever=str(demo.MODELS / retriever.GTR_NAME),
            memory_encoder=str(reader),
            memory=settings.memory,
            passage_words=readers.PASSAGE_WORDS,
        ),
        CorpusFolder(place / "corpus"),
    )
    return place / "corpus"


def load(place: Path, corpus: Corpus, reader: Path) -> dict[str, questions.Task]:
    retrieved = open_reader(reader).settings.retrieved
    return {
        name: questions.load_task(
            name, place / "tasks" / f"{name}-test.jsonl", corpus, retrieved=retrieved, keep_in=place / "found"
        )
        for name in tasks.TASKS
    }


def right(
    root: Path, reader: Path, asked: dict[str, questions.Task], version: str
) -> tuple[dict[str, list[float]], list[str]]:
    """By task, 1 for each example answered exactly; and all answers as text."""
    answerer = answers.QuestionAnswerer(open_corpus(root), reader, version=version, batch=32)
    scores: dict[str, list[float]] = {}
    said: list[str] = []
    for name, task in asked.items():
        inputs = [example.input for example in task.examples]
        texts = [one.text for one in answerer.answer(inputs, task.passage_ids)]
        scores[name] = [
            kilt.evaluate([example], [kilt.Prediction(id=example.id, answer=text)]).downstream["em"]
            for example, text in zip(task.examples, texts, strict=True)
        ]
        said += texts
    return scores, said


if __name__ == "__main__":
    main()
