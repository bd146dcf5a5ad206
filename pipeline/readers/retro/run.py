"""A RETRO's training run: rows in, a folder out; resumed to the same losses wherever it was stopped."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from encoders.retro import folder as retro_folder
from encoders.retro.folder import RetroFolder
from encoders.retro.model import Retro
from encoders.retro.rows import Neighbours, Rows
from encoders.retro.training import LANGUAGE, RetroTrainer, RetroTraining
from encoders.token_bytes import TokenBytes
from pipeline.readers.retro import bits, windows
from pipeline.readers.retro import chunks as chunks_of
from pipeline.readers.retro.chunks import Chunks
from pipeline.readers.retro.retrieval import Retrieval
from pipeline.readers.training import preparing
from pipeline.readers.training.checkpoints import Checkpoints, Curve, read_curve
from storage import checked_json, errors, locks

METRICS, DEV, RESULT, CHECKPOINTS = "metrics.csv", "dev.csv", "retro", "checkpoints"
LOSSES: Final = ("loss", "tokens", "gradient_norm")
# Batches made ahead of the step that takes them.
AHEAD: Final = 2

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Text:
    """Chunks, and what is retrieved for them; None for nothing."""

    chunks: Chunks
    retrieval: Retrieval | None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run.

    Args:
        opened: what training begins with.
        training: of each step.
        text: what is learned from.
        plan: all that decides the run's numbers; a folder that was begun with another is refused.
        every: steps between two checkpoints, each with bits per byte of the dev text.
        dev: a held-out text, with `counts`; None for none.
        counts: bytes of the vocabulary's tokens.

    Raises:
        CorpusError: one is out of range, or they do not go together.
    """

    opened: RetroFolder
    training: RetroTraining
    text: Text
    plan: Mapping[str, object]
    every: int = 500
    dev: Text | None = None
    counts: TokenBytes | None = None

    def __post_init__(self) -> None:
        config = self.opened.settings.config
        if self.every < 1:
            raise errors.CorpusError(f"every is {self.every}, wanted 1 or more steps")
        for text in (self.text, self.dev):
            if text is not None and text.chunks.width != config.chunk_tokens:
                raise errors.CorpusError(
                    f"chunks of {text.chunks.width} tokens for a model of {config.chunk_tokens}; build the "
                    f"corpus with --passage-tokens {config.chunk_tokens}"
                )
            if text is not None:
                windows.require_predictable(text.chunks)
        if (self.text.retrieval is None) != (self.training.learns == LANGUAGE):
            raise errors.CorpusError(
                f"{self.training.learns} is to be learned "
                + ("with retrieval off; only the language model is" if self.text.retrieval is None else "")
                + ("" if self.text.retrieval is None else "from neighbours; wanted retrieval off")
            )
        if (self.dev is None) != (self.counts is None):
            raise ValueError("a dev text and the bytes of its tokens go together")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came out.

    Attributes:
        folder: the RETRO.
        loss: mean over the last steps that are told together, nats a token.
        seconds: of this run, not of what it resumed.
        resumed: the step it resumed at; 0 for a new run.
    """

    folder: Path
    loss: float
    seconds: float
    resumed: int


def train(run: Run, out: Path, *, say: Say = lambda _: None) -> Trained:
    """Train a RETRO in the folder `out`, or go on with a run that was stopped there.

    Args:
        run: what and how.
        out: gets train.json, metrics.csv (a row a step), dev.csv, checkpoints, and `retro`, the result.
        say: told what goes on, in lines.

    Raises:
        MismatchError: `out` holds a run with other settings, text or weights.
        DivergedError: the loss is not finite.
    """
    started = time.monotonic()
    preparing.require_folder(out, run.plan)
    out.mkdir(parents=True, exist_ok=True)
    with locks.one_job(out):
        preparing.require_folder(out, run.plan)
        if not (out / preparing.PLAN).exists():
            checked_json.write(out / preparing.PLAN, dict(run.plan))
        resumed = _go(run, out, say)
        losses = [float(row["loss"]) for row in read_curve(out / METRICS)[-run.every :]]
    return Trained(
        folder=out / RESULT,
        loss=float(np.mean(losses)),
        seconds=time.monotonic() - started,
        resumed=resumed,
    )


def _go(run: Run, out: Path, say: Say) -> int:
    """Train to the last step; returns the step it went on from."""
    steps = run.training.steps
    checkpoints = Checkpoints(out / CHECKPOINTS)
    resumed = checkpoints.latest() or 0
    metrics = Curve(out / METRICS, LOSSES, steps=resumed)
    dev = Curve(out / DEV, ("bits_per_byte", "off"), steps=resumed)
    try:
        # The result is written before the last checkpoint, so a run that has the one may lack nothing.
        if resumed < steps or not (out / RESULT).exists():
            trainer = RetroTrainer(_model(run.opened), run.training)
            if resumed:
                trainer.state = checkpoints.restore(resumed, trainer.state)
                say(f"goes on after step {resumed:,} of {steps:,}")
            _steps(run, out, trainer, resumed, checkpoints, metrics, dev, say)
    finally:
        metrics.close()
        dev.close()
        checkpoints.close()
    return resumed


def _steps(
    run: Run,
    out: Path,
    trainer: RetroTrainer,
    resumed: int,
    checkpoints: Checkpoints,
    metrics: Curve,
    dev: Curve,
    say: Say,
) -> None:
    steps, began = run.training.steps, time.monotonic()
    losses: list[float] = []
    tokens = 0.0
    for step, (rows, neighbours) in enumerate(_batches(run, resumed), resumed + 1):
        found = trainer.step(rows, neighbours)
        metrics.add(step, found)
        losses.append(found["loss"])
        tokens += found["tokens"]
        if step % run.every and step != steps:
            continue
        line = f"step {step:,} of {steps:,}: loss {np.mean(losses):.4f}, "
        line += f"{tokens / (time.monotonic() - began):,.0f} tokens/s"
        losses = []
        if run.dev is not None:
            on, off = (_judged(run, trainer.model, r) for r in (run.dev.retrieval, None))
            dev.add(step, {"bits_per_byte": on, "off": off})
            line += f"; bits per byte {on:.4f}, off {off:.4f}"
        metrics.flush()
        dev.flush()
        if step == steps:
            _save(run, out, trainer.model)
        checkpoints.save(step, trainer.state)
        say(line)
    if resumed == steps:
        _save(run, out, trainer.model)


def _save(run: Run, out: Path, model: Retro) -> None:
    if not (out / RESULT).exists():
        retro_folder.save(model, run.opened.settings, out / RESULT, like=run.opened.path)


def _model(opened: RetroFolder) -> Retro:
    settings = opened.settings
    return Retro(settings.config, opened.tensor, compute_dtype=settings.compute_dtype, stored_dtype="float32")


def _judged(run: Run, model: Retro, retrieval: Retrieval | None) -> float:
    """Bits per byte of the dev text."""
    assert run.dev is not None
    assert run.counts is not None
    window = run.opened.settings.window
    found = bits.measure(
        model,
        run.dev.chunks,
        run.counts,
        retrieval=retrieval,
        window=window,
        stride=max(1, window // 2),
        rows=run.training.micro_batch,
    )
    return found.all.bits_per_byte


def _batches(run: Run, begin: int) -> Iterator[tuple[Rows, Neighbours | None]]:
    """The batches of the steps after `begin`, made a little ahead by a thread of their own."""
    steps = range(begin, run.training.steps)
    pool = ThreadPoolExecutor(1, "batches")
    try:
        ahead = deque(pool.submit(_batch, run, step) for step in steps[:AHEAD])
        for step in steps:
            batch = ahead.popleft().result()
            if step + AHEAD < run.training.steps:
                ahead.append(pool.submit(_batch, run, step + AHEAD))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def _batch(run: Run, step: int) -> tuple[Rows, Neighbours | None]:
    window = windows.drawn(
        run.text.chunks,
        length=run.opened.settings.window,
        rows=run.training.batch,
        seed=run.training.seed,
        step=step,
    )
    retrieval, vocabulary = run.text.retrieval, run.opened.settings.config.language.vocab_size
    chunks_of.require_known(np.asarray(window.rows.tokens), vocabulary, "the text")
    return window.rows, None if retrieval is None else retrieval.known(window.ids, vocabulary)
