"""The files of a memory version in an object store: one request for each run of passages."""

from __future__ import annotations

from functools import partial

from storage import components, errors, memory_store, remote, shard_files
from storage.components import MemoryCard
from storage.folder import CorpusFolder
from storage.memory_files import MemoryFiles, Run
from storage.memory_store import MemoryLayout


class RemoteMemoryFiles(MemoryFiles):
    """As `MemoryFiles`, with values in an object store; `offsets` and `checksums` were brought here."""

    transfers = True

    def __init__(
        self, corpus: remote.RemoteFolder, folder: str, layout: MemoryLayout, *, first: int = 0
    ) -> None:
        super().__init__(corpus.path(folder), layout, first=first)
        self._url, self._store = corpus.url, corpus.values
        self._name = folder

    def _path(self, shard: int) -> str:
        return f"{self._url}/{self._name}/{memory_store.VALUES}/c/{shard}/0/0"

    def _fill(self, run: Run, nowait: bool) -> None:
        shard, _, spans = run
        if nowait:
            raise BlockingIOError
        layout = self.layout
        name = f"{self._name}/{memory_store.VALUES}/c/{shard}/0/0"
        chunk_rows, row_bytes = layout.chunk_rows, layout.row_bytes
        position_of = partial(shard_files.row_start, row_bytes=row_bytes, chunk_rows=chunk_rows)
        start = position_of(spans[0][1])
        stop = position_of(spans[-1][2] - 1) + row_bytes
        data = remote.read(self._store, name, slice(start, stop), self._url)
        if data is None or len(data) != stop - start:
            raise errors.DamagedError(f"{self._path(shard)} is missing, or ends before its chunks do")
        for _, row, last, target, _, _ in spans:
            at = 0
            while row < last:
                rows = min(last - row, chunk_rows - row % chunk_rows)
                position = position_of(row) - start
                target[at : at + rows * row_bytes] = data[position : position + rows * row_bytes]
                at += rows * row_bytes
                row += rows


def open_files(corpus: CorpusFolder, card: MemoryCard, *, first: int = 0) -> MemoryFiles:
    """The files of a version, its `offsets` and `checksums` checked whole.

    They are small beside the values: 8 bytes a passage, a twentieth of a second for all of Wikipedia. So they
    are this version's and no other's.

    Raises:
        DamagedError: one of them is not as it was written.
    """
    for entry in card.rows:
        corpus.ensure(entry)
        corpus.require_whole(entry)
    folder = components.MEMORY.folder(card.version)
    if isinstance(corpus, remote.RemoteFolder):
        return RemoteMemoryFiles(corpus, folder, card.layout, first=first)
    return MemoryFiles(corpus.path(folder), card.layout, first=first)
