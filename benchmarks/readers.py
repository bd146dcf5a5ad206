"""The reader family on the miniwiki's tasks: answers, FLOPs and seconds by system, α, β, k and m.

    python -m examples.miniwiki models MODELS       # the T5 that all begin with, and what they learn from
    python -m benchmarks.readers MODELS --out RUNS  # goes on where it was stopped
    python -m benchmarks.readers MODELS --out RUNS --report

Every setting is fine-tuned from the same T5 for the same number of steps, with several seeds, on entities
that were made up and on the training split of the real ones, and answers the test split: entities that no
model was trained on. Exact match is the mean over the tasks. FLOPs are by the papers' formulas; seconds
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

from encoders.reader import answering, folder, open_reader
from encoders.reader.examples import Examples
from encoders.reader.model import Reader
from examples.miniwiki import readers
from examples.miniwiki.tasks import TASKS
from pipeline import kilt
from pipeline.costs import flops
from pipeline.reading import questions, run
from pipeline.reading.collate import Collator
from retrieval import open_corpus
from retrieval.corpus import Corpus

NAMES = {"fid": flops.FID, "memory-fid": flops.MEMORY_FID, "lumen": flops.LUMEN, "glimmer": flops.GLIMMER}
ROWS = 16


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One row of the table."""

    name: str
    system: str
    k: int
    m: int | None = None
    live: str | None = None
    rerank: str | None = None
    frozen: bool = False
    tasks: tuple[str, ...] = TASKS


def glimmer(k: int, m: int, *, rerank: str = "1/2", note: str = "", **more: Any) -> Setting:
    name = f"GLIMMER {k} to {m}, β = {rerank}{note}"
    return Setting(name=name, system="glimmer", k=k, m=m, live="1/2", rerank=rerank, **more)


def lumen(k: int, live: str, *, frozen: bool = True) -> Setting:
    name = f"LUMEN {k}, α = {live}{'' if frozen else ', memory trained'}"
    return Setting(name=name, system="lumen", k=k, live=live, frozen=frozen)


MANY, FEW = 6, 1


def by_alpha(k: int) -> tuple[Setting, ...]:
    """FiD, LUMEN by α, and MemoryFiD, the memory encoder trained, then frozen."""
    lumens = ("3/4", "1/2", "1/4")
    return (
        Setting(name=f"FiD {k}", system="fid", k=k),
        *(lumen(k, live, frozen=False) for live in lumens),
        Setting(name=f"MemoryFiD {k}, memory trained", system="memory-fid", k=k),
        *(lumen(k, live) for live in lumens),
        Setting(name=f"MemoryFiD {k}", system="memory-fid", k=k, frozen=True),
    )


# One passage runs first: it takes minutes.
FIRST = (
    *by_alpha(FEW),
    Setting(name=f"MemoryFiD {FEW}, one task", system="memory-fid", k=FEW, tasks=("qa",)),
    Setting(name=f"FiD {FEW}, one task", system="fid", k=FEW, tasks=("qa",)),
)
MORE = (
    *by_alpha(MANY),
    glimmer(2, FEW),
    glimmer(4, FEW),
    glimmer(MANY, FEW),
    glimmer(MANY, 2),
    glimmer(MANY, 4),
    glimmer(MANY, FEW, rerank="0"),
    glimmer(MANY, FEW, rerank="1"),
    glimmer(MANY, FEW, note=", memory frozen", frozen=True),
    glimmer(MANY, FEW, note=", one task", tasks=("qa",)),
)
SETTINGS = FIRST + MORE


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readers", description=__doc__)
    parser.add_argument("models", type=Path, help="what `python -m examples.miniwiki models` made")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", default="0/1", help="only the runs of this part, such as 0/2")
    parser.add_argument("--report", action="store_true", help="only print the table of what there is")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.report:
        part, parts = map(int, options.part.split("/"))
        corpus = open_corpus(options.models / "work" / "corpus")
        seeds = range(options.seeds)
        runs = [(seed, setting) for group in (FIRST, MORE) for seed in seeds for setting in group]
        for seed, setting in runs[part::parts]:
            result = options.out / f"{setting.name.replace('/', '-')}, seed {seed}.json"
            if not result.exists():
                found = measure(options, corpus, setting, seed)
                result.write_text(json.dumps(found, indent=1) + "\n")
                readers.say(f"{setting.name}, seed {seed}: {found['mean']:.3f}, {found['train_s']:.0f} s")
    print(table(options.out))


def measure(options: argparse.Namespace, corpus: Corpus, setting: Setting, seed: int) -> dict[str, Any]:
    """Train one reader, and let it answer the test split."""
    work = options.models / "work"
    model = options.models / readers.T5_NAME
    started = time.monotonic()
    settings = run.RunSettings(
        corpus=str(corpus.root),
        model=str(model),
        reader=readers.reader_settings(
            model,
            setting.system,
            retrieved=setting.k,
            selected=setting.m,
            live=setting.live,
            rerank=setting.rerank,
        ),
        training=readers.training_settings(
            options.batch,
            selected=setting.m,
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
    found: dict[str, Any] = {"setting": dataclasses.asdict(setting), "seed": seed, "steps": options.steps}
    found["train_s"] = time.monotonic() - started
    found |= answer_test(trained.reader, corpus, work / "tasks")
    return found


def answer_test(reader_folder: Path, corpus: Corpus, tasks: Path) -> dict[str, Any]:
    """Exact match by task, and seconds of reading a question."""
    opened = open_reader(reader_folder)
    settings = opened.settings
    reader = Reader(settings.config, opened.tensor, compute_dtype=settings.compute_dtype)
    collate = Collator(corpus, settings, opened.path)
    remember = jax.jit(lambda ids, lengths: reader.remember(ids, lengths).astype(ml_dtypes.bfloat16))
    scores: dict[str, Any] = {}
    seconds, tokens, asked = 0.0, 0, 0
    for name in TASKS:
        task = questions.load_task(
            f"{name}-test",
            tasks / f"{name}-test.jsonl",
            corpus,
            retrieved=settings.retrieved,
            keep_in=tasks.parent / "retrieved",
        )
        texts: list[str] = []
        for start in range(0, len(task), ROWS):
            inputs = [example.input for example in task.examples[start : start + ROWS]]
            batch = collate(inputs, task.passage_ids[start : start + ROWS], rows=ROWS)
            tokens += int(batch.lengths.sum()) + int(batch.question_lengths.sum()) * settings.retrieved
            asked += ROWS
            if settings.config.memory_layers:
                memory = np.asarray(remember(batch.passages, batch.lengths))
                batch = dataclasses.replace(batch, passages=memory)
            said, took = timed(reader, batch, settings)
            seconds += took
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
        retrieved=settings.retrieved,
        selected=settings.selected or settings.retrieved,
        live_proportion=config.live_proportion,
        rerank_proportion=config.rerank_proportion or Fraction(0),
        input_tokens=round(tokens / asked / settings.retrieved),
        answer_tokens=settings.answer_tokens,
    )
    return {
        **scores,
        "mean": statistics.fmean(scores.values()),
        "ms": 1000 * seconds / asked,
        "mflop": count.flops / 1e6,
    }


def timed(
    reader: Reader, batch: Examples, settings: folder.ReaderSettings
) -> tuple[answering.Answers, float]:
    """Answers, and the seconds of giving them a second time: without compilation."""
    answering.answer(reader, batch, selected=settings.selected, tokens=settings.answer_tokens)
    started = time.perf_counter()
    said = answering.answer(reader, batch, selected=settings.selected, tokens=settings.answer_tokens)
    return said, time.perf_counter() - started


def table(out: Path) -> str:
    """Markdown: means over the seeds, and their standard deviation."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(out.glob("*.json")):
        one = json.loads(path.read_text())
        found.setdefault(one["setting"]["name"], []).append(one)
    lines = [
        "| reader | exact match | qa | slots | facts | MFLOP a question | ms a question | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for setting in SETTINGS:
        if (rows := found.get(setting.name)) is None:
            continue

        def mean(key: str, rows: list[dict[str, Any]] = rows) -> float:
            return statistics.fmean(row[key] for row in rows)

        spread = f" ± {statistics.stdev([100 * row['mean'] for row in rows]):.1f}" if len(rows) > 1 else ""
        each = " | ".join(f"{100 * mean(task):.1f}" for task in TASKS)
        lines.append(
            f"| {setting.name} | {100 * mean('mean'):.1f}{spread} | {each} | {mean('mflop'):,.1f} | "
            f"{mean('ms'):.2f} | {len(rows)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
