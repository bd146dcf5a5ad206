"""The demo: a dump, small models, `memcorpus build`, a search, and memory fetched by passage id."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from examples.miniwiki.export import write_dump
from examples.miniwiki.models import GTR_NAME, T5_NAME, make_models
from retrieval import open_corpus

QUESTIONS = ("What is the capital of Mongolia?", "Who discovered oxygen?", "Where does the Danube end?")


def _say(text: str) -> None:
    print(text, flush=True)


def _memcorpus(*arguments: str) -> None:
    """Run a command as a user would, and show it."""
    _say(f"\n$ memcorpus {shlex.join(arguments)}")
    subprocess.run([sys.executable, "-m", "pipeline", *arguments], check=True)


def demo(folder: Path) -> None:
    """Build a memory corpus in `folder` and read from it; a second run finds it built."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = write_dump(folder)
    size = truth.path.stat().st_size
    _say(f"{truth.path}: {truth.pages:,} pages, {size / 1024:,.0f} KiB, {truth.kept} articles")
    models = folder / "models"
    if not (models / T5_NAME / "model.safetensors").exists():
        start = time.monotonic()
        report = make_models(models)
        _say(
            f"{models}: a retriever trained on {report.train_questions:,} questions, a random T5; "
            f"{time.monotonic() - start:.0f} s"
        )
    corpus_folder = folder / "corpus"
    _memcorpus(
        *("build", "--source", f"mediawiki:{truth.path}", "--out", str(corpus_folder)),
        *("--retriever", str(models / GTR_NAME), "--memory-encoder", str(models / T5_NAME)),
        *("--live-proportion", "1/3"),
    )
    _memcorpus("search", str(corpus_folder), *QUESTIONS, "-k", "3")
    corpus = open_corpus(corpus_folder)
    reader = corpus.memory()
    found = corpus.search(list(QUESTIONS), 20)
    reader.fetch(found.passage_ids[0])  # opens the shards
    start = time.perf_counter()
    memory = reader.fetch(found.passage_ids[0])
    milliseconds = (time.perf_counter() - start) * 1000
    values, mask = memory.padded(304)
    _say(f"\nmemory of the 20 passages nearest to {QUESTIONS[0]!r}, fetched by id in {milliseconds:.1f} ms:")
    _say(
        f"  values {list(memory.values.shape)} {memory.values.dtype}, {memory.values.nbytes:,} bytes, "
        f"{np.diff(memory.offsets).min()} to {np.diff(memory.offsets).max()} tokens a passage"
    )
    _say(f"  padded {list(values.shape)}, mask {list(mask.shape)}, {mask.mean():.0%} of it tokens")
    _memcorpus("verify", str(corpus_folder), "--full")
    _say(f"\nthe corpus lies in {corpus_folder.resolve()}")
