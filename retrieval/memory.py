"""Memory by passage id, read from the files of one version."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from retrieval.buffers import Buffers
from storage import codec_parameters, codecs, errors, files, ids, shard_files
from storage.components import MemoryCard
from storage.memory_files import JoinedMemoryFiles, MemoryFiles
from storage.memory_store import ShardRows
from storage.ragged import MemoryArray, RaggedMemory
from storage.thread_locks import ThreadLock

CHECKS: Final = ("once", "always", "never")
# What a cold disk needs is a deep queue; the cores have little to do meanwhile.
DISK_THREADS: Final = 20
# Copying out of the page cache gains from a few cores, down to this much for each.
CACHE_THREADS: Final = max(1, min(4, os.cpu_count() or 1))
CACHE_THREAD_BYTES: Final = 1 << 20
# Adjacent passages are read by one call, up to this much, so that there is work for all threads.
RUN_BYTES: Final = 4 << 20

# A passage to read: shard, place in it, rows from and to, target, and whether that is all of it.
_Span = tuple[int, int, int, int, memoryview, bool]


class MemoryReader:
    """Fetches memory of one version, pinned when it was opened. Thread-safe.

    Attributes:
        version: the version's name.
        fingerprint: of the encoder and codec that wrote it.
        passages: how many passages there are; ids run from 0 to passages - 1.
        width: d, the model dimensions of a token.
        dtype: of the values fetched.
    """

    def __init__(
        self,
        opened: MemoryFiles | JoinedMemoryFiles,
        card: MemoryCard,
        *,
        check: str = "once",
        passages: int | None = None,
        require_live: Callable[[npt.NDArray[np.int64]], None] | None = None,
        reopen: tuple[Any, ...] | None = None,
    ) -> None:
        """Made by `Corpus.memory`.

        Args:
            opened: the version's files.
            card: what it is; of a corpus that was updated, in the build's segment.
            passages: ids that were given; None: those that the card speaks of.
            require_live: raises for passages [n] of which some are gone; None: all are there.
            check: when a passage's bytes are compared with their CRC-32C: "once", the first time
                that this reader reads them from where they lie; "always"; or "never". What comes from an
                object store is another copy each time, so there "once" is once for each.
            reopen: a function and its arguments, by which another process opens the same version.
        """
        if check not in CHECKS:
            raise errors.CorpusError(f"check is {check!r}, wanted one of {', '.join(CHECKS)}")
        self.card = card
        self.version = card.version
        self.fingerprint = card.fingerprint
        self.passages = card.layout.grid.passages if passages is None else passages
        self._require_live = require_live
        self.width = card.layout.width
        self.dtype = card.layout.codec.dtype
        self._files = opened
        self._check = check
        self._reopen = reopen
        # Does what was right the last time it was read need no second look?
        self._remembers = check == "once" and not opened.transfers
        # A byte a passage, for the shards that were read from.
        self._checked: dict[int, bytearray] = {}
        self._buffers = Buffers()
        self._pools = _Pools()
        self._coder: codecs.Coder | None = None
        self._loading = ThreadLock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Where it lies travels to another process, which opens it there; no open file and no buffer does."""
        if self._reopen is None:
            raise TypeError("this reader was not opened by a corpus; open it where it is to be used")
        function, *arguments = self._reopen
        return function, tuple(arguments)

    @property
    def coder(self) -> codecs.Coder:
        """What decodes stored rows: the codec with this version's parameters, read when first used."""
        # No `functools.cached_property`: until Python 3.12 that has one lock for all readers, which a
        # forked process inherits as it is.
        if self._coder is None:
            layout = self.card.layout
            with self._loading:
                self._coder = self._coder or codec_parameters.read(
                    self._files.folder, layout.codec, layout.width, self.card.codec_parameters
                )
        return self._coder

    def fetch(
        self,
        passage_ids: npt.ArrayLike,
        *,
        tokens: slice | None = None,
        out: npt.NDArray[Any] | None = None,
        decode: bool = True,
    ) -> RaggedMemory:
        """Memory of passages by id, in the order asked, duplicates allowed.

        Args:
            passage_ids: whole numbers [k].
            tokens: which tokens of each passage, as Python slices a list (step 1); all by default.
            out: where to put the values: [rows, width] of `dtype`, with at least as many rows as
                there are tokens. By default a buffer of the reader's own, used again when the
                result and everything made of it is gone.
            decode: give values [tokens, d] of `dtype`; False gives rows as they are stored,
                [tokens, stored width], for readers that decode on their device: see
                `memcorpus.torch.Decoder` and `memcorpus.jax.decoder`.

        Raises:
            UnknownPassageError: naming the ids that are not in the corpus.
            TombstoneError: naming the ids that an update removed.
            CorpusError: the version was left behind by the update that added some of them.
            DamagedError: stored bytes do not match their checksum; `out` must not be used.
        """
        wanted = self._wanted(passage_ids)
        layout = self.card.layout
        shard_of, local_of = self._files.places(wanted)
        # Where each passage's rows go in the result is known before anything is read, so every passage is
        # read straight to its place, in whatever order.
        offsets = np.zeros(len(wanted) + 1, np.int64)
        bounds = [self._bounds(s, j, tokens) for s, j in zip(shard_of, local_of, strict=True)]
        np.cumsum([stop - row for row, stop in bounds], out=offsets[1:])
        total = int(offsets[-1])
        values = self._target(out, total, decode)
        # Stored rows that are values bit for bit are read into the result itself; codes into a buffer.
        direct = not decode or self.coder.view_only
        stored = (
            values if direct else self._buffers.take(total, layout.stored_width, layout.codec.stored_dtype)
        )
        data = files.bytes_of(stored)
        at = (offsets * layout.row_bytes).tolist()

        # What is to be read; of what is read aside, (its target, the part that is wanted); and of ids that
        # are asked for again, (the place, the one that is read).
        spans: list[_Span] = []
        whole: list[tuple[memoryview, memoryview]] = []
        first: dict[int, int] = {}
        again: list[tuple[int, int]] = []
        for k, passage in enumerate(wanted.tolist()):
            if first.setdefault(passage, k) != k:
                again.append((k, first[passage]))
                continue
            row, stop = bounds[k]
            target = data[at[k] : at[k + 1]]
            s, j = shard_of[k], local_of[k]
            if tokens is not None and not self._trusted(s, j):
                # There is one checksum a passage, so what is asked in part and not known to be right is read
                # whole, aside, and the part copied when it has been checked.
                starts = self._files.rows(s).starts
                everything = files.bytes_of(
                    np.empty((starts[j + 1] - starts[j]) * layout.row_bytes, np.uint8)
                )
                skipped = (row - starts[j]) * layout.row_bytes
                whole.append((target, everything[skipped : skipped + len(target)]))
                spans.append((s, j, starts[j], starts[j + 1], everything, True))
            elif row < stop:
                # A part of a passage that is trusted is read alone, and must not be taken for all of it.
                spans.append((s, j, row, stop, target, tokens is None))
        self._read(spans)
        # Only now, all of it being right: what raises leaves nothing that looks like a result.
        for target, source in whole:
            target[:] = source
        for k, earlier in again:
            data[at[k] : at[k + 1]] = data[at[earlier] : at[earlier + 1]]
        if not direct:
            self._decode(stored, values)
        if not decode:
            layout.codec.check_stored(values, layout.width)
        return RaggedMemory(passage_ids=wanted, offsets=offsets, values=values.view(MemoryArray))

    def prefetch(self, passage_ids: npt.ArrayLike, *, decode: bool = True) -> Future[RaggedMemory]:
        """Begin to fetch; `result()` waits for the memory, or raises what `fetch` would have."""
        return self._pools.ahead().submit(self.fetch, ids.copied(passage_ids), decode=decode)

    def batches(
        self,
        batches: Iterable[npt.ArrayLike],
        *,
        tokens: slice | None = None,
        ahead: int = 2,
        decode: bool = True,
    ) -> Iterator[RaggedMemory]:
        """Memory of one batch of ids after another, the next `ahead` being read meanwhile."""
        if ahead < 1:
            raise errors.CorpusError(f"ahead is {ahead}, wanted 1 or more")
        rest = iter(batches)
        pool = self._pools.ahead()

        def begun(count: int) -> list[Future[RaggedMemory]]:
            return [
                pool.submit(self.fetch, ids.copied(batch), tokens=tokens, decode=decode)
                for batch in islice(rest, count)
            ]

        waiting = begun(ahead)
        try:
            while waiting:
                memory = waiting.pop(0).result()
                waiting += begun(1)
                yield memory
        finally:
            for future in waiting:
                future.cancel()

    def tokens(self, passage_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Token counts of passages, [k], without reading their memory."""
        wanted = self._wanted(passage_ids)
        shard_of, local_of = self._files.places(wanted)
        bounds = [self._bounds(s, j, None) for s, j in zip(shard_of, local_of, strict=True)]
        return np.array([stop - row for row, stop in bounds], np.int64)

    def holds(self, passage_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Of passages [n], of which this version has memory: not of those that an update left without."""
        return self._files.holds(passage_ids)

    def shard_rows(self, shard: int) -> ShardRows:
        """Where the passages of a shard lie, for who writes it elsewhere."""
        rows = self._files.rows(shard)
        return ShardRows(
            offsets=np.array(rows.starts, np.uint32), checksums=np.array(rows.checksums, np.uint32)
        )

    def require_encoder(self, fingerprint: str) -> None:
        """Refuse to serve a reader whose memory encoder is not the one that wrote this version."""
        written_by = self.card.encoder_fingerprint
        if fingerprint != written_by:
            raise errors.MismatchError(
                f"memory version {self.version} was written by encoder {written_by[:16]}, "
                f"the reader has encoder {fingerprint[:16]}; re-encode the corpus with it"
            )

    def _wanted(self, passage_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Ids that were asked for, all of which are there."""
        wanted = ids.as_ids(passage_ids, self.passages)
        if self._require_live is not None:
            self._require_live(wanted)
        return wanted

    def _bounds(self, shard: int, local: int, tokens: slice | None) -> tuple[int, int]:
        """First row of a passage's wanted tokens in its shard, and one past their last."""
        starts = self._files.rows(shard).starts
        row, stop = starts[local], starts[local + 1]
        if tokens is None:
            return row, stop
        begin, end, step = tokens.indices(stop - row)
        if step != 1:
            raise errors.CorpusError(f"tokens is {tokens}, wanted a slice of step 1")
        return row + begin, row + max(begin, end)

    def _target(self, out: npt.NDArray[Any] | None, rows: int, decode: bool) -> npt.NDArray[Any]:
        layout = self.card.layout
        width = self.width if decode else layout.stored_width
        dtype = self.dtype if decode else layout.codec.stored_dtype
        if out is None:
            return self._buffers.take(rows, width, dtype)
        if (
            out.ndim != 2
            or out.shape[0] < rows
            or out.shape[1] != width
            or out.dtype != dtype
            or not (out.flags.c_contiguous and out.flags.writeable)
        ):
            raise errors.CorpusError(
                f"out is {out.dtype} {list(out.shape)}, wanted writable, contiguous {dtype} "
                f"of at least {rows} rows and {width} columns"
            )
        return out[:rows]

    def _trusted(self, shard: int, local: int) -> bool:
        """May the passage's bytes be returned without a look at their checksum?"""
        if self._remembers:
            return shard in self._checked and bool(self._checked[shard][local])
        return self._check == "never"

    def _read(self, spans: list[_Span]) -> None:
        """Fill every span, from the page cache where the bytes are there, from the disk in parallel else."""
        # By place: neighbours become one call, and a disk is read in one direction.
        spans.sort(key=lambda span: span[:2])
        runs = self._runs(spans)
        size = sum(len(span[4]) for span in spans)
        shares = min(CACHE_THREADS, len(runs), 1 + size // CACHE_THREAD_BYTES)
        on_disk: list[Future[None]] = []
        # All take runs from one list, so that a thread that starts late takes fewer, or none.
        others = [self._pools.cache().submit(self._read_cached, runs, on_disk) for _ in range(shares - 1)]
        failures: list[BaseException] = []
        try:
            self._read_cached(runs, on_disk)
        except Exception as e:
            failures.append(e)
        # Nothing may write into the target after this returns, or raises: wait for all.
        begun = [other for other in others if not other.cancel()]
        for waiting in (begun, on_disk):
            failures += [failure for future in waiting if (failure := future.exception())]
        if failures:
            raise failures[0]

    def _decode(self, stored: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
        """Decode in pieces, on as many threads as reading from the page cache takes."""
        coder = self.coder
        shares = min(CACHE_THREADS, 1 + values.nbytes // (2 * CACHE_THREAD_BYTES))
        step = -(-len(stored) // shares) if len(stored) else 1
        pieces = [slice(first, first + step) for first in range(0, len(stored), step)]
        others = [
            self._pools.cache().submit(coder.decode, stored[piece], values[piece]) for piece in pieces[1:]
        ]
        failures: list[BaseException] = []
        try:
            for piece in pieces[:1]:
                coder.decode(stored[piece], values[piece])
        except Exception as e:
            failures.append(e)
        # As above: wait for all.
        failures += [failure for other in others if (failure := other.exception())]
        if failures:
            raise failures[0]

    def _runs(self, spans: list[_Span]) -> list[list[_Span]]:
        """Spans that follow each other in a file, together."""
        runs: list[list[_Span]] = []
        size = pieces = 0
        for span in spans:
            shard, _, row, stop, target, _ = span
            size += len(target)
            pieces += self._files.most_pieces(row, stop)
            last = runs[-1][-1] if runs else None
            if (
                last is None
                or last[0] != shard
                or last[3] != row
                or size > RUN_BYTES
                or pieces > shard_files.MAX_PIECES
            ):
                runs.append([])
                size, pieces = len(target), self._files.most_pieces(row, stop)
            runs[-1].append(span)
        return runs

    def _read_cached(self, runs: list[list[_Span]], on_disk: list[Future[None]]) -> None:
        """Take runs from the list, and read what is in the page cache.

        What is not is begun on other threads, and put in `on_disk`.
        """
        nowait = True
        while True:
            try:
                run = runs.pop()
            except IndexError:
                return
            try:
                self._read_run(run, nowait)
            except BlockingIOError:
                on_disk.append(self._pools.disk().submit(self._read_run, run, False))
            except OSError:
                if not nowait:
                    raise
                nowait = False  # a file system that cannot tell
                self._read_run(run, False)

    def _read_run(self, run: list[_Span], nowait: bool) -> None:
        shard = run[0][0]
        spans = [(row, stop, target) for _, _, row, stop, target, _ in run]
        self._files.read(shard, spans, nowait=nowait)
        if self._check == "never":
            return
        for _, local, _, _, target, is_whole in run:
            if is_whole and not self._trusted(shard, local):
                self._files.check(shard, local, target)
                if self._remembers:
                    self._checked_in(shard)[local] = 1

    def _checked_in(self, shard: int) -> bytearray:
        return self._checked.setdefault(shard, bytearray(self._files.shard_passages(shard)))


class _Pools:
    """The reader's threads, started when first needed, and again in a forked process."""

    def __init__(self) -> None:
        self._lock = ThreadLock()
        self._owner = 0
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def cache(self) -> ThreadPoolExecutor:
        return self._pool("memory-cache", CACHE_THREADS)

    def disk(self) -> ThreadPoolExecutor:
        return self._pool("memory-disk", DISK_THREADS)

    def ahead(self) -> ThreadPoolExecutor:
        """Runs whole fetches, which wait for the other two; never for themselves."""
        return self._pool("memory-ahead", 2)

    def _pool(self, name: str, threads: int) -> ThreadPoolExecutor:
        if self._owner == os.getpid() and name in self._pools:
            return self._pools[name]
        with self._lock:
            # A pool's threads do not survive a fork (PyTorch's data loaders fork their workers).
            if self._owner != os.getpid():
                self._pools = {}
                self._owner = os.getpid()
            if name not in self._pools:
                self._pools[name] = ThreadPoolExecutor(threads, thread_name_prefix=name)
            return self._pools[name]
