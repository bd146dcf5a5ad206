"""A training run: tasks in, a reader out; resumed to the same losses wherever it was stopped."""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from encoders import fingerprint, model_folder
from encoders.reader import folder as reader_folder
from encoders.reader.examples import Examples
from encoders.reader.folder import ReaderSettings
from encoders.reader.model import Reader
from encoders.reader.training import FROZEN, Trainer, TrainingSettings
from pipeline import jobs
from pipeline.kilt import KiltError, evaluate
from pipeline.reading import answers, questions
from pipeline.reading.checkpoints import Checkpoints, Curve, read_curve
from pipeline.reading.collate import Collator
from pipeline.reading.questions import Task
from retrieval.corpus import Corpus
from storage import errors, files

PLAN, METRICS, DEV, READER = "train.json", "metrics.csv", "dev.csv", "reader"
CHECKPOINTS, RETRIEVED, BEST = "checkpoints", "retrieved", "best-"
LOSSES = ("loss", "answer", "distillation", "gradient_norm")
# Batches made ahead of the step that takes them.
AHEAD = 2

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """A training run.

    Args:
        corpus: what passages are retrieved from.
        model: a T5.1.1 folder or hub name to begin with, or a reader's folder to train further.
        reader: the model's settings.
        training: of each step.
        steps: how many.
        every: steps between two evaluations on the dev tasks, each with a checkpoint.
        train, dev: task files by name. The best reader is the one of the best mean exact match over the dev
            tasks; the last one where there are none.
        dev_examples: of each dev task, at most; the first ones.
        memory: for a frozen memory encoder, the version to fetch memory from instead of encoding passages;
            None encodes.
        relevant_only: leave out training examples for which nothing relevant was retrieved.
        gold: train with a passage of the provenance among those retrieved; see `questions.with_gold`.

    Raises:
        ValueError: one is out of range.
    """

    corpus: str
    model: str
    reader: ReaderSettings
    training: TrainingSettings
    steps: int
    every: int = 500
    train: Mapping[str, Path] = field(default_factory=dict)
    dev: Mapping[str, Path] = field(default_factory=dict)
    dev_examples: int = 2000
    memory: str | None = None
    relevant_only: bool = False
    gold: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "every", "dev_examples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted 1 or more")
        if not self.train:
            raise ValueError("there is nothing to train on; give a task file")
        if self.memory is not None and self.training.memory_encoder != FROZEN:
            raise ValueError(
                "memory is fetched from a store only under a frozen memory encoder: with a trained one the "
                "store would be stale after the first step"
            )


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
        FloatingPointError: the loss is not finite.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    with jobs.lock(out):
        run = _Run(settings, out, corpus, retrieved or out / RETRIEVED, say)
        resumed = run.go()
        step, scores = run.best()
    return Trained(
        reader=out / READER, step=step, scores=scores, seconds=time.monotonic() - started, resumed=resumed
    )


class _Run:
    """A run's parts, open."""

    def __init__(self, settings: RunSettings, out: Path, corpus: Corpus, retrieved: Path, say: Say) -> None:
        self.settings, self.out, self.say = settings, out, say
        self.retrieved = retrieved
        self.corpus = corpus
        self.tasks = [self._load(name, path) for name, path in settings.train.items()]
        if settings.gold:
            self.tasks = [questions.with_gold(task, corpus) for task in self.tasks]
        if settings.relevant_only:
            self.tasks = [self._relevant(task) for task in self.tasks]
        self.dev = [self._load(f"{name} (dev)", path) for name, path in settings.dev.items()]
        self.dev = [task.only(range(min(len(task), settings.dev_examples))) for task in self.dev]
        for task in (*self.tasks, *self.dev):
            if unanswered := [example.id for example in task.examples if not example.answers]:
                raise KiltError(
                    f"{len(unanswered):,} examples of {task.name} have no answer, the first is "
                    f"{unanswered[0]!r}; is it of a test file?"
                )
        if reader_folder.is_reader(settings.model):
            self.opened = reader_folder.open_reader(settings.model)
            if self.opened.settings.config != settings.reader.config:
                raise errors.MismatchError(
                    f"{settings.model} is a {self.opened.settings.config.system} of other settings than "
                    "asked for; give its own, or begin with a T5"
                )
        else:
            self.opened = reader_folder.from_t5(settings.model, settings.reader)
        self._require_plan()

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
                    self.say(f"goes on after step {resumed:,} of {settings.steps:,}")
                self._steps(trainer, resumed, checkpoints, metrics, curve)
        finally:
            metrics.close()
            curve.close()
            checkpoints.close()
        best, _ = self.best()
        if not (self.out / READER).exists():
            self._reader_path(best).rename(self.out / READER)
        return resumed

    def best(self) -> tuple[int, dict[str, float]]:
        """The step of the best mean on the dev tasks, the first of several, and its scores."""
        rows = read_curve(self.out / DEV) if self.dev else []
        if not rows:
            return self.settings.steps, {}
        best = max(rows, key=lambda row: (float(row["mean"]), -int(row["step"])))
        return int(best["step"]), {name: float(best[name]) for name in best if name != "step"}

    def _trainer(self) -> Trainer:
        settings = self.settings
        reader = Reader(
            settings.reader.config,
            self.opened.tensor,
            compute_dtype=settings.reader.compute_dtype,
            stored_dtype="float32",
        )
        store = None if settings.memory is None else self.corpus.memory(settings.memory)
        self.collate = Collator(self.corpus, settings.reader, self.opened.path, memory=store)
        return Trainer(reader, settings.training)

    def _steps(
        self, trainer: Trainer, resumed: int, checkpoints: Checkpoints, metrics: Curve, curve: Curve
    ) -> None:
        settings = self.settings
        began = time.monotonic()
        sums: list[float] = []
        for step, examples in enumerate(self._batches(resumed), resumed + 1):
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
            answered: list[answers.Answered] = []
            for start in range(0, len(task), rows):
                asked = [example.input for example in task.examples[start : start + rows]]
                answered += answers.read_batch(
                    reader,
                    self.collate,
                    asked,
                    task.passage_ids[start : start + rows],
                    selected=self.settings.training.selected,
                    rows=rows,
                )
            guessed = answers.predictions(self.corpus, task.examples, answered)
            found[task.name] = evaluate(task.examples, guessed).downstream["em"]
        return {"mean": float(np.mean(list(found.values()))), **found}

    def _batches(self, begin: int) -> Iterator[Examples]:
        """The batches of steps begin to the last, made a little ahead by a thread of their own."""
        ready: queue.Queue[Examples | BaseException] = queue.Queue(AHEAD)
        stopped = threading.Event()

        def make() -> None:
            try:
                for step in range(begin, self.settings.steps):
                    batch = self._batch(step)
                    while not stopped.is_set():
                        try:
                            ready.put(batch, timeout=0.2)
                            break
                        except queue.Full:
                            continue
                    if stopped.is_set():
                        return
            except BaseException as error:  # raised again where it is seen
                ready.put(error)

        thread = threading.Thread(target=make, daemon=True)
        thread.start()
        try:
            for _ in range(begin, self.settings.steps):
                batch = ready.get()
                if isinstance(batch, BaseException):
                    raise batch
                yield batch
        finally:
            stopped.set()

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

    def _load(self, name: str, path: Path) -> Task:
        self.say(f"{name}: retrieving for the questions of {path}")
        return questions.load_task(
            name, path, self.corpus, retrieved=self.settings.reader.retrieved, keep_in=self.retrieved
        )

    def _relevant(self, task: Task) -> Task:
        kept = questions.relevant(task, self.corpus)
        self.say(f"{task.name}: something relevant was retrieved for {len(kept):,} of {len(task):,} examples")
        if not len(kept):
            raise KiltError(f"nothing relevant was retrieved for any example of {task.name}")
        return kept

    def _require_plan(self) -> None:
        """Write the plan, or compare it with the one that is there."""
        settings = self.settings
        planned = {
            "reader": settings.reader.to_json(),
            "training": asdict(settings.training),
            "steps": settings.steps,
            "every": settings.every,
            "tasks": {task.name: task.digest for task in self.tasks},
            "dev": {task.name: task.digest for task in self.dev},
            "dev_examples": settings.dev_examples,
            "relevant_only": settings.relevant_only,
            "gold": settings.gold,
            "memory": settings.memory,
            "weights": fingerprint.digest_tensors(model_folder.find_tensors(self.opened.path)),
            "passages": self.corpus.manifest.passages.crc32,
            "vectors": self.corpus.vectors_card.fingerprint,
        }
        path = self.out / PLAN
        if path.exists():
            jobs.require_same(self.out, files.read_json(path), planned, "was begun")
        else:
            files.write_json(path, planned)

    def _reader_path(self, step: int) -> Path:
        return self.out / f"{BEST}{step}"

    def _kept_readers(self) -> list[Path]:
        return [path for path in self.out.glob(f"{BEST}*") if path.name.removeprefix(BEST).isdigit()]


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix(BEST))
