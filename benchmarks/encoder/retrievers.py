"""GTR's shape through both backends of the retriever: the same vectors first, then texts a second."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.encoder.work import passage_lengths
from benchmarks.store.report import columns, spread
from benchmarks.timing import interleaved
from encoders import PUBLISHED_SIZES
from encoders.retriever import BACKENDS, Retriever
from encoders.retriever_folder import MAX_TOKENS
from encoders.tokenizing import Tokenizer

BOUND: Final = 1e-5


def run(size: str, passages: int, rounds: int) -> dict[str, Any]:
    """Texts of the lengths that passages have, through all layers in float32; prints the table."""
    from tests import small_models

    shape = PUBLISHED_SIZES[size]
    with tempfile.TemporaryDirectory(prefix="memcorpus-gtr-") as folder:
        small_models.make_gtr_folder(
            Path(folder),
            layers=shape.layers,
            d_model=shape.d_model,
            d_ff=4 * shape.d_model,  # T5 1.0, as GTR
            heads=shape.heads,
            d_kv=shape.d_kv,
            dim=768,
            max_seq_length=512,
        )
        loaded = {backend: Retriever.load(folder, backend=backend) for backend in BACKENDS}
        texts = _texts(Tokenizer(Path(folder), max_tokens=MAX_TOKENS), passages)
        vectors = {backend: retriever.encode(texts) for backend, retriever in loaded.items()}
        error = float(np.abs(vectors["jax"] - vectors["sentence-transformers"]).max())
        if not error <= BOUND:
            raise SystemExit(f"the backends' vectors are {error:.1e} apart, wanted at most {BOUND:.0e}")
        tokens = int(passage_lengths(passages).sum())
        seconds = interleaved(
            {backend: (lambda r=retriever: r.encode(texts)) for backend, retriever in loaded.items()}, rounds
        )
    base = "sentence-transformers"
    figures = {
        backend: {
            "tokens_per_s": tokens / statistics.median(values),
            "ratio": spread([1 / s for s in values], [1 / s for s in seconds[base]]),
        }
        for backend, values in seconds.items()
    }
    rows = [[f"GTR's shape, {size}, float32", "tokens/s", f"rate, x {base} (quartiles)"]]
    for backend, row in figures.items():
        ratio = row["ratio"]
        rows.append(
            [
                backend,
                f"{row['tokens_per_s']:,.0f}",
                f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
            ]
        )
    print(f"vectors at most {error:.1e} apart (bound {BOUND:.0e})\n{columns(rows)}\n")
    return {"error": error, "backends": figures}


def _texts(tokenizer: Tokenizer, count: int) -> list[str]:
    """Texts that have as many tokens as `passage_lengths` says, to within one word."""
    word = "tea "
    each = len(tokenizer([word * 100]).ids) / 100
    return [word * max(1, round(int(n) / each)) for n in passage_lengths(count)]
