"""Our own store: one small corpus with a memory version of every codec, read as any reader would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.store.contender import Contender
from benchmarks.store.truth import BFLOAT16, MAX_TOKENS, Truth
from retrieval import Corpus, open_corpus
from storage import canaries, codecs, file_list, files, manifest, memory_store, passage_table
from storage.memory_store import MemoryLayout
from storage.shards import ShardGrid, choose_shard_passages

BASE_CODEC: Final = "bfloat16"
WIKIPEDIA_PASSAGES: Final = 36_000_000


def shard_passages(codec: codecs.Codec, width: int) -> int:
    """Passages of a shard in a corpus of all of Wikipedia."""
    return choose_shard_passages(
        passages=WIKIPEDIA_PASSAGES, max_tokens=MAX_TOKENS, token_bytes=codec.token_bytes(width)
    )


def layout_of(truth: Truth, codec: codecs.Codec) -> MemoryLayout:
    """As a build of all of Wikipedia would lay it out, in shards as large."""
    grid = ShardGrid(passages=truth.passages, shard_passages=shard_passages(codec, truth.width))
    return MemoryLayout(grid=grid, width=truth.width, max_tokens=MAX_TOKENS, codec=codec)


def shard_rows(
    truth: Truth, layout: MemoryLayout, shard: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """A shard's offsets and buffer, as the encoder hands them to `memory_store.write_shard`."""
    first, stop = layout.grid.bounds(shard)
    offsets = truth.starts[first : stop + 1] - truth.starts[first]
    buffer = memory_store.allocate(layout, int(offsets[-1]))
    rows = truth.values[truth.starts[first] : truth.starts[stop]].view(BFLOAT16)
    buffer[: offsets[-1]] = rows.astype(buffer.dtype)
    return offsets, buffer


def write_version(root: Path, truth: Truth, codec: codecs.Codec) -> files.FileEntry:
    """Write a memory version named after its codec; returns its card's entry for the manifest."""
    layout = layout_of(truth, codec)
    folder = root / manifest.memory_folder(codec.name)
    paths = memory_store.create(folder, layout)
    rows = []
    for shard in layout.grid:
        offsets, buffer = shard_rows(truth, layout, shard)
        written = memory_store.write_shard(folder, layout, shard, offsets=offsets, buffer=buffer)
        paths.append(written.path)
        rows.append(written.rows)
    joined = memory_store.join(folder, layout, lambda: rows)
    listed = folder / file_list.NAME
    file_list.write(listed, [files.entry_of(root, path) for path in paths])
    card = manifest.MemoryCard(
        version=codec.name,
        fingerprint="0" * 64,
        encoder_fingerprint="0" * 64,
        encoder={},
        origin=None,
        layout=layout,
        counts={"tokens": int(truth.starts[-1])},
        rows=tuple(files.entry_of(root, path) for path in joined),
        canaries=_canaries(root, folder, truth),
        quality={},
        files=files.entry_of(root, listed),
    )
    files.write_json(folder / "memory.json", card.to_json())
    return files.entry_of(root, folder / "memory.json")


def _canaries(root: Path, folder: Path, truth: Truth) -> canaries.CanaryCard:
    ids = canaries.choose(truth.passages)
    path = folder / canaries.FILE
    canaries.write(path, truth.rows_of(np.array(ids)).view(BFLOAT16))
    tokens = tuple(int(truth.lengths[i]) for i in ids)
    file = files.entry_of(root, path)
    return canaries.CanaryCard(passage_ids=tuple(ids), tokens=tokens, dtype=BFLOAT16.name, file=file)


def write_corpus(root: Path, truth: Truth, wanted: Iterable[codecs.Codec]) -> None:
    """A corpus without vectors and index: passages of no interest, and the memory of each codec."""
    part = root / "passages" / passage_table.part_name(0)
    part.parent.mkdir(parents=True)
    passage_table.write_part(part, passage_table.SCHEMA, _passages(truth.passages))
    quarantine = part.with_name("quarantine.jsonl")
    quarantine.touch()
    table = passage_table.Part(file=files.entry_of(root, part), first_passage_id=0, rows=truth.passages)
    card = manifest.PassagesCard(
        passages=truth.passages,
        words=truth.passages,
        splitter={},
        counts={},
        parts=(table,),
        quarantine=files.entry_of(root, quarantine),
    )
    files.write_json(root / manifest.PASSAGES_CARD, card.to_json())
    manifest.Manifest(
        settings={},
        sources=(),
        passages=files.entry_of(root, root / manifest.PASSAGES_CARD),
        vectors={},
        indexes={},
        memory={codec.name: write_version(root, truth, codec) for codec in wanted},
        aliases={manifest.CURRENT: BASE_CODEC},
    ).write(root)


def _passages(count: int) -> Iterator[pa.RecordBatch]:
    rows = [
        {
            "passage_id": i,
            "passage_key": i.to_bytes(16, "big"),
            "page_id": str(i),
            "title": "",
            "section": [],
            "ordinal": 0,
            "text": "word",
            "words": 1,
        }
        for i in range(count)
    ]
    yield pa.RecordBatch.from_pylist(rows, schema=passage_table.SCHEMA)


class Memcorpus(Contender):
    """`Corpus.memory(version).fetch(ids)` of one codec."""

    def __init__(self, truth: Truth, corpus: Corpus, codec: codecs.Codec, check: str) -> None:
        super().__init__(truth)
        self._reader = corpus.memory(codec.name, check=check)
        self.name = f"memcorpus {codec.name}, check={check}"
        self.checked = {"always": "passages", "once": "passages, once", "never": "nothing"}[check]
        self.dtype = self._reader.dtype
        # bfloat16 and what is wider hold the true rows as they are.
        exact = codec.name in (BASE_CODEC, "float32")
        self.error = 0.0 if exact else float(getattr(codec, "relative_error", 0.5))
        self.paths = (corpus.root / manifest.memory_folder(codec.name),)

    def fetch(self, ids: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self._reader.fetch(ids, out=out).values


def contenders(truth: Truth, root: Path) -> Iterator[Memcorpus]:
    """Every codec in the corpus as it is opened by default; bfloat16 with every way of checking."""
    corpus = open_corpus(root)
    for name in corpus.manifest.memory:
        for check in ("once", "always", "never") if name == BASE_CODEC else ("once",):
            yield Memcorpus(truth, corpus, codecs.by_name(name), check)
