"""A training run: tasks in, a reader out; resumed to the same losses wherever it was stopped."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.reader import folder as reader_folder
from encoders.reader.examples import Examples
from encoders.reader.model import Reader
from encoders.reader.training import Trainer
from pipeline.readers import answers, questions
from pipeline.readers.answered import Answered
from pipeline.readers.kilt import KiltError, evaluate
from pipeline.readers.questions import Task
from pipeline.readers.training import codes, preparing
from pipeline.readers.training.checkpoints import Checkpoints, Curve, read_curve
from pipeline.readers.training.preparing import Parts
from pipeline.readers.training.preparing import RunSettings as RunSettings
from retrieval.corpus import Corpus
from storage import checked_json, codecs, locks

METRICS, DEV, READER = "metrics.csv", "dev.csv", "reader"
CHECKPOINTS, RETRIEVED, BEST = "checkpoints", "retrieved", "best-"
LOSSES = ("loss", "answer", "distillation", "gradient_norm")
# Batches made ahead of the step that takes them.
AHEAD = 2
# Between two lines about a search.
TELL_SECONDS = 10.0

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came out.

    Attributes:
        reader: the folder of the best reader.
        step: at which it was best.
        scores: its exact match on each dev task, and "mean"; empty without dev tasks.
        seconds: of this run, not of what it resumed.
        resumed: the step it resumed at; 0 for a new run.
    """

    reader: Path
    step: int
    scores: Mapping[str, float]
    seconds: float
    resumed: int


def train(
    settings: RunSettings,
    out: Path,
    corpus: Corpus,
    *,
    retrieved: Path | None = None,
    say: Say = lambda _: None,
) -> Trained:
    """Train a reader in the folder `out`, or go on with a run that was stopped there.

    Args:
        settings: of the run.
        out: gets train.json, metrics.csv (a row a step), dev.csv, checkpoints, and the best reader.
        corpus: settings.corpus, open.
        retrieved: where the passages found for the questions are kept, in `out` if not given; runs may share
            a folder.
        say: told what goes on, in lines.

    Raises:
        MismatchError: `out` holds a run with other settings, tasks or weights.
        DivergedError: the loss is not finite.
    """
    started = time.monotonic()
    parts = preparing.prepare(settings, corpus)
    preparing.require_folder(out, parts.plan)
    out.mkdir(parents=True, exist_ok=True)
    with locks.one_job(out):
        preparing.require_folder(out, parts.plan)
        if not (out / preparing.PLAN).exists():
            checked_json.write(out / preparing.PLAN, dict(parts.plan))
        run = _Run(out, corpus, parts, retrieved or out / RETRIEVED, say)
        resumed = run.go()
        step, scores = run.best()
    return Trained(
        reader=out / READER, step=step, scores=scores, seconds=time.monotonic() - started, resumed=resumed
    )


class _Run:
    """A run's parts, open."""

    def __init__(self, out: Path, corpus: Corpus, parts: Parts, retrieved: Path, say: Say) -> None:
        self.retrieved = retrieved
        self.parts, self.settings = parts, parts.settings
        self.out, self.corpus, self.say = out, corpus, say
        self.opened, self.collate = parts.opened, parts.collate
        self.tasks, self.dev = list(parts.train), list(parts.dev)

    def go(self) -> int:
        """Train to the last step; returns the step it went on from."""
        settings = self.settings
        checkpoints = Checkpoints(self.out / CHECKPOINTS)
        resumed = checkpoints.latest() or 0
        for folder in self._kept_readers():
            if _step_of(folder) > resumed:
                shutil.rmtree(folder)
        metrics = Curve(self.out / METRICS, LOSSES, steps=resumed)
        curve = Curve(self.out / DEV, ("mean", *(task.name for task in self.dev)), steps=resumed)
        try:
            if resumed < settings.steps:
                trainer = self._trainer()
                if resumed:
                    trainer.state = checkpoints.restore(resumed, trainer.state)
                self._retrieve()
                if resumed:
                    self.say(f"goes on after step {resumed:,} of {settings.steps:,}")
                self._steps(trainer, resumed, checkpoints, metrics, curve)
        finally:
            metrics.close()
            curve.close()
            checkpoints.close()
        best, _ = self.best()
        if not (self.out / READER).exists():
            self._reader_path(best).rename(self.out / READER)
        for folder in self._kept_readers():
            shutil.rmtree(folder)
        return resumed

    def best(self) -> tuple[int, dict[str, float]]:
        """The step of the best mean on the dev tasks, the first of several, and its scores."""
        rows = read_curve(self.out / DEV) if self.dev else []
        if not rows:
            return self.settings.steps, {}
        best = max(rows, key=lambda row: (float(row["mean"]), -int(row["step"])))
        return int(best["step"]), {name: float(best[name]) for name in best if name != "step"}

    def _trainer(self) -> Trainer:
        reader = self._begun(None)
        if coder := codes.coder_of(self.parts, self.corpus, self.out, reader):
            reader = self._begun(coder)
        return Trainer(reader, self.settings.training)

    def _begun(self, coder: codecs.Coder | None) -> Reader:
        """The reader that training begins with."""
        settings = self.settings.reader
        return Reader(
            settings.config,
            self.opened.tensor,
            compute_dtype=settings.compute_dtype,
            stored_dtype="float32",
            coder=coder,
        )

    def _steps(
        self, trainer: Trainer, resumed: int, checkpoints: Checkpoints, metrics: Curve, curve: Curve
    ) -> None:
        settings = self.settings
        began = time.monotonic()
        sums: list[float] = []
        batches = self._batches(resumed)
        for step, examples in enumerate(batches, resumed + 1):
            found = trainer.step(examples)
            metrics.add(step, found)
            sums.append(found["answer"])
            if step % settings.every and step != settings.steps:
                continue
            rate = (step - resumed) * settings.training.batch / (time.monotonic() - began)
            line = f"step {step:,} of {settings.steps:,}: loss {np.mean(sums):.4f}, {rate:,.1f} questions/s"
            sums = []
            reader = trainer.reader
            better = not self.dev and step == settings.steps
            if self.dev:
                before = self.best()[1].get("mean", -1.0) if read_curve(self.out / DEV) else -1.0
                scores = self._scores(reader)
                curve.add(step, scores)
                better = scores["mean"] > before
                line += "; exact match " + ", ".join(f"{name} {100 * s:.1f}" for name, s in scores.items())
            metrics.flush()
            curve.flush()
            if better:
                reader_folder.save(reader, settings.reader, self._reader_path(step), like=self.opened.path)
            checkpoints.save(step, trainer.state)
            if better:
                for folder in self._kept_readers():
                    if _step_of(folder) != step:
                        shutil.rmtree(folder)
            self.say(line)

    def _scores(self, reader: Reader) -> dict[str, float]:
        """Exact match on each dev task, and the mean over the tasks."""
        found: dict[str, float] = {}
        rows = self.settings.training.micro_batch
        for task in self.dev:
            answered: list[Answered] = []
            for start in range(0, len(task), rows):
                asked = [example.input for example in task.examples[start : start + rows]]
                answered += answers.read_batch(
                    reader,
                    self.collate,
                    asked,
                    task.passage_ids[start : start + rows],
                    selected=self.settings.reader.selected,
                    rows=rows,
                )
            guessed = answers.predictions(self.corpus, task.examples, answered)
            found[task.name] = evaluate(task.examples, guessed).downstream["em"]
        return {"mean": float(np.mean(list(found.values()))), **found}

    def _batches(self, begin: int) -> Iterator[Examples]:
        """The batches of the steps after `begin`, made a little ahead by a thread of their own."""
        steps = range(begin, self.settings.steps)
        pool = ThreadPoolExecutor(1, "batches")
        try:
            ahead = deque(pool.submit(self._batch, step) for step in steps[:AHEAD])
            for step in steps:
                batch = ahead.popleft().result()
                if step + AHEAD < self.settings.steps:
                    ahead.append(pool.submit(self._batch, step + AHEAD))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)

    def _batch(self, step: int) -> Examples:
        """The questions of a step: of a task drawn uniformly each, with replacement.

        They hang on the seed and the step alone, so a resumed run sees the same. Of several right answers
        one is drawn.
        """
        rng = np.random.default_rng([self.settings.training.seed, step])
        rows = self.settings.training.batch
        asked, right, ids = [], [], []
        for which in rng.integers(len(self.tasks), size=rows):
            task = self.tasks[which]
            row = int(rng.integers(len(task)))
            example = task.examples[row]
            asked.append(example.input)
            right.append(example.answers[int(rng.integers(len(example.answers)))])
            ids.append(task.passage_ids[row])
        return self.collate(asked, np.stack(ids), right, rows=rows)

    def _retrieve(self) -> None:
        """Search for all questions, and keep the examples that are wanted of them."""
        self.tasks = [self._retrieved(task) for task in self.tasks]
        if self.settings.gold:
            self.tasks = [questions.with_gold(task, self.corpus) for task in self.tasks]
        if self.settings.relevant_only:
            self.tasks = [self._relevant(task) for task in self.tasks]
        self.dev = [self._retrieved(task) for task in self.dev]

    def _retrieved(self, task: Task) -> Task:
        told = time.monotonic()

        def tell(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                self.say(f"{task.name}: {done:,} of {total:,} questions searched for")

        return questions.retrieve(
            task,
            self.corpus,
            retrieved=self.settings.reader.retrieved,
            keep_in=self.retrieved,
            on_batch=tell,
        )

    def _relevant(self, task: Task) -> Task:
        kept = questions.relevant(task, self.corpus)
        self.say(f"{task.name}: something relevant was retrieved for {len(kept):,} of {len(task):,} examples")
        if not len(kept):
            raise KiltError(f"nothing relevant was retrieved for any example of {task.name}")
        return kept

    def _reader_path(self, step: int) -> Path:
        return self.out / f"{BEST}{step}"

    def _kept_readers(self) -> list[Path]:
        return [path for path in self.out.glob(f"{BEST}*") if path.name.removeprefix(BEST).isdigit()]


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix(BEST))
