"""Our own store: one small corpus with a memory version of every codec, read as any reader would."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.store.contender import Contender
from benchmarks.store.truth import BFLOAT16, MAX_TOKENS, Truth
from retrieval import Corpus, open_corpus
from storage import (
    canaries,
    codec_parameters,
    codecs,
    components,
    file_list,
    files,
    manifest,
    memory_store,
    passage_table,
)
from storage.codecs import pq
from storage.components import MemoryCard, MemoryCounts, PassagesCard
from storage.folder import CorpusFolder
from storage.memory_store import MemoryLayout
from storage.shards import ShardGrid, choose_shard_passages

BASE_CODEC: Final = "bfloat16"
WIKIPEDIA_PASSAGES: Final = 36_000_000
_BLOCK_ROWS: Final = 8192


def shard_passages(codec: codecs.Codec, width: int) -> int:
    """Passages of a shard in a corpus of all of Wikipedia."""
    return choose_shard_passages(
        passages=WIKIPEDIA_PASSAGES, max_tokens=MAX_TOKENS, token_bytes=codec.token_bytes(width)
    )


class Coded:
    """The true rows as a codec stores them.

    Codes of product quantization are random, and so are its codebooks: to train them, and to find
    the nearest codes, would take hours, and reading and decoding do not depend on which codes they are.

    Attributes:
        codec, coder: which.
        random: the rows have nothing to do with the true ones.
        layout: as a build of all of Wikipedia would lay it out, in shards as large.
    """

    def __init__(self, truth: Truth, codec: codecs.Codec, folder: Path) -> None:
        self.truth = truth
        self.codec = codec
        grid = ShardGrid(passages=truth.passages, shard_passages=shard_passages(codec, truth.width))
        self.layout = MemoryLayout(grid=grid, width=truth.width, max_tokens=MAX_TOKENS, codec=codec)
        self.random = isinstance(codec, pq.PQ)
        rng = np.random.default_rng(5)
        if self.random:
            self.parameters = {
                name: rng.standard_normal(shape, np.float32).astype(BFLOAT16).view(dtype)
                for name, (shape, dtype) in codec.parameter_shapes(truth.width).items()
            }
        else:
            sample = truth.values[: max(1, codec.sample_tokens(truth.width))]
            self.parameters = codec.train(sample.view(BFLOAT16).astype(np.float32))
        self.coder = codec.bind(truth.width, self.parameters)
        self._stored = None if self.coder.view_only else self._write(folder / f"coded-{codec.name}", rng)

    def _write(self, path: Path, rng: np.random.Generator) -> npt.NDArray[Any]:
        tokens, columns = len(self.truth.values), self.layout.stored_width
        with path.open("wb") as file:
            for first in range(0, tokens, _BLOCK_ROWS):
                rows = min(_BLOCK_ROWS, tokens - first)
                if self.random:
                    codes = next(iter(self.parameters.values())).shape[1]
                    block = rng.integers(0, codes, (rows, columns), self.codec.stored_dtype)
                else:
                    block = self._encoded(first, first + rows)
                file.write(block.tobytes())
        return np.asarray(np.memmap(path, self.codec.stored_dtype, "r")).reshape(tokens, columns)

    def _encoded(self, first: int, stop: int) -> npt.NDArray[Any]:
        values = self.truth.values[first:stop].view(BFLOAT16).astype(np.float32)
        stored = self.coder.encode(values)
        off = np.linalg.norm(self.coder.decoded(stored).astype(np.float32) - values, axis=1)
        if not (off <= self.coder.error_bound(values)).all():
            raise AssertionError(f"codec {self.codec.name} is further off than it says")
        return stored

    def rows(self, first: int, stop: int) -> npt.NDArray[Any]:
        """Stored rows of tokens `first` to `stop`, [tokens, stored width]."""
        return self._encoded(first, stop) if self._stored is None else self._stored[first:stop]

    def values(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """What a fetch of these passages must give."""
        starts = self.truth.starts
        stored = np.concatenate([self.rows(int(starts[i]), int(starts[i + 1])) for i in ids])
        return self.coder.decoded(stored)

    def shard(self, shard: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
        """A shard's offsets and buffer, as `memory_store.write_shard` takes them."""
        first, stop = self.layout.grid.bounds(shard)
        starts = self.truth.starts
        offsets = starts[first : stop + 1] - starts[first]
        buffer = memory_store.allocate(self.layout, int(offsets[-1]))
        for at in range(0, int(offsets[-1]), _BLOCK_ROWS):
            end = min(at + _BLOCK_ROWS, int(offsets[-1]))
            buffer[at:end] = self.rows(int(starts[first]) + at, int(starts[first]) + end)
        return offsets, buffer


def write_version(corpus: CorpusFolder, coded: Coded) -> tuple[str, files.FileEntry]:
    """Write a memory version; returns its name, and its card's entry for the manifest."""
    layout, codec = coded.layout, coded.codec
    fingerprint = _fingerprint(codec.name)
    folder = corpus.path(version_folder(codec.name))
    paths = memory_store.create(folder, layout)
    paths += codec_parameters.write(folder, codec, coded.parameters)
    rows = []
    for shard in layout.grid:
        offsets, buffer = coded.shard(shard)
        written = memory_store.write_shard(folder, layout, shard, offsets=offsets, buffer=buffer)
        paths.append(written.path)
        rows.append(written.rows)
    joined = memory_store.join(folder, layout, lambda: rows)
    listed = file_list.Writer(folder / file_list.NAME)
    for path in paths:
        listed.add(corpus.entry(path))
    listed.close()
    return write_card(
        corpus,
        fingerprint,
        layout,
        lengths=coded.truth.lengths,
        joined=joined,
        kept=_canaries(corpus, folder, coded),
        parameters=codec_parameters.digests(coded.parameters),
    )


def write_card(
    corpus: CorpusFolder,
    fingerprint: str,
    layout: MemoryLayout,
    *,
    lengths: npt.NDArray[np.int64],
    joined: Iterable[Path],
    kept: canaries.CanaryCard,
    parameters: Mapping[str, str],
) -> tuple[str, files.FileEntry]:
    """The card of a version that no encoder wrote; returns its name, and its entry for the manifest.

    Args:
        corpus: that the version is of.
        fingerprint: by which it is named.
        layout: of the version.
        lengths: tokens of each passage.
        joined: the files that hold where passages begin, and their checksums.
        kept: its canaries.
        parameters: digests of its codec's.
    """
    tokens = int(lengths.sum())
    card = MemoryCard(
        version=fingerprint[:16],
        fingerprint=fingerprint,
        encoder_fingerprint="0" * 64,
        encoder={},
        settings={},
        origin=None,
        layout=layout,
        codec_parameters=parameters,
        counts=MemoryCounts(
            tokens=tokens,
            memory_bytes=tokens * layout.row_bytes,
            passages_cut=0,
            tokens_cut=0,
            tokens_min=int(lengths.min()),
            tokens_max=int(lengths.max()),
        ),
        rows=tuple(map(corpus.entry, joined)),
        canaries=kept,
        quality={"relative_error": 0.0, "cosine": 1.0, "largest": 0.0},
        files=corpus.entry(corpus.path(components.MEMORY.folder(fingerprint[:16])) / file_list.NAME),
    )
    return card.version, corpus.write_card(components.MEMORY, card)


def _fingerprint(codec: str) -> str:
    """By which a codec's version is named."""
    return hashlib.sha256(codec.encode()).hexdigest()


def version_folder(codec: str) -> str:
    """Of a codec's version, below the corpus."""
    return components.MEMORY.folder(_fingerprint(codec))


def _canaries(corpus: CorpusFolder, folder: Path, coded: Coded) -> canaries.CanaryCard:
    ids = canaries.choose(coded.truth.passages)
    path = folder / canaries.FILE
    canaries.write(path, coded.values(np.array(ids)))
    tokens = tuple(int(coded.truth.lengths[i]) for i in ids)
    return canaries.CanaryCard(
        passage_ids=tuple(ids),
        tokens=tokens,
        dtype=coded.codec.dtype.name,
        file=corpus.entry(path),
    )


def write_corpus(root: Path, truth: Truth, wanted: Iterable[Coded]) -> None:
    """A corpus without vectors and index: passages of no interest, and the memory of each codec."""
    part = root / "passages" / passage_table.part_name(0)
    part.parent.mkdir(parents=True)
    passage_table.write_part(part, passage_table.SCHEMA, _passages(truth.passages))
    quarantine = part.with_name("quarantine.jsonl")
    quarantine.touch()
    corpus = CorpusFolder(root)
    table = passage_table.Part(file=corpus.entry(part), first_passage_id=0, rows=truth.passages)
    card = PassagesCard(
        passages=truth.passages,
        words=truth.passages,
        splitter={},
        counts={},
        parts=(table,),
        quarantine=corpus.entry(quarantine),
    )
    versions = {coded.codec.name: write_version(corpus, coded) for coded in wanted}
    corpus.write_manifest(
        manifest.Manifest(
            settings={},
            sources=(),
            cards={
                components.PASSAGES.noun: {"": corpus.write_card(components.PASSAGES, card)},
                components.VECTORS.noun: {},
                components.INDEX.noun: {},
                components.MEMORY.noun: dict(versions.values()),
            },
            # A version is asked for by the name of its codec.
            aliases={
                manifest.CURRENT: versions[BASE_CODEC][0],
                **{codec: version for codec, (version, _) in versions.items()},
            },
        )
    )


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

    def __init__(self, corpus: Corpus, coded: Coded, check: str) -> None:
        super().__init__(coded.truth)
        self._reader = corpus.memory(coded.codec.name, check=check)
        self._coded = coded
        self.name = contender_name(coded.codec.name, check)
        self.checked = {"always": "passages", "once": "passages, once", "never": "nothing"}[check]
        self.dtype = self._reader.dtype
        self.comparable = not coded.random
        self.paths = (corpus.root / version_folder(coded.codec.name),)
        self.row_bytes = coded.layout.row_bytes

    @property
    def growing(self) -> tuple[Path, ...]:
        return tuple(self.paths[0] / name for name in memory_store.ARRAYS)

    def expected(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        return self._coded.values(ids)

    def fetch(self, ids: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self._reader.fetch(ids, out=out).values


def contender_name(codec: str, check: str) -> str:
    return f"memcorpus {codec}, check={check}"


def checks(codec: str) -> tuple[str, ...]:
    """bfloat16 is read with every way of checking, the others as they are opened by default."""
    return ("once", "always", "never") if codec == BASE_CODEC else ("once",)


def contenders(root: Path, coded: Mapping[str, Coded]) -> Iterator[Memcorpus]:
    """Every codec in the corpus, in every way that `checks` names."""
    corpus = open_corpus(root)
    for name, of_codec in coded.items():
        for check in checks(name):
            yield Memcorpus(corpus, of_codec, check)
