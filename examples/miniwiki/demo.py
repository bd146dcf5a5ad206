"""The demo: a dump, `memcorpus build`, a search, memory fetched by id, and questions answered from it."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from examples.miniwiki.export import write_dump
from examples.miniwiki.shipped import GLIMMER_NAME, GTR_NAME, LIVE, MAX_TOKENS, PASSAGE_WORDS
from retrieval import open_corpus

# Trained by `python -m examples.miniwiki models`; what they are is told by the card in each folder.
MODELS = Path(__file__).parent / "trained"
QUESTIONS = ("What is the capital of Mongolia?", "How high is Mount Everest?", "Where does the Danube end?")


def _say(text: str) -> None:
    print(text, flush=True)


def _shown(path: Path) -> str:
    """As a user in the project's folder would write it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


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
    corpus_folder = folder / "corpus"
    _memcorpus(
        *("build", "--source", f"mediawiki:{truth.path}", "--out", str(corpus_folder)),
        *("--retriever", _shown(MODELS / GTR_NAME), "--memory-encoder", _shown(MODELS / GLIMMER_NAME)),
        *("--live-proportion", LIVE, "--passage-words", str(PASSAGE_WORDS), "--max-tokens", str(MAX_TOKENS)),
    )
    _memcorpus("search", str(corpus_folder), *QUESTIONS, "-k", "3")
    corpus = open_corpus(corpus_folder)
    reader = corpus.memory()
    found = corpus.search(list(QUESTIONS), 20)
    reader.fetch(found.passage_ids[0])  # opens the shards
    start = time.perf_counter()
    memory = reader.fetch(found.passage_ids[0])
    milliseconds = (time.perf_counter() - start) * 1000
    values, mask = memory.padded(MAX_TOKENS)
    _say(f"\nmemory of the 20 passages nearest to {QUESTIONS[0]!r}, fetched by id in {milliseconds:.1f} ms:")
    _say(
        f"  values {list(memory.values.shape)} {memory.values.dtype}, {memory.values.nbytes:,} bytes, "
        f"{np.diff(memory.offsets).min()} to {np.diff(memory.offsets).max()} tokens a passage"
    )
    _say(f"  padded {list(values.shape)}, mask {list(mask.shape)}, {mask.mean():.0%} of it tokens")
    # Of the passages retrieved the one that the reader's score puts first.
    kept = ("-m", "1")
    _memcorpus("answer", str(corpus_folder), *QUESTIONS, "--reader", _shown(MODELS / GLIMMER_NAME), *kept)
    _memcorpus("verify", str(corpus_folder), "--full")
    _say(f"\nthe corpus lies in {corpus_folder.resolve()}")
