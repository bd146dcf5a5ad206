"""The reader family on the miniwiki's tasks: answers, FLOPs and seconds by system, α, β, k and m.

    python -m examples.miniwiki models MODELS       # the T5 that all begin with, and what they learn from
    python -m benchmarks.readers MODELS --out RUNS  # goes on where it was stopped
    python -m benchmarks.readers MODELS --out RUNS --report

Every reader is fine-tuned for the same number of steps, reading four passages of which one tells the answer,
with several seeds, on entities that were made up and on the training split of the real ones. Those of the
group `alpha` begin with a T5 that has learned to read as FiD. GLIMMERs need more steps than these to learn a
score: they, and a LUMEN beside them, are the group `beta` and begin with the T5 of glimmer-tiny.

A reader answers the test split, entities that no model was trained on, with several k and m; there the
passages are as retrieved. Exact match is the mean over the tasks. FLOPs are by the papers' formulas; seconds
are of reading alone, the memory being at hand, on the machine that runs this.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from encoders.reader import answering, open_reader
from encoders.reader.model import Reader
from examples.miniwiki import readers
from examples.miniwiki.tasks import TASKS
from pipeline.accounts import flops
from pipeline.readers import kilt, questions
from pipeline.readers.collate import Collator
from pipeline.readers.training import run
from retrieval import open_corpus
from retrieval.corpus import Corpus

NAMES = {"fid": flops.FID, "memory-fid": flops.MEMORY_FID, "lumen": flops.LUMEN, "glimmer": flops.GLIMMER}
ROWS = 16
# k of training, and (k, m) of reading; a reader that scores none reads all k.
TRAINED_K = 4
ALL = ((1, 1), (2, 2), (4, 4))
BEST = ((2, 1), (4, 1), (8, 1), (4, 2), (4, 4))
# Batches of a task that are answered a second time, for the seconds.
TIMED = 4


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One reader; those that are `ranked` begin with a T5 that has learned to rank."""

    name: str
    system: str
    live: str | None = None
    rerank: str | None = None
    frozen: bool = False
    tasks: tuple[str, ...] = TASKS
    ranked: bool = False


def lumen(live: str, **more: Any) -> Setting:
    return Setting(name=f"LUMEN, α = {live}", system="lumen", live=live, **more)


def glimmer(rerank: str) -> Setting:
    name = f"GLIMMER, β = {rerank}"
    return Setting(name=name, system="glimmer", live="1/2", rerank=rerank, ranked=True)


def frozen(setting: Setting) -> Setting:
    return dataclasses.replace(setting, name=f"{setting.name}, memory frozen", frozen=True)


def one_task(setting: Setting) -> Setting:
    return dataclasses.replace(setting, name=f"{setting.name}, one task", tasks=("qa",))


FID = Setting(name="FiD", system="fid")
MEMORY_FID = Setting(name="MemoryFiD", system="memory-fid")
HALF = lumen("1/2")
BY_ALPHA = (
    FID,
    lumen("3/4"),
    HALF,
    lumen("1/4"),
    MEMORY_FID,
    frozen(HALF),
    frozen(MEMORY_FID),
    one_task(FID),
    one_task(MEMORY_FID),
)
BY_BETA = (
    dataclasses.replace(HALF, name="LUMEN, α = 1/2, from the T5 of the GLIMMERs", ranked=True),
    *map(glimmer, ("1", "1/2", "0")),
    frozen(glimmer("1/2")),
)
SETTINGS = BY_ALPHA + BY_BETA


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readers", description=__doc__)
    parser.add_argument("models", type=Path, help="what `python -m examples.miniwiki models` made")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--group", choices=("alpha", "beta", "all"), default="all")
    parser.add_argument("--part", default="0/1", help="only the runs of this part, such as 0/2")
    parser.add_argument("--report", action="store_true", help="only print the table of what there is")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.report:
        part, parts = map(int, options.part.split("/"))
        corpus = open_corpus(options.models / "work" / "corpus")
        seeds = range(options.seeds)
        groups = {"alpha": BY_ALPHA, "beta": BY_BETA, "all": SETTINGS}
        runs = [(seed, setting) for seed in seeds for setting in groups[options.group]]
        for seed, setting in runs[part::parts]:
            result = options.out / f"{setting.name.replace('/', '-')}, seed {seed}.json"
            if not result.exists():
                found = measure(options, corpus, setting, seed)
                result.write_text(json.dumps(found, indent=1) + "\n")
                told = ", ".join(
                    f"{name} {100 * point['mean']:.1f}" for name, point in found["points"].items()
                )
                readers.say(f"{setting.name}, seed {seed}: {told}; {found['train_s']:.0f} s")
    print(table(options.out))


def measure(options: argparse.Namespace, corpus: Corpus, setting: Setting, seed: int) -> dict[str, Any]:
    """Train one reader, and let it answer the test split."""
    scores = setting.rerank is not None
    work = options.models / "work"
    model = options.models / readers.T5_NAME if setting.ranked else work / readers.WHOLE_NAME
    started = time.monotonic()
    settings = run.RunSettings(
        corpus=str(corpus.root),
        model=str(model),
        reader=readers.reader_settings(
            model,
            setting.system,
            retrieved=TRAINED_K,
            selected=TRAINED_K if scores else None,
            live=setting.live,
            rerank=setting.rerank,
        ),
        training=readers.training_settings(
            options.batch,
            selected=TRAINED_K if scores else None,
            memory_encoder="frozen" if setting.frozen else "trained",
            learning_rate=readers.FINE,
            seed=seed,
        ),
        steps=options.steps,
        every=options.steps,
        train={name: work / "tasks" / f"{name}-train.jsonl" for name in setting.tasks},
        gold=True,
    )
    place = options.out / "runs" / f"{setting.name.replace('/', '-')}, seed {seed}"
    trained = run.train(settings, place, corpus, retrieved=work / "retrieved")
    took = time.monotonic() - started
    points = {
        f"{k} to {m}": answer_test(trained.reader, corpus, work / "tasks", k, m if scores else None)
        for k, m in (BEST if scores else ALL)
    }
    return {
        "setting": dataclasses.asdict(setting),
        "seed": seed,
        "steps": options.steps,
        "train_s": took,
        "points": points,
    }


def answer_test(
    reader_folder: Path, corpus: Corpus, tasks: Path, k: int, selected: int | None
) -> dict[str, Any]:
    """Exact match by task, and seconds of reading a question."""
    opened = open_reader(reader_folder)
    settings = dataclasses.replace(opened.settings, retrieved=k, selected=selected)
    reader = Reader(settings.config, opened.tensor, compute_dtype=settings.compute_dtype)
    collate = Collator(corpus, settings, opened.path)
    remember = jax.jit(lambda ids, lengths: reader.remember(ids, lengths).astype(ml_dtypes.bfloat16))
    scores: dict[str, Any] = {}
    seconds: list[float] = []
    tokens, asked = 0, 0
    for name in TASKS:
        task = questions.load_task(
            f"{name}-test",
            tasks / f"{name}-test.jsonl",
            corpus,
            retrieved=k,
            keep_in=tasks.parent / "retrieved",
        )
        texts: list[str] = []
        for start in range(0, len(task), ROWS):
            inputs = [example.input for example in task.examples[start : start + ROWS]]
            batch = collate(inputs, task.passage_ids[start : start + ROWS], rows=ROWS)
            tokens += int(batch.lengths.sum()) + int(batch.question_lengths.sum()) * k
            asked += ROWS
            if settings.config.memory_layers:
                memory = np.asarray(remember(batch.passages, batch.lengths))
                batch = dataclasses.replace(batch, passages=memory)
            said = answering.answer(reader, batch, selected=selected, tokens=settings.answer_tokens)
            if start < TIMED * ROWS:
                began = time.perf_counter()
                answering.answer(reader, batch, selected=selected, tokens=settings.answer_tokens)
                seconds.append((time.perf_counter() - began) / ROWS)
            texts += collate.decode(said.tokens[: len(inputs)])
        guessed = [
            kilt.Prediction(id=example.id, answer=text)
            for example, text in zip(task.examples, texts, strict=True)
        ]
        scores[name] = kilt.evaluate(task.examples, guessed).downstream["em"]
    config = settings.config
    count = flops.Reader(
        name=NAMES[config.system],
        layers=config.t5.layers,
        width=config.t5.d_model,
        retrieved=k,
        selected=selected or k,
        live_proportion=config.live_proportion,
        rerank_proportion=config.rerank_proportion or Fraction(0),
        input_tokens=round(tokens / asked / k),
        answer_tokens=settings.answer_tokens,
    )
    return {
        **scores,
        "mean": statistics.fmean(scores.values()),
        "ms": 1000 * statistics.median(seconds),
        "mflop": count.flops / 1e6,
    }


def table(out: Path) -> str:
    """Markdown: means over the seeds, and their standard deviation."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(out.glob("*.json")):
        one = json.loads(path.read_text())
        for point, row in one["points"].items():
            found.setdefault((one["setting"]["name"], point), []).append(row)
    lines = [
        "| reader | k to m | exact match | qa | slots | facts | MFLOP a question | ms a question | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    order = {setting.name: place for place, setting in enumerate(SETTINGS)}
    for (name, point), rows in sorted(found.items(), key=lambda one: order[one[0][0]]):

        def mean(key: str, rows: list[dict[str, Any]] = rows) -> float:
            return statistics.fmean(row[key] for row in rows)

        spread = f" ± {statistics.stdev([100 * row['mean'] for row in rows]):.1f}" if len(rows) > 1 else ""
        each = " | ".join(f"{100 * mean(task):.1f}" for task in TASKS)
        lines.append(
            f"| {name} | {point} | {100 * mean('mean'):.1f}{spread} | {each} | {mean('mflop'):,.1f} | "
            f"{statistics.median(row['ms'] for row in rows):.2f} | {len(rows)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
