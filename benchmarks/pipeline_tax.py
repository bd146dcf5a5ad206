"""The pipeline tax: wall time of `memcorpus build` over the bare loops of its two encoders.

    python -m benchmarks.pipeline_tax DUMP [--pages 60] [--rounds 2] [--models FOLDER]

DUMP is a MediaWiki dump (bz2), of which the first pages are taken. FOLDER is where the models are, `gtr` and
`t5`, or are made: of base size with random weights, and a tokenizer trained on the dump's passages.

Both ways go over the same passages, each in a process of its own, in turns. Bare: both models are loaded, all
texts embedded, then all encoded into an array that is ready; nothing is read, checked or written, and the
texts are sorted by length over all of them. Build: the command with everything that it does, from the XML
up to the index and the commit. Whole processes are compared, and what is left of both when the models are
loaded, which is what a long job sees.
"""

from __future__ import annotations

import argparse
import bz2
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from encoders import batching
from encoders.memory_encoder import MemoryEncoder
from encoders.memory_spec import MemorySpec
from encoders.retriever import Retriever
from encoders.t5_config import PUBLISHED_SIZES, T5Config
from encoders.template import MEMORY_TEMPLATE, RETRIEVER_TEMPLATE, PassageTemplate
from pipeline.text import articles, passages, sources
from retrieval import open_corpus

ALPHA = Fraction(1, 3)
PAGE_END = b"</page>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dump", type=Path)
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--shard-passages", type=int, default=64)
    parser.add_argument("--token-budget", type=int, default=batching.DEFAULT_TOKEN_BUDGET)
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "pipeline-tax-models")
    parser.add_argument(
        "--bare", type=Path, metavar="TEXTS", help="the bare loops alone; used by this program"
    )
    arguments = parser.parse_args()
    if arguments.bare:
        texts = json.loads(arguments.bare.read_text())
        print(json.dumps(_bare(arguments.models, texts, arguments.token_budget)))
        return
    folder = Path(tempfile.mkdtemp(prefix="pipeline-tax-"))
    try:
        _compare(arguments, folder)
    finally:
        shutil.rmtree(folder)


def _compare(arguments: argparse.Namespace, folder: Path) -> None:
    if not arguments.models.exists():
        make_models(arguments.models, arguments.dump, PUBLISHED_SIZES["base"])
    dump = cut(arguments.dump, folder / "pages.xml.bz2", arguments.pages)
    whole, steady = [], []
    measured = rounds(
        dump,
        arguments.models,
        folder,
        shard_passages=arguments.shard_passages,
        token_budget=arguments.token_budget,
    )
    # The first round warms the page cache, and fills the folder of compiled programs.
    for number, row in zip(range(arguments.rounds + 1), measured, strict=False):
        print(
            f"round {number}: {row['passages']:,} passages, {row['tokens']:,} tokens; "
            f"build {row['build_seconds']:.1f} s (stages without loading {row['stages_seconds']:.1f}: "
            f"{row['steps']}); bare {row['bare_seconds']:.1f} s (loops {row['loops_seconds']:.1f}: "
            f"embedding {row['embedding_seconds']:.1f}, encoding {row['encoding_seconds']:.1f}); "
            f"{row['bottleneck']}",
            flush=True,
        )
        if number:
            whole.append(row["whole"])
            steady.append(row["steady"])
    for name, ratios in (("whole processes", whole), ("models loaded", steady)):
        spread = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"pipeline tax, {name}: {statistics.median(ratios):.3f} ({spread})")


def rounds(
    dump: Path, models: Path, folder: Path, *, shard_passages: int, token_budget: int
) -> Iterator[dict[str, Any]]:
    """Round after round: a build of a dump and its bare loops; `whole` and `steady` are ratios."""
    for number in itertools.count():
        corpus = folder / f"corpus-{number}"
        build = ["pipeline", "build", "--json", "--source", f"mediawiki:{dump}", "--out", str(corpus)]
        build += ["--retriever", str(models / "gtr"), "--live-proportion", str(ALPHA)]
        build += ["--memory-encoder", str(models / "t5"), "--token-budget", str(token_budget)]
        build_seconds, built = _process([*build, "--shard-passages", str(shard_passages)])
        texts = folder / "texts.json"
        texts.write_text(json.dumps(_texts(corpus)))
        bare = ["benchmarks.pipeline_tax", str(dump), "--models", str(models), "--bare", str(texts)]
        bare_seconds, loops = _process([*bare, "--token-budget", str(token_budget)])
        shutil.rmtree(corpus)
        loading = sum(steps.get("loading", 0.0) for steps in built["worker_seconds"].values())
        stages = sum(built["stage_seconds"].values()) - loading
        both = loops["embedding"] + loops["encoding"]
        yield {
            "passages": built["passages"],
            "tokens": loops["tokens"],
            "build_seconds": build_seconds,
            "stages_seconds": stages,
            "steps": _steps(built["worker_seconds"]),
            "bare_seconds": bare_seconds,
            "loops_seconds": both,
            "embedding_seconds": loops["embedding"],
            "encoding_seconds": loops["encoding"],
            "bottleneck": built["bottleneck"],
            "whole": build_seconds / bare_seconds,
            "steady": stages / both,
        }


def _bare(models: Path, texts: dict[str, list[str]], token_budget: int) -> dict[str, Any]:
    retriever = Retriever.load(models / "gtr")
    encoder = MemoryEncoder.load(models / "t5", MemorySpec(live_proportion=ALPHA, token_budget=token_budget))
    start = time.perf_counter()
    retriever.encode(texts["retriever"])
    middle = time.perf_counter()
    tokens = encoder.tokenize(texts["memory"])
    values = np.empty((len(tokens.ids), encoder.width), ml_dtypes.bfloat16)
    encoder.encode(tokens, values)
    end = time.perf_counter()
    return {"embedding": middle - start, "encoding": end - middle, "tokens": len(tokens.ids)}


def _texts(corpus: Path) -> dict[str, list[str]]:
    """The passages as the models read them."""
    opened = open_corpus(corpus)
    rows = opened.passages(np.arange(len(opened))).to_pylist()
    templates = {"retriever": RETRIEVER_TEMPLATE, "memory": MEMORY_TEMPLATE}
    return {
        name: [
            PassageTemplate(template).render(title=row["title"], section=row["section"], text=row["text"])
            for row in rows
        ]
        for name, template in templates.items()
    }


def _process(module_and_arguments: list[str]) -> tuple[float, dict[str, Any]]:
    """Wall seconds of a program of ours, and the JSON it prints."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *module_and_arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return time.perf_counter() - start, json.loads(done.stdout)


def _steps(worker_seconds: dict[str, dict[str, float]]) -> str:
    steps: dict[str, float] = {}
    for stage in worker_seconds.values():
        for step, seconds in stage.items():
            steps[step] = steps.get(step, 0.0) + seconds
    return ", ".join(f"{step} {seconds:.1f}" for step, seconds in steps.items())


def cut(dump: Path, to: Path, pages: int) -> Path:
    """The first pages of a dump."""
    xml = bz2.decompress(dump.read_bytes())
    end = 0
    for _ in range(pages):
        found = xml.find(PAGE_END, end)
        if found < 0:
            break
        end = found + len(PAGE_END)
    to.write_bytes(bz2.compress(xml[:end] + b"\n</mediawiki>\n"))
    return to


def make_models(folder: Path, dump: Path, size: T5Config, *, dim: int | None = None) -> None:
    """`gtr` and `t5` of a size, with random weights and a tokenizer trained on a dump's passages; `dim` is of
    the retriever's vectors, if not the model's own."""
    from tests import small_models

    texts = [
        passage.text
        for split in sources.open_source(f"mediawiki:{dump}").splits(1 << 40)
        for page in sources.read_split(split)
        if isinstance(page, articles.Article)
        for passage in passages.passages(page)
    ]
    base: dict[str, Any] = {
        "layers": size.layers,
        "d_model": size.d_model,
        "heads": size.heads,
        "d_kv": size.d_kv,
        "vocab": min(8_000, size.vocab_size),
        "texts": texts,
    }
    # T5 1.0, as GTR.
    small_models.make_gtr_folder(
        folder / "gtr", d_ff=4 * size.d_model, dim=dim or size.d_model, max_seq_length=512, **base
    )
    # T5's own embedding is larger than this tokenizer.
    small_models.make_t5_folder(folder / "t5", d_ff=size.d_ff, embedding_rows=size.vocab_size, **base)


if __name__ == "__main__":
    main()
