"""Makes the golden corpus of the format as it is now: `python -m tests.golden.make`.

Run once for a format, and committed: a later memcorpus must read what an earlier one has written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from encoders.memory_spec import MemorySpec
from examples.miniwiki.export import write_dump
from pipeline.components.settings import BuildSettings
from pipeline.jobs.reencode import ReencodeSettings
from retrieval import Corpus, open_corpus
from storage import manifest
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
    text = "\n".join(row["title"] + "\n" + row["text"] for row in corpus.passages(everything).to_pylist())
    queries = corpus.vectors().read(0, 3)
    return {
        "passages": len(corpus),
        "text": hashlib.sha256(text.encode()).hexdigest(),
        "vectors": hashlib.sha256(np.ascontiguousarray(corpus.vectors().read(0, len(corpus)))).hexdigest(),
        "nearest": corpus.search(queries, 3).passage_ids.tolist(),
        "current": corpus.manifest.version(None),
        "memory": memory,
    }


def main() -> None:
    out = FOLDER / f"format-{manifest.FORMAT}"
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
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
        root = build(settings, folder / "corpus").corpus.root
        for codec in CODECS:
            jobs.reencode(root, ReencodeSettings(origin="current", codec=codec, name=codec))
        shutil.copytree(root, out)
    expected = expectations(open_corpus(out))
    (FOLDER / f"format-{manifest.FORMAT}.json").write_text(json.dumps(expected, indent=1) + "\n")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {expected['passages']} passages, {size:,} bytes")


if __name__ == "__main__":
    main()
