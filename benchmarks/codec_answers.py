"""What a codec costs in answers: the miniwiki's test split, read from memory in each codec.

    python -m benchmarks.codec_answers [--reader FOLDER] [--codecs int8 turbo4 ...] [--invented 3000]
    python -m benchmarks.codec_answers --steps 600 --seeds 0 1 2 --codecs pq8x8 rq64x8 --runs OUT

A corpus of the miniwiki is built with the reader's own memory encoder, recoded to every codec, and all test
questions are answered from each version, from the same passages. Beside exact match: how many answers are
those of bfloat16, and how many of the right ones each of the two has alone, which tells how far the
difference may be chance.

The test split is about some hundred entities, and a percent of its answers is chance. `--held-out` asks as
well about entities that are made up by another seed than those that readers learn from.

With `--steps` the reader is first trained further, by each seed: on memory as its encoder gives it, and on
memory in each codec. The first is read from bfloat16 and recoded to every codec, "not trained on"; the others
from the codes that they learned. So all have had as many steps. Runs that are there are not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.store.report import columns
from encoders.reader import open_reader
from examples.miniwiki import demo, export, readers, retriever, tasks
from pipeline.accounts import facts, figures
from pipeline.components.settings import BuildSettings
from pipeline.jobs import build, reencode
from pipeline.jobs.reencode import ReencodeSettings
from pipeline.readers import answers, kilt, questions
from retrieval import open_corpus
from retrieval.corpus import Corpus
from storage import manifest
from storage.folder import CorpusFolder

PLAIN = "bfloat16"
# Of the dump that held-out entities are invented for; readers learn from that of seed 0.
HELD_OUT_SEED = 1000
DEFAULT = ("int8", "turbo4", "turbo2", "pq4x8", "pq8x8", "rq64x8", "pq16x8", "rq64x4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--reader", type=Path, default=demo.MODELS / readers.GLIMMER_NAME)
    parser.add_argument("--codecs", nargs="+", default=DEFAULT)
    parser.add_argument("--invented", type=int, default=0, help="entities beside those of the tables")
    parser.add_argument(
        "--held-out", type=int, default=0, help="entities that no reader knows, asked as well"
    )
    parser.add_argument("--steps", type=int, default=0, help="train the reader further, on codes and not")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--runs", type=Path, help="keeps the training runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="memcorpus-answers-") as scratch:
        place = Path(scratch)
        root = make(place, options.reader, options.invented, options.held_out)
        if not options.steps:
            print(columns(table(place, root, options.reader, options.codecs)))
            return
        runs = options.runs or place / "runs"
        measured = [measure(place, root, runs / f"seed-{seed}", options, seed=seed) for seed in options.seeds]
        print(columns(over_seeds(measured)))


# Of a version: its bytes a token, and by task 1 for each example answered exactly.
Read = tuple[float, dict[str, list[float]], list[str]]


def read_all(place: Path, root: Path, reader: Path, stored: dict[str, str]) -> dict[str, Read]:
    """Every version read by a reader, by codec."""
    asked = load(place, open_corpus(root), reader)
    listed = {row["version"]: row for row in figures.versions(facts.read(CorpusFolder(root)))}
    names = CorpusFolder(root).manifest
    found = {}
    for codec, name in stored.items():
        row = listed[names.version(name)]
        found[codec] = (row["bytes"] / row["tokens"], *right(root, reader, asked, name))
    return found


def table(place: Path, root: Path, reader: Path, wanted: Sequence[str]) -> list[list[str]]:
    """A row a codec, for a reader as it is."""
    stored = {PLAIN: manifest.CURRENT}
    for codec in wanted:
        _, stored[codec] = reencode.reencode(
            CorpusFolder(root), ReencodeSettings(origin=manifest.CURRENT, codec=codec)
        )
    found = read_all(place, root, reader, stored)
    rows = [["codec", "bytes a token", "smaller", *tasks.TASKS, "mean", "same", "right alone"]]
    plain_size, plain_scores, plain_said = found[PLAIN]
    for codec, (size, scores, said) in found.items():
        means = [100 * statistics.fmean(scores[task]) for task in tasks.TASKS]
        pairs = [
            (one, other)
            for task in tasks.TASKS
            for one, other in zip(scores[task], plain_scores[task], strict=True)
        ]
        gained, lost = sum(one > other for one, other in pairs), sum(one < other for one, other in pairs)
        same = statistics.fmean(one == other for one, other in zip(said, plain_said, strict=True))
        rows.append(
            [
                codec,
                f"{size:.1f}",
                f"{plain_size / size:.2f}",
                *(f"{mean:.1f}" for mean in means),
                f"{statistics.fmean(means):.1f}",
                f"{100 * same:.1f} %",
                f"{gained} : {lost}",
            ]
        )
    return rows


def measure(
    place: Path, root: Path, runs: Path, options: argparse.Namespace, *, seed: int
) -> dict[tuple[str, str], Read]:
    """By how a reader was trained and the codec it reads: what it answered."""
    corpus = readers.reading_corpus(runs.parent / "work", demo.MODELS / retriever.GTR_NAME, readers.Recipe())
    found: dict[tuple[str, str], Read] = {}
    for codec in (PLAIN, *options.codecs):
        reader = readers.train_further(
            options.reader,
            runs / codec,
            corpus,
            codec=None if codec == PLAIN else codec,
            steps=options.steps,
            seed=seed,
            tasks=runs.parent / "work" / "tasks",
        )
        folder = CorpusFolder(root)
        _, version = reencode.reencode(folder, ReencodeSettings(memory_encoder=str(reader), codec=codec))
        stored = {codec: version}
        if codec == PLAIN:
            for other in options.codecs:
                _, stored[other] = reencode.reencode(folder, ReencodeSettings(origin=version, codec=other))
        for name, read in read_all(place, root, reader, stored).items():
            found["on codes" if codec != PLAIN else "not", name] = read
    return found


def over_seeds(measured: Sequence[dict[tuple[str, str], Read]]) -> list[list[str]]:
    """A row for each way of training and codec: means over the seeds, and their standard deviation."""
    rows = [["codec", "trained", "bytes a token", "smaller", *tasks.TASKS, "mean", "of bfloat16"]]
    for how, codec in sorted(measured[0], key=lambda key: (key[1] != PLAIN, key[1], key[0] != "not")):
        runs = [one[how, codec] for one in measured]
        plain = [one["not", PLAIN] for one in measured]
        by_task = [[100 * statistics.fmean(scores[task]) for task in tasks.TASKS] for _, scores, _ in runs]
        means = [statistics.fmean(one) for one in by_task]
        of_plain = [
            mean / (100 * statistics.fmean(statistics.fmean(scores[task]) for task in tasks.TASKS))
            for mean, (_, scores, _) in zip(means, plain, strict=True)
        ]
        rows.append(
            [
                codec,
                how,
                f"{runs[0][0]:.1f}",
                f"{plain[0][0] / runs[0][0]:.2f}",
                *(f"{statistics.fmean(task):.1f}" for task in zip(*by_task, strict=True)),
                spread(means, 1),
                spread(of_plain, 3),
            ]
        )
    return rows


def spread(values: Sequence[float], digits: int) -> str:
    """Their mean, and their standard deviation where there are several."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def make(place: Path, reader: Path, invented: int, held_out: int = 0) -> Path:
    """A corpus whose memory is the reader's, and its tasks."""
    if invented and held_out:
        raise SystemExit("--invented or --held-out: a dump's entities are invented by one seed")
    settings = open_reader(reader).settings
    seed = HELD_OUT_SEED if held_out else 0
    dump = export.write_dump(place, invented=invented or held_out, seed=seed).path
    tasks.write_tasks(place / "tasks", invented=invented or held_out, seed=seed)
    if held_out:
        for task in tasks.TASKS:
            ask_of_the_invented(place / "tasks", task)
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


def ask_of_the_invented(folder: Path, task: str) -> None:
    """Put what is asked about invented entities into the test split, each question in its first wording."""
    with (folder / f"{task}-test.jsonl").open("a", encoding="utf-8") as test:
        for line in (folder / f"{task}-train.jsonl").read_text(encoding="utf-8").splitlines():
            example = json.loads(line)
            if example["meta"]["invented"] and example["id"].rsplit("/", 1)[1] in ("0", "true", "false"):
                test.write(line + "\n")


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
