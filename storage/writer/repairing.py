"""Damaged shards of a version that is published, written again from the same states."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from typing import Any, Final

from storage import codecs, components, errors, files, memory_store, zarr_arrays
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.writer import shards
from storage.writer.plan import WriterPlan

_SHARD: Final = re.compile(r"values/c/(\d+)/0/0")
# In `work/`: where a shard is made again before it is put in place.
_STAGED: Final = "repair"


def damaged(corpus: CorpusFolder, version: str) -> frozenset[int]:
    """Shards of a version whose values are not as they were written; every byte is read.

    Raises:
        DamagedError: its card or its list of files is.
    """
    prefix = f"{components.MEMORY.folder(version)}/"
    found = set()
    for entry in corpus.listed(corpus.memory(version).files):
        if (match := _SHARD.fullmatch(entry.path.removeprefix(prefix))) and corpus.damage(entry):
            found.add(int(match[1]))
    return frozenset(found)


def _entry(corpus: CorpusFolder, plan: WriterPlan, shard: int) -> FileEntry:
    path = corpus.relative(_values(corpus, plan.folder, shard))
    for entry in corpus.listed(corpus.memory(plan.version).files):
        if entry.path == path:
            return entry
    raise errors.DamagedError(f"{path} is not in the list of files of version {plan.version}")


def _values(corpus: CorpusFolder, folder: str, shard: int) -> Any:
    return zarr_arrays.shard_path(corpus.path(f"{folder}/{memory_store.VALUES}"), shard, 3)


def rewrite(
    corpus: CorpusFolder, plan: WriterPlan, shard: int, values: Iterable[Any], *, coder: codecs.Coder
) -> None:
    """Put a shard in place again, if it comes out as the file that was there.

    Raises:
        DamagedError: it does not: the states are not those that were written.
        CorpusError: as `shards.code`.
    """
    wanted = _entry(corpus, plan, shard)
    coded = shards.code(plan.layout, shard, values, coder)
    staged = corpus.work.file(_STAGED)
    try:
        written = memory_store.write_shard(
            staged, plan.layout, shard, offsets=coded.offsets, buffer=coded.buffer
        )
        if (written.measured.bytes, written.measured.crc32) != (wanted.bytes, wanted.crc32):
            raise errors.DamagedError(
                f"shard {shard} of version {plan.version} comes out as another file than was there: these "
                "are not the states that were written; nothing is changed"
            )
        target = corpus.path(wanted.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        written.path.replace(target)
        files.sync_folder(target.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if corpus.work.is_empty():
            corpus.work.remove()
