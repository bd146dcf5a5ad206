"""Memory by passage id, read from the files of one version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from retrieval import memory_plan, pools
from retrieval.buffers import Buffers
from retrieval.memory_decoding import Decoding
from retrieval.memory_mapping import Mapped, Mappings
from retrieval.memory_reading import Reading
from storage import codec_parameters, codecs, errors, files, ids
from storage.components import MemoryCard
from storage.joined_memory import JoinedMemoryFiles
from storage.memory_files import CHECKS as CHECKS
from storage.memory_files import ChangedError, MemoryFiles, Run
from storage.memory_rows import Found, Integers
from storage.memory_store import ShardRows
from storage.ragged import MemoryArray, PaddedMemory, RaggedMemory

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
        load_coder: Callable[[], codecs.Coder] | None = None,
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
            load_coder: reads the codec's parameters; None: from the files. It must not know this reader.
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
        self._buffers = Buffers()
        self._pools = pools.Pools()
        layout = card.layout
        load_coder = load_coder or partial(
            codec_parameters.read, opened.folder, layout.codec, layout.width, card.codec_parameters
        )
        self._decoding = Decoding(layout, load_coder, self._pools)
        self._reading = Reading(opened, card, check, self._pools)
        self._mappings: Mappings | None = None
        if check == "never" or self._reading.remembers:
            self._mappings = Mappings(opened, layout, self._decoding, self._pools, always=check == "never")

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
        return self._decoding.coder

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
            left = served.serve(values)
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
            if not (whole or self._reading.trusted(wanted)[0]):
                return None
            first, stop = first + begin, first + max(begin, finish)
        rows, layout = stop - first, self.card.layout
        values = self._target(out, rows, decode)
        direct = not decode or self._decoding.coder.view_only
        stored = (
            values if direct else self._buffers.take(rows, layout.stored_width, layout.codec.stored_dtype)
        )
        if rows:
            run: Run = (shard, end, [(passage, first, stop, files.bytes_of(stored), whole, checksum)])
            try:
                self._reading.one(run)
            except ChangedError:
                return None
        if not direct:
            self._decoding.rows(stored, values)
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
        left = None if served is None else served.serve(flat)
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
    ) -> tuple[npt.NDArray[np.int64], Mapped | None]:
        """Ids that were asked for, all of which are there; and how those passages whose bytes need no look at
        their checksum come out of mappings of their files, None where none can.

        Whatever fits in a step of native code is done there: after a fetch the processor's caches hold its
        rows, and every other step of Python or NumPy waits for its own code.
        """
        if self._mappings is None:
            return self._wanted(passage_ids), None
        if (
            self._require_live is None
            and type(passage_ids) is np.ndarray
            and passage_ids.dtype == np.int64
            and passage_ids.ndim == 1
        ):
            # The plan finds out whether they are there.
            wanted = passage_ids.copy()
        else:
            wanted = self._wanted(passage_ids)
        served = self._mappings.plan(wanted, tokens, decode, apart)
        return wanted if served is not None else self._wanted(wanted), served

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
        if not decode or self._decoding.coder.view_only:
            self._reading.fill(wanted, found, rows, files.bytes_of(values), at * layout.row_bytes, tokens)
            return
        ends = np.cumsum(rows.lengths)
        begins = ends - rows.lengths
        total = int(ends[-1]) if len(ends) else 0
        stored = self._buffers.take(total, layout.stored_width, layout.codec.stored_dtype)
        self._reading.fill(wanted, found, rows, files.bytes_of(stored), begins * layout.row_bytes, tokens)
        if total and (at - begins == at[0]).all():
            self._decoding.rows(stored, values[at[0] : at[0] + total])
        else:
            places = zip(begins.tolist(), at.tolist(), rows.lengths.tolist(), strict=True)
            self._decoding.pieces([(stored[b : b + n], values[a : a + n]) for b, a, n in places], total)
