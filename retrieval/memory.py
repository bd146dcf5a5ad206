"""Memory by passage id, read from the files of one version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from retrieval import memory_plan, pools
from retrieval.buffers import Buffers
from storage import codec_parameters, codecs, errors, files, ids, native
from storage.components import MemoryCard
from storage.joined_memory import JoinedMemoryFiles
from storage.memory_files import CHECKS as CHECKS
from storage.memory_files import ChangedError, Held, MemoryFiles, Run
from storage.memory_rows import Found, Integers
from storage.memory_store import ShardRows
from storage.native import mapped
from storage.ragged import MemoryArray, PaddedMemory, RaggedMemory
from storage.thread_locks import ThreadLock

# Of a fetch, where files are replaced while it reads them.
_TRIES: Final = 8

_NOTHING: Final = np.zeros(0, np.intp)


class _Served(NamedTuple):
    """What comes out of mappings, and what keeps them."""

    recipe: mapped.Recipe
    plan: mapped.Plan
    held: list[Held | bool]


Memory = TypeVar("Memory", RaggedMemory, PaddedMemory)


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
        self._buffers = Buffers()
        self._pools = pools.Pools()
        self._coder: codecs.Coder | None = None
        self._loading = ThreadLock()
        # By whether rows are decoded.
        self._recipes: dict[bool, mapped.Recipe] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Where it lies travels to another process, which opens it there; no open file and no buffer does."""
        if self._reopen is None:
            raise TypeError("this reader was not opened by a corpus; open it where it is to be used")
        function, *arguments = self._reopen
        return function, tuple(arguments)

    def beside(self) -> MemoryReader | None:
        """Another reader of the same open files, with buffers, threads and a memory of checks of its own.

        So forked processes share what was read of where passages lie. None where bytes are transferred: those
        connections do not outlive a fork.
        """
        if self._files.transfers:
            return None
        return MemoryReader(
            self._files,
            self.card,
            check=self._check,
            passages=self.passages,
            require_live=self._require_live,
            reopen=self._reopen,
        )

    def read_ahead(self) -> None:
        """Read now where all passages lie, 8 bytes for each, so that processes forked later share it.

        Raises:
            DamagedError, UnreadableError: as `fetch`.
        """
        if not self._files.transfers:
            self._files.read_ahead()

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
        wanted, served = self._planned(passage_ids, tokens, decode)
        if served is None and len(wanted) == 1:
            one = self._fetch_one(wanted, tokens, out, decode)
            if one is not None:
                return one
        if served is not None:
            offsets = served.plan.offsets
            values = self._target(out, served.plan.total, decode)
            left = self._serve(served, values)
        else:
            left = None
        if left is None or len(left):
            found = self._files.find(wanted)
            rows = memory_plan.wanted_rows(found, tokens)
            if left is None:
                offsets = np.zeros(len(wanted) + 1, np.int64)
                np.cumsum(rows.lengths, out=offsets[1:])
                values = self._target(out, int(offsets[-1]), decode)
            self._deliver(wanted, found, rows, values, offsets[:-1], tokens, decode, left)
        if not decode:
            self.card.layout.codec.check_stored(values, self.width)
        return RaggedMemory(passage_ids=wanted, offsets=offsets, values=values.view(MemoryArray))

    def _fetch_one(
        self,
        wanted: Integers,
        tokens: slice | None,
        out: npt.NDArray[Any] | None,
        decode: bool,
    ) -> RaggedMemory | None:
        """One passage, without what is planned for many; None of a part to be read with its passage."""
        passage = int(wanted[0])
        shard, first, stop, end, checksum = self._files.find_one(passage)
        whole = True
        if tokens is not None:
            begin, finish, step = tokens.indices(stop - first)
            if step != 1:
                raise errors.CorpusError(f"tokens is {tokens}, wanted a slice of step 1")
            whole = finish - begin == stop - first
            if not (whole or self._trusted(wanted)[0]):
                return None
            first, stop = first + begin, first + max(begin, finish)
        rows, layout = stop - first, self.card.layout
        values = self._target(out, rows, decode)
        direct = not decode or self.coder.view_only
        stored = (
            values if direct else self._buffers.take(rows, layout.stored_width, layout.codec.stored_dtype)
        )
        if rows:
            run: Run = (shard, end, [(passage, first, stop, files.bytes_of(stored), whole, checksum)])
            try:
                try:
                    self._read_run(run, True)
                except OSError:  # not in the page cache, or a file system that cannot tell
                    self._read_run(run, False)
            except ChangedError:
                return None
        if not direct:
            self._decode_rows(stored, values)
        if not decode:
            layout.codec.check_stored(values, layout.width)
        offsets = np.array([0, rows], np.int64)
        return RaggedMemory(passage_ids=wanted, offsets=offsets, values=values.view(MemoryArray))

    def padded(
        self, passage_ids: npt.ArrayLike, max_tokens: int, *, out: npt.NDArray[Any] | None = None
    ) -> PaddedMemory:
        """Memory of passages by id as one rectangle: read, or decoded, straight to its place in it.

        Args:
            passage_ids: whole numbers [k], any order, duplicates allowed.
            max_tokens: T; longer passages are cut, shorter ones have zeros behind them.
            out: where to put the values, [k, T, width] of `dtype`; by default a buffer of the reader's
                own, as of `fetch`.

        Raises:
            As `fetch`.
        """
        if isinstance(max_tokens, bool) or max_tokens < 1:
            self._wanted(passage_ids)
            raise errors.CorpusError(f"max_tokens is {max_tokens!r:.40}, wanted 1 or more")
        tokens = slice(0, int(max_tokens))
        wanted, served = self._planned(passage_ids, tokens, True, apart=tokens.stop)
        found = None
        if served is None:
            found = self._files.find(wanted)
            lengths = memory_plan.wanted_rows(found, tokens).lengths
        else:
            lengths = np.diff(served.plan.offsets)
        values = self._rectangle(out, len(wanted), tokens.stop)
        for place, length in enumerate(lengths.tolist()):
            values[place, length:] = 0
        flat = values.reshape(-1, self.width)
        left = None if served is None else self._serve(served, flat)
        if left is None or len(left):
            found = found or self._files.find(wanted)
            rows = memory_plan.wanted_rows(found, tokens)
            at = np.arange(len(wanted)) * tokens.stop
            self._deliver(wanted, found, rows, flat, at, tokens, True, left)
        return PaddedMemory(passage_ids=wanted, lengths=lengths, values=values.view(MemoryArray))

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
        return self._ahead(partial(self.fetch, tokens=tokens, decode=decode), batches, ahead)

    def padded_batches(
        self, batches: Iterable[npt.ArrayLike], max_tokens: int, *, ahead: int = 2
    ) -> Iterator[PaddedMemory]:
        """As `batches`, of what `padded` gives."""
        return self._ahead(partial(self.padded, max_tokens=max_tokens), batches, ahead)

    def _ahead(
        self, read: Callable[[npt.ArrayLike], Memory], batches: Iterable[npt.ArrayLike], ahead: int
    ) -> Iterator[Memory]:
        if ahead < 1:
            raise errors.CorpusError(f"ahead is {ahead}, wanted 1 or more")
        rest = iter(batches)
        pool = self._pools.ahead()
        waiting = [pool.submit(read, ids.copied(batch)) for batch in islice(rest, ahead)]
        try:
            while waiting:
                memory = waiting.pop(0).result()
                waiting += [pool.submit(read, ids.copied(batch)) for batch in islice(rest, 1)]
                yield memory
        finally:
            for future in waiting:
                future.cancel()

    def tokens(self, passage_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Token counts of passages, [k], without reading their memory."""
        found = self._files.find(self._wanted(passage_ids))
        return found.stops - found.firsts

    def holds(self, passage_ids: Integers) -> npt.NDArray[np.bool_]:
        """Of passages [n], of which this version has memory: not of those that an update left without."""
        return self._files.holds(passage_ids)

    def shard_rows(self, shard: int) -> ShardRows:
        """Where the passages of a shard lie, for who writes it elsewhere."""
        return self._files.shard_rows(shard)

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

    def _rectangle(self, out: npt.NDArray[Any] | None, passages: int, max_tokens: int) -> npt.NDArray[Any]:
        shape = (passages, max_tokens, self.width)
        if out is None:
            return self._buffers.take(passages * max_tokens, self.width, self.dtype).reshape(shape)
        if (
            out.shape != shape
            or out.dtype != self.dtype
            or not (out.flags.c_contiguous and out.flags.writeable)
        ):
            raise errors.CorpusError(
                f"out is {out.dtype} {list(out.shape)}, "
                f"wanted writable, contiguous {self.dtype} {list(shape)}"
            )
        return out

    def _planned(
        self, passage_ids: npt.ArrayLike, tokens: slice | None, decode: bool, *, apart: int = 0
    ) -> tuple[npt.NDArray[np.int64], _Served | None]:
        """Ids that were asked for, all of which are there; and how those passages whose bytes need no look at
        their checksum come out of mappings of their files, None where none can.

        Whatever fits in a step of native code is done there: after a fetch the processor's caches hold its
        rows, and every other step of Python or NumPy waits for its own code.
        """
        recipe = self._recipe(decode)
        # A step is refused where rows are planned for reading.
        if recipe is None or (tokens is not None and tokens.step not in (None, 1)):
            return self._wanted(passage_ids), None
        if self._require_live is None and type(passage_ids) is np.ndarray and passage_ids.dtype == np.int64:
            # The plan finds out whether they are there.
            wanted = passage_ids.reshape(-1).copy() if passage_ids.ndim == 1 else self._wanted(passage_ids)
        else:
            wanted = self._wanted(passage_ids)
        always = not self._remembers
        for _ in range(_TRIES):
            segments = self._files.segments()
            plan = mapped.plan(recipe.library, segments, wanted, tokens, apart=apart, always=always)
            if plan is None:
                break
            held = [
                self._files.hold(segment, shard, address, recipe.library)
                for segment, shard, address in plan.shards
            ]
            if True in held:
                continue
            if any(held):
                return wanted, _Served(recipe, plan, held)
            break
        return self._wanted(wanted), None

    def _serve(self, served: _Served, values: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
        """Put passages into `values` [n, width]; returns the places of those that are to be read."""
        recipe, plan, held = served
        count = len(plan.offsets) - 1
        size = plan.total * recipe.value_bytes
        shares = min(pools.CACHE_THREADS, count, 1 + size // pools.CACHE_THREAD_BYTES)
        if shares <= 1:
            done = plan.serve(recipe, values, held)
        else:
            others = [self._pools.cache().submit(plan.serve, recipe, values, held) for _ in range(shares - 1)]
            try:
                done = plan.serve(recipe, values, held)
            finally:
                pools.raise_first([], started := [other for other in others if not other.cancel()])
            done += sum(other.result() for other in started)
        return _NOTHING if done == count else plan.left()

    def _deliver(
        self,
        wanted: Integers,
        found: Found,
        rows: memory_plan.Wanted,
        values: npt.NDArray[Any],
        at: Integers,
        tokens: slice | None,
        decode: bool,
        left: npt.NDArray[np.intp] | None,
    ) -> None:
        """Read passages [k] into `values` [n, width], the rows of each from row `at` on.

        `left`: only those in these places; None: all.
        """
        if left is not None:
            wanted, found, rows, at = wanted[left], found.of(left), rows.of(left), at[left]
        layout = self.card.layout
        # Stored rows that are values bit for bit are read into the result itself; codes into a buffer.
        if not decode or self.coder.view_only:
            self._fill(wanted, found, rows, files.bytes_of(values), at * layout.row_bytes, tokens)
            return
        ends = np.cumsum(rows.lengths)
        begins = ends - rows.lengths
        total = int(ends[-1]) if len(ends) else 0
        stored = self._buffers.take(total, layout.stored_width, layout.codec.stored_dtype)
        self._fill(wanted, found, rows, files.bytes_of(stored), begins * layout.row_bytes, tokens)
        if total and (at - begins == at[0]).all():
            self._decode_rows(stored, values[at[0] : at[0] + total])
        else:
            places = zip(begins.tolist(), at.tolist(), rows.lengths.tolist(), strict=True)
            self._decode([(stored[b : b + n], values[a : a + n]) for b, a, n in places], total)

    def _recipe(self, decode: bool) -> mapped.Recipe | None:
        """How rows come out of mappings; None where they are read and decoded one after the other."""
        library = native.library()
        if library is None or not (self._remembers or self._check == "never"):
            return None
        known = self._recipes.get(decode)
        if known is None or known.library is not library:
            if decode and not self.coder.view_only:
                known = self.coder.recipe(library)
            else:
                known = mapped.copying(library, self.card.layout.row_bytes)
            if known is None:
                return None
            self._recipes[decode] = known
        return known

    def _fill(
        self,
        wanted: Integers,
        found: Found,
        rows: memory_plan.Wanted,
        data: memoryview,
        at: Integers,
        tokens: slice | None,
    ) -> None:
        """Read rows of passages [k] into `data`, each from `at` on, and check them."""
        layout = self.card.layout
        for _ in range(_TRIES):
            trusted = None
            if tokens is not None:
                trusted = self._trusted(wanted)
            plan = memory_plan.plan(
                wanted,
                found,
                rows,
                data=data,
                at=at,
                row_bytes=layout.row_bytes,
                chunk_rows=layout.chunk_rows,
                trusted=trusted,
            )
            try:
                self._read(plan.runs, plan.size)
            except ChangedError:
                continue
            # Only now, all of it being right: what raises leaves nothing that looks like a result.
            for target, source in (*plan.asides, *plan.again):
                target[:] = source
            return
        raise errors.CorpusError(
            f"files of memory version {self.version} are replaced again and again while they are read; "
            "open the corpus again"
        )

    def _trusted(self, wanted: Integers) -> npt.NDArray[np.bool_]:
        """Passages [k] whose bytes may be returned without a look at their checksum."""
        if self._remembers:
            return self._files.checked(wanted)
        return np.full(len(wanted), self._check == "never")

    def _read(self, runs: list[Run], size: int) -> None:
        """Read all runs, from the page cache where the bytes are there, from the disk in parallel else."""
        shares = min(pools.CACHE_THREADS, len(runs), 1 + size // pools.CACHE_THREAD_BYTES)
        on_disk: list[Future[None]] = []
        # All take runs from one list, so that a thread that starts late takes fewer, or none.
        others = [self._pools.cache().submit(self._read_cached, runs, on_disk) for _ in range(shares - 1)]
        failures: list[BaseException] = []
        try:
            self._read_cached(runs, on_disk)
        except Exception as e:
            failures.append(e)
        pools.raise_first(failures, [other for other in others if not other.cancel()], on_disk)

    def _decode_rows(self, stored: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
        """Decode rows that lie back to back, in pieces, so that several threads can."""
        shares = min(pools.CACHE_THREADS, 1 + values.nbytes // (2 * pools.CACHE_THREAD_BYTES))
        step = max(1, -(-len(stored) // shares))
        pieces = [slice(first, first + step) for first in range(0, len(stored), step)]
        self._decode([(stored[piece], values[piece]) for piece in pieces], len(stored))

    def _decode(self, pieces: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]], rows: int) -> None:
        """Decode (stored, values), of so many rows in all, on as many threads as reading takes."""
        coder = self.coder
        size = rows * self.width * self.dtype.itemsize
        shares = min(pools.CACHE_THREADS, max(1, len(pieces)), 1 + size // (2 * pools.CACHE_THREAD_BYTES))

        def decode(share: int) -> None:
            for stored, values in pieces[share::shares]:
                coder.decode(stored, values)

        others = [self._pools.cache().submit(decode, share) for share in range(1, shares)]
        failures: list[BaseException] = []
        try:
            decode(0)
        except Exception as e:
            failures.append(e)
        pools.raise_first(failures, others)

    def _read_cached(self, runs: list[Run], on_disk: list[Future[None]]) -> None:
        """Take runs from the list, and read what is in the page cache.

        What is not is begun on other threads, and put in `on_disk`; but for the last, which is read here:
        for a single passage nobody else need be woken.
        """
        nowait = True
        kept: Run | None = None
        while True:
            try:
                run = runs.pop()
            except IndexError:
                break
            try:
                self._read_run(run, nowait)
            except BlockingIOError:
                if kept is None and not runs:
                    kept = run
                else:
                    on_disk.append(self._pools.disk().submit(self._read_run, run, False))
            except OSError:
                if not nowait:
                    raise
                nowait = False  # a file system that cannot tell
                self._read_run(run, False)
        if kept is not None:
            self._read_run(kept, False)

    def _read_run(self, run: Run, nowait: bool) -> None:
        self._files.read(run, nowait=nowait, check=self._check)
