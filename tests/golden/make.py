"""Makes the golden corpora of the format as it is now: `python -m tests.golden.make`.

One is of passages, with a version of each kind of codec; one of chunks, with their tokens and a table of
neighbours. `python -m tests.golden.make chunks` makes the second alone.

Run once for a format, and committed: a later memcorpus must read what an earlier one has written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from encoders.memory_spec import MemorySpec
from examples.miniwiki.export import write_dump
from pipeline.components.settings import BuildSettings
from pipeline.jobs.reencode import ReencodeSettings
from retrieval import Corpus, open_corpus
from storage import components, manifest
from tests import jobs, small_models
from tests.jobs import build

FOLDER = Path(__file__).parent
CODECS = ("int8", "turbo4", "pq4x4")


def expectations(corpus: Corpus) -> dict[str, object]:
    """What a reader must find, as digests and plain numbers."""
    everything = list(range(len(corpus)))
    memory = {}
    for name in corpus.manifest.versions:
        reader = corpus.memory(name)
        fetched = reader.fetch(everything)
        raw = reader.fetch(everything, decode=False)
        memory[name] = {
            "codec": reader.card.layout.codec.name,
            "rows": hashlib.sha256(np.ascontiguousarray(raw.values).view(np.uint8)).hexdigest(),
            "tokens": np.diff(fetched.offsets).tolist(),
            # Of decoded values: sums tell, and do not hang on the last bit.
            "sum": float(np.asarray(fetched.values, np.float64).sum()),
            "norm": float(np.linalg.norm(np.asarray(fetched.values, np.float64))),
        }
    if corpus.manifest.of(components.TOKENS):
        return {**passages(corpus), **chunks(corpus), "memory": memory}
    return {**passages(corpus), "memory": memory}


def passages(corpus: Corpus) -> dict[str, object]:
    """Of text, vectors and index."""
    everything = list(range(len(corpus)))
    text = "\n".join(row["title"] + "\n" + row["text"] for row in corpus.passages(everything).to_pylist())
    queries = corpus.vectors().read(0, 3)
    return {
        "passages": len(corpus),
        "text": hashlib.sha256(text.encode()).hexdigest(),
        "vectors": hashlib.sha256(np.ascontiguousarray(corpus.vectors().read(0, len(corpus)))).hexdigest(),
        "nearest": corpus.search(queries, 3).passage_ids.tolist(),
        "current": corpus.manifest.version(None),
    }


def chunks(corpus: Corpus) -> dict[str, object]:
    """Of the chunks' tokens, their places in documents, and their neighbours."""
    everything = np.arange(len(corpus))
    tokens = corpus.tokens(everything)
    table = corpus.neighbours()
    found = table.fetch(everything)
    return {
        "tokens": hashlib.sha256(np.ascontiguousarray(tokens.values)).hexdigest(),
        "lengths": tokens.lengths.tolist(),
        "documents": corpus.documents(everything).firsts.tolist(),
        "continuations": corpus.continuations(everything).tolist(),
        "table": table.card.fingerprint,
        "neighbours": found.passage_ids.tolist(),
        "scores": hashlib.sha256(np.ascontiguousarray(found.scores)).hexdigest(),
    }


def main() -> None:
    name = f"format-{manifest.FORMAT}"
    if sys.argv[1:] != ["chunks"]:
        keep(name, make_passages)
    keep(f"{name}-chunks", make_chunks)


def keep(name: str, make: Callable[[Path, BuildSettings], Path]) -> None:
    """Make a corpus, and put it and what is found in it beside this file."""
    out = FOLDER / name
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        small_models.make_t5_folder(folder / "t5", layers=3, seed=1)
        small_models.make_gtr_folder(folder / "gtr", seed=2)
        (folder / "dump").mkdir()
        dump = write_dump(folder / "dump", articles=4, pages_per_stream=2)
        settings = BuildSettings(
            sources=(f"mediawiki:{dump.path}",),
            retriever=str(folder / "gtr"),
            memory_encoder=str(folder / "t5"),
            memory=MemorySpec(),
            shard_passages=64,
            split_bytes=5_000,
        )
        shutil.copytree(make(folder, settings), out)
    expected = expectations(open_corpus(out))
    (FOLDER / f"{name}.json").write_text(json.dumps(expected, indent=1) + "\n")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {expected['passages']} passages, {size:,} bytes")


def make_passages(folder: Path, settings: BuildSettings) -> Path:
    """A corpus of passages, with a version of each kind of codec."""
    root = build(settings, folder / "corpus").corpus.root
    for codec in CODECS:
        jobs.reencode(root, ReencodeSettings(origin="current", codec=codec, name=codec))
    return root


def make_chunks(folder: Path, settings: BuildSettings) -> Path:
    """A corpus of chunks of 32 tokens, with a table of two neighbours."""
    tokenizer = small_models.make_llama_folder(folder / "llama")
    settings = replace(settings, passage_tokens=32, tokenizer=str(tokenizer), codec="int8")
    root = build(settings, folder / "corpus").corpus.root
    jobs.neighbours(root, k=2)
    return root


if __name__ == "__main__":
    main()
