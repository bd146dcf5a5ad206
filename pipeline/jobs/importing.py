"""`import`: a folder of states, a file a sample, becomes a corpus; what it takes, and how it reads."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.jobs.states_folder import StatesFolder
from retrieval.corpus import Corpus
from storage import codecs, errors
from storage.aliases import AnyArray
from storage.folder import CorpusFolder
from storage.writer import MemoryWriter, open_writer

# Samples that are read at random to measure how fast that goes.
READS: Final = 256
# Files that are read ahead of the writer.
_AHEAD: Final = 4


@dataclass(frozen=True, kw_only=True)
class Lying:
    """How states lie: files, bytes, and random reads a second by one thread, a sample at a time.

    `cold_reads` are after the system's cache dropped their pages; None where it does not.
    """

    files: int
    bytes: int
    reads: float
    cold_reads: float | None


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What was imported.

    Attributes:
        samples, tokens, width, dtype: of the folder.
        left_out: names of arrays in its files that are no states.
        version, codec: of the memory that was written.
        relative_error, cosine: what the codec lost, on 16 samples.
        seconds: of the import; 0 where it was there.
        before, after: how the states lay, and lie; None where nothing was measured.
    """

    samples: int
    tokens: int
    width: int
    dtype: str
    left_out: tuple[str, ...]
    version: str
    codec: str
    relative_error: float
    cosine: float
    seconds: float
    before: Lying | None
    after: Lying | None

    def to_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class _Scanned:
    """Of all headers: the width, the most tokens of a file, types, other arrays, and a digest of it all."""

    width: int
    max_tokens: int
    dtypes: tuple[str, ...]
    left_out: tuple[str, ...]
    digest: str


def _scan(folder: StatesFolder, on_sample: Callable[[], None]) -> _Scanned:
    """Every header, before anything is written."""
    width, first, most = 0, "", 0
    dtypes: set[str] = set()
    left_out: set[str] = set()
    digest = hashlib.sha256()
    for key in folder.keys:
        shape = folder.shape(key)
        if not width:
            width, first = shape.width, key
        if shape.width != width:
            raise errors.CorpusError(
                f"{folder.path(key)} has states of width {shape.width}, {folder.path(first)} of {width}: "
                "wanted one width; import them as two corpora"
            )
        if shape.dtype not in ("float32", "bfloat16", "float16"):
            raise errors.CorpusError(
                f"{folder.path(key)} has states of type {shape.dtype}, wanted float32, bfloat16 or float16"
            )
        if shape.tokens < 1:
            raise errors.CorpusError(f"{folder.path(key)} has no tokens, wanted 1 or more; take it away")
        most = max(most, shape.tokens)
        dtypes.add(shape.dtype)
        left_out.update(shape.left_out)
        digest.update(f"{key}\0{shape.tokens}\0{shape.width}\0{shape.dtype}\0".encode())
        on_sample()
    return _Scanned(
        width=width,
        max_tokens=most,
        dtypes=tuple(sorted(dtypes)),
        left_out=tuple(sorted(left_out)),
        digest=digest.hexdigest(),
    )


def import_states(
    source: StatesFolder,
    corpus: CorpusFolder,
    *,
    codec: str | None = None,
    encoder: str | None = None,
    max_tokens: int | None = None,
    measure: bool = True,
    observer: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Imported:
    """Import a folder, or go on with an import that was interrupted.

    Args:
        source: whose files' names become the keys.
        corpus: new or empty, or that of an earlier import of the same files.
        codec: how states are stored; None: in the type of the files, float32 in bfloat16.
        encoder: what made them, in words; the version's name is made of it and of the headers of all files.
        max_tokens: samples with more are refused; None: as many as the longest has.
        measure: read some at random, before and after.
        observer: called with the stage, samples done, and all samples.

    Raises:
        CorpusError: a file that cannot be read, or is of another width or type; nothing is written.
    """
    codecs.by_name(codec or "bfloat16")  # which refuses what there is not, before any file is read
    started = time.monotonic()
    total = len(source.keys)
    done = 0

    def count(stage: str) -> Callable[[], None]:
        def one() -> None:
            nonlocal done
            done += 1
            observer(stage, done, total)

        return one

    scanned = _scan(source, count("read headers"))
    if codec is None:
        codec = scanned.dtypes[0] if scanned.dtypes in (("float16",), ("bfloat16",)) else "bfloat16"
    trained = codecs.by_name(codec)
    trained.stored_width(scanned.width)
    sample = _sample(source, trained.sample_tokens(scanned.width), scanned) if trained.trained else None
    done = 0
    writer = open_writer(
        corpus.root,
        keys=source.keys,
        width=scanned.width,
        max_tokens=max_tokens or scanned.max_tokens,
        encoder={
            "imported": encoder or source.root.resolve().name,
            "form": source.suffix.removeprefix("."),
            "tensor": source.tensor,
            "headers": scanned.digest,
        },
        codec=codec,
        sample=sample,
    )
    with writer:
        already = writer.published
        if not already:
            _write(source, writer, count("write states"))
            writer.publish()
    seconds = 0.0 if already else time.monotonic() - started
    opened = Corpus(corpus)
    card = opened.memory(writer.version).card
    return Imported(
        samples=total,
        tokens=card.counts.tokens,
        width=scanned.width,
        dtype=", ".join(scanned.dtypes),
        left_out=scanned.left_out,
        version=card.version,
        codec=card.layout.codec.name,
        relative_error=card.quality["relative_error"],
        cosine=card.quality["cosine"],
        seconds=round(seconds, 3),
        before=_lying_before(source) if measure else None,
        after=_lying_after(opened, writer.version) if measure else None,
    )


def _sample(source: StatesFolder, tokens: int, scanned: _Scanned) -> AnyArray:
    """About so many tokens, of samples that lie evenly among all, float32 [n, width]."""
    parts: list[AnyArray] = []
    found = 0
    each = max(1, tokens // max(1, min(len(source.keys), 512)))
    order = np.random.default_rng(0).permutation(len(source.keys))
    for place in order:
        values = source.read(source.keys[place])
        rows = np.linspace(0, len(values) - 1, min(each, len(values))).astype(np.int64)
        parts.append(np.asarray(values[np.unique(rows)], np.float32))
        found += len(parts[-1])
        if found >= tokens:
            break
    return np.concatenate(parts)


def _write(source: StatesFolder, writer: MemoryWriter, on_sample: Callable[[], None]) -> None:
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="import-read") as pool:

        def read(keys: Iterable[str]) -> Iterator[AnyArray]:
            """In order, a few files ahead."""
            waiting = []
            for key in keys:
                waiting.append((key, pool.submit(source.read, key)))
                if len(waiting) > _AHEAD:
                    yield taken(*waiting.pop(0))
            for key, future in waiting:
                yield taken(key, future)

        def taken(key: str, future: object) -> AnyArray:
            values: AnyArray = future.result()  # type: ignore[attr-defined]
            if len(values) == 0:
                raise errors.CorpusError(f"{source.path(key)}: its mask leaves no token; take it away")
            if not np.isfinite(values).all():
                raise errors.CorpusError(f"{source.path(key)} has a value that is not finite; take it away")
            on_sample()
            return values

        for shard in writer.missing():
            writer.write(shard, read(shard.keys))


def _measured(
    read: Callable[[int], AnyArray], samples: int, paths: Callable[[], list[Path]]
) -> tuple[float, float | None]:
    """Random reads a second, warm and cold."""
    places = np.random.default_rng(1).integers(0, samples, READS).tolist()

    def rate() -> float:
        begun = time.perf_counter()
        total = sum(read(place).nbytes for place in places)
        assert total > 0
        return READS / (time.perf_counter() - begun)

    cold = rate() if _dropped(paths()) else None
    rate()
    return rate(), cold


def _dropped(paths: list[Path]) -> bool:
    """Ask the system to forget files; it does for those that are written out."""
    try:
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
    except (OSError, AttributeError):
        return False
    return True


def _lying_before(source: StatesFolder) -> Lying:
    keys = source.keys
    reads, cold = _measured(
        lambda place: source.read(keys[place]), len(keys), lambda: [source.path(key) for key in keys]
    )
    return Lying(files=len(keys), bytes=source.bytes, reads=reads, cold_reads=cold)


def _lying_after(corpus: Corpus, version: str) -> Lying:
    reader = corpus.memory(version)
    files = [path for path in corpus.root.rglob("*") if path.is_file()]
    reads, cold = _measured(lambda place: reader.fetch([place]).values, len(corpus), lambda: files)
    return Lying(files=len(files), bytes=corpus.folder.bytes_on_disk(), reads=reads, cold_reads=cold)
