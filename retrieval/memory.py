"""Memory by passage id, read from the shard files of one version."""

from __future__ import annotations

import functools
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from storage import codec_parameters, codecs, errors, ids
from storage.manifest import MemoryCard
from storage.memory_store import ShardFile, ShardSums
from storage.ragged import MemoryArray, RaggedMemory

# Open shards a reader keeps: each costs a file descriptor and its offsets, checksums and index.
OPEN_SHARDS: Final = 256
# Parallel reads are what a cold disk needs (a queue deep enough); the cores have little to do.
READ_THREADS: Final = 8


class MemoryReader:
    """Fetches memory of one version, pinned when it was opened. Thread-safe.

    Attributes:
        version: the version's name.
        fingerprint: of the encoder and codec that wrote it.
        passages: how many passages there are; ids run from 0 to passages - 1.
        width: d, the model dimensions of a token.
        dtype: of the values fetched.
    """

    def __init__(self, folder: Path, card: MemoryCard, sums: ShardSums | None = None) -> None:
        """`folder` is the version's; `sums` ties its shards to it (`Corpus.memory` gives them)."""
        self.card = card
        self._sums = sums
        self.version = card.version
        self.fingerprint = card.fingerprint
        self.passages = card.layout.grid.passages
        self.width = card.layout.width
        self.dtype = card.layout.codec.dtype
        self._folder = folder
        self._shards: OrderedDict[int, ShardFile] = OrderedDict()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pool_owner = 0

    @functools.cached_property
    def coder(self) -> codecs.Coder:
        """What decodes stored rows: the codec with this version's parameters, read when first used."""
        layout = self.card.layout
        return codec_parameters.read(self._folder, layout.codec, layout.width, self.card.codec_parameters)

    def fetch(self, passage_ids: npt.ArrayLike, *, decode: bool = True) -> RaggedMemory:
        """Memory of passages by id, in the order asked, duplicates allowed.

        Every passage's bytes are checked against its CRC-32C.

        Args:
            passage_ids: whole numbers [k].
            decode: give values [tokens, d] of `dtype`; False gives rows as they are stored,
                [tokens, stored width], for readers that decode on their device.

        Returns:
            RaggedMemory of k passages.

        Raises:
            UnknownPassageError: naming the ids that are not in the corpus.
            DamagedError: stored bytes do not match their checksum.
        """
        wanted = ids.as_ids(passage_ids, self.passages)
        offsets = np.zeros(len(wanted) + 1, np.int64)
        np.cumsum(self.tokens(wanted), out=offsets[1:])
        stored = np.empty(
            (int(offsets[-1]), self.card.layout.stored_width), self.card.layout.codec.stored_dtype
        )
        shard_of, local = np.divmod(wanted, self.card.layout.grid.shard_passages)
        shards = np.unique(shard_of)
        # A group of shards at a time: a fetch from more of them than files may be open must work too.
        for first in range(0, len(shards), OPEN_SHARDS):
            group = {int(s): self._shard(int(s)) for s in shards[first : first + OPEN_SHARDS]}
            reads = [
                (group[s], j, stored[offsets[k] : offsets[k + 1]])
                for k, (s, j) in enumerate(zip(shard_of.tolist(), local.tolist(), strict=True))
                if s in group
            ]
            if len(reads) < 2:
                for shard, j, out in reads:
                    shard.read_into(j, out)
            else:
                # list() waits for every read, and raises the first error.
                list(self._threads().map(_read, reads))
        values = self.coder.decoded(stored) if decode else stored
        return RaggedMemory(passage_ids=wanted, offsets=offsets, values=values.view(MemoryArray))

    def tokens(self, passage_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Token counts of passages, [k], without reading their memory."""
        wanted = ids.as_ids(passage_ids, self.passages)
        shard_of, local = np.divmod(wanted, self.card.layout.grid.shard_passages)
        counts = [self._shard(s).tokens(j) for s, j in zip(shard_of.tolist(), local.tolist(), strict=True)]
        return np.array(counts, np.int64)

    def require_encoder(self, fingerprint: str) -> None:
        """Refuse to serve a reader whose memory encoder is not the one that wrote this version."""
        written_by = self.card.encoder_fingerprint
        if fingerprint != written_by:
            raise errors.MismatchError(
                f"memory version {self.version} was written by encoder {written_by[:16]}, "
                f"the reader has encoder {fingerprint[:16]}; re-encode the corpus with it"
            )

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            # A pool's threads do not survive a fork (PyTorch's data loaders fork their workers).
            if self._pool is None or self._pool_owner != os.getpid():
                self._pool = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="memory-read")
                self._pool_owner = os.getpid()
            return self._pool

    def _shard(self, number: int) -> ShardFile:
        with self._lock:
            if number in self._shards:
                self._shards.move_to_end(number)
                return self._shards[number]
        # Opened outside the lock: a cold disk must not hold up the other threads' reads.
        opened = ShardFile(self._folder, self.card.layout, number, self._sums)
        with self._lock:
            shard = self._shards.setdefault(number, opened)
            while len(self._shards) > OPEN_SHARDS:
                self._shards.popitem(last=False)
            return shard


def _read(task: tuple[ShardFile, int, npt.NDArray[Any]]) -> None:
    shard, local, out = task
    shard.read_into(local, out)
