"""Memory for PyTorch's DataLoader: a map-style dataset and an iterable one; batches are `torch_batches`.

Worker processes, forked or spawned, each open the corpus for themselves, at the version that the dataset was
made with.

With `decode="device"` batches hold codes as they are stored, and `OnDevice` decodes them behind the bus.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from retrieval import decoding, opening
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from retrieval.torch_batches import PACKED, Collate, Fetched, PackedMemory, PaddedMemory
from retrieval.torch_decoding import Decoder
from storage import errors, ids
from storage.ragged import RaggedMemory


class _Opened:
    """A corpus and one version of its memory, opened by each process for itself."""

    def __init__(self, corpus: Corpus | str | Path, version: str | None, check: str, decode: str) -> None:
        self.on_host = decoding.on_host(decode)
        # A corpus travels as what it was opened: all workers read the same passages.
        self._corpus = corpus if isinstance(corpus, Corpus) else opening.open_corpus(corpus)
        self._check = check
        self.version = self._corpus.manifest.version(version)
        # Which says now what is wrong with it, and whose files forked workers go on with.
        self._parent: MemoryReader | None = self._corpus.memory(self.version, check=check)
        self._owner, self._reader = 0, None
        # None where they are all that were ever given: then places are ids.
        whole = len(self._corpus) == self._corpus.ids_given
        self.every = None if whole else self._corpus.passage_ids

    def __len__(self) -> int:
        return len(self._corpus)

    def checked(self, passage_ids: npt.ArrayLike | None) -> npt.NDArray[np.int64] | None:
        """The ids of a dataset, all of which are there; None where its places are ids."""
        if passage_ids is None:
            if self._parent is not None:
                # Once, for all workers that will be forked: they would each come to have all of it.
                self._parent.read_ahead()
            return self.every
        wanted = ids.as_ids(passage_ids, self._corpus.ids_given)
        self._corpus.tombstones.require_live(wanted)
        return wanted

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_owner": 0, "_reader": None, "_parent": None}

    def decoder(self) -> Decoder:
        return Decoder(self.reader().coder)

    def fetch(self, passage_ids: npt.NDArray[np.int64]) -> RaggedMemory:
        reader = self.reader()
        return reader.fetch(passage_ids, decode=self.decodes(reader))

    def decodes(self, reader: MemoryReader) -> bool:
        """Whether the host does; values that are stored as they are have nothing to be decoded."""
        return self.on_host or decoding.is_plain(reader)

    def reader(self) -> MemoryReader:
        if self._reader is None or self._owner != os.getpid():
            # A forked process could go on with its parent's, but would keep that one's buffers too. A copy of
            # a corpus is opened anew, as what this one is.
            shared = self._parent.beside() if self._parent is not None else None
            self._reader = shared or copy.copy(self._corpus).memory(self.version, check=self._check)
            self._owner = os.getpid()
        return self._reader

    _reader: MemoryReader | None


class MemoryDataset(Dataset):  # type: ignore[misc]
    """Memory by position, map-style: for samplers, shuffling, and DataLoader's own batches.

        data = MemoryDataset("corpus")
        loader = DataLoader(data, batch_size=32, shuffle=True, num_workers=2, collate_fn=Collate("padded"))

    A batch is one fetch. An item alone is a dict: `passage_id`, and `values` [tokens, d].
    """

    def __init__(
        self,
        corpus: Corpus | str | Path,
        passage_ids: npt.ArrayLike | None = None,
        *,
        version: str | None = None,
        check: str = "once",
        decode: str = decoding.HOST,
    ) -> None:
        """
        Args:
            corpus: open, or where it lies.
            passage_ids: those of the dataset, in its order; None: all.
            version: of the memory; None: the current one, now.
            check: when bytes are checked; see `MemoryReader`. A worker has a reader of its own.
            decode: "host", here; or "device": `values` are codes as they are stored, [tokens, stored width],
                for `decoder()`. Of codecs without codes, such as bfloat16, they are values anyway.

        Raises:
            CorpusError: no such version; what `Corpus.memory` raises.
            UnknownPassageError: ids that the corpus does not hold.
        """
        self._opened = _Opened(corpus, version, check, decode)
        self.version = self._opened.version
        self.passage_ids = self._opened.checked(passage_ids)

    def decoder(self) -> Decoder:
        """What decodes the codes of this version, for a device of the caller's."""
        return self._opened.decoder()

    def __len__(self) -> int:
        return len(self._opened) if self.passage_ids is None else len(self.passage_ids)

    def _ids(self, places: Sequence[int]) -> npt.NDArray[np.int64]:
        chosen = np.asarray(places, np.int64)
        wrong = (chosen < -len(self)) | (chosen >= len(self))
        if wrong.any():
            raise IndexError(f"place {chosen[wrong][0]} is outside the {len(self)} of the dataset")
        chosen = np.where(chosen < 0, chosen + len(self), chosen)
        return chosen if self.passage_ids is None else self.passage_ids[chosen]

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self.__getitems__([place])[0]  # type: ignore[no-any-return]

    def __getitems__(self, places: Sequence[int]) -> Fetched:
        """A batch in one fetch, which DataLoader asks for."""
        return Fetched(self._opened.fetch(self._ids(places)))


class MemoryStream(IterableDataset):  # type: ignore[misc]
    """Batches of memory one after the other, iterable: the next are being read while one is used.

        stream = MemoryStream("corpus", batch_size=32, form="packed", shuffle=True, seed=1)
        loader = DataLoader(stream, batch_size=None, num_workers=2, pin_memory=torch.cuda.is_available())

    Workers take the batches in turn, so that a DataLoader gives all of them once, in one order.
    """

    def __init__(
        self,
        corpus: Corpus | str | Path,
        passage_ids: npt.ArrayLike | None = None,
        *,
        batch_size: int,
        form: str = PACKED,
        max_tokens: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        part: int = 0,
        parts: int = 1,
        ahead: int = 2,
        version: str | None = None,
        check: str = "once",
        decode: str = decoding.HOST,
    ) -> None:
        """
        Args:
            corpus, passage_ids, version, check, decode: see `MemoryDataset`.
            batch_size: passages of a batch; the last may have fewer.
            form, max_tokens: see `Collate`.
            shuffle: passages in another order each epoch, by `seed` and `set_epoch`.
            part, parts: of a distributed training's processes, which this is: batches are dealt out to them.
            ahead: batches that are being read meanwhile, in each worker.

        Raises:
            CorpusError: a number is out of range; as `MemoryDataset`.
        """
        for name, value, least in (("batch_size", batch_size, 1), ("ahead", ahead, 1), ("parts", parts, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise errors.CorpusError(f"{name} is {value!r:.40}, wanted a whole number, {least} or more")
        if not 0 <= part < parts:
            raise errors.CorpusError(f"part is {part!r:.40} of {parts}, wanted 0 to {parts - 1}")
        self._opened = _Opened(corpus, version, check, decode)
        self.version = self._opened.version
        self.passage_ids = self._opened.checked(passage_ids)
        self.batch_size, self.epoch = batch_size, 0
        self._collate = Collate(form, max_tokens=max_tokens)
        self._shuffle, self._seed = shuffle, seed
        self._part, self._parts, self._ahead = part, parts, ahead

    def decoder(self) -> Decoder:
        """What decodes the codes of this version, for a device of the caller's."""
        return self._opened.decoder()

    def set_epoch(self, epoch: int) -> None:
        """Which order comes next, where they are shuffled; before the DataLoader is iterated."""
        self.epoch = epoch

    @property
    def _passages(self) -> int:
        return len(self._opened) if self.passage_ids is None else len(self.passage_ids)

    def __len__(self) -> int:
        """Batches of this part."""
        batches = -(-self._passages // self.batch_size)
        return len(range(self._part, batches, self._parts))

    def _order(self) -> npt.NDArray[np.int64] | None:
        if not self._shuffle:
            return self.passage_ids
        order = np.random.default_rng((self._seed, self.epoch)).permutation(self._passages)
        return order if self.passage_ids is None else self.passage_ids[order]

    def __iter__(self) -> Iterator[PackedMemory | PaddedMemory]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        order, size = self._order(), self.batch_size
        numbers = range(self._part, -(-self._passages // size), self._parts)[first::step]
        starts = (number * size for number in numbers)
        batches: Iterable[npt.NDArray[np.int64]] = (
            np.arange(at, min(at + size, self._passages)) if order is None else order[at : at + size]
            for at in starts
        )
        reader, most = self._opened.reader(), self._collate.max_tokens
        decode = self._opened.decodes(reader)
        if decode and most is not None:
            yield from map(Collate.rectangle, reader.padded_batches(batches, most, ahead=self._ahead))
            return
        for memory in reader.batches(batches, ahead=self._ahead, decode=decode):
            yield self._collate.batch(memory)
