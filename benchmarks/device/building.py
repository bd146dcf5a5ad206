"""A whole build beside its bare encoders, and one step of a reader's training."""

from __future__ import annotations

import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import pipeline_tax
from benchmarks.device import work
from benchmarks.device.boxes import Box, Row
from encoders.t5_config import T5Config


def tax(box: Box) -> None:
    """`benchmarks.pipeline_tax` on articles made up here; the device is left to the processes it starts."""
    from examples.miniwiki import export

    tiny = box.settings["tiny"]
    size = "tiny" if tiny else "base"
    with tempfile.TemporaryDirectory(prefix="memcorpus-tax-", dir=box.settings["folder"]) as name:
        folder = Path(name)
        pages = 30 if tiny else 600
        dump = folder / "dump.xml.bz2"
        export.write_dump(dump, articles=pages, form="bz2", broken=False, invented=0 if tiny else pages)
        begun = time.perf_counter()
        pipeline_tax.make_models(folder / "models", dump, work.SIZES[size])
        box.put("models", {"size": size, "seconds": time.perf_counter() - begun})
        rounds = pipeline_tax.rounds(
            dump,
            folder / "models",
            folder,
            shard_passages=64 if tiny else 1024,
            token_budget=box.settings["budgets"][min(1, len(box.settings["budgets"]) - 1)],
        )
        # The first compiles; the second takes what it kept.
        for number in range(2):
            box.entry("compiling" if number == 0 else "warm", lambda: next(rounds))


def training_step(box: Box) -> None:
    """GLIMMER with a trained memory encoder, dropout and distillation: seconds of a step."""
    size = "tiny" if box.settings["tiny"] else "base"
    batch, passages = (2, 3) if box.settings["tiny"] else (8, 8)
    with tempfile.TemporaryDirectory(prefix="memcorpus-step-", dir=box.settings["folder"]) as name:
        box.entry(
            f"GLIMMER, {size}, {batch} questions of {passages} passages",
            lambda: _step(box, Path(name), work.SIZES[size], batch, passages),
        )


def _step(box: Box, folder: Path, size: T5Config, batch: int, passages: int) -> Row:
    from encoders.reader import folder as reader_folder
    from encoders.reader.config import preset
    from encoders.reader.examples import Examples
    from encoders.reader.folder import ReaderSettings
    from encoders.reader.model import Reader
    from encoders.reader.training import Trainer, TrainingSettings
    from tests.small_models import make_t5_folder

    model = make_t5_folder(
        folder / "t5",
        layers=size.layers,
        decoder_layers=size.layers,
        d_model=size.d_model,
        d_ff=size.d_ff,
        heads=size.heads,
        d_kv=size.d_kv,
        embedding_rows=size.vocab_size,
        decoder=True,
        dtype="bfloat16",
    )
    shape, layers = reader_folder.read_t5(model)
    config = preset(
        "glimmer",
        shape,
        decoder_layers=layers,
        live_proportion=Fraction(1, 3),
        rerank_proportion=Fraction(1) if size.layers < 12 else Fraction(1, 4),
    )
    settings = ReaderSettings(config=config, compute_dtype="bfloat16", retrieved=passages, selected=2)
    opened = reader_folder.from_t5(model, settings)
    reader = Reader(config, opened.tensor, compute_dtype="bfloat16", stored_dtype="float32")
    trainer = Trainer(
        reader,
        TrainingSettings(selected=2, batch=batch, micro_batch=batch),
        devices=jax.devices()[:1],
    )
    random = np.random.default_rng(0)
    question, passage, answer = (16, 64, 8) if box.settings["tiny"] else (48, 304, 32)

    def drawn(*shape: int) -> Any:
        return random.integers(3, size.vocab_size, shape).astype(np.int32)

    examples = Examples(
        questions=drawn(batch, question),
        question_lengths=np.full(batch, question, np.int32),
        passages=drawn(batch, passages, passage),
        lengths=np.full((batch, passages), passage, np.int32),
        targets=drawn(batch, answer),
        target_lengths=np.full(batch, answer, np.int32),
    )
    begun = time.perf_counter()
    told = [trainer.step(examples)]
    first = time.perf_counter() - begun
    timings = []
    while len(timings) < 5 and (not timings or sum(timings) < box.left / 2):
        begun = time.perf_counter()
        told.append(trainer.step(examples))
        timings.append(time.perf_counter() - begun)
    return {
        "first_step_seconds": first,
        "seconds": float(np.median(timings)),
        "questions_per_s": batch / float(np.median(timings)),
        "loss": [step["loss"] for step in told],
        "memory_peak_bytes": work.memory_peak(),
    }
